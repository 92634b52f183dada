//! Connecting to other servers, and connecting again.
//!
//! Times and rules are nats-server's (`server/route.go`: `connectToRoute`, `reConnectToRoute`): servers that are
//! configured are tried for ever, those that others told of a few times.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use midge_router::{Dial, Dialled as Why, Opening};
use midge_wire::json::{Credentials, PeerInfo};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tracing::{debug, error};

use super::{News, Outcome};
use crate::options::{Secret, ServerUrl};
use crate::server::Server;
use crate::shard::{Accepted, Door, Shard};

/// Pause between attempts, and the most that chance adds to it (nats-server's `DEFAULT_ROUTE_CONNECT`).
const PAUSE: Duration = Duration::from_secs(1);
const CHANCE: Duration = Duration::from_millis(100);
/// Most pause where it grows with each attempt (nats-server's `DEFAULT_ROUTE_CONNECT_MAX`).
const MOST_PAUSE: Duration = Duration::from_secs(30);
/// Time in which a server must take a connection (nats-server's `DEFAULT_ROUTE_DIAL`).
const PATIENCE: Duration = Duration::from_secs(1);
/// Most servers that are dialled at once because others told of them: whoever is a member may invent more.
const MOST_HEARD: usize = 256;
/// How often failing attempts are logged after the first: once in so many.
const REPORT: u64 = 3600;

/// A connection that was dialled.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) url: ServerUrl,
    /// What it is for.
    pub(crate) opening: Opening,
    pub(crate) why: Why,
}

impl Dialled {
    /// What the session says first.
    pub(crate) fn dial(&self, tls: bool) -> Dial {
        let said = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let credentials = Credentials {
            user: said(self.url.user.as_deref()),
            pass: said(self.url.password.as_ref().map(Secret::reveal)),
            ..Credentials::default()
        };
        Dial { opening: self.opening.clone(), credentials, why: Some(self.why), tls, gossip_mode: 0 }
    }
}

/// Ids of the servers that are dialled because others told of them.
type Dialling = Rc<RefCell<HashSet<String>>>;

/// Who runs a cluster.
struct Dialler {
    server: Arc<Server>,
    shards: Arc<Vec<Shard>>,
    /// The further connections that somebody keeps: to which member, and for what.
    kept: RefCell<HashSet<(String, Opening)>>,
}

/// Connects to other servers for as long as the server runs. Needs a local set of tasks.
pub(crate) async fn run(server: Arc<Server>, shards: Arc<Vec<Shard>>) {
    let Some(mut inbox) = server.clustering().and_then(|clustering| clustering.inbox.lock().take()) else {
        return;
    };
    let dialler = Rc::new(Dialler { server, shards, kept: RefCell::default() });
    let setup = dialler.server.setup();
    for url in &setup.options.cluster.routes {
        spawn_local(dialler.clone().keep(url.clone(), Why::Configured));
    }
    let dialling = Dialling::default();
    while let Some(news) = inbox.recv().await {
        match news {
            News::Heard(info) => dialler.heard(&info, &dialling),
            News::Open { id, from, openings } => {
                for opening in openings {
                    let what = (id.clone(), opening);
                    // Whoever kept it before the member came back still does.
                    if dialler.kept.borrow_mut().insert(what.clone()) {
                        let (dialler, from) = (dialler.clone(), from.clone());
                        spawn_local(async move {
                            dialler.keep_open(&what, from).await;
                            dialler.kept.borrow_mut().remove(&what);
                        });
                    }
                }
            }
        }
    }
}

impl Dialler {
    /// Connects to a server of which another one has told, unless it is known.
    fn heard(self: &Rc<Self>, info: &PeerInfo, dialling: &Dialling) {
        let Some(cluster) = self.server.router().cluster() else { return };
        if info.server_id == self.server.id() || cluster.is_member(&info.server_id) {
            return;
        }
        let setup = self.server.setup();
        let block = &setup.options.cluster;
        let Some(mut url) = url_of(info) else { return };
        if block.routes.iter().any(|known| known.address() == url.address()) {
            return;
        }
        if info.auth_required {
            (url.user, url.password) = (block.auth.user.clone(), block.auth.password.clone());
        }
        if dialling.borrow().len() >= MOST_HEARD || !dialling.borrow_mut().insert(info.server_id.clone()) {
            return;
        }
        let (dialler, id, dialling) = (self.clone(), info.server_id.clone(), dialling.clone());
        spawn_local(async move {
            dialler.keep(url, Why::Heard).await;
            dialling.borrow_mut().remove(&id);
        });
    }

    /// Keeps a connection to a server: for ever if it is configured.
    async fn keep(self: Rc<Self>, url: ServerUrl, why: Why) {
        let setup = self.server.setup();
        let retries = u64::from(setup.options.cluster.connect_retries);
        let mut attempts = 0_u64;
        loop {
            let outcome = self.dial(&url, Opening::default(), why, attempts).await;
            let known = match outcome {
                // A name may be several servers'.
                Outcome::Itself if addresses(&url.host, url.port).await.is_ok_and(|all| all.len() > 1) => {
                    None
                }
                Outcome::Itself => {
                    return debug!("Not connecting to {} again: it is this server itself", url.address());
                }
                Outcome::Failed => {
                    attempts += 1;
                    None
                }
                Outcome::Duplicate(id) => Some(id),
                Outcome::Ended(id) => {
                    attempts = 0;
                    Some(id)
                }
            };
            if why == Why::Heard && attempts > retries {
                return;
            }
            if known.is_some() && why == Why::Heard {
                sleep(chance()).await;
            } else {
                sleep(self.pause(attempts) + chance()).await;
            }
            if let Some(id) = known {
                self.gone(&id, &Opening::default()).await;
            }
        }
    }

    /// Keeps a further connection to a member, for as long as it is one.
    async fn keep_open(&self, (id, opening): &(String, Opening), (url, why): (ServerUrl, Why)) {
        let Some(cluster) = self.server.router().cluster() else { return };
        let mut attempts = 0;
        while cluster.is_member(id) {
            if cluster.has(id, opening) {
                self.gone(id, opening).await;
                sleep(chance()).await;
                continue;
            }
            match self.dial(&url, opening.clone(), why, attempts).await {
                Outcome::Itself => return,
                Outcome::Failed => attempts += 1,
                Outcome::Duplicate(_) | Outcome::Ended(_) => attempts = 0,
            }
            sleep(self.pause(attempts) + chance()).await;
        }
    }

    fn pause(&self, attempts: u64) -> Duration {
        if self.server.setup().options.cluster.connect_backoff {
            PAUSE.saturating_mul(1 << attempts.min(5)).min(MOST_PAUSE)
        } else {
            PAUSE
        }
    }

    /// Waits until there is no such connection to that member.
    async fn gone(&self, id: &str, opening: &Opening) {
        let (Some(clustering), Some(cluster)) = (self.server.clustering(), self.server.router().cluster())
        else {
            return;
        };
        let mut changes = clustering.changes.subscribe();
        while cluster.has(id, opening) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Connects once, and waits until that connection has ended.
    async fn dial(&self, url: &ServerUrl, opening: Opening, why: Why, attempts: u64) -> Outcome {
        let address = url.address();
        if attempts == 0 {
            debug!("Trying to connect to route on {address}");
        }
        let stream = match connect(url).await {
            Ok(stream) => stream,
            Err(why) => return fail(&address, attempts, &why),
        };
        let _ = stream.set_nodelay(true);
        let Ok(stream) = stream.into_std() else { return Outcome::Failed };
        let Some(shard) = self.shards.iter().min_by_key(|shard| shard.load()) else { return Outcome::Failed };
        let (done, outcome) = oneshot::channel();
        let dialled = Box::new(Dialled { url: url.clone(), opening, why });
        shard.take(Accepted { stream, door: Door::Route(Some((dialled, done))) }).await;
        outcome.await.unwrap_or(Outcome::Failed)
    }
}

/// The addresses of a host, in any order, so that servers that are known by one name get their turns.
async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = timeout(PATIENCE, lookup_host((host, port))).await;
    let mut all: Vec<SocketAddr> =
        found.map_err(|_| "lookup timed out".to_owned())?.map_err(|why| why.to_string())?.collect();
    let dice = RandomState::new();
    all.sort_by_cached_key(|address| dice.hash_one(address));
    Ok(all)
}

/// Connects to a server: to any of its addresses that takes it, each in [`PATIENCE`].
pub(crate) async fn connect(url: &ServerUrl) -> Result<TcpStream, String> {
    let mut why = "it has no address".to_owned();
    for address in addresses(&url.host, url.port).await? {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => "connect timed out".clone_into(&mut why),
        }
    }
    Err(why)
}

fn fail(address: &str, attempts: u64, why: &str) -> Outcome {
    if attempts.is_multiple_of(REPORT) {
        error!("Error trying to connect to route (attempt {}): {address}: {why}", attempts + 1);
    } else {
        debug!("Error trying to connect to route (attempt {}): {address}: {why}", attempts + 1);
    }
    Outcome::Failed
}

/// A short time by chance, so that two servers that dial each other do not do it at the same moment for ever.
fn chance() -> Duration {
    CHANCE.mul_f64(RandomState::new().hash_one(0) as f64 / u64::MAX as f64)
}

/// Where a server is of which another one has told.
fn url_of(info: &PeerInfo) -> Option<ServerUrl> {
    if !info.ip.is_empty() {
        return ServerUrl::parse(info.ip.trim_end_matches('/'), info.port).ok();
    }
    let host = info.host.trim_matches(['[', ']']);
    let scheme = "nats-route".to_owned();
    (!host.is_empty()).then(|| ServerUrl {
        scheme,
        host: host.to_owned(),
        port: info.port,
        path: String::new(),
        user: None,
        password: None,
    })
}

/// The addresses by which others may reach this machine.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.ip());
    all.filter(|ip| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    })
    .collect()
}
