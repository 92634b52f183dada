//! One server: a router, who it is, and whether it is about to leave.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use midge_identity::{NkeyKind, PeerId};
use midge_link::LinkConfig;
use midge_router::local::Local;
use midge_router::{Account, CloseReason, Entrance, Kind, Owner, Router, Settings, Worker};
use midge_wire::json::Info;
use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::warn;

use crate::client::Client;
use crate::clock;
use crate::cluster::{self, Clustering};
use crate::drive::pipe;
use crate::inside::Inside;
use crate::leafnode;
use crate::mesh::{self, Member, Membership};
use crate::options::{Address, Options};
use crate::reload::OptionsSource;
use crate::setup::{Setup, SetupError};
use crate::system::System;

/// The version of nats-server whose protocol is spoken, as clients compare it.
pub const PROTOCOL_VERSION: &str = "2.15.1";
/// How long a stopping server waits for connections to take their last bytes.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A server without listeners or threads: connections are handed to it. [`Server::start`] gives it both.
pub struct Server {
    setup: RwLock<Arc<Setup>>,
    id: String,
    name: String,
    router: Arc<Router>,
    /// The worker of everything that runs outside the shards.
    driven: Arc<Mutex<Worker>>,
    /// When it was made, by the clock that runs and by the one on the wall.
    started: (Instant, Timestamp),
    /// When the options were last read.
    configured_at: RwLock<Timestamp>,
    /// Where new options come from.
    pub(crate) source: OnceLock<Box<dyn OptionsSource>>,
    /// Held while the options change.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    /// Where clients are listened for, once they are.
    address: RwLock<Option<std::net::SocketAddr>>,
    /// What publishes events in the system account, unless there shall be none.
    system: OnceLock<System>,
    /// What connects to the other servers of the cluster, if there is one.
    clustering: Option<Clustering>,
    /// Who this server is to other peers, if it has links to any.
    membership: Option<Member>,
    /// Where leafnodes are listened for, once they are.
    pub(crate) leafnode_address: RwLock<Option<std::net::SocketAddr>>,
    /// How often each of monitoring's paths was asked for.
    requests: Mutex<BTreeMap<&'static str, u64>>,
    stopping: AtomicBool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    /// A server with these options.
    ///
    /// # Errors
    /// The options do not go together, or a file that they name cannot be used.
    pub fn new(options: Options) -> Result<Arc<Self>, SetupError> {
        if !options.is_peer() && options.mesh.key.is_none() {
            return Self::with(options, None);
        }
        let key = match &options.mesh.key {
            Some(path) => mesh::read_or_make_key(path)?,
            None => {
                warn!("The peer's key was made for this run only: give it a file (mesh.key or --key)");
                mesh::new_key()?
            }
        };
        Self::with(options, Some(Membership { key, authorizer: None, links: LinkConfig::default() }))
    }

    /// A server with these options that others know by this key, whatever key the options name.
    ///
    /// # Errors
    /// The options do not go together, or a file that they name cannot be used.
    pub fn with_key(options: Options, membership: Membership) -> Result<Arc<Self>, SetupError> {
        Self::with(options, Some(membership))
    }

    fn with(options: Options, membership: Option<Membership>) -> Result<Arc<Self>, SetupError> {
        let membership = membership.map(|membership| Member::new(membership, &options.mesh));
        let key = membership.as_ref().map(|membership| membership.key.public().nkey(NkeyKind::Server));
        // In simulations, chance is given.
        let chance = membership.as_ref().and_then(Member::chance);
        let id = key.map_or_else(|| nkeys::KeyPair::new_server().public_key(), |key| key.to_string());
        let router = Router::new(Settings {
            info: first_info(&options, &id),
            limits: options.limits.clone(),
            entrance: Entrance::default(),
            seed: chance.unwrap_or_else(|| RandomState::new().hash_one(&id)),
            max_ended: options.monitor.max_closed_clients,
            cluster: cluster::settings(&options, &id),
            leaves: leafnode::settings(&options, &id),
        });
        if let Some(system) = &options.accounts.system {
            router.set_system_account(&router.add_account(system));
        }
        let name = options.name.clone().unwrap_or_else(|| id.clone());
        let setup = Setup::new(options, &router)?;
        router.set_entrance(setup.entrance());
        let clustering = router.cluster().map(|_| Clustering::new());
        let server = Arc::new(Self {
            driven: router.worker(),
            setup: RwLock::new(Arc::new(setup)),
            id,
            name,
            router,
            started: (clock::now(), Timestamp::now()),
            configured_at: RwLock::new(Timestamp::now()),
            source: OnceLock::new(),
            reloading: tokio::sync::Mutex::new(()),
            address: RwLock::new(None),
            system: OnceLock::new(),
            clustering,
            membership,
            leafnode_address: RwLock::default(),
            requests: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        if !server.setup().options.accounts.no_system {
            let seed = RandomState::new().hash_one(server.id());
            // Only set here.
            let _ = server.system.set(System::join(&server, seed));
        }
        Ok(server)
    }

    /// What publishes events in the system account, if anything does.
    pub(crate) fn system(&self) -> Option<&System> {
        self.system.get()
    }

    pub(crate) const fn clustering(&self) -> Option<&Clustering> {
        self.clustering.as_ref()
    }

    pub(crate) const fn membership(&self) -> Option<&Member> {
        self.membership.as_ref()
    }

    /// What other peers call this server, if it has a key of its own.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        self.membership.as_ref().map(|membership| membership.key.peer_id())
    }

    /// What is made from the options in force.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        self.setup.read().clone()
    }

    pub(crate) fn set_setup(&self, setup: Arc<Setup>) {
        *self.setup.write() = setup;
        *self.configured_at.write() = Timestamp::now();
    }

    pub(crate) fn configured_at(&self) -> Timestamp {
        *self.configured_at.read()
    }

    /// What was set.
    #[must_use]
    pub fn options(&self) -> Options {
        self.setup().options.clone()
    }

    /// The server's id, a public nkey.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The server's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What all connections share.
    #[must_use]
    pub const fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// When the server was made.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started.0
    }

    pub(crate) const fn started_at(&self) -> Timestamp {
        self.started.1
    }

    /// A moment of the server's own clock as a time of day.
    pub(crate) fn time_of(&self, at: Instant) -> Timestamp {
        let (started, started_at) = self.started;
        let since = at.saturating_duration_since(started);
        started_at.saturating_add(since).unwrap_or(started_at)
    }

    pub(crate) fn count_request(&self, path: &'static str) {
        *self.requests.lock().entry(path).or_default() += 1;
    }

    pub(crate) fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.requests.lock().clone()
    }

    pub(crate) fn driven_worker(&self) -> Arc<Mutex<Worker>> {
        self.driven.clone()
    }

    /// Talks to a client over any byte stream, until either ends it. Needs a tokio runtime with time enabled.
    /// `peer` names the client in logs and monitoring, best as `host:port`.
    pub async fn drive<T>(self: Arc<Self>, io: T, peer: &str)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        pipe::drive(self, io, peer).await;
    }

    /// A client inside this process, in the account.
    #[must_use]
    pub fn join(&self, account: &Arc<Account>) -> Inside {
        Inside::join(self, account)
    }

    /// A client inside this process, with everything that a client library has.
    #[must_use]
    pub fn client(self: &Arc<Self>, account: &Arc<Account>) -> Client {
        Client::new(self, account)
    }

    /// The account of the server's own clients: the global one, or that of its key where each peer has its own.
    #[must_use]
    pub fn own_account(&self) -> Arc<Account> {
        let name = self.membership.as_ref().and_then(Member::own_account);
        name.map_or_else(|| self.router.global_account(), |name| self.router.add_account(&name))
    }

    /// A client inside this process whose `owner` is woken when messages have come; for programs that wait in a
    /// way of their own.
    #[must_use]
    pub fn local(&self, account: &Arc<Account>, owner: Arc<dyn Owner>) -> Local {
        Local::new(&self.router, self.driven.clone(), account, owner, clock::now())
    }

    /// Tells clients where this server listens.
    pub(crate) fn listens_on(&self, address: std::net::SocketAddr) {
        *self.address.write() = Some(address);
        if self.setup().options.listen.advertise.is_none() {
            let mut worker = self.driven.lock();
            self.router.change_info(&mut worker, Instant::now(), |info| info.port = address.port());
        }
    }

    /// Where clients are listened for, if they are.
    #[must_use]
    pub fn client_address(&self) -> Option<std::net::SocketAddr> {
        *self.address.read()
    }

    /// Tells clients that this server is about to leave.
    pub(crate) fn announce_leave(&self) {
        self.tell_lame_duck();
        let mut worker = self.driven.lock();
        if let Some(cluster) = self.router.cluster() {
            cluster.tell_lame_duck(&mut worker);
        }
        self.router.enter_lame_duck(&mut worker, Instant::now());
    }

    /// Whether the server reads nothing any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Stops reading, writes what was accepted, and closes every connection. Gives slow ones some seconds.
    pub async fn stop(&self) {
        self.tell_shutdown();
        self.stopping.store(true, Ordering::Release);
        // Once each worker has been free after that, no session is at work any more, and none will be.
        self.router.wait_for_workers();
        self.router.close_all(CloseReason::ServerShutdown);
        let end = clock::now() + STOP_PATIENCE;
        // What is on its way to other servers was accepted, too.
        let others = || self.router.connections().iter().any(|conn| conn.kind() != Kind::Local);
        while (self.router.clients() > 0 || others()) && clock::now() < end {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) fn first_info(options: &Options, id: &str) -> Info {
    let listen = &options.listen;
    let (host, port) = match &listen.advertise {
        Some(Address { host, port }) => (host.clone().unwrap_or_else(|| listen.host.clone()), *port),
        None => (listen.host.clone(), listen.port),
    };
    Info {
        server_id: id.to_owned(),
        server_name: options.name.clone().unwrap_or_else(|| id.to_owned()),
        version: PROTOCOL_VERSION.to_owned(),
        proto: 1,
        go: concat!("midge ", env!("CARGO_PKG_VERSION")).to_owned(),
        host,
        port,
        headers: options.limits.headers,
        max_payload: options.limits.max_payload as i64,
        ..Info::default()
    }
}
