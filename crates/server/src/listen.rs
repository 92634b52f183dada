//! Listeners, and the thread that accepts from them.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::files::{PidFile, Ports, PortsFile};
use crate::mesh::thread::{MeshThread, Sockets};
use crate::options::Options;
use crate::server::Server;
use crate::shard::{Accepted, Door, Shard};
use crate::tls::{Tls, TlsError};
use crate::{cluster, leafnode, leave, mesh, monitor, system, talk};

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept: at first, and at most. It doubles in between.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Orders that wait to be carried out. More are the same ones again.
const ORDERS: usize = 8;

/// Why a server did not start.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing can be listened for on that address.
    #[error("Error listening on port: {address}, {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no thread, or no event queue.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A file for others to read cannot be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// What a running server can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Deliver what was accepted, and end.
    Stop,
    /// Send clients elsewhere, and end once they have gone.
    LameDuck,
    /// Read the options again (see [`Server::on_reload`]).
    Reload,
}

/// A server with listeners and threads. Ends when it is dropped.
#[derive(Debug)]
pub struct Running {
    server: Arc<Server>,
    monitor: Option<SocketAddr>,
    websocket: Option<SocketAddr>,
    routes: Option<SocketAddr>,
    leafnodes: Option<SocketAddr>,
    links: Vec<SocketAddr>,
    orders: mpsc::Sender<Order>,
    control: Option<JoinHandle<()>>,
}

impl Running {
    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Where monitoring is served.
    #[must_use]
    pub const fn monitor_address(&self) -> Option<SocketAddr> {
        self.monitor
    }

    /// Where WebSocket clients are listened for.
    #[must_use]
    pub const fn websocket_address(&self) -> Option<SocketAddr> {
        self.websocket
    }

    /// Where other servers of the cluster are listened for.
    #[must_use]
    pub const fn route_address(&self) -> Option<SocketAddr> {
        self.routes
    }

    /// Where leafnodes are listened for.
    #[must_use]
    pub const fn leafnode_address(&self) -> Option<SocketAddr> {
        self.leafnodes
    }

    /// Where links of other peers are listened for, by UDP.
    #[must_use]
    pub fn link_addresses(&self) -> &[SocketAddr] {
        &self.links
    }

    /// Tells the server to do something. Does not wait for it.
    pub fn order(&self, order: Order) {
        // Full of the same orders, or ended already: nothing is lost either way.
        let _ = self.orders.try_send(order);
    }

    /// A handle for telling the server to do something while somebody waits for its end.
    pub fn orders(&self) -> impl Fn(Order) + Send + 'static {
        let orders = self.orders.clone();
        move |order| {
            let _ = orders.try_send(order);
        }
    }

    /// Waits until the server has ended.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(control) = self.control.take() {
            // A panic there has been reported by the thread itself.
            let _ = control.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.order(Order::Stop);
        self.join();
    }
}

impl Server {
    /// Listens, and runs connections on threads of its own.
    ///
    /// # Errors
    /// An address cannot be listened on, a thread cannot be started, or a file cannot be written.
    pub fn start(self: &Arc<Self>) -> Result<Running, StartError> {
        let setup = self.setup();
        let options = &setup.options;
        let monitor = options.monitor.address();
        let monitor = monitor.map(|address| bind(options.monitor_host(), address.port)).transpose()?;
        let monitor_address = monitor.as_ref().and_then(|listener| listener.local_addr().ok());
        let monitor_tls = monitor_tls(options)?;
        if let Some(address) = monitor_address {
            let scheme = if monitor_tls.is_some() { "https" } else { "http" };
            info!("Starting {scheme} monitor on {}", shown(options.monitor_host(), address.port()));
        }
        let websocket = bind_websocket(options)?;
        let websocket_address = websocket.as_ref().and_then(|listener| listener.local_addr().ok());
        let others = Others::bind(options)?;
        let clients = bind(&options.listen.host, options.listen.port)?;
        let address = clients.local_addr().map_err(StartError::Thread)?;
        self.listens_on(address);
        info!("Listening for client connections on {}", shown(&options.listen.host, address.port()));
        match &setup.tls {
            Some(tls) if tls.optional => info!("TLS available for client connections"),
            Some(_) => info!("TLS required for client connections"),
            None => {}
        }
        let (route_address, leafnode_address) = others.announce(self, options);
        let Others { routes, leafnodes, links } = others;
        let pid = PidFile::write(options.files.pid.as_deref())?;
        let ports = Ports {
            clients: address,
            tls: setup.tls.is_some(),
            monitor: monitor_address.map(|address| (address, monitor_tls.is_some())),
            websocket: websocket_address.map(|address| (address, setup.websocket_tls.is_some())),
            routes: route_address,
            leafnodes: leafnode_address.map(|address| (address, setup.leafnode_tls.is_some())),
            links: links.as_ref().map(Sockets::addresses).unwrap_or_default(),
        };
        let link_addresses = ports.links.clone();
        let ports = PortsFile::write(options.files.ports_dir.as_deref(), &ports)?;

        let count = match options.shards {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        let shards = (0..count).map(|number| Shard::start(self, number)).collect::<Result<Vec<_>, _>>();
        let shards = shards.map_err(StartError::Thread)?;
        let services = Services::start(self, monitor.map(|listener| (listener, monitor_tls)))?;
        let mesh = links.map(|links| MeshThread::start(self, links)).transpose()?;
        let runtime = runtime()?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let house = House {
            server: self.clone(),
            clients,
            websocket,
            routes,
            leafnodes,
            services,
            mesh,
            shards,
            inbox,
        };
        let control = std::thread::Builder::new().name("midge-control".to_owned()).spawn(move || {
            runtime.block_on(house.keep());
            drop((pid, ports));
        });
        let control = Some(control.map_err(StartError::Thread)?);
        info!("Server is ready");
        Ok(Running {
            server: self.clone(),
            monitor: monitor_address,
            websocket: websocket_address,
            routes: route_address,
            leafnodes: leafnode_address,
            links: link_addresses,
            orders,
            control,
        })
    }
}

/// Where other servers, leafnodes and peers are listened for.
struct Others {
    routes: Option<TcpListener>,
    leafnodes: Option<TcpListener>,
    links: Option<Sockets>,
}

impl Others {
    fn bind(options: &Options) -> Result<Self, StartError> {
        let Options { cluster, leafnodes, .. } = options;
        Ok(Self {
            routes: cluster.port.map(|port| bind(cluster.host(), port)).transpose()?,
            leafnodes: leafnodes.port.map(|port| bind(leafnodes.host(), port)).transpose()?,
            links: Sockets::open(options)?,
        })
    }

    /// Says where, in the log and to those who are there; where other servers and leafnodes are listened for.
    fn announce(&self, server: &Arc<Server>, options: &Options) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        let (routes, leafnodes) = (address(&self.routes), address(&self.leafnodes));
        if let (Some(address), Some(cluster)) = (routes, server.router().cluster()) {
            info!("Cluster name is {}", cluster.name());
            if options.cluster.name.is_none() && !options.is_peer() {
                warn!("Cluster name was dynamically generated, consider setting one");
            }
            info!("Listening for route connections on {}", shown(options.cluster.host(), address.port()));
            server.listens_for_routes_on(address);
        }
        if let Some(address) = leafnodes {
            let shown = shown(options.leafnodes.host(), address.port());
            info!("Listening for leafnode connections on {shown}");
            server.listens_for_leafnodes_on(address);
        }
        if let Some(links) = &self.links {
            mesh::thread::announce(server, &options.mesh, links);
        }
        (routes, leafnodes)
    }
}

/// How monitoring speaks TLS, if it does. Whoever looks on needs no certificate.
fn monitor_tls(options: &Options) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
    match (&options.monitor.https, &options.tls.block) {
        (Some(_), Some(block)) => Ok(Some(Tls::plain_server(block, false)?)),
        _ => Ok(None),
    }
}

fn bind_websocket(options: &Options) -> Result<Option<TcpListener>, StartError> {
    let block = &options.websocket;
    let Some(port) = block.port else { return Ok(None) };
    let host = block.host.as_deref().unwrap_or("0.0.0.0");
    let listener = bind(host, port)?;
    let scheme = if block.tls.is_some() { "wss" } else { "ws" };
    let port = listener.local_addr().map_or(port, |address| address.port());
    info!("Listening for websocket clients on {scheme}://{}", shown(host, port));
    if block.tls.is_none() {
        warn!("Websocket not configured with TLS. DO NOT USE IN PRODUCTION!");
    }
    Ok(Some(listener))
}

/// What the control thread keeps.
struct House {
    server: Arc<Server>,
    clients: TcpListener,
    websocket: Option<TcpListener>,
    routes: Option<TcpListener>,
    leafnodes: Option<TcpListener>,
    services: Services,
    mesh: Option<MeshThread>,
    shards: Vec<Shard>,
    inbox: mpsc::Receiver<Order>,
}

impl House {
    async fn keep(mut self) {
        let shards = Arc::new(self.shards);
        let listen = |listener, door| tokio::spawn(accept(listener, door, shards.clone()));
        let clients = listen(self.clients, || Door::Client);
        let websocket = self.websocket.map(|listener| listen(listener, || Door::WebSocket));
        let routes = self.routes.map(|listener| listen(listener, || Door::Route(None)));
        let leafnodes = self.leafnodes.map(|listener| listen(listener, || Door::Leaf(None)));
        let dialled = tokio::task::LocalSet::new();
        dialled.spawn_local(cluster::run(self.server.clone(), shards.clone()));
        dialled.spawn_local(leafnode::run(self.server.clone(), shards.clone()));
        let server = self.server.clone();
        let inbox = &mut self.inbox;
        let orders = async {
            loop {
                match inbox.recv().await.unwrap_or(Order::Stop) {
                    Order::Reload => server.reload_again().await,
                    order => break order,
                }
            }
        };
        let order = dialled.run_until(orders).await;
        // No client may come any more; the acceptor's end closes the port.
        for accept in std::iter::once(clients).chain(websocket) {
            accept.abort();
            let _ = accept.await;
        }
        // Those who are still here hear the other servers' clients until they go.
        if order == Order::LameDuck {
            dialled.run_until(leave::slowly(&self.server, &mut self.inbox)).await;
        }
        drop(dialled);
        for accept in routes.into_iter().chain(leafnodes) {
            accept.abort();
            let _ = accept.await;
        }
        let links = self.mesh.map(MeshThread::rest);
        info!("Initiating Shutdown...");
        self.server.stop().await;
        self.services.end();
        if let Some(end_links) = links {
            end_links();
        }
        if let Some(shards) = Arc::into_inner(shards) {
            for thread in shards.into_iter().map(Shard::end).collect::<Vec<_>>() {
                let _ = thread.join();
            }
        }
        info!("Server Exiting..");
    }
}

/// The thread that answers what operators and clients ask about the server. However much they ask, connections go on
/// being accepted and orders carried out.
struct Services {
    thread: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Services {
    fn start(
        server: &Arc<Server>,
        monitor: Option<(TcpListener, Option<Arc<rustls::ServerConfig>>)>,
    ) -> Result<Self, StartError> {
        let (runtime, server) = (runtime()?, server.clone());
        let (end, ended) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                tokio::spawn(system::serve(server.clone()));
                if let Some((listener, tls)) = monitor {
                    tokio::spawn(monitor::serve(server, listener, tls));
                }
                let _ = ended.await;
            });
        };
        let thread = std::thread::Builder::new().name("midge-services".to_owned()).spawn(run);
        Ok(Self { thread: thread.map_err(StartError::Thread)?, end })
    }

    fn end(self) {
        drop(self.end);
        let _ = self.thread.join();
    }
}

/// A thread's own event loop.
fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().enable_time().build().map_err(StartError::Thread)
}

/// Places connections where there are fewest.
async fn accept(listener: TcpListener, door: fn() -> Door, shards: Arc<Vec<Shard>>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!("Cannot accept connections: {error}"),
    };
    let mut pause = ACCEPT_PAUSE.0;
    loop {
        let stream = match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) if is_the_peers(&error) => continue,
            Err(error) => {
                talk::cannot_accept(&error, pause);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE.1);
                continue;
            }
        };
        pause = ACCEPT_PAUSE.0;
        // Without it, a small answer would wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        if let Some(shard) = shards.iter().min_by_key(|shard| shard.load()) {
            shard.take(Accepted { stream, door: door() }).await;
        }
    }
}

/// Whether only this one connection failed.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Host and port as log lines show them.
fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn bind(host: &str, port: u16) -> Result<TcpListener, StartError> {
    let refuse = |source| StartError::Listen { address: shown(host, port), source };
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs().map_err(refuse)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(refuse(last))
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
