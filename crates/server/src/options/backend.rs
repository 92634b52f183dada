//! The `backend` block, and the flags that stand for it: a NATS deployment that is there already, as infrastructure.

use std::io;
use std::path::PathBuf;

use midge_backend::{BackendError, Deployment, Login, Prefix, PrefixError};
use zeroize::Zeroizing;

use super::cluster::texts;
use super::table::{OptionSpec, put, said, spec};
use super::{Given, OptionsError, Secret};

/// What subjects begin with if nothing else is said.
pub const PREFIX: &str = "midge";

/// A NATS deployment, and what it is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendOptions {
    /// Where it is; without any server there is none.
    pub deployment: Deployment,
    /// The file with credentials to log in with, as nsc writes it.
    pub creds: Option<PathBuf>,
    /// The file with an nkey seed to log in with.
    pub nkey: Option<PathBuf>,
    /// The user to log in as.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The token to log in with.
    pub token: Option<Secret>,
    /// Whether peers are linked to through it.
    pub links: bool,
    /// Whether messages are shared through it.
    pub pubsub: PubSub,
}

/// Whether messages are shared through a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PubSub {
    /// None are.
    #[default]
    Off,
    /// They are, below the prefix of links and `bus`.
    On,
    /// They are, below that prefix.
    Below(Prefix),
}

impl Default for BackendOptions {
    fn default() -> Self {
        let prefix = PREFIX.parse().unwrap_or_default();
        Self {
            deployment: Deployment { prefix, ..Deployment::default() },
            creds: None,
            nkey: None,
            user: None,
            password: None,
            token: None,
            links: true,
            pubsub: PubSub::Off,
        }
    }
}

impl BackendOptions {
    /// Whether there is a deployment.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.deployment.urls.is_empty()
    }

    /// Whether it carries links.
    #[must_use]
    pub const fn carries_links(&self) -> bool {
        self.is_on() && self.links
    }

    /// What the subjects of messages begin with that are shared through it, if any are.
    ///
    /// # Errors
    /// It would be no prefix.
    pub fn messages(&self) -> Result<Option<Prefix>, PrefixError> {
        match &self.pubsub {
            _ if !self.is_on() => Ok(None),
            PubSub::Off => Ok(None),
            PubSub::On => self.deployment.prefix.join("bus").parse().map(Some),
            PubSub::Below(prefix) => Ok(Some(prefix.clone())),
        }
    }

    /// The deployment, with who one is there. Reads the files that are named.
    ///
    /// # Errors
    /// A file cannot be read, or something of it cannot be used.
    pub fn deployment(&self) -> io::Result<Deployment> {
        let mut deployment = self.deployment.clone();
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            text.map(Zeroizing::new)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        let secret = |secret: &Secret| Zeroizing::new(secret.reveal().to_owned());
        if let Some(path) = &self.creds {
            deployment.login = Login::Credentials(read(path)?);
        } else if let Some(path) = &self.nkey {
            deployment.login = Login::Nkey(Zeroizing::new(read(path)?.trim().to_owned()));
        } else if let (Some(user), Some(password)) = (&self.user, &self.password) {
            deployment.login = Login::User { user: user.clone(), password: secret(password) };
        } else if let Some(token) = &self.token {
            deployment.login = Login::Token(secret(token));
        }
        let wrong = |error: BackendError| io::Error::new(io::ErrorKind::InvalidInput, error);
        deployment.check().map_err(wrong)?;
        Ok(deployment)
    }

    pub(super) fn check(&self) -> Result<(), OptionsError> {
        let logins = [self.creds.is_some(), self.nkey.is_some(), self.user.is_some(), self.token.is_some()];
        if logins.iter().filter(|login| **login).count() > 1 {
            return Err(OptionsError::BackendLogins);
        }
        if self.user.is_some() != self.password.is_some() {
            return Err(OptionsError::HalfBackendUser);
        }
        if !self.is_on() {
            let nothing = Self::default();
            return if *self == nothing { Ok(()) } else { Err(OptionsError::BackendWithoutUrls) };
        }
        let messages = self.messages().map_err(|why| OptionsError::Backend(why.into()))?;
        if self.links && messages.is_some_and(|messages| mixes(&messages, &self.deployment.prefix)) {
            return Err(OptionsError::BackendPrefixes);
        }
        let tls = &self.deployment.tls;
        if tls.certificate.is_some() != tls.key.is_some() {
            return Err(OptionsError::HalfBackendCertificate);
        }
        self.deployment.check().map_err(OptionsError::Backend)
    }
}

/// Whether messages below one prefix would meet the datagrams of links below another.
fn mixes(messages: &Prefix, links: &Prefix) -> bool {
    let messages = format!("{}.", messages.as_str());
    let below = |part: &str| links.join(&format!("{part}."));
    messages == "."
        || below("").starts_with(&messages)
        || ["d", "link"].iter().any(|part| messages.starts_with(&below(part)))
}

/// What can stand in the block.
pub(super) static BACKEND: &[OptionSpec] = &[
    spec(
        &["backend.urls"],
        "Servers of a NATS deployment that is there already, and that links and messages may go through: nats://, tls://, ws:// or wss://; the first that answers is used.",
        "none",
        "[\"nats://nats.example.org:4222\"]",
        |o, v| {
            put(&mut o.backend.deployment.urls, texts(v, "a URL").map(|list| list.into_iter().map(|(text, _)| text).collect()))
        },
    )
    .flag(&["via"], "url[,url]")
    .restart(|o| format!("{:?}", o.backend.deployment.urls.iter().map(|url| Secret::new(url.clone()).mark()).collect::<Vec<_>>())),
    spec(
        &["backend.creds"],
        "File with credentials to log in there with. With no login at all, a key is used that is derived from the server's own.",
        "none",
        "\"/etc/midge/backend.creds\"",
        |o, v| put(&mut o.backend.creds, v.text().map(|path| said(path).map(Into::into))),
    )
    .flag(&["creds"], "file")
    .restart(|o| format!("{:?}", o.backend.creds)),
    spec(&["backend.nkey"], "File with an nkey seed to log in there with.", "none", "\"/etc/midge/backend.nk\"", |o, v| {
        put(&mut o.backend.nkey, v.text().map(|path| said(path).map(Into::into)))
    })
    .restart(|o| format!("{:?}", o.backend.nkey)),
    spec(&["backend.user"], "User to log in there as.", "none", "\"midge\"", |o, v| {
        put(&mut o.backend.user, v.text().map(said))
    })
    .restart(|o| format!("{:?}", o.backend.user)),
    spec(&["backend.password", "backend.pass"], "Password of that user.", "none", "\"s3cret\"", |o, v| {
        put(&mut o.backend.password, v.text().map(|text| Some(Secret::new(text))))
    })
    .restart(|o| o.backend.password.as_ref().map_or_else(|| "none".to_owned(), Secret::mark)),
    spec(&["backend.token"], "Token to log in there with.", "none", "\"s3cr3t\"", |o, v| {
        put(&mut o.backend.token, v.text().map(|text| Some(Secret::new(text))))
    })
    .restart(|o| o.backend.token.as_ref().map_or_else(|| "none".to_owned(), Secret::mark)),
    spec(
        &["backend.prefix"],
        "What the subjects of links begin with there; the same for all peers.",
        "midge",
        "\"acme.midge\"",
        |o, v| put(&mut o.backend.deployment.prefix, prefix(v)),
    )
    .flag(&["via-prefix", "via_prefix"], "subject")
    .restart(|o| o.backend.deployment.prefix.to_string()),
    spec(
        &["backend.links"],
        "Have links through it: to peers that are named as ID@nats:, and from those that may link.",
        "true",
        "false",
        |o, v| put(&mut o.backend.links, v.boolean()),
    )
    .restart(|o| o.backend.links.to_string()),
    spec(
        &["backend.pubsub"],
        "Share the messages of the global account with everybody who uses the deployment: true, or what the subjects begin with there, which is the prefix and .bus if nothing else is said.",
        "false",
        "\"acme.messages\"",
        |o, v| {
            o.backend.pubsub = match v.boolean() {
                Ok(false) => PubSub::Off,
                Ok(true) => PubSub::On,
                Err(_) => PubSub::Below(prefix(v)?),
            };
            Ok(())
        },
    )
    .restart(|o| format!("{:?}", o.backend.pubsub)),
    spec(
        &["backend.tls.ca_file"],
        "File with the certificates to believe there, instead of those that the system believes.",
        "none",
        "\"/etc/midge/ca.pem\"",
        |o, v| put(&mut o.backend.deployment.tls.ca, v.text().map(path)),
    )
    .restart(|o| format!("{:?}", o.backend.deployment.tls.ca)),
    spec(
        &["backend.tls.cert_file"],
        "File with a certificate to show there.",
        "none",
        "\"/etc/midge/client.pem\"",
        |o, v| put(&mut o.backend.deployment.tls.certificate, v.text().map(path)),
    )
    .restart(|o| format!("{:?}", o.backend.deployment.tls.certificate)),
    spec(&["backend.tls.key_file"], "File with its key.", "none", "\"/etc/midge/client-key.pem\"", |o, v| {
        put(&mut o.backend.deployment.tls.key, v.text().map(path))
    })
    .restart(|o| format!("{:?}", o.backend.deployment.tls.key)),
];

fn path(text: String) -> Option<PathBuf> {
    said(text).map(Into::into)
}

fn prefix(given: &Given<'_>) -> Result<Prefix, String> {
    given.text()?.parse().map_err(|why: PrefixError| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::load::tests::load;
    use super::*;

    fn check(text: &str) -> Result<BackendOptions, String> {
        let options = load(text).map_err(|error| error.to_string())?;
        options.check().map_err(|error| error.to_string())?;
        Ok(options.backend)
    }

    #[test]
    fn a_deployment_is_what_the_block_says() {
        let backend =
            check("backend { urls: [\"nats://a:4222\", \"tls://b\"], pubsub: true, prefix: \"acme\" }")
                .unwrap();
        assert!(backend.carries_links());
        assert_eq!(backend.messages().unwrap().unwrap().as_str(), "acme.bus");
        assert_eq!(backend.deployment.urls.len(), 2);
        let backend =
            check("backend { urls: \"ws://a\", links: false, pubsub: \"x\", user: u, password: p }").unwrap();
        assert!(!backend.carries_links() && backend.is_on());
        let login = backend.deployment().unwrap().login;
        assert_eq!(login, Login::User { user: "u".to_owned(), password: "p".to_owned().into() });
        assert_eq!(check("").unwrap(), BackendOptions::default());
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for (text, want) in [
            ("backend { prefix: x }", "backend without backend.urls"),
            ("backend { urls: \"nats://h\", user: u }", "backend.user and backend.password go together"),
            ("backend { urls: \"nats://h\", token: t, nkey: n }", "one way to log in"),
            ("backend { urls: \"nats://h\", pubsub: midge }", "backend.pubsub must be another prefix"),
            (
                "backend { urls: \"nats://h\", prefix: \"a.b\", pubsub: a }",
                "backend.pubsub must be another prefix",
            ),
            ("backend { urls: \"nats://h\", pubsub: \"midge.d\" }", "backend.pubsub must be another prefix"),
            (
                "backend { urls: \"nats://h\", pubsub: \"midge.link.x\" }",
                "backend.pubsub must be another prefix",
            ),
            ("backend { urls: \"nats://h\", tls { cert_file: x } }", "go together"),
            (
                &format!("backend {{ urls: \"nats://h\", prefix: {}, pubsub: true }}", "x".repeat(126)),
                "is no prefix",
            ),
            ("backend { urls: \"http://h\" }", "is no NATS server's address"),
            ("backend { urls: \"nats://h\", prefix: \"a.*\" }", "is no prefix of subjects"),
            ("backend { urls: [\"nats://h\", \"ws://h\"] }", "either all NATS servers"),
            (
                "mesh { peers: [\"12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB@nats:\"] }",
                "reached through a NATS deployment",
            ),
            (
                "mesh { peers: [\"12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB@nats://x\"] }",
                "nats: alone",
            ),
            (
                "mesh { peers: [\"12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB@ftp://x\"] }",
                "by udp:// and nats:",
            ),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        let missing = BackendOptions {
            creds: Some("/no/such.creds".into()),
            deployment: Deployment::at(&["nats://h"]),
            ..BackendOptions::default()
        };
        assert!(missing.deployment().unwrap_err().to_string().contains("/no/such.creds"));
    }
}
