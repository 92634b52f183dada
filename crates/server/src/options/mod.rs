//! What can be set, and how: one table for flags, keys, defaults, documentation and the reload rule.

mod backend;
mod cluster;
mod compression;
mod faults;
mod given;
mod later;
mod leafnodes;
mod load;
mod mesh;
mod people;
mod table;
mod tls;
mod websocket;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use midge_router::{GLOBAL, Limits, PermissionRules, SYSTEM};

pub use backend::{BackendOptions, PREFIX, PubSub};
pub use cluster::{ClusterAuth, ClusterOptions, ServerUrl};
pub use compression::Compression;
pub use faults::{Fault, Faults};
pub use given::Given;
pub use later::{Later, UNSUPPORTED_FLAGS, UNSUPPORTED_KEYS};
pub use leafnodes::{LeafAuth, LeafRemote, LeafUser, LeafnodeOptions};
pub use load::{Files, LoadError, apply_file, apply_flag, flag, load_file};
pub(crate) use mesh::socket_address;
pub use mesh::{MESH_CLUSTER, MeshOptions, PeerAccounts};
pub use people::{AccountOptions, ConnectionType, Credential, Secret, UserOptions};
pub use table::{OptionSpec, Reload, Setter, table};
pub use tls::{CertificateFiles, HandshakeFirst, TLS_TABLE, TlsOptions, TlsSpec};
pub use websocket::{Cookies, WebSocketOptions};

pub(crate) use load::unsupported_key;

/// Everything that can be set. Starts with nats-server's defaults.
///
/// Shape: the blocks of a configuration file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The server's name; its id where none is given.
    pub name: Option<String>,
    /// Where clients are listened for.
    pub listen: Listen,
    /// What clients may do.
    pub limits: Limits,
    /// How the server leaves.
    pub lame_duck: LameDuck,
    /// What is logged, and where to.
    pub log: LogOptions,
    /// Where monitoring is served, if anywhere.
    pub monitor: MonitorOptions,
    /// What clients must show, if anything.
    pub auth: Auth,
    /// The accounts that users belong to.
    pub accounts: Accounts,
    /// How clients' TLS is spoken, if at all.
    pub tls: ClientTls,
    /// Where WebSocket clients are listened for, if anywhere.
    pub websocket: WebSocketOptions,
    /// How the server is a member of a cluster, if of any.
    pub cluster: ClusterOptions,
    /// How the server has leafnodes, and is one.
    pub leafnodes: LeafnodeOptions,
    /// How the server has links to other peers.
    pub mesh: MeshOptions,
    /// A NATS deployment that is used as infrastructure, if any is.
    pub backend: BackendOptions,
    /// The files that tell others about this process, and where it keeps its own.
    pub files: ProcessFiles,
    /// Threads that move clients' messages; zero for one for each processor.
    pub shards: usize,
    /// The configuration file that was read.
    pub config: Option<ConfigFile>,
}

/// A host and a port; the host may be left to whatever clients are listened for on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// Name or IP address.
    pub host: Option<String>,
    /// The port, or zero for any that is free.
    pub port: u16,
}

/// Where clients are listened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Name or IP address.
    pub host: String,
    /// The port, or zero for any that is free.
    pub port: u16,
    /// The address that clients are told, if another.
    pub advertise: Option<Address>,
}

/// How the server leaves when it is told to do it gently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LameDuck {
    /// Time over which connections are closed, one after the other.
    pub duration: Duration,
    /// Time before the first of them is closed.
    pub grace: Duration,
}

/// What is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Log what helps to find faults.
    pub debug: bool,
    /// Log every protocol line.
    pub trace: bool,
    /// Begin each line with the time.
    pub time: bool,
    /// Write times as UTC.
    pub utc: bool,
    /// The file to log to; standard error where nothing is given.
    pub file: Option<PathBuf>,
    /// Log to the system's log, unless there is a file.
    pub syslog: bool,
    /// Log to this one, unless there is a file.
    pub remote_syslog: Option<String>,
    /// Bytes after which the file is put aside and a new one begun; zero for never.
    pub size_limit: u64,
    /// Files that are kept, the current one included; zero for all.
    pub max_files: usize,
    /// Most bytes of a payload that a trace shows; zero for all.
    pub max_traced: usize,
}

/// Where monitoring is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Without TLS.
    pub http: Option<Address>,
    /// With the certificate of the clients' TLS.
    pub https: Option<Address>,
    /// The path that all paths are below; empty for none.
    pub base_path: String,
    /// Ended connections that it remembers.
    pub max_closed_clients: usize,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self { http: None, https: None, base_path: String::new(), max_closed_clients: 10_000 }
    }
}

impl MonitorOptions {
    /// The address, whichever it is.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.http.as_ref().or(self.https.as_ref())
    }
}

/// What clients must show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// The one user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The token.
    pub token: Option<Secret>,
    /// Users of the global account; `None` where none are spoken of.
    pub users: Option<Vec<UserOptions>>,
    /// What those of them may do of whom nothing else is said.
    pub default_permissions: Option<PermissionRules>,
    /// The user that somebody is who says nothing of himself.
    pub no_auth_user: Option<String>,
    /// Time in which to show it; `None` is two seconds, or one more than TLS's own.
    pub timeout: Option<Duration>,
}

impl Auth {
    /// Whether the block stands in the configuration.
    const fn is_defined(&self) -> bool {
        self.user.is_some()
            || self.password.is_some()
            || self.token.is_some()
            || self.users.is_some()
            || self.default_permissions.is_some()
            || self.timeout.is_some()
    }
}

/// The accounts that users belong to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// Those beside the global one.
    pub list: Vec<AccountOptions>,
    /// The one for the server's own services; `None` is `$SYS`.
    pub system: Option<String>,
    /// Whether the server has no services.
    pub no_system: bool,
}

/// How clients' TLS is spoken.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClientTls {
    /// The block, if there is one.
    pub block: Option<TlsOptions>,
    /// Whether clients may do without.
    pub allow_plain: bool,
}

/// The files that tell others about this process, and where it keeps its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessFiles {
    /// The file that gets the process number.
    pub pid: Option<PathBuf>,
    /// The folder that gets a file with all addresses that are listened on.
    pub ports_dir: Option<PathBuf>,
    /// Folder for data. Nothing is stored without JetStream.
    pub store_dir: Option<PathBuf>,
}

/// A configuration file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path as it was given.
    pub path: String,
    /// What it says, as a hash: the same as nats-server prints for the same configuration.
    pub digest: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            listen: Listen { host: "0.0.0.0".to_owned(), port: 4222, advertise: None },
            limits: Limits::default(),
            lame_duck: LameDuck { duration: Duration::from_secs(120), grace: Duration::from_secs(10) },
            log: LogOptions {
                debug: false,
                trace: false,
                time: true,
                utc: false,
                file: None,
                syslog: false,
                remote_syslog: None,
                size_limit: 0,
                max_files: 0,
                max_traced: 0,
            },
            monitor: MonitorOptions::default(),
            auth: Auth::default(),
            accounts: Accounts::default(),
            tls: ClientTls::default(),
            websocket: WebSocketOptions::default(),
            cluster: ClusterOptions::default(),
            leafnodes: LeafnodeOptions::default(),
            mesh: MeshOptions::default(),
            backend: BackendOptions::default(),
            files: ProcessFiles::default(),
            shards: 0,
            config: None,
        }
    }
}

/// Options that do not go together.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The grace period leaves no time for the rest.
    #[error(
        "lame duck grace period ({grace:?}) should be strictly lower than lame duck duration ({duration:?})"
    )]
    LameDuck {
        /// `lame_duck_grace_period`
        grace: Duration,
        /// `lame_duck_duration`
        duration: Duration,
    },
    /// A message would be larger than what may wait for a client.
    #[error("max_payload ({payload}) cannot be higher than max_pending ({pending})")]
    Payload {
        /// `max_payload`
        payload: usize,
        /// `max_pending`
        pending: usize,
    },
    /// The name would not stand in the protocol's lines.
    #[error("server name cannot contain spaces")]
    Name,
    /// There are two ways to say who one is.
    #[error("Cannot have a user/pass and token: set authorization.user or authorization.token, not both")]
    UserAndToken,
    /// A password without a user, or the other way round.
    #[error("authorization.user and authorization.password go together: set both")]
    HalfUser,
    /// One user and many.
    #[error("Can not have a single user/pass and a users array or accounts with users")]
    UserAndUsers,
    /// A token and users.
    #[error("Can not have a token and a users array or accounts with users")]
    TokenAndUsers,
    /// The same user twice.
    #[error("Duplicate user \"{0}\" detected")]
    Duplicate(String),
    /// The user of those who say nothing is nobody.
    #[error(
        "no_auth_user: \"{0}\" not present as user or nkey in authorization block or account configuration"
    )]
    NoAuthUser(String),
    /// Peers may link, and none can.
    #[error("mesh.allow without mesh.listen: nobody could link; say where to listen, as udp://0.0.0.0:4223")]
    AllowWithoutListen,
    /// A peer that is reached through a deployment, and there is none.
    #[error("peer {0} is reached through a NATS deployment, and none is named: set backend.urls, or --via")]
    PeerWithoutBackend(String),
    /// What is said of a deployment cannot be used.
    #[error("backend: {0}")]
    Backend(midge_backend::BackendError),
    /// Something is said of a deployment, but not where it is.
    #[error("backend without backend.urls: say which NATS servers are meant, as nats://HOST:4222")]
    BackendWithoutUrls,
    /// Several ways to say who one is.
    #[error("backend: there is one way to log in: creds, nkey, user and password, or token")]
    BackendLogins,
    /// A password without a user, or the other way round.
    #[error("backend.user and backend.password go together: set both")]
    HalfBackendUser,
    /// Links and messages would have the same subjects.
    #[error(
        "backend.pubsub must be another prefix than links have by backend.prefix: their subjects would mix"
    )]
    BackendPrefixes,
    /// A certificate without a key, or the other way round.
    #[error("backend.tls.cert_file and backend.tls.key_file go together: set both")]
    HalfBackendCertificate,
    /// The account for the server's services is none.
    #[error("error resolving system account: there is no account \"{0}\"")]
    SystemAccount(String),
    /// Monitoring in two ways.
    #[error("can't specify both HTTP ({http}) and HTTPs ({https}) ports")]
    HttpAndHttps {
        /// `http_port`
        http: u16,
        /// `https_port`
        https: u16,
    },
    /// Monitoring with a certificate that there is none of.
    #[error("TLS cert and key required for HTTPS: add a tls block")]
    HttpsWithoutTls,
    /// WebSocket with neither a certificate nor the word that none is wanted.
    #[error("websocket requires TLS configuration: add websocket.tls, or say websocket.no_tls: true")]
    WebSocketWithoutTls,
    /// An origin that is none.
    #[error("unable to parse allowed origin \"{origin}\": {why}")]
    Origin {
        /// What was given.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// A header that the server sets itself, or that cannot be sent.
    #[error("websocket: invalid header \"{0}\" not allowed")]
    Header(String),
    /// WebSocket clients have a user or token of their own although there are users.
    #[error("websocket authentication {0} not compatible with presence of users/nkeys")]
    WebSocketAuth(&'static str),
    /// Servers to connect to, and no cluster.
    #[error(
        "solicited routes require cluster capabilities, e.g. --cluster: set cluster.port or cluster.listen"
    )]
    RoutesWithoutCluster,
    /// The cluster's name would not stand in the protocol's lines.
    #[error("cluster name cannot contain spaces or new lines")]
    ClusterName,
    /// Servers mean something else by that name.
    #[error("cluster name \"_\" is reserved")]
    ReservedCluster,
    /// A password without a user, or the other way round.
    #[error("cluster.authorization.user and cluster.authorization.password go together: set both")]
    HalfClusterUser,
    /// Accounts with connections of their own, which only a pool has.
    #[error("cluster.accounts needs connections to choose from: pool_size cannot be -1")]
    DedicatedWithoutPool,
    /// Who other servers are is not found in their certificates.
    #[error("{0}.tls.verify_and_map is not supported yet: use verify, and users with passwords")]
    MapsServers(&'static str),
    /// A hub is reached by WebSocket at some of its addresses only.
    #[error("a hub's urls must all be of WebSocket (ws://, wss://), or none of them")]
    MixedHub,
    /// A password without a user, or the other way round.
    #[error("leafnodes.authorization.user and leafnodes.authorization.password go together: set both")]
    HalfLeafUser,
    /// One user and many.
    #[error("Can not have a single user/pass and a users array in leafnodes.authorization")]
    LeafUserAndUsers,
    /// An account that is not configured.
    #[error("cannot find account \"{0}\" specified in leafnodes")]
    LeafAccount(String),
    /// Two ways to say who this server is.
    #[error("a hub can have credentials or an nkey, not both")]
    LeafCredentialsAndNkey,
    /// Both syslogs.
    #[error(
        "remote_syslog \"{0}\" is no address: use udp://host:port, tcp://host:port, unix:///path or unixgram:///path"
    )]
    Syslog(String),
}

impl Options {
    /// Looks for options that do not go together.
    ///
    /// # Errors
    /// The first that is found.
    pub fn check(&self) -> Result<(), OptionsError> {
        let LameDuck { duration, grace } = self.lame_duck;
        if grace >= duration {
            return Err(OptionsError::LameDuck { grace, duration });
        }
        let Limits { max_payload: payload, max_pending: pending, .. } = self.limits;
        if payload > pending {
            return Err(OptionsError::Payload { payload, pending });
        }
        if self.name.as_ref().is_some_and(|name| name.contains(' ')) {
            return Err(OptionsError::Name);
        }
        self.check_people()?;
        match (&self.monitor.http, &self.monitor.https) {
            (Some(http), Some(https)) => {
                return Err(OptionsError::HttpAndHttps { http: http.port, https: https.port });
            }
            (None, Some(_)) if self.tls.block.is_none() => return Err(OptionsError::HttpsWithoutTls),
            _ => {}
        }
        if let Some(url) = &self.log.remote_syslog
            && crate::syslog::Target::parse(url).is_none()
        {
            return Err(OptionsError::Syslog(url.clone()));
        }
        self.cluster.check()?;
        self.mesh.check(&self.backend)?;
        self.backend.check()?;
        let configured = |name: &str| self.accounts.list.iter().any(|account| account.name == name);
        self.leafnodes.check(|name| name == GLOBAL || name == SYSTEM || configured(name))?;
        self.websocket.check(self.has_users())
    }

    fn check_people(&self) -> Result<(), OptionsError> {
        let Auth { user, password, token, no_auth_user, .. } = &self.auth;
        if user.is_some() && token.is_some() {
            return Err(OptionsError::UserAndToken);
        }
        if user.is_some() != password.is_some() {
            return Err(OptionsError::HalfUser);
        }
        if self.has_users() {
            if user.is_some() {
                return Err(OptionsError::UserAndUsers);
            }
            if token.is_some() {
                return Err(OptionsError::TokenAndUsers);
            }
        }
        let mut names = HashSet::new();
        if let Some(twice) =
            self.users().map(|(_, user)| user.credential.name()).find(|name| !names.insert(*name))
        {
            return Err(OptionsError::Duplicate(twice.to_owned()));
        }
        let known = |name: &&String| names.contains(name.as_str());
        if let Some(nobody) =
            no_auth_user.iter().chain(&self.websocket.no_auth_user).find(|name| !known(name))
        {
            return Err(OptionsError::NoAuthUser(nobody.clone()));
        }
        if let Some(system) = &self.accounts.system
            && system != SYSTEM
            && !self.accounts.list.iter().any(|account| account.name == *system)
        {
            return Err(OptionsError::SystemAccount(system.clone()));
        }
        Ok(())
    }

    /// All users, each with its account where that is not the global one.
    pub fn users(&self) -> impl Iterator<Item = (Option<&str>, &UserOptions)> {
        let in_accounts = self
            .accounts
            .list
            .iter()
            .flat_map(|account| account.users.iter().map(|user| (Some(account.name.as_str()), user)));
        self.auth.users.iter().flatten().map(|user| (None, user)).chain(in_accounts)
    }

    fn has_users(&self) -> bool {
        self.auth.users.is_some() || self.accounts.list.iter().any(|account| !account.users.is_empty())
    }

    /// Whether a password stands in the configuration as it is.
    #[must_use]
    pub fn has_plain_passwords(&self) -> bool {
        let plain = |secret: &Secret| !secret.is_hash();
        let users = self.users().any(|(_, user)| match &user.credential {
            Credential::Password(_, secret) => plain(secret) && !secret.reveal().is_empty(),
            Credential::Nkey(_) => false,
        });
        users || self.auth.password.as_ref().is_some_and(plain)
    }

    /// Whether clients must show anything.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.users().next().is_some() || self.auth.user.is_some() || self.auth.token.is_some()
    }

    /// Whether the system account is the only one that was configured. Then those who say nothing are let in, as in
    /// nats-server (`configureAccounts`): users of the system account alone must not lock everybody out.
    #[must_use]
    pub fn only_system_has_users(&self) -> bool {
        let system = self.accounts.system.as_deref().unwrap_or(SYSTEM);
        !self.auth.is_defined()
            && self.auth.no_auth_user.is_none()
            && matches!(self.accounts.list.as_slice(), [only] if only.name == system)
    }

    /// Time in which a client must have said who it is, counted from its arrival.
    #[must_use]
    pub fn auth_timeout(&self) -> Duration {
        let handshake = self.tls.block.as_ref().map(|tls| tls.timeout);
        let default = handshake.map_or(Duration::from_secs(2), |time| time + Duration::from_secs(1));
        self.auth.timeout.unwrap_or(default) + handshake.unwrap_or_default()
    }

    /// Whether the server is a peer that has a key: it has links to others, or uses a deployment.
    #[must_use]
    pub const fn is_peer(&self) -> bool {
        self.mesh.is_on() || self.backend.is_on()
    }

    /// The address that monitoring listens on.
    #[must_use]
    pub fn monitor_host(&self) -> &str {
        let host = self.monitor.address().and_then(|address| address.host.as_deref());
        host.unwrap_or(&self.listen.host)
    }
}
