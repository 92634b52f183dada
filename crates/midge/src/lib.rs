//! A NATS-compatible router to embed.
//!
//! **What it is.** One name for midge's crates: [`Server`] with its [`options`], and below it the [`router`] and
//! the [`wire`] grammar. `examples/embed.rs` runs a server inside a program, without a port.
//!
//! **What it will never do.** Contain logic of its own.

pub use midge_router as router;
pub use midge_router::local;
pub use midge_server::{
    Inside, OptionsSource, Order, PROTOCOL_VERSION, ReloadError, Running, Server, SetupError, StartError,
    TlsError, log, options,
};
pub use midge_wire as wire;
