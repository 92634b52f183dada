//! A NATS deployment that is there already, as infrastructure: links carried over it, pub-sub through it.
//!
//! **What it is.** [`Carrier`] is a [`PacketPath`](midge_link::PacketPath): peers that reach the same deployment, and nothing
//! else of each other, have links over it. [`ExternalBus`] is pub-sub through it, below a prefix; it is a [`Bus`], so a
//! program does not know whether a router of its own or the deployment carries its messages. [`Channel`] signs and checks
//! messages on any bus.
//!
//! **What it will never do.** Know a router; give the deployment anything to read but subjects that say who talks to whom;
//! sign anything for it with a peer's own key.
//!
//! **The main types.** [`Deployment`], [`Carrier`], [`Bus`], [`ExternalBus`], [`Channel`].
//!
//! ```
//! use midge_backend::Permissions;
//! use midge_identity::KeyPair;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = KeyPair::from_seed(&[1; 32])?;
//! let permissions = Permissions::of(&key.peer_id(), &"acme".parse()?, None);
//! assert!(permissions.publish.contains(&"acme.link.*.dial".to_owned()));
//! # Ok(())
//! # }
//! ```
//!
//! **Why it is shaped this way.** A deployment that is somebody else's is trusted with delivery and with nothing else. What
//! peers agree on before the first datagram is checked by what it says and who signed it, in [`rendezvous`], which neither
//! waits nor reads a clock; the connection, the subjects and the sessions are around it.

mod bridge;
pub mod bus;
mod carrier;
pub mod channel;
pub mod conformance;
mod error;
mod nats;
mod permissions;
mod prefix;
/// Messages as they are on the wire, made from `proto/`.
pub mod proto;
pub mod rendezvous;

pub use bridge::Bridge;
pub use bus::{Bus, BusEvent, BusEvents, Message, Messages};
pub use carrier::{Carrier, CarrierStats, Listening, SCHEME, SERVICE};
pub use channel::Channel;
pub use error::{BackendError, BusError, Operation, Refusal};
pub use nats::{Deployment, ExternalBus, Login, TlsFiles};
pub use permissions::Permissions;
pub use prefix::{OUTSIDE, Prefix, PrefixError};
