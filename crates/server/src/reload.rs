//! New options for a server that runs.
//!
//! What can change does so without touching connections that it does not concern; if anything else has changed, or
//! the new options cannot be used, nothing changes at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_identity::NkeyKind;
use midge_router::{CloseReason, Conn, Kind, SessionError};
use tracing::{error, info};

use crate::auth::{Again, Login};
use crate::carrier::Carrier;
use crate::options::{ConnectionType, Options, table};
use crate::server::{Server, first_info};
use crate::setup::{Setup, SetupError};

/// How long connections may take to take up what has changed before the reload is said to be over.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why nothing has changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Something else than what can change has changed.
    #[error("config reload not supported for {key}: old={old}, new={new}; start the server anew for it")]
    Restart {
        /// The option.
        key: &'static str,
        /// What is in force.
        old: String,
        /// What was asked for.
        new: String,
    },
    /// The new options cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Where new options come from when somebody orders a reload.
pub trait OptionsSource: Send + Sync {
    /// Reads them.
    ///
    /// # Errors
    /// They cannot be read, and why.
    fn read(&self) -> Result<Options, String>;

    /// Is told of options that have been taken up.
    fn taken(&self, _options: &Options) {}
}

impl Server {
    /// Says where new options come from when somebody orders a reload, by [`crate::Order::Reload`] or over the system
    /// account. Can be said once.
    pub fn on_reload(&self, source: impl OptionsSource + 'static) {
        // A second source would be a mistake of the embedding program; the first stays.
        let _ = self.source.set(Box::new(source));
    }

    /// Reads the options again and takes them up; logs what came of it.
    pub(crate) async fn reload_again(&self) {
        if let Err(why) = self.reload_from_source().await {
            error!("Failed to reload server configuration: {why}");
        }
    }

    /// Reads the options again and takes them up.
    pub(crate) async fn reload_from_source(&self) -> Result<(), String> {
        let source = self.source.get();
        let source = source.ok_or("can only reload config when a file is provided using -c or --config")?;
        let options = source.read()?;
        self.reload(options.clone()).await.map_err(|why| why.to_string())?;
        source.taken(&options);
        let digest = options.config.as_ref().map(|config| config.digest.as_str()).unwrap_or_default();
        info!("Reloaded server configuration ({digest})");
        Ok(())
    }

    /// Takes up other options. Users who are not known any more are disconnected, permissions that have become
    /// narrower hold for what comes from now on, and certificates are read again.
    ///
    /// # Errors
    /// Nothing has changed, and why.
    pub async fn reload(&self, options: Options) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let before = self.setup();
        refuse_restart(&before.options, &options)?;
        let setup = Arc::new(Setup::new(options, self.router())?);
        let options = &setup.options;
        self.router().set_limits(options.limits.clone());
        self.router().set_entrance(setup.entrance());
        self.advertise(options);
        self.set_setup(setup.clone());
        let clients: Vec<Arc<Conn>> =
            self.router().connections().into_iter().filter(|conn| conn.kind() == Kind::Client).collect();
        for conn in &clients {
            look_again(conn, &setup);
        }
        if before.options.auth != options.auth || before.options.accounts != options.accounts {
            self.ask_leafnodes_again();
        }
        self.make_room(&clients);
        let end = Instant::now() + PATIENCE;
        while clients.iter().any(|conn| conn.is_revised() && conn.closed().is_none()) && Instant::now() < end
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Sends leafnodes away who come as users who may not be known any more, or may do less: they come again at once.
    fn ask_leafnodes_again(&self) {
        for conn in self.router().connections().iter().filter(|conn| conn.kind() == Kind::Spoke) {
            if conn.entrance().asks {
                conn.doom(SessionError::Authorization);
            }
        }
    }

    /// Tells those who come from now on where the server is.
    fn advertise(&self, options: &Options) {
        let fresh = first_info(options, self.id());
        let port = match (&options.listen.advertise, self.client_address()) {
            (None, Some(address)) => address.port(),
            _ => fresh.port,
        };
        self.router().edit_info(|info| (info.host, info.port) = (fresh.host, port));
    }

    /// Closes connections above the limit.
    fn make_room(&self, clients: &[Arc<Conn>]) {
        let most = self.router().limits().max_connections;
        let open = clients.iter().filter(|conn| conn.closed().is_none()).count();
        if open <= most {
            return;
        }
        info!("Closed {} connections to fall within max_connections", open - most);
        for conn in clients.iter().filter(|conn| conn.closed().is_none()).take(open - most) {
            conn.doom(SessionError::TooManyConnections);
        }
    }
}

/// A value as its owner wrote it.
fn bare(shown: &str) -> String {
    match shown.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')')) {
        Some(value) => value.to_owned(),
        None if shown == "None" => "nothing".to_owned(),
        None => shown.to_owned(),
    }
}

/// The first option that has changed and cannot.
fn refuse_restart(before: &Options, after: &Options) -> Result<(), ReloadError> {
    for spec in table() {
        let Some(show) = spec.show else { continue };
        let (old, new) = (show(before), show(after));
        if old != new {
            let key = spec.keys.first().or(spec.flags.first()).copied().unwrap_or_default();
            return Err(ReloadError::Restart { key, old: bare(&old), new: bare(&new) });
        }
    }
    Ok(())
}

/// Looks whether somebody who is connected may stay, and as whom.
pub(crate) fn look_again(conn: &Conn, setup: &Setup) {
    let carrier = Carrier::of(conn);
    let kind = carrier.as_ref().map_or(ConnectionType::Standard, |carrier| carrier.kind);
    if let Some(link) = carrier.as_ref().and_then(|carrier| carrier.link.as_ref())
        && Login::of(&conn.grant()).is_none()
    {
        // Who has no user is by its link what it is, until the server is started anew; or it is a user now.
        let user = link.peer.key().nkey(NkeyKind::User);
        return match setup.directory.known_by(&user) {
            None => conn.revise(None),
            Some(_) => drop(conn.close(CloseReason::ClientClosed)),
        };
    }
    match setup.directory.again(&conn.grant(), kind) {
        // Somebody who has not said yet who he is will be asked by the new rules.
        _ if !conn.is_bound() && conn.entrance().asks => conn.revise(None),
        Again::Stays(grant) => conn.revise(Some(grant)),
        Again::Moved => {
            conn.close(CloseReason::ClientClosed);
        }
        Again::Refused => conn.doom(SessionError::Authorization),
    }
}
