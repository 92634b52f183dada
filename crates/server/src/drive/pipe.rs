//! Any other byte stream, on any tokio runtime.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use midge_router::{Client, Direction, Leaf, Owner, Worker};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};

use super::{Alarm, Connection, Host, Inlet, Outlet, Signal};
use crate::carrier::Carrier;
use crate::compression::{Compressed, Side};
use crate::leafnode::{self, LeafDuty};
use crate::server::Server;
use crate::talk::Tracer;

/// Bytes that are taken from the outbox ahead of the stream.
const STAGED_BYTES: usize = 64 * 1024;

/// Drives a client on `io` until it ends.
pub(crate) async fn drive<T>(server: Arc<Server>, io: T, peer: &str)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let host = PipeHost::new(&server);
    connection(server, host, (peer, None), io).await;
}

/// Drives a client on `io`, of which more is known than its address, or a leafnode.
pub(crate) async fn drive_carried<T>(
    server: Arc<Server>,
    io: T,
    peer: &str,
    (carrier, leafnode): (Arc<Carrier>, bool),
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let host = PipeHost::new(&server);
    if leafnode {
        return leaf(server, host, (peer, carrier), io).await;
    }
    connection(server, host, (peer, Some(carrier)), io).await;
}

/// A leafnode's connection over `io`, run by whoever has that host.
pub(crate) fn leaf<H: Host, T>(
    server: Arc<Server>,
    host: H,
    (peer, carrier): (&str, Arc<Carrier>),
    io: T,
) -> Connection<H, PipeInlet<Compressed<T>>, PipeOutlet<Compressed<T>>, Leaf>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let setup = server.setup();
    let mode = leafnode::compression(&setup.options.leafnodes, Some(&carrier));
    let io = Compressed::new(io, mode, Side::IsAskedByLeafnode, carrier.clone());
    let streams = split(io, setup.options.log.max_traced);
    Connection::leaf(server, host, (peer, Some(carrier)), (None, LeafDuty::new(None)), streams)
}

/// A client's connection over `io`, run by whoever has that host.
pub(crate) fn connection<H: Host, T>(
    server: Arc<Server>,
    host: H,
    (peer, carrier): (&str, Option<Arc<Carrier>>),
    io: T,
) -> Connection<H, PipeInlet<T>, PipeOutlet<T>, Client>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (inlet, outlet) = split(io, server.setup().options.log.max_traced);
    Connection::client(server, host, (peer, carrier), inlet, outlet)
}

/// What anything is carried by.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Both directions of a byte stream.
pub(crate) fn split<T>(io: T, max_traced: usize) -> (PipeInlet<T>, Arc<PipeOutlet<T>>)
where
    T: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(io);
    let outlet = PipeOutlet {
        staged: Mutex::new(Staged { write, bytes: Vec::new(), sent: 0, flushed: true }),
        signal: Signal::default(),
        tracer: Tracer::new(max_traced),
    };
    (PipeInlet(read), Arc::new(outlet))
}

/// Somebody else's runtime: output is written at the end of each turn.
pub(crate) struct PipeHost(Arc<Mutex<Worker>>);

impl PipeHost {
    pub(crate) fn new(server: &Server) -> Self {
        Self(server.driven_worker())
    }
}

impl Host for PipeHost {
    type Alarm = SleepAlarm;

    fn worker(&self) -> &Mutex<Worker> {
        &self.0
    }

    fn alarm(&self) -> SleepAlarm {
        SleepAlarm(None)
    }

    fn end_turn(&self, worker: &mut Worker, now: Instant) {
        worker.flush(now);
    }
}

/// The runtime's own timer.
pub(crate) struct SleepAlarm(Option<Pin<Box<tokio::time::Sleep>>>);

impl Alarm for SleepAlarm {
    fn set(&mut self, at: Instant, _: Instant, cx: &mut Context<'_>) {
        let at = tokio::time::Instant::from_std(at);
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at || sleep.is_elapsed() {
            sleep.as_mut().reset(at);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

pub(crate) struct PipeInlet<T>(ReadHalf<T>);

impl<T: AsyncRead + Unpin> Inlet for PipeInlet<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_more(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // Only another read can tell.
        Poll::Ready(())
    }
}

/// Takes bytes from whoever has some and hands them to the stream, which only the task may do.
pub(crate) struct PipeOutlet<T> {
    staged: Mutex<Staged<T>>,
    signal: Signal,
    tracer: Tracer,
}

struct Staged<T> {
    write: WriteHalf<T>,
    bytes: Vec<u8>,
    /// Bytes of them that have left.
    sent: usize,
    flushed: bool,
}

impl<T: AsyncWrite> Staged<T> {
    fn poll_hand_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(Pin::new(&mut self.write).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        // An idle connection keeps no buffer.
        self.bytes = Vec::new();
        self.sent = 0;
        if !self.flushed {
            ready!(Pin::new(&mut self.write).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Send + 'static> Owner for PipeOutlet<T> {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        {
            let mut staged = self.staged.lock();
            for slice in bytes {
                let room = STAGED_BYTES.saturating_sub(staged.bytes.len());
                let take = slice.get(..room.min(slice.len())).unwrap_or_default();
                staged.bytes.extend_from_slice(take);
                taken += take.len();
            }
            staged.flushed &= taken == 0;
        }
        // Told only now that the bytes are there: the task may be looking on another thread.
        self.signal.set_blocked();
        self.signal.raise();
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn wake(&self) {
        self.signal.raise();
    }

    fn trace(&self, direction: Direction, op: &str, args: &[u8]) {
        self.tracer.line(direction, op, args);
    }
}

impl<T: AsyncWrite + Send + 'static> Outlet for PipeOutlet<T> {
    fn signal(&self) -> &Signal {
        &self.signal
    }

    fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.staged.lock().poll_hand_on(cx)
    }

    fn is_drained(&self) -> bool {
        let staged = self.staged.lock();
        staged.bytes.is_empty() && staged.flushed
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.staged.lock().write).poll_shutdown(cx)
    }
}
