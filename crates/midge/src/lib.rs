//! A NATS-compatible router to embed, and peers that are known by their keys.
//!
//! **What it is.** One name for midge's crates. A [`Node`] is a router with a key and links to other peers, for programs
//! that want messages and no server. [`Server`] with its [`options`] is what `midged` runs; below it are the [`router`],
//! [`link`](mod@link)s, the [`identity`] of peers and the [`wire`] grammar. `examples/embed.rs` runs a server inside a
//! program without a port, `examples/mesh.rs` two nodes that talk to each other.
//!
//! **What it will never do.** Contain logic of its own.
//!
//! ```
//! use midge::Node;
//! use midge::link::mem::MemNetwork;
//! use midge::mesh::new_key;
//! use midge::options::Options;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! let network = MemNetwork::new(1);
//! let key = new_key()?;
//! let alice = Node::builder().embedded(Options::default()).path(network.join()).allow(key.peer_id()).start()?;
//! let there = format!("{}@{}", alice.peer_id(), alice.addresses()[0]);
//! let bob = Node::builder().key(key).embedded(Options::default()).path(network.join()).peer(&there)?.start()?;
//!
//! let mut greetings = alice.client().subscribe("greet.*")?;
//! # let question = async {
//! // Interest takes a moment to get around.
//! while bob.client().send(&midge::client::Message::new("greet.bob", "hello"))? == 0 {
//!     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # };
//! # tokio::time::timeout(std::time::Duration::from_secs(20), question).await??;
//! assert_eq!(greetings.next().await.unwrap().payload, "hello");
//! # Ok(())
//! # })
//! # }
//! ```

pub mod bifrost;
mod node;

pub use midge_backend as backend;
/// Publishing and subscribing, whatever carries the messages.
pub mod bus {
    pub use midge_backend::bus::*;
    pub use midge_server::bus::EmbeddedBus;
}
pub use midge_backend::channel;
pub use midge_identity as identity;
pub use midge_link as link;
pub use midge_router as router;
pub use midge_router::local;
pub use midge_server::{
    Inside, OptionsSource, Order, PROTOCOL_VERSION, ReloadError, Running, Server, SetupError, StartError,
    TlsError, client, log, mesh, options,
};
pub use midge_wire as wire;
pub use node::{Embedded, EmbeddedParts, External, ExternalParts, Node, NodeBuilder, NodeError, Undecided};
