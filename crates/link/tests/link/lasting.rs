//! What becomes of links when networks and peers go and come back.

use std::sync::Arc;
use std::time::Duration;

use midge_link::mem::{Conditions, MemNetwork};
use midge_link::{Anybody, Ended, LinkEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::house::{PROTOCOL, Peer, config, keys, later};

#[tokio::test(start_paused = true)]
async fn two_that_dial_each_other_have_one_link() {
    let keys = keys(2);
    for seed in 0..20 {
        let network = MemNetwork::new(seed);
        let latency = Duration::from_millis(seed * 30);
        network.set(Conditions { latency, ..Conditions::default() });
        let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
        alice.want(&bob);
        bob.want(&alice);
        alice.up().await;
        bob.up().await;
        later(10.0).await;
        assert_eq!((alice.links_to(&bob), bob.links_to(&alice)), (1, 1), "{seed}");
        assert!(alice.says(&mut bob).await && bob.says(&mut alice).await, "{seed}");
        assert!(alice.table.link(&bob.id()).unwrap().since().elapsed() > Duration::from_secs(8), "it stays");
    }
}

/// By which of the two it was dialled makes no difference.
#[tokio::test(start_paused = true)]
async fn a_peer_that_begins_anew_is_linked_again_at_once() {
    let keys = keys(2);
    for (ours, theirs, dials, is_dialled) in [
        (0, 1, true, true),
        (0, 1, true, false),
        (0, 1, false, true),
        (1, 0, true, false),
        (1, 0, false, true),
    ] {
        let network = MemNetwork::new(1);
        let mut stays = Peer::new(&keys[ours], &network);
        let mut goes = Peer::new(&keys[theirs], &network);
        let place = goes.places[0].number();
        let begin = |stays: &Peer, goes: &Peer| {
            if dials {
                stays.want(goes);
            }
            if is_dialled {
                goes.want(stays);
            }
        };
        begin(&stays, &goes);
        stays.up().await;
        goes.up().await;
        later(1.0).await;
        // As when it is killed: nothing is said.
        network.cut(stays.places[0].number(), place, true);
        drop(goes);
        tokio::task::yield_now().await;
        later(0.1).await;
        network.cut(stays.places[0].number(), place, false);
        let mut goes = Peer::with(&keys[theirs], vec![network.join_as(place)], Arc::new(Anybody), config());
        if is_dialled {
            goes.want(&stays);
        }
        let back = Instant::now();
        goes.up().await;
        later(1.1).await;
        assert!(stays.says(&mut goes).await && goes.says(&mut stays).await, "{ours} {dials} {is_dialled}");
        assert_eq!((stays.links_to(&goes), goes.links_to(&stays)), (1, 1));
        // Whoever does not dial learns of the end of a link when it says something: at the latest when it keeps it alive.
        let bound = if is_dialled { 3 } else { 11 };
        assert!(back.elapsed() < Duration::from_secs(bound), "{:?}", back.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_cut_and_healed_is_noticed_twice() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    alice.want(&bob);
    alice.up().await;
    bob.up().await;
    let (here, there) = (alice.places[0].number(), bob.places[0].number());
    network.cut(here, there, true);
    assert_eq!(alice.down().await, Ended::Silent);
    assert_eq!(bob.down().await, Ended::Silent);
    later(100.0).await;
    network.cut(here, there, false);
    let healed = Instant::now();
    while !matches!(alice.event().await, LinkEvent::Up(_)) {}
    assert!(healed.elapsed() < Duration::from_secs(12), "{:?}", healed.elapsed());
    bob.up().await;
    assert!(alice.says(&mut bob).await);
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_is_survived_and_nothing_is_lost() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    alice.want(&bob);
    let link = alice.up().await;
    bob.up().await;
    let sending = tokio::spawn(async move {
        let mut out = link.open(PROTOCOL).await.unwrap();
        out.write_all(&vec![1; 20_000_000]).await.unwrap();
        out.shutdown().await.unwrap();
    });
    let mut incoming = bob.streams.recv().await.unwrap().stream;
    let mut got = vec![0; 1_000_000];
    incoming.read_exact(&mut got).await.unwrap();
    let (here, there) = (alice.places[0].number(), bob.places[0].number());
    network.cut(here, there, true);
    later(10.0).await;
    network.cut(here, there, false);
    got.clear();
    assert_eq!(incoming.read_to_end(&mut got).await.unwrap(), 19_000_000);
    sending.await.unwrap();
    assert_eq!(alice.table.links().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_changes_networks_keeps_its_link() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    alice.want(&bob);
    alice.up().await;
    bob.up().await;
    let before = alice.address().to_string();
    alice.places[0].move_away();
    assert!(alice.says(&mut bob).await);
    let LinkEvent::Roamed { link, from } = bob.event().await else { panic!() };
    assert_eq!((from, link.address()), (before, alice.address().to_string()));
    assert!(bob.says(&mut alice).await);
}

/// A peer at two addresses has one link that is used and one in reserve, which takes over.
#[tokio::test(start_paused = true)]
async fn a_second_way_takes_over_when_the_first_dies() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    for (ours, theirs) in [(0, 1), (1, 0)] {
        let mut alice = Peer::new(&keys[ours], &network);
        let places = vec![network.join(), network.join()];
        let numbers: Vec<u64> = places.iter().map(|place| place.number()).collect();
        let mut bob = Peer::with(&keys[theirs], places, Arc::new(Anybody), config());
        let addresses = numbers.iter().map(|number| format!("mem://{number}").parse().unwrap()).collect();
        alice.table.want(bob.id(), addresses);
        let first = alice.up().await;
        bob.up().await;
        later(5.0).await;
        assert_eq!((alice.links_to(&bob), bob.links_to(&alice)), (2, 2));
        network.cut(alice.places[0].number(), first.place().parse().unwrap(), true);
        let LinkEvent::Moved { link, before, why } = alice.event().await else { panic!() };
        assert_eq!((before, why), (first.number(), Ended::Silent));
        assert_ne!(link.address(), first.address());
        later(1.0).await;
        assert!(alice.says(&mut bob).await && bob.says(&mut alice).await);
        network.cut(alice.places[0].number(), first.place().parse().unwrap(), false);
        later(20.0).await;
        assert_eq!(alice.links_to(&bob), 2, "the first is in reserve now");
        assert_eq!(alice.table.link(&bob.id()).unwrap(), link, "and what works stays");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_networks_carry_links_too() {
    let keys = keys(2);
    for seed in 0..5 {
        let network = MemNetwork::new(seed);
        network.set(Conditions {
            latency: Duration::from_millis(40),
            jitter: Duration::from_millis(30),
            loss: 0.05,
            duplication: 0.05,
            max_datagram: 1280,
            rate: Some(2_000_000),
            queue: 64 * 1024,
        });
        let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
        alice.want(&bob);
        bob.want(&alice);
        while alice.table.links().is_empty() || bob.table.links().is_empty() {
            later(0.1).await;
        }
        later(5.0).await;
        assert!(alice.says(&mut bob).await && bob.says(&mut alice).await, "{seed}");
        assert_eq!((alice.links_to(&bob), bob.links_to(&alice)), (1, 1), "{seed}");
    }
}

/// The same seed gives the same figures, to the byte.
#[tokio::test(start_paused = true)]
async fn a_simulation_runs_the_same_way_each_time() {
    let keys = keys(2);
    let mut runs = Vec::new();
    for _ in 0..3 {
        let network = MemNetwork::new(9);
        network.set(Conditions { loss: 0.1, jitter: Duration::from_millis(20), ..Conditions::default() });
        let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
        alice.want(&bob);
        let begin = Instant::now();
        let link = alice.up().await;
        bob.up().await;
        assert!(alice.says(&mut bob).await);
        runs.push((begin.elapsed(), network.counts(), link.stats()));
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[1], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_wanted_any_more_is_not_dialled() {
    let (network, keys) = (MemNetwork::new(1), keys(2));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &network), Peer::new(&keys[1], &network));
    alice.want(&bob);
    alice.up().await;
    bob.up().await;
    alice.table.forget(&bob.id());
    later(60.0).await;
    assert_eq!(alice.links_to(&bob), 1, "what there is stays");
    bob.table.dismiss(&alice.id());
    alice.down().await;
    later(60.0).await;
    assert_eq!(alice.links_to(&bob), 0);
}

/// What others carry is used while nothing goes straight, stays in reserve beside it, and takes over at once.
#[tokio::test(start_paused = true)]
async fn a_link_that_goes_straight_is_used_instead_of_a_relayed_one() {
    for (ours, theirs) in [(0, 1), (1, 0)] {
        let (straight, relay, keys) = (MemNetwork::new(1), MemNetwork::relayed(2), keys(2));
        let peer = |key| Peer::with(key, vec![straight.join(), relay.join()], Arc::new(Anybody), config());
        let (mut alice, mut bob) = (peer(&keys[ours]), peer(&keys[theirs]));
        let (here, there) = (alice.places[0].number(), bob.places[0].number());
        straight.cut(here, there, true);
        let by_relay = format!("relay://{}", bob.places[1].number()).parse().unwrap();
        alice.table.want(bob.id(), vec![bob.address(), by_relay]);
        let moved = async |peer: &mut Peer| {
            loop {
                match peer.event().await {
                    LinkEvent::Up(link) => return (link, None),
                    LinkEvent::Moved { link, why, .. } => return (link, Some(why)),
                    LinkEvent::Down { why, .. } => panic!("down: {why}"),
                    _ => {}
                }
            }
        };
        for peer in [&mut alice, &mut bob] {
            assert!(moved(peer).await.0.is_relayed());
        }
        for _ in 0..2 {
            straight.cut(here, there, false);
            for peer in [&mut alice, &mut bob] {
                let (link, why) = moved(peer).await;
                assert_eq!((link.scheme(), why), ("mem", Some(Ended::Relayed)));
            }
            later(20.0).await;
            assert_eq!((alice.links_to(&bob), bob.links_to(&alice)), (2, 2), "the other stays in reserve");
            assert!(alice.says(&mut bob).await && bob.says(&mut alice).await);
            straight.cut(here, there, true);
            for peer in [&mut alice, &mut bob] {
                let (link, why) = moved(peer).await;
                assert_eq!((link.scheme(), why), ("relay", Some(Ended::Silent)));
            }
            assert!(alice.says(&mut bob).await && bob.says(&mut alice).await);
        }
    }
}

/// Two that reach each other only by what others carry have one link by it, whoever dials.
#[tokio::test(start_paused = true)]
async fn one_relayed_link_is_enough() {
    let (relay, keys) = (MemNetwork::relayed(1), keys(2));
    let (mut alice, mut bob) = (Peer::new(&keys[0], &relay), Peer::new(&keys[1], &relay));
    let at = |peer: &Peer| vec![format!("relay://{}", peer.places[0].number()).parse().unwrap()];
    alice.table.want(bob.id(), at(&bob));
    bob.table.want(alice.id(), at(&alice));
    alice.up().await;
    bob.up().await;
    later(10.0).await;
    assert_eq!((alice.links_to(&bob), bob.links_to(&alice)), (1, 1));
    assert!(alice.says(&mut bob).await && bob.says(&mut alice).await);
}

/// What others carry is never used instead of a link that goes straight and answers, though it comes later.
#[tokio::test(start_paused = true)]
async fn a_relayed_link_that_comes_second_stays_in_reserve() {
    for (ours, theirs) in [(0, 1), (1, 0)] {
        let (straight, relay, keys) = (MemNetwork::new(1), MemNetwork::relayed(2), keys(2));
        let peer = |key| Peer::with(key, vec![straight.join(), relay.join()], Arc::new(Anybody), config());
        let (mut alice, mut bob) = (peer(&keys[ours]), peer(&keys[theirs]));
        relay.cut(alice.places[1].number(), bob.places[1].number(), true);
        let by_relay = format!("relay://{}", bob.places[1].number()).parse().unwrap();
        alice.table.want(bob.id(), vec![by_relay, bob.address()]);
        while !matches!(alice.event().await, LinkEvent::Up(link) if link.scheme() == "mem") {}
        bob.up().await;
        relay.cut(alice.places[1].number(), bob.places[1].number(), false);
        later(20.0).await;
        assert_eq!((alice.links_to(&bob), bob.links_to(&alice)), (2, 2));
        for (peer, other) in [(&alice, &bob), (&bob, &alice)] {
            assert_eq!(peer.table.link(&other.id()).unwrap().scheme(), "mem");
        }
        assert!(alice.says(&mut bob).await && bob.says(&mut alice).await);
    }
}
