//! One connection, as everybody else sees it: where to append, and whom to tell.

mod state;

use std::io::{self, IoSlice};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use midge_wire::json::Connect;

pub(crate) use self::state::ConnState;
use crate::grant::{Entrance, Grant, Tag};
use crate::outbox::{Flight, Landing, Pool};
use crate::permissions::Replies;
use crate::reason::CloseReason;
use crate::session::event::SessionError;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What moves a connection's bytes: the driver's side of it. Called from any thread, never under a lock.
pub trait Owner: Send + Sync + 'static {
    /// Writes without waiting. `WouldBlock` means that nothing more is taken now; the owner must then call
    /// [`Conn::flush`] itself once something is.
    ///
    /// # Errors
    /// As a socket's.
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Tells the owner to look at the connection again: it was closed, may read on, has output that
    /// [`Owner::write`] did not take, or has nothing left to write after it was closed.
    fn wake(&self);

    /// One line of the protocol, for those who asked to see it (see [`Conn::set_trace`]).
    fn trace(&self, _direction: Direction, _op: &str, _args: &[u8]) {}
}

/// Which way a traced line went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
    /// Neither: something that the server did for itself.
    Within,
}

/// What kind of peer a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A client over some byte stream.
    Client,
    /// A publisher or subscriber inside this process.
    Local,
    /// A server of the same cluster.
    Route,
    /// A leafnode that has this server for its hub.
    Spoke,
    /// The hub that this server is a leafnode of.
    Hub,
}

/// A connection: its waiting output and its subscriptions under one small lock, and what never changes beside it.
#[derive(Debug)]
pub struct Conn {
    cid: u64,
    index: u32,
    kind: Kind,
    /// The peer's address as `host:port`, or whatever else names it in logs.
    peer: Box<str>,
    entrance: Arc<Entrance>,
    tag: Option<Tag>,
    started: Instant,
    /// Whether its permissions must be asked before it is delivered to.
    filtered: AtomicBool,
    /// What its session is to end with.
    doom: OnceLock<Box<SessionError>>,
    /// Whether its session has to take up a change of limits or of its grant.
    revised: AtomicBool,
    state: Mutex<ConnState>,
    incoming: Incoming,
}

/// What its own session counts. Written by one thread, at the end of its turn, and read by monitoring.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) msgs: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Nanoseconds from the connection's start to its last activity.
    pub(crate) last: AtomicU64,
    /// Nanoseconds of the last measured round trip.
    pub(crate) rtt: AtomicU64,
    /// Nanoseconds from the connection's start to its end; zero while it lasts.
    pub(crate) end: AtomicU64,
}

impl std::ops::AddAssign for Sent {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.msgs += other.msgs;
        self.bytes += other.bytes;
    }
}

/// Messages that were handed over.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) msgs: u64,
    /// Headers and payload.
    pub(crate) bytes: u64,
}

impl Sent {
    /// Counts one message.
    #[inline]
    pub(crate) const fn add(&mut self, bytes: usize) {
        self.msgs += 1;
        self.bytes += bytes as u64;
    }
}

/// How a connection is made.
pub(crate) struct NewConn {
    pub(crate) cid: u64,
    pub(crate) kind: Kind,
    pub(crate) peer: Box<str>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) tag: Option<Tag>,
    pub(crate) grant: Arc<Grant>,
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) max_pending: usize,
    pub(crate) now: Instant,
}

impl Conn {
    pub(crate) fn new(new: NewConn, index: u32) -> Self {
        Self {
            cid: new.cid,
            index,
            kind: new.kind,
            peer: new.peer,
            entrance: new.entrance,
            tag: new.tag,
            started: new.now,
            filtered: AtomicBool::new(false),
            doom: OnceLock::new(),
            revised: AtomicBool::new(false),
            incoming: Incoming::default(),
            state: Mutex::new(ConnState::new(new.owner, new.grant, new.max_pending)),
        }
    }

    /// The number that the peer knows itself by.
    #[must_use]
    pub const fn cid(&self) -> u64 {
        self.cid
    }

    /// What kind of peer this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The peer's address.
    #[must_use]
    pub const fn peer(&self) -> &str {
        &self.peer
    }

    /// When the connection was made.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The way that the peer came in.
    #[must_use]
    pub const fn entrance(&self) -> &Arc<Entrance> {
        &self.entrance
    }

    /// What whoever drives the connection left with it.
    #[must_use]
    pub const fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Who the peer was found to be.
    #[must_use]
    pub fn grant(&self) -> Arc<Grant> {
        self.state.lock().grant.clone()
    }

    /// Replaces who the peer was found to be, within the same account, and has its session look for what it may
    /// not do any more, and at the limits. That happens on the thread that drives it (see
    /// [`Conn::is_revised`]), before any further input of the peer.
    pub fn revise(&self, grant: Option<Arc<Grant>>) {
        let owner = {
            let mut state = self.state.lock();
            if let Some(grant) = grant {
                state.grant = grant;
            }
            self.revised.store(true, Ordering::Release);
            state.owner.clone()
        };
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    /// Has the session end with this error, and tell the peer of it.
    pub fn doom(&self, error: SessionError) {
        // The first reason stays.
        let _ = self.doom.set(Box::new(error));
        self.revise(None);
    }

    pub(crate) fn doomed(&self) -> Option<&SessionError> {
        self.doom.get().map(Box::as_ref)
    }

    /// Whether a change that [`Conn::revise`] announced has not been taken up yet.
    #[must_use]
    pub fn is_revised(&self) -> bool {
        self.revised.load(Ordering::Acquire)
    }

    pub(crate) fn take_revision(&self) -> bool {
        self.is_revised() && self.revised.swap(false, Ordering::AcqRel)
    }

    /// Remembers a grant where those find it who deliver to this connection.
    pub(crate) fn set_grant(&self, grant: Arc<Grant>) {
        let mut state = self.state.lock();
        state.grant = grant;
        state.bound = true;
        self.take_up(&mut state);
    }

    /// The grant as it is now, with everything made anew that follows from it.
    pub(crate) fn renew_grant(&self) -> Arc<Grant> {
        let mut state = self.state.lock();
        self.take_up(&mut state);
        state.grant.clone()
    }

    fn take_up(&self, state: &mut ConnState) {
        let permissions = state.grant.permissions.as_deref();
        self.filtered.store(permissions.is_some_and(crate::Permissions::filters), Ordering::Release);
        let answers = permissions.is_some_and(|permissions| permissions.rules().responses.is_some());
        // What might be answered before must be asked again, as in the original.
        state.replies = answers.then(|| Box::new(Replies::new(self.cid)));
    }

    /// Whether it is known who the peer is.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.state.lock().bound
    }

    /// See [`SubTable::wants`]. Not inlined: most subjects that are looked up anew are wanted by nobody.
    #[inline(never)]
    pub(crate) fn wants(&self, name: &[u8], slot: u32, serial: u32) -> bool {
        self.state.lock().subs.wants(name, slot, serial)
    }

    /// Whether a message on `name` may be delivered to one of this connection's subscriptions.
    #[inline]
    pub(crate) fn may_receive(&self, name: &[u8], queue: impl FnOnce() -> Arc<[u8]>) -> bool {
        if !self.filtered.load(Ordering::Acquire) {
            return true;
        }
        let grant = self.grant();
        grant.permissions.as_ref().is_none_or(|permissions| permissions.may_receive(name, &queue()))
    }

    /// Why the connection was closed, once it is.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.state.lock().closed
    }

    /// What the peer said of itself, secrets left out.
    #[must_use]
    pub fn hello(&self) -> Option<Arc<Connect>> {
        self.state.lock().hello.clone()
    }

    /// Bytes that wait to be written to the peer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.state.lock().out.pending()
    }

    /// Since when the peer has not taken what it was offered.
    #[must_use]
    pub fn blocked_since(&self) -> Option<Instant> {
        self.state.lock().out.blocked_since()
    }

    /// Has every protocol line of this connection shown to its owner.
    pub fn set_trace(&self, on: bool) {
        self.state.lock().trace = on;
    }

    /// Closes the connection: nothing more is delivered to it, and its owner is told to end it. The first reason
    /// stays. Whether it was open.
    pub fn close(&self, reason: CloseReason) -> bool {
        let owner = {
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return false;
            }
            state.closed = Some(reason);
            if !reason.flushes() {
                state.out.discard();
            }
            state.owner.clone()
        };
        if let Some(owner) = owner {
            owner.wake();
        }
        self.release_stalled();
        true
    }

    /// Closes the connection because more waits for it than may.
    #[cold]
    pub(crate) fn cut_off(&self, worker: &mut crate::Worker) {
        // Another thread may have been quicker.
        if self.close(CloseReason::SlowConsumerPendingBytes) {
            worker.counters.slow_pending += 1;
            worker.slow(self.grant().account.index());
        }
    }

    /// Writes what waits, as far as the owner takes it.
    pub fn flush(&self, worker: &mut crate::Worker, now: Instant) {
        self.flush_with(worker.pool(), now);
    }

    pub(crate) fn flush_with(&self, pool: &mut Pool, now: Instant) {
        while let Some((owner, mut flight)) = self.take_off() {
            let (written, result) = flight.write(pool, |bytes| owner.write(bytes));
            let (landing, closed) = self.land(flight, written, now, pool);
            if result.is_err() {
                self.close(CloseReason::WriteError);
                return;
            }
            match landing {
                Landing::Again => continue,
                Landing::Blocked => owner.wake(),
                // The owner may be waiting for what this thread was writing.
                Landing::Done if closed => owner.wake(),
                Landing::Done => {}
            }
            return self.release_stalled();
        }
    }

    fn take_off(&self) -> Option<(Arc<dyn Owner>, Flight)> {
        let mut state = self.state.lock();
        let flight = state.out.take_off()?;
        match state.owner.clone() {
            Some(owner) => Some((owner, flight)),
            None => {
                state.out.discard();
                None
            }
        }
    }

    /// How a flight ended, and whether the connection was closed before that.
    fn land(&self, flight: Flight, written: usize, now: Instant, pool: &mut Pool) -> (Landing, bool) {
        let mut state = self.state.lock();
        let landing = state.out.land(flight, written, now, pool);
        if state.closed.is_some_and(|reason| !reason.flushes()) {
            state.out.discard();
        }
        (landing, state.closed.is_some())
    }

    /// Lets the producers go on that wait for this connection, once it has taken enough.
    fn release_stalled(&self) {
        let waiting = {
            let mut state = self.state.lock();
            let waits = state.closed.is_none() && state.is_crowded();
            let Some(stalled) = state.stalled.as_mut().filter(|_| !waits) else { return };
            std::mem::take(&mut stalled.now)
        };
        for owner in waiting {
            owner.wake();
        }
    }

    /// Wakes `producer`'s owner once this connection has taken enough; `false` when it already has, and when it has
    /// taken nothing for so long that to wait for it would only hold up the others.
    pub(crate) fn stall(&self, producer: &Self, now: Instant) -> bool {
        let Some(owner) = producer.owner() else { return false };
        let mut state = self.state.lock();
        if state.out.is_stuck(now) || !state.is_crowded() || state.closed.is_some() {
            return false;
        }
        let stalled = state.stalled.get_or_insert_default();
        stalled.count += 1;
        // Whoever waited before and went on because its time was up is there already.
        if !stalled.now.iter().any(|waiting| Arc::ptr_eq(waiting, &owner)) {
            stalled.now.push(owner);
        }
        true
    }

    /// Appends to this connection's output, and notes it for writing.
    pub(crate) fn append(
        self: &Arc<Self>,
        len: usize,
        worker: &mut crate::Worker,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let (before, pending, fresh, full) = {
            let mut state = self.state.lock();
            if !state.is_open() {
                return;
            }
            let before = state.out.pending();
            state.out.append(len, worker.pool(), fill);
            let pending = state.out.pending();
            (before, pending, state.out.mark_dirty(), pending > state.max_pending)
        };
        if full {
            // What it is told itself counts, too: a peer that asks and does not listen is slow.
            return self.cut_off(worker);
        }
        worker.note(self, before, pending, fresh);
    }

    /// Appends to this connection's output from outside a tick; whether it must be woken to write that.
    pub(crate) fn put(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock();
        if !state.is_open() {
            return false;
        }
        if state.out.pending() + bytes.len() > state.max_pending {
            drop(state);
            // Its owner is told by that.
            self.close(CloseReason::SlowConsumerPendingBytes);
            return false;
        }
        state.out.append(bytes.len(), &mut Pool::default(), |room| room.extend_from_slice(bytes));
        true
    }

    /// The same for all interest of an account, which a slow peer is given the time for: as much more may wait here.
    pub(crate) fn put_interest(&self, lines: Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if !state.is_open() {
            return false;
        }
        state.max_pending += lines.len();
        state.out.share(lines.into(), &mut Pool::default());
        true
    }

    /// Has the owner write what was put here.
    pub(crate) fn rouse(&self) {
        if let Some(owner) = self.owner() {
            owner.wake();
        }
    }

    /// Appends an INFO.
    pub(crate) fn append_info(self: &Arc<Self>, info: &midge_wire::json::Info, worker: &mut crate::Worker) {
        self.append_json_info(&info.to_json(), worker);
    }

    /// Appends an INFO of that body.
    pub(crate) fn append_json_info(self: &Arc<Self>, json: &[u8], worker: &mut crate::Worker) {
        self.append(json.len() + 8, worker, |room| midge_wire::encode::info(room, json));
    }

    pub(crate) fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.state.lock().owner.clone()
    }

    /// The owner, if output was noted for it since the last time. For connections that are not written.
    pub(crate) fn take_dirty(&self) -> Option<Arc<dyn Owner>> {
        let mut state = self.state.lock();
        state.out.clear_dirty();
        state.owner.clone()
    }

    /// Lets go of everything but the numbers: the connection has ended. Stale match sets may keep the rest of it
    /// for a while.
    pub(crate) fn retire(&self) {
        let mut state = self.state.lock();
        state.owner = None;
        state.out.discard();
        state.mailbox = None;
    }

    #[inline]
    pub(crate) fn lock(&self) -> crate::sync::MutexGuard<'_, ConnState> {
        self.state.lock()
    }

    /// The same, if nobody else has it just now.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<crate::sync::MutexGuard<'_, ConnState>> {
        self.state.try_lock()
    }

    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    pub(crate) const fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    pub(crate) fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started).as_nanos() as u64;
        self.incoming.last.store(since, Ordering::Relaxed);
    }

    /// Remembers when the connection ended, for monitoring.
    pub fn note_end(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started).as_nanos() as u64;
        self.incoming.end.store(since.max(1), Ordering::Relaxed);
    }

    /// What the peer has sent and been sent.
    #[must_use]
    pub fn traffic(&self) -> crate::Traffic {
        let state = self.state.lock();
        crate::Traffic {
            in_msgs: self.incoming.msgs.load(Ordering::Relaxed),
            in_bytes: self.incoming.bytes.load(Ordering::Relaxed),
            out_msgs: state.sent.msgs,
            out_bytes: state.sent.bytes,
        }
    }

    /// The last measured round trip.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        let nanos = self.incoming.rtt.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// When something last happened here.
    #[must_use]
    pub fn last_activity(&self) -> Instant {
        self.started + Duration::from_nanos(self.incoming.last.load(Ordering::Relaxed))
    }
}
