//! A router with peers that show what they hear.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use midge_router::{
    Arrival, Client, ClientSession, ClusterSettings, Dial, Entrance, Event, Grant, Input, Leaf, LeafDial,
    LeafSession, LeafSettings, Limits, Next, Owner, Role, Route, RouteSession, Router, Session, SessionError,
    Settings, Tick, Verdict, Worker,
};
use midge_wire::json::Info;
use parking_lot::Mutex;

/// A CONNECT as clients send it.
pub(crate) const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";

/// Ended connections that are remembered.
pub(crate) const MAX_ENDED: usize = 140;

/// What a peer has heard, and how much more it takes.
pub(crate) struct Screen {
    heard: Mutex<Vec<u8>>,
    room: AtomicUsize,
    woken: AtomicUsize,
    during_write: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Screen {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            heard: Mutex::default(),
            room: AtomicUsize::new(usize::MAX),
            woken: AtomicUsize::new(0),
            during_write: Mutex::default(),
        })
    }
}

impl Owner for Screen {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        for slice in bytes {
            let take = slice.len().min(self.room.load(Ordering::Relaxed));
            self.room.fetch_sub(take, Ordering::Relaxed);
            self.heard.lock().extend_from_slice(&slice[..take]);
            taken += take;
        }
        let hook = self.during_write.lock().take();
        if let Some(hook) = hook {
            hook();
        }
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

/// A peer and its session.
pub(crate) struct Peer<R: Role = Client> {
    pub(crate) session: Session<R>,
    screen: Arc<Screen>,
}

/// A router, one thread's worker, and the time.
pub(crate) struct House {
    pub(crate) router: Arc<Router>,
    pub(crate) worker: Arc<Mutex<Worker>>,
    pub(crate) now: Instant,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), false)
    }

    /// A member of a cluster.
    pub(crate) fn member(settings: ClusterSettings) -> Self {
        Self::built(Limits::default(), false, (Some(settings), None))
    }

    /// A server that may have leafnodes and hubs, and be a member of a cluster.
    pub(crate) fn hub(leaves: LeafSettings, cluster: Option<ClusterSettings>) -> Self {
        Self::built(Limits::default(), false, (cluster, Some(leaves)))
    }

    pub(crate) fn with(limits: Limits, auth_required: bool) -> Self {
        Self::built(limits, auth_required, (None, None))
    }

    pub(crate) fn built(
        limits: Limits,
        auth_required: bool,
        (cluster, leaves): (Option<ClusterSettings>, Option<LeafSettings>),
    ) -> Self {
        let entrance = Entrance {
            asks: auth_required,
            announces: auth_required,
            timeout: Duration::from_secs(2),
            ..Entrance::default()
        };
        let info = Info::default();
        let router =
            Router::new(Settings { info, limits, entrance, seed: 7, max_ended: MAX_ENDED, cluster, leaves });
        let worker = router.worker();
        Self { router, worker, now: Instant::now() }
    }

    pub(crate) fn later(&mut self, by: Duration) {
        self.now += by;
    }

    /// Runs one tick: `act`, and then everything is written.
    pub(crate) fn tick<T>(&self, act: impl FnOnce(&mut Tick<'_>) -> T) -> T {
        let mut worker = self.worker.lock();
        let done = act(&mut Tick { worker: &mut worker, now: self.now });
        worker.flush(self.now);
        done
    }

    /// Another server that has come, or one that was dialled.
    pub(crate) fn server(&self, dial: Option<Dial>) -> Peer<Route> {
        self.server_by(dial, Entrance::default())
    }

    /// The same, by a way in of its own.
    pub(crate) fn server_by(&self, dial: Option<Dial>, entrance: Entrance) -> Peer<Route> {
        let screen = Screen::new();
        let entrance = Entrance { asks: dial.is_none(), timeout: Duration::from_secs(2), ..entrance };
        let arrival = Arrival { entrance: Some(Arc::new(entrance)), ..Arrival::from("10.0.0.9:9") };
        let session =
            self.tick(|tick| RouteSession::route(&self.router, arrival, dial, screen.clone(), tick));
        Peer { session, screen }
    }

    /// A leafnode that has come, or a hub that was dialled, with which that account is shared.
    pub(crate) fn leaf(&self, dial: Option<(LeafDial, &str)>) -> Peer<Leaf> {
        self.leaf_by(dial, Entrance::default())
    }

    /// The same, by a way in of its own kind.
    pub(crate) fn leaf_by(&self, dial: Option<(LeafDial, &str)>, entrance: Entrance) -> Peer<Leaf> {
        let screen = Screen::new();
        let entrance = Entrance { asks: dial.is_none(), timeout: Duration::from_secs(2), ..entrance };
        let nonce = if dial.is_none() { "nonce".to_owned() } else { String::new() };
        let arrival = Arrival { entrance: Some(Arc::new(entrance)), nonce, ..Arrival::from("10.0.0.8:8") };
        let dial = dial.map(|(dial, account)| (dial, self.router.add_account(account)));
        let session = self.tick(|tick| LeafSession::leaf(&self.router, arrival, dial, screen.clone(), tick));
        Peer { session, screen }
    }

    /// Writes what was put to a peer from outside a tick, and shows it.
    pub(crate) fn told<R: Role>(&self, peer: &Peer<R>) -> String {
        self.tick(|tick| peer.session.conn().flush(tick.worker, tick.now));
        peer.heard()
    }

    /// A peer that has said nothing yet.
    pub(crate) fn stranger(&self) -> Peer {
        self.stranger_by(self.router.entrance())
    }

    fn stranger_by(&self, entrance: Arc<Entrance>) -> Peer {
        let screen = Screen::new();
        let arrival = Arrival { entrance: Some(entrance), ..Arrival::from("127.0.0.1:9") };
        let session = self.tick(|tick| ClientSession::client(&self.router, arrival, screen.clone(), tick));
        Peer { session, screen }
    }

    /// A peer that has connected, and said `more`.
    pub(crate) fn peer(&self, more: &str) -> Peer {
        let mut peer = self.stranger();
        self.say(&mut peer, CONNECT);
        peer.heard();
        self.say(&mut peer, more);
        peer
    }

    /// A peer of the account of that name.
    pub(crate) fn peer_of(&self, account: &str, more: &str) -> Peer {
        self.peer_with(Grant::of(self.router.add_account(account)), more)
    }

    /// A peer that was found to be somebody.
    pub(crate) fn peer_with(&self, grant: Grant, more: &str) -> Peer {
        let asks = Entrance { asks: true, ..Entrance::clone(&self.router.entrance()) };
        let mut peer = self.stranger_by(Arc::new(asks));
        assert_eq!(self.offer(&mut peer, CONNECT.as_bytes()).next, Next::Verdict);
        assert!(matches!(peer.session.poll_event(), Some(Event::Authenticate(_))));
        self.tick(|tick| peer.session.handle_verdict(Verdict::Welcome(Arc::new(grant)), tick));
        peer.heard();
        self.say(&mut peer, more);
        peer
    }

    /// Offers bytes once.
    pub(crate) fn offer<R: Role>(&self, peer: &mut Peer<R>, bytes: &[u8]) -> Input {
        self.tick(|tick| peer.session.handle_input(bytes, tick))
    }

    /// Says something whole.
    pub(crate) fn say<R: Role>(&self, peer: &mut Peer<R>, text: &str) {
        let done = self.offer(peer, text.as_bytes());
        assert!(
            done.used == text.len() || peer.session.conn().closed().is_some(),
            "'{text}' is not taken: {done:?}"
        );
    }
}

impl<R: Role> Peer<R> {
    /// What has been heard since the last time.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.screen.heard.lock())).unwrap()
    }

    /// Forgets what has been heard, and keeps the room for it.
    pub(crate) fn clear(&self) {
        self.screen.heard.lock().clear();
    }

    /// Takes so many bytes more, and then no more.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.screen.room.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn during_next_write(&self, act: impl FnOnce() + Send + 'static) {
        *self.screen.during_write.lock() = Some(Box::new(act));
    }

    /// How often its owner has been woken since the last time.
    pub(crate) fn woken(&self) -> usize {
        self.screen.woken.swap(0, Ordering::Relaxed)
    }

    /// Why its session ended it, skipping all other events.
    pub(crate) fn error(&mut self) -> Option<SessionError> {
        std::iter::from_fn(|| self.session.poll_event()).find_map(|event| match event {
            Event::Closed(_, error) => error,
            _ => None,
        })
    }
}

/// The JSON behind an operation's name.
pub(crate) fn json<T: for<'de> serde::Deserialize<'de>>(line: &str, op: &str) -> T {
    let body = line.strip_prefix(op).unwrap_or_else(|| panic!("no {op}: {line}"));
    serde_json::from_str(body.lines().next().unwrap()).unwrap()
}
