//! A stock NATS server as infrastructure: midged's links through it, and pub-sub through it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge::backend::{Carrier, Deployment, ExternalBus, Listening};
use midge::identity::{KeyPair, pem};
use midge::link::{Anybody, Ended, IncomingStream, Link, LinkConfig, LinkEvent, LinkEvents, LinkTable};
use midge::mesh::new_key;
use midge_testkit::process::{Folder, Process, nats_servers};
use midge_testkit::raw::{Frame, Raw};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::mesh::page;
use crate::servers::{CONVERGES, message, midged, settled, subscribe, wait_for_interest};

/// A peer's key, and a file with it.
struct Key {
    key: KeyPair,
    file: String,
    _folder: Folder,
}

impl Key {
    fn new() -> Self {
        let (key, folder) = (new_key().unwrap(), Folder::new("backend"));
        let file = folder.file("peer.key", &pem::private(&key));
        Self { key, file, _folder: folder }
    }

    fn id(&self) -> String {
        self.key.peer_id().to_string()
    }
}

/// midged that reaches that server and nothing else of its peer.
fn through(url: &str, key: &Key, peer: &Key, more: &str) -> Process {
    let config = format!(
        "http: \"127.0.0.1:-1\"\nmesh {{ key: \"{}\", peers: [\"{}@nats:\"] }}\nbackend {{ urls: \"{url}\"\n{more} }}",
        key.file,
        peer.id(),
    );
    Process::with_config(&midged(), &config)
}

fn oldest_and_newest() -> [PathBuf; 2] {
    let all = nats_servers();
    [all[0].clone(), all[all.len() - 1].clone()]
}

fn links(server: &Process) -> Value {
    page(server, "/linkz")
}

/// Two midged that reach only the stock server have a link in less than a second, and stock clients of both do what clients of
/// one server do.
#[test]
fn a_stock_server_carries_links() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        let (one, other) = (Key::new(), Key::new());
        let first = through(&broker.url(), &one, &other, "");
        let begun = Instant::now();
        let second = through(&broker.url(), &other, &one, "");
        for (server, peer) in [(&first, &other), (&second, &one)] {
            server.wait_for_line(&format!("Link up: peer {} at nats:", peer.id()));
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        let linkz = links(&first);
        assert_eq!(linkz["num_links"], 1, "{linkz}");
        let row = &linkz["links"][0];
        assert_eq!((row["via"].as_str(), row["address"].as_str()), (Some("nats"), Some("nats:")), "{linkz}");
        let (mut here, mut there) = (Raw::client(first.port()), Raw::client(second.port()));
        subscribe(&mut there, &mut here, "news.*", "1");
        here.send(b"PUB news.x 5\r\nhello\r\n");
        assert_eq!(there.expect_message(), b"hello");
        // A service with two workers on one side, asked from the other: one of them answers.
        let mut workers = [Raw::client(second.port()), Raw::client(second.port())];
        for worker in &mut workers {
            worker.send(b"SUB work group 1\r\n");
            worker.sync();
        }
        wait_for_interest(&mut here, "work");
        for _ in 0..10 {
            here.send(b"PUB work 1\r\nx\r\n");
        }
        // What comes after them has come after them.
        subscribe(&mut there, &mut here, "mark", "2");
        let jobs = |worker: &mut Raw| {
            settled(worker)
                .iter()
                .filter(|frame| matches!(frame, Frame::Message(_, body) if body == b"x"))
                .count()
        };
        assert_eq!(workers.iter_mut().map(jobs).sum::<usize>(), 10);
    }
}

/// The same suite for a router inside the process and for a deployment, with each of the servers, with a prefix and without.
#[tokio::test]
async fn a_deployment_is_a_bus_as_a_router_is() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        for prefix in ["", "acme.x"] {
            let deployment =
                Deployment { prefix: prefix.parse().unwrap(), ..Deployment::at(&[&broker.url()]) };
            let one = ExternalBus::connect(&deployment, &new_key().unwrap()).await.unwrap();
            let other = ExternalBus::connect(&deployment, &new_key().unwrap()).await.unwrap();
            midge::backend::conformance::check(one, other).await;
        }
    }
}

/// Clients of midged and of the stock server hear each other below the prefix, each message once: plain subscriptions that
/// overlap, queue groups with members on both sides, questions both ways, headers.
#[test]
fn messages_are_shared_through_a_stock_server() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        let server = Process::with_config(
            &midged(),
            &format!("backend {{ urls: \"{}\", pubsub: acme, links: false }}", broker.url()),
        );
        server.wait_for_line("Messages through");
        let (mut inside, mut outside) = (Raw::client(server.port()), Raw::client(broker.port()));
        // From inside.
        outside.send(b"SUB acme.> 1\r\n");
        outside.sync();
        let until = Instant::now() + CONVERGES;
        while settled(&mut outside).is_empty() {
            assert!(Instant::now() < until, "nothing is shared");
            inside.send(b"PUB probe 0\r\n\r\n");
        }
        inside.sync();
        inside.send(b"HPUB a.b answers 21 23\r\nNATS/1.0\r\nName: v\r\n\r\nhi\r\nPUB a.end 0\r\n\r\n");
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|frame: &Frame| frame.line().contains("acme.a.end")) {
            heard.push(message(&mut outside));
        }
        heard.retain(|frame| frame.line().contains("acme.a.b"));
        let Frame::Message(line, body) = &heard[0] else { unreachable!() };
        assert_eq!((heard.len(), line.as_str()), (1, "HMSG acme.a.b 1 acme.answers 21 23"));
        assert!(String::from_utf8_lossy(body).contains("Name: v"));
        outside.send(b"UNSUB 1\r\n");
        // From outside: subscriptions that overlap get a copy each, and no more.
        inside.send(b"SUB a.* 1\r\nSUB *.b 2\r\nSUB a.b 3\r\nSUB jobs g 4\r\nSUB jobs 5\r\nSUB > 6\r\n");
        inside.sync();
        for subject in ["a.b", "jobs"] {
            wait_for_interest(&mut outside, &format!("acme.{subject}"));
        }
        settle_both(&mut inside, &mut outside);
        outside.send(b"PUB acme.a.b acme.back 4\r\nonce\r\n");
        let heard = settle_both(&mut inside, &mut outside);
        let mut lines: Vec<&str> = heard.iter().map(Frame::line).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["MSG a.b 1 back 4", "MSG a.b 2 back 4", "MSG a.b 3 back 4", "MSG a.b 6 back 4"]);
        // A queue group has members on both sides: each message goes to one of them, and to all others.
        outside.send(b"SUB acme.jobs g 7\r\n");
        outside.sync();
        for _ in 0..100 {
            outside.send(b"PUB acme.jobs 1\r\nx\r\n");
        }
        let there = settled(&mut outside).len();
        let mut here = settle_both(&mut inside, &mut outside);
        let of = |here: &[Frame], sid: &str| {
            here.iter().filter(|frame| frame.line() == format!("MSG jobs {sid} 1")).count()
        };
        // What is for a group comes by a way of its own.
        while of(&here, "4") + there < 100 {
            here.push(message(&mut inside));
        }
        here.extend(settle_both(&mut inside, &mut outside));
        let worked = of(&here, "4");
        assert_eq!((of(&here, "5"), of(&here, "6"), worked + there), (100, 100, 100));
        assert!(worked > 10 && there > 10, "{worked} here and {there} there");
        outside.send(b"UNSUB 7\r\n");
        outside.sync();
        // Questions of stock clients are answered where they came from, which is not below the prefix.
        inside.send(b"UNSUB 6\r\nSUB service 8\r\n");
        inside.sync();
        wait_for_interest(&mut outside, "acme.service");
        settle_both(&mut inside, &mut outside);
        outside.send(b"SUB _INBOX.x.1 9\r\nPUB acme.service _INBOX.x.1 1\r\n?\r\n");
        let question = message(&mut inside);
        assert_eq!(question.line(), "MSG service 8 $OUTSIDE._INBOX.x.1 1");
        inside.send(b"PUB $OUTSIDE._INBOX.x.1 6\r\nanswer\r\n");
        assert_eq!(outside.expect_message(), b"answer");
        // And the other way round.
        outside.send(b"SUB acme.theirs 10\r\n");
        outside.sync();
        inside.send(b"SUB _INBOX.y.* 11\r\nPUB theirs _INBOX.y.1 1\r\n?\r\n");
        let Frame::Message(line, _) = message(&mut outside) else { unreachable!() };
        let reply = line.split(' ').nth(3).unwrap().to_owned();
        assert_eq!(reply, "acme._INBOX.y.1");
        wait_for_interest(&mut outside, &reply);
        outside.send(format!("PUB {reply} 6\r\nanswer\r\n").as_bytes());
        while inside.expect_message() != b"answer" {}
    }
}

/// What has come inside by the time that everything that was said outside has.
fn settle_both(inside: &mut Raw, outside: &mut Raw) -> Vec<Frame> {
    inside.send(b"SUB settled.* 99\r\n");
    let mut heard = settled(inside);
    wait_for_interest(outside, "acme.settled.probe");
    outside.send(b"PUB acme.settled.now 0\r\n\r\n");
    loop {
        let frame = message(inside);
        if frame.line().starts_with("MSG settled.now 99") {
            inside.send(b"UNSUB 99\r\n");
            heard.extend(settled(inside));
            heard.retain(|frame| !frame.line().contains(" settled."));
            heard.retain(|frame| !frame.line().contains("$OUTSIDE.wait.inbox"));
            return heard;
        }
        heard.push(frame);
    }
}

/// Passes on what goes to and from a server, and keeps all of it.
struct Tap {
    port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn before(server: &Process) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, to, seen) = (listener.local_addr().unwrap().port(), server.port(), Arc::default());
        let kept: Arc<Mutex<Vec<u8>>> = Arc::clone(&seen);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { return };
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    let kept = kept.clone();
                    std::thread::spawn(move || {
                        let mut buffer = vec![0; 64 * 1024];
                        while let Ok(len @ 1..) = from.read(&mut buffer) {
                            kept.lock().extend_from_slice(&buffer[..len]);
                            if to.write_all(&buffer[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { port, seen }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

/// Whoever runs the server sees who talks to whom, and nothing of what is said: neither subjects of the mesh nor payloads.
#[test]
fn whoever_carries_a_link_reads_nothing() {
    let broker = Process::with_config(&nats_servers()[0], "");
    let (one, other) = (Key::new(), Key::new());
    let tap = Tap::before(&broker);
    let first = through(&tap.url(), &one, &other, "");
    let second = through(&tap.url(), &other, &one, "");
    let (mut here, mut there) = (Raw::client(first.port()), Raw::client(second.port()));
    second.wait_for_line("Link up");
    subscribe(&mut there, &mut here, "secret_subject.*", "1");
    here.send(b"PUB secret_subject.x 14\r\nsecret_payload\r\n");
    assert_eq!(there.expect_message(), b"secret_payload");
    let seen = tap.seen.lock();
    let has = |text: &str| seen.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has(&format!("midge.d.{}.", one.id())), "datagrams go through the tap");
    assert!(!has("secret_subject") && !has("secret_payload") && !has("RS+") && !has("RMSG"));
}

/// Two peers in this process that reach each other through the server only.
struct Pair {
    tables: [LinkTable; 2],
    events: [LinkEvents; 2],
    streams: tokio::sync::mpsc::Receiver<IncomingStream>,
    carriers: [Arc<Carrier>; 2],
}

impl Pair {
    fn new(url: &str, config: &LinkConfig) -> Self {
        let deployment = Deployment { prefix: "midge".parse().unwrap(), ..Deployment::at(&[url]) };
        let keys = [new_key().unwrap(), new_key().unwrap()];
        let table = |key: &KeyPair| LinkTable::new(key.clone(), Arc::new(Anybody), config.clone()).unwrap();
        let ((one, one_events, _), (other, other_events, streams)) = (table(&keys[0]), table(&keys[1]));
        let carrier = |key, listening| Carrier::start(&deployment, key, listening).unwrap();
        let carriers =
            [carrier(&keys[0], Listening::No), carrier(&keys[1], Listening::To(Arc::new(Anybody)))];
        one.add_path(carriers[0].clone()).unwrap();
        other.add_path(carriers[1].clone()).unwrap();
        one.want(other.peer(), vec!["nats:".parse().unwrap()]);
        Self { tables: [one, other], events: [one_events, other_events], streams, carriers }
    }

    async fn up(&mut self) -> Link {
        loop {
            match timeout(BOUND, self.events[0].next()).await.unwrap().unwrap() {
                LinkEvent::Up(link) => return link,
                LinkEvent::Unreachable { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

const BOUND: Duration = Duration::from_secs(60);
/// For how long a server is away that comes back.
const AWAY: Duration = Duration::from_secs(3);
const MUCH: usize = 100_000_000;

/// Killed for three seconds in the middle of 100 MB: all of it arrives, and the link stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_survives_the_servers_death() {
    for stock in oldest_and_newest() {
        let broker = Process::with_config(&stock, "");
        let port = i32::from(broker.port());
        let mut pair = Pair::new(&broker.url(), &LinkConfig::default());
        pair.tables[1].serve("much/1");
        let link = pair.up().await;
        let mut out = link.open("much/1").await.unwrap();
        let sending = tokio::spawn(async move {
            let mut hash = Sha256::new();
            let mut block = vec![0_u8; 1_000_000];
            for number in 0..MUCH / block.len() {
                block.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 + number * 7) as u8);
                hash.update(&block);
                out.write_all(&block).await.unwrap();
            }
            out.shutdown().await.unwrap();
            hash.finalize()
        });
        let mut stream = timeout(BOUND, pair.streams.recv()).await.unwrap().unwrap().stream;
        let (mut hash, mut block, mut got, mut broker) =
            (Sha256::new(), vec![0; 256 * 1024], 0, Some(broker));
        let mut died = false;
        loop {
            let len = timeout(BOUND, stream.read(&mut block)).await.unwrap().unwrap();
            if len == 0 {
                break;
            }
            hash.update(&block[..len]);
            got += len;
            if got > MUCH / 3 && !died {
                died = true;
                // Killed by being dropped.
                drop(broker.take());
                tokio::time::sleep(AWAY).await;
                broker = Some(Process::with_config_on(&stock, port, ""));
            }
        }
        assert_eq!(got, MUCH);
        assert_eq!(hash.finalize(), sending.await.unwrap());
        assert!(!link.is_closed(), "the link stays");
        assert_eq!(pair.tables[0].link(&pair.tables[1].peer()).unwrap(), link);
    }
}

/// Killed for three seconds in the middle of 50,000 messages between clients of two midged: all come, in order.
#[test]
fn messages_survive_the_servers_death() {
    const MANY: usize = 50_000;
    for stock in oldest_and_newest() {
        let broker = Process::with_config(&stock, "");
        let port = i32::from(broker.port());
        let (one, other) = (Key::new(), Key::new());
        let first = through(&broker.url(), &one, &other, "");
        let second = through(&broker.url(), &other, &one, "");
        second.wait_for_line("Link up");
        let (mut here, mut there) = (Raw::client(first.port()), Raw::client(second.port()));
        subscribe(&mut there, &mut here, "n.*", "1");
        let (go_on, waits) = std::sync::mpsc::channel();
        let sending = std::thread::spawn(move || {
            for number in 0..MANY {
                if number == MANY / 2 {
                    // The second half is said while there is no server.
                    waits.recv().unwrap();
                }
                let text = format!("{number:0100}");
                here.send(format!("PUB n.x {}\r\n{text}\r\n", text.len()).as_bytes());
            }
            here
        });
        let mut broker = Some(broker);
        for number in 0..MANY {
            if number == MANY / 4 {
                drop(broker.take());
                go_on.send(()).unwrap();
                std::thread::sleep(AWAY);
                broker = Some(Process::with_config_on(&stock, port, ""));
            }
            let body = loop {
                match there.frame_within(BOUND) {
                    Some(Frame::Message(_, body)) => break body,
                    Some(Frame::Line(_)) => {}
                    None => panic!("no message {number}: {:#?} {:#?}", first.log(), second.log()),
                }
            };
            assert_eq!(body, format!("{number:0100}").as_bytes());
        }
        drop(sending.join());
        for server in [&first, &second] {
            let log = server.log();
            assert!(!log.iter().any(|line| line.contains("Link down")), "{log:#?}");
            assert!(log.iter().any(|line| line.contains("connected")), "{log:#?}");
        }
    }
}

/// Killed for good, the link goes down and everybody can see why; when the server comes back, so does the link.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_goes_down_with_its_server_and_comes_back() {
    let stock = nats_servers().pop().unwrap();
    let broker = Process::with_config(&stock, "");
    let port = i32::from(broker.port());
    let config = LinkConfig {
        idle_timeout: Duration::from_secs(2),
        keep_alive: Duration::from_millis(500),
        ..LinkConfig::default()
    };
    let mut pair = Pair::new(&broker.url(), &config);
    pair.up().await;
    assert_eq!(pair.carriers.each_ref().map(|carrier| carrier.away()), [None, None]);
    drop(broker);
    for events in &mut pair.events {
        let down = async {
            loop {
                match events.next().await.unwrap() {
                    LinkEvent::Down { why, .. } => return why,
                    LinkEvent::Up(_) | LinkEvent::Unreachable { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        assert_eq!(timeout(BOUND, down).await.unwrap(), Ended::Silent);
    }
    let unreachable = async {
        loop {
            if let LinkEvent::Unreachable { why, .. } = pair.events[0].next().await.unwrap() {
                return why;
            }
        }
    };
    let why = timeout(BOUND, unreachable).await.unwrap();
    assert!(why.contains(&format!("nats://127.0.0.1:{port}: ")), "{why}");
    assert!(pair.carriers.iter().all(|carrier| carrier.away().is_some()));
    assert_eq!(pair.carriers.each_ref().map(|carrier| carrier.stats().sessions), [0, 0], "nothing is left");
    let _broker = Process::with_config_on(&stock, port, "");
    pair.up().await;
    assert_eq!(pair.carriers.each_ref().map(|carrier| carrier.away()), [None, None]);
}
