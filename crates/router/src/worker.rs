//! What one thread of a router keeps to itself.

use std::sync::Arc;
use std::time::Instant;

use crate::account::Account;
use crate::conn::{Conn, Kind, Sent};
use crate::interest::MatchCache;
use crate::outbox::Pool;
use crate::router::Router;
use crate::subs::Ended;

/// Output that crosses this many bytes is written before the tick ends, so that many producers with one consumer
/// do not pile it up.
const EARLY_BYTES: usize = 64 * 1024;

/// The caches, buffers and counters of one thread. A driver has one per thread and lends it to every session that
/// it runs; nothing in here is touched by others, except that monitoring reads the counters.
#[derive(Debug)]
pub struct Worker {
    pub(crate) cache: MatchCache,
    pool: Pool,
    dirty: Vec<Arc<Conn>>,
    early: Vec<Arc<Conn>>,
    /// Subscriptions that ended while a message was delivered, to be taken from the interest afterwards.
    pub(crate) expired: Vec<Expired>,
    /// The receiver that the current producer should wait for.
    pub(crate) crowded: Option<Arc<Conn>>,
    /// For one message: servers, and the groups of which a member behind them was chosen.
    pub(crate) chosen: Vec<(u32, u32)>,
    pub(crate) counters: Counters,
    traffic: Vec<Traffic>,
    /// Slow consumers of each account.
    slow: Vec<u64>,
    random: u64,
}

/// A subscription that has had all the messages that it asked for.
#[derive(Debug)]
pub(crate) struct Expired {
    pub(crate) account: Arc<Account>,
    /// The connection's place.
    pub(crate) conn: u32,
    pub(crate) ended: Ended,
}

/// Messages and bytes (headers and payload) in and out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages received from publishers.
    pub in_msgs: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Messages handed to subscribers, one for each of them.
    pub out_msgs: u64,
    /// Their bytes.
    pub out_bytes: u64,
}

impl Traffic {
    /// Adds another's figures to these.
    pub const fn add(&mut self, other: &Self) {
        self.in_msgs += other.in_msgs;
        self.in_bytes += other.in_bytes;
        self.out_msgs += other.out_msgs;
        self.out_bytes += other.out_bytes;
    }
}

/// What a worker has done. Summed over the workers when somebody asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// All accounts' messages.
    pub traffic: Traffic,
    /// Turns of sessions: how often bytes were handed in.
    pub reads: u64,
    /// Connections written at the end of a tick.
    pub flushes: u64,
    /// Look-ups answered by the same set as the connection's last.
    pub memo_hits: u64,
    /// Look-ups answered by the cache.
    pub cache_hits: u64,
    /// Look-ups that had to ask the interest table for the first time.
    pub cache_misses: u64,
    /// Look-ups whose kept answer had become stale.
    pub cache_stale: u64,
    /// Producers held back for a crowded consumer.
    pub stalls: u64,
    /// Consumers closed because too much waited for them.
    pub slow_pending: u64,
    /// Consumers closed because they took nothing in time.
    pub slow_deadline: u64,
    /// Connections closed because they did not answer PINGs.
    pub stale_connections: u64,
}

/// What match caches hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Subjects whose receivers are known.
    pub sets: u64,
    /// Most receivers of one of them; a queue group's members count each.
    pub max_fanout: u64,
    /// Receivers of all of them.
    pub fanout: u64,
}

impl CacheFigures {
    /// Adds another worker's figures to these.
    pub fn add(&mut self, other: &Self) {
        self.sets += other.sets;
        self.max_fanout = self.max_fanout.max(other.max_fanout);
        self.fanout += other.fanout;
    }
}

impl Counters {
    /// Adds another worker's figures to these.
    pub const fn add(&mut self, other: &Self) {
        self.traffic.add(&other.traffic);
        self.reads += other.reads;
        self.flushes += other.flushes;
        self.memo_hits += other.memo_hits;
        self.cache_hits += other.cache_hits;
        self.cache_misses += other.cache_misses;
        self.cache_stale += other.cache_stale;
        self.stalls += other.stalls;
        self.slow_pending += other.slow_pending;
        self.slow_deadline += other.slow_deadline;
        self.stale_connections += other.stale_connections;
    }
}

impl Worker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            cache: MatchCache::new(),
            pool: Pool::default(),
            dirty: Vec::new(),
            early: Vec::new(),
            expired: Vec::new(),
            crowded: None,
            chosen: Vec::new(),
            counters: Counters::default(),
            traffic: Vec::new(),
            slow: Vec::new(),
            random: seed | 1,
        }
    }

    /// Whether there is output that [`Worker::flush`] would write.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Ends a tick: writes every connection that was appended to since the last time.
    pub fn flush(&mut self, now: Instant) {
        self.early.clear();
        while !self.dirty.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            self.counters.flushes += dirty.len() as u64;
            for conn in dirty.drain(..) {
                self.flush_one(&conn, now);
            }
            if self.dirty.is_empty() {
                self.dirty = dirty;
            }
        }
    }

    /// Writes the connections whose output has grown so large that it should not wait for the tick's end.
    pub fn flush_early(&mut self, now: Instant) {
        while let Some(conn) = self.early.pop() {
            self.flush_one(&conn, now);
        }
    }

    fn flush_one(&mut self, conn: &Conn, now: Instant) {
        match conn.kind() {
            Kind::Client | Kind::Route | Kind::Spoke | Kind::Hub => conn.flush_with(&mut self.pool, now),
            Kind::Local => {
                if let Some(owner) = conn.take_dirty() {
                    owner.wake();
                }
            }
        }
    }

    /// Gives the memory of empty buffers back. For quiet times.
    pub fn relax(&mut self) {
        self.pool.clear();
        self.dirty.shrink_to(64);
        self.early.shrink_to(64);
    }

    /// What this worker's cache holds. Looks at all of it.
    #[must_use]
    pub fn cache_figures(&self) -> CacheFigures {
        self.cache.figures()
    }

    /// What this worker has done so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        Counters {
            cache_hits: self.cache.hits,
            cache_misses: self.cache.misses,
            cache_stale: self.cache.stale,
            ..self.counters
        }
    }

    /// What this worker has done for the account of that index.
    #[must_use]
    pub fn traffic(&self, account: u32) -> Traffic {
        self.traffic.get(account as usize).copied().unwrap_or_default()
    }

    /// Consumers of the account of that index that were closed because they could not keep up.
    #[must_use]
    pub fn slow_consumers(&self, account: u32) -> u64 {
        self.slow.get(account as usize).copied().unwrap_or_default()
    }

    pub(crate) fn slow(&mut self, account: u32) {
        let at = account as usize;
        if self.slow.len() <= at {
            self.slow.resize(at + 1, 0);
        }
        if let Some(slow) = self.slow.get_mut(at) {
            *slow += 1;
        }
    }

    /// Counts messages handed to subscribers.
    pub(crate) fn sent(&mut self, account: u32, sent: Sent) {
        self.counters.traffic.out_msgs += sent.msgs;
        self.counters.traffic.out_bytes += sent.bytes;
        if let Some(traffic) = self.account_traffic(account) {
            traffic.out_msgs += sent.msgs;
            traffic.out_bytes += sent.bytes;
        }
    }

    /// Counts messages taken from publishers.
    pub(crate) fn received(&mut self, account: u32, msgs: u64, bytes: u64) {
        self.counters.traffic.in_msgs += msgs;
        self.counters.traffic.in_bytes += bytes;
        if let Some(traffic) = self.account_traffic(account) {
            traffic.in_msgs += msgs;
            traffic.in_bytes += bytes;
        }
    }

    fn account_traffic(&mut self, account: u32) -> Option<&mut Traffic> {
        let at = account as usize;
        if self.traffic.len() <= at {
            self.traffic.resize(at + 1, Traffic::default());
        }
        self.traffic.get_mut(at)
    }

    /// Notes that `conn` has something to write: `before` and `pending` bytes waited there before and wait now.
    /// `fresh` is whether it was not noted yet.
    #[inline(always)]
    pub(crate) fn note(&mut self, conn: &Arc<Conn>, before: usize, pending: usize, fresh: bool) {
        let early = before < EARLY_BYTES && pending >= EARLY_BYTES;
        if fresh || early {
            self.list(conn, fresh, early);
        }
    }

    #[inline(never)]
    fn list(&mut self, conn: &Arc<Conn>, fresh: bool, early: bool) {
        if fresh {
            self.dirty.push(conn.clone());
        }
        if early {
            self.early.push(conn.clone());
        }
    }

    pub(crate) const fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// The set for a subject, the pool beside it.
    pub(crate) fn matches(
        &mut self,
        account: &Account,
        subject: &[u8],
        router: &Router,
    ) -> Arc<crate::interest::MatchSet> {
        self.cache.get(account, subject, router)
    }

    /// A number below `n`, for choices that need no secrecy (xorshift64*).
    pub(crate) const fn random_below(&mut self, n: usize) -> usize {
        let mut x = self.random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        let high = x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high as u128 * n as u128) >> 32) as usize
    }
}
