//! What networks must do.

use std::time::Duration;

use midge_link::UdpPath;
use midge_link::conformance::check;
use midge_link::mem::{Conditions, MemNetwork};

#[tokio::test]
async fn udp_is_a_path() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let bind = || UdpPath::bind(host.parse().unwrap()).unwrap();
        check(bind(), bind(), "no port").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_in_memory_is_a_path() {
    let network = MemNetwork::new(1);
    check(network.join(), network.join(), "x").await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_has_senders_wait_is_a_path() {
    let network = MemNetwork::reliable(1);
    let rate = Some(1_000_000);
    network.set(Conditions {
        rate,
        queue: 16 * 1024,
        latency: Duration::from_millis(5),
        ..Conditions::default()
    });
    check(network.join(), network.join(), "x").await;
    assert_eq!(network.counts().lost, 0);
}
