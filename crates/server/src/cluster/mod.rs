//! Routes: listening for other servers of the cluster, and connecting to them.
//!
//! What they say to each other is the router's (`midge_router::Cluster`). Here is who is dialled, and when again.

mod dial;

use std::sync::Arc;
use std::time::Duration;

use midge_router::{ClusterSettings, Conn, RouteError, RouteNews, SessionError};
use midge_wire::json::PeerInfo;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

pub(crate) use dial::{Dialled, connect, own_addresses, run};

use crate::options::{ClusterOptions, MESH_CLUSTER, Options, ServerUrl};
use crate::server::{PROTOCOL_VERSION, Server};

/// News that waits until somebody looks at it. What does not fit is forgotten: others tell it again.
const NEWS: usize = 1024;

/// A server's side of its cluster.
#[derive(Debug)]
pub(crate) struct Clustering {
    /// Counts changes of who is a member.
    changes: watch::Sender<u64>,
    news: mpsc::Sender<News>,
    /// Taken by whoever runs the cluster.
    inbox: Mutex<Option<mpsc::Receiver<News>>>,
}

/// What whoever runs the cluster must know.
#[derive(Debug)]
pub(crate) enum News {
    /// Another member has told of a server.
    Heard(Box<PeerInfo>),
    /// A member wants further connections.
    Open { id: String, from: (ServerUrl, midge_router::Dialled), openings: Vec<midge_router::Opening> },
}

impl Clustering {
    pub(crate) fn new() -> Self {
        let (news, inbox) = mpsc::channel(NEWS);
        Self { changes: watch::Sender::new(0), news, inbox: Mutex::new(Some(inbox)) }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// What the driver of a route does besides moving bytes: it tells who runs the cluster what has become of it.
pub(crate) struct RouteDuty {
    dialled: Option<Box<Dialled>>,
    /// Who waits for what becomes of it.
    done: Option<Done>,
    joined: Option<String>,
    outcome: Option<Outcome>,
}

/// What has become of a connection to another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was one to the member of that id, and has ended.
    Ended(String),
    /// There is one to the member of that id already.
    Duplicate(String),
    /// It went to this server itself.
    Itself,
    /// It never was one.
    Failed,
}

impl RouteDuty {
    /// Of a connection by TCP.
    pub(crate) fn new(dialled: Option<(Box<Dialled>, Done)>) -> Self {
        let (dialled, done) = dialled.unzip();
        Self { dialled, done, joined: None, outcome: None }
    }

    /// Of one over a link.
    pub(crate) const fn over_link(done: Option<Done>) -> Self {
        Self { dialled: None, done, joined: None, outcome: None }
    }

    pub(crate) fn news(&mut self, server: &Arc<Server>, conn: &Arc<Conn>, news: RouteNews) {
        let Some(clustering) = server.clustering() else { return };
        match news {
            RouteNews::Joined { id, name, open } => {
                info!("{} - rid:{} - Route connection to {name:?} ({id:?})", conn.peer(), conn.cid());
                self.joined = Some(id.clone());
                if let Some(dialled) = self.dialled.as_deref().filter(|_| !open.is_empty()) {
                    let from = (dialled.url.clone(), dialled.why);
                    let _ = clustering.news.try_send(News::Open { id, from, openings: open });
                }
                clustering.changed();
                server.tell_where_to_connect();
            }
            // Peers tell of each other, but whoever is no member of a cluster by TCP has no use for addresses there.
            RouteNews::Heard(_)
                if conn.entrance().proven.is_some() && !server.setup().options.cluster.is_on() => {}
            RouteNews::Heard(info) => {
                let _ = clustering.news.try_send(News::Heard(info));
            }
            RouteNews::Changed => server.tell_where_to_connect(),
        }
    }

    pub(crate) fn closed(&mut self, error: Option<&SessionError>) {
        if let Some(SessionError::Route(error)) = error {
            self.outcome = match error {
                RouteError::Duplicate(id) => Some(Outcome::Duplicate(id.clone())),
                RouteError::ToItself => Some(Outcome::Itself),
                _ => Some(Outcome::Failed),
            };
        }
    }

    pub(crate) fn ended(&mut self, server: &Arc<Server>) {
        let joined = self.joined.take();
        if joined.is_some() {
            if let Some(clustering) = server.clustering() {
                clustering.changed();
            }
            server.tell_where_to_connect();
        }
        if let Some(done) = self.done.take() {
            let outcome = joined.map(Outcome::Ended).or(self.outcome.take()).unwrap_or(Outcome::Failed);
            // Nobody waits for it any more when the server stops.
            let _ = done.send(outcome);
        }
    }
}

impl Server {
    /// Tells clients where else they may connect.
    pub(crate) fn tell_where_to_connect(&self) {
        self.tell_leafnodes_where_to_connect();
        let Some(cluster) = self.router().cluster() else { return };
        let setup = self.setup();
        if setup.options.cluster.no_advertise {
            return;
        }
        let (others, _) = cluster.client_urls();
        let mut urls = self.own_client_urls();
        urls.extend(others.into_iter().filter(|url| !urls.contains(url)).collect::<Vec<_>>());
        let name = cluster.name();
        let worker = self.driven_worker();
        let mut worker = worker.lock();
        let current = self.router().info();
        if current.connect_urls == urls && current.cluster == name {
            return;
        }
        self.router().change_info(&mut worker, std::time::Instant::now(), |info| {
            info.connect_urls = urls;
            info.cluster = name;
        });
    }

    /// Where clients reach this server.
    fn own_client_urls(&self) -> Vec<String> {
        let Some(address) = self.client_address() else { return Vec::new() };
        let listen = &self.setup().options.listen;
        if let Some(advertise) = &listen.advertise {
            let host = advertise.host.clone().unwrap_or_else(|| listen.host.clone());
            return vec![join(&host, advertise.port)];
        }
        if !address.ip().is_unspecified() {
            return vec![address.to_string()];
        }
        own_addresses()
            .into_iter()
            .map(|ip| std::net::SocketAddr::new(ip, address.port()).to_string())
            .collect()
    }

    /// Says where this server listens, now that it does: for other servers, and for clients.
    pub(crate) fn listens_for_routes_on(&self, address: std::net::SocketAddr) {
        let Some(cluster) = self.router().cluster() else { return };
        let options = &self.setup().options.cluster;
        if options.advertise.is_none() {
            cluster.set_port(address.port());
        }
        if !options.no_advertise {
            cluster.set_connect_urls(self.own_client_urls(), Vec::new());
        }
        self.tell_where_to_connect();
    }
}

/// What the router must know of the cluster, if there is one.
pub(crate) fn settings(options: &Options, id: &str) -> Option<ClusterSettings> {
    let block = &options.cluster;
    if !block.is_on() && !options.is_peer() {
        return None;
    }
    let (host, port) = match &block.advertise {
        Some(address) => (address.host.clone().unwrap_or_else(|| block.host().to_owned()), address.port),
        None => (block.host().to_owned(), block.port.unwrap_or(0)),
    };
    let ip = block.advertise.as_ref().map(|_| format!("nats-route://{}/", join(&host, port)));
    let info = PeerInfo {
        server_id: id.to_owned(),
        server_name: options.name.clone().unwrap_or_else(|| id.to_owned()),
        version: PROTOCOL_VERSION.to_owned(),
        proto: 2,
        go: concat!("midge ", env!("CARGO_PKG_VERSION")).to_owned(),
        host,
        port,
        ip: ip.unwrap_or_default(),
        headers: options.limits.headers,
        auth_required: block.auth.user.is_some(),
        tls_required: block.tls.is_some(),
        tls_verify: block.tls.is_some(),
        max_payload: options.limits.max_payload as i64,
        import: block.import.as_ref().map(lists),
        export: block.export.as_ref().map(lists),
        compression: block.compression.name().to_owned(),
        ..PeerInfo::default()
    };
    Some(ClusterSettings {
        name: block.name.clone().or_else(|| options.is_peer().then(|| MESH_CLUSTER.to_owned())),
        info,
        pool_size: block.pool_size,
        dedicated: block.accounts.clone(),
        import: block.import.clone(),
        export: block.export.clone(),
    })
}

fn lists(rules: &midge_router::SubjectRules) -> midge_wire::json::SubjectLists {
    let deny = Some(rules.deny.clone()).filter(|deny| !deny.is_empty());
    midge_wire::json::SubjectLists { allow: rules.allow.clone(), deny }
}

/// The name that a server's certificate must have, of all that are configured: for an address of which another server has
/// told, the first that is no address itself, since certificates are seldom for addresses.
pub(crate) fn tls_name<'a>(host: &'a str, configured: &'a [ServerUrl]) -> &'a str {
    let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
    if !is_address(host) || configured.iter().any(|url| url.host == host) {
        return host;
    }
    configured.iter().map(|url| url.host.as_str()).find(|host| !is_address(host)).unwrap_or(host)
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Time in which another server must have said who it is.
pub(crate) fn auth_timeout(block: &ClusterOptions) -> Duration {
    let tls = block.tls.as_ref().map(|tls| tls.timeout + Duration::from_secs(1));
    block.auth.timeout.or(tls).unwrap_or(Duration::from_secs(2))
}

/// Where a dialled connection's outcome goes.
pub(crate) type Done = oneshot::Sender<Outcome>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_for_names_where_there_are_any() {
        let urls = |hosts: &[&str]| -> Vec<ServerUrl> {
            hosts.iter().map(|host| ServerUrl::parse(&format!("nats://{host}"), 6222).unwrap()).collect()
        };
        for (host, configured, want) in [
            ("10.0.0.2", &["a.example", "b.example"][..], "a.example"),
            ("10.0.0.2", &["10.0.0.1"], "10.0.0.2"),
            ("10.0.0.1", &["10.0.0.1", "a.example"], "10.0.0.1"),
            ("b.example", &["a.example"], "b.example"),
            ("::1", &["[::2]", "a.example"], "a.example"),
        ] {
            assert_eq!(tls_name(host, &urls(configured)), want, "{host} of {configured:?}");
        }
    }
}
