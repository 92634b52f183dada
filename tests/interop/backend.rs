//! A stock NATS server as infrastructure: midged's links through it, and pub-sub through it.

use std::time::{Duration, Instant};

use midge::backend::{Deployment, ExternalBus};
use midge::identity::{KeyPair, pem};
use midge::mesh::new_key;
use midge_testkit::process::{Folder, Process, nats_servers};
use midge_testkit::raw::{Frame, Raw};
use serde_json::Value;

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

/// midged that reaches `broker` and nothing else of its peer.
fn beside(broker: &Process, key: &Key, peer: &Key, more: &str) -> Process {
    let config = format!(
        "http: \"127.0.0.1:-1\"\nmesh {{ key: \"{}\", peers: [\"{}@nats:\"] }}\nbackend {{ urls: \"{}\" {more} }}",
        key.file,
        peer.id(),
        broker.url()
    );
    Process::with_config(&midged(), &config)
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
        let first = beside(&broker, &one, &other, "");
        let begun = Instant::now();
        let second = beside(&broker, &other, &one, "");
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
