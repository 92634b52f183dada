//! The cluster that this server is a member of: who else is, and by which connections.
//!
//! The rules are those of nats-server's `server/route.go`: a server is known by its id, whoever registers first stays,
//! and each pair of servers has a connection for each place in the pool and for each account that has one of its own.

use std::collections::HashMap;
use std::sync::Arc;

use midge_wire::json::PeerInfo;

use crate::conn::{Conn, Kind};
use crate::permissions::{Permissions, SubjectRules};
use crate::remote::{Dialled, Filter, Lane, Lanes, Manner, NewRemote, Peer, Remote, Scope};
use crate::router::Router;
use crate::session::event::RouteError;
use crate::snapshot::SubSnapshot;
use crate::sync::Mutex;
use crate::worker::Worker;

/// The name that nobody may give a cluster (nats-server 2.15).
const RESERVED: &str = "_";

/// How a server is a member of a cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterSettings {
    /// The cluster's name; without one it is made up, and gives way to another member's.
    pub name: Option<String>,
    /// What other servers are told, without what differs by connection.
    pub info: PeerInfo,
    /// Connections to each other server, those left out that serve one account; zero for one that serves all.
    pub pool_size: u32,
    /// Accounts that have a connection of their own to each other server. The system account always has, where there
    /// is a pool.
    pub dedicated: Vec<String>,
    /// What this server lets others know that it wants, of subjects; `None` is everything.
    pub import: Option<SubjectRules>,
    /// What it takes others to want, of subjects; `None` is everything.
    pub export: Option<SubjectRules>,
}

/// What a connection that this server makes to another one is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The place in the pool.
    pub slot: u32,
    /// The account that it is for alone.
    pub account: Option<String>,
}

/// A cluster, as one of its members knows it.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    import: Option<Arc<Permissions>>,
    export: Option<Arc<Permissions>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    is_dynamic: bool,
    members: HashMap<String, Member>,
    /// What is told of where clients may connect.
    connect_urls: Vec<String>,
    ws_connect_urls: Vec<String>,
    /// Where leafnodes may connect to this server.
    leafnode_urls: Vec<String>,
    /// The port that is listened on, once it is known.
    port: Option<u16>,
}

/// Another member.
#[derive(Debug)]
struct Member {
    peer: Arc<Peer>,
    info: PeerInfo,
    /// By place in the pool.
    slots: Vec<Option<Arc<Remote>>>,
    /// By name of the account.
    dedicated: HashMap<String, Arc<Remote>>,
    /// How many places there will be.
    places: u32,
    /// When each place was last taken, in publishers: see [`Lane::since`].
    since: Vec<u64>,
}

/// A connection to another member, for those who look on.
#[derive(Debug, Clone)]
pub struct RouteSnapshot {
    /// The member's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The connection.
    pub conn: Arc<Conn>,
    /// The account that it is for alone.
    pub account: Option<String>,
    /// How it was made, if from this side.
    pub dialled: Option<Dialled>,
    /// How much is wanted behind it.
    pub subscription_count: usize,
    /// What is wanted behind it, if that was asked for.
    pub subscriptions: Vec<SubSnapshot>,
}

/// A connection that has become one to another member.
pub(crate) struct Joined {
    pub(crate) remote: Arc<Remote>,
    /// Whether it is the first to that member.
    pub(crate) is_new: bool,
    /// Connections that are to be made by whoever made this one.
    pub(crate) open: Vec<Opening>,
    /// Members that must be told of this one.
    pub(crate) tell: Vec<Arc<Conn>>,
}

/// What a connection is known by before it is registered.
pub(crate) struct Candidate<'a> {
    pub(crate) conn: &'a Arc<Conn>,
    pub(crate) info: &'a PeerInfo,
    /// What it is for, if this server made it.
    pub(crate) opening: Option<&'a Opening>,
    /// How it was made, if from this side.
    pub(crate) dialled: Option<Dialled>,
}

/// The places of another server's pool, no more than make sense: each costs memory.
fn pool_of(info: &PeerInfo) -> u32 {
    u32::try_from(info.route_pool_size).unwrap_or(0).min(MOST_SLOTS)
}

impl Cluster {
    pub(crate) fn new(settings: ClusterSettings) -> Self {
        let name = settings.name.clone().unwrap_or_else(|| settings.info.server_id.clone());
        let (connect_urls, ws_connect_urls) =
            (settings.info.connect_urls.clone(), settings.info.ws_connect_urls.clone());
        let state = State {
            is_dynamic: settings.name.is_none(),
            name,
            members: HashMap::new(),
            connect_urls,
            ws_connect_urls,
            leafnode_urls: Vec::new(),
            port: None,
        };
        let rules = |rules: &Option<SubjectRules>| {
            rules.clone().map(|rules| Arc::new(Permissions::to_publish(rules)))
        };
        let (import, export) = (rules(&settings.import), rules(&settings.export));
        Self { settings, import, export, state: Mutex::new(state) }
    }

    /// This server's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.settings.info.server_id
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.state.lock().name.clone()
    }

    /// How many other members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.state.lock().members.len()
    }

    /// The connections to other members, and what is wanted behind each if that is asked for.
    #[must_use]
    pub fn routes(&self, router: &Router, subscriptions: bool) -> Vec<RouteSnapshot> {
        let state = self.state.lock();
        let snapshot = |member: &Member, remote: &Remote, account: Option<&String>| {
            let (subscription_count, subscriptions) = router.wanted_behind(remote, subscriptions);
            RouteSnapshot {
                id: member.info.server_id.clone(),
                name: member.info.server_name.clone(),
                conn: remote.conn.clone(),
                account: account.cloned(),
                dialled: remote.dialled,
                subscription_count,
                subscriptions,
            }
        };
        let routes = state.members.values().flat_map(|member| {
            let pooled = member.slots.iter().flatten().map(move |remote| snapshot(member, remote, None));
            pooled.chain(
                member.dedicated.iter().map(move |(name, remote)| snapshot(member, remote, Some(name))),
            )
        });
        routes.collect()
    }

    /// How many connections to other members there are.
    #[must_use]
    pub fn route_count(&self) -> usize {
        let count = |member: &Member| member.slots.iter().flatten().count() + member.dedicated.len();
        self.state.lock().members.values().map(count).sum()
    }

    /// The port that is listened on for other members.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.state.lock().port.unwrap_or(self.settings.info.port)
    }

    /// Whether there is that connection to the member of that id.
    #[must_use]
    pub fn has(&self, id: &str, opening: &Opening) -> bool {
        let state = self.state.lock();
        state.members.get(id).is_some_and(|member| match &opening.account {
            Some(account) => member.dedicated.contains_key(account),
            None => member.slots.get(opening.slot as usize).is_some_and(Option::is_some),
        })
    }

    /// Whether that member is there.
    #[must_use]
    pub fn is_member(&self, id: &str) -> bool {
        self.state.lock().members.contains_key(id)
    }

    /// Where clients may connect: to the other members that are not about to leave.
    #[must_use]
    pub fn client_urls(&self) -> (Vec<String>, Vec<String>) {
        let state = self.state.lock();
        let staying =
            || state.members.values().map(|member| &member.info).filter(|info| !info.lame_duck_mode);
        let plain = staying().flat_map(|info| info.connect_urls.iter().cloned()).collect();
        let websocket = staying().flat_map(|info| info.ws_connect_urls.iter().cloned()).collect();
        (plain, websocket)
    }

    /// Says where leafnodes may connect to this server.
    pub fn set_leafnode_urls(&self, urls: Vec<String>) {
        self.state.lock().leafnode_urls = urls;
    }

    /// Where leafnodes may connect to the other members.
    #[must_use]
    pub fn leafnode_urls(&self) -> Vec<String> {
        let state = self.state.lock();
        let all = state.members.values().filter_map(|member| member.info.leafnode_urls.clone());
        all.flatten().collect()
    }

    /// Says where clients may connect to this server.
    pub fn set_connect_urls(&self, plain: Vec<String>, websocket: Vec<String>) {
        let mut state = self.state.lock();
        (state.connect_urls, state.ws_connect_urls) = (plain, websocket);
    }

    /// What other members are told of this server, before it is clear what a connection is for.
    #[must_use]
    pub fn greeting(&self) -> PeerInfo {
        self.pooled_info(self.settings.pool_size, None, None)
    }

    /// The INFO for another member on a connection that may have been made for something.
    pub(crate) fn info(&self, conn: &Conn, opening: Option<&Opening>, theirs: Option<&PeerInfo>) -> PeerInfo {
        self.pooled_info(self.pool_of(conn), opening, theirs)
    }

    fn pooled_info(&self, pool: u32, opening: Option<&Opening>, theirs: Option<&PeerInfo>) -> PeerInfo {
        let state = self.state.lock();
        let mut info = PeerInfo {
            cluster: state.name.clone(),
            cluster_dynamic: state.is_dynamic,
            connect_urls: state.connect_urls.clone(),
            ws_connect_urls: state.ws_connect_urls.clone(),
            port: state.port.unwrap_or(self.settings.info.port),
            leafnode_urls: Some(state.leafnode_urls.clone()).filter(|urls| !urls.is_empty()),
            // What leafnodes want and send is told apart.
            lnoc: true,
            lnocu: true,
            ..self.settings.info.clone()
        };
        drop(state);
        // Whoever made the connection knows whether the other one has a pool.
        if pool > 0 && theirs.is_none_or(|theirs| theirs.route_pool_size > 0) {
            info.route_pool_size = i64::from(pool);
            info.pool_by_publisher = true;
        }
        if let Some(opening) = opening {
            info.route_pool_idx = i64::from(opening.slot);
            info.route_account = opening.account.clone().unwrap_or_default();
        }
        info
    }

    /// The cluster's name and whether it is made up, for a CONNECT.
    pub(crate) fn called(&self) -> (String, bool) {
        let state = self.state.lock();
        (state.name.clone(), state.is_dynamic)
    }

    /// Takes up the name of the other's cluster, or says why the two cannot be one.
    pub(crate) fn agree(&self, theirs: &str, is_dynamic: bool) -> Result<(), RouteError> {
        let mut state = self.state.lock();
        if theirs == RESERVED {
            return Err(RouteError::ReservedName);
        }
        if theirs.is_empty() {
            return Err(RouteError::ClusterName { theirs: String::new(), ours: state.name.clone() });
        }
        if theirs == state.name {
            // Once somebody says it on purpose, it is no made-up name any more.
            state.is_dynamic &= is_dynamic;
            return Ok(());
        }
        let gives_way = state.is_dynamic && (!is_dynamic || *theirs > *state.name);
        if gives_way {
            let ours = std::mem::replace(&mut state.name, theirs.to_owned());
            state.is_dynamic = is_dynamic;
            // Those who know the cluster by the other name come again, and give way, too.
            for conn in state.members.values().flat_map(Member::all) {
                conn.doom(RouteError::ClusterName { theirs: ours.clone(), ours: theirs.to_owned() }.into());
            }
            return Ok(());
        }
        Err(RouteError::ClusterName { theirs: theirs.to_owned(), ours: state.name.clone() })
    }

    /// The accounts that have connections of their own to a member with a pool.
    fn dedicated(&self, router: &Router) -> Arc<[Box<str>]> {
        let system = router.system_account();
        let named = self.settings.dedicated.iter().map(|name| name.clone().into());
        std::iter::once((&**system.name()).into()).chain(named).collect()
    }

    /// What a connection is for, by what both said.
    fn scope(&self, router: &Router, candidate: &Candidate<'_>) -> Result<(Scope, Opening), RouteError> {
        let Candidate { info, opening, .. } = candidate;
        let (ours, theirs) = (self.pool_of(candidate.conn), pool_of(info));
        let mut opening = opening.map_or_else(
            || Opening {
                slot: u32::try_from(info.route_pool_idx).unwrap_or(0),
                account: Some(info.route_account.clone()).filter(|name| !name.is_empty()),
            },
            Clone::clone,
        );
        let dedicated = self.dedicated(router);
        if let Some(name) = &opening.account {
            if ours == 0 || theirs == 0 {
                return Err(RouteError::NotDedicated(name.clone()));
            }
            let account = router.account(name).ok_or_else(|| RouteError::NoAccount(name.clone()))?;
            if !dedicated.iter().any(|other| **other == **name) {
                return Err(RouteError::NoRoute(name.clone()));
            }
            return Ok((Scope::One(account.index()), opening));
        }
        if ours == 0 || theirs == 0 {
            // Without a pool there is one place, whatever is said.
            opening.slot = 0;
            return Ok((Scope::AllBut(Arc::from([])), opening));
        }
        if opening.slot >= ours.max(theirs) {
            return Err(RouteError::PoolIndex { index: opening.slot, size: ours });
        }
        if info.pool_by_publisher {
            return Ok((Scope::AllBut(dedicated), opening));
        }
        Ok((Scope::Slot(opening.slot, ours, dedicated), opening))
    }

    /// The places of this server's pool, for a connection: none, if the server at its other end has proven its id, for then
    /// it serves everything.
    fn pool_of(&self, conn: &Conn) -> u32 {
        if conn.entrance().proven.is_some() { 0 } else { self.settings.pool_size }
    }

    /// Whether the other server can be who it says that it is.
    fn check_identity(&self, candidate: &Candidate<'_>) -> Result<(), RouteError> {
        let Candidate { conn, info, opening, .. } = candidate;
        if info.server_id == self.settings.info.server_id {
            return Err(RouteError::ToItself);
        }
        if opening.is_none() && info.server_name == self.settings.info.server_name {
            return Err(RouteError::SameName(info.server_name.clone()));
        }
        match conn.entrance().proven.as_deref() {
            Some(proven) if *proven != *info.server_id => {
                Err(RouteError::NotProven { proven: proven.to_owned(), said: info.server_id.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Makes a connection one to another member. Nobody hears of interest by it yet.
    pub(crate) fn register(&self, router: &Router, candidate: &Candidate<'_>) -> Result<Joined, RouteError> {
        let Candidate { conn, info, opening, dialled } = candidate;
        self.check_identity(candidate)?;
        let proven = conn.entrance().proven.is_some();
        let (scope, place) = self.scope(router, candidate)?;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let is_new = !state.members.contains_key(&info.server_id);
        let others: Vec<Arc<Conn>> = if is_new && info.gossip_mode != 1 {
            state.members.values().filter_map(Member::any).collect()
        } else {
            Vec::new()
        };
        let member = state.members.entry(info.server_id.clone()).or_insert_with(|| Member {
            peer: Arc::new(Peer::new(&info.server_id)),
            info: PeerInfo::clone(info),
            slots: Vec::new(),
            dedicated: HashMap::new(),
            since: Vec::new(),
            places: self.settings.pool_size.max(pool_of(info)),
        });
        let duplicate = || RouteError::Duplicate(info.server_id.clone());
        if proven {
            // What carried it may be gone without this side having noticed; and who has proven nothing may be another.
            member.give_up(&info.server_id);
        }
        if place.account.as_ref().is_some_and(|name| member.dedicated.contains_key(name))
            || place.account.is_none() && member.slots.get(place.slot as usize).is_some_and(Option::is_some)
        {
            return Err(duplicate());
        }
        let remote = router.remotes().add(NewRemote {
            conn: (*conn).clone(),
            kind: Kind::Route,
            peer: member.peer.clone(),
            manner: Manner {
                names_account: place.account.is_none(),
                takes_origin: info.lnoc || info.ln,
                names_origin: info.lnocu || info.ln,
                isolated: false,
            },
            scope,
            origin: 0,
            filter: Filter {
                told: self.import.clone(),
                wanted: self.export.clone(),
                sent: self.export.clone(),
                received: None,
            },
            seed: router.seed(),
            dialled: *dialled,
        });
        match &place.account {
            Some(name) => {
                member.dedicated.insert(name.clone(), remote.clone());
            }
            None => {
                let at = place.slot as usize;
                if member.slots.len() <= at {
                    member.slots.resize(at + 1, None);
                    member.since.resize(at + 1, 0);
                }
                if let (Some(slot), Some(since)) = (member.slots.get_mut(at), member.since.get_mut(at)) {
                    (*slot, *since) = (Some(remote.clone()), router.next_publisher());
                }
            }
        }
        let open = match opening {
            Some(Opening { slot: 0, account: None }) if !proven => self.openings(router, info),
            _ => Vec::new(),
        };
        Ok(Joined { remote, is_new, open, tell: others })
    }

    /// Lets publishers use a member's connections, once what must come first on a new one is on its way.
    pub(crate) fn spread(&self, router: &Router, id: &str) {
        if let Some(member) = self.state.lock().members.get(id) {
            member.spread(router);
        }
    }

    /// The further connections that a member with a pool wants.
    fn openings(&self, router: &Router, info: &PeerInfo) -> Vec<Opening> {
        let (ours, theirs) = (self.settings.pool_size, pool_of(info));
        if ours == 0 || theirs == 0 {
            return Vec::new();
        }
        let slots = (1..ours.max(theirs)).map(|slot| Opening { slot, account: None });
        let dedicated = self.dedicated(router);
        let own = dedicated.iter().map(|name| Opening { slot: 0, account: Some(name.to_string()) });
        slots.chain(own).collect()
    }

    /// Takes up what a member says anew of itself.
    pub(crate) fn update(&self, info: &PeerInfo) {
        let mut state = self.state.lock();
        if let Some(member) = state.members.get_mut(&info.server_id) {
            member.info.lame_duck_mode = info.lame_duck_mode;
            member.info.connect_urls.clone_from(&info.connect_urls);
            member.info.ws_connect_urls.clone_from(&info.ws_connect_urls);
        }
    }

    /// Forgets a connection.
    pub(crate) fn leave(&self, router: &Router, remote: &Arc<Remote>) {
        let mut state = self.state.lock();
        let Some(member) = state.members.get_mut(&*remote.peer.id) else { return };
        for slot in &mut member.slots {
            if slot.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, remote)) {
                *slot = None;
            }
        }
        member.dedicated.retain(|_, kept| !Arc::ptr_eq(kept, remote));
        if member.slots.iter().all(Option::is_none) && member.dedicated.is_empty() {
            state.members.remove(&*remote.peer.id);
        } else {
            member.spread(router);
        }
    }

    /// Tells the other members that this server is about to leave, so that they send no clients here.
    pub fn tell_lame_duck(&self, worker: &mut Worker) {
        let info = PeerInfo { lame_duck_mode: true, ..self.greeting() }.to_json();
        let everybody: Vec<_> = self.state.lock().members.values().filter_map(Member::any).collect();
        for conn in everybody {
            conn.append_json_info(&info, worker);
        }
    }

    /// Says on which port this server listens for others.
    pub fn set_port(&self, port: u16) {
        self.state.lock().port = Some(port);
    }
}

/// Most connections that a member can make this server open.
const MOST_SLOTS: u32 = 64;

impl Member {
    /// A connection for what is not about accounts.
    fn any(&self) -> Option<Arc<Conn>> {
        let pooled = self.slots.iter().flatten().next();
        pooled.or_else(|| self.dedicated.values().next()).map(|remote| remote.conn.clone())
    }

    /// Ends all connections to it: there is a better one.
    fn give_up(&mut self, id: &str) {
        for old in self.slots.drain(..).flatten().chain(self.dedicated.drain().map(|(_, old)| old)) {
            old.conn.doom(RouteError::Duplicate(id.to_owned()).into());
        }
        self.since.clear();
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Conn>> {
        self.slots.iter().flatten().chain(self.dedicated.values()).map(|remote| &remote.conn)
    }

    /// Spreads publishers over the connections, where the member allows it.
    fn spread(&self, router: &Router) {
        if !self.info.pool_by_publisher {
            return;
        }
        let lane = |(slot, since): (&Option<Arc<Remote>>, &u64)| {
            slot.as_ref().map(|remote| Lane { conn: remote.conn.clone(), since: *since })
        };
        let mut lanes: Vec<_> = self.slots.iter().zip(&self.since).map(lane).collect();
        // Which is whose must not depend on how many there are yet.
        lanes.resize_with(lanes.len().max(self.places as usize), || None);
        let any = lanes.iter().any(Option::is_some);
        self.peer.set_lanes(any.then(|| Arc::new(Lanes::new(lanes))));
        router.look_again_everywhere();
    }
}
