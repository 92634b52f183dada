//! What monitoring reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_wire::json::Connect;

use crate::conn::{Conn, Kind};
use crate::grant::{Grant, Tag};
use crate::reason::CloseReason;
use crate::router::Router;
use crate::sync::atomic::Ordering;
use crate::worker::{CacheFigures, Counters, Traffic};

/// The figures of a whole router.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Open client connections.
    pub clients: u32,
    /// Clients that have come since the start.
    pub total_connections: u64,
    /// Subscriptions in all accounts.
    pub subscriptions: u32,
    /// Subscriptions that were ever made.
    pub inserts: u64,
    /// What all workers have done.
    pub counters: Counters,
    /// What their caches hold.
    pub cache: CacheFigures,
}

/// One connection at one moment.
#[derive(Clone)]
pub struct ConnSnapshot {
    /// The number that the peer knows itself by.
    pub cid: u64,
    /// What kind of peer it is.
    pub kind: Kind,
    /// The peer's address.
    pub peer: String,
    /// When it connected.
    pub started: Instant,
    /// When something last happened.
    pub last_activity: Instant,
    /// The last measured round trip.
    pub rtt: Option<Duration>,
    /// Bytes that wait for it.
    pub pending_bytes: usize,
    /// What it has sent and been sent.
    pub traffic: Traffic,
    /// How often a producer was held back for it.
    pub stalls: u64,
    /// Who it was found to be.
    pub grant: Arc<Grant>,
    /// What whoever drives it left with it.
    pub tag: Option<Tag>,
    /// What it said of itself, secrets left out.
    pub hello: Option<Arc<Connect>>,
    /// How many subscriptions it has.
    pub subscription_count: usize,
    /// Its subscriptions, or some of them.
    pub subscriptions: Vec<SubSnapshot>,
    /// Why it ended, once it has.
    pub closed: Option<CloseReason>,
    /// When it ended, if whoever drove it said so.
    pub ended: Option<Instant>,
}

impl std::fmt::Debug for ConnSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnSnapshot")
            .field("cid", &self.cid)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// One subscription at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubSnapshot {
    /// Its subject.
    pub subject: Vec<u8>,
    /// Its queue group; empty for none.
    pub queue: Vec<u8>,
    /// The client's own name for it.
    pub sid: Vec<u8>,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages after which it ends; zero for never.
    pub max: u64,
}

impl ConnSnapshot {
    /// At most `most` subscriptions are listed.
    pub(crate) fn of(conn: &Conn, router: &Router, most: usize) -> Self {
        let (traffic, rtt) = (conn.traffic(), conn.rtt());
        let end = conn.incoming().end.load(Ordering::Relaxed);
        let state = conn.lock();
        let subs = state.subs.iter().take(most).map(|(subject, sub)| SubSnapshot {
            subject: subject.to_vec(),
            queue: router.queue_name(sub.queue).to_vec(),
            sid: sub.sid.bytes().to_vec(),
            delivered: sub.delivered,
            max: sub.max,
        });
        Self {
            cid: conn.cid(),
            kind: conn.kind(),
            peer: conn.peer().to_owned(),
            started: conn.started(),
            last_activity: conn.last_activity(),
            rtt,
            pending_bytes: state.out.pending(),
            traffic,
            stalls: state.stalls(),
            grant: state.grant.clone(),
            tag: conn.tag().cloned(),
            hello: state.hello.clone(),
            subscription_count: state.subs.len(),
            subscriptions: subs.collect(),
            closed: state.close_reason(),
            ended: (end > 0).then(|| conn.started() + Duration::from_nanos(end)),
        }
    }
}
