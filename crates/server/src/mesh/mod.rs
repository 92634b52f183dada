//! Links to other peers, and what runs over them: routes, clients and leafnodes.
//!
//! A link knows nothing of NATS, and the router nothing of links. Here streams of links become connections of the router:
//! on each link the peer with the smaller id opens a route, and whatever else peers open for one of the protocols below
//! is served. Who is at the other side is what the link has proven.

mod backend;
mod key_file;
mod policy;
pub(crate) mod routes;
pub(crate) mod thread;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use midge_backend::Carrier;
use midge_identity::{KeyPair, PeerId};
use midge_link::{
    EndpointError, IncomingStream, Link, LinkConfig, LinkEvent, LinkEvents, LinkTable, PacketPath,
};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

pub use key_file::{
    KeyFileError, new_key, random_text, read as read_key, read_or_make as read_or_make_key,
    write as write_key,
};
pub use policy::Authorizer;
pub(crate) use policy::Configured;

use crate::carrier;
use crate::drive::pipe;
use crate::server::Server;

/// The protocol of routes, as Bifrost calls it.
pub const ROUTER_PROTOCOL: &str = "nats.io/2/router";
/// The protocol of clients.
pub const CLIENT_PROTOCOL: &str = "nats.io/2/client";
/// The protocol of leafnodes.
pub const LEAF_PROTOCOL: &str = "nats.io/2/leaf";

/// Streams of the program's own protocols that wait for it.
const OTHER_STREAMS: usize = 64;
/// Events that are kept for those who do not take them at once.
const NEWS: usize = 256;

/// How often failing attempts to reach a peer are logged after the first: once in so many.
const REPORT: u32 = 100;

/// Who a server is to other peers, and whom it lets link.
#[derive(Debug)]
pub struct Membership {
    /// The server's key.
    pub key: KeyPair,
    /// Who may link; without one, those that the options name.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// How links behave.
    pub links: LinkConfig,
}

/// A server's side of the mesh. Its links end when this is dropped.
#[derive(Debug)]
pub struct Mesh {
    table: LinkTable,
    task: AbortHandle,
    others: mpsc::Receiver<IncomingStream>,
    news: broadcast::Sender<LinkEvent>,
    /// What goes through somebody else's deployment.
    _backend: backend::Backend,
}

impl Server {
    /// Begins to have links to other peers by these networks: takes theirs, and dials those that the options name. Needs a
    /// tokio runtime with time, on which everything that goes over links runs.
    ///
    /// # Errors
    /// The server has no key, or a network cannot be used.
    pub fn join_mesh(self: &Arc<Self>, paths: Vec<Arc<dyn PacketPath>>) -> Result<Mesh, EndpointError> {
        let membership = self.membership();
        let Some(membership) = membership else {
            return Err(EndpointError::Certificate("the server has no key".to_owned()));
        };
        let door = Arc::new(policy::Door(membership.authorizer()));
        let (table, events, streams) =
            LinkTable::new(membership.key.clone(), door.clone(), membership.links.clone())?;
        for protocol in [ROUTER_PROTOCOL, CLIENT_PROTOCOL, LEAF_PROTOCOL] {
            table.serve(protocol);
        }
        for path in paths {
            table.add_path(path)?;
        }
        let backend = backend::begin(self, &membership.key, door)?;
        if let Some(carrier) = backend.carrier() {
            table.add_path(carrier.clone())?;
            // Said once, as below.
            let _ = membership.carrier.set(Arc::downgrade(carrier));
        }
        let mut wanted: BTreeMap<PeerId, Vec<midge_link::Address>> = BTreeMap::new();
        for known in &self.setup().options.mesh.peers {
            wanted.entry(known.peer).or_default().push(known.address.clone());
        }
        for (peer, addresses) in wanted {
            table.want(peer, addresses);
        }
        // Said once: a server is in one mesh.
        let _ = membership.table.set(table.clone());
        let (to, others) = mpsc::channel(OTHER_STREAMS);
        let news = broadcast::Sender::new(NEWS);
        let inboxes = Inboxes { events, streams, others: to, news: news.clone() };
        let task = tokio::spawn(run(self.clone(), table.clone(), inboxes)).abort_handle();
        Ok(Mesh { table, task, others, news, _backend: backend })
    }
}

impl Mesh {
    /// All links.
    #[must_use]
    pub const fn links(&self) -> &LinkTable {
        &self.table
    }

    /// What happens to links from now on. Whoever does not take it in time misses some of it.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.news.subscribe()
    }

    /// Takes streams of other protocols that peers open, those of NATS left out. Each protocol must be served (see
    /// [`LinkTable::serve`]).
    pub async fn next_stream(&mut self) -> Option<IncomingStream> {
        self.others.recv().await
    }

    /// Ends all links, and waits until the peers had time to hear of it.
    pub async fn leave(&self) {
        self.task.abort();
        self.table.close().await;
    }
}

impl Mesh {
    /// Opens no routes any more and takes no streams: what is there goes on.
    pub fn rest(&self) {
        self.task.abort();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.task.abort();
        // The server knows the table, too, and lives for as long as its connections.
        self.table.end();
    }
}

/// What became of the server's key and its links.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: KeyPair,
    authorizer: Arc<dyn Authorizer>,
    links: LinkConfig,
    table: OnceLock<LinkTable>,
    carrier: OnceLock<Weak<Carrier>>,
}

impl Member {
    pub(crate) fn new(membership: Membership, options: &crate::options::MeshOptions) -> Self {
        let Membership { key, authorizer, links } = membership;
        let authorizer = authorizer.unwrap_or_else(|| Configured::new(options));
        Self { key, authorizer, links, table: OnceLock::new(), carrier: OnceLock::new() }
    }

    fn authorizer(&self) -> Arc<dyn Authorizer> {
        self.authorizer.clone()
    }

    /// What the router's chance is made of, if that is given.
    pub(crate) const fn chance(&self) -> Option<u64> {
        self.links.seed
    }

    /// The account of the server's own clients, if it is not the global one.
    pub(crate) fn own_account(&self) -> Option<String> {
        self.authorizer.account(&self.key.peer_id())
    }

    /// What carries links through a deployment, if anything does.
    pub(crate) fn carrier(&self) -> Option<Arc<Carrier>> {
        self.carrier.get()?.upgrade()
    }

    /// The links, once there may be any.
    pub(crate) fn table(&self) -> Option<&LinkTable> {
        self.table.get()
    }
}

/// Where what happens comes from, and goes on to.
struct Inboxes {
    events: LinkEvents,
    streams: mpsc::Receiver<IncomingStream>,
    others: mpsc::Sender<IncomingStream>,
    news: broadcast::Sender<LinkEvent>,
}

/// Sees to links and streams for as long as there are any.
async fn run(server: Arc<Server>, table: LinkTable, inboxes: Inboxes) {
    let Inboxes { mut events, mut streams, others, news } = inboxes;
    let mut routes = Routes::default();
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(event) => {
                    // Nobody may listen.
                    let _ = news.send(event.clone());
                    tell(&server, &table, event, &mut routes);
                }
                None => return,
            },
            Some(stream) = streams.recv() => serve(&server, &table, stream, &others),
        }
    }
}

/// Those who keep a route to a peer.
#[derive(Default)]
struct Routes(HashMap<PeerId, Keeper>);

/// Who keeps a route to a peer, and is told when another link is used.
struct Keeper {
    task: AbortHandle,
    moved: Arc<Notify>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Logs what has happened to a link, and sees to its route.
fn tell(server: &Arc<Server>, table: &LinkTable, event: LinkEvent, routes: &mut Routes) {
    match event {
        LinkEvent::Up(link) => {
            info!("Link up: peer {} at {} (link {})", link.peer(), link.address(), link.number());
            if table.peer() < link.peer() && may_route(server, &link.peer()) {
                let moved = Arc::new(Notify::new());
                let keeper = routes::keep(server.clone(), table.clone(), link.peer(), moved.clone());
                let task = tokio::spawn(keeper).abort_handle();
                routes.0.insert(link.peer(), Keeper { task, moved });
            }
        }
        LinkEvent::Moved { link, before, why } => {
            let (peer, address, number) = (link.peer(), link.address(), link.number());
            info!("Link moved: peer {peer} at {address} (link {number}, before {before}): {why}");
            if let Some(keeper) = routes.0.get(&peer) {
                keeper.moved.notify_one();
            }
        }
        LinkEvent::Roamed { link, from } => info!(
            "Link moved: peer {} is at {} now, was at {from} (link {})",
            link.peer(),
            link.address(),
            link.number()
        ),
        LinkEvent::Down { link, why } => {
            info!("Link down: peer {} at {} (link {}): {why}", link.peer(), link.address(), link.number());
            routes.0.remove(&link.peer());
        }
        LinkEvent::Refused { address, peer: Some(peer), why } => {
            warn!("Link refused: peer {peer} at {address}: {why}");
        }
        LinkEvent::Refused { address, peer: None, why } => debug!("Link refused: {address}: {why}"),
        LinkEvent::Unreachable { peer, attempts, why, .. } if attempts % REPORT == 1 => {
            warn!("Peer {peer} cannot be reached (attempt {attempts}): {why}");
        }
        LinkEvent::Unreachable { peer, attempts, why, .. } => {
            debug!("Peer {peer} cannot be reached (attempt {attempts}): {why}");
        }
    }
}

/// Makes a stream that a peer has opened a connection.
fn serve(
    server: &Arc<Server>,
    table: &LinkTable,
    incoming: IncomingStream,
    others: &mpsc::Sender<IncomingStream>,
) {
    /// What a stream hears that the other side should not have opened.
    const NOT_YOURS: u32 = 409;
    const NOT_TRUSTED: u32 = 403;
    let IncomingStream { link, protocol, stream } = incoming;
    let is_leaf = protocol == LEAF_PROTOCOL;
    match protocol.as_str() {
        ROUTER_PROTOCOL if table.peer() < link.peer() => stream.reset(NOT_YOURS),
        ROUTER_PROTOCOL if !may_route(server, &link.peer()) => {
            warn!("Route refused: peer {} is not named, and so no server of this cluster", link.peer());
            stream.reset(NOT_TRUSTED);
        }
        ROUTER_PROTOCOL => {
            tokio::spawn(routes::drive(server.clone(), link, stream, None));
        }
        CLIENT_PROTOCOL | LEAF_PROTOCOL => {
            let account = server.membership().and_then(|member| member.authorizer.account(&link.peer()));
            let carrier = Arc::new(carrier::Carrier::link(&link, account));
            let (server, peer) = (server.clone(), name(&link));
            tokio::spawn(async move {
                pipe::drive_carried(server, stream, &peer, (carrier, is_leaf)).await;
            });
        }
        // Full or gone: whoever opened it hears that it ends.
        _ => drop(others.try_send(IncomingStream { link, protocol, stream })),
    }
}

fn may_route(server: &Server, peer: &PeerId) -> bool {
    server.membership().is_some_and(|member| member.authorizer.may_route(peer))
}

/// A link's other side as logs and monitoring name it: `host:port`.
fn name(link: &Link) -> String {
    let place = link.place();
    if place.contains(':') { place } else { format!("{}:{place}", link.scheme()) }
}
