//! A stock NATS server as infrastructure: midged's links through it, and pub-sub through it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge::Node;
use midge::backend::{Carrier, Deployment, Listening};
use midge::identity::{KeyPair, pem};
use midge::link::mem::MemNetwork;
use midge::link::{
    Anybody, Ended, IncomingStream, Link, LinkConfig, LinkEvent, LinkEvents, LinkTable, PacketPath,
};
use midge::mesh::new_key;
use midge::options::Options;
use midge_testkit::process::{Folder, Process, nats_servers};
use midge_testkit::raw::{Frame, Raw};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::mesh::page;
use crate::servers::{CONVERGES, midged, settled, subscribe, wait_for_interest, with_port};

/// A peer's key, and a file with it.
pub(crate) struct Key {
    pub(crate) key: KeyPair,
    pub(crate) file: String,
    _folder: Folder,
}

impl Key {
    pub(crate) fn new() -> Self {
        let (key, folder) = (new_key().unwrap(), Folder::new("backend"));
        let file = folder.file("peer.key", &pem::private(&key));
        Self { key, file, _folder: folder }
    }

    pub(crate) fn id(&self) -> String {
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

/// The time of a line of the log, in seconds of the day.
fn clock(line: &str) -> f64 {
    let time = line.split_whitespace().nth(2).unwrap();
    time.split(':').fold(0.0, |all, part| all * 60.0 + part.parse::<f64>().unwrap())
}

/// Two midged that reach only the stock server have a link in less than a second, and stock clients of both do what clients of
/// one server do.
#[test]
fn a_stock_server_carries_links() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        // Whatever else the machine does just now: it is tried again.
        let linked = || {
            let (one, other) = (Key::new(), Key::new());
            let first = through(&broker.url(), &one, &other, "");
            let second = through(&broker.url(), &other, &one, "");
            for (server, peer) in [(&first, &other), (&second, &one)] {
                server.wait_for_line(&format!("Link up: peer {} at nats:", peer.id()));
            }
            // From when the second reaches the server.
            let log = second.log();
            let at = |part: &str| clock(log.iter().find(|line| line.contains(part)).unwrap());
            (at("Link up") - at("connected") < 1.0).then_some((first, second))
        };
        let (first, second) = (0..3).find_map(|_| linked()).expect("it takes more than a second");
        // Both have dialled, perhaps at once: one link stays.
        let until = Instant::now() + CONVERGES;
        let mut linkz = page(&first, "/linkz");
        while linkz["num_links"] != 1 {
            assert!(Instant::now() < until, "{linkz}");
            linkz = page(&first, "/linkz");
        }
        let row = &linkz["links"][0];
        assert_eq!((row["via"].as_str(), row["address"].as_str()), (Some("nats"), Some("nats:")), "{linkz}");
        let (mut here, mut there) = (Raw::client(first.port()), Raw::client(second.port()));
        subscribe(&mut there, &mut here, "news.*", "1");
        here.send(b"PUB news.x 5\r\nhello\r\n");
        assert_eq!(there.expect_message(), b"hello");
        subscribe(&mut here, &mut there, "back", "1");
        there.send(b"PUB back 4\r\nback\r\n");
        assert_eq!(here.expect_message(), b"back");
        asks_across(&first, &second);
        // A group with two members on the other side: each job goes to one of them.
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

/// A stock client asks on one side, and a stock service with a worker on each side answers.
fn asks_across(first: &Process, second: &Process) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async {
        let asker = async_nats::connect(first.url()).await.unwrap();
        let mut answering = Vec::new();
        for server in [first, second] {
            let client = async_nats::connect(server.url()).await.unwrap();
            let mut questions = client.queue_subscribe("sum", "adders".to_owned()).await.unwrap();
            client.flush().await.unwrap();
            let where_ = server.port().to_string();
            answering.push(tokio::spawn(async move {
                while let Some(question) = futures_util::StreamExt::next(&mut questions).await {
                    let to = question.reply.unwrap();
                    client.publish(to, where_.clone().into()).await.unwrap();
                }
            }));
        }
        // Members at the asker's own server come first; when they have gone, the others answer.
        let ask = async || {
            loop {
                let question = async_nats::Request::new().payload("2+3".into());
                let question = question.timeout(Some(Duration::from_millis(200)));
                match asker.send_request("sum", question).await {
                    Ok(answer) => return String::from_utf8_lossy(&answer.payload).into_owned(),
                    // Whoever goes may still get one.
                    Err(error)
                        if matches!(
                            error.kind(),
                            async_nats::RequestErrorKind::NoResponders
                                | async_nats::RequestErrorKind::TimedOut
                        ) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        ask().await;
        answering.remove(0).abort();
        while timeout(BOUND, ask()).await.unwrap() != second.port().to_string() {}
        answering.remove(0).abort();
    });
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
    for stock in oldest_and_newest() {
        let broker = Process::with_config(&stock, "");
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
        for secret in ["secret_subject", "secret_payload", "RS+ $G ", "RMSG $G ", "nats.io/2/router"] {
            assert!(!has(secret), "{secret} is read");
        }
    }
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
/// How long a server is away that comes back.
const AWAY: Duration = Duration::from_secs(3);
const MUCH: usize = 100_000_000;

/// Killed for three seconds in the middle of 100 MB: all of it arrives, and the link stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_survives_the_servers_death() {
    for stock in oldest_and_newest() {
        let broker = with_port(&stock);
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
        let broker = with_port(&stock);
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
        sending.join().unwrap();
        for server in [&first, &second] {
            let log = server.log();
            assert!(!log.iter().any(|line| line.contains("Link down")), "{log:#?}");
            let times = |part: &str| log.iter().filter(|line| line.contains(part)).count();
            assert_eq!((times(": disconnected"), times(": connected")), (1, 2), "{log:#?}");
        }
    }
}

/// Killed for good, the link goes down and everybody can see why; when the server comes back, so does the link.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_goes_down_with_its_server_and_comes_back() {
    for stock in oldest_and_newest() {
        let broker = with_port(&stock);
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
        let forgotten = async {
            // The last datagrams have a moment.
            while pair.carriers.iter().any(|carrier| carrier.stats().sessions > 0) {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(BOUND, forgotten).await.is_ok(), "sessions are left");
        let _broker = Process::with_config_on(&stock, port, "");
        pair.up().await;
        assert_eq!(pair.carriers.each_ref().map(|carrier| carrier.away()), [None, None]);
    }
}

/// What peers are there is seen by any client that knows NATS's micro services.
#[test]
fn peers_are_discovered_as_services() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        let (one, other) = (Key::new(), Key::new());
        let server = through(&broker.url(), &one, &other, "");
        server.wait_for_line("connected");
        let mut client = Raw::client(broker.port());
        wait_for_interest(&mut client, &format!("midge.link.{}.dial", one.id()));
        client.send(b"SUB found 1\r\nPUB $SRV.INFO.midge-link found 0\r\n\r\n");
        let info: serde_json::Value = serde_json::from_slice(&client.expect_message()).unwrap();
        assert_eq!((info["name"].as_str(), info["version"].as_str()), (Some("midge-link"), Some("1.0.0")));
        assert_eq!(info["metadata"]["peer"], one.id().as_str());
        assert_eq!(info["metadata"]["prefix"], "midge");
        assert_eq!(info["endpoints"][0]["subject"], format!("midge.link.{}.dial", one.id()));
    }
}

/// A link that goes straight is used where there is one; what the server carries takes over and gives back, and messages
/// go on between the two routers.
#[tokio::test(flavor = "multi_thread")]
async fn routers_move_between_a_straight_link_and_a_carried_one() {
    let broker = Process::with_config(&nats_servers().pop().unwrap(), "");
    let deployment = Deployment { prefix: "midge".parse().unwrap(), ..Deployment::at(&[&broker.url()]) };
    let links = LinkConfig {
        idle_timeout: Duration::from_secs(1),
        keep_alive: Duration::from_millis(200),
        ..LinkConfig::default()
    };
    for swapped in [false, true] {
        let network = MemNetwork::new(1);
        let mut keys = [new_key().unwrap(), new_key().unwrap()];
        keys.sort_by_key(KeyPair::peer_id);
        if swapped {
            keys.reverse();
        }
        let [one, other] = keys;
        let (here, there) = (network.join(), network.join());
        let (from, to) = (here.number(), there.number());
        network.cut(from, to, true);
        let builder = |key: &KeyPair, path| {
            Node::builder()
                .key(key.clone())
                .embedded(Options::default())
                .links(links.clone())
                .via(deployment.clone())
                .path(path)
        };
        let far = builder(&other, there).allow(one.peer_id()).start().unwrap();
        let near = builder(&one, here)
            .peer(&format!("{}@mem://{to}", other.peer_id()))
            .and_then(|builder| builder.peer(&format!("{}@nats:", other.peer_id())))
            .unwrap()
            .start()
            .unwrap();
        let mut hears = far.client().subscribe("x").unwrap();
        let client = near.client();
        // Numbered, for as long as it takes until that network is used and a message has come by it; how many were lost.
        let mut number = 0_u64;
        let mut next = 0_u64;
        let mut say = async |used: &str| {
            let (begun, mut lost) = (Instant::now(), 0);
            loop {
                assert!(begun.elapsed() < BOUND, "no messages over {used}");
                let is_used = near.link(&other.peer_id()).is_some_and(|link| link.scheme() == used);
                client.publish("x", number.to_string()).unwrap();
                number += 1;
                let came = timeout(Duration::from_millis(10), hears.next()).await.ok().flatten();
                if let Some(message) = came {
                    let got: u64 = String::from_utf8_lossy(&message.payload).parse().unwrap();
                    lost += got - next;
                    next = got + 1;
                    // What is on its way has come.
                    if is_used && next == number {
                        return (begun.elapsed(), lost);
                    }
                }
            }
        };
        say("nats").await;
        for _ in 0..2 {
            network.cut(from, to, false);
            let (_, lost) = say("mem").await;
            // No more than are said while a route is opened anew.
            assert!(lost <= 20, "{lost} messages were lost while both links were there");
            network.cut(from, to, true);
            let (took, _) = say("nats").await;
            // The time without a sign, and a redial.
            assert!(took < Duration::from_secs(1 + 5), "{took:?}");
        }
    }
}

/// What every path must do, a carrier does.
#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_is_a_path() {
    for stock in oldest_and_newest() {
        let broker = Process::with_config(&stock, "");
        let deployment = Deployment { prefix: "midge".parse().unwrap(), ..Deployment::at(&[&broker.url()]) };
        let end = || {
            let key = new_key().unwrap();
            let carrier = Carrier::start(&deployment, &key, Listening::To(Arc::new(Anybody))).unwrap();
            (carrier, key)
        };
        let ((one, key), (other, other_key)) = (end(), end());
        // Until both are there.
        for (from, peer) in [(&one, &other_key), (&other, &key)] {
            while from.clone().locate(peer.peer_id(), String::new()).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        midge::link::conformance::check_peers((one, key), (other, other_key), "somewhere").await;
    }
}

/// However many links are busy and however slow their readers are, the server has not to hold more than it is set to: it calls
/// nobody a slow consumer, and everything arrives.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_do_not_cost_the_connection() {
    const LINKS: usize = 12;
    const EACH: usize = 6_000_000;
    for stock in oldest_and_newest() {
        let broker = Process::with_config(&stock, "max_pending: 40MB");
        let deployment = Deployment { prefix: "midge".parse().unwrap(), ..Deployment::at(&[&broker.url()]) };
        let key = new_key().unwrap();
        let (hub, _events, mut streams) =
            LinkTable::new(key.clone(), Arc::new(Anybody), LinkConfig::default()).unwrap();
        let carrier = Carrier::start(&deployment, &key, Listening::To(Arc::new(Anybody))).unwrap();
        hub.add_path(carrier.clone()).unwrap();
        hub.serve("much/1");
        let mut writing = Vec::new();
        for _ in 0..LINKS {
            let key = new_key().unwrap();
            let (table, mut events, _) =
                LinkTable::new(key.clone(), Arc::new(Anybody), LinkConfig::default()).unwrap();
            table.add_path(Carrier::start(&deployment, &key, Listening::No).unwrap()).unwrap();
            table.want(hub.peer(), vec!["nats:".parse().unwrap()]);
            writing.push(tokio::spawn(async move {
                let link = loop {
                    if let LinkEvent::Up(link) = events.next().await.unwrap() {
                        break link;
                    }
                };
                let mut out = link.open("much/1").await.unwrap();
                out.write_all(&vec![7; EACH]).await.unwrap();
                out.shutdown().await.unwrap();
                // Until the other side has had it all.
                let _ = out.read_u8().await;
                drop(table);
            }));
        }
        let mut all = Vec::new();
        for _ in 0..LINKS {
            all.push(timeout(BOUND, streams.recv()).await.unwrap().unwrap().stream);
        }
        // As much as may come has come when nothing more does.
        let mut before = u64::MAX;
        while carrier.stats().received != before {
            before = carrier.stats().received;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        for stream in &mut all {
            let (mut got, mut block) = (0, vec![0; 256 * 1024]);
            while got < EACH {
                got += timeout(BOUND, stream.read(&mut block)).await.unwrap().unwrap();
            }
        }
        drop(all);
        for one in writing {
            timeout(BOUND, one).await.unwrap().unwrap();
        }
        let log = broker.log();
        assert!(!log.iter().any(|line| line.to_lowercase().contains("slow consumer")), "{log:#?}");
        assert_eq!(carrier.away(), None);
    }
}
