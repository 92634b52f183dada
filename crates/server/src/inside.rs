//! Clients inside the process, for programs that wait for messages on a tokio runtime.

use std::io::{self, IoSlice};
use std::sync::Arc;

use midge_router::local::{Local, Message};
use midge_router::{Account, Owner};
use tokio::sync::Notify;

use crate::server::Server;

/// A publisher and subscriber inside this process. Everything but the waiting is [`Local`]'s.
#[derive(Debug)]
pub struct Inside {
    local: Local,
    arrivals: Arc<Arrivals>,
}

#[derive(Debug, Default)]
struct Arrivals(Notify);

impl Owner for Arrivals {
    fn write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        // A peer inside the process has a mailbox and is never written to.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wake(&self) {
        self.0.notify_one();
    }
}

impl Inside {
    pub(crate) fn join(server: &Server, account: &Arc<Account>) -> Self {
        let arrivals = Arc::new(Arrivals::default());
        Self { local: server.local(account, arrivals.clone()), arrivals }
    }

    /// Has whoever waits look again.
    pub(crate) fn wake(&self) {
        self.arrivals.0.notify_one();
    }

    /// Waits until there may be another message, or the end.
    pub(crate) async fn arrival(&self) {
        // A wake-up since the look is kept, so none is lost.
        self.arrivals.0.notified().await;
    }

    /// The next message; `None` once the router has closed this client (see [`Local::closed`]). One task at a time
    /// should wait.
    pub async fn next(&self) -> Option<Message> {
        loop {
            if let Some(message) = self.local.take() {
                return Some(message);
            }
            if self.local.closed().is_some() {
                return None;
            }
            self.arrival().await;
        }
    }
}

impl std::ops::Deref for Inside {
    type Target = Local;

    fn deref(&self) -> &Local {
        &self.local
    }
}
