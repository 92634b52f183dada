//! Who a peer was found to be, and how peers come in.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::permissions::Permissions;

/// Whatever the program around a router wants to find again with a connection. The router never looks at it.
pub type Tag = Arc<dyn Any + Send + Sync>;

/// Who a peer was found to be, and what it may do.
#[derive(Clone)]
pub struct Grant {
    /// The account that it belongs to.
    pub account: Arc<Account>,
    /// What it may do; `None` is everything.
    pub permissions: Option<Arc<Permissions>>,
    /// Its name for monitoring and logs, nothing secret; empty for none.
    pub user: Arc<str>,
    /// For whoever granted it.
    pub tag: Option<Tag>,
}

impl Grant {
    /// Everything in one account, for nobody in particular.
    #[must_use]
    pub fn of(account: Arc<Account>) -> Self {
        Self { account, permissions: None, user: "".into(), tag: None }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account.name();
        f.debug_struct("Grant").field("account", account).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A way in, such as a listener: what clients that come by it are told and asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entrance {
    /// Whether clients are asked who they are: a CONNECT must come, and leads to [`crate::Event::Authenticate`].
    pub asks: bool,
    /// Whether the first INFO says that credentials are asked for. Later ones always do.
    pub announces: bool,
    /// Whether somebody who says nothing may be let in, too: then no CONNECT need come.
    pub anonymous: bool,
    /// Time in which clients must say who they are.
    pub timeout: Duration,
    /// Time between PINGs, if another than the limits say.
    pub ping_interval: Option<Duration>,
    /// Whether clients must begin TLS.
    pub tls_required: bool,
    /// Whether clients may begin TLS.
    pub tls_available: bool,
    /// Whether clients must show a certificate.
    pub tls_verify: bool,
    /// How what a leafnode sends and gets may be compressed, as nats-server calls it; empty to say nothing of it.
    pub compression: &'static str,
    /// The id that another server has proven by whatever carries the connection, and must announce. Such a connection
    /// serves everything, and takes the place of an earlier one by which the same server has come.
    pub proven: Option<Box<str>>,
    /// Whether what a leafnode sends to queue groups is for a member of each alone: those in no group get a copy of their
    /// own. Other leafnodes send one copy for both.
    pub groups_apart: bool,
    /// Where clients are told that this is, if elsewhere than [`crate::Settings::info`] says.
    pub address: Option<(String, u16)>,
}

/// A client at the door.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// Its address as `host:port`, or whatever else names it in logs.
    pub peer: &'a str,
    /// The way that it came; `None` is the router's own.
    pub entrance: Option<Arc<Entrance>>,
    /// What it is given to sign; empty for nothing.
    pub nonce: String,
    /// For whoever drives the connection.
    pub tag: Option<Tag>,
}

impl<'a> Arrival<'a> {
    /// A client from that address, by the router's own entrance, with nothing to sign.
    #[must_use]
    pub const fn from(peer: &'a str) -> Self {
        Self { peer, entrance: None, nonce: String::new(), tag: None }
    }
}
