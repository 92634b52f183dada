//! What can be set, and how: one table for flags, keys, defaults, documentation and the reload rule.

mod given;
mod load;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use midge_router::Limits;

pub use given::Given;
pub use load::{Files, LoadError, apply_file, apply_flag, flag, load_file};
pub use table::{Later, OptionSpec, Reload, TABLE, UNSUPPORTED_FLAGS, UNSUPPORTED_KEYS};

/// Everything that can be set. Starts with nats-server's defaults.
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
    pub monitor: Option<Address>,
    /// What clients must show, if anything.
    pub auth: Auth,
    /// The files that tell others about this process.
    pub files: ProcessFiles,
    /// Folder for data. Nothing is stored without JetStream.
    pub store_dir: Option<PathBuf>,
    /// Threads that move clients' messages; zero for one for each processor.
    pub shards: usize,
    /// Ended connections that monitoring remembers.
    pub max_closed_clients: usize,
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
    /// The file to log to; standard error where none is given.
    pub file: Option<PathBuf>,
    /// Bytes after which the file is put aside and a new one begun; zero for never.
    pub size_limit: u64,
    /// Files that are kept, the current one included; zero for all.
    pub max_files: usize,
    /// Most bytes of a payload that a trace shows; zero for all.
    pub max_traced: usize,
}

/// What clients must show.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// The one user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The token.
    pub token: Option<String>,
}

impl std::fmt::Debug for Auth {
    /// Whether something is asked for, but not what.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("required", &self.is_required()).finish_non_exhaustive()
    }
}

impl Auth {
    /// Whether clients must show anything.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.user.is_some() || self.password.is_some() || self.token.is_some()
    }
}

/// The files that tell others about this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessFiles {
    /// The file that gets the process number.
    pub pid: Option<PathBuf>,
    /// The folder that gets a file with all addresses that are listened on.
    pub ports_dir: Option<PathBuf>,
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
                size_limit: 0,
                max_files: 0,
                max_traced: 0,
            },
            monitor: None,
            auth: Auth::default(),
            files: ProcessFiles::default(),
            store_dir: None,
            shards: 0,
            max_closed_clients: 10_000,
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
    #[error("cannot have a user/pass and token: set authorization.user or authorization.token, not both")]
    UserAndToken,
    /// A password without a user, or the other way round.
    #[error("authorization.user and authorization.password go together: set both")]
    HalfUser,
    /// A password that is a hash.
    #[error("authorization.password is a bcrypt hash, which is not supported yet")]
    Bcrypt,
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
        let Auth { user, password, token } = &self.auth;
        if user.is_some() && token.is_some() {
            return Err(OptionsError::UserAndToken);
        }
        if user.is_some() != password.is_some() {
            return Err(OptionsError::HalfUser);
        }
        if password.iter().chain(token).any(|secret| secret.starts_with("$2a$")) {
            return Err(OptionsError::Bcrypt);
        }
        Ok(())
    }

    /// The address that monitoring listens on.
    #[must_use]
    pub fn monitor_host(&self) -> &str {
        let host = self.monitor.as_ref().and_then(|address| address.host.as_deref());
        host.unwrap_or(&self.listen.host)
    }
}
