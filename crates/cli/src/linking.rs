//! Links of this command: who it is, and the ways to others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use midge::backend::{Carrier, Deployment, Listening, Login, Prefix, SCHEME, TlsFiles};
use midge::identity::{KeyPair, PeerId};
use midge::link::{
    Address, Admission, IncomingStream, Link, LinkConfig, LinkEvent, LinkEvents, LinkTable, PeerAddress,
    UdpPath,
};
use midge::mesh::{new_key, read_key};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Outcome;

/// Who one is to a NATS server.
#[derive(Args)]
pub(crate) struct Credentials {
    /// A file with credentials for the NATS server.
    #[arg(long, value_name = "FILE")]
    pub(crate) creds: Option<PathBuf>,
    /// A file with an nkey seed to log in with.
    #[arg(long, value_name = "FILE")]
    pub(crate) nkey: Option<PathBuf>,
    /// User to log in as, with --password.
    #[arg(long, requires = "password")]
    pub(crate) user: Option<String>,
    /// Password of that user.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// Token to log in with.
    #[arg(long)]
    token: Option<String>,
    /// A file with the certificates to believe of the NATS server, instead of those that the system believes.
    #[arg(long, value_name = "FILE")]
    tlsca: Option<PathBuf>,
    /// A file with a certificate to show it, with --tlskey.
    #[arg(long, value_name = "FILE", requires = "tlskey")]
    tlscert: Option<PathBuf>,
    /// The file with its key.
    #[arg(long, value_name = "FILE", requires = "tlscert")]
    tlskey: Option<PathBuf>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Who one is to peers, and how they are reached.
#[derive(Debug, Args)]
pub(crate) struct Ways {
    /// The file with this peer's key; without it, a key is made for this run only.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A NATS server through which peers are reached as ID@nats:; several of one deployment with commas.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    via: Vec<String>,
    /// What the subjects of links begin with there.
    #[arg(long, value_name = "SUBJECT", default_value = midge::options::PREFIX)]
    via_prefix: Prefix,
}

/// Lets nobody link: this peer only dials.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Admission for Nobody {
    fn admits(&self, _: &PeerId) -> bool {
        false
    }
}

/// Links, and what comes over them.
pub(crate) struct Linked {
    pub(crate) table: LinkTable,
    pub(crate) events: LinkEvents,
    pub(crate) streams: mpsc::Receiver<IncomingStream>,
    /// Where others reach this peer.
    pub(crate) addresses: Vec<String>,
}

impl Credentials {
    /// Whether anything is said.
    pub(crate) const fn is_said(&self) -> bool {
        self.creds.is_some()
            || self.nkey.is_some()
            || self.user.is_some()
            || self.token.is_some()
            || self.tlsca.is_some()
            || self.tlscert.is_some()
    }

    /// What TLS needs.
    pub(crate) fn tls(&self) -> TlsFiles {
        TlsFiles { ca: self.tlsca.clone(), certificate: self.tlscert.clone(), key: self.tlskey.clone() }
    }

    /// What is said.
    pub(crate) fn login(&self) -> Outcome<Login> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(if let Some(path) = &self.creds {
            Login::Credentials(read(path)?.into())
        } else if let Some(path) = &self.nkey {
            Login::Nkey(read(path)?.trim().to_owned().into())
        } else if let (Some(user), Some(password)) = (&self.user, &self.password) {
            Login::User { user: user.clone(), password: password.clone().into() }
        } else if let Some(token) = &self.token {
            Login::Token(token.clone().into())
        } else {
            Login::Derived
        })
    }
}

impl Ways {
    /// The peer's key, if a file is named.
    pub(crate) fn key(&self) -> Outcome<Option<KeyPair>> {
        self.key.as_deref().map(read_key).transpose().map_err(|error| error.to_string())
    }

    /// Whether peers are reached through a deployment.
    pub(crate) fn is_via(&self) -> bool {
        !self.via.is_empty()
    }

    /// Has links by all ways that are named: listens where that is said, and dials by UDP where nothing is.
    pub(crate) fn open(
        &self,
        credentials: &Credentials,
        listen: &[Address],
        admission: Arc<dyn Admission>,
        config: LinkConfig,
    ) -> Outcome<Linked> {
        let fail = |error: &dyn std::fmt::Display| error.to_string();
        if credentials.is_said() && !self.is_via() {
            return Err("a login is for a NATS server: name it with --via".to_owned());
        }
        let key = self.key()?.map_or_else(new_key, Ok).map_err(|error| fail(&error))?;
        let listens = if listen.is_empty() { Listening::No } else { Listening::To(admission.clone()) };
        let (table, events, streams) =
            LinkTable::new(key.clone(), admission, config).map_err(|error| fail(&error))?;
        let mut addresses = Vec::new();
        let by_udp = listen.iter().filter(|address| address.scheme() == "udp");
        for address in by_udp {
            let wrong = |error: &dyn std::fmt::Display| format!("{address}: {error}");
            let place = address.rest().parse().map_err(|error: std::net::AddrParseError| wrong(&error))?;
            let path = UdpPath::bind(place).map_err(|error| wrong(&error))?;
            let local = midge::link::PacketPath::local_address(&*path);
            addresses.push(format!("udp://{local}"));
            table.add_path(path).map_err(|error| wrong(&error))?;
        }
        if listen.is_empty() {
            let path = UdpPath::any().map_err(|error| format!("UDP: {error}"))?;
            table.add_path(path).map_err(|error| fail(&error))?;
        }
        if self.is_via() {
            let deployment = Deployment {
                urls: self.via.clone(),
                login: credentials.login()?,
                tls: credentials.tls(),
                prefix: self.via_prefix.clone(),
            };
            let carrier = Carrier::start(&deployment, &key, listens).map_err(|error| fail(&error))?;
            table.add_path(carrier).map_err(|error| fail(&error))?;
            addresses.push(format!("{SCHEME}:"));
        }
        Ok(Linked { table, events, streams, addresses })
    }
}

impl Linked {
    /// Has a link to that peer, in that time; it is kept from then on.
    pub(crate) async fn reach(
        &mut self,
        peer: PeerId,
        addresses: Vec<Address>,
        patience: Duration,
    ) -> Outcome<Link> {
        self.table.want(peer, addresses);
        let mut last = "it does not answer".to_owned();
        let linked = async {
            loop {
                match self.events.next().await {
                    Some(LinkEvent::Up(link)) if link.peer() == peer => return Some(link),
                    Some(LinkEvent::Unreachable { why, .. }) => last = why,
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        let link = timeout(patience, linked).await.ok().flatten();
        link.ok_or_else(|| format!("no link to {peer}: {last} (this peer is {})", self.table.peer()))
    }
}

/// Looks whether a text is a host and a port.
pub(crate) fn host_and_port(text: &str) -> Outcome {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(format!("'{text}' is no host and port, as 127.0.0.1:80 is")),
    }
}

/// Seconds, as a time.
pub(crate) fn seconds(seconds: f64) -> Outcome<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("--timeout: {error}"))
}

/// The addresses of the one peer that all of these are of.
pub(crate) fn addresses_of(peer: PeerId, all: &[PeerAddress]) -> Outcome<Vec<Address>> {
    if let Some(other) = all.iter().find(|other| other.peer != peer) {
        return Err(format!("--peer {other}: there is a link to one peer, which is {peer}"));
    }
    Ok(all.iter().map(|one| one.address.clone()).collect())
}
