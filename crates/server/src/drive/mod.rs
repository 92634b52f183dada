//! What moves the bytes of a session.
//!
//! A [`Connection`] is one task for one connection, whatever carries it. What differs is left to three small
//! traits: the [`Inlet`] that bytes come from, the [`Outlet`] that they leave by, and the [`Host`] that lends its
//! worker and its clock. A shard is a host whose connections are plain sockets; [`pipe`] drives any other byte
//! stream on any runtime.

mod guest;
mod input;
pub(crate) mod pipe;
pub(crate) mod socket;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use midge_router::{
    Account, Client, CloseReason, Dial, Event, Leaf, LeafDial, Next, Owner, Route, Router, Session, Tick,
    Verdict, Worker,
};
use parking_lot::Mutex;
use tokio::io::ReadBuf;

pub(crate) use self::guest::End;
use self::guest::Guest;
use self::input::Input;
use crate::auth::{Caller, Decision};
use crate::carrier::Carrier;
use crate::clock;
use crate::cluster::RouteDuty;
use crate::leafnode::LeafDuty;
use crate::server::Server;
use crate::setup::Setup;
use crate::talk::{Talk, Tracer};
use crate::tls::HandshakeError;

/// Most time that a closed connection may take for what still waits for it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a connection's bytes come from.
pub(crate) trait Inlet: Unpin {
    /// Reads some bytes; none at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Whether there may be more already. Asks for a wake-up where there is not.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Where a connection's bytes go to: the driver's side of an [`Owner`].
pub(crate) trait Outlet: Owner {
    /// What the task is woken by.
    fn signal(&self) -> &Signal;

    /// What shows the connection's protocol lines.
    fn tracer(&self) -> &Tracer;

    /// Waits until [`Owner::write`] would take something, or everything has been handed on.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether bytes that [`Owner::write`] took are still on their way to the carrier.
    fn is_drained(&self) -> bool;

    /// Ends the outgoing direction.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What wakes a connection's task from outside.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waker: AtomicWaker,
    /// Whether the task has been told to look at its connection.
    raised: AtomicBool,
    /// Whether a write was not taken in full.
    blocked: AtomicBool,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn set_blocked(&self) {
        self.blocked.store(true, Ordering::Release);
    }
}

/// Wakes a task at a time.
pub(crate) trait Alarm: Unpin {
    /// Wakes the task at `at`, or not much later. A later call replaces an earlier one.
    fn set(&mut self, at: Instant, now: Instant, cx: &mut Context<'_>);
}

/// What runs connections: a shard, or somebody else's runtime.
pub(crate) trait Host: Unpin {
    type Alarm: Alarm;

    fn worker(&self) -> &Mutex<Worker>;

    fn alarm(&self) -> Self::Alarm;

    /// Sees to it that what was appended is written, at the end of the tick.
    fn end_turn(&self, worker: &mut Worker, now: Instant);
}

/// One connection's task.
pub(crate) struct Connection<H: Host, I: Inlet, O: Outlet, G: Guest> {
    server: Arc<Server>,
    host: H,
    session: Session<G>,
    duty: G::Duty,
    talk: Talk,
    /// What is more than a plain socket about the connection.
    carrier: Option<Arc<Carrier>>,
    /// Who the peer is, while that is being found out.
    verdict: Option<Box<Pending>>,
    inlet: I,
    outlet: Arc<O>,
    input: Input,
    wait: Wait,
    alarm: H::Alarm,
}

/// Who the peer is, while that is being found out, by what was configured when that began.
struct Pending {
    verdict: Pin<Box<dyn Future<Output = Verdict> + Send>>,
    setup: Arc<Setup>,
}

/// What the connection waits for before it goes on with its input.
enum Wait {
    /// For bytes.
    Bytes,
    /// For who the peer is.
    Verdict,
    /// For a crowded consumer, until then at most.
    Stalled(Instant),
    /// For the end: what waits is written, until then at most.
    End(Instant),
    /// For the carrier to end, until then at most.
    Shutdown(Instant),
}

impl<H: Host, I: Inlet, O: Outlet> Connection<H, I, O, Client> {
    pub(crate) fn client(
        server: Arc<Server>,
        host: H,
        (peer, carrier): (&str, Option<Arc<Carrier>>),
        inlet: I,
        outlet: Arc<O>,
    ) -> Self {
        let setup = server.setup();
        let arrival = setup.arrival(peer, carrier.as_ref());
        let begin = |router: &_, owner, tick: &mut Tick<'_>| Session::client(router, arrival, owner, tick);
        Self::new(server, host, carrier, (inlet, outlet), ((), begin))
    }
}

impl<H: Host, I: Inlet, O: Outlet> Connection<H, I, O, Route> {
    pub(crate) fn route(
        server: Arc<Server>,
        host: H,
        (peer, carrier): (&str, Option<Arc<Carrier>>),
        (dial, duty): (Option<Dial>, RouteDuty),
        streams: (I, Arc<O>),
    ) -> Self {
        let arrival = server.setup().route_arrival(peer, carrier.as_ref(), dial.is_some());
        let begin =
            |router: &_, owner, tick: &mut Tick<'_>| Session::route(router, arrival, dial, owner, tick);
        Self::new(server, host, carrier, streams, (duty, begin))
    }
}

impl<H: Host, I: Inlet, O: Outlet> Connection<H, I, O, Leaf> {
    pub(crate) fn leaf(
        server: Arc<Server>,
        host: H,
        (peer, carrier): (&str, Option<Arc<Carrier>>),
        (dial, duty): (Option<(LeafDial, Arc<Account>)>, LeafDuty),
        streams: (I, Arc<O>),
    ) -> Self {
        let arrival = server.setup().leaf_arrival(peer, carrier.as_ref(), dial.is_some());
        let begin =
            |router: &_, owner, tick: &mut Tick<'_>| Session::leaf(router, arrival, dial, owner, tick);
        Self::new(server, host, carrier, streams, (duty, begin))
    }
}

impl<H: Host, I: Inlet, O: Outlet, G: Guest> Connection<H, I, O, G> {
    fn new(
        server: Arc<Server>,
        host: H,
        carrier: Option<Arc<Carrier>>,
        (inlet, outlet): (I, Arc<O>),
        (duty, begin): (G::Duty, impl FnOnce(&Arc<Router>, Arc<dyn Owner>, &mut Tick<'_>) -> Session<G>),
    ) -> Self {
        let now = clock::now();
        let setup = server.setup();
        let session = {
            let mut worker = host.worker().lock();
            let mut tick = Tick { worker: &mut worker, now };
            let mut session = begin(server.router(), outlet.clone(), &mut tick);
            session.set_trace(setup.options.log.trace);
            outlet.tracer().belong_to(session.conn());
            host.end_turn(&mut worker, now);
            session
        };
        follow_reload(&server, &setup, &session);
        let talk = Talk::new(session.conn());
        let alarm = host.alarm();
        let (input, wait) = (Input::default(), Wait::Bytes);
        Self { server, host, session, duty, talk, carrier, verdict: None, inlet, outlet, input, wait, alarm }
    }

    /// Bytes are read only while the server is not stopping: what was read before that is delivered.
    fn may_read(&self) -> bool {
        !self.server.is_stopping()
    }

    /// Does everything that can be done now.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let signal = self.outlet.signal();
        signal.waker.register(cx.waker());
        let raised = signal.raised.swap(false, Ordering::Acquire);
        let now = clock::now();
        // Another thread may have been writing when this one last looked, and have got stuck after that.
        if raised && self.session.conn().blocked_since().is_some() {
            self.outlet.signal().set_blocked();
        } else if raised && self.session.conn().pending() > 0 {
            // Put there by somebody who was not in a tick.
            let mut worker = self.host.worker().lock();
            self.session.conn().flush(&mut worker, now);
        }
        self.drain(now, cx);
        if self.session.conn().is_revised() {
            self.session.set_trace(self.server.setup().options.log.trace);
            self.turn(now, |session, tick| session.handle_revision(tick));
        }
        if self.session.poll_timeout() <= now {
            self.turn(now, |session, tick| session.handle_timeout(tick));
        }
        if let Wait::Stalled(until) = self.wait
            && (raised || now >= until)
        {
            self.wait = Wait::Bytes;
            let next = self.eat(now);
            self.follow(next, now);
        }
        if let Some(pending) = &mut self.verdict
            && let Poll::Ready(verdict) = pending.verdict.as_mut().poll(cx)
        {
            let setup = pending.setup.clone();
            self.verdict = None;
            self.take_up(verdict, &setup, now);
            self.wait = Wait::Bytes;
            let next = self.eat(now);
            self.follow(next, now);
            if matches!(self.wait, Wait::Verdict) {
                // Another question: its answer must be asked for once.
                cx.waker().wake_by_ref();
            }
        }
        if matches!(self.wait, Wait::Bytes) {
            self.read(now, cx);
            if matches!(self.wait, Wait::Verdict) {
                cx.waker().wake_by_ref();
            }
        }
        self.settle(now);
        self.finish(now, cx)
    }

    /// Writes what the carrier did not take before, if it takes it now.
    fn drain(&mut self, now: Instant, cx: &mut Context<'_>) {
        // Taken back before looking, so that a write on another thread meanwhile is not overlooked.
        while self.outlet.signal().blocked.swap(false, Ordering::AcqRel) {
            match self.outlet.poll_room(cx) {
                Poll::Pending => return self.outlet.signal().set_blocked(),
                Poll::Ready(Err(_)) => {
                    self.session.conn().close(CloseReason::WriteError);
                }
                Poll::Ready(Ok(())) => {
                    let mut worker = self.host.worker().lock();
                    self.session.conn().flush(&mut worker, now);
                }
            }
        }
    }

    /// Lets the session do something, and sees to what it appended.
    fn turn<T>(&mut self, now: Instant, act: impl FnOnce(&mut Session<G>, &mut Tick<'_>) -> T) -> T {
        let mut worker = self.host.worker().lock();
        let done = act(&mut self.session, &mut Tick { worker: &mut worker, now });
        worker.flush_early(now);
        self.host.end_turn(&mut worker, now);
        done
    }

    /// Reads once, so that no connection keeps the others waiting, and asks to be called again if there is more.
    fn read(&mut self, now: Instant, cx: &mut Context<'_>) {
        if self.session.conn().closed().is_some() || !self.may_read() {
            return;
        }
        let Self { inlet, input, .. } = self;
        let filled = input.fill(
            |buffer| inlet.poll_read(cx, buffer),
            |bytes| {
                let mut worker = self.host.worker().lock();
                // Looked at under the worker's lock: whoever stops the server takes it to know that nobody is here.
                if self.server.is_stopping() {
                    return None;
                }
                let done = self.session.handle_input(bytes, &mut Tick { worker: &mut worker, now });
                worker.flush_early(now);
                self.host.end_turn(&mut worker, now);
                Some(done)
            },
        );
        match filled {
            Poll::Pending => {}
            Poll::Ready(Ok(Some(next))) => {
                self.follow(next, now);
                if matches!(self.wait, Wait::Bytes) && self.inlet.poll_more(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Ready(Ok(None)) => self.session.close(CloseReason::ClientClosed),
            Poll::Ready(Err(error)) => {
                let handshake = error.get_ref().and_then(|inner| inner.downcast_ref::<HandshakeError>());
                if let Some(why) = handshake {
                    self.talk.no_handshake(self.session.conn(), why);
                }
                let reason = handshake.map_or(CloseReason::ReadError, |_| CloseReason::TlsHandshakeError);
                self.session.close(reason);
            }
        }
    }

    /// Offers what was left of the input again.
    fn eat(&mut self, now: Instant) -> Next {
        let mut input = std::mem::take(&mut self.input);
        let next = input.again(|bytes| self.turn(now, |session, tick| session.handle_input(bytes, tick)));
        self.input = input;
        next
    }

    fn follow(&mut self, mut next: Next, now: Instant) {
        while next == Next::Verdict {
            self.settle(now);
            if self.verdict.is_some() {
                self.wait = Wait::Verdict;
                return;
            }
            next = self.eat(now);
        }
        if let Next::Stalled(until) = next {
            self.wait = Wait::Stalled(until);
        }
    }

    /// Sees to what the session has to say.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Authenticate(mut request) => {
                    if let Some(carrier) = &self.carrier {
                        carrier.complete(&mut request.credentials);
                    }
                    self.talk.asked(&request.credentials);
                    let setup = self.server.setup();
                    let caller = Caller {
                        peer: self.session.conn().peer(),
                        nonce: &request.nonce,
                        carrier: self.carrier.as_deref(),
                    };
                    match G::decide(&setup, &request.credentials, caller) {
                        Decision::Now(verdict) => self.take_up(verdict, &setup, now),
                        Decision::Later(verdict) => self.verdict = Some(Box::new(Pending { verdict, setup })),
                    }
                }
                Event::Connected => {
                    self.talk.welcomed();
                    G::connected(&self.server, self.session.conn());
                }
                Event::Leaf(news) => {
                    let conn = self.session.conn().clone();
                    G::leaf_news(&mut self.duty, &conn, news);
                }
                Event::Route(news) => {
                    let conn = self.session.conn().clone();
                    G::news(&mut self.duty, &self.server, &conn, news);
                }
                event => {
                    if let Event::Closed(_, error) = &event {
                        G::closed(&mut self.duty, error.as_ref());
                    }
                    self.talk.handle(event, self.session.conn());
                }
            }
        }
    }

    /// Lets the peer in, or does not.
    fn take_up(&mut self, verdict: Verdict, setup: &Arc<Setup>, now: Instant) {
        self.turn(now, |session, tick| session.handle_verdict(verdict, tick));
        follow_reload(&self.server, setup, &self.session);
    }

    /// Whether the connection has ended; if not, when to look again.
    fn finish(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let closed = self.session.conn().closed();
        if let Some(reason) = closed
            && !matches!(self.wait, Wait::End(_) | Wait::Shutdown(_))
        {
            self.session.close(reason);
            self.settle(now);
            self.input = Input::default();
            self.verdict = None;
            if let Some(carrier) = &self.carrier {
                carrier.end(reason);
            }
            self.wait = Wait::End(now + if reason.flushes() { LAST_WORDS } else { Duration::ZERO });
            // What the tick has not written yet.
            let mut worker = self.host.worker().lock();
            self.session.conn().flush(&mut worker, now);
            drop(worker);
            self.drain(now, cx);
        }
        match self.wait {
            Wait::End(until) => {
                let written = self.session.conn().pending() == 0 && self.outlet.is_drained();
                if written || now >= until {
                    self.wait = Wait::Shutdown(now + LAST_WORDS);
                    return self.finish(now, cx);
                }
                self.alarm.set(until, now, cx);
                Poll::Pending
            }
            Wait::Shutdown(until) => {
                // A peer that takes nothing any more does not keep its place here.
                if self.outlet.poll_shutdown(cx).is_pending() && now < until {
                    self.alarm.set(until, now, cx);
                    return Poll::Pending;
                }
                self.session.conn().note_end(now);
                Poll::Ready(())
            }
            Wait::Bytes | Wait::Verdict | Wait::Stalled(_) => {
                let timeout = self.session.poll_timeout();
                let at = if let Wait::Stalled(until) = self.wait { until.min(timeout) } else { timeout };
                self.alarm.set(at, now, cx);
                Poll::Pending
            }
        }
    }
}

/// Sees to it that a reload since `setup` holds for this connection, too: it may have looked for connections before
/// this one was there, or before it was known who the peer is.
fn follow_reload<G: Guest>(server: &Server, setup: &Arc<Setup>, session: &Session<G>) {
    let current = server.setup();
    if !Arc::ptr_eq(setup, &current) {
        G::follow_reload(session.conn(), &current);
    }
}

// Nothing in it is pinned in place.
impl<H: Host, I: Inlet, O: Outlet, G: Guest> Unpin for Connection<H, I, O, G> {}

impl<H: Host, I: Inlet, O: Outlet, G: Guest> Future for Connection<H, I, O, G> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.step(cx)
    }
}

impl<H: Host, I: Inlet, O: Outlet, G: Guest> Drop for Connection<H, I, O, G> {
    fn drop(&mut self) {
        // What the session has done elsewhere is taken back before anybody is told.
        self.session.close(CloseReason::ClientClosed);
        let conn = self.session.conn().clone();
        let how = self.talk.ended(&conn);
        G::ended(&mut self.duty, &self.server, &conn, how);
    }
}

#[cfg(test)]
mod tests;
