//! A network in memory, for simulations and tests: as lossy, slow and broken as it is told to be, in tokio's time, and
//! the same for the same seed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use midge_identity::PeerId;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::path::{Boxed, LocateError, Numbered, Outgoing, PacketPath, PathLimits, Received, Sent};

const NETWORK: Numbered = Numbered(1);

/// What happens to datagrams on their way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Time on the way.
    pub latency: Duration,
    /// Most time more, by chance for each datagram; they overtake each other.
    pub jitter: Duration,
    /// How many of them are lost: 0 is none, 1 all.
    pub loss: f64,
    /// How many arrive twice.
    pub duplication: f64,
    /// Longer ones are lost.
    pub max_datagram: usize,
    /// Bytes a second, if that is limited.
    pub rate: Option<u64>,
    /// Bytes that wait where the rate is limited; what finds no room is lost, or has to wait if the network is reliable.
    pub queue: usize,
}

impl Default for Conditions {
    /// A quick network that loses nothing.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            max_datagram: 1500,
            rate: None,
            queue: 128 * 1024,
        }
    }
}

/// A network, which hosts join.
#[derive(Clone)]
pub struct MemNetwork(Arc<Mutex<Net>>);

struct Net {
    random: u64,
    conditions: Conditions,
    /// Those that are others, by who sends and who receives.
    special: HashMap<(u64, u64), Conditions>,
    /// Pairs between which nothing goes.
    cut: HashSet<(u64, u64)>,
    hosts: HashMap<u64, Weak<MemPath>>,
    /// Who alone can be where, if that is known.
    owners: HashMap<u64, PeerId>,
    next: u64,
    /// When what was sent from one to another will have left, where the rate is limited.
    busy: HashMap<(u64, u64), Instant>,
    reliable: bool,
    relayed: bool,
    counts: Counts,
}

/// What has become of datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many were sent.
    pub sent: u64,
    /// How many of them were lost.
    pub lost: u64,
}

impl fmt::Debug for MemNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemNetwork").finish_non_exhaustive()
    }
}

impl MemNetwork {
    /// A network that loses what finds no room.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, false, false)
    }

    /// A network that has senders wait instead.
    #[must_use]
    pub fn reliable(seed: u64) -> Self {
        Self::with(seed, true, false)
    }

    /// A network that is taken to be carried by others, with addresses `relay://`.
    #[must_use]
    pub fn relayed(seed: u64) -> Self {
        Self::with(seed, false, true)
    }

    fn with(seed: u64, reliable: bool, relayed: bool) -> Self {
        let net = Net {
            random: seed,
            conditions: Conditions::default(),
            special: HashMap::new(),
            cut: HashSet::new(),
            hosts: HashMap::new(),
            owners: HashMap::new(),
            next: 1,
            busy: HashMap::new(),
            reliable,
            relayed,
            counts: Counts::default(),
        };
        Self(Arc::new(Mutex::new(net)))
    }

    /// A new host. What is on its way to it is lost when it is dropped.
    #[must_use]
    pub fn join(&self) -> Arc<MemPath> {
        let number = self.0.lock().number();
        self.join_as(number)
    }

    /// A host where another one was before.
    #[must_use]
    pub fn join_as(&self, number: u64) -> Arc<MemPath> {
        let path = Arc::new(MemPath {
            net: self.clone(),
            state: Mutex::new(Host { number, inbox: BTreeMap::new(), order: 0, timer: None, waker: None }),
        });
        let mut net = self.0.lock();
        net.next = net.next.max(number + 1);
        net.hosts.insert(number, Arc::downgrade(&path));
        path
    }

    /// Has it known who alone can be at a host.
    pub fn set_owner(&self, number: u64, owner: PeerId) {
        self.0.lock().owners.insert(number, owner);
    }

    /// Changes what happens to all datagrams for which nothing else is said.
    pub fn set(&self, conditions: Conditions) {
        self.0.lock().conditions = conditions;
    }

    /// Changes what happens to datagrams between two hosts, both ways.
    pub fn set_between(&self, one: u64, other: u64, conditions: Conditions) {
        let mut net = self.0.lock();
        net.special.extend([((one, other), conditions), ((other, one), conditions)]);
    }

    /// Lets nothing go between two hosts any more, or lets it again.
    pub fn cut(&self, one: u64, other: u64, cut: bool) {
        let mut net = self.0.lock();
        for pair in [(one, other), (other, one)] {
            if cut {
                net.cut.insert(pair)
            } else {
                net.cut.remove(&pair)
            };
        }
    }

    /// What has become of all datagrams so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }
}

impl Net {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1.
    fn chance(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&self, pair: (u64, u64)) -> Conditions {
        self.special.get(&pair).copied().unwrap_or(self.conditions)
    }

    /// When a sender finds room again, if it finds none now.
    fn room_at(&self, pair: (u64, u64), now: Instant) -> Option<Instant> {
        let conditions = self.between(pair);
        let rate = conditions.rate?;
        let held = Duration::from_secs_f64(conditions.queue as f64 / rate.max(1) as f64);
        let at = self.busy.get(&pair)?.checked_sub(held)?;
        (at > now).then_some(at)
    }

    /// When a datagram arrives that is sent now: not at all, once or twice.
    fn arrivals(&mut self, pair: (u64, u64), len: usize, now: Instant) -> [Option<Instant>; 2] {
        let conditions = self.between(pair);
        self.counts.sent += 1;
        let is_lost = self.chance() < conditions.loss;
        if is_lost || len > conditions.max_datagram || self.cut.contains(&pair) {
            self.counts.lost += 1;
            return [None, None];
        }
        let mut leaves = now;
        if let Some(rate) = conditions.rate {
            if self.room_at(pair, now).is_some() {
                self.counts.lost += 1;
                return [None, None];
            }
            let takes = Duration::from_secs_f64(len as f64 / rate.max(1) as f64);
            leaves = self.busy.get(&pair).copied().unwrap_or(now).max(now) + takes;
            self.busy.insert(pair, leaves);
        }
        let first = leaves + conditions.latency + conditions.jitter.mul_f64(self.chance());
        let twice = self.chance() < conditions.duplication;
        let second = twice.then(|| leaves + conditions.latency + conditions.jitter.mul_f64(self.chance()));
        [Some(first), second]
    }
}

/// A host of a network in memory.
#[derive(Debug)]
pub struct MemPath {
    net: MemNetwork,
    state: Mutex<Host>,
}

/// A datagram and where it comes from.
type Datagram = (SocketAddr, Box<[u8]>);

struct Host {
    number: u64,
    /// What is on its way here, by when it arrives and in which order it was sent.
    inbox: BTreeMap<(Instant, u64), Datagram>,
    order: u64,
    timer: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("number", &self.number).finish_non_exhaustive()
    }
}

impl MemPath {
    /// What the host is called by: its address is `mem://` and this.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.state.lock().number
    }

    /// Gives the host another address, as happens to a machine that changes networks. What is on its way to the old one
    /// is lost.
    pub fn move_away(self: &Arc<Self>) {
        let mut net = self.net.0.lock();
        let number = net.number();
        let mut state = self.state.lock();
        net.hosts.remove(&state.number);
        net.hosts.insert(number, Arc::downgrade(self));
        state.number = number;
        state.inbox.clear();
    }

    fn receive(&self, at: Instant, from: SocketAddr, bytes: &[u8]) {
        let waker = {
            let mut state = self.state.lock();
            state.order += 1;
            let order = state.order;
            state.inbox.insert((at, order), (from, bytes.into()));
            // Whoever waits for the first of them may have to be woken earlier now.
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl PacketPath for MemPath {
    fn scheme(&self) -> &'static str {
        if self.net.0.lock().relayed { "relay" } else { "mem" }
    }

    fn local_address(&self) -> SocketAddr {
        NETWORK.address(self.number())
    }

    fn owner(&self, address: SocketAddr) -> Option<PeerId> {
        self.net.0.lock().owners.get(&NETWORK.number(address)?).copied()
    }

    fn limits(&self) -> PathLimits {
        let (reliable, relayed) = {
            let net = self.net.0.lock();
            (net.reliable, net.relayed)
        };
        PathLimits { max_datagram: 1452, max_sent: 1, max_received: 1, reliable, relayed, window: None }
    }

    fn try_send(&self, datagrams: &Outgoing<'_>) -> Sent {
        let Some(to) = NETWORK.number(datagrams.to) else { return Sent::Gone };
        let (now, from) = (Instant::now(), self.number());
        for datagram in datagrams.each() {
            let (arrivals, host) = {
                let mut net = self.net.0.lock();
                if net.reliable && net.room_at((from, to), now).is_some() {
                    return Sent::Full;
                }
                let arrivals = net.arrivals((from, to), datagram.len(), now);
                (arrivals, net.hosts.get(&to).and_then(Weak::upgrade))
            };
            let Some(host) = host else { continue };
            for at in arrivals.into_iter().flatten() {
                host.receive(at, NETWORK.address(from), datagram);
            }
        }
        Sent::Gone
    }

    fn room(self: Arc<Self>) -> Boxed<()> {
        Box::pin(async move {
            let from = self.number();
            let at = {
                let net = self.net.0.lock();
                // Where nobody is made to wait there is always room.
                if !net.reliable {
                    return;
                }
                let now = Instant::now();
                let targets = net.busy.keys().filter(|(sender, _)| *sender == from);
                targets.filter_map(|pair| net.room_at(*pair, now)).min()
            };
            if let Some(at) = at {
                sleep_until(at).await;
            }
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        received: &mut [Received],
    ) -> Poll<usize> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut count = 0;
        for (buffer, slot) in buffers.iter_mut().zip(received) {
            // What does not fit is lost.
            let next = std::iter::from_fn(|| {
                let first = state.inbox.first_entry().filter(|first| first.key().0 <= now)?;
                Some(first.remove())
            });
            let fitting = next.filter(|(_, bytes)| bytes.len() <= buffer.len()).take(1).last();
            let Some((from, bytes)) = fitting else { break };
            buffer.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            *slot = Received::one(from, bytes.len());
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(count);
        }
        state.waker = Some(cx.waker().clone());
        state.timer = state.inbox.first_key_value().map(|((at, _), _)| Box::pin(sleep_until(*at)));
        if state.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn locate(self: Arc<Self>, _: PeerId, text: String) -> Boxed<Result<Vec<SocketAddr>, LocateError>> {
        let found = text.parse().map(|number| vec![NETWORK.address(number)]);
        Box::pin(async move { found.map_err(|_| LocateError("not a host's number".to_owned())) })
    }

    fn show(&self, address: SocketAddr) -> String {
        NETWORK.number(address).map_or_else(|| address.to_string(), |number| number.to_string())
    }
}
