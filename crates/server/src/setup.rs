//! Everything that is made from the options and changes with them as a whole.

use std::sync::Arc;
use std::time::Duration;

use midge_router::{Arrival, Entrance, Router, Tag};
use rustls::crypto::ring;

use crate::auth::Directory;
use crate::carrier::Carrier;
use crate::cluster;
use crate::leafnode;
use crate::mesh::{self, KeyFileError};
use crate::options::{ConnectionType, Options, OptionsError, TlsOptions};
use crate::tls::{ClientTls, MutualTls, Tls, TlsError};

/// What is made from one set of options.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) options: Options,
    pub(crate) directory: Directory,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) websocket_tls: Option<Arc<Tls>>,
    pub(crate) cluster_tls: Option<Arc<MutualTls>>,
    pub(crate) leafnode_tls: Option<Arc<Tls>>,
    /// How WebSocket clients come in. Others come in by the router's own entrance.
    websocket: Arc<Entrance>,
}

/// Why nothing can be made of the options.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// They do not go together.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no key for links.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

impl Setup {
    /// Makes everything, without touching what is there: only accounts are added to the router.
    pub(crate) fn new(options: Options, router: &Arc<Router>) -> Result<Self, SetupError> {
        options.check()?;
        let make = |block: &Option<TlsOptions>, optional| {
            block.as_ref().map(|block| Tls::new(block, optional)).transpose()
        };
        let tls = make(&options.tls.block, options.tls.allow_plain)?;
        let websocket_tls = make(&options.websocket.tls, false)?;
        let cluster_tls = options.cluster.tls.as_ref().map(MutualTls::new).transpose()?.map(Arc::new);
        let leafnode_tls = make(&options.leafnodes.tls, false)?;
        for remote in options.leafnodes.remotes.iter().filter_map(|remote| remote.tls.as_ref()) {
            // What is wrong with it is better told now than when the hub is dialled.
            ClientTls::new(remote)?;
        }
        let directory = Directory::new(&options, router);
        for account in &options.cluster.accounts {
            router.add_account(account);
        }
        let websocket = Arc::new(websocket_entrance(&options, &directory, websocket_tls.is_some()));
        Ok(Self { options, directory, tls, websocket_tls, cluster_tls, leafnode_tls, websocket })
    }

    /// How clients come in that are no WebSocket clients.
    pub(crate) fn entrance(&self) -> Entrance {
        let (options, directory) = (&self.options, &self.directory);
        let kind = ConnectionType::Standard;
        Entrance {
            asks: directory.asks(kind),
            announces: directory.asks(kind) && options.auth.no_auth_user.is_none(),
            anonymous: directory.takes_strangers(kind),
            timeout: options.auth_timeout(),
            tls_required: self.tls.as_ref().is_some_and(|tls| !tls.optional),
            tls_available: self.tls.as_ref().is_some_and(|tls| tls.optional),
            tls_verify: self.tls.as_ref().is_some_and(|tls| tls.verify),
            ..Entrance::default()
        }
    }

    /// How other servers of the cluster come in, or are gone to.
    pub(crate) fn route_arrival<'a>(
        &self,
        peer: &'a str,
        carrier: Option<&Arc<Carrier>>,
        dialled: bool,
    ) -> Arrival<'a> {
        let block = &self.options.cluster;
        let link = carrier.and_then(|carrier| carrier.link.as_ref());
        let entrance = Entrance {
            asks: !dialled,
            announces: link.is_none() && block.auth.user.is_some(),
            timeout: cluster::auth_timeout(block),
            ping_interval: block.ping_interval,
            proven: link.map(|link| mesh::routes::server_id(&link.peer).into()),
            ..Entrance::default()
        };
        Arrival {
            entrance: Some(Arc::new(entrance)),
            tag: carrier.map(|carrier| carrier.clone() as Tag),
            ..Arrival::from(peer)
        }
    }

    /// A leafnode at the door, or a hub that is gone to.
    pub(crate) fn leaf_arrival<'a>(
        &self,
        peer: &'a str,
        carrier: Option<&Arc<Carrier>>,
        dialled: bool,
    ) -> Arrival<'a> {
        let block = &self.options.leafnodes;
        let over_link = carrier.is_some_and(|carrier| carrier.link.is_some());
        let entrance = Entrance {
            asks: !dialled,
            announces: true,
            timeout: leafnode::auth_timeout(block),
            compression: leafnode::compression(block, carrier).name(),
            // A link has its own, and has proven who is there.
            tls_required: block.tls.is_some() && !over_link,
            groups_apart: carrier.is_some_and(|carrier| carrier.is_bridge),
            ..Entrance::default()
        };
        Arrival {
            entrance: Some(Arc::new(entrance)),
            nonce: if dialled || over_link { String::new() } else { nonce() },
            tag: carrier.map(|carrier| carrier.clone() as Tag),
            ..Arrival::from(peer)
        }
    }

    /// A client at the door, with something to sign where somebody's key is known.
    pub(crate) fn arrival<'a>(&self, peer: &'a str, carrier: Option<&Arc<Carrier>>) -> Arrival<'a> {
        let websocket = carrier.is_some_and(|carrier| carrier.kind == ConnectionType::WebSocket);
        let link = carrier.is_some_and(|carrier| carrier.link.is_some());
        let entrance = match (websocket, link) {
            (true, _) => Some(self.websocket.clone()),
            // Who it is has been proven; a CONNECT says the rest.
            (_, true) => {
                let timeout = self.options.auth_timeout();
                Some(Arc::new(Entrance { asks: true, timeout, ..Entrance::default() }))
            }
            (false, false) => None,
        };
        Arrival {
            entrance,
            nonce: if self.directory.has_nkeys() && !link { nonce() } else { String::new() },
            tag: carrier.map(|carrier| carrier.clone() as Tag),
            ..Arrival::from(peer)
        }
    }
}

fn websocket_entrance(options: &Options, directory: &Directory, tls: bool) -> Entrance {
    let kind = ConnectionType::WebSocket;
    let block = &options.websocket;
    let timeout = block.auth.timeout.or(options.auth.timeout).unwrap_or(Duration::from_secs(2));
    Entrance {
        asks: directory.asks(kind),
        announces: directory.asks(kind),
        anonymous: directory.takes_strangers(kind),
        timeout,
        tls_required: tls,
        tls_available: tls,
        tls_verify: options.tls.block.as_ref().is_some_and(|tls| tls.verify),
        ping_interval: block.ping_interval,
        address: Some((block.host.clone().unwrap_or_else(|| "0.0.0.0".to_owned()), block.port.unwrap_or(0))),
        ..Entrance::default()
    }
}

/// Random text. A system without randomness cannot do anything that keeps a secret: its connections get nothing to
/// sign, and nobody comes in by a key.
fn nonce() -> String {
    let mut random = [0; midge_identity::challenge::NONCE_BYTES];
    match ring::default_provider().secure_random.fill(&mut random) {
        Ok(()) => midge_identity::challenge::nonce(random),
        Err(_) => String::new(),
    }
}
