//! What every kind of session has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_wire::json::Credentials;
use midge_wire::{Pub, encode};

use super::Tick;
use super::event::{AuthRequest, Event, Refusal, SessionError};
use super::timers::{Silence, Timers};
use crate::account::Account;
use crate::conn::{Conn, Direction, Kind, Sent};
use crate::deliver::{Delivery, Groups, Source, Train};
use crate::grant::Grant;
use crate::interest::MatchSet;
use crate::limits::Limits;
use crate::permissions::Permissions;
use crate::reason::CloseReason;
use crate::router::Router;
use crate::sync::atomic::Ordering;

/// Time that a producer may be held back for each read (nats-server's `stallTotalAllowed`).
const STALL_BUDGET: Duration = Duration::from_millis(10);
/// Time that a producer waits for a crowded consumer, and for one that is over its limit.
const STALL: Duration = Duration::from_millis(2);
const STALL_FULL: Duration = Duration::from_millis(5);
/// Events that are kept between two polls; further refusals are counted by nobody but the peer, who gets them all.
const MAX_EVENTS: usize = 64;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A CONNECT must come first.
    AwaitConnect,
    /// The driver is finding out whether the peer is who it says.
    Authenticating,
    /// Anything goes.
    Ready,
    /// Nothing goes any more.
    Closed,
}

/// What every kind of session has: the way to the router, the connection, the times and the counts.
#[derive(Debug)]
pub struct Core {
    pub(crate) router: Arc<Router>,
    pub(crate) conn: Arc<Conn>,
    pub(crate) account: Arc<Account>,
    /// What the peer may do; `None` is everything.
    pub(crate) permissions: Option<Arc<Permissions>>,
    pub(crate) limits: Arc<Limits>,
    /// What the peer was given to sign.
    pub(crate) nonce: Box<str>,
    pub(crate) phase: Phase,
    pub(crate) timers: Timers,
    #[expect(clippy::box_collection, reason = "nearly always there is none, and then it is a pointer")]
    events: Option<Box<VecDeque<Event>>>,
    /// The last message's receivers: the next message often has the same.
    memo: Option<Memo>,
    in_msgs: u64,
    in_bytes: u64,
    /// Whether this producer has been held back for the present input.
    stall: Option<Box<Stall>>,
    pub(crate) trace: bool,
}

/// The receivers of a message.
#[derive(Debug)]
pub(crate) struct Memo {
    pub(crate) set: Arc<MatchSet>,
    /// Whether the peer may publish to them, whatever it was asked before.
    pub(crate) always: bool,
}

/// How long this producer may still be held back.
#[derive(Debug)]
struct Stall {
    left: Duration,
    since: Option<Instant>,
}

impl Core {
    pub(crate) fn new(router: Arc<Router>, conn: Arc<Conn>, nonce: String, now: Instant) -> Self {
        let limits = router.limits();
        let entrance = conn.entrance().clone();
        Self {
            timers: Timers::new(
                now,
                entrance.ping_interval.unwrap_or(limits.ping_interval),
                entrance.asks.then_some(entrance.timeout),
            ),
            phase: if entrance.asks { Phase::AwaitConnect } else { Phase::Ready },
            account: conn.grant().account.clone(),
            permissions: None,
            router,
            conn,
            limits,
            nonce: nonce.into(),
            events: None,
            memo: None,
            in_msgs: 0,
            in_bytes: 0,
            stall: None,
            trace: false,
        }
    }

    /// Takes out the receivers of the last message, if they still are who they were. Whoever asked for the same subject
    /// since the input was read cannot know that what is in it came later, so one look serves for all of it.
    pub(crate) fn take_memo(&mut self) -> Option<Memo> {
        self.memo.take().filter(|memo| memo.set.is_current(&self.account))
    }

    /// Whether the peer may publish where `set` is for, whatever its messages ask for.
    #[inline]
    pub(crate) fn always_may_publish(&self, set: &MatchSet) -> bool {
        self.permissions.as_ref().is_none_or(|permissions| set.is_allowed_by(permissions))
    }

    /// Whether the peer may publish on `name` once, because it was asked something.
    pub(crate) fn may_answer(&self, name: &[u8], now: Instant) -> bool {
        let Some(rules) = self.permissions.as_ref().and_then(|permissions| permissions.rules().responses)
        else {
            return false;
        };
        let mut state = self.conn.lock();
        state.replies.as_mut().is_some_and(|replies| replies.take(name, rules, now))
    }

    /// Delivers a message to its receivers, and leaves the counting to the caller.
    pub(crate) fn deliver_one(
        &self,
        set: &MatchSet,
        message: &Pub<'_>,
        echo: bool,
        tick: &mut Tick<'_>,
    ) -> Sent {
        let sent = self.delivery(echo, tick.now).run(message, Groups::All, set, tick.worker);
        self.router.settle(tick.worker);
        sent
    }

    /// Delivers messages to their receivers, and leaves the counting to the caller.
    pub(crate) fn deliver_all(
        &self,
        set: &MatchSet,
        train: &mut Train<'_>,
        echo: bool,
        tick: &mut Tick<'_>,
    ) -> Sent {
        let sent = self.delivery(echo, tick.now).run_all(train, set, tick.worker);
        train.clear();
        self.router.settle(tick.worker);
        sent
    }

    /// What the peer's messages have in common.
    pub(crate) fn delivery(&self, echo: bool, now: Instant) -> Delivery<'_> {
        let skip_crowded = self.limits.no_fast_producer_stall;
        Delivery { from: &self.conn, echo, skip_crowded, now, source: Source::here(Kind::Client) }
    }

    /// Remembers the receivers of a message for the next one.
    pub(crate) fn remember(&mut self, memo: Option<Memo>) {
        self.memo = memo;
    }

    pub(crate) const fn count_in(&mut self, received: Sent) {
        self.in_msgs += received.msgs;
        self.in_bytes += received.bytes;
    }

    /// Tells what was counted since the last time to the worker and to monitoring.
    pub(crate) fn settle_counts(&mut self, tick: &mut Tick<'_>, active: bool) {
        tick.worker.counters.reads += 1;
        if active {
            self.conn.touch(tick.now);
        }
        if self.in_msgs == 0 {
            return;
        }
        tick.worker.received(self.account.index(), self.in_msgs, self.in_bytes);
        let incoming = self.conn.incoming();
        // Only this session writes these, so a load and a store are enough.
        incoming.msgs.store(incoming.msgs.load(Ordering::Relaxed) + self.in_msgs, Ordering::Relaxed);
        incoming.bytes.store(incoming.bytes.load(Ordering::Relaxed) + self.in_bytes, Ordering::Relaxed);
        (self.in_msgs, self.in_bytes) = (0, 0);
    }

    /// Until when this producer should wait for the consumer that the last message crowded, if for any.
    pub(crate) fn stalled_until(&mut self, tick: &mut Tick<'_>) -> Option<Instant> {
        let crowded = tick.worker.crowded.take()?;
        let left = self.stall.as_ref().map_or(STALL_BUDGET, |stall| stall.left);
        if left.is_zero() || !crowded.stall(&self.conn, tick.now) {
            return None;
        }
        let wait = if crowded.pending() >= self.limits.max_pending { STALL_FULL } else { STALL };
        tick.worker.counters.stalls += 1;
        self.stall = Some(Box::new(Stall { left, since: Some(tick.now) }));
        Some(tick.now + wait.min(left))
    }

    /// Begins with another piece of input: new bytes, or the rest after a stall.
    pub(crate) fn begin_input(&mut self, now: Instant) {
        self.stall = self.stall.take().and_then(|mut stall| {
            let since = stall.since.take()?;
            stall.left = stall.left.saturating_sub(now.saturating_duration_since(since));
            Some(stall)
        });
    }

    /// Appends bytes for the peer.
    pub(crate) fn send(&self, bytes: &[u8], tick: &mut Tick<'_>) {
        if self.trace {
            self.trace_out(bytes.trim_ascii_end());
        }
        self.conn.append(bytes.len(), tick.worker, |room| room.extend_from_slice(bytes));
    }

    fn trace_out(&self, line: &[u8]) {
        if let Some(owner) = self.conn.owner() {
            let space = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
            let (op, args) = line.split_at_checked(space).unwrap_or_default();
            owner.trace(Direction::Out, &String::from_utf8_lossy(op), args.trim_ascii_start());
        }
    }

    pub(crate) fn trace(&self, direction: Direction, op: &str, args: &[u8]) {
        if let Some(owner) = self.conn.owner() {
            owner.trace(direction, op, args);
        }
    }

    /// Tells the peer that something was refused, and goes on.
    pub(crate) fn refuse(&mut self, refusal: Refusal, tick: &mut Tick<'_>) {
        let mut line = Vec::new();
        encode::err(&mut line, &refusal.to_string());
        self.send(&line, tick);
        self.emit(Event::Refused(refusal));
    }

    /// Ends the connection for something that the peer did.
    pub(crate) fn fail(&mut self, error: SessionError, tick: &mut Tick<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        if let Some(text) = error.err_text() {
            let mut line = Vec::new();
            encode::err(&mut line, &text);
            self.send(&line, tick);
        }
        self.shut(error.reason(), Some(error));
    }

    pub(crate) fn shut(&mut self, reason: CloseReason, error: Option<SessionError>) {
        self.phase = Phase::Closed;
        self.conn.close(reason);
        self.memo = None;
        self.emit(Event::Closed(reason, error));
    }

    pub(crate) fn emit(&mut self, event: Event) {
        let events = self.events.get_or_insert_default();
        if events.len() < MAX_EVENTS || !matches!(event, Event::Refused(_)) {
            events.push_back(event);
        }
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let events = self.events.as_mut()?;
        let event = events.pop_front();
        if events.is_empty() {
            // An idle connection keeps no memory for them.
            self.events = None;
        }
        event
    }

    /// Asks the driver who the peer is.
    pub(crate) fn ask(&mut self, credentials: Credentials) {
        self.timers.auth = None;
        self.phase = Phase::Authenticating;
        let nonce = self.nonce.to_string();
        self.emit(Event::Authenticate(Box::new(AuthRequest { credentials, nonce })));
    }

    /// Takes up who the peer was found to be. Its subscriptions must be gone.
    pub(crate) fn bind(&mut self, grant: Arc<Grant>) -> Result<(), SessionError> {
        self.memo = None;
        if !Arc::ptr_eq(&self.account, &grant.account) {
            self.account.disconnected(self.conn.kind());
            // Counted before the check, so that the end of this connection can take it back.
            let full = self.conn.kind() == Kind::Client && grant.account.is_full();
            grant.account.connected(self.conn.kind());
            self.account = grant.account.clone();
            if full {
                self.conn.set_grant(grant);
                return Err(SessionError::TooManyAccountConnections);
            }
        }
        self.phase = Phase::Ready;
        self.permissions = grant.permissions.clone();
        self.conn.set_grant(grant);
        self.limits = self.account.limits_on(self.router.limits());
        Ok(())
    }

    /// Takes up limits and permissions that have changed.
    pub(crate) fn revise(&mut self, tick: &mut Tick<'_>) {
        if let Some(error) = self.conn.doomed().cloned() {
            return self.fail(error, tick);
        }
        self.memo = None;
        let grant = self.conn.renew_grant();
        self.permissions = grant.permissions.clone();
        self.limits = self.account.limits_on(self.router.limits());
        self.conn.lock().max_pending = self.limits.max_pending;
        for (subject, queue, sid) in self.router.drop_denied(&self.conn, &grant) {
            self.refuse(Refusal::Removed(subject, queue, sid), tick);
        }
        let most = self.limits.max_subscriptions;
        if most > 0 && self.conn.lock().subs.len() > most {
            self.fail(SessionError::TooManySubscriptions, tick);
        }
    }

    /// Looks at the times that do not depend on the role.
    pub(crate) fn check_times(
        &mut self,
        interval: Duration,
        late: impl FnOnce() -> SessionError,
        tick: &mut Tick<'_>,
    ) -> Silence {
        let now = tick.now;
        if self.timers.auth.is_some_and(|auth| now >= auth) {
            self.timers.auth = None;
            self.fail(late(), tick);
            return Silence::Wait;
        }
        if self.write_deadline().is_some_and(|deadline| now >= deadline) {
            tick.worker.counters.slow_deadline += 1;
            tick.worker.slow(self.account.index());
            self.fail(SessionError::WriteDeadline, tick);
            return Silence::Wait;
        }
        // A client that talks need not be asked. Between servers the round trip is of interest.
        let heard = (self.conn.kind() == Kind::Client).then(|| self.conn.last_activity());
        let silence = self.timers.check(now, heard, interval, self.limits.max_pings_out);
        if silence == Silence::Stale {
            tick.worker.counters.stale_connections += 1;
            self.fail(SessionError::Stale, tick);
        }
        silence
    }

    pub(crate) fn ping_interval(&self) -> Duration {
        self.conn.entrance().ping_interval.unwrap_or(self.limits.ping_interval)
    }

    pub(crate) fn write_deadline(&self) -> Option<Instant> {
        Some(self.conn.blocked_since()? + self.limits.write_deadline)
    }
}
