//! Accounts: spaces of subjects that do not see each other.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

use crate::conn::Kind;
use crate::interest::{Generations, Interest};
use crate::limits::{AccountLimits, Limits};
use crate::remote::LOOPS;
use crate::remote::announced::Announced;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The name of the account that connections belong to when nothing else is said.
pub const GLOBAL: &str = "$G";
/// The name of the account for the server's own services.
pub const SYSTEM: &str = "$SYS";

/// One account: a name and an interest of its own.
#[derive(Debug)]
pub struct Account {
    name: Arc<str>,
    index: u32,
    interest: Interest,
    announced: Announced,
    /// What it tells leafnodes and hubs that it wants, and must not hear from them.
    loop_subject: Box<[u8]>,
    system: AtomicBool,
    limits: RwLock<AccountLimits>,
    clients: AtomicU32,
    total_clients: AtomicU32,
    subscriptions: AtomicU32,
}

impl Account {
    pub(crate) fn new(name: &str, index: u32, seed: u64, generations: Arc<Generations>) -> Self {
        // Far apart, because a seed's neighbours are used for the parts of the table.
        let seed = seed ^ u64::from(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            name: name.into(),
            index,
            interest: Interest::new(seed, generations),
            announced: Announced::new(seed),
            loop_subject: loop_subject(seed),
            system: AtomicBool::new(false),
            limits: RwLock::default(),
            clients: AtomicU32::new(0),
            total_clients: AtomicU32::new(0),
            subscriptions: AtomicU32::new(0),
        }
    }

    /// The account's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The account's place in its router's list.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Whether this is the system account.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.system.load(Ordering::Relaxed)
    }

    pub(crate) fn set_system(&self, is_it: bool) {
        self.system.store(is_it, Ordering::Relaxed);
    }

    /// What the account allows its connections.
    #[must_use]
    pub fn limits(&self) -> AccountLimits {
        *self.limits.read()
    }

    /// Changes what the account allows; connections that are there take it up when they are revised.
    pub fn set_limits(&self, limits: AccountLimits) {
        *self.limits.write() = limits;
    }

    /// Client connections bound to this account.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Client connections that were ever bound to it.
    #[must_use]
    pub fn total_clients(&self) -> u32 {
        self.total_clients.load(Ordering::Relaxed)
    }

    /// What one of its connections may do on a server with these limits.
    pub(crate) fn limits_on(&self, server: Arc<Limits>) -> Arc<Limits> {
        let own = self.limits();
        if own == AccountLimits::default() {
            return server;
        }
        let least = |server: usize, own: Option<usize>| match (server, own) {
            (0, own) => own.unwrap_or(0),
            (server, own) => server.min(own.unwrap_or(server)),
        };
        Arc::new(Limits {
            max_subscriptions: least(server.max_subscriptions, own.max_subscriptions),
            max_payload: server.max_payload.min(own.max_payload.unwrap_or(server.max_payload)),
            ..Limits::clone(&server)
        })
    }

    /// Subscriptions in this account.
    #[must_use]
    pub fn subscriptions(&self) -> u32 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    pub(crate) const fn interest(&self) -> &Interest {
        &self.interest
    }

    /// A subject that nobody else wants: a leafnode or hub behind which it is wanted leads back here.
    pub(crate) const fn loop_subject(&self) -> &[u8] {
        &self.loop_subject
    }

    /// What other servers are told of it; empty where there are none.
    pub(crate) const fn announced(&self) -> &Announced {
        &self.announced
    }

    /// Whether there are as many client connections as there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.limits().max_connections.is_some_and(|most| self.clients() as usize >= most)
    }

    /// Those who are inside the process are not counted.
    pub(crate) fn connected(&self, kind: Kind) {
        if kind == Kind::Client {
            self.clients.fetch_add(1, Ordering::Relaxed);
            self.total_clients.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn disconnected(&self, kind: Kind) {
        if kind == Kind::Client {
            self.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn subscribed(&self) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unsubscribed(&self, n: u32) {
        self.subscriptions.fetch_sub(n, Ordering::Relaxed);
    }
}

/// `$LDS.` and 22 letters and digits by chance (nats-server's `leafNodeLoopDetectionSubjectPrefix`).
fn loop_subject(seed: u64) -> Box<[u8]> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
    let digit = |n: u32| DIGITS.get((hasher.hash_one(n) % 62) as usize).copied().unwrap_or(b'0');
    LOOPS.iter().copied().chain((0..22).map(digit)).collect()
}
