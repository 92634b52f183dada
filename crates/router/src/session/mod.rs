//! One connection's talk, without the connection.
//!
//! A [`Session`] eats bytes from anywhere, appends what is to be sent to its own and other connections' outboxes,
//! and decides nothing about who somebody is: it asks, and is told. Its methods come in four families, and
//! whoever drives it calls them so:
//!
//! * *handle*: `handle_input` with what was read, `handle_timeout` when `poll_timeout` says so, `handle_verdict`
//!   after [`Event::Authenticate`];
//! * *poll*: `poll_event` after every handle, `poll_timeout` before waiting;
//! * *commands*: `close`;
//! * *getters*.
//!
//! After the handles of one tick, [`crate::Worker::flush`] writes what they appended.

pub(crate) mod core;
pub(crate) mod event;
pub(crate) mod role;
mod timers;

use std::sync::Arc;
use std::time::Instant;

use midge_wire::json::Credentials;
use midge_wire::{Decoded, Decoder, encode};

use self::core::{Core, Phase};
use self::event::{Event, SessionError, Verdict};
use self::role::client::Client;
use self::role::leaf::{Leaf, LeafDial};
use self::role::route::{Dial, Route};
use self::role::{Flow, Role};
use self::timers::Silence;
use crate::conn::{Conn, Kind, Owner};
use crate::grant::Arrival;
use crate::reason::CloseReason;
use crate::router::Router;
use crate::worker::Worker;

/// What a session borrows for one call: its thread's worker, and the time.
#[derive(Debug)]
pub struct Tick<'a> {
    /// The calling thread's worker.
    pub worker: &'a mut Worker,
    /// Now. One clock read serves a whole tick.
    pub now: Instant,
}

/// What became of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Bytes to drop from the input's front. The rest must come again, in front of what is read next.
    pub used: usize,
    /// Length that the rest must reach before it is worth another call.
    pub need: usize,
    /// What to do next.
    pub next: Next,
}

/// What to do after some input was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read more.
    Read,
    /// Read nothing, and offer the rest again when woken or at that time: a consumer cannot keep up.
    Stalled(Instant),
    /// Read nothing, and offer the rest again after the verdict.
    Verdict,
    /// Read nothing any more: write what waits, and hang up.
    Close,
}

/// One connection's talk with one kind of peer.
#[derive(Debug)]
pub struct Session<R: Role> {
    core: Core,
    role: R,
    decoder: Decoder<R::Grammar>,
}

/// The talk with a client.
pub type ClientSession = Session<Client>;

impl Session<Client> {
    /// Begins the talk with a client whose bytes `owner` moves.
    pub fn client(
        router: &Arc<Router>,
        mut arrival: Arrival<'_>,
        owner: Arc<dyn Owner>,
        tick: &mut Tick<'_>,
    ) -> Self {
        let nonce = std::mem::take(&mut arrival.nonce);
        let conn = router.connect(Kind::Client, arrival, router.anyone(), owner, tick.now);
        let core = Core::new(router.clone(), conn, nonce, tick.now);
        let role = Client::new();
        let decoder = Decoder::new(role.limits(&core));
        let mut session = Self { core, role, decoder };
        session.role.greet(&mut session.core, tick);
        let most = session.core.limits.max_connections;
        if router.clients() as usize > most {
            session.core.fail(SessionError::TooManyConnections, tick);
        }
        session
    }
}

/// The talk with another server of the cluster.
pub type RouteSession = Session<Route>;

impl Session<Route> {
    /// Begins the talk with another server of the cluster, whose bytes `owner` moves: one that has come, or one that
    /// was dialled.
    pub fn route(
        router: &Arc<Router>,
        mut arrival: Arrival<'_>,
        dial: Option<Dial>,
        owner: Arc<dyn Owner>,
        tick: &mut Tick<'_>,
    ) -> Self {
        let nonce = std::mem::take(&mut arrival.nonce);
        let conn = router.connect(Kind::Route, arrival, router.anyone(), owner, tick.now);
        let core = Core::new(router.clone(), conn, nonce, tick.now);
        let role = Route::new(dial);
        let decoder = Decoder::new(role.limits(&core));
        let mut session = Self { core, role, decoder };
        session.role.greet(&mut session.core, tick);
        session
    }
}

/// The talk with a leafnode of this server, or with its hub.
pub type LeafSession = Session<Leaf>;

impl Session<Leaf> {
    /// Begins the talk with a leafnode that has come, or with a hub that was dialled, whose bytes `owner` moves. In
    /// the latter case `account` is what is shared with it; a leafnode's is found when it says who it is.
    pub fn leaf(
        router: &Arc<Router>,
        mut arrival: Arrival<'_>,
        dial: Option<(LeafDial, Arc<crate::Account>)>,
        owner: Arc<dyn Owner>,
        tick: &mut Tick<'_>,
    ) -> Self {
        let nonce = std::mem::take(&mut arrival.nonce);
        let (dial, grant) = match dial {
            Some((dial, account)) => (Some(dial), Arc::new(crate::Grant::of(account))),
            None => (None, router.anyone().clone()),
        };
        let kind = if dial.is_some() { Kind::Hub } else { Kind::Spoke };
        let conn = router.connect(kind, arrival, &grant, owner, tick.now);
        let core = Core::new(router.clone(), conn, nonce, tick.now);
        let role = Leaf::new(dial);
        let decoder = Decoder::new(role.limits(&core));
        let mut session = Self { core, role, decoder };
        session.role.greet(&mut session.core, tick);
        session
    }
}

impl<R: Role> Session<R> {
    /// The connection, as others see it.
    #[must_use]
    pub const fn conn(&self) -> &Arc<Conn> {
        &self.core.conn
    }

    /// Has every protocol line shown to the owner.
    pub fn set_trace(&mut self, on: bool) {
        self.core.trace = on;
        self.core.conn.set_trace(on);
    }

    /// Takes what was read. `input` begins where the last call's `used` ended.
    pub fn handle_input(&mut self, input: &[u8], tick: &mut Tick<'_>) -> Input {
        self.handle_revision(tick);
        self.core.begin_input(tick.now);
        let mut done = Input { used: 0, need: 1, next: Next::Read };
        let mut active = false;
        done.next = loop {
            match self.core.phase {
                Phase::Ready => {}
                Phase::Closed => break Next::Close,
                Phase::Authenticating => break Next::Verdict,
                Phase::AwaitConnect if self.breaks_silence(input.get(done.used..).unwrap_or_default()) => {
                    if self.core.conn.entrance().anonymous {
                        self.core.ask(Credentials::default());
                        break Next::Verdict;
                    }
                    self.core.fail(SessionError::Authorization, tick);
                    break Next::Close;
                }
                Phase::AwaitConnect => {}
            }
            let rest = input.get(done.used..).unwrap_or_default();
            let used = self.role.on_messages(&mut self.core, &self.decoder, rest, tick);
            done.used += used;
            active |= used > 0;
            if let Some(until) = self.core.stalled_until(tick) {
                break Next::Stalled(until);
            }
            if self.core.phase == Phase::Closed {
                continue;
            }
            match self.decoder.decode(input.get(done.used..).unwrap_or_default()) {
                Ok(Decoded::Op { op, used }) => {
                    done.used += used;
                    active = true;
                    match self.role.on_op(&mut self.core, op, tick) {
                        Ok(Flow::Go) => {}
                        Ok(Flow::Limits) => self.decoder.set_limits(self.role.limits(&self.core)),
                        Ok(Flow::Verdict) => break Next::Verdict,
                        Err(error) => self.core.fail(error, tick),
                    }
                    if let Some(until) = self.core.stalled_until(tick) {
                        break Next::Stalled(until);
                    }
                }
                Ok(Decoded::Incomplete { used, need }) => {
                    done.used += used;
                    done.need = need;
                    break Next::Read;
                }
                Err(error) => {
                    self.core.fail(error.into(), tick);
                    break Next::Close;
                }
            }
        };
        self.core.settle_counts(tick, active);
        done
    }

    /// Whether the peer begins with something else although it must say who it is.
    fn breaks_silence(&self, rest: &[u8]) -> bool {
        self.decoder.is_at_start() && rest.first().is_some_and(|b| !b.eq_ignore_ascii_case(&b'C'))
    }

    /// Takes up what [`Conn::revise`] announced, if anything: other limits, other permissions. Subscriptions that
    /// are not allowed any more end, and the peer is told.
    pub fn handle_revision(&mut self, tick: &mut Tick<'_>) {
        if self.core.conn.take_revision() && self.core.phase != Phase::Closed {
            self.core.revise(tick);
            self.decoder.set_limits(self.role.limits(&self.core));
        }
    }

    /// Does what is due. Early calls do no harm.
    pub fn handle_timeout(&mut self, tick: &mut Tick<'_>) {
        let interval = self.role.ping_interval(&self.core);
        if self.core.phase != Phase::Closed
            && self.core.check_times(interval, || self.role.late(), tick) == Silence::Ping
        {
            self.core.send(encode::PING, tick);
        }
    }

    /// Takes the answer to [`Event::Authenticate`]. The rest of the input may then be offered again.
    pub fn handle_verdict(&mut self, verdict: Verdict, tick: &mut Tick<'_>) {
        if self.core.phase != Phase::Authenticating {
            return;
        }
        let taken = match verdict {
            Verdict::Welcome(grant) => {
                self.core.bind(grant).and_then(|()| self.role.on_welcome(&mut self.core, tick))
            }
            Verdict::Refused => Err(SessionError::Authorization),
        };
        match taken {
            Ok(()) => self.decoder.set_limits(self.role.limits(&self.core)),
            Err(error) => self.core.fail(error, tick),
        }
    }

    /// The next thing that the driver should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.next_event()
    }

    /// When to call `handle_timeout` at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let timer = self.core.timers.next();
        self.core.write_deadline().map_or(timer, |deadline| deadline.min(timer))
    }

    /// Ends the talk from this side.
    pub fn close(&mut self, reason: CloseReason) {
        if self.core.phase != Phase::Closed {
            self.core.shut(reason, None);
        }
        self.role.on_end(&mut self.core);
    }

    /// The account that the peer belongs to.
    #[must_use]
    pub const fn account(&self) -> &Arc<crate::Account> {
        &self.core.account
    }
}

impl<R: Role> Drop for Session<R> {
    /// Whatever ends the driver, the subscriptions and the connection's place go with it.
    fn drop(&mut self) {
        self.core.conn.close(CloseReason::ClientClosed);
        self.role.on_end(&mut self.core);
        self.core.router.disconnect(&self.core.conn, &self.core.account);
    }
}
