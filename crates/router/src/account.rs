//! Accounts: spaces of subjects that do not see each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::interest::{Generations, Interest};

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
    connections: AtomicU32,
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
            connections: AtomicU32::new(0),
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
        &*self.name == SYSTEM
    }

    /// Connections bound to this account.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Subscriptions in this account.
    #[must_use]
    pub fn subscriptions(&self) -> u32 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    pub(crate) const fn interest(&self) -> &Interest {
        &self.interest
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn subscribed(&self) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unsubscribed(&self, n: u32) {
        self.subscriptions.fetch_sub(n, Ordering::Relaxed);
    }
}
