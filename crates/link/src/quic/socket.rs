//! A [`PacketPath`] as the QUIC library sees it.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::path::{Boxed, Outgoing, PacketPath, Received, Sent};

/// Most buffers that are filled at once.
const BATCH: usize = 32;

#[derive(Debug)]
pub(super) struct Socket {
    path: Arc<dyn PacketPath>,
    /// Whether something found no room, and none has been made since.
    full: AtomicBool,
}

impl Socket {
    pub(super) fn new(path: Arc<dyn PacketPath>) -> Self {
        Self { path, full: AtomicBool::new(false) }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagrams = Outgoing {
            to: transmit.destination,
            bytes: transmit.contents,
            size: transmit.segment_size,
            ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
            from: transmit.src_ip,
        };
        match self.path.try_send(&datagrams) {
            Sent::Gone => Ok(()),
            Sent::Full => {
                self.full.store(true, Ordering::Release);
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = [Received::one(self.path.local_address(), 0); BATCH];
        let most = metas.len().min(BATCH);
        let slots = received.get_mut(..most).unwrap_or_default();
        let count = ready!(self.path.poll_recv(cx, buffers, slots));
        for (meta, one) in metas.iter_mut().zip(received).take(count) {
            *meta = RecvMeta {
                addr: one.from,
                len: one.len,
                stride: one.size,
                ecn: EcnCodepoint::from_bits(one.ecn),
                dst_ip: one.to,
            };
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.path.local_address())
    }

    fn max_transmit_segments(&self) -> usize {
        self.path.limits().max_sent
    }

    fn max_receive_segments(&self) -> usize {
        self.path.limits().max_received
    }

    fn may_fragment(&self) -> bool {
        // Said otherwise, the library does not look for larger datagrams.
        false
    }
}

/// One task that waits for room.
struct Poller {
    socket: Arc<Socket>,
    waiting: Option<Boxed<()>>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked before each datagram, nearly always with room.
        if !self.socket.full.load(Ordering::Acquire) {
            self.waiting = None;
            return Poll::Ready(Ok(()));
        }
        let path = self.socket.path.clone();
        let waiting = self.waiting.get_or_insert_with(|| path.room());
        ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        self.socket.full.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}
