//! What carries datagrams: the open trait by which links reach new kinds of networks.

use std::fmt::Debug;
use std::future::Future;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use midge_identity::PeerId;

/// A future in a box, for traits.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// Datagrams between this machine and others. One endpoint has one of these; `conformance` says whether it is one.
///
/// Addresses are [`SocketAddr`]s, because QUIC knows peers by them. A network without any makes some up: unique local
/// IPv6 addresses with a number of its own in them and a port that is not 0.
pub trait PacketPath: Debug + Send + Sync + 'static {
    /// What addresses of this network begin with, such as `udp`.
    fn scheme(&self) -> &'static str;

    /// The address by which this end is known, as far as it knows. IPv6 if those of others are.
    fn local_address(&self) -> SocketAddr;

    /// What it can do.
    fn limits(&self) -> PathLimits;

    /// Sends. [`Sent::Full`] is said only if [`PacketPath::room`] then waits, and only where datagrams that find no
    /// room would otherwise be lost; everything else that goes wrong is a loss, which QUIC makes good.
    fn try_send(&self, datagrams: &Outgoing<'_>) -> Sent;

    /// Waits until there may be room. Any number may wait.
    fn room(self: Arc<Self>) -> Boxed<()>;

    /// Receives into the buffers, and says of each what it is; how many were filled. Ready only with one or more. One
    /// task at a time asks.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        received: &mut [Received],
    ) -> Poll<usize>;

    /// The addresses of `peer` that a text stands for: what follows the scheme in an [`Address`](crate::Address).
    fn locate(self: Arc<Self>, peer: PeerId, text: String) -> Boxed<Result<Vec<SocketAddr>, LocateError>>;

    /// An address as people read it, without the scheme.
    fn show(&self, address: SocketAddr) -> String {
        address.to_string()
    }

    /// Who alone can be at an address, where the network has had that proven before any datagram went. A link from there
    /// is for nobody else.
    fn owner(&self, _: SocketAddr) -> Option<PeerId> {
        None
    }

    /// Waits until it is known that what is sent to an address gets nowhere, and says why. Most networks never know.
    fn lost(self: Arc<Self>, _: SocketAddr) -> Boxed<String> {
        Box::pin(std::future::pending())
    }

    /// Says that a link has come to be at an address, which is in use until [`PacketPath::done`].
    fn linked(&self, _: SocketAddr) {}

    /// Says that an address has no use any more: the link there has ended, or none has come to be. Its last datagrams are on
    /// their way, and take about `rtt` to the other side and back.
    fn done(&self, _: SocketAddr, _rtt: Duration) {}
}

/// The addresses of a network that has none: unique local ones with a project's own 40 bits (RFC 4193), the network's 16, and a
/// number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered(pub u16);

impl Numbered {
    const PROJECT: [u16; 3] = [0xfd6d, 0x6964, 0x6765];
    const PORT: u16 = 1;

    /// The address that stands for a number.
    #[must_use]
    pub fn address(self, number: u64) -> SocketAddr {
        let [a, b, c] = Self::PROJECT;
        let part = |shift| (number >> shift) as u16;
        let ip = Ipv6Addr::new(a, b, c, self.0, part(48), part(32), part(16), part(0));
        SocketAddr::new(ip.into(), Self::PORT)
    }

    /// The number that an address stands for, if it is of this network.
    #[must_use]
    pub fn number(self, address: SocketAddr) -> Option<u64> {
        let SocketAddr::V6(address) = address else { return None };
        let [a, b, c, network, numbers @ ..] = address.ip().segments();
        let is_ours = [a, b, c] == Self::PROJECT && network == self.0;
        is_ours.then(|| numbers.iter().fold(0, |number, part| (number << 16) | u64::from(*part)))
    }
}

/// Why an address leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LocateError(pub String);

/// What a network can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLimits {
    /// Most bytes of a datagram; no less than 1200, which QUIC needs.
    pub max_datagram: u16,
    /// Most datagrams that are sent at once, and that are received into one buffer.
    pub max_sent: usize,
    /// The same, received.
    pub max_received: usize,
    /// Whether what was taken arrives, in order.
    pub reliable: bool,
    /// Whether others carry the datagrams on their way, between addresses that are one link's each. Such a link is used
    /// only while there is none that goes straight to the peer.
    pub relayed: bool,
    /// Bytes that all links together may have on their way to this end, where more would be held against it.
    pub window: Option<u32>,
}

/// Datagrams to one address, behind each other.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// All of them.
    pub bytes: &'a [u8],
    /// Bytes of each but the last, which may be shorter; `None` if it is one.
    pub size: Option<usize>,
    /// The two bits of explicit congestion notification (RFC 3168).
    pub ecn: u8,
    /// From which of this machine's addresses, if from a certain one.
    pub from: Option<IpAddr>,
}

impl<'a> Outgoing<'a> {
    /// One after the other.
    pub fn each(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks(self.size.unwrap_or(self.bytes.len()).max(1))
    }
}

/// What became of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// They have left, or are lost.
    Gone,
    /// There is no room now.
    Full,
}

/// Datagrams from one address in one buffer.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Where from.
    pub from: SocketAddr,
    /// Bytes in all.
    pub len: usize,
    /// Bytes of each but the last.
    pub size: usize,
    /// The two bits of explicit congestion notification.
    pub ecn: u8,
    /// Which of this machine's addresses they came to, if that is known.
    pub to: Option<IpAddr>,
}

impl Received {
    /// One datagram of so many bytes.
    #[must_use]
    pub const fn one(from: SocketAddr, len: usize) -> Self {
        Self { from, len, size: len, ecn: 0, to: None }
    }
}
