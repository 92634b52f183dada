//! Who gets a link.

use std::sync::Arc;

use midge_link::mem::MemNetwork;
use midge_link::{Direction, LinkConfig, LinkEvent, LinkTable, PeerAddress};

use crate::house::{Only, PROTOCOL, Peer, config, keys, later};

#[tokio::test(start_paused = true)]
async fn both_sides_know_who_the_other_is() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    alice.want(&bob);
    let (here, there) = (alice.up().await, bob.up().await);
    assert_eq!((here.peer(), here.direction()), (bob.id(), Direction::Outgoing));
    assert_eq!((there.peer(), there.direction()), (alice.id(), Direction::Incoming));
    assert_eq!((here.protocol().as_str(), here.scheme()), ("midge/1", "mem"));
    assert_eq!(there.address(), alice.address().to_string());
    assert!(alice.says(&mut bob).await && bob.says(&mut alice).await);
    let stats = here.stats();
    assert!(stats.sent_bytes > 1000 && stats.received_bytes > 1000 && stats.mtu >= 1200, "{stats:?}");
    alice.table.close().await;
    assert_eq!(bob.down().await, midge_link::Ended::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_peer_at_the_right_address_is_named() {
    let (network, keys) = (MemNetwork::new(1), keys(3));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    let expected = keys[2].peer_id();
    alice.table.want(expected, vec![bob.address()]);
    let LinkEvent::Unreachable { peer, why, attempts: 1, .. } = alice.event().await else { panic!() };
    assert_eq!(peer, expected);
    assert_eq!(why, format!("expected peer {expected}, but {} is {}", bob.address(), bob.id()));
    // The other side is not told whom anybody expected, and has no link.
    let LinkEvent::Refused { why, .. } = bob.event().await else { panic!() };
    assert!(!why.contains(&expected.to_string()), "{why}");
    assert!(bob.table.links().is_empty() && alice.table.links().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_not_admitted_gets_no_link_and_is_named() {
    let (network, keys) = (MemNetwork::new(1), keys(3));
    let only = Arc::new(Only(vec![keys[2].peer_id()]));
    let mut closed = Peer::with(&keys[0], vec![network.join()], only, config());
    let (mut stranger, mut friend) = (Peer::new(&keys[1], &network), Peer::new(&keys[2], &network));
    stranger.want(&closed);
    let LinkEvent::Refused { peer, why, address } = closed.event().await else { panic!() };
    assert_eq!((peer, why.as_str()), (Some(stranger.id()), "it is not allowed to link here"));
    assert_eq!(address, stranger.address().to_string());
    let LinkEvent::Unreachable { why, .. } = stranger.event().await else {
        panic!("there is no link, not even for a moment")
    };
    assert!(why.contains("refuses this peer"), "{why}");
    friend.want(&closed);
    friend.up().await;
    assert_eq!(closed.table.links().len(), 1);
    // One that may not any more goes.
    closed.table.dismiss(&friend.id());
    assert_eq!(friend.down().await, midge_link::Ended::NotAllowed);
}

#[tokio::test(start_paused = true)]
async fn nobody_links_to_himself() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let (mut one, same) = (Peer::new(&keys[0], &network), Peer::new(&keys[0], &network));
    one.want(&same);
    later(10.0).await;
    assert!(one.table.links().is_empty() && same.table.links().is_empty());
    // Nor somebody who has come by the same key.
    let other = Peer::new(&keys[1], &network);
    other.table.want(same.id(), vec![same.address()]);
    other.table.want(one.id(), vec![one.address()]);
    one.up().await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_unknown_protocols_do_no_harm() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    alice.want(&bob);
    let link = alice.up().await;
    for _ in 0..500 {
        use tokio::io::AsyncReadExt;
        let mut stream = link.open("unknown/1").await.unwrap();
        assert!(stream.read_u8().await.is_err(), "it is broken off");
    }
    assert!(link.open("no name").await.is_err());
    assert!(alice.says(&mut bob).await);
    // One that says nothing is broken off, too, and takes no place for ever.
    let silent: Vec<_> = futures_util::future::join_all((0..50).map(|_| link.open(PROTOCOL))).await;
    assert_eq!(silent.len(), 50);
    drop(silent);
    for _ in 0..50 {
        bob.streams.recv().await.unwrap();
    }
    assert!(alice.says(&mut bob).await);
}

#[tokio::test]
async fn where_there_is_no_network_is_said() {
    let keys = keys(2);
    let (table, mut events, _) =
        LinkTable::new(keys[0].clone(), Arc::new(midge_link::Anybody), LinkConfig::default()).unwrap();
    let there: PeerAddress = format!("{}@xbee://1", keys[1].peer_id()).parse().unwrap();
    table.want(there.peer, vec![there.address]);
    let Some(LinkEvent::Unreachable { why, .. }) = events.next().await else { panic!() };
    assert_eq!(why, "no network is set up for xbee: addresses");
}

/// Where it is known who alone can be at an address, nobody else links from there, though he may link at all.
#[tokio::test(start_paused = true)]
async fn an_address_that_is_somebodys_is_nobody_elses() {
    let (network, keys) = (MemNetwork::new(1), keys(3));
    let (mut owner, mut other) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    let mut listener = Peer::new(&keys[2], &network);
    for place in [&owner, &other] {
        network.set_owner(place.places[0].number(), keys[0].peer_id());
    }
    other.want(&listener);
    let LinkEvent::Unreachable { why, .. } = other.event().await else { panic!("a link") };
    assert!(why.contains("refuses this peer"), "{why}");
    let LinkEvent::Refused { peer, .. } = listener.event().await else { panic!("a link") };
    assert_eq!(peer, Some(keys[1].peer_id()));
    other.table.forget(&listener.id());
    owner.want(&listener);
    owner.up().await;
    assert!(owner.says(&mut listener).await);
}
