//! The thread that links of a daemon run on.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

use midge_link::{PacketPath, UdpPath, open_any_udp, open_udp};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::listen::StartError;
use crate::options::{MeshOptions, Options, socket_address};
use crate::server::Server;

/// Sockets for links, and where each is.
pub(crate) struct Sockets(Vec<UdpSocket>);

impl Sockets {
    /// Listens where the options say. Who listens nowhere still needs a socket to dial by.
    pub(crate) fn open(options: &Options) -> Result<Option<Self>, StartError> {
        if !options.is_peer() {
            return Ok(None);
        }
        if options.backend.is_on() {
            let refuse = |source| StartError::Listen { address: "backend".to_owned(), source };
            options.backend.deployment().map_err(refuse)?;
        }
        let options = &options.mesh;
        let mut sockets = Vec::new();
        for address in &options.listen {
            let socket = socket_address(address).and_then(open_udp);
            let refuse = |source| StartError::Listen { address: address.to_string(), source };
            sockets.push(socket.map_err(refuse)?);
        }
        if sockets.is_empty() && options.peers.iter().any(|peer| peer.address.scheme() == "udp") {
            let refuse = |source| StartError::Listen { address: "udp".to_owned(), source };
            sockets.push(open_any_udp().map_err(refuse)?);
        }
        Ok(Some(Self(sockets)))
    }

    /// Where is listened.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// The thread. What goes over links is moved by it alone.
pub(crate) struct MeshThread {
    thread: JoinHandle<()>,
    rest: oneshot::Sender<()>,
    end: oneshot::Sender<()>,
}

impl MeshThread {
    pub(crate) fn start(server: &Arc<Server>, sockets: Sockets) -> Result<Self, StartError> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_io().enable_time().build().map_err(StartError::Thread)?;
        let server = server.clone();
        let (end, ended) = oneshot::channel();
        let (rest, resting) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                match join(&server, sockets) {
                    Ok(mesh) => {
                        let _ = resting.await;
                        mesh.rest();
                        let _ = ended.await;
                        mesh.leave().await;
                    }
                    Err(why) => error!("No links: {why}"),
                }
            });
        };
        let thread = std::thread::Builder::new().name("midge-mesh".to_owned()).spawn(run);
        Ok(Self { thread: thread.map_err(StartError::Thread)?, rest, end })
    }

    /// Opens no routes any more and takes no streams. What it gives back ends all links.
    pub(crate) fn rest(self) -> impl FnOnce() {
        let Self { thread, rest, end } = self;
        drop(rest);
        move || {
            drop(end);
            let _ = thread.join();
        }
    }
}

fn join(server: &Arc<Server>, sockets: Sockets) -> Result<super::Mesh, midge_link::EndpointError> {
    let paths =
        sockets.0.into_iter().map(|socket| UdpPath::of(socket).map(|path| path as Arc<dyn PacketPath>));
    server.join_mesh(paths.collect::<io::Result<_>>()?)
}

/// Says who this server is to others, and where.
pub(crate) fn announce(server: &Server, options: &MeshOptions, sockets: &Sockets) {
    if let Some(peer) = server.peer_id() {
        info!("Peer id is {peer}");
    }
    if !options.listen.is_empty() {
        for address in sockets.addresses() {
            info!("Listening for links on udp://{address}");
        }
    }
}
