//! The heart of midge: sessions, interest and delivery.
//!
//! **What it is.** A [`Router`] holds what all connections of a server share: accounts with their interest, the
//! connections, the limits. A [`Session`] holds one connection's talk. A [`Worker`] holds what one thread keeps to
//! itself: caches, buffers, counters. [`local::Local`] is a publisher and subscriber inside the process.
//!
//! **What it will never do.** Any I/O, clock read, thread or randomness of its own: time and seeds are arguments,
//! bytes go in and out. It verifies no signature or password, holds no lock across a callback, and has no queue
//! without a bound in bytes.
//!
//! ```
//! use std::io::{self, IoSlice};
//! use std::sync::{Arc, Mutex};
//! use std::time::Instant;
//! use midge_router::{Arrival, Entrance, Limits, Owner, Router, Session, Settings, Tick};
//! use midge_wire::json::Info;
//!
//! #[derive(Default)]
//! struct Screen(Mutex<Vec<u8>>);
//! impl Owner for Screen {
//!     fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
//!         let mut shown = self.0.lock().unwrap();
//!         bytes.iter().for_each(|slice| shown.extend_from_slice(slice));
//!         Ok(bytes.iter().map(|slice| slice.len()).sum())
//!     }
//!     fn wake(&self) {}
//! }
//!
//! let settings = Settings { info: Info::default(), limits: Limits::default(), entrance: Entrance::default(), seed: 1, max_ended: 0, cluster: None, leaves: None };
//! let router = Router::new(settings);
//! let worker = router.worker();
//! let mut tick = Tick { worker: &mut *worker.lock(), now: Instant::now() };
//! let screen = Arc::new(Screen::default());
//! let mut session = Session::client(&router, Arrival::from("127.0.0.1:1"), screen.clone(), &mut tick);
//! let input = b"CONNECT {\"verbose\":false}\r\nSUB a.* 1\r\nPUB a.b 2\r\nhi\r\n";
//! assert_eq!(session.handle_input(input, &mut tick).used, input.len());
//! tick.worker.flush(tick.now);
//! assert!(screen.0.lock().unwrap().ends_with(b"MSG a.b 1 2\r\nhi\r\n"));
//! ```
//!
//! **Why it is shaped this way.** Appending and writing are apart, so that a tick writes each connection once.
//! A match is an immutable set, kept by each thread and checked by generation counters that a change elsewhere
//! does not touch. What is counted is counted by one thread. See `docs/architecture.md`.

mod account;
mod cluster;
mod conn;
mod conns;
mod deliver;
mod ended;
mod grant;
mod interest;
mod leaves;
mod limits;
pub mod local;
mod outbox;
mod permissions;
mod reason;
mod remote;
mod router;
mod rows;
mod session;
mod snapshot;
mod subs;
#[cfg(not(shuttle))]
mod sync;
#[cfg(shuttle)]
pub mod sync;
mod texts;
mod worker;

pub use account::{Account, GLOBAL, SYSTEM};
pub use cluster::{Cluster, ClusterSettings, Opening, RouteSnapshot};
pub use conn::{Conn, Direction, Kind, Owner};
pub use grant::{Arrival, Entrance, Grant, Tag};
pub use leaves::{LeafRules, LeafSettings, LeafSnapshot, Leaves};
pub use limits::{AccountLimits, Limits};
pub use permissions::{PermissionRules, Permissions, ResponseRules, SubjectRules};
pub use reason::CloseReason;
pub use remote::Dialled;
pub use router::{Router, Settings, SubscribeError};
pub use session::core::Core;
pub use session::event::{
    AuthRequest, Event, LeafError, LeafNews, Quoted, Refusal, RouteError, RouteNews, SessionError, Verdict,
};
pub use session::role::client::Client;
pub use session::role::leaf::{Leaf, LeafDial, Login};
pub use session::role::route::{Dial, Route};
pub use session::role::{Flow, Role};
pub use session::{ClientSession, Input, LeafSession, Next, RouteSession, Session, Tick};
pub use snapshot::{ConnSnapshot, SubSnapshot, Totals};
pub use worker::{CacheFigures, Counters, Traffic, Worker};
