//! Nodes: what every bus must do, by the router of a process, and between two over a link.

use midge::Node;
use midge::backend::conformance;
use midge::bus::{BusEvent, EmbeddedBus, Message};
use midge::link::mem::MemNetwork;
use midge::mesh::new_key;
use midge::options::Options;

#[tokio::test]
async fn the_router_of_a_process_is_a_bus() {
    let node = Node::builder().embedded(Options::default()).start().unwrap();
    conformance::check(node.bus().clone(), EmbeddedBus::new(node.client())).await;
}

#[tokio::test]
async fn routers_with_a_link_between_them_are_buses_that_meet() {
    let network = MemNetwork::new(1);
    let key = new_key().unwrap();
    let alice = Node::builder()
        .embedded(Options::default())
        .path(network.join())
        .allow(key.peer_id())
        .start()
        .unwrap();
    let there = format!("{}@{}", alice.peer_id(), alice.addresses()[0]);
    let bob = Node::builder()
        .key(key)
        .embedded(Options::default())
        .path(network.join())
        .peer(&there)
        .unwrap()
        .start()
        .unwrap();
    conformance::check(alice.bus().clone(), bob.bus().clone()).await;
}

/// Whoever does not take messages in time is told that, by the bus of a router, too.
#[tokio::test]
async fn a_slow_subscriber_is_told() {
    let mut options = Options::default();
    options.limits.max_pending = 100_000;
    options.limits.max_payload = 10_000;
    let node = Node::builder().embedded(options).start().unwrap();
    let mut events = node.bus().events();
    let mut slow = node.bus().subscribe("a", None).await.unwrap();
    for _ in 0..20 {
        node.bus().publish(Message::new("a", vec![0; 9_000])).await.unwrap();
    }
    while slow.next().await.is_some() {}
    assert_eq!(events.next().await, Some(BusEvent::SlowConsumer));
}
