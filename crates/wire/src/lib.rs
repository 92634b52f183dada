//! The NATS wire grammar, both directions, without a byte of I/O.
//!
//! **What it is.** [`Decoder`] turns bytes into operations that borrow those bytes; [`encode`] appends operations
//! to a buffer; [`subject`] knows what a subject is; [`json`] reads and writes the bodies of `INFO` and `CONNECT`.
//!
//! **What it will never do.** Allocate while decoding or encoding an operation, panic on any input, know an
//! account, an option or a session, read a clock, or log.
//!
//! **The main types.** [`Decoder`] (resumable at any byte), [`ClientOp`] (what a client says to a server),
//! [`ServerOp`] (what a server says to a client) and [`PeerOp`] (what routes and leafnodes say).
//!
//! ```
//! use midge_wire::{ClientGrammar, ClientOp, Decoder, Decoded, Limits};
//!
//! let mut decoder = Decoder::<ClientGrammar>::new(Limits::default());
//! let input = b"PUB greet.joe 5\r\nhello\r\nPI";
//! let Decoded::Op { op: ClientOp::Pub(message), used } = decoder.decode(input)? else { panic!() };
//! assert_eq!((message.subject, message.payload()), (&b"greet.joe"[..], &b"hello"[..]));
//! // The rest is the beginning of a PING: kept by the caller, decoded when more has come.
//! assert!(matches!(decoder.decode(&input[used..])?, Decoded::Incomplete { used: 0, need: 3 }));
//! # Ok::<(), midge_wire::WireError>(())
//! ```
//!
//! **Why it is shaped this way.** The decoder wants one contiguous slice that begins where the last operation
//! ended. Whoever reads the socket keeps the incomplete tail in front of the next read; in return nothing is
//! ever copied here, and a message can be appended to a receiver's buffer straight from the read buffer.

mod decoder;
pub mod encode;
mod error;
mod grammar;
pub mod header;
pub mod json;
mod limits;
mod op;
pub mod subject;

pub use decoder::{Decoded, Decoder};
pub use error::WireError;
pub use grammar::client::{ClientGrammar, ClientVerb, PubHead};
pub use grammar::leaf::LeafGrammar;
pub use grammar::peer::{PeerVerb, RoutedHead};
pub use grammar::route::RouteGrammar;
pub use grammar::server::{MsgHead, ServerGrammar, ServerVerb};
pub use grammar::{Found, Grammar, Line, LineEnds, Shape};
pub use limits::Limits;
pub use op::{ClientOp, Interest, Msg, PeerOp, Pub, Queues, Routed, ServerOp, Sub, Unsub};
