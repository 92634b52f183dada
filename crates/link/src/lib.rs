//! Encrypted, mutually authenticated links between peers that are known by their keys.
//!
//! **What it is.** A [`LinkTable`] keeps links to other peers over whatever carries datagrams ([`PacketPath`]): UDP
//! ([`UdpPath`]), a network in memory ([`mem`]), or one of your own. A [`Link`] is QUIC with the peers' keys for
//! certificates; it carries any number of streams ([`LinkStream`]), each for a protocol that it names first.
//!
//! **What it will never do.** Name a verb, subject or account of NATS; give away a link before both sides have proven
//! their keys and agreed to it; take more from strangers than it has bounds for.
//!
//! **The main types.** [`LinkTable`], [`Link`], [`LinkEvent`], [`PacketPath`], [`Admission`].
//!
//! ```
//! use std::sync::Arc;
//! use midge_identity::KeyPair;
//! use midge_link::{Anybody, LinkConfig, LinkEvent, LinkTable, mem::MemNetwork};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! runtime.block_on(async {
//!     let network = MemNetwork::new(1);
//!     let peer = |seed| LinkTable::new(KeyPair::from_seed(&[seed; 32])?, Arc::new(Anybody), LinkConfig::default()).map_err(Box::<dyn std::error::Error>::from);
//!     let (alice, mut events, _streams) = peer(1)?;
//!     let (bob, _bobs_events, mut incoming) = peer(2)?;
//!     let place = network.join();
//!     let address = format!("mem://{}", place.number()).parse()?;
//!     bob.add_path(place)?;
//!     bob.serve("hello/1");
//!     alice.add_path(network.join())?;
//!     alice.want(bob.peer(), vec![address]);
//!     let Some(LinkEvent::Up(link)) = events.next().await else { panic!("no link") };
//!     assert_eq!(link.peer(), bob.peer());
//!     let mut out = link.open("hello/1").await?;
//!     out.write_all(b"hello").await?;
//!     let mut hello = [0; 5];
//!     incoming.recv().await.unwrap().stream.read_exact(&mut hello).await?;
//!     assert_eq!(&hello, b"hello");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! **Why it is shaped this way.** Whatever runs over links should not know what carries them, nor which of several
//! carries them just now. So networks are behind one small trait, and redialling, the choice among links and their
//! bounds are in one place.

use std::fmt::Debug;

use midge_identity::PeerId;

mod address;
mod config;
pub mod conformance;
pub mod establish;
pub mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod link;
pub mod mem;
mod path;
/// Messages as they are on the wire, made from `proto/`.
pub mod proto;
mod quic;
mod table;
mod udp;

pub use address::{Address, AddressError, PeerAddress};
pub use config::LinkConfig;
pub use link::{Direction, Ended, Link, LinkStats, LinkStream};
pub use path::{Boxed, LocateError, Numbered, Outgoing, PacketPath, PathLimits, Received, Sent};
pub use quic::{CertificateError, DialError, EndpointError};
pub use table::{IncomingStream, LinkEvent, LinkEvents, LinkTable};
pub use udp::{UdpPath, open as open_udp, open_any as open_any_udp};

/// Who may have a link to this peer, of those who ask for one. Asked during the handshake, once somebody has proven who
/// he is; must answer without waiting.
pub trait Admission: Debug + Send + Sync + 'static {
    /// Whether that peer may.
    fn admits(&self, peer: &PeerId) -> bool;
}

/// Lets everybody link who has a key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anybody;

impl Admission for Anybody {
    fn admits(&self, _: &PeerId) -> bool {
        true
    }
}
