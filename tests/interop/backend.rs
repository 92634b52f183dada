//! A stock NATS server as infrastructure: midged's links through it, and pub-sub through it.

use std::time::{Duration, Instant};

use midge::backend::{Deployment, ExternalBus};
use midge::identity::{KeyPair, pem};
use midge::mesh::new_key;
use midge_testkit::process::{Folder, Process, nats_servers};
use midge_testkit::raw::{Frame, Raw};
use serde_json::Value;

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
