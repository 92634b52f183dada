//! What is under a connection's lock.

use std::sync::Arc;

use midge_wire::json::Connect;

use super::{Owner, Sent};
use crate::grant::Grant;
use crate::local::Mailbox;
use crate::outbox::Outbox;
use crate::permissions::Replies;
use crate::reason::CloseReason;
use crate::subs::SubTable;

/// What is under the connection's lock.
pub(crate) struct ConnState {
    pub(super) owner: Option<Arc<dyn Owner>>,
    pub(crate) out: Outbox,
    pub(crate) mailbox: Option<Box<Mailbox>>,
    pub(crate) subs: SubTable,
    pub(crate) grant: Arc<Grant>,
    /// Where it may answer, if it may publish there only to answer.
    pub(crate) replies: Option<Box<Replies>>,
    pub(crate) hello: Option<Arc<Connect>>,
    pub(super) closed: Option<CloseReason>,
    pub(crate) sent: Sent,
    /// Whether messages with headers may be sent.
    pub(crate) headers: bool,
    /// Whether an INFO may be sent at any time.
    pub(crate) takes_info: bool,
    /// Whether it is known who the peer is.
    pub(super) bound: bool,
    pub(crate) trace: bool,
    /// Who has had to wait until this connection took more.
    pub(super) stalled: Option<Box<Stalled>>,
    /// Most bytes that may wait here.
    pub(crate) max_pending: usize,
}

/// Producers that wait, or have waited, for a connection.
#[derive(Default)]
pub(super) struct Stalled {
    pub(super) now: Vec<Arc<dyn Owner>>,
    pub(super) count: u64,
}

impl std::fmt::Debug for ConnState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnState").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl ConnState {
    pub(super) fn new(owner: Arc<dyn Owner>, grant: Arc<Grant>, max_pending: usize) -> Self {
        Self {
            owner: Some(owner),
            out: Outbox::default(),
            mailbox: None,
            subs: SubTable::default(),
            grant,
            replies: None,
            hello: None,
            closed: None,
            sent: Sent::default(),
            headers: false,
            takes_info: false,
            bound: false,
            trace: false,
            stalled: None,
            max_pending,
        }
    }

    /// Whether so much waits that producers should hold back (nats-server: above three quarters).
    #[inline]
    pub(crate) const fn is_crowded(&self) -> bool {
        self.out.pending() > self.max_pending / 4 * 3
    }

    /// Whether the connection takes so many bytes without becoming crowded.
    #[inline]
    pub(crate) const fn has_room_for(&self, bytes: usize) -> bool {
        self.closed.is_none() && self.out.pending() + bytes <= self.max_pending / 4 * 3
    }

    /// Bytes that wait here, in whichever way.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.mailbox.as_deref().map_or(self.out.pending(), Mailbox::bytes)
    }

    /// How often a producer has had to wait for this connection.
    pub(crate) fn stalls(&self) -> u64 {
        self.stalled.as_ref().map_or(0, |stalled| stalled.count)
    }

    #[inline]
    pub(crate) const fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    pub(crate) const fn close_reason(&self) -> Option<CloseReason> {
        self.closed
    }
}
