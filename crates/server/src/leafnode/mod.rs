//! Leafnode connections: listening for leafnodes, and connecting to hubs.
//!
//! What they say to each other is the router's (`midge_router::Leaves`). Here is who is dialled, and when again.

mod dial;
mod hub;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use midge_router::{Conn, LeafError, LeafNews, LeafSettings, SessionError};
use midge_wire::json::PeerInfo;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{error, info};

pub(crate) use dial::run;
pub(crate) use hub::{Hub, open};

use crate::carrier::Carrier;
use crate::cluster::{join, own_addresses};
use crate::options::{Compression, ConnectionType, LeafnodeOptions, Options};
use crate::server::{PROTOCOL_VERSION, Server};

/// How long a hub is left alone with which the connection cannot be kept: a loop, the same name, or a complaint that
/// says so (nats-server's `leafNodeReconnectDelayAfterLoopDetected` and those beside it).
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// How long one is left alone that finds this server too old.
const VERSION_PAUSE: Duration = Duration::from_secs(5);

/// What the driver of a leafnode connection does besides moving bytes.
pub(crate) struct LeafDuty {
    dialled: Option<oneshot::Sender<Outcome>>,
    outcome: Outcome,
}

/// What has become of a connection to a hub.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Whether it was one.
    pub(crate) joined: bool,
    /// How long to leave the hub alone, if longer than usual.
    pub(crate) pause: Option<Duration>,
    /// Where else the hub's cluster is.
    pub(crate) urls: Vec<String>,
}

impl LeafDuty {
    pub(crate) fn new(dialled: Option<oneshot::Sender<Outcome>>) -> Self {
        Self { dialled, outcome: Outcome::default() }
    }

    pub(crate) fn news(&mut self, conn: &Conn, news: LeafNews) {
        match news {
            LeafNews::Joined { id, name } => {
                let what = if self.dialled.is_some() { "to hub" } else { "from leafnode" };
                info!("{} - lid:{} - Leafnode connection {what} {name:?} ({id:?})", conn.peer(), conn.cid());
                self.outcome.joined = true;
            }
            LeafNews::Urls(urls) => self.outcome.urls = urls,
            LeafNews::Told(text) => {
                error!("{} - lid:{} - Leafnode Error {text}", conn.peer(), conn.cid());
                let pause = pause_after(&text);
                self.outcome.pause = pause.or(self.outcome.pause);
            }
        }
    }

    pub(crate) fn closed(&mut self, error: Option<&SessionError>) {
        if let Some(SessionError::Leaf(LeafError::Loop(_) | LeafError::SameCluster)) = error {
            self.outcome.pause = Some(LONG_PAUSE);
        }
    }

    /// Whether the connection was one.
    pub(crate) const fn was_joined(&self) -> bool {
        self.outcome.joined
    }

    pub(crate) fn ended(&mut self) {
        if let Some(done) = self.dialled.take() {
            // Nobody waits for it any more when the server stops.
            let _ = done.send(self.outcome.clone());
        }
    }
}

/// How long a hub wants to be left alone that says this.
fn pause_after(text: &str) -> Option<Duration> {
    if text.contains("Loop detected") || text.contains("same cluster name") {
        Some(LONG_PAUSE)
    } else if text.contains("minimum version required") {
        Some(VERSION_PAUSE)
    } else {
        None
    }
}

impl Server {
    /// Says where this server listens for leafnodes, now that it does.
    pub(crate) fn listens_for_leafnodes_on(&self, address: std::net::SocketAddr) {
        *self.leafnode_address.write() = Some(address);
        self.tell_leafnodes_where_to_connect();
    }

    /// Tells leafnodes where else they may connect.
    pub(crate) fn tell_leafnodes_where_to_connect(&self) {
        let (Some(leaves), Some(address)) = (self.router().leaves(), *self.leafnode_address.read()) else {
            return;
        };
        let setup = self.setup();
        let block = &setup.options.leafnodes;
        let own = match &block.advertise {
            Some(advertise) => vec![join(advertise.host.as_deref().unwrap_or(block.host()), advertise.port)],
            None if address.ip().is_unspecified() => {
                own_addresses().into_iter().map(|ip| join(&ip.to_string(), address.port())).collect()
            }
            None => vec![address.to_string()],
        };
        if let Some(cluster) = self.router().cluster() {
            cluster.set_leafnode_urls(own.clone());
        }
        let mut urls = own;
        if !block.no_advertise
            && let Some(cluster) = self.router().cluster()
        {
            urls.extend(cluster.leafnode_urls());
        }
        if leaves.set_addresses(address.port(), urls) {
            leaves.tell_urls(&mut self.driven_worker().lock());
        }
    }
}

/// What the router must know of leafnodes, if there may be any.
pub(crate) fn settings(options: &Options, id: &str) -> Option<LeafSettings> {
    let block = &options.leafnodes;
    // Over links, leafnodes may come at any time.
    if !block.is_on() && !options.is_peer() {
        return None;
    }
    let (host, port) = match &block.advertise {
        Some(address) => (address.host.clone().unwrap_or_else(|| block.host().to_owned()), address.port),
        None => (block.host().to_owned(), block.port.unwrap_or(0)),
    };
    let name = options.name.clone().unwrap_or_else(|| id.to_owned());
    let info = PeerInfo {
        server_id: id.to_owned(),
        server_name: name.clone(),
        version: PROTOCOL_VERSION.to_owned(),
        proto: 1,
        go: concat!("midge ", env!("CARGO_PKG_VERSION")).to_owned(),
        host,
        port,
        headers: options.limits.headers,
        max_payload: options.limits.max_payload as i64,
        tls_required: block.tls.is_some(),
        tls_verify: block.tls.as_ref().is_some_and(|tls| tls.verify),
        ..PeerInfo::default()
    };
    let cluster = options.cluster.name.clone().filter(|_| options.cluster.is_on()).unwrap_or(name);
    Some(LeafSettings { info, cluster, min_version: block.min_version, isolated: block.isolated })
}

/// How what goes over a leafnode's connection is compressed. nats-server would compress what WebSocket's frames are sent
/// in, which nobody in between would take for WebSocket any more: there it is declined.
pub(crate) fn compression(block: &LeafnodeOptions, carrier: Option<&Arc<Carrier>>) -> Compression {
    let is_websocket = carrier.is_some_and(|carrier| carrier.kind == ConnectionType::WebSocket);
    if is_websocket { Compression::Off } else { block.compression.clone() }
}

/// Time in which a leafnode must have said who it is.
pub(crate) fn auth_timeout(block: &LeafnodeOptions) -> Duration {
    let tls = block.tls.as_ref().map(|tls| tls.timeout);
    block.auth.timeout.unwrap_or(Duration::from_secs(2)) + tls.unwrap_or_default()
}

/// Hubs' further addresses, by the place of the hub in the options.
type Known = Mutex<HashMap<usize, Vec<String>>>;
