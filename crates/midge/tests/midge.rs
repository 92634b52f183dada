//! Nodes: what every bus must do, by the router of a process, and between two over a link.

use midge::Node;
use midge::backend::conformance;
use midge::bus::EmbeddedBus;
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
