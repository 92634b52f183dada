//! What strangers can ask for, and how little they get.

use std::sync::Arc;

use midge_link::mem::MemNetwork;
use midge_link::{Anybody, LinkConfig, LinkEvent, Outgoing, PacketPath};

use crate::house::{Peer, config, keys, later};

/// Beginnings of handshakes from so many addresses that none can be true cost no memory, and whoever means it comes in.
#[tokio::test(start_paused = true)]
async fn ten_thousand_half_open_handshakes_do_not_keep_others_out() {
    let (network, keys) = (MemNetwork::new(1), keys(3));
    let victim = Peer::new(&keys[0], &network);
    // What a real beginning looks like.
    let tap = network.join();
    let stranger = Peer::new(&keys[1], &network);
    stranger.table.want(keys[2].peer_id(), vec![format!("mem://{}", tap.number()).parse().unwrap()]);
    let mut begin = vec![0; 2000];
    let len = std::future::poll_fn(|cx| {
        let mut slot = [midge_link::Received::one(tap.local_address(), 0)];
        let buffers = &mut [std::io::IoSliceMut::new(&mut begin)];
        tap.poll_recv(cx, buffers, &mut slot).map(|_| slot[0].len)
    })
    .await;
    begin.truncate(len);
    let to = victim.places[0].local_address();
    for n in 0..10_000_u32 {
        let from = network.join();
        // Another connection each time: its id is in bytes 6 to 13.
        begin[6..10].copy_from_slice(&n.to_be_bytes());
        from.try_send(&Outgoing { to, bytes: &begin, size: None, ecn: 0, from: None });
        if n % 100 == 0 {
            later(0.001).await;
        }
    }
    let mut friend = Peer::new(&keys[2], &network);
    friend.want(&victim);
    friend.up().await;
}

#[tokio::test(start_paused = true)]
async fn real_handshakes_at_once_have_a_bound_and_all_come_in() {
    let (network, keys) = (MemNetwork::new(1), keys(41));
    let few = LinkConfig { max_handshakes: 8, ..config() };
    let busy = Peer::with(&keys[0], vec![network.join()], Arc::new(Anybody), few);
    let mut others: Vec<Peer> = keys[1..].iter().map(|key| Peer::new(key, &network)).collect();
    others.iter().for_each(|other| other.want(&busy));
    for other in &mut others {
        while !matches!(other.event().await, LinkEvent::Up(_)) {}
    }
    assert_eq!(busy.table.links().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn links_have_a_bound() {
    let (network, keys) = (MemNetwork::new(1), keys(4));
    let few = LinkConfig { max_links: 2, ..config() };
    let full = Peer::with(&keys[0], vec![network.join()], Arc::new(Anybody), few);
    let mut others: Vec<Peer> = keys[1..].iter().map(|key| Peer::new(key, &network)).collect();
    for other in &mut others[..2] {
        other.want(&full);
        other.up().await;
    }
    let late = &mut others[2];
    late.want(&full);
    let LinkEvent::Unreachable { why, .. } = late.event().await else { panic!() };
    assert!(why.ends_with("(there are too many)"), "{why}");
    assert_eq!(full.table.links().len(), 2);
    // Who is wanted is let in all the same.
    full.want(&others[2]);
    while !matches!(others[2].event().await, LinkEvent::Up(_)) {}
    full.table.forget(&keys[3].peer_id());
    full.table.dismiss(&keys[3].peer_id());
    others[2].down().await;
    // A place that is free again is taken.
    others[0].table.forget(&full.id());
    full.table.dismiss(&keys[1].peer_id());
    while !matches!(others[2].event().await, LinkEvent::Up(_)) {}
}

/// One peer cannot take more than a few links, whatever it does.
#[tokio::test(start_paused = true)]
async fn a_peer_has_few_links() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let victim = Peer::new(&keys[1], &network);
    let many: Vec<Peer> = (0..20).map(|_| Peer::new(&keys[0], &network)).collect();
    many.iter().for_each(|one| one.want(&victim));
    later(2.0).await;
    let links = victim.table.links();
    assert!(links.len() == 1 && links[0].len() <= 4, "{links:?}");
}

/// What is no handshake is not even answered.
#[tokio::test(start_paused = true)]
async fn junk_is_nothing() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let mut victim = Peer::new(&keys[0], &network);
    let from = network.join();
    let to = victim.places[0].local_address();
    for n in 0..20_000_u32 {
        let bytes: Vec<u8> = (0..40 + n % 1400).map(|at| (at * n) as u8).collect();
        from.try_send(&Outgoing { to, bytes: &bytes, size: None, ecn: 0, from: None });
    }
    later(1.0).await;
    let mut friend = Peer::new(&keys[1], &network);
    friend.want(&victim);
    friend.up().await;
    assert!(matches!(victim.event().await, LinkEvent::Up(_)), "nobody was told of junk");
}
