//! A router inside a program, and its links to others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use midge_identity::{KeyPair, PeerId};
use midge_link::{
    Address, AddressError, EndpointError, IncomingStream, Link, LinkConfig, LinkEvent, LinkTable, PacketPath,
    PeerAddress, UdpPath,
};
use midge_server::channel::{Channel, ChannelError, ChannelOptions};
use midge_server::client::Client;
use midge_server::mesh::{Authorizer, KeyFileError, Membership, Mesh, new_key};
use midge_server::options::Options;
use midge_server::{Server, SetupError};
use tokio::sync::broadcast;

/// A peer: a router with a key, without a port for clients, and its links. Ends when it is dropped; [`Node::shutdown`]
/// ends it gently.
#[derive(Debug)]
pub struct Node {
    server: Arc<Server>,
    key: KeyPair,
    client: Client,
    mesh: Mesh,
    addresses: Vec<Address>,
}

/// What a node is made of. Every part has a default that does no harm: a new key, no networks, nobody admitted.
#[derive(Debug, Default)]
pub struct NodeBuilder {
    key: Option<KeyPair>,
    options: Options,
    listen: Vec<SocketAddr>,
    paths: Vec<Arc<dyn PacketPath>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    links: LinkConfig,
}

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
    /// An address cannot be listened on.
    #[error("{address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl NodeBuilder {
    /// The node's key. Without one, a new key is made.
    #[must_use]
    pub fn key(mut self, key: KeyPair) -> Self {
        self.key = Some(key);
        self
    }

    /// The router's options. What they say of listeners and threads is not used.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Listens for links by UDP. Port 0 is any that is free.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Makes links over that network, too.
    #[must_use]
    pub fn path(mut self, path: Arc<dyn PacketPath>) -> Self {
        self.paths.push(path);
        self
    }

    /// Keeps a link to that peer, and lets it link.
    ///
    /// # Errors
    /// The text is not a peer's id and address, such as `12D3Koo…@udp://192.0.2.1:4223`.
    pub fn peer(mut self, peer: &str) -> Result<Self, AddressError> {
        let peer: PeerAddress = peer.parse()?;
        self.options.mesh.peers.push(peer);
        Ok(self)
    }

    /// Lets that peer link, and trusts it as a server of the same cluster.
    #[must_use]
    pub fn allow(mut self, peer: PeerId) -> Self {
        self.options.mesh.allow.push(peer);
        self
    }

    /// Lets everybody link who has a key: as a client or leafnode, unless it is named.
    #[must_use]
    pub fn allow_any(mut self) -> Self {
        self.options.mesh.allow_any = true;
        self
    }

    /// Says who may link and to which accounts peers belong, instead of the options.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// How links behave.
    #[must_use]
    pub fn links(mut self, links: LinkConfig) -> Self {
        self.links = links;
        self
    }

    /// Begins. Needs a tokio runtime with time, and with I/O where it listens.
    ///
    /// # Errors
    /// Something of what it is made of cannot be used.
    pub fn start(self) -> Result<Node, NodeError> {
        let key = self.key.map_or_else(new_key, Ok)?;
        let mut options = self.options;
        let mut paths = self.paths;
        for address in self.listen {
            let path = UdpPath::bind(address).map_err(|source| NodeError::Listen { address, source })?;
            paths.push(path);
        }
        if paths.is_empty() && !options.mesh.peers.is_empty() {
            let address = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
            paths.push(UdpPath::any().map_err(|source| NodeError::Listen { address, source })?);
        }
        let show = |path: &Arc<dyn PacketPath>| {
            format!("{}://{}", path.scheme(), path.show(path.local_address())).parse().ok()
        };
        let addresses: Vec<Address> = paths.iter().filter_map(show).collect();
        options.mesh.listen.clone_from(&addresses);
        let membership = Membership { key: key.clone(), authorizer: self.authorizer, links: self.links };
        let server = Server::with_key(options, membership)?;
        let mesh = server.join_mesh(paths)?;
        let client = server.client(&server.own_account());
        Ok(Node { server, key, client, mesh, addresses })
    }
}

impl Node {
    /// What a node is made of.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// What other peers call it.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.key.peer_id()
    }

    /// Where others can reach it, as far as it knows.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// A client of the router, inside the process.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Opens a channel on which messages are signed by the node's key.
    ///
    /// # Errors
    /// The name is none.
    pub fn channel(&self, name: &str, options: ChannelOptions) -> Result<Channel, ChannelError> {
        Channel::open(&self.client, &self.key, name, options)
    }

    /// The same for the owner of another key.
    ///
    /// # Errors
    /// The name is none.
    pub fn channel_of(
        &self,
        key: &KeyPair,
        name: &str,
        options: ChannelOptions,
    ) -> Result<Channel, ChannelError> {
        Channel::open(&self.client, key, name, options)
    }

    /// All links.
    #[must_use]
    pub const fn links(&self) -> &LinkTable {
        self.mesh.links()
    }

    /// The link to that peer, if there is one.
    #[must_use]
    pub fn link(&self, peer: &PeerId) -> Option<Link> {
        self.mesh.links().link(peer)
    }

    /// What happens to links from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.mesh.events()
    }

    /// The next stream of a protocol of the program's own, which a peer has opened. Each protocol must be served
    /// ([`LinkTable::serve`]).
    pub async fn next_stream(&mut self) -> Option<IncomingStream> {
        self.mesh.next_stream().await
    }

    /// The router's shell: to drive clients over byte streams, for monitoring and options.
    #[must_use]
    pub const fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Delivers what was accepted, and ends: clients first, then routes, then links.
    pub async fn shutdown(self) {
        self.mesh.rest();
        self.server.stop().await;
        self.mesh.leave().await;
    }
}
