//! The leafnode role: what nats-server calls a LEAF connection, to a leafnode of this server or to its hub.
//!
//! Order and texts are those of nats-server 2.15.1 (`server/leafnode.go`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use midge_wire::json::{Connect, Credentials, PeerConnect, PeerInfo};
use midge_wire::{Decoder, Interest, LeafGrammar, PeerOp, encode};

use super::{Flow, Role, peer, sealed};
use crate::conn::Kind;
use crate::interest::is_subject;
use crate::leaves::{self, LeafName, LeafRules, Leaves, NewLeaf};
use crate::remote::{Dialled, Filter, Remote};
use crate::session::Tick;
use crate::session::core::Core;
use crate::session::event::{Event, LeafError, LeafNews, SessionError};

/// Time in which a hub must greet, and say that it takes the connection (nats-server's `DEFAULT_LEAFNODE_INFO_WAIT` and
/// `leafNodeWaitBeforeClose`).
const HUB_PATIENCE: Duration = Duration::from_secs(2);

/// Says who this server is to a hub, which may have given something to sign.
pub type Login = Arc<dyn Fn(&str) -> Credentials + Send + Sync>;

/// A connection that this server makes to a hub.
#[derive(Clone)]
pub struct LeafDial {
    /// What crosses it, and in which role.
    pub rules: LeafRules,
    /// Who this server is there.
    pub login: Login,
}

impl fmt::Debug for LeafDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafDial").finish_non_exhaustive()
    }
}

/// A leafnode connection's side of the talk.
#[derive(Debug)]
pub struct Leaf {
    /// How the connection was made, if from this side.
    dial: Option<Box<LeafDial>>,
    /// What the leafnode said in its CONNECT.
    hello: Option<Box<PeerConnect>>,
    /// What the hub said in its first INFO.
    hub: Option<Box<PeerInfo>>,
    /// The connection, once it is one.
    remote: Option<Arc<Remote>>,
}

impl Leaf {
    pub(crate) fn new(dial: Option<LeafDial>) -> Self {
        Self { dial: dial.map(Box::new), hello: None, hub: None, remote: None }
    }
}

impl sealed::Sealed for Leaf {}

impl Role for Leaf {
    type Grammar = LeafGrammar;

    fn greet(&mut self, core: &mut Core, tick: &mut Tick<'_>) {
        if self.dial.is_some() {
            core.timers.auth = Some(tick.now + HUB_PATIENCE);
            return;
        }
        if let Some(leaves) = core.router.clone().leaves() {
            let info = PeerInfo { nonce: core.nonce.to_string(), ..greeting(core, leaves) };
            send_info(core, &info, tick);
        }
    }

    fn limits(&self, core: &Core) -> midge_wire::Limits {
        let limits = peer::limits(core, self.remote.as_deref());
        midge_wire::Limits {
            max_payload: core.limits.max_payload,
            names_account: false,
            names_origin: false,
            ..limits
        }
    }

    fn on_op(&mut self, core: &mut Core, op: PeerOp<'_>, tick: &mut Tick<'_>) -> Result<Flow, SessionError> {
        if core.trace {
            peer::trace(core, &op);
        }
        match op {
            PeerOp::Connect(json) => return self.connect(core, json),
            PeerOp::Info(json) => self.info(core, json, tick)?,
            PeerOp::Wanted(interest) => self.wanted(core, &interest, tick)?,
            PeerOp::Unwanted(interest) => self.unwanted(core, &interest),
            PeerOp::Msg(routed) => {
                if let Some(remote) = self.remote.clone()
                    && !peer::message(core, &remote, &routed, tick)
                    && remote.kind() == Kind::Spoke
                {
                    return Err(LeafError::Publish(text(routed.message.subject)).into());
                }
            }
            PeerOp::Ping => core.send(encode::PONG, tick),
            PeerOp::Pong => super::pong(core, tick),
            PeerOp::Ok => {}
            // Unlike on a route, it is for the other side to close.
            PeerOp::Err(why) => core.emit(Event::Leaf(LeafNews::Told(text(why)))),
        }
        Ok(Flow::Go)
    }

    #[inline(never)]
    fn on_messages(
        &mut self,
        core: &mut Core,
        decoder: &Decoder<LeafGrammar>,
        input: &[u8],
        tick: &mut Tick<'_>,
    ) -> usize {
        let Some(remote) = self.remote.as_deref().filter(|_| !core.trace) else { return 0 };
        peer::on_messages(core, remote, decoder, input, tick)
    }

    fn on_welcome(&mut self, core: &mut Core, tick: &mut Tick<'_>) -> Result<(), SessionError> {
        let router = core.router.clone();
        let (Some(hello), Some(leaves)) = (self.hello.as_deref(), router.leaves()) else {
            return Err(SessionError::Authorization);
        };
        leaves.check(hello)?;
        let may = core.permissions.clone();
        let mut info = greeting(core, leaves);
        info.connect_info = true;
        info.remote_account = core.account.name().to_string();
        if let Some(may) = &may {
            info.import = leaves::to_lists(&may.rules().subscribe);
            info.export = leaves::to_lists(&may.rules().publish);
        }
        send_info(core, &info, tick);
        let filter = leaves::spoke_filter(&core.account, may.as_deref(), &hello.deny_pub);
        let who = LeafName {
            id: hello.server_id.clone(),
            name: hello.name.clone(),
            cluster: hello.cluster.clone(),
            account: hello.remote_account.clone(),
        };
        let kind = if hello.is_hub { Kind::Hub } else { Kind::Spoke };
        let isolated = hello.isolate || leaves.settings().isolated;
        {
            let mut state = core.conn.lock();
            state.headers = hello.headers && core.limits.headers;
            let (name, version) = (hello.name.as_str().into(), hello.version.as_str().into());
            state.hello = Some(Arc::new(Connect { name, version, ..Connect::default() }));
        }
        self.join(core, leaves, (kind, who), (filter, isolated), tick);
        core.emit(Event::Connected);
        Ok(())
    }

    fn on_end(&mut self, core: &mut Core) {
        let Some(remote) = self.remote.take() else { return };
        core.router.part(&remote);
        if let Some(leaves) = core.router.leaves() {
            leaves.leave(&remote);
        }
    }

    fn late(&self) -> SessionError {
        if self.dial.is_some() { LeafError::Silent.into() } else { SessionError::AuthTimeout }
    }
}

impl Leaf {
    fn connect(&mut self, core: &mut Core, json: &[u8]) -> Result<Flow, SessionError> {
        if self.hello.is_some() || self.dial.is_some() {
            // Nothing that it says now could change who it is.
            return Ok(Flow::Go);
        }
        let mut hello =
            PeerConnect::from_json(json).map_err(|error| SessionError::Connect(error.to_string()))?;
        let credentials = Credentials {
            user: hello.user.clone(),
            pass: std::mem::take(&mut hello.pass),
            auth_token: std::mem::take(&mut hello.auth_token),
            nkey: std::mem::take(&mut hello.nkey),
            sig: std::mem::take(&mut hello.sig),
            jwt: std::mem::take(&mut hello.jwt),
        };
        self.hello = Some(Box::new(hello));
        core.ask(credentials);
        Ok(Flow::Verdict)
    }

    fn info(&mut self, core: &mut Core, json: &[u8], tick: &mut Tick<'_>) -> Result<(), SessionError> {
        let info = PeerInfo::from_json(json).map_err(|error| SessionError::Info(error.to_string()))?;
        // A leafnode's INFO is about compression alone, which is not the session's.
        let Some(dial) = self.dial.clone() else { return Ok(()) };
        if let Some(urls) = &info.leafnode_urls {
            core.emit(Event::Leaf(LeafNews::Urls(urls.clone())));
        }
        let router = core.router.clone();
        let Some(leaves) = router.leaves() else { return Ok(()) };
        if self.hub.is_none() {
            if info.client_id == 0 || info.leafnode_urls.is_none() {
                return Err(LeafError::NoHub.into());
            }
            let connect = introduction(core, leaves, &dial, &info);
            let mut line = Vec::new();
            encode::connect(&mut line, &connect.to_json());
            core.send(&line, tick);
            let waits = info.info_on_connect;
            self.hub = Some(Box::new(info));
            if waits {
                core.timers.auth = Some(tick.now + HUB_PATIENCE);
                return Ok(());
            }
        } else if !info.connect_info {
            return Ok(());
        } else {
            self.hub = Some(Box::new(info));
        }
        let Some(hub) = self.hub.as_deref().filter(|_| self.remote.is_none()) else { return Ok(()) };
        core.timers.auth = None;
        let filter = leaves::hub_filter(&core.account, &dial.rules, hub);
        let who = LeafName {
            id: hub.server_id.clone(),
            name: hub.server_name.clone(),
            cluster: String::new(),
            account: hub.remote_account.clone(),
        };
        let kind = if dial.rules.is_hub { Kind::Spoke } else { Kind::Hub };
        core.conn.lock().headers = hub.headers && core.limits.headers;
        self.join(core, leaves, (kind, who), (filter, dial.rules.isolated), tick);
        Ok(())
    }

    /// The connection is one to a leafnode or hub from now on.
    fn join(
        &mut self,
        core: &mut Core,
        leaves: &Leaves,
        (kind, who): (Kind, LeafName),
        (filter, isolated): (Filter, bool),
        tick: &mut Tick<'_>,
    ) {
        let (id, name) = (who.id.clone(), who.name.clone());
        let remote = leaves.register(
            &core.router,
            NewLeaf {
                conn: &core.conn,
                account: &core.account,
                kind,
                who,
                filter,
                isolated: isolated && kind == Kind::Spoke,
                dialled: self.dial.as_ref().map(|_| Dialled::Configured),
            },
        );
        self.remote = Some(remote.clone());
        let spread = tick.worker.random_below(1024) as u32;
        core.timers.begin(tick.now, core.ping_interval(), peer::FIRST_PING, spread);
        core.router.introduce(&remote);
        core.emit(Event::Leaf(LeafNews::Joined { id, name }));
    }

    fn wanted(
        &self,
        core: &mut Core,
        interest: &Interest<'_>,
        tick: &mut Tick<'_>,
    ) -> Result<(), SessionError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        if interest.subject == core.account.loop_subject() {
            return Err(LeafError::Loop(core.account.name().to_string()).into());
        }
        if !is_subject(interest.subject) {
            let mut line = Vec::new();
            encode::err(&mut line, "Invalid Subscription");
            core.send(&line, tick);
            return Ok(());
        }
        if !remote.may_want(interest.subject) {
            return match remote.kind() {
                Kind::Spoke => Err(LeafError::Subscription(text(interest.subject)).into()),
                _ => Ok(()),
            };
        }
        if remote.bytes() > core.limits.max_interest {
            return Err(LeafError::TooMuchInterest.into());
        }
        core.router.want(remote, &core.account, interest);
        Ok(())
    }

    fn unwanted(&self, core: &Core, interest: &Interest<'_>) {
        if let Some(remote) = &self.remote {
            core.router.unwant(remote, &core.account, interest);
        }
    }
}

/// What a leafnode is told first.
fn greeting(core: &Core, leaves: &Leaves) -> PeerInfo {
    PeerInfo {
        client_id: core.conn.cid(),
        auth_required: true,
        info_on_connect: true,
        tls_required: core.conn.entrance().tls_required,
        compression: core.conn.entrance().compression.to_owned(),
        cluster: core.router.cluster().map(crate::Cluster::name).unwrap_or_default(),
        ..leaves.info()
    }
}

/// What a hub is told.
fn introduction(core: &Core, leaves: &Leaves, dial: &LeafDial, hub: &PeerInfo) -> PeerConnect {
    let Credentials { user, pass, auth_token, nkey, sig, jwt } = (dial.login)(&hub.nonce);
    let info = &leaves.settings().info;
    PeerConnect {
        version: info.version.clone(),
        user,
        pass,
        auth_token,
        nkey,
        sig,
        jwt,
        tls_required: hub.tls_required,
        server_id: info.server_id.clone(),
        name: info.server_name.clone(),
        cluster: core
            .router
            .cluster()
            .map_or_else(|| leaves.settings().cluster.clone(), crate::Cluster::name),
        headers: core.limits.headers,
        is_hub: dial.rules.is_hub,
        isolate: dial.rules.isolated,
        deny_pub: dial.rules.deny_imports.clone(),
        compress_mode: "not supported".to_owned(),
        remote_account: core.account.name().to_string(),
        ..PeerConnect::default()
    }
}

fn send_info(core: &Core, info: &PeerInfo, tick: &mut Tick<'_>) {
    core.conn.append_json_info(&info.to_json(), tick.worker);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
