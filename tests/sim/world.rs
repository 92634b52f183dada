//! A mesh, and what happens to it.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use midge::Node;
use midge::client::{Client, Message, Subscription};
use midge::identity::KeyPair;
use midge::link::LinkConfig;
use midge::link::mem::{Conditions, MemNetwork};
use midge::options::Options;
use tokio::time::{Instant, sleep};

/// In what time a mesh whose network is whole must be whole itself.
pub(crate) const CONVERGES: Duration = Duration::from_secs(40);

/// Runs a world for each of the seeds that are asked for, and names the one in which something does not hold.
pub(crate) fn each_seed<F: Future<Output = ()>>(share: u64, test: impl Fn(Dice) -> F) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("MIDGE_SEED").unwrap_or(1);
    let count = number("MIDGE_WORLDS").unwrap_or(60).div_ceil(share).max(1);
    for seed in first..first + count {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(test(Dice::new(seed)))));
        if let Err(why) = ended {
            eprintln!("it was seed {seed}; again: cargo xtask sim --seed {seed}");
            std::panic::resume_unwind(why);
        }
    }
}

/// Runs in a time that goes on when nobody has anything to do.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Chance (SplitMix64).
#[derive(Clone)]
pub(crate) struct Dice(Rc<RefCell<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(seed)))
    }

    pub(crate) fn roll(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&self, n: usize) -> usize {
        (self.roll() % n.max(1) as u64) as usize
    }

    /// In one of so many cases.
    pub(crate) fn once_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) network: MemNetwork,
    pub(crate) nodes: Vec<Option<Node>>,
    keys: Vec<KeyPair>,
    lives: u64,
    options: Options,
}

impl World {
    /// A mesh of so many, each of which knows all others.
    pub(crate) fn new(dice: Dice, count: usize, options: Options) -> Self {
        let network = MemNetwork::new(dice.roll());
        let keys = (0..count).map(|_| {
            let mut seed = [0; 32];
            seed.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&dice.roll().to_le_bytes()));
            KeyPair::from_seed(&seed).unwrap()
        });
        let keys = keys.collect();
        let mut world = Self { dice, network, nodes: Vec::new(), keys, lives: 0, options };
        world.nodes.resize_with(count, || None);
        (0..count).for_each(|at| world.begin(at));
        world
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Where a node is.
    pub(crate) const fn place(at: usize) -> u64 {
        at as u64 + 1
    }

    /// Starts a node that is not there.
    pub(crate) fn begin(&mut self, at: usize) {
        self.lives += 1;
        let links = LinkConfig { seed: Some(self.dice.roll()), ..LinkConfig::default() };
        let path = self.network.join_as(Self::place(at));
        let mut builder =
            Node::builder().key(self.keys[at].clone()).embedded(self.options.clone()).path(path).links(links);
        for (other, key) in self.keys.iter().enumerate().filter(|(other, _)| *other != at) {
            builder = builder.peer(&format!("{}@mem://{}", key.peer_id(), Self::place(other))).unwrap();
        }
        self.nodes[at] = Some(builder.start().unwrap());
    }

    /// Ends a node as a lost machine ends: nobody is told.
    pub(crate) async fn kill(&mut self, at: usize) {
        for other in 0..self.count() {
            self.network.cut(Self::place(at), Self::place(other), true);
        }
        self.nodes[at] = None;
        // What is left of it has its say, and nobody hears it.
        sleep(Duration::from_millis(10)).await;
        for other in 0..self.count() {
            self.network.cut(Self::place(at), Self::place(other), false);
        }
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().unwrap()
    }

    pub(crate) fn client(&self, at: usize) -> Client {
        self.node(at).client()
    }

    pub(crate) fn subscribe(&self, at: usize, subject: &str) -> Subscription {
        self.client(at).subscribe(subject).unwrap()
    }

    /// Those that are there.
    pub(crate) fn living(&self) -> Vec<usize> {
        (0..self.count()).filter(|at| self.nodes[*at].is_some()).collect()
    }

    /// Cuts or heals the way between two by chance.
    pub(crate) fn cut(&self, one: usize, other: usize, cut: bool) {
        self.network.cut(Self::place(one), Self::place(other), cut);
    }

    pub(crate) fn heal(&self) {
        for one in 0..self.count() {
            for other in 0..one {
                self.cut(one, other, false);
            }
        }
    }

    /// Waits until every node has a route to each other one that is there.
    pub(crate) async fn whole(&self) {
        let others = self.living().len() - 1;
        self.until("the mesh is whole", || {
            self.living()
                .into_iter()
                .all(|at| self.node(at).server().router().cluster().unwrap().member_count() == others)
        })
        .await;
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !so() {
            assert!(begin.elapsed() < CONVERGES, "not after {CONVERGES:?}: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until what `at` publishes there goes to so many: its own subscribers, and other servers.
    pub(crate) async fn heard_by(&self, at: usize, subject: &str, receivers: u64) {
        let client = self.client(at);
        let probe = Message::new(subject, "");
        let what = format!("{at} reaches {receivers} by {subject}");
        self.until(&what, || client.send(&probe).unwrap() == receivers).await;
    }
}

/// A network as it may be found.
pub(crate) fn conditions(dice: &Dice) -> Conditions {
    Conditions {
        latency: Duration::from_micros(200 + dice.roll() % 50_000),
        jitter: Duration::from_micros(dice.roll() % 10_000),
        loss: [0.0, 0.0, 0.01, 0.05][dice.below(4)],
        duplication: [0.0, 0.02][dice.below(2)],
        max_datagram: [1280, 1500][dice.below(2)],
        rate: None,
        queue: 0,
    }
}

/// How many nodes: few mostly, as many as thirty now and then.
pub(crate) fn size(dice: &Dice) -> usize {
    match dice.below(40) {
        0 => 12 + dice.below(19),
        1..4 => 6 + dice.below(5),
        _ => 3 + dice.below(3),
    }
}

/// Takes what has come.
pub(crate) fn drain(subscription: &mut Subscription) -> Vec<Message> {
    std::iter::from_fn(|| subscription.try_next()).filter(|message| !message.payload.is_empty()).collect()
}

/// Time in which everything that is on its way arrives.
pub(crate) async fn settle() {
    sleep(Duration::from_secs(5)).await;
}

/// Who said it, and the how manieth it was.
pub(crate) fn said(message: &Message) -> (usize, u64) {
    let text = String::from_utf8_lossy(&message.payload).into_owned();
    let (who, number) = text.split_once(' ').unwrap();
    (who.parse().unwrap(), number.parse().unwrap())
}
