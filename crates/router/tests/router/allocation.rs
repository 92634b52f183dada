//! What happens for every message allocates nothing, once buffers have grown.

use midge_testkit::alloc::allocations;

use crate::house::{House, Peer};

/// Says `text` until everything has grown, and then counts.
fn steady(house: &House, publisher: &mut Peer, others: &[&Peer], text: &str) -> u64 {
    let mut turn = |warm: bool| {
        let (count, ()) = allocations(|| house.say(publisher, text));
        // The screens grow with what they show, which is no matter of the router's.
        others.iter().for_each(|peer| peer.clear());
        publisher.clear();
        if warm { 0 } else { count }
    };
    (0..4).for_each(|_| {
        turn(true);
    });
    (0..4).map(|_| turn(false)).sum()
}

#[test]
fn publishing_to_nobody() {
    let house = House::new();
    let mut publisher = house.peer("");
    assert_eq!(steady(&house, &mut publisher, &[], &"PUB a.b.c 5\r\nhello\r\n".repeat(50)), 0);
    let two = "PUB a.b.c 5\r\nhello\r\nPUB a.b.d 5\r\nhello\r\n".repeat(25);
    assert_eq!(
        steady(&house, &mut publisher, &[], &two),
        0,
        "the cache, where the last subject does not serve"
    );
}

#[test]
fn one_to_one_and_fan_out() {
    let house = House::new();
    let receivers: Vec<_> = (0..10).map(|n| house.peer(&format!("SUB a.* {n}\r\n"))).collect();
    let others: Vec<&Peer> = receivers.iter().collect();
    let mut publisher = house.peer("");
    assert_eq!(steady(&house, &mut publisher, &others, &"PUB a.b 5\r\nhello\r\n".repeat(50)), 0);
    assert_eq!(steady(&house, &mut publisher, &others, &"PUB a.b r 5\r\nhello\r\n".repeat(50)), 0);
    let headers = "HPUB a.b 12 17\r\nNATS/1.0\r\n\r\nhello\r\n".repeat(50);
    assert_eq!(steady(&house, &mut publisher, &others, &headers), 0);
}

#[test]
fn picking_from_a_queue_group() {
    let house = House::new();
    let members: Vec<_> = (0..10).map(|n| house.peer(&format!("SUB work g {n}\r\n"))).collect();
    let others: Vec<&Peer> = members.iter().collect();
    let mut publisher = house.peer("");
    let text = "PUB work 5\r\nhello\r\n".repeat(400);
    for _ in 0..20 {
        house.say(&mut publisher, &text);
        others.iter().for_each(|peer| peer.clear());
    }
    assert_eq!(steady(&house, &mut publisher, &others, &text), 0);
}

#[test]
fn asking_and_answering() {
    let house = House::new();
    let mut responder = house.peer("SUB service 1\r\n");
    let mut requester = house.peer("SUB inbox.* 2\r\n");
    for round in 0..8 {
        let (asked, ()) = allocations(|| house.say(&mut requester, "PUB service inbox.1 2\r\nhi\r\n"));
        let (answered, ()) = allocations(|| house.say(&mut responder, "PUB inbox.1 2\r\nyo\r\n"));
        requester.clear();
        responder.clear();
        assert!(round < 4 || asked + answered == 0, "{asked} and {answered}");
    }
}
