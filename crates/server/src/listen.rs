//! Listeners, and the thread that accepts from them.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::files::{PidFile, PortsFile};
use crate::server::Server;
use crate::shard::Shard;
use crate::{leave, monitor, talk};

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
}

/// A server with listeners and threads. Ends when it is dropped.
#[derive(Debug)]
pub struct Running {
    server: Arc<Server>,
    monitor: Option<SocketAddr>,
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
        let options = self.options();
        let monitor =
            options.monitor.as_ref().map(|address| bind(options.monitor_host(), address.port)).transpose()?;
        let monitor_address = monitor.as_ref().and_then(|listener| listener.local_addr().ok());
        if let Some(address) = monitor_address {
            info!("Starting http monitor on {}", shown(options.monitor_host(), address.port()));
        }
        let clients = bind(&options.listen.host, options.listen.port)?;
        let address = clients.local_addr().map_err(StartError::Thread)?;
        self.listens_on(address);
        info!("Listening for client connections on {}", shown(&options.listen.host, address.port()));
        let pid = PidFile::write(options.files.pid.as_deref())?;
        let ports = PortsFile::write(options.files.ports_dir.as_deref(), address, monitor_address)?;

        let count = match options.shards {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        let shards = (0..count).map(|number| Shard::start(self, number)).collect::<Result<Vec<_>, _>>();
        let shards = shards.map_err(StartError::Thread)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let house = House { server: self.clone(), clients, monitor, shards, inbox };
        let control = std::thread::Builder::new().name("midge-control".to_owned()).spawn(move || {
            runtime.block_on(house.keep());
            drop((pid, ports));
        });
        let control = Some(control.map_err(StartError::Thread)?);
        info!("Server is ready");
        Ok(Running { server: self.clone(), monitor: monitor_address, orders, control })
    }
}

/// What the control thread keeps.
struct House {
    server: Arc<Server>,
    clients: TcpListener,
    monitor: Option<TcpListener>,
    shards: Vec<Shard>,
    inbox: mpsc::Receiver<Order>,
}

impl House {
    async fn keep(mut self) {
        let shards = Arc::new(self.shards);
        let accept = tokio::spawn(accept(self.clients, shards.clone()));
        let monitor =
            self.monitor.map(|listener| tokio::spawn(monitor::serve(self.server.clone(), listener)));
        let order = self.inbox.recv().await.unwrap_or(Order::Stop);
        // No client may come any more; the acceptor's end closes the port.
        accept.abort();
        let _ = accept.await;
        if order == Order::LameDuck {
            leave::slowly(&self.server, &mut self.inbox).await;
        }
        info!("Initiating Shutdown...");
        self.server.stop().await;
        if let Some(monitor) = monitor {
            monitor.abort();
        }
        if let Some(shards) = Arc::into_inner(shards) {
            for thread in shards.into_iter().map(Shard::end).collect::<Vec<_>>() {
                let _ = thread.join();
            }
        }
        info!("Server Exiting..");
    }
}

/// Places connections where there are fewest.
async fn accept(listener: TcpListener, shards: Arc<Vec<Shard>>) {
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
            shard.take(stream).await;
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
