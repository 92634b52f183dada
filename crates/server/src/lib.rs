//! The shell around midge's router: the only place with listeners, files, signals and HTTP.
//!
//! **What it is.** A [`Server`] is a router with options, a name and an end. It needs no thread and no port:
//! [`Server::drive`] talks to a client over any byte stream, [`Server::join`] gives a client without one.
//! [`Server::start`] adds what a daemon has: listeners, shards and monitoring.
//!
//! **What it will never do.** Decide a question of the protocol; move bytes by another way than its one driver.
//!
//! **The main types.** [`Server`], [`Running`] (a server with threads), [`options::Options`].
//!
//! ```
//! use midge_server::{Server, options::Options};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! runtime.block_on(async {
//!     let server = Server::new(Options::default())?;
//!     let (mut client, io) = tokio::io::duplex(4096);
//!     tokio::spawn(server.drive(io, "duplex:0"));
//!     client.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await?;
//!     let mut answer = Vec::new();
//!     while !answer.ends_with(b"PONG\r\n") {
//!         client.read_buf(&mut answer).await?;
//!     }
//!     assert!(answer.starts_with(b"INFO {"));
//!     Ok(())
//! })
//! # }
//! ```
//!
//! **Why it is shaped this way.** A shard is one thread with one event loop, so that its connections share
//! buffers and caches without locks; what a tick appends is written once at its end, inline, by whichever shard
//! appended it. See `docs/architecture.md`.

mod auth;
pub mod bus;
mod carrier;
pub mod client;
mod clock;
mod cluster;
mod compression;
mod drive;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod inside;
mod leafnode;
mod leave;
mod listen;
pub mod log;
pub mod mesh;
mod monitor;
pub mod options;
mod process;
mod reload;
mod server;
mod setup;
mod shard;
mod syslog;
mod system;
mod talk;
mod tls;
mod websocket;

pub use inside::Inside;
pub use listen::{Order, Running, StartError};
pub use reload::{OptionsSource, ReloadError};
pub use server::{PROTOCOL_VERSION, Server};
pub use setup::SetupError;
pub use tls::TlsError;
