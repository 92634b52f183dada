//! One link to one peer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use midge_identity::PeerId;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::establish::{self, EstablishError};
use crate::path::PacketPath;

/// Who began a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The other side.
    Incoming,
    /// This one.
    Outgoing,
}

/// Why a link has ended.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// One side had no more use for it.
    Done,
    /// There is a better one to the same peer.
    Surplus,
    /// There are more links than may be.
    TooMany,
    /// A peer is not allowed to link any more.
    NotAllowed,
    /// The other side has given no sign of itself when it was asked, and there is another link to it.
    Superseded,
    /// It is not used any more, since another one goes straight to the peer. It stays in reserve.
    Relayed,
    /// One side stops.
    Shutdown,
    /// Nothing has been heard of the other side for the idle timeout.
    Silent,
    /// The other side knows nothing of it: it has begun anew.
    Forgotten,
    /// The other side said that number, which is none of ours.
    Code(u64),
    /// Anything else.
    Failed(String),
}

impl Ended {
    /// The number that the other side is told.
    pub(crate) const fn code(&self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Surplus => 1,
            Self::TooMany => 2,
            Self::NotAllowed => 3,
            Self::Superseded => 4,
            Self::Shutdown => 5,
            _ => 0,
        })
    }

    pub(crate) fn of(close: &quinn::ApplicationClose) -> Self {
        match u64::from(close.error_code) {
            0 => Self::Done,
            1 => Self::Surplus,
            2 => Self::TooMany,
            3 => Self::NotAllowed,
            4 => Self::Superseded,
            5 => Self::Shutdown,
            code => Self::Code(code),
        }
    }
}

impl From<quinn::ConnectionError> for Ended {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self::of(&close),
            quinn::ConnectionError::TimedOut => Self::Silent,
            quinn::ConnectionError::Reset => Self::Forgotten,
            quinn::ConnectionError::LocallyClosed => Self::Done,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "it is not needed any more",
            Self::Surplus => "there is a better one",
            Self::TooMany => "there are too many",
            Self::NotAllowed => "the peer is not allowed to link",
            Self::Superseded => "another one has taken its place",
            Self::Relayed => "another one goes straight to the peer",
            Self::Shutdown => "one side stops",
            Self::Silent => "nothing is heard of the peer",
            Self::Forgotten => "the peer has begun anew",
            Self::Code(code) => return write!(f, "the peer closed it (code {code})"),
            Self::Failed(why) => why,
        })
    }
}

/// How a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStats {
    /// Estimate of the time to the other side and back.
    pub rtt: Duration,
    /// Packets that are taken to have been lost on the way there.
    pub lost_packets: u64,
    /// Packets that were sent.
    pub sent_packets: u64,
    /// Bytes that were sent, with everything that surrounds them.
    pub sent_bytes: u64,
    /// Bytes that were received.
    pub received_bytes: u64,
    /// Bytes that a datagram to the other side may have.
    pub mtu: u16,
}

/// A link: an encrypted connection to a peer that has proven its key, and that has agreed to it. Cheap to clone.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    connection: Connection,
    number: u64,
    peer: PeerId,
    direction: Direction,
    path: Arc<dyn PacketPath>,
    since: Instant,
    /// Why this side has ended it, once it has.
    ended: OnceLock<Ended>,
}

/// How a link is made.
pub(crate) struct NewLink {
    pub(crate) connection: Connection,
    pub(crate) peer: PeerId,
    pub(crate) direction: Direction,
    pub(crate) path: Arc<dyn PacketPath>,
}

/// Numbers of this process's links.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("number", &self.0.number)
            .field("peer", &self.0.peer)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Link {}

impl Link {
    pub(crate) fn new(new: NewLink) -> Self {
        let NewLink { connection, peer, direction, path } = new;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner {
            connection,
            number,
            peer,
            direction,
            path,
            since: Instant::now(),
            ended: OnceLock::new(),
        }))
    }

    /// A number that no other link of this process has.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Who is at the other side.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.0.peer
    }

    /// Who began it.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.0.direction
    }

    /// When there was agreement on it.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.0.since
    }

    /// The network that carries it, such as `udp`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.0.path.scheme()
    }

    /// Where the other side is in that network.
    #[must_use]
    pub fn place(&self) -> String {
        self.0.path.show(self.0.connection.remote_address())
    }

    /// Where the other side is.
    #[must_use]
    pub fn address(&self) -> String {
        shown(&*self.0.path, self.0.connection.remote_address())
    }

    /// Whether others carry it (see [`PathLimits::relayed`](crate::PathLimits::relayed)).
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.0.path.limits().relayed
    }

    /// Whether the two go different ways, so that one may be of use where the other is not any more.
    pub(crate) fn goes_another_way_than(&self, other: &Self) -> bool {
        let remote = |link: &Self| link.0.connection.remote_address();
        // Of those that are dialled it is not known from where they come.
        let local = self.0.connection.local_ip().zip(other.0.connection.local_ip());
        if !Arc::ptr_eq(&self.0.path, &other.0.path) {
            return true;
        }
        !self.is_relayed()
            && (remote(self) != remote(other) || local.is_some_and(|(one, other)| one != other))
    }

    /// What was agreed to speak: `midge/1` or `bifrost`.
    #[must_use]
    pub fn protocol(&self) -> String {
        let data = self.0.connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
        String::from_utf8_lossy(&protocol).into_owned()
    }

    /// How it does.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let stats = self.0.connection.stats();
        LinkStats {
            rtt: stats.path.rtt,
            lost_packets: stats.path.lost_packets,
            sent_packets: stats.path.sent_packets,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            mtu: stats.path.current_mtu,
        }
    }

    /// Opens a stream for that protocol. Waits while as many are open as the other side takes.
    ///
    /// # Errors
    /// The link has ended, or the protocol's name is none.
    pub async fn open(&self, protocol: &str) -> Result<LinkStream, EstablishError> {
        let head = establish::head(protocol)?;
        let (mut send, recv) = self.0.connection.open_bi().await.map_err(|error| self.ended(error))?;
        send.write_all(&head).await.map_err(|error| Ended::Failed(error.to_string()))?;
        Ok(LinkStream { send, recv })
    }

    /// The next stream that the other side opens, before it has said its protocol.
    pub(crate) async fn accept(&self) -> Result<LinkStream, Ended> {
        let (send, recv) = self.0.connection.accept_bi().await.map_err(|error| self.ended(error))?;
        Ok(LinkStream { send, recv })
    }

    /// Ends the link. What its streams have not sent yet is lost.
    pub fn close(&self, why: &Ended) {
        // The first reason stays.
        let _ = self.0.ended.set(why.clone());
        self.0.connection.close(why.code(), b"");
    }

    /// Waits for its end.
    pub async fn closed(&self) -> Ended {
        let error = self.0.connection.closed().await;
        self.ended(error)
    }

    fn ended(&self, error: quinn::ConnectionError) -> Ended {
        match (error, self.0.ended.get()) {
            (quinn::ConnectionError::LocallyClosed, Some(why)) => why.clone(),
            (error, _) => error.into(),
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Asks for a sign of the other side; how many have come so far. `None` if it cannot be asked.
    pub(crate) fn ask(&self) -> Option<u64> {
        // A datagram must be acknowledged, and what acknowledges it is proven to be from there.
        self.0.connection.send_datagram(Bytes::from_static(b"?")).ok()?;
        Some(self.0.connection.stats().frame_rx.acks)
    }
}

/// An address of that network, with its scheme.
pub(crate) fn shown(path: &dyn PacketPath, address: SocketAddr) -> String {
    let (scheme, place) = (path.scheme(), path.show(address));
    if place.is_empty() { format!("{scheme}:") } else { format!("{scheme}://{place}") }
}

/// A stream of bytes in both directions. Dropped, it ends: what was written still arrives.
#[derive(Debug)]
pub struct LinkStream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

impl LinkStream {
    /// Breaks the stream off: the other side hears a number instead of an end.
    pub fn reset(mut self, code: u32) {
        // It may have ended in between.
        let _ = self.send.reset(VarInt::from_u32(code));
        let _ = self.recv.stop(VarInt::from_u32(code));
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buffer)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}
