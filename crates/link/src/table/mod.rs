//! All links of a peer: at most one to each other peer is used, whoever began it and by whichever way.
//!
//! Of two links to the same peer one stays. While the first still answers, it is the one, so that what runs on it goes
//! on; if it does not, the new one takes over. Of what is too much, the peer with the smaller id decides, so that not
//! both sides end one of two each.

mod events;
mod keep;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use midge_identity::{KeyPair, PeerId};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use self::events::Queue;
pub use self::events::{LinkEvent, LinkEvents};
use crate::Admission;
use crate::address::Address;
use crate::config::LinkConfig;
use crate::establish;
use crate::link::{Direction, Ended, Link, LinkStream};
use crate::path::PacketPath;
use crate::quic::{Credentials, Endpoint, EndpointError, Refused};

/// Streams that wait for somebody to take them; beyond that, those who open them wait.
const WAITING_STREAMS: usize = 256;
/// How often a link is asked for a sign of the other side before another one takes its place, and the pause in between.
const QUESTIONS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked whether the other side has another address.
const LOOK: Duration = Duration::from_secs(5);
/// Most links to a peer that is wanted at several addresses: one and a spare.
const ENOUGH: usize = 2;
/// Most events that wait before no further links are taken up.
const MOST_EVENTS: usize = 65_536;
/// What a stream of a protocol that is not served hears.
const UNKNOWN_PROTOCOL: u32 = 404;
/// What a stream hears that did not say its protocol.
const NO_PROTOCOL: u32 = 400;

/// Told whenever the links to a peer change.
type Changes = watch::Receiver<u64>;

/// A stream that a peer has opened.
#[derive(Debug)]
pub struct IncomingStream {
    /// The link that it belongs to.
    pub link: Link,
    /// The protocol that it is for.
    pub protocol: String,
    /// What follows.
    pub stream: LinkStream,
}

/// All links of a peer. Cheap to clone; they end when the last clone is dropped, and those in its streams.
#[derive(Debug, Clone)]
pub struct LinkTable(Arc<Closer>);

/// Ends the tasks when nobody has the table any more.
#[derive(Debug)]
struct Closer(Arc<Table>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[derive(Debug)]
struct Table {
    us: PeerId,
    key: KeyPair,
    credentials: Arc<Credentials>,
    admission: Arc<dyn Admission>,
    config: Arc<LinkConfig>,
    protocols: Mutex<HashSet<String>>,
    state: Mutex<State>,
    events: Arc<Queue>,
    streams: mpsc::Sender<IncomingStream>,
    random: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    endpoints: Vec<Arc<Endpoint>>,
    tasks: Vec<AbortHandle>,
    peers: HashMap<PeerId, Peer>,
    /// How many links there are.
    count: usize,
}

/// What is known of another peer.
#[derive(Debug)]
struct Peer {
    /// The first is used.
    links: Vec<Link>,
    /// Where it is dialled, if it is.
    wanted: Vec<Address>,
    keepers: Vec<AbortHandle>,
    changes: watch::Sender<u64>,
}

impl Default for Peer {
    fn default() -> Self {
        Self { links: Vec::new(), wanted: Vec::new(), keepers: Vec::new(), changes: watch::Sender::new(0) }
    }
}

impl Peer {
    /// Whether there is nothing to know of it.
    fn is_idle(&self) -> bool {
        self.links.is_empty() && self.wanted.is_empty()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl LinkTable {
    /// A table without a network yet. What happens is told by the second, and streams of peers come by the third. Needs
    /// a tokio runtime with time, as everything here does.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn new(
        key: KeyPair,
        admission: Arc<dyn Admission>,
        config: LinkConfig,
    ) -> Result<(Self, LinkEvents, mpsc::Receiver<IncomingStream>), EndpointError> {
        let mut secret = [0; 32];
        let seed = config.seed.map(|seed| {
            key.derive(&seed.to_be_bytes(), b"simulated certificate", &mut secret);
            &secret
        });
        let credentials =
            Credentials::new(&key, seed).map_err(|error| EndpointError::Certificate(error.to_string()))?;
        let (streams, incoming) = mpsc::channel(WAITING_STREAMS);
        let first = config.seed.unwrap_or_else(|| u64::from_be_bytes(first_bytes(&key)));
        let table = Table {
            us: key.peer_id(),
            key,
            credentials: Arc::new(credentials),
            admission,
            config: Arc::new(config),
            protocols: Mutex::default(),
            state: Mutex::default(),
            events: Arc::default(),
            streams,
            random: AtomicU64::new(first),
        };
        let events = LinkEvents(table.events.clone());
        Ok((Self(Arc::new(Closer(Arc::new(table)))), events, incoming))
    }

    /// Who this peer is.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.table().us
    }

    /// Makes links over this network, too: takes those that others begin, and dials by it.
    ///
    /// # Errors
    /// The network cannot be used.
    pub fn add_path(&self, path: Arc<dyn PacketPath>) -> Result<(), EndpointError> {
        let table = self.table();
        let (admission, config) = (table.admission.clone(), table.config.clone());
        let endpoint = Arc::new(Endpoint::new(&table.key, &table.credentials, path, admission, config)?);
        let task = tokio::spawn(receive(table.clone(), endpoint.clone()));
        let mut state = table.state.lock();
        if state.closed {
            task.abort();
            endpoint.close();
            return Err(EndpointError::Closed);
        }
        state.endpoints.push(endpoint);
        state.tasks.push(task.abort_handle());
        Ok(())
    }

    /// Takes streams for that protocol. Others are refused, without harm to their links.
    pub fn serve(&self, protocol: &str) {
        self.table().protocols.lock().insert(protocol.to_owned());
    }

    /// Sees to it that there is a link to that peer, from now on and by these addresses. One begun by the peer will do.
    pub fn want(&self, peer: PeerId, addresses: Vec<Address>) {
        let table = self.table();
        let mut state = table.state.lock();
        if state.closed || peer == table.us {
            return;
        }
        let entry = state.peers.entry(peer).or_default();
        entry.keepers.drain(..).for_each(|keeper| keeper.abort());
        entry.wanted = addresses;
        for address in &entry.wanted {
            let keeper = keep::keep(table.clone(), peer, address.clone(), entry.changes.subscribe());
            entry.keepers.push(tokio::spawn(keeper).abort_handle());
        }
        if entry.is_idle() {
            state.peers.remove(&peer);
        }
    }

    /// Sees to that no longer. A link that there is stays.
    pub fn forget(&self, peer: &PeerId) {
        self.want(*peer, Vec::new());
    }

    /// The link to that peer that is used, if there is one.
    #[must_use]
    pub fn link(&self, peer: &PeerId) -> Option<Link> {
        self.table().state.lock().peers.get(peer)?.links.first().cloned()
    }

    /// All links, by peer: the one that is used first, then those in reserve.
    #[must_use]
    pub fn links(&self) -> Vec<Vec<Link>> {
        let state = self.table().state.lock();
        let mut all: Vec<_> = state.peers.iter().filter(|(_, peer)| !peer.links.is_empty()).collect();
        all.sort_by_key(|(id, _)| **id);
        all.into_iter().map(|(_, peer)| peer.links.clone()).collect()
    }

    /// Ends the links to a peer, as one that is not allowed any more.
    pub fn dismiss(&self, peer: &PeerId) {
        let links = self.table().state.lock().peers.get(peer).map(|peer| peer.links.clone());
        links.into_iter().flatten().for_each(|link| link.close(&Ended::NotAllowed));
    }

    /// Ends everything at once.
    pub fn end(&self) {
        self.table().end();
    }

    /// Ends everything, and waits until the other sides had time to hear of it.
    pub async fn close(&self) {
        let endpoints = self.table().end();
        for endpoint in endpoints {
            endpoint.wait().await;
        }
    }

    fn table(&self) -> &Arc<Table> {
        &self.0.0
    }
}

fn first_bytes(key: &KeyPair) -> [u8; 8] {
    let mut secret = [0; 32];
    key.derive(b"midge chance", b"", &mut secret);
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(secret).for_each(|(to, from)| *to = from);
    bytes
}

/// Takes what comes by one network.
async fn receive(table: Arc<Table>, endpoint: Arc<Endpoint>) {
    while let Some(arrival) = endpoint.arrival().await {
        let (table, endpoint) = (table.clone(), endpoint.clone());
        tokio::spawn(async move {
            match endpoint.admit(arrival).await {
                Ok(link) => table.take_up(link),
                Err(Refused { address, peer, why }) => {
                    table.events.push(LinkEvent::Refused { address, peer, why });
                }
            }
        });
    }
}

impl Table {
    fn endpoints(&self, scheme: &str) -> Vec<Arc<Endpoint>> {
        self.state.lock().endpoints.iter().filter(|one| one.path().scheme() == scheme).cloned().collect()
    }

    /// Ends all tasks and takes nothing more.
    fn end(&self) -> Vec<Arc<Endpoint>> {
        let (endpoints, tasks) = {
            let mut state = self.state.lock();
            state.closed = true;
            let keepers = state.peers.values_mut().flat_map(|peer| peer.keepers.drain(..));
            let mut tasks: Vec<_> = keepers.collect();
            tasks.append(&mut state.tasks);
            (std::mem::take(&mut state.endpoints), tasks)
        };
        tasks.into_iter().for_each(|task| task.abort());
        endpoints.iter().for_each(|endpoint| endpoint.close());
        self.events.end();
        endpoints
    }

    /// A pause that is up to a quarter shorter or longer, by chance.
    fn spread(&self, pause: Duration) -> Duration {
        let next = |n: u64| Some(n.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f));
        let random = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        pause.mul_f64(0.75 + (random >> 33) as f64 / (1_u64 << 32) as f64)
    }

    /// Whether the peer should be dialled at that address: it is not there already, and more links are wanted, or a
    /// better one.
    fn lacks(&self, peer: &PeerId, address: &Address) -> bool {
        let state = self.state.lock();
        let Some(peer) = state.peers.get(peer) else { return false };
        let enough = peer.wanted.len().clamp(1, ENOUGH);
        let goes_straight = |endpoint: &Arc<Endpoint>| {
            endpoint.path().scheme() == address.scheme() && !endpoint.path().limits().relayed
        };
        let is_better =
            || peer.links.iter().all(Link::is_relayed) && state.endpoints.iter().any(goes_straight);
        (peer.links.len() < enough || is_better())
            && !peer.links.iter().any(|link| link.address() == address.to_string())
    }

    /// Takes up a link that both sides have agreed to.
    fn take_up(self: &Arc<Self>, link: Link) {
        // It may not any more, since it was asked.
        if link.direction() == Direction::Incoming && !self.admission.admits(&link.peer()) {
            return link.close(&Ended::NotAllowed);
        }
        let before = {
            let mut state = self.state.lock();
            // Strangers do not take the places of those who are wanted.
            let is_wanted = state.peers.get(&link.peer()).is_some_and(|peer| !peer.wanted.is_empty());
            let is_full = state.count >= self.config.max_links && !is_wanted;
            let refuse = if state.closed {
                Some(Ended::Shutdown)
            } else if is_full || self.events.len() >= MOST_EVENTS {
                Some(Ended::TooMany)
            } else {
                None
            };
            if let Some(why) = refuse {
                return link.close(&why);
            }
            let entry = state.peers.entry(link.peer()).or_default();
            if entry.links.len() >= self.config.max_links_per_peer {
                return link.close(&Ended::TooMany);
            }
            entry.links.push(link.clone());
            let first = entry.links.first().filter(|first| **first != link).cloned();
            if first.is_none() {
                self.events.push(LinkEvent::Up(link.clone()));
            }
            entry.changed();
            state.count += 1;
            first
        };
        tokio::spawn(attend(self.clone(), link.clone()));
        if let Some(before) = before {
            tokio::spawn(decide(self.clone(), before, link));
        }
    }

    /// Forgets a link that has ended. If it was used, another one takes its place.
    fn let_go(&self, link: &Link, why: Ended) {
        let mut state = self.state.lock();
        let State { peers, count, .. } = &mut *state;
        let Some(peer) = peers.get_mut(&link.peer()) else { return };
        let Some(at) = peer.links.iter().position(|other| other == link) else { return };
        peer.links.remove(at);
        *count -= 1;
        if at == 0 {
            if let Some(straight) = peer.links.iter().position(|link| !link.is_relayed()) {
                peer.links.swap(0, straight);
            }
            self.events.push(match peer.links.first() {
                Some(next) => LinkEvent::Moved { link: next.clone(), before: link.number(), why },
                None => LinkEvent::Down { link: link.clone(), why },
            });
        }
        peer.changed();
        if peer.is_idle() {
            peers.remove(&link.peer());
        }
    }

    /// Has a link used instead of the one that is; whether it still was.
    fn promote(&self, new: &Link, used: &Link, why: Ended) -> bool {
        let mut state = self.state.lock();
        let Some(peer) = state.peers.get_mut(&new.peer()) else { return false };
        if peer.links.first() != Some(used) {
            return false;
        }
        let Some(at) = peer.links.iter().position(|link| link == new) else { return false };
        peer.links.swap(0, at);
        let (link, before) = (new.clone(), used.number());
        self.events.push(LinkEvent::Moved { link, before, why });
        peer.changed();
        true
    }

    /// Whether this side decides which of several links stays.
    fn decides(&self, peer: &PeerId) -> bool {
        self.us < *peer
    }

    /// Whether the new link may stay in reserve beside the one that is used: no other does yet, and it goes another way.
    fn may_stay(&self, used: &Link, new: &Link) -> bool {
        let state = self.state.lock();
        let Some(peer) = state.peers.get(&new.peer()) else { return false };
        let others = peer.links.iter().filter(|link| *link != used && *link != new).count();
        others == 0 && new.goes_another_way_than(used)
    }
}

/// Finds out whether the link that is used still is one, now that there is another.
async fn decide(table: Arc<Table>, used: Link, new: Link) {
    let (before, new_before) = (used.ask(), new.ask());
    for _ in 0..QUESTIONS {
        if timeout(PAUSE.max(used.stats().rtt), used.closed()).await.is_ok() {
            return;
        }
        let now = used.ask();
        // One that cannot be asked is believed to be there.
        if now.is_none() || now > before {
            let is_better = used.is_relayed() && !new.is_relayed() && !new.is_closed();
            let other = if is_better { &used } else { &new };
            // Another one may have been quicker.
            if is_better && !table.promote(&new, &used, Ended::Relayed) {
                return;
            }
            if table.decides(&new.peer()) && !table.may_stay(&used, &new) {
                other.close(&Ended::Surplus);
            }
            return;
        }
    }
    // Nothing is given up for what is not there itself.
    if !new.is_closed() && (new_before.is_none() || new.ask() > new_before) {
        table.promote(&new, &used, Ended::Superseded);
        used.close(&Ended::Superseded);
    }
}

/// Takes a link's streams until it ends.
async fn attend(table: Arc<Table>, link: Link) {
    let mut address = link.address();
    let why = loop {
        tokio::select! {
            biased;
            stream = link.accept() => match stream {
                Ok(stream) => {
                    tokio::spawn(establish_stream(table.clone(), link.clone(), stream));
                }
                Err(why) => break why,
            },
            () = sleep(LOOK) => {
                let now = link.address();
                if now != address {
                    let from = std::mem::replace(&mut address, now);
                    table.events.push(LinkEvent::Roamed { link: link.clone(), from });
                }
            }
        }
    };
    table.let_go(&link, why);
}

/// Finds out what a stream is for, and hands it on.
async fn establish_stream(table: Arc<Table>, link: Link, mut stream: LinkStream) {
    let read = timeout(table.config.establish_timeout, establish::read(&mut stream.recv)).await;
    let Ok(Ok(protocol)) = read else { return stream.reset(NO_PROTOCOL) };
    if !table.protocols.lock().contains(&protocol) {
        return stream.reset(UNKNOWN_PROTOCOL);
    }
    // Nobody takes any more when the table has gone.
    let _ = table.streams.send(IncomingStream { link, protocol, stream }).await;
}
