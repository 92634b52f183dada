//! What a message costs the router in instructions: the same bytes again and again, through sessions without sockets.
//!
//! `icount <workload>` runs one of them and prints how many messages were counted; without a name, it lists them.
//! `cargo xtask bench --icount` runs each under callgrind, which counts what happens inside [`measured`] alone.

#![expect(clippy::disallowed_methods, reason = "some instant to count from")]
#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::fmt::Write;
use std::io::{self, IoSlice};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_router::{
    Arrival, ClientSession, Entrance, Event, Grant, Limits, Next, Owner, PermissionRules, Permissions,
    Router, Settings, Tick, Verdict, Worker,
};
use midge_wire::json::Info;
use parking_lot::Mutex;

/// How often a block is handed in before counting begins, and while it is counted.
const WARM_UP: usize = 4;
const COUNTED: usize = 20;
/// Bytes of a block, as of clients' own write buffers.
const BLOCK: usize = 32 * 1024;

/// A peer who takes everything.
struct Sink;

impl Owner for Sink {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(bytes.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

/// What is counted.
struct Workload {
    name: &'static str,
    /// What each subscriber says, one a line.
    subscribers: fn() -> Vec<String>,
    /// The `n`th message.
    message: fn(usize) -> String,
    /// Whether the publisher may publish below `a` and `w` alone.
    limited: bool,
}

const HELLO: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";
const PAYLOAD: &str = "sixteen bytes: x";

const WORKLOADS: [Workload; 9] = [
    Workload {
        name: "publish, nobody listens",
        subscribers: Vec::new,
        message: |_| format!("PUB a.b 16\r\n{PAYLOAD}\r\n"),
        limited: false,
    },
    Workload {
        name: "publish on ever new subjects, nobody listens",
        subscribers: Vec::new,
        message: |n| format!("PUB a.{} 16\r\n{PAYLOAD}\r\n", n * 7919),
        limited: false,
    },
    Workload {
        name: "one to one",
        subscribers: || vec!["SUB a.b 1\r\n".to_owned()],
        message: |_| format!("PUB a.b 16\r\n{PAYLOAD}\r\n"),
        limited: false,
    },
    Workload {
        name: "one to one, ten subjects in turn",
        subscribers: || vec!["SUB a.* 1\r\n".to_owned()],
        message: |n| format!("PUB a.{} 16\r\n{PAYLOAD}\r\n", n % 10),
        limited: false,
    },
    Workload {
        name: "one to one hundred",
        subscribers: || (0..100).map(|n| format!("SUB a.b {n}\r\n")).collect(),
        message: |_| format!("PUB a.b 16\r\n{PAYLOAD}\r\n"),
        limited: false,
    },
    Workload {
        name: "a queue group of ten",
        subscribers: || (0..10).map(|n| format!("SUB a.b workers {n}\r\n")).collect(),
        message: |_| format!("PUB a.b 16\r\n{PAYLOAD}\r\n"),
        limited: false,
    },
    Workload {
        name: "requests with ever new replies",
        subscribers: || vec!["SUB a.b 1\r\n".to_owned()],
        message: |n| format!("PUB a.b _INBOX.abcdefgh.{n} 16\r\n{PAYLOAD}\r\n"),
        limited: false,
    },
    Workload {
        name: "replies to ever new subjects",
        subscribers: || vec!["SUB _INBOX.abcdefgh.* 1\r\n".to_owned()],
        message: |n| format!("PUB _INBOX.abcdefgh.{} 16\r\n{PAYLOAD}\r\n", n * 7919),
        limited: false,
    },
    Workload {
        name: "headers, five tokens, a thousand wildcards, permissions",
        subscribers: || {
            let mut text = String::new();
            for n in 0..1000 {
                let _ = write!(text, "SUB w.*.{n}.> {n}\r\n");
            }
            vec![text]
        },
        message: |n| format!("HPUB w.x.{}.y.z 12 28\r\nNATS/1.0\r\n\r\n{PAYLOAD}\r\n", n % 100),
        limited: true,
    },
];

struct House {
    router: Arc<Router>,
    worker: Arc<Mutex<Worker>>,
    now: Instant,
}

impl House {
    fn new() -> Self {
        let entrance =
            Entrance { asks: true, announces: false, timeout: Duration::from_secs(2), ..Entrance::default() };
        let settings = Settings {
            info: Info::default(),
            limits: Limits::default(),
            entrance,
            seed: 7,
            max_ended: 4,
            cluster: None,
            leaves: None,
        };
        let router = Router::new(settings);
        let worker = router.worker();
        Self { router, worker, now: Instant::now() }
    }

    fn tick<T>(&self, act: impl FnOnce(&mut Tick<'_>) -> T) -> T {
        let mut worker = self.worker.lock();
        let done = act(&mut Tick { worker: &mut worker, now: self.now });
        worker.flush(self.now);
        done
    }

    fn peer(&self, grant: Grant, more: &str) -> ClientSession {
        let mut session = self.tick(|tick| {
            ClientSession::client(&self.router, Arrival::from("127.0.0.1:9"), Arc::new(Sink), tick)
        });
        let hello = self.tick(|tick| session.handle_input(HELLO.as_bytes(), tick));
        assert_eq!(hello.next, Next::Verdict, "the session asks who it is");
        self.tick(|tick| session.handle_verdict(Verdict::Welcome(Arc::new(grant)), tick));
        while session.poll_event().is_some() {}
        self.say(&mut session, more.as_bytes());
        session
    }

    /// Says what is whole, as a driver does: a piece of input, and then what came of it is written.
    fn say(&self, session: &mut ClientSession, text: &[u8]) {
        let done = self.tick(|tick| session.handle_input(text, tick));
        assert_eq!(done.used, text.len(), "all of it is taken");
        if let Some(Event::Closed(reason, error)) = session.poll_event() {
            panic!("the session has ended: {reason:?}, {error:?}");
        }
    }
}

fn grant(router: &Router, limited: bool) -> Grant {
    let account = router.add_account("$G");
    let mut grant = Grant::of(account);
    if limited {
        let mut rules = PermissionRules::default();
        rules.publish.allow = Some(vec!["a.>".to_owned(), "w.>".to_owned()]);
        grant.permissions = Some(Arc::new(Permissions::new(rules)));
    }
    grant
}

/// What callgrind counts.
#[inline(never)]
fn measured(house: &House, publisher: &mut ClientSession, blocks: &[String]) {
    for block in blocks {
        house.say(publisher, block.as_bytes());
    }
}

fn run(workload: &Workload) {
    let house = House::new();
    let subscribers: Vec<_> =
        (workload.subscribers)().iter().map(|text| house.peer(grant(&house.router, false), text)).collect();
    let mut publisher = house.peer(grant(&house.router, workload.limited), "");
    let mut number = 0;
    let mut blocks = Vec::new();
    let mut counted = 0;
    for block in 0..WARM_UP + COUNTED {
        let mut text = String::with_capacity(BLOCK);
        while text.len() < BLOCK - 100 {
            text += &(workload.message)(number);
            number += 1;
            counted += usize::from(block >= WARM_UP);
        }
        blocks.push(text);
    }
    let (warm, rest) = blocks.split_at(WARM_UP);
    for block in warm {
        house.say(&mut publisher, block.as_bytes());
    }
    measured(&house, &mut publisher, rest);
    println!("{counted} messages to {} subscribers", subscribers.len());
}

fn main() -> ExitCode {
    // Cargo adds flags of its own.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let Some(wanted) = wanted else {
        WORKLOADS.iter().for_each(|workload| println!("{}", workload.name));
        return ExitCode::SUCCESS;
    };
    let Some(workload) = WORKLOADS.iter().find(|workload| workload.name == wanted) else {
        println!("no workload is called '{wanted}'");
        return ExitCode::FAILURE;
    };
    run(workload);
    ExitCode::SUCCESS
}
