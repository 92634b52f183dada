//! How threads may meet: the router itself with the model's locks and atomics, in thousands of orders of events. By
//! `cargo xtask test model`.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use midge_router::sync::Mutex;
use midge_router::{Arrival, ClientSession, Entrance, Limits, Owner, Router, Settings, Tick, Worker};
use midge_wire::json::Info;
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::mpsc;
use shuttle::{Config, Runner, thread};

/// Orders of events that are tried, at random and with few changes of turn.
const RANDOM: usize = 1000;
const FEW_CHANGES: usize = 1000;
/// Bytes of each thread's stack.
const STACK: usize = 1024 * 1024;
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

fn check(model: impl Fn() + Clone + Send + Sync + 'static) {
    let config = || {
        let mut config = Config::new();
        config.stack_size = STACK;
        config
    };
    Runner::new(RandomScheduler::new(RANDOM), config()).run(model.clone());
    Runner::new(PctScheduler::new(3, FEW_CHANGES), config()).run(model);
}

/// A peer that takes what it is given in pieces of any length, and sometimes nothing.
#[derive(Default)]
struct Screen(std::sync::Mutex<Vec<u8>>);

impl Owner for Screen {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        // Others have their turn while this one writes.
        thread::yield_now();
        let room = shuttle::rand::thread_rng().gen_range(0..200);
        let mut taken = 0;
        for slice in bytes {
            let take = slice.len().min(room - taken);
            self.0.lock().unwrap().extend_from_slice(&slice[..take]);
            taken += take;
        }
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn wake(&self) {}
}

/// What a thread has: a worker of its own.
struct Shard {
    router: Arc<Router>,
    worker: Arc<Mutex<Worker>>,
    now: Instant,
}

struct Peer {
    session: ClientSession,
    screen: Arc<Screen>,
}

impl Shard {
    fn new(router: &Arc<Router>) -> Self {
        Self { router: router.clone(), worker: router.worker(), now: Instant::now() }
    }

    fn peer(&self, more: &str) -> Peer {
        let screen = Arc::new(Screen::default());
        let arrival = Arrival::from("127.0.0.1:9");
        let session = {
            let mut tick = Tick { worker: &mut self.worker.lock(), now: self.now };
            ClientSession::client(&self.router, arrival, screen.clone(), &mut tick)
        };
        let mut peer = Peer { session, screen };
        self.say(&mut peer, CONNECT);
        self.say(&mut peer, more);
        peer
    }

    /// Says something whole, without writing what it leads to.
    fn say_only(&self, peer: &mut Peer, text: &str) {
        let mut tick = Tick { worker: &mut self.worker.lock(), now: self.now };
        assert_eq!(peer.session.handle_input(text.as_bytes(), &mut tick).used, text.len());
    }

    fn say(&self, peer: &mut Peer, text: &str) {
        self.say_only(peer, text);
        self.worker.lock().flush(self.now);
    }

    /// What messages the peer has heard once it has taken everything: their subjects and payloads.
    fn heard(&self, peer: &Peer) -> Vec<(String, u32)> {
        while peer.session.conn().pending() > 0 {
            peer.session.conn().flush(&mut self.worker.lock(), self.now);
        }
        let text = String::from_utf8(peer.screen.0.lock().unwrap().clone()).unwrap();
        let mut heard = Vec::new();
        let mut lines = text.split("\r\n");
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("MSG ") {
                let subject = rest.split(' ').next().unwrap().to_owned();
                heard.push((subject, lines.next().unwrap().parse().unwrap()));
            }
        }
        heard
    }
}

fn router() -> Arc<Router> {
    Router::new(Settings {
        info: Info::default(),
        limits: Limits::default(),
        entrance: Entrance::default(),
        seed: 7,
        max_ended: 0,
        cluster: None,
        leaves: None,
    })
}

fn messages(subject: &str, numbers: std::ops::Range<u32>) -> String {
    numbers.map(|n| format!("PUB {subject} {}\r\n{n}\r\n", n.to_string().len())).collect()
}

/// The numbers that came on one subject.
fn on(subject: &str, heard: &[(String, u32)]) -> Vec<u32> {
    heard.iter().filter(|(on, _)| on == subject).map(|(_, number)| *number).collect()
}

/// Whoever appends may write, one at a time; nothing is lost, doubled or put in another order.
#[test]
fn one_flight_at_a_time() {
    check(|| {
        let router = router();
        let here = Shard::new(&router);
        let subscriber = here.peer("SUB n.* 1\r\n");
        let publishers = ["n.a", "n.b"].map(|subject| {
            let router = router.clone();
            thread::spawn(move || {
                let shard = Shard::new(&router);
                let mut publisher = shard.peer("");
                for start in [0, 3, 6] {
                    shard.say(&mut publisher, &messages(subject, start..start + 3));
                }
            })
        });
        // The subscriber's own thread writes whenever it is woken.
        for _ in 0..3 {
            subscriber.session.conn().flush(&mut here.worker.lock(), here.now);
            thread::yield_now();
        }
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        let heard = here.heard(&subscriber);
        for subject in ["n.a", "n.b"] {
            assert_eq!(on(subject, &heard), (0..9).collect::<Vec<_>>());
        }
    });
}

/// A publisher whose connection goes on on another thread, while the first one has not written yet what it said there.
#[test]
fn a_connection_that_moves_keeps_its_order() {
    check(|| {
        let router = router();
        let here = Shard::new(&router);
        let subscriber = here.peer("SUB n.* 1\r\n");
        let (there, arrivals) = mpsc::channel::<Peer>();
        let (back, returns) = mpsc::channel::<Peer>();
        let other = router.clone();
        let mover = thread::spawn(move || {
            let shard = Shard::new(&other);
            for start in [3, 9] {
                let mut publisher = arrivals.recv().unwrap();
                shard.say_only(&mut publisher, &messages("n.a", start..start + 3));
                back.send(publisher).unwrap();
                shard.worker.lock().flush(shard.now);
            }
        });
        let mut publisher = here.peer("");
        for start in [0, 6] {
            here.say_only(&mut publisher, &messages("n.a", start..start + 3));
            there.send(publisher).unwrap();
            here.worker.lock().flush(here.now);
            publisher = returns.recv().unwrap();
        }
        mover.join().unwrap();
        assert_eq!(on("n.a", &here.heard(&subscriber)), (0..12).collect::<Vec<_>>());
    });
}

/// Whoever has subscribed hears what is published after that, however the publisher has remembered who listens.
#[test]
fn remembered_receivers_do_not_lack_new_ones() {
    for subject in ["n.a", "n.*", "n.>", "*.a"] {
        check(move || {
            let router = router();
            let here = Shard::new(&router);
            let subscribed = Arc::new(AtomicBool::new(false));
            let (other, told) = (router.clone(), subscribed.clone());
            let subscriber = thread::spawn(move || {
                let shard = Shard::new(&other);
                let subscriber = shard.peer(&format!("SUB {subject} 1\r\n"));
                told.store(true, Ordering::SeqCst);
                subscriber
            });
            let mut publisher = here.peer("");
            // Often enough to be remembered, by the connection and by the thread.
            for n in 0..3 {
                here.say(&mut publisher, &messages("n.a", n..n + 1));
            }
            let must = subscribed.load(Ordering::SeqCst);
            here.say(&mut publisher, &messages("n.a", 3..4));
            let subscriber = subscriber.join().unwrap();
            let heard = on("n.a", &here.heard(&subscriber));
            assert!(heard.is_sorted() && (!must || heard.contains(&3)), "{subject}: {heard:?}");
        });
    }
}

/// Whoever has unsubscribed hears nothing more, though the publisher remembers it; and what comes in its place is not
/// taken for it.
#[test]
fn who_has_gone_hears_nothing() {
    check(|| {
        let router = router();
        let here = Shard::new(&router);
        let mut subscriber = here.peer("SUB n.a 1\r\n");
        let gone = Arc::new(AtomicBool::new(false));
        let (other, told) = (router.clone(), gone.clone());
        let leaver = thread::spawn(move || {
            let shard = Shard::new(&other);
            shard.say(&mut subscriber, "UNSUB 1\r\nSUB other 1\r\n");
            told.store(true, Ordering::SeqCst);
            subscriber
        });
        let mut publisher = here.peer("");
        for n in 0..3 {
            here.say(&mut publisher, &messages("n.a", n..n + 1));
        }
        let after = gone.load(Ordering::SeqCst);
        here.say(&mut publisher, &messages("n.a", 3..4));
        let subscriber = leaver.join().unwrap();
        let heard = on("n.a", &here.heard(&subscriber));
        assert!(heard.is_sorted() && !(after && heard.contains(&3)), "{heard:?}");
    });
}

/// Each message goes to one member of a group, in the publisher's order, whoever leaves meanwhile.
#[test]
fn a_group_loses_and_doubles_nothing() {
    check(|| {
        let router = router();
        let here = Shard::new(&router);
        let stays = here.peer("SUB n.* g 1\r\n");
        let mut leaves = here.peer("SUB n.* g 1\r\n");
        let publishers = ["n.a", "n.b"].map(|subject| {
            let router = router.clone();
            thread::spawn(move || {
                let shard = Shard::new(&router);
                let mut publisher = shard.peer("");
                for start in [0, 5] {
                    shard.say(&mut publisher, &messages(subject, start..start + 5));
                }
            })
        });
        here.say(&mut leaves, "UNSUB 1\r\n");
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        let members = [here.heard(&stays), here.heard(&leaves)];
        for subject in ["n.a", "n.b"] {
            let each = members.each_ref().map(|heard| on(subject, heard));
            assert!(each.iter().all(|heard| heard.is_sorted()), "{each:?}");
            let mut all = each.concat();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
        }
    });
}
