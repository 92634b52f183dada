//! One server: a router, who it is, and whether it is about to leave.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use midge_router::local::Local;
use midge_router::{Account, CloseReason, Owner, Router, Settings, Worker};
use midge_wire::json::{Connect, Info};
use parking_lot::{Mutex, RwLock};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::drive::pipe;
use crate::inside::Inside;
use crate::options::{Address, Options, OptionsError};

/// The version of nats-server whose protocol is spoken, as clients compare it.
pub const PROTOCOL_VERSION: &str = "2.15.1";
/// How long a stopping server waits for connections to take their last bytes.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A server without listeners or threads: connections are handed to it. [`Server::start`] gives it both.
#[derive(Debug)]
pub struct Server {
    options: Options,
    id: String,
    router: Arc<Router>,
    /// The worker of everything that runs outside the shards.
    driven: Arc<Mutex<Worker>>,
    started: Instant,
    started_at: Timestamp,
    /// Where clients are listened for, once they are.
    address: RwLock<Option<std::net::SocketAddr>>,
    stopping: AtomicBool,
}

impl Server {
    /// A server with these options.
    ///
    /// # Errors
    /// The options do not go together.
    pub fn new(options: Options) -> Result<Arc<Self>, OptionsError> {
        options.check()?;
        let id = nkeys::KeyPair::new_server().public_key();
        let info = first_info(&options, &id);
        let router = Router::new(Settings {
            info,
            limits: options.limits.clone(),
            auth_required: options.auth.is_required(),
            seed: RandomState::new().hash_one(&id),
            max_ended: options.max_closed_clients,
        });
        Ok(Arc::new(Self {
            driven: router.worker(),
            options,
            id,
            router,
            started: Instant::now(),
            started_at: Timestamp::now(),
            address: RwLock::new(None),
            stopping: AtomicBool::new(false),
        }))
    }

    /// What was set.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The server's id, a public nkey.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The server's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.options.name.as_deref().unwrap_or(&self.id)
    }

    /// What all connections share.
    #[must_use]
    pub const fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// When the server was made.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    pub(crate) const fn started_at(&self) -> Timestamp {
        self.started_at
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

    /// A client inside this process whose `owner` is woken when messages have come; for programs that wait in a
    /// way of their own.
    #[must_use]
    pub fn local(&self, account: &Arc<Account>, owner: Arc<dyn Owner>) -> Local {
        Local::new(&self.router, self.driven.clone(), account, owner, Instant::now())
    }

    /// Whether a client is who it must be. Compared in constant time.
    pub(crate) fn admits(&self, connect: &Connect) -> bool {
        let auth = &self.options.auth;
        let same = |want: &Option<String>, got: &str| match want {
            Some(want) => bool::from(want.as_bytes().ct_eq(got.as_bytes())),
            None => true,
        };
        same(&auth.user, &connect.user)
            & same(&auth.password, &connect.pass)
            & same(&auth.token, &connect.auth_token)
    }

    /// Tells clients where this server listens.
    pub(crate) fn listens_on(&self, address: std::net::SocketAddr) {
        *self.address.write() = Some(address);
        if self.options.listen.advertise.is_none() {
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
        let mut worker = self.driven.lock();
        self.router.enter_lame_duck(&mut worker, Instant::now());
    }

    /// Whether the server reads nothing any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Stops reading, writes what was accepted, and closes every connection. Gives slow ones some seconds.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // Once each worker has been free after that, no session is at work any more, and none will be.
        self.router.wait_for_workers();
        self.router.close_all(CloseReason::ServerShutdown);
        let end = Instant::now() + STOP_PATIENCE;
        while self.router.clients() > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn first_info(options: &Options, id: &str) -> Info {
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
