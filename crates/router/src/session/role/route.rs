//! The route role: what nats-server calls a ROUTER connection, to another server of the same cluster.
//!
//! Order and texts are those of nats-server 2.15.1 (`server/route.go`).

use std::net::IpAddr;
use std::sync::Arc;

use midge_wire::json::{Credentials, PeerConnect, PeerInfo};
use midge_wire::{Decoder, Interest, PeerOp, RouteGrammar, encode};

use super::{Flow, Role, peer, sealed};
use crate::cluster::{Candidate, Cluster, Opening};
use crate::interest::is_subject;
use crate::remote::{Dialled, Remote};
use crate::session::Tick;
use crate::session::core::Core;
use crate::session::event::{Event, RouteError, RouteNews, SessionError};

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
            let mut info = cluster.info(&core.conn, None, None);
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
        peer::limits(core, self.remote.as_deref())
    }

    fn on_op(&mut self, core: &mut Core, op: PeerOp<'_>, tick: &mut Tick<'_>) -> Result<Flow, SessionError> {
        if core.trace {
            peer::trace(core, &op);
        }
        match op {
            PeerOp::Connect(json) => return self.connect(core, json),
            PeerOp::Info(json) => return self.info(core, json, tick),
            PeerOp::Wanted(interest) => self.wanted(core, &interest)?,
            PeerOp::Unwanted(interest) => self.unwanted(core, &interest),
            PeerOp::Msg(routed) => {
                if let Some(remote) = &self.remote {
                    peer::message(core, remote, &routed, tick);
                }
            }
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
        peer::on_messages(core, remote, decoder, input, tick)
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
        core.ping_interval().min(peer::PING)
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
            let mut ours = cluster.info(&core.conn, Some(&dial.opening), Some(info));
            ours.gossip_mode = dial.gossip_mode;
            send_info(core, &ours, tick);
            // Whoever was dialled may wait for it before it takes the next connection.
            if !joined.open.is_empty() {
                core.send(encode::PING, tick);
            }
        }
        cluster.spread(&core.router, &info.server_id);
        let spread = tick.worker.random_below(1024) as u32;
        core.timers.begin(tick.now, self.ping_interval(core), peer::FIRST_PING, spread);
        core.router.introduce(&joined.remote);
        if joined.is_new
            && let Some(news) = introduction(core, info)
        {
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
        if !is_subject(interest.subject) {
            return Err(RouteError::Subject.into());
        }
        let Some(account) = peer::account_of(core, remote, interest.account) else { return Ok(()) };
        if !remote.may_want(interest.subject) {
            return Ok(());
        }
        if remote.bytes() > core.limits.max_interest {
            return Err(RouteError::TooMuchInterest.into());
        }
        core.router.want(remote, &account, interest);
        Ok(())
    }

    fn unwanted(&self, core: &Core, interest: &Interest<'_>) {
        let Some(remote) = &self.remote else { return };
        if let Some(account) = peer::account_of(core, remote, interest.account) {
            core.router.unwant(remote, &account, interest);
        }
    }
}

fn send_info(core: &Core, info: &PeerInfo, tick: &mut Tick<'_>) {
    core.conn.append_json_info(&info.to_json(), tick.worker);
}

/// What others are told of a new member: what it said, and where it is. Nothing, if it is nowhere that they can connect to.
fn introduction(core: &Core, info: &PeerInfo) -> Option<Vec<u8>> {
    let mut news = PeerInfo { nonce: String::new(), ..info.clone() };
    if news.ip.is_empty() {
        let peer = core.conn.peer();
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        let is_reached = news.port != 0 && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if core.conn.entrance().proven.is_some() && !is_reached {
            return None;
        }
        news.ip = format!("nats-route://{host}:{}/", news.port);
    }
    (news.route_pool_idx, news.route_account) = (0, String::new());
    Some(news.to_json())
}
