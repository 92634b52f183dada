//! The client role: what nats-server calls a CLIENT connection.
//!
//! Order of checks and texts are those of nats-server 2.15.1 (`server/client.go`).

use std::sync::Arc;
use std::time::Duration;

use midge_wire::json::Connect;
use midge_wire::{ClientGrammar, ClientOp, Decoder, Pub, Sub, Unsub, encode, subject};

use super::{Flow, Role, join, sealed};
use crate::conn::{Direction, Sent};
use crate::deliver::Train;
use crate::router::{NewSub, SubscribeError};
use crate::session::Tick;
use crate::session::core::{Core, Memo, Phase};
use crate::session::event::{Event, Refusal, SessionError};
use crate::subs::{Sid, Subscription};
use crate::sync::atomic::Ordering;

/// The first PING to a client comes after this, if the interval is longer (nats-server's `firstClientPingInterval`).
const FIRST_PING: Duration = Duration::from_secs(2);
/// The queue group that the original keeps for itself.
const SYSTEM_QUEUE: &[u8] = b"_sys_";
/// Prefixes of publish subjects that only servers use.
const SERVER_SUBJECTS: [&[u8]; 2] = [b"_GR_.", b"$GR."];
/// Prefix of publish subjects that only the system account may use.
const SYSTEM_SUBJECTS: &[u8] = b"$NRG.";
/// Prefixes of reply subjects that only servers use.
const SERVER_REPLIES: [&[u8]; 4] = [b"_R_.", b"$JS.ACK.", b"_GR_.", b"$GR."];

/// A client connection's side of the talk.
#[derive(Debug)]
pub struct Client {
    options: Options,
    /// What the last CONNECT said, secrets left out.
    hello: Option<Arc<Connect>>,
    /// Whether the first PONG has been sent.
    answered: bool,
}

/// What a CONNECT chose. Without one, the protocol's defaults hold, which are not those that clients choose.
#[derive(Debug, Clone, Copy)]
struct Options {
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
}

impl Client {
    pub(crate) const fn new() -> Self {
        let options =
            Options { verbose: true, pedantic: true, echo: true, headers: false, no_responders: false };
        Self { options, hello: None, answered: false }
    }
}

impl sealed::Sealed for Client {}

impl Role for Client {
    type Grammar = ClientGrammar;

    fn greet(&mut self, core: &mut Core, tick: &mut Tick<'_>) {
        let mut info = core.router.info_for(&core.conn);
        info.nonce = core.nonce.to_string();
        info.auth_required = core.conn.entrance().announces;
        core.conn.append_info(&info, tick.worker);
    }

    fn limits(&self, core: &Core) -> midge_wire::Limits {
        midge_wire::Limits {
            max_control_line: core.limits.max_control_line,
            max_payload: core.limits.max_payload,
            headers: self.options.headers,
            ..midge_wire::Limits::default()
        }
    }

    fn on_op(
        &mut self,
        core: &mut Core,
        op: ClientOp<'_>,
        tick: &mut Tick<'_>,
    ) -> Result<Flow, SessionError> {
        if core.trace && !matches!(op, ClientOp::Pub(_)) {
            trace(core, &op);
        }
        match op {
            ClientOp::Pub(message) => {
                let memo = core.take_memo().filter(|memo| memo.set.is_for(message.subject));
                let memo = memo.unwrap_or_else(|| look_up(core, message.subject, tick));
                self.publish(core, &message, &memo, tick);
                core.remember(Some(memo));
            }
            ClientOp::Sub(sub) => self.subscribe(core, &sub, tick),
            ClientOp::Unsub(unsub) => self.unsubscribe(core, &unsub, tick),
            ClientOp::Ping => self.ping(core, tick),
            ClientOp::Pong => super::pong(core, tick),
            ClientOp::Connect(json) => return self.connect(core, json, tick),
            ClientOp::Ok => {}
            ClientOp::Err(text) => {
                return Err(SessionError::Peer(String::from_utf8_lossy(text).into_owned()));
            }
            ClientOp::Info(json) => {
                midge_wire::json::Info::from_json(json)
                    .map_err(|error| SessionError::Info(error.to_string()))?;
            }
        }
        Ok(Flow::Go)
    }

    #[inline(never)]
    fn on_messages(
        &mut self,
        core: &mut Core,
        decoder: &Decoder<ClientGrammar>,
        input: &[u8],
        tick: &mut Tick<'_>,
    ) -> usize {
        let usual = !(self.options.verbose || self.options.pedantic || core.trace);
        let mut memo = core.take_memo();
        let mut train = Train::default();
        let (mut used, mut received, mut sent) = (0, Sent::default(), Sent::default());
        while let Some((message, len)) = decoder.message_at_once(input.get(used..).unwrap_or_default()) {
            let same = memo.take_if(|memo| memo.set.is_for(message.subject));
            let next = if let Some(memo) = same {
                tick.worker.counters.memo_hits += 1;
                memo
            } else {
                if !train.is_empty()
                    && let Some(last) = &memo
                {
                    sent += core.deliver_all(&last.set, &mut train, self.options.echo, tick);
                    if tick.worker.crowded.is_some() {
                        break;
                    }
                }
                // The look-up may want to use the old one again.
                drop(memo.take());
                look_up(core, message.subject, tick)
            };
            used += len;
            let set = &next.set;
            if usual && next.always && Train::takes(&message) {
                received.add(message.body().len());
                if !set.is_one_each() {
                    sent += core.deliver_one(set, &message, self.options.echo, tick);
                } else if !set.is_empty() {
                    train.push(message);
                }
                if train.is_full(set, core.limits.max_pending) {
                    sent += core.deliver_all(set, &mut train, self.options.echo, tick);
                }
            } else {
                sent += core.deliver_all(set, &mut train, self.options.echo, tick);
                self.publish(core, &message, &next, tick);
            }
            memo = Some(next);
            if tick.worker.crowded.is_some() || core.phase != Phase::Ready {
                break;
            }
        }
        if let Some(last) = &memo {
            sent += core.deliver_all(&last.set, &mut train, self.options.echo, tick);
        }
        core.remember(memo);
        tick.worker.sent(core.account.index(), sent);
        core.count_in(received);
        used
    }

    fn on_welcome(&mut self, core: &mut Core, tick: &mut Tick<'_>) -> Result<(), SessionError> {
        if self.hello.is_some() {
            return self.connected(core, tick);
        }
        // Somebody was let in who began with something else than a CONNECT. One that comes later is a further one.
        self.hello = Some(Arc::new(Connect::default()));
        core.emit(Event::Connected);
        Ok(())
    }
}

impl Client {
    fn connect(&mut self, core: &mut Core, json: &[u8], tick: &mut Tick<'_>) -> Result<Flow, SessionError> {
        let first = self.hello.is_none();
        let mut connect = self.hello.as_deref().cloned().unwrap_or_default();
        connect.update(json).map_err(|error| SessionError::Connect(error.to_string()))?;
        core.timers.auth = None;
        let spread = tick.worker.random_below(1024) as u32;
        let short = !core.limits.disable_short_first_ping;
        let soon = if short { FIRST_PING } else { Duration::MAX };
        core.timers.begin(tick.now, core.ping_interval(), soon, spread);
        let incoming = core.conn.incoming();
        if incoming.rtt.load(Ordering::Relaxed) == 0 {
            let since = tick.now.saturating_duration_since(core.conn.started()).as_nanos().max(1);
            incoming.rtt.store(since as u64, Ordering::Relaxed);
        }
        if !first {
            // The account may change, and with it what a subscription means.
            core.router.drop_subscriptions(&core.conn, &core.account);
        }
        self.options = Options {
            verbose: connect.verbose,
            pedantic: connect.pedantic,
            echo: connect.echo,
            headers: connect.headers && core.limits.headers,
            no_responders: connect.no_responders,
        };
        let credentials = connect.credentials.take().unwrap_or_default();
        let wants_account = connect.wants_account;
        self.hello = Some(Arc::new(connect));
        if wants_account {
            return Err(SessionError::Authorization);
        }
        // What was said of that the first time still holds, and has been found to be so.
        let again = !first && credentials.is_empty();
        if core.conn.entrance().asks && !again {
            core.ask(*credentials);
            return Ok(Flow::Verdict);
        }
        if again {
            core.conn.renew_grant();
        }
        self.connected(core, tick)?;
        Ok(Flow::Limits)
    }

    /// The rest of a CONNECT, once the peer is known.
    fn connected(&self, core: &mut Core, tick: &mut Tick<'_>) -> Result<(), SessionError> {
        let protocol = self.hello.as_ref().map_or(0, |hello| hello.protocol);
        if !(0..=1).contains(&protocol) {
            return Err(SessionError::Version);
        }
        if self.options.no_responders && !self.options.headers {
            return Err(SessionError::NoRespondersWithoutHeaders);
        }
        {
            let mut state = core.conn.lock();
            state.headers = self.options.headers;
            state.takes_info = protocol >= 1 && self.answered;
            state.hello = self.hello.clone();
        }
        core.emit(Event::Connected);
        if self.options.verbose {
            core.send(encode::OK, tick);
        }
        Ok(())
    }

    /// Publishes a message to these receivers, if the peer may.
    #[inline(never)]
    fn publish(&self, core: &mut Core, message: &Pub<'_>, to: &Memo, tick: &mut Tick<'_>) {
        if core.trace {
            trace(core, &ClientOp::Pub(*message));
        }
        core.count_in(Sent { msgs: 1, bytes: message.body().len() as u64 });
        if self.options.pedantic && !subject::is_valid_literal(message.subject) {
            core.refuse(Refusal::PublishSubject, tick);
        }
        if !to.always
            && (is_for_servers(core, message.subject) || !core.may_answer(message.subject, tick.now))
        {
            return core.refuse(Refusal::Publish(message.subject.to_vec()), tick);
        }
        if is_reserved_reply(message.reply) {
            return core.refuse(Refusal::Reply(message.reply.to_vec()), tick);
        }
        if self.options.verbose {
            core.send(encode::OK, tick);
        }
        let sent = core.deliver_one(&to.set, message, self.options.echo, tick);
        tick.worker.sent(core.account.index(), sent);
        if sent.msgs == 0 && self.options.no_responders && !message.reply.is_empty() {
            no_responders(core, message, tick);
        }
    }

    fn subscribe(&self, core: &mut Core, sub: &Sub<'_>, tick: &mut Tick<'_>) {
        let allowed = core.permissions.as_ref().is_none_or(|may| may.may_subscribe(sub.subject, sub.queue));
        if !allowed || sub.queue == SYSTEM_QUEUE {
            let refusal = Refusal::Subscribe(sub.subject.into(), sub.queue.into(), sub.sid.into());
            core.refuse(refusal, tick);
            return;
        }
        let most = core.limits.max_subscription_tokens;
        if most > 0 && subject::tokens(sub.subject).count() > most {
            core.refuse(Refusal::Tokens(sub.subject.to_vec()), tick);
            return;
        }
        let limit = core.limits.max_subscriptions;
        let new = NewSub { subject: sub.subject, queue: sub.queue, sid: sub.sid, limit };
        match core.router.subscribe(&core.conn, &core.account, &new) {
            Ok(()) if self.options.verbose => core.send(encode::OK, tick),
            Ok(()) | Err(SubscribeError::Closed) => {}
            Err(SubscribeError::Subject) => core.refuse(Refusal::Subject, tick),
            Err(SubscribeError::TooMany) => core.refuse(Refusal::TooMany, tick),
        }
    }

    fn unsubscribe(&self, core: &Core, unsub: &Unsub<'_>, tick: &mut Tick<'_>) {
        if self.options.verbose {
            core.send(encode::OK, tick);
        }
        if core.router.unsubscribe(&core.conn, &core.account, unsub.sid, unsub.max) && core.trace {
            core.trace(Direction::Within, "DELSUB", unsub.sid);
        }
    }

    fn ping(&mut self, core: &Core, tick: &mut Tick<'_>) {
        core.send(encode::PONG, tick);
        let Some(hello) = &self.hello else { return };
        if self.answered {
            return;
        }
        self.answered = true;
        if hello.protocol >= 1 {
            let mut info = core.router.info_for(&core.conn);
            info.connect_info = true;
            info.remote_account = core.account.name().to_string();
            info.acc_is_sys = core.account.is_system();
            core.conn.append_info(&info, tick.worker);
            core.conn.lock().takes_info = true;
        }
    }
}

/// The receivers of messages on `name`.
fn look_up(core: &Core, name: &[u8], tick: &mut Tick<'_>) -> Memo {
    let set = tick.worker.matches(&core.account, name, &core.router);
    let always = !is_for_servers(core, name) && core.always_may_publish(&set);
    Memo { set, always }
}

/// Whether only servers and the system account publish on `name`.
fn is_for_servers(core: &Core, name: &[u8]) -> bool {
    matches!(name.first(), Some(b'_' | b'$'))
        && (name.starts_with(SYSTEM_SUBJECTS) && !core.account.is_system() || begins(&SERVER_SUBJECTS, name))
}

#[inline(always)]
fn is_reserved_reply(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'_' | b'$')) && (begins(&SERVER_REPLIES, reply) || reply == b"_R_.")
}

fn begins(prefixes: &[&[u8]], name: &[u8]) -> bool {
    prefixes.iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
}

/// Tells a requester that nobody listens: an empty message with status 503 on its own reply subscription.
fn no_responders(core: &mut Core, message: &Pub<'_>, tick: &mut Tick<'_>) {
    let mut headers = Vec::with_capacity(40 + message.subject.len());
    encode::parts(&mut headers, &[b"NATS/1.0 503\r\nNats-Subject: ", message.subject, b"\r\n\r\n"]);
    let Some(sid) = sid_for(core, message.reply, tick) else { return };
    let mut line = Vec::with_capacity(headers.len() + 64);
    let to = encode::MsgTo { subject: message.reply, sid: sid.bytes(), reply: b"" };
    encode::msg(&mut line, to, &headers, b"");
    core.conn.append(line.len(), tick.worker, |room| room.extend_from_slice(&line));
}

/// The sid of one of the peer's own plain subscriptions that a message on `reply` is for.
fn sid_for(core: &Core, reply: &[u8], tick: &mut Tick<'_>) -> Option<Sid> {
    if core.permissions.as_ref().is_some_and(|permissions| permissions.filters()) {
        // What it may not be sent by others counts here, as in the original; it is not among what matches.
        let state = core.conn.lock();
        let own =
            |(subject, sub): &(&[u8], &Subscription)| sub.queue == 0 && subject::matches(subject, reply);
        return state.subs.iter().find(own).map(|(_, sub)| sub.sid.clone());
    }
    let set = tick.worker.matches(&core.account, reply, &core.router);
    let target = set.plain.iter().find(|target| target.conn.cid() == core.conn.cid())?;
    core.conn.lock().subs.get_mut(target.slot, target.serial).map(|sub| sub.sid.clone())
}

fn trace(core: &Core, op: &ClientOp<'_>) {
    match op {
        ClientOp::Connect(json) => core.trace(Direction::In, "CONNECT", json),
        ClientOp::Pub(m) => {
            let op = if m.header_len.is_some() { "HPUB" } else { "PUB" };
            core.trace(Direction::In, op, &join(&[m.subject, m.reply, m.header_digits, m.size_digits]));
            core.trace(Direction::In, "MSG_PAYLOAD", m.body());
        }
        ClientOp::Sub(s) => core.trace(Direction::In, "SUB", &join(&[s.subject, s.queue, s.sid])),
        ClientOp::Unsub(u) if u.max > 0 => {
            core.trace(Direction::In, "UNSUB", &join(&[u.sid, u.max.to_string().as_bytes()]));
        }
        ClientOp::Unsub(u) => core.trace(Direction::In, "UNSUB", u.sid),
        ClientOp::Ping => core.trace(Direction::In, "PING", b""),
        ClientOp::Pong => core.trace(Direction::In, "PONG", b""),
        ClientOp::Ok | ClientOp::Err(_) | ClientOp::Info(_) => {}
    }
}
