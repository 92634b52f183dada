//! The route role: what nats-server calls a ROUTER connection, to another server of the same cluster.
//!
//! Order and texts are those of nats-server 2.15.1 (`server/route.go`).

use std::sync::Arc;

use midge_wire::json::{Credentials, PeerConnect, PeerInfo};
use midge_wire::{Decoder, Interest, PeerOp, Pub, RouteGrammar, Routed, encode, subject};

use super::{Flow, Role, sealed};
use crate::cluster::{Candidate, Cluster, Opening};
use crate::conn::{Direction, Sent};
use crate::deliver::{Delivery, Groups, Train};
use crate::interest::MatchSet;
use crate::remote::{Dialled, Remote, Scope};
use crate::session::Tick;
use crate::session::core::{Core, Memo};
use crate::session::event::{Event, RouteError, RouteNews, SessionError};

/// Protocol lines may be so many times as long as a client's (nats-server's `MAX_CONTROL_LINE_SIZE` for routes).
const LONGER_LINES: usize = 16;

/// A connection that this server makes to another one.
#[derive(Clone, Default)]
pub struct Dial {
    /// What it is for.
    pub opening: Opening,
    /// Who this server says that it is; empty for nobody.
    pub credentials: Credentials,
    /// How it came to be dialled.
    pub why: Option<Dialled>,
    /// Whether the other server wants TLS, and has it.
    pub tls: bool,
    /// How the other server is to spread the news of this one (`gossip_mode` in INFO).
    pub gossip_mode: u64,
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dial").field("opening", &self.opening).finish_non_exhaustive()
    }
}

/// A route's side of the talk.
#[derive(Debug)]
pub struct Route {
    /// How the connection was made, if from this side.
    dial: Option<Box<Dial>>,
    /// What the peer said in its CONNECT.
    hello: Option<Box<PeerConnect>>,
    /// The connection, once it is one to another member.
    remote: Option<Arc<Remote>>,
}

impl Route {
    pub(crate) fn new(dial: Option<Dial>) -> Self {
        Self { dial: dial.map(Box::new), hello: None, remote: None }
    }
}

impl sealed::Sealed for Route {}

impl Role for Route {
    type Grammar = RouteGrammar;

    fn greet(&mut self, core: &mut Core, tick: &mut Tick<'_>) {
        let router = core.router.clone();
        let Some(cluster) = router.cluster() else { return };
        let Some(dial) = &self.dial else {
            let mut info = cluster.info(None, None);
            info.nonce = core.nonce.to_string();
            return send_info(core, &info, tick);
        };
        let (name, is_dynamic) = cluster.called();
        let connect = PeerConnect {
            echo: true,
            user: dial.credentials.user.clone(),
            pass: dial.credentials.pass.clone(),
            tls_required: dial.tls,
            headers: core.limits.headers,
            name: cluster.id().to_owned(),
            cluster: name,
            cluster_dynamic: is_dynamic,
            ..PeerConnect::default()
        };
        let mut line = Vec::new();
        encode::connect(&mut line, &connect.to_json());
        core.send(&line, tick);
    }

    fn limits(&self, core: &Core) -> midge_wire::Limits {
        midge_wire::Limits {
            max_control_line: core.limits.max_control_line * LONGER_LINES,
            // Another member may allow its clients more than this one; but no more than may wait for somebody.
            max_payload: core.limits.max_pending.min(midge_wire::Limits::NO_PAYLOAD_LIMIT),
            headers: true,
            names_account: self.remote.as_ref().is_none_or(|remote| remote.names_account),
            names_origin: false,
        }
    }

    fn on_op(&mut self, core: &mut Core, op: PeerOp<'_>, tick: &mut Tick<'_>) -> Result<Flow, SessionError> {
        if core.trace {
            trace(core, &op);
        }
        match op {
            PeerOp::Connect(json) => return self.connect(core, json),
            PeerOp::Info(json) => return self.info(core, json, tick),
            PeerOp::Wanted(interest) => self.wanted(core, &interest)?,
            PeerOp::Unwanted(interest) => self.unwanted(core, &interest),
            PeerOp::Msg(routed) => self.message(core, &routed, tick),
            PeerOp::Ping => core.send(encode::PONG, tick),
            PeerOp::Pong => super::pong(core, tick),
            PeerOp::Ok => {}
            PeerOp::Err(text) => {
                return Err(SessionError::Peer(String::from_utf8_lossy(text).into_owned()));
            }
        }
        Ok(Flow::Go)
    }

    #[inline(never)]
    fn on_messages(
        &mut self,
        core: &mut Core,
        decoder: &Decoder<RouteGrammar>,
        input: &[u8],
        tick: &mut Tick<'_>,
    ) -> usize {
        let Some(remote) = self.remote.as_deref().filter(|_| !core.trace) else { return 0 };
        let mut memo = core.take_memo();
        let mut train = Train::default();
        let (mut used, mut received, mut sent) = (0, Sent::default(), Sent::default());
        while let Some((routed, len)) = decoder.message_at_once(input.get(used..).unwrap_or_default()) {
            let message = routed.message;
            if is_stored(&message) {
                break;
            }
            let same = memo.take_if(|memo| memo.set.is_for(message.subject) && is_of(core, remote, &routed));
            let next = if let Some(memo) = same {
                tick.worker.counters.memo_hits += 1;
                memo
            } else {
                if let Some(last) = &memo {
                    sent += deliver_all(core, remote, &last.set, &mut train, tick);
                }
                // The look-up may want to use the old one again.
                drop(memo.take());
                if !is_of(core, remote, &routed) {
                    tick.worker.sent(core.account.index(), std::mem::take(&mut sent));
                    core.count_in(std::mem::take(&mut received));
                    core.settle_counts(tick, true);
                    if !enter(core, remote, routed.account) {
                        used += len;
                        continue;
                    }
                }
                Memo { set: tick.worker.matches(&core.account, message.subject, &core.router), always: true }
            };
            used += len;
            received.add(message.body().len());
            let set = &next.set;
            if Train::takes(&message) && set.is_one_each() {
                if !set.is_empty() {
                    train.push(message);
                }
                if train.is_full(set, core.limits.max_pending) {
                    sent += deliver_all(core, remote, set, &mut train, tick);
                }
            } else {
                sent += deliver_all(core, remote, set, &mut train, tick);
                sent += deliver_one(core, remote, set, &routed, tick);
            }
            memo = Some(next);
        }
        if let Some(last) = &memo {
            sent += deliver_all(core, remote, &last.set, &mut train, tick);
        }
        core.remember(memo);
        tick.worker.sent(core.account.index(), sent);
        core.count_in(received);
        used
    }

    fn on_welcome(&mut self, core: &mut Core, _: &mut Tick<'_>) -> Result<(), SessionError> {
        let Some(hello) = &self.hello else { return Err(SessionError::Authorization) };
        if !hello.lang.is_empty() {
            return Err(RouteError::WrongPort.into());
        }
        if !hello.gateway.is_empty() {
            return Err(RouteError::Gateway(hello.gateway.clone()).into());
        }
        let router = core.router.clone();
        if let Some(cluster) = router.cluster() {
            cluster.agree(&hello.cluster, hello.cluster_dynamic)?;
        }
        core.emit(Event::Connected);
        Ok(())
    }

    fn on_end(&mut self, core: &mut Core) {
        let Some(remote) = self.remote.take() else { return };
        let router = core.router.clone();
        router.part(&remote);
        if let Some(cluster) = router.cluster() {
            cluster.leave(&router, &remote);
        }
    }

    fn ping_interval(&self, core: &Core) -> std::time::Duration {
        core.ping_interval().min(super::PEER_PING)
    }
}

impl Route {
    fn connect(&mut self, core: &mut Core, json: &[u8]) -> Result<Flow, SessionError> {
        if self.hello.is_some() || self.dial.is_some() {
            // Nothing that it says now could change who it is.
            return Ok(Flow::Go);
        }
        let hello = PeerConnect::from_json(json).map_err(|error| SessionError::Connect(error.to_string()))?;
        let credentials =
            Credentials { user: hello.user.clone(), pass: hello.pass.clone(), ..Credentials::default() };
        self.hello = Some(Box::new(PeerConnect { pass: String::new(), ..hello }));
        core.ask(credentials);
        Ok(Flow::Verdict)
    }

    fn info(&mut self, core: &mut Core, json: &[u8], tick: &mut Tick<'_>) -> Result<Flow, SessionError> {
        let info = PeerInfo::from_json(json).map_err(|error| SessionError::Info(error.to_string()))?;
        // News of gateways, which are nobody here.
        if !info.gateway.is_empty() && info.host.is_empty() {
            return Ok(Flow::Go);
        }
        let router = core.router.clone();
        let Some(cluster) = router.cluster() else { return Ok(Flow::Go) };
        match &self.remote {
            None => self.register(core, cluster, &info, tick).map(|()| Flow::Limits),
            Some(remote) if *info.server_id == *remote.peer.id => {
                cluster.update(&info);
                core.emit(Event::Route(RouteNews::Changed));
                Ok(Flow::Go)
            }
            Some(_) => {
                core.emit(Event::Route(RouteNews::Heard(Box::new(info))));
                Ok(Flow::Go)
            }
        }
    }

    fn register(
        &mut self,
        core: &mut Core,
        cluster: &Cluster,
        info: &PeerInfo,
        tick: &mut Tick<'_>,
    ) -> Result<(), SessionError> {
        // An INFO need not say it, and then the CONNECT has said it.
        if !info.cluster.is_empty() {
            cluster.agree(&info.cluster, info.cluster_dynamic)?;
        }
        let opening = self.dial.as_ref().map(|dial| &dial.opening);
        let dialled = self.dial.as_ref().map(|dial| dial.why.unwrap_or(Dialled::Heard));
        let candidate = Candidate { conn: &core.conn, info, opening, dialled };
        let joined = cluster.register(&core.router, &candidate)?;
        self.remote = Some(joined.remote.clone());
        core.timers.auth = None;
        core.conn.lock().headers = info.headers;
        if let Some(dial) = &self.dial {
            let mut ours = cluster.info(Some(&dial.opening), Some(info));
            ours.gossip_mode = dial.gossip_mode;
            send_info(core, &ours, tick);
            // Whoever was dialled may wait for it before it takes the next connection.
            if !joined.open.is_empty() {
                core.send(encode::PING, tick);
            }
        }
        let spread = tick.worker.random_below(1024) as u32;
        core.timers.begin(tick.now, self.ping_interval(core), super::FIRST_PEER_PING, spread);
        core.router.introduce(&joined.remote);
        if joined.is_new {
            let news = introduction(core, info);
            for other in &joined.tell {
                other.append_json_info(&news, tick.worker);
            }
        }
        core.emit(Event::Route(RouteNews::Joined {
            id: info.server_id.clone(),
            name: info.server_name.clone(),
            open: joined.open,
        }));
        Ok(())
    }

    fn wanted(&self, core: &Core, interest: &Interest<'_>) -> Result<(), SessionError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        if !subject::is_valid(interest.subject) {
            return Err(RouteError::Subject.into());
        }
        let Some(account) = account_of(core, remote, interest.account) else { return Ok(()) };
        if !remote.may_want(interest.subject) {
            return Ok(());
        }
        if remote.subs.lock().bytes() > core.limits.max_interest {
            return Err(RouteError::TooMuchInterest.into());
        }
        core.router.want(remote, &account, interest);
        Ok(())
    }

    fn unwanted(&self, core: &Core, interest: &Interest<'_>) {
        let Some(remote) = &self.remote else { return };
        if let Some(account) = account_of(core, remote, interest.account) {
            core.router.unwant(remote, &account, interest);
        }
    }

    fn message(&self, core: &mut Core, routed: &Routed<'_>, tick: &mut Tick<'_>) {
        let Some(remote) = &self.remote else { return };
        if !is_of(core, remote, routed) {
            core.settle_counts(tick, true);
            core.remember(None);
            if !enter(core, remote, routed.account) {
                return;
            }
        }
        let memo = core.take_memo().filter(|memo| memo.set.is_for(routed.message.subject));
        let memo = memo.unwrap_or_else(|| Memo {
            set: tick.worker.matches(&core.account, routed.message.subject, &core.router),
            always: true,
        });
        core.count_in(Sent { msgs: 1, bytes: routed.message.body().len() as u64 });
        let sent = deliver_one(core, remote, &memo.set, routed, tick);
        tick.worker.sent(core.account.index(), sent);
        core.remember(Some(memo));
    }
}

/// Whether a message is one from a stream, which clients see otherwise than servers.
fn is_stored(message: &Pub<'_>) -> bool {
    message.reply.starts_with(b"$JS.ACK.")
}

/// The account that an operation is about.
fn account_of(core: &Core, remote: &Remote, name: &[u8]) -> Option<Arc<crate::Account>> {
    if let Scope::One(index) = remote.scope {
        return core.router.account_at(index);
    }
    if core.account.name().as_bytes() == name {
        return Some(core.account.clone());
    }
    core.router.account(std::str::from_utf8(name).ok()?)
}

/// Whether a message is of the account that the session is in.
#[inline]
fn is_of(core: &Core, remote: &Remote, routed: &Routed<'_>) -> bool {
    match remote.scope {
        Scope::One(index) => core.account.index() == index,
        _ => core.account.name().as_bytes() == routed.account,
    }
}

/// Goes to the account of the next message; whether there is one.
fn enter(core: &mut Core, remote: &Remote, name: &[u8]) -> bool {
    let account = account_of(core, remote, name);
    account.map(|account| core.account = account).is_some()
}

fn delivery<'a>(core: &'a Core, remote: &'a Remote, now: std::time::Instant) -> Delivery<'a> {
    Delivery { behind: Some(&remote.peer), ..core.delivery(false, now) }
}

fn deliver_all(
    core: &Core,
    remote: &Remote,
    set: &MatchSet,
    train: &mut Train<'_>,
    tick: &mut Tick<'_>,
) -> Sent {
    let sent = delivery(core, remote, tick.now).run_all(train, set, tick.worker);
    train.clear();
    core.router.settle(tick.worker);
    sent
}

fn deliver_one(
    core: &Core,
    remote: &Remote,
    set: &MatchSet,
    routed: &Routed<'_>,
    tick: &mut Tick<'_>,
) -> Sent {
    let groups = Groups::Listed(routed.queues);
    let sent = delivery(core, remote, tick.now).run(&routed.message, groups, set, tick.worker);
    core.router.settle(tick.worker);
    sent
}

fn send_info(core: &Core, info: &PeerInfo, tick: &mut Tick<'_>) {
    core.conn.append_json_info(&info.to_json(), tick.worker);
}

/// What others are told of a new member: what it said, and where it is.
fn introduction(core: &Core, info: &PeerInfo) -> Vec<u8> {
    let mut news = PeerInfo { nonce: String::new(), ..info.clone() };
    if news.ip.is_empty() {
        let peer = core.conn.peer();
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        news.ip = format!("nats-route://{host}:{}/", news.port);
    }
    (news.route_pool_idx, news.route_account) = (0, String::new());
    news.to_json()
}

fn trace(core: &Core, op: &PeerOp<'_>) {
    match op {
        PeerOp::Connect(json) => core.trace(Direction::In, "CONNECT", json),
        PeerOp::Info(json) => core.trace(Direction::In, "INFO", json),
        PeerOp::Wanted(interest) => {
            let weight = interest.weight.to_string();
            let weight: &[u8] = if interest.queue.is_empty() { b"" } else { weight.as_bytes() };
            let words = [interest.origin, interest.account, interest.subject, interest.queue, weight];
            core.trace(Direction::In, "RS+", &super::join(&words));
        }
        PeerOp::Unwanted(interest) => {
            let words = [interest.origin, interest.account, interest.subject, interest.queue];
            core.trace(Direction::In, "RS-", &super::join(&words));
        }
        PeerOp::Msg(routed) => {
            let m = &routed.message;
            let mut words = vec![routed.account, m.subject];
            if !routed.queues.is_empty() {
                words.push(if m.reply.is_empty() { b"|" } else { b"+" });
            }
            words.push(m.reply);
            words.extend(routed.queues.iter());
            words.extend([m.header_digits, m.size_digits]);
            let op = if m.header_len.is_some() { "HMSG" } else { "RMSG" };
            core.trace(Direction::In, op, &super::join(&words));
            core.trace(Direction::In, "MSG_PAYLOAD", m.body());
        }
        PeerOp::Ping => core.trace(Direction::In, "PING", b""),
        PeerOp::Pong => core.trace(Direction::In, "PONG", b""),
        PeerOp::Ok | PeerOp::Err(_) => {}
    }
}
