//! A program's place among others: a router inside it with links, or a deployment that is somebody else's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use midge_backend::channel::{Channel, ChannelError, ChannelOptions};
use midge_backend::{BackendError, Bus, BusError, Deployment, ExternalBus, Prefix};
use midge_identity::{KeyPair, PeerId};
use midge_link::{
    Address, AddressError, EndpointError, IncomingStream, Link, LinkConfig, LinkEvent, LinkTable, PacketPath,
    PeerAddress, UdpPath,
};
use midge_server::bus::EmbeddedBus;
use midge_server::client::Client;
use midge_server::mesh::{Authorizer, KeyFileError, Membership, Mesh, new_key};
use midge_server::options::Options;
use midge_server::{Server, SetupError};
use tokio::sync::broadcast;

/// A peer: who one is, and what carries one's messages. That is a router inside the process with links to others, without a
/// port for clients ([`Embedded`]); or a NATS deployment that is there already ([`External`]). A program that keeps to
/// [`Node::bus`] and [`Node::channel`] does not know which. Ends when it is dropped; [`Node::shutdown`] ends it gently.
#[derive(Debug)]
pub struct Node<K = Embedded> {
    key: KeyPair,
    bus: Arc<dyn Bus>,
    kind: K,
}

/// A router inside the process, and its links.
#[derive(Debug)]
pub struct Embedded {
    server: Arc<Server>,
    client: Client,
    mesh: Mesh,
    addresses: Vec<Address>,
}

/// A deployment that is somebody else's.
#[derive(Debug)]
pub struct External {
    servers: String,
}

/// What a node is made of. Every part has a default that does no harm: a new key, no networks, nobody admitted.
#[derive(Debug, Default)]
pub struct NodeBuilder<P = Undecided> {
    key: Option<KeyPair>,
    parts: P,
}

/// Nothing is said yet of what carries a node's messages.
#[derive(Debug, Default)]
pub struct Undecided;

/// What a node with a router is made of.
#[derive(Debug, Default)]
pub struct EmbeddedParts {
    options: Options,
    listen: Vec<SocketAddr>,
    paths: Vec<Arc<dyn PacketPath>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    links: LinkConfig,
}

/// What a node without a router is made of.
#[derive(Debug)]
pub struct ExternalParts(Deployment);

/// Why a node did not begin.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The options do not go together.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A network cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The deployment cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// An address cannot be listened on.
    #[error("{address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl<P> NodeBuilder<P> {
    /// The node's key. Without one, a new key is made.
    #[must_use]
    pub fn key(mut self, key: KeyPair) -> Self {
        self.key = Some(key);
        self
    }
}

impl NodeBuilder {
    /// A router in this process, with these options. What they say of listeners and threads is not used.
    #[must_use]
    pub fn embedded(self, options: Options) -> NodeBuilder<EmbeddedParts> {
        NodeBuilder { key: self.key, parts: EmbeddedParts { options, ..EmbeddedParts::default() } }
    }

    /// No router: messages go through that deployment, below its prefix.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use midge::Node;
    /// use midge::backend::Deployment;
    ///
    /// let deployment =
    ///     Deployment { prefix: "acme.app".parse()?, ..Deployment::at(&["nats://nats.example.org"]) };
    /// let node = Node::builder().external(deployment).start().await?;
    /// let mut orders = node.bus().subscribe("orders.*", Some("workers")).await?;
    /// while let Some(order) = orders.next().await {
    ///     println!("{}", order.subject);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn external(self, deployment: Deployment) -> NodeBuilder<ExternalParts> {
        NodeBuilder { key: self.key, parts: ExternalParts(deployment) }
    }
}

impl NodeBuilder<EmbeddedParts> {
    /// Has links through that deployment, too: to peers that are named as `ID@nats:`, and from those that may link. Without
    /// a prefix of its own, it has the one that `midged` and `midge` use.
    #[must_use]
    pub fn via(mut self, deployment: Deployment) -> Self {
        let usual = std::mem::replace(&mut self.parts.options.backend.deployment, deployment).prefix;
        let prefix = &mut self.parts.options.backend.deployment.prefix;
        if *prefix == Prefix::default() {
            *prefix = usual;
        }
        self
    }

    /// Listens for links by UDP. Port 0 is any that is free.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.parts.listen.push(address);
        self
    }

    /// Makes links over that network, too.
    #[must_use]
    pub fn path(mut self, path: Arc<dyn PacketPath>) -> Self {
        self.parts.paths.push(path);
        self
    }

    /// Keeps a link to that peer, and lets it link.
    ///
    /// # Errors
    /// The text is not a peer's id and address, such as `12D3Koo…@udp://192.0.2.1:4223`.
    pub fn peer(mut self, peer: &str) -> Result<Self, AddressError> {
        let peer: PeerAddress = peer.parse()?;
        self.parts.options.mesh.peers.push(peer);
        Ok(self)
    }

    /// Lets that peer link, and trusts it as a server of the same cluster.
    #[must_use]
    pub fn allow(mut self, peer: PeerId) -> Self {
        self.parts.options.mesh.allow.push(peer);
        self
    }

    /// Lets everybody link who has a key: as a client or leafnode, unless it is named.
    #[must_use]
    pub fn allow_any(mut self) -> Self {
        self.parts.options.mesh.allow_any = true;
        self
    }

    /// Says who may link and to which accounts peers belong, instead of the options.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.parts.authorizer = Some(authorizer);
        self
    }

    /// How links behave.
    #[must_use]
    pub fn links(mut self, links: LinkConfig) -> Self {
        self.parts.links = links;
        self
    }

    /// Begins. Needs a tokio runtime with time, and with I/O where it listens.
    ///
    /// # Errors
    /// Something of what it is made of cannot be used.
    pub fn start(self) -> Result<Node, NodeError> {
        let key = self.key.map_or_else(new_key, Ok)?;
        let EmbeddedParts { mut options, listen, mut paths, authorizer, links } = self.parts;
        for address in listen {
            let path = UdpPath::bind(address).map_err(|source| NodeError::Listen { address, source })?;
            paths.push(path);
        }
        let by_udp = options.mesh.peers.iter().any(|peer| peer.address.scheme() == "udp");
        if by_udp && !paths.iter().any(|path| path.scheme() == "udp") {
            let address = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
            paths.push(UdpPath::any().map_err(|source| NodeError::Listen { address, source })?);
        }
        let show = |path: &Arc<dyn PacketPath>| {
            format!("{}://{}", path.scheme(), path.show(path.local_address())).parse().ok()
        };
        let mut addresses: Vec<Address> = paths.iter().filter_map(show).collect();
        options.mesh.listen.clone_from(&addresses);
        if options.backend.carries_links() {
            addresses.extend(format!("{}:", midge_backend::SCHEME).parse());
        }
        let membership = Membership { key: key.clone(), authorizer, links };
        let server = Server::with_key(options, membership)?;
        let mesh = server.join_mesh(paths)?;
        let client = server.client(&server.own_account());
        let bus = EmbeddedBus::new(client.clone());
        Ok(Node { key, bus, kind: Embedded { server, client, mesh, addresses } })
    }
}

impl NodeBuilder<ExternalParts> {
    /// Connects. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The deployment cannot be used, or does not let this node in.
    pub async fn start(self) -> Result<Node<External>, NodeError> {
        let Self { key, parts: ExternalParts(deployment) } = self;
        let key = key.map_or_else(new_key, Ok)?;
        let bus = ExternalBus::connect(&deployment, &key).await?;
        Ok(Node { key, bus, kind: External { servers: deployment.shown() } })
    }
}

impl<K> Node<K> {
    /// What other peers call it.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.key.peer_id()
    }

    /// What carries its messages.
    #[must_use]
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// Opens a channel on which messages are signed by the node's key.
    ///
    /// # Errors
    /// The name is none, or may not be subscribed to.
    pub async fn channel(&self, name: &str, options: ChannelOptions) -> Result<Channel, ChannelError> {
        Channel::open(&self.bus, &self.key, name, options).await
    }

    /// The same for the owner of another key.
    ///
    /// # Errors
    /// The name is none, or may not be subscribed to.
    pub async fn channel_of(
        &self,
        key: &KeyPair,
        name: &str,
        options: ChannelOptions,
    ) -> Result<Channel, ChannelError> {
        Channel::open(&self.bus, key, name, options).await
    }
}

impl Node<External> {
    /// The deployment's servers, as logs may name them.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.kind.servers
    }

    /// Has taken in what was published, and ends.
    ///
    /// # Errors
    /// The deployment does not answer.
    pub async fn shutdown(self) -> Result<(), BusError> {
        self.bus.drain().await
    }
}

impl Node {
    /// What a node is made of: first a key, if it is to have a certain one, then what carries its messages.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Where others can reach it, as far as it knows.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.kind.addresses
    }

    /// A client of the router, inside the process.
    #[must_use]
    pub fn client(&self) -> Client {
        self.kind.client.clone()
    }

    /// All links.
    #[must_use]
    pub const fn links(&self) -> &LinkTable {
        self.kind.mesh.links()
    }

    /// The link to that peer, if there is one.
    #[must_use]
    pub fn link(&self, peer: &PeerId) -> Option<Link> {
        self.links().link(peer)
    }

    /// What happens to links from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.kind.mesh.events()
    }

    /// The next stream of a protocol of the program's own, which a peer has opened. Each protocol must be served
    /// ([`LinkTable::serve`]).
    pub async fn next_stream(&mut self) -> Option<IncomingStream> {
        self.kind.mesh.next_stream().await
    }

    /// The router's shell: to drive clients over byte streams, for monitoring and options.
    #[must_use]
    pub const fn server(&self) -> &Arc<Server> {
        &self.kind.server
    }

    /// Delivers what was accepted, and ends: clients first, then routes, then links.
    pub async fn shutdown(self) {
        let Embedded { server, mesh, .. } = self.kind;
        mesh.rest();
        server.stop().await;
        mesh.leave().await;
    }
}
