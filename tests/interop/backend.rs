//! A stock NATS server as infrastructure: midged's links through it, and pub-sub through it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge::Node;
use midge::backend::{Carrier, Deployment, Listening};
use midge::identity::{KeyPair, pem};
use midge::link::mem::MemNetwork;
use midge::link::{Anybody, Ended, IncomingStream, Link, LinkConfig, LinkEvent, LinkEvents, LinkTable};
use midge::mesh::new_key;
use midge::options::Options;
use midge_testkit::process::{Folder, Process, nats_servers};
use midge_testkit::raw::{Frame, Raw};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::mesh::page;
use crate::servers::{midged, settled, subscribe, wait_for_interest};

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

/// A command of midge that goes on, and the lines that it prints.
struct Command {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Command {
    fn start(arguments: &[&str]) -> Self {
        let midge = midged().parent().unwrap().join("midge");
        let mut child = std::process::Command::new(midge)
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it goes on").unwrap()
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A web server that says the same to everybody.
fn web_server(page: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut request = BufReader::new(socket.try_clone().unwrap()).lines();
                while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
                let _ = socket.write_all(format!("{head}{page}").as_bytes());
            });
        }
    });
    address
}

fn fetch(port: &str) -> String {
    let mut socket = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text);
    text
}

/// A web page of one peer is a page on the other's own machine: through a stock server, and straight.
#[test]
fn a_page_is_forwarded() {
    let broker = Process::with_config(&nats_servers()[0], "");
    let (page, hidden) = (web_server("<h1>over there</h1>"), web_server("hidden"));
    let (one, other) = (Key::new(), Key::new());
    let url = broker.url();
    let (here, there) = (one.id(), other.id());
    let ways = ["--via", &url, "--link-listen", "udp://127.0.0.1:0", "--key", &other.file];
    let exposed = [&["expose", "--allow-peer", &here][..], &ways, &[&page]].concat();
    let mut expose = Command::start(&exposed);
    let udp = expose.line();
    assert!(udp.starts_with(&format!("Links at {there}@udp://127.0.0.1:")), "{udp}");
    let by_udp = udp.trim_start_matches("Links at ").to_owned();
    assert_eq!(expose.line(), format!("Links at {there}@nats:"));
    assert_eq!(expose.line(), format!("Exposing {page}"));
    for (ways, over) in [(["--via", url.as_str()], "nats:"), (["--peer", by_udp.as_str()], "udp://")] {
        let remote = format!("{there}:{page}");
        let mut forward =
            Command::start(&[&["forward", "--key", &one.file][..], &ways, &["0", &remote]].concat());
        let line = forward.line();
        assert!(line.contains(&format!("to {remote} over {over}")), "{line}");
        let port = line.split([':', ' ']).nth(2).unwrap();
        for _ in 0..3 {
            assert!(fetch(port).ends_with("<h1>over there</h1>"));
        }
        // What is not exposed is not reached, though it is there.
        let remote = format!("{there}:{hidden}");
        let mut forward =
            Command::start(&[&["forward", "--key", &one.file][..], &ways, &["0", &remote]].concat());
        let line = forward.line();
        assert_eq!(fetch(line.split([':', ' ']).nth(2).unwrap()), "");
    }
    // Nor does anybody else reach anything.
    let remote = format!("{there}:{page}");
    let midge = midged().parent().unwrap().join("midge");
    let arguments = ["forward", "--timeout", "2", "--via", &url, "0", &remote];
    let output = std::process::Command::new(midge).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not allowed to link"), "{said}");
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
        let info: Value = serde_json::from_slice(&client.expect_message()).unwrap();
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
        let mut say = async |used: &str| {
            let begun = Instant::now();
            // Until the link is used that should be, and messages go.
            loop {
                assert!(begun.elapsed() < BOUND, "no messages over {used}");
                let _ = client.publish("x", used.to_owned());
                let came = timeout(Duration::from_millis(20), hears.next()).await;
                let scheme = near.link(&other.peer_id()).map(|link| link.scheme());
                if matches!(came, Ok(Some(_))) && scheme == Some(used) {
                    return;
                }
            }
        };
        say("nats").await;
        for _ in 0..2 {
            network.cut(from, to, false);
            say("mem").await;
            // The move itself: the route is opened anew, and nothing is without one for longer than that takes.
            let routed = async {
                while near.client().send(&midge::client::Message::new("x", "now")).unwrap() == 0 {
                    tokio::task::yield_now().await;
                }
            };
            assert!(timeout(Duration::from_secs(1), routed).await.is_ok());
            network.cut(from, to, true);
            say("nats").await;
        }
    }
}
