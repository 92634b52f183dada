//! Somebody else's NATS deployment: where it is, who one is to it, and the connection to it.

mod bus;
mod connection;
mod credentials;
pub(crate) mod message;

use std::fmt;

use async_nats::ServerAddr;
use zeroize::Zeroizing;

pub use bus::ExternalBus;
pub(crate) use connection::{Attempt, Connection, Purpose, QUESTION, State};

use crate::error::BackendError;
use crate::prefix::Prefix;

/// A NATS deployment, and who one is to it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Deployment {
    /// Its servers: `nats://`, `tls://`, `ws://` or `wss://`, or without a scheme. A user and password, or a token, that stand
    /// in the first that has any are used where [`Deployment::login`] says nothing else.
    pub urls: Vec<String>,
    /// Who one is.
    pub login: Login,
    /// What TLS needs.
    pub tls: TlsFiles,
    /// What all subjects begin with.
    pub prefix: Prefix,
}

/// Who one is to a deployment.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Login {
    /// What a server's address says; if none says anything, the key that is derived from the peer's key for logins. The
    /// peer's own key signs nothing for others' servers, and is refused here in whatever form.
    #[default]
    Derived,
    /// Credentials, as nsc writes them: a JWT and a seed.
    Credentials(Zeroizing<String>),
    /// The seed of an nkey.
    Nkey(Zeroizing<String>),
    /// A user and a password.
    User {
        /// The name.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// A token.
    Token(Zeroizing<String>),
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses may hold passwords.
        f.debug_struct("Deployment")
            .field("urls", &self.shown())
            .field("login", &self.login)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Derived => "Derived",
            Self::Credentials(_) => "Credentials(…)",
            Self::Nkey(_) => "Nkey(…)",
            Self::User { user, .. } => {
                return f.debug_struct("User").field("user", user).finish_non_exhaustive();
            }
            Self::Token(_) => "Token(…)",
        })
    }
}

/// Files that TLS needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Whom to believe, instead of whom the system believes.
    pub ca: Option<std::path::PathBuf>,
    /// A certificate to show.
    pub certificate: Option<std::path::PathBuf>,
    /// Its key.
    pub key: Option<std::path::PathBuf>,
}

impl Deployment {
    /// The deployment of these servers.
    #[must_use]
    pub fn at(urls: &[&str]) -> Self {
        Self { urls: urls.iter().map(|url| (*url).to_owned()).collect(), ..Self::default() }
    }

    /// Looks whether it can be connected to, as far as that is known without trying.
    ///
    /// # Errors
    /// Something of it cannot be used.
    pub fn check(&self) -> Result<(), BackendError> {
        self.servers().map(drop)?;
        match &self.login {
            Login::Credentials(text) => credentials::read(text).map(drop),
            Login::Nkey(seed) => credentials::key(seed).map(drop),
            _ => Ok(()),
        }
    }

    /// The servers' addresses.
    fn servers(&self) -> Result<Vec<ServerAddr>, BackendError> {
        let parse = |url: &String| {
            let refuse = |why: String| BackendError::Url { url: shown(url), why };
            let address: ServerAddr =
                url.parse().map_err(|error: std::io::Error| refuse(error.to_string()))?;
            if address.host().is_empty() {
                return Err(refuse("it names no host".to_owned()));
            }
            Ok(address)
        };
        let servers = self.urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let by_websocket = servers.iter().filter(|server| server.is_websocket()).count();
        match servers.len() {
            0 => Err(BackendError::NoServer),
            all if by_websocket != 0 && by_websocket != all => Err(BackendError::Mixed),
            _ => Ok(servers),
        }
    }

    /// Its servers, as logs may name them.
    #[must_use]
    pub fn shown(&self) -> String {
        self.urls.iter().map(|url| shown(url)).collect::<Vec<_>>().join(", ")
    }
}

/// A server's address without what may be secret in it.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    // What follows the host may be a token, too.
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme.is_empty() { place.to_owned() } else { format!("{scheme}://{place}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_deployment_is_said_without_its_secrets() {
        for (urls, want) in [
            (&[][..], "no NATS server is named"),
            (&["http://u:secret@h:1/secret"], "'http://h:1' is no NATS server's address"),
            (&["nats://u:secret@h:x"], "'nats://h:x' is no NATS server's address"),
            (&["nats://h", "wss://h"], "either all NATS servers are reached by WebSocket"),
        ] {
            let deployment = Deployment::at(urls);
            let error = deployment.check().unwrap_err().to_string();
            assert!(error.contains(want) && !error.contains("secret"), "{error}");
            assert!(!format!("{deployment:?}").contains("secret"));
        }
        let with = |login| Deployment { login, ..Deployment::at(&["nats://h"]) };
        for login in
            [Login::Credentials("secret".to_owned().into()), Login::Nkey("SUsecret".to_owned().into())]
        {
            let deployment = with(login);
            let error = deployment.check().unwrap_err().to_string();
            assert!(error.contains("credentials cannot be used") && !error.contains("secret"), "{error}");
            assert!(!format!("{deployment:?}").contains("secret"));
        }
        let user = Login::User { user: "u".to_owned(), password: "secret".to_owned().into() };
        assert!(with(user.clone()).check().is_ok() && !format!("{user:?}").contains("secret"));
        assert!(Deployment::at(&["wss://h/x", "ws://h:80"]).check().is_ok());
    }
}
