//! A thread that runs connections.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use midge_router::Worker;
use parking_lot::Mutex;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tracing::error;

use crate::carrier::Carrier;
use crate::cluster::{Dialled, Done, RouteDuty, tls_name};
use crate::compression::{Compressed, Side};
use crate::drive::pipe::Stream;
use crate::drive::{Alarm, Connection, Host, pipe, socket};
use crate::leafnode::{self, Hub, LeafDuty};
use crate::options::{Compression, ConnectionType};
use crate::server::Server;
use crate::tls::{HandshakeError, Upgrade};
use crate::websocket::{self, Asked};

/// Accepted connections that wait for a shard. The acceptor waits when there are more.
const WAITING: usize = 256;
/// How often a shard looks whether it is quiet.
const QUIET: Duration = Duration::from_secs(5);

/// A connection that has been accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    /// How it came.
    pub(crate) door: Door,
}

/// How a connection came.
#[derive(Debug)]
pub(crate) enum Door {
    /// By the port for clients.
    Client,
    /// By the port for WebSocket.
    WebSocket,
    /// By the port for other servers, or it was dialled.
    Route(Option<(Box<Dialled>, Done)>),
    /// By the port for leafnodes, or a hub was dialled.
    Leaf(Option<Box<Hub>>),
}

/// A running shard, as the acceptor sees it.
#[derive(Debug)]
pub(crate) struct Shard {
    sender: mpsc::Sender<Accepted>,
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Shard {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread, or no event queue.
    pub(crate) fn start(server: &Arc<Server>, number: usize) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let load = Arc::new(AtomicUsize::new(0));
        let (server, shared_load) = (server.clone(), load.clone());
        // The runtime cannot leave its thread, so the thread says whether it has one.
        let (begun, outcome) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("midge-shard-{number}")).spawn(move || {
            let mut builder = Builder::new_current_thread();
            match builder.enable_io().enable_time().build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    let _ = begun.send(Ok(()));
                    runtime.block_on(run(server, receiver, shared_load));
                }
                Err(error) => {
                    let _ = begun.send(Err(error));
                }
            }
        })?;
        outcome.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { sender, load, thread })
    }

    /// Connections that the shard has.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Hands a connection over.
    pub(crate) async fn take(&self, accepted: Accepted) {
        self.load.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(accepted).await.is_err() {
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends the shard once its connections have gone.
    pub(crate) fn end(self) -> JoinHandle<()> {
        self.thread
    }
}

async fn run(server: Arc<Server>, mut receiver: mpsc::Receiver<Accepted>, load: Arc<AtomicUsize>) {
    let shard = Rc::new(Inner {
        worker: server.router().worker(),
        flusher: RefCell::new(None),
        flush_due: Cell::new(false),
        alarms: RefCell::new(BTreeMap::new()),
        next_alarm: Cell::new(0),
        earlier: Notify::new(),
    });
    let flusher = tokio::task::spawn_local(flush(shard.clone()));
    let alarms = tokio::task::spawn_local(ring(shard.clone()));
    let quiet = tokio::task::spawn_local(relax(shard.clone()));
    while let Some(accepted) = receiver.recv().await {
        let seat = Seat(load.clone());
        // A peer that has already gone has no address.
        let Ok(peer) = accepted.stream.peer_addr() else { continue };
        if matches!(accepted.door, Door::Client) && is_throttled(&server, &accepted.stream) {
            continue;
        }
        let Ok(stream) = tokio::net::TcpStream::from_std(accepted.stream) else { continue };
        let host = ShardHost { shard: shard.clone(), _seat: seat };
        match accepted.door {
            Door::Client => client(&server, host, &peer.to_string(), stream),
            Door::Route(dialled) => route(&server, host, peer.to_string(), stream, dialled),
            Door::Leaf(None) => spoke(&server, host, &peer.to_string(), stream),
            Door::Leaf(Some(hub)) => {
                tokio::task::spawn_local(go_to(server.clone(), host, peer.to_string(), stream, *hub));
            }
            Door::WebSocket => {
                let ours = server.clone();
                tokio::task::spawn_local(websocket::serve(
                    server.clone(),
                    stream,
                    peer,
                    move |Asked { socket, peer, carrier, leafnode }| {
                        if leafnode {
                            sit(pipe::leaf(ours, host, (&peer, carrier), socket));
                        } else {
                            sit(pipe::connection(ours, host, (&peer, Some(carrier)), socket));
                        }
                    },
                ));
            }
        }
    }
    for task in [flusher, alarms, quiet] {
        task.abort();
    }
}

/// A connection's place in its shard's load.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether there have been too many handshakes in this second. The peer is told.
fn is_throttled(server: &Server, mut stream: &TcpStream) -> bool {
    let throttled = server.setup().tls.as_ref().is_some_and(|tls| !tls.admits(Instant::now()));
    if throttled {
        // Nothing is lost if the peer does not get to see it.
        let _ = stream.write(b"-ERR 'Connection throttling is active. Please try again later.'\r\n");
    }
    throttled
}

/// Runs a client that came by a plain socket, which may go on as TLS.
fn client(server: &Arc<Server>, host: ShardHost, peer: &str, stream: tokio::net::TcpStream) {
    let setup = server.setup();
    let Some(tls) = &setup.tls else {
        let (inlet, outlet) = socket::split(stream, setup.options.log.max_traced);
        return sit(Connection::client(server.clone(), host, (peer, None), inlet, outlet));
    };
    let carrier = Arc::new(Carrier::new(ConnectionType::Standard));
    let stream = Upgrade::new(stream, tls.clone(), carrier.clone());
    sit(pipe::connection(server.clone(), host, (peer, Some(carrier)), stream));
}

/// Runs a connection to another server of the cluster.
fn route(
    server: &Arc<Server>,
    host: ShardHost,
    peer: String,
    stream: tokio::net::TcpStream,
    dialled: Option<(Box<Dialled>, Done)>,
) {
    let setup = server.setup();
    let (tls, mode) = (setup.cluster_tls.clone(), setup.options.cluster.compression.clone());
    let max_traced = setup.options.log.max_traced;
    let dial = dialled.as_ref().map(|(dialled, _)| dialled.dial(tls.is_some()));
    if tls.is_none() && mode == Compression::Off {
        let streams = socket::split(stream, max_traced);
        let duty = RouteDuty::new(dialled);
        return sit(Connection::route(server.clone(), host, (&peer, None), (dial, duty), streams));
    }
    let server = server.clone();
    tokio::task::spawn_local(async move {
        let stream: Result<Box<dyn Stream>, HandshakeError> = match (&tls, &dialled) {
            (None, _) => Ok(Box::new(stream)),
            (Some(tls), Some((dialled, _))) => tls
                .connect(tls_name(&dialled.url.host, &setup.options.cluster.routes), stream)
                .await
                .map(|io| Box::new(io) as _),
            (Some(tls), None) => tls.accept(stream).await.map(|io| Box::new(io) as _),
        };
        match (stream, server.router().cluster()) {
            (Ok(stream), Some(cluster)) => {
                let side = match dialled {
                    Some(_) => Side::Asks(Box::new(cluster.greeting())),
                    None => Side::IsAskedByRoute,
                };
                let carrier = Arc::new(Carrier::new(ConnectionType::Standard));
                let stream = Compressed::new(stream, mode, side, carrier.clone());
                let streams = pipe::split(stream, max_traced);
                let duty = RouteDuty::new(dialled);
                let carrier = Some(carrier);
                sit(Connection::route(server.clone(), host, (&peer, carrier), (dial, duty), streams));
            }
            (Err(why), _) => {
                error!("{peer} - TLS route handshake error: {why}");
                RouteDuty::new(dialled).ended(&server);
            }
            // Nobody listens for routes without one.
            (Ok(_), None) => {}
        }
    });
}

/// Runs a connection of a leafnode.
fn spoke(server: &Arc<Server>, host: ShardHost, peer: &str, stream: tokio::net::TcpStream) {
    let setup = server.setup();
    let carrier = Arc::new(Carrier::new(ConnectionType::Standard));
    let Some(tls) = &setup.leafnode_tls else {
        if setup.options.leafnodes.compression != Compression::Off {
            return sit(pipe::leaf(server.clone(), host, (peer, carrier), stream));
        }
        let streams = socket::split(stream, setup.options.log.max_traced);
        let duty = LeafDuty::new(None);
        return sit(Connection::leaf(server.clone(), host, (peer, None), (None, duty), streams));
    };
    let stream = Upgrade::new(stream, tls.clone(), carrier.clone());
    sit(pipe::leaf(server.clone(), host, (peer, carrier), stream));
}

/// Runs a connection to a hub.
async fn go_to(server: Arc<Server>, host: ShardHost, peer: String, stream: tokio::net::TcpStream, hub: Hub) {
    match leafnode::open(&hub, stream).await {
        Ok(stream) => {
            let Hub { dial, account, compression, done, .. } = hub;
            let carrier = Arc::new(Carrier::new(ConnectionType::Standard));
            let stream = Compressed::new(stream, compression, Side::Asks(Box::default()), carrier.clone());
            let streams = pipe::split(stream, server.setup().options.log.max_traced);
            let duty = LeafDuty::new(Some(done));
            let dial = Some((dial, account));
            sit(Connection::leaf(server, host, (&peer, Some(carrier)), (dial, duty), streams));
        }
        Err(why) => error!("{peer} - Leafnode Error '{why}'"),
    }
}

/// Runs a connection until it ends. As it is: an `async` block around it would keep it twice, once for the block and once
/// for waiting.
fn sit(connection: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(connection);
}

/// What the shard's tasks share.
pub(crate) struct Inner {
    worker: Arc<Mutex<Worker>>,
    flusher: RefCell<Option<Waker>>,
    flush_due: Cell<bool>,
    alarms: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_alarm: Cell<u64>,
    /// Told when there is an alarm before all others.
    earlier: Notify,
}

/// A shard, as one of its connections has it.
pub(crate) struct ShardHost {
    shard: Rc<Inner>,
    _seat: Seat,
}

impl Host for ShardHost {
    type Alarm = ShardAlarm;

    fn worker(&self) -> &Mutex<Worker> {
        &self.shard.worker
    }

    fn alarm(&self) -> ShardAlarm {
        let id = self.shard.next_alarm.get();
        self.shard.next_alarm.set(id + 1);
        ShardAlarm { shard: self.shard.clone(), id, at: None }
    }

    fn end_turn(&self, worker: &mut Worker, _: Instant) {
        if worker.is_dirty()
            && !self.shard.flush_due.replace(true)
            && let Some(flusher) = &*self.shard.flusher.borrow()
        {
            flusher.wake_by_ref();
        }
    }
}

/// The end of the tick: woken by the first connection that has something for others, this task comes after all
/// that were ready then, and writes what they appended.
async fn flush(shard: Rc<Inner>) {
    poll_fn(|cx| {
        shard.flusher.replace(Some(cx.waker().clone()));
        if shard.flush_due.replace(false) {
            shard.worker.lock().flush(Instant::now());
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Wakes connections whose time has come.
async fn ring(shard: Rc<Inner>) {
    loop {
        let first = shard.alarms.borrow().first_key_value().map(|((at, _), _)| *at);
        match first {
            None => shard.earlier.notified().await,
            Some(at) => {
                let at = tokio::time::Instant::from_std(at);
                let _ = tokio::time::timeout_at(at, shard.earlier.notified()).await;
            }
        }
        let now = Instant::now();
        loop {
            let mut alarms = shard.alarms.borrow_mut();
            let Some(entry) = alarms.first_entry().filter(|entry| entry.key().0 <= now) else { break };
            entry.remove().wake();
        }
    }
}

/// Gives memory back when nothing happens.
async fn relax(shard: Rc<Inner>) {
    let mut before = None;
    loop {
        tokio::time::sleep(QUIET).await;
        let mut worker = shard.worker.lock();
        let reads = Some(worker.counters().reads);
        if before == reads {
            worker.relax();
        }
        before = reads;
    }
}

/// One connection's place among the shard's alarms.
pub(crate) struct ShardAlarm {
    shard: Rc<Inner>,
    id: u64,
    at: Option<Instant>,
}

impl Alarm for ShardAlarm {
    fn set(&mut self, at: Instant, now: Instant, cx: &mut Context<'_>) {
        // An earlier alarm that is still to come wakes the task, too; it then sets the next one.
        if self.at.is_some_and(|set| set <= at && set > now) {
            return;
        }
        self.clear();
        let mut alarms = self.shard.alarms.borrow_mut();
        alarms.insert((at, self.id), cx.waker().clone());
        if alarms.first_key_value().is_some_and(|((_, first), _)| *first == self.id) {
            self.shard.earlier.notify_one();
        }
        self.at = Some(at);
    }
}

impl ShardAlarm {
    fn clear(&mut self) {
        if let Some(at) = self.at.take() {
            self.shard.alarms.borrow_mut().remove(&(at, self.id));
        }
    }
}

impl Drop for ShardAlarm {
    fn drop(&mut self) {
        self.clear();
    }
}
