//! Plain TCP sockets: written inline by whoever has something for them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use midge_router::{Direction, Owner};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::{Inlet, Outlet, Signal};
use crate::talk::Tracer;

/// The socket, as those see it who write.
#[derive(Debug)]
pub(crate) struct SocketOutlet {
    half: tokio::net::tcp::OwnedWriteHalf,
    signal: Signal,
    tracer: Tracer,
}

/// Both directions of a socket.
pub(crate) fn split(stream: TcpStream, max_traced: usize) -> (SocketInlet, Arc<SocketOutlet>) {
    let (read, half) = stream.into_split();
    let outlet = SocketOutlet { half, signal: Signal::default(), tracer: Tracer::new(max_traced) };
    (SocketInlet(read), Arc::new(outlet))
}

impl Owner for SocketOutlet {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = bytes.iter().map(|slice| slice.len()).sum();
        let taken = match bytes {
            [one] => self.half.try_write(one),
            many => self.half.try_write_vectored(many),
        };
        match &taken {
            Ok(taken) if *taken == offered => {}
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
            _ => self.signal.set_blocked(),
        }
        taken
    }

    fn wake(&self) {
        self.signal.raise();
    }

    fn trace(&self, direction: Direction, op: &str, args: &[u8]) {
        self.tracer.line(direction, op, args);
    }
}

impl Outlet for SocketOutlet {
    fn signal(&self) -> &Signal {
        &self.signal
    }

    fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half.as_ref().poll_write_ready(cx)
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping the halves closes the socket.
        Poll::Ready(Ok(()))
    }
}

/// The socket, as the one sees it who reads.
#[derive(Debug)]
pub(crate) struct SocketInlet(OwnedReadHalf);

impl Inlet for SocketInlet {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_ref().poll_read_ready(cx).map(|_| ())
    }
}
