//! Who gets a message, in which form, and in which order.

use std::collections::BTreeMap;

use crate::house::House;

fn message(subject: &str, payload: &str) -> String {
    format!("PUB {subject} {}\r\n{payload}\r\n", payload.len())
}

#[test]
fn each_queue_group_gets_a_message_once() {
    let house = House::new();
    let mut members: Vec<_> = (0..3).map(|_| house.peer("SUB work.* g 1\r\n")).collect();
    members.push(house.peer("SUB work.> h 2\r\n"));
    let plain = house.peer("SUB work.a 3\r\n");
    let mut publisher = house.peer("");
    for _ in 0..300 {
        house.say(&mut publisher, &message("work.a", "x"));
    }
    let heard: Vec<usize> = members.iter().map(|member| member.heard().matches("MSG").count()).collect();
    assert_eq!(heard[..3].iter().sum::<usize>(), 300, "the group shares");
    assert!(heard[..3].iter().all(|n| *n > 50), "evenly: {heard:?}");
    assert_eq!((heard[3], plain.heard().matches("MSG").count()), (300, 300), "others get all");
}

#[test]
fn a_member_that_has_gone_is_passed_over() {
    let house = House::new();
    let first = house.peer("SUB work g 1\r\n");
    let second = house.peer("SUB work g 2\r\n");
    let mut publisher = house.peer(&message("work", "x").repeat(10));
    first.heard();
    drop(first);
    second.heard();
    house.say(&mut publisher, &message("work", "x").repeat(10));
    assert_eq!(second.heard().matches("MSG").count(), 10);
}

#[test]
fn a_subscription_ends_after_as_many_messages_as_it_asked_for() {
    let house = House::new();
    let mut peer = house.peer("SUB a 1\r\nUNSUB 1 2\r\nSUB a 2\r\n");
    house.say(&mut peer, &message("a", "x").repeat(3));
    let heard = peer.heard();
    assert_eq!((heard.matches("MSG a 1 ").count(), heard.matches("MSG a 2 ").count()), (2, 3));
    assert_eq!(house.router.totals().subscriptions, 1, "the interest has gone with it");
    house.say(&mut peer, "UNSUB 2 3\r\n");
    assert_eq!(house.router.totals().subscriptions, 0, "three have come already");
}

#[test]
fn a_requester_is_told_that_nobody_listens() {
    let house = House::new();
    let mut peer = house.peer("SUB inbox.* 7\r\nPUB a.b inbox.1 0\r\n\r\n");
    assert_eq!(peer.heard(), "HMSG inbox.1 7 35 35\r\nNATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n\r\n");
    house.say(&mut peer, "SUB a.b 8\r\nPUB a.b inbox.1 0\r\n\r\n");
    assert_eq!(peer.heard(), "MSG a.b 8 inbox.1 0\r\n\r\n");
    house.say(&mut peer, "PUB a.c 0\r\n\r\n");
    assert_eq!(peer.heard(), "", "who wants no reply is told nothing");
}

#[test]
fn echo_and_headers_are_as_connect_says() {
    let house = House::new();
    let mut silent = house.stranger();
    house.say(&mut silent, "CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n");
    let heard = silent.heard();
    assert!(heard.starts_with("INFO ") && !heard.contains("MSG"), "{heard}");
    let full = house.peer("SUB a 2\r\n");
    let mut publisher = house.peer("");
    house.say(&mut publisher, "HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    assert_eq!(full.heard(), "HMSG a 2 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    assert_eq!(silent.heard(), "MSG a 1 r 2\r\nhi\r\n", "a peer that knows no headers gets the rest");
}

#[test]
fn a_second_connect_begins_without_subscriptions() {
    let house = House::new();
    let mut peer = house.peer("SUB a 1\r\n");
    house.say(&mut peer, crate::house::CONNECT);
    house.say(&mut peer, &message("a", "x"));
    assert_eq!((peer.heard().as_str(), house.router.totals().subscriptions), ("", 0));
}

#[test]
fn a_large_message_is_copied_once_and_reaches_all() {
    let house = House::new();
    let receivers: Vec<_> = (0..3).map(|n| house.peer(&format!("SUB big {n}\r\n"))).collect();
    let payload = "0123456789abcdef".repeat(4096);
    house.peer(&message("big", &payload));
    for (n, receiver) in receivers.iter().enumerate() {
        assert_eq!(receiver.heard(), format!("MSG big {n} {}\r\n{payload}\r\n", payload.len()));
    }
}

#[test]
fn the_cache_follows_every_change_of_interest() {
    let house = House::new();
    let mut publisher = house.peer("");
    let mut peers: BTreeMap<u32, _> = BTreeMap::new();
    for n in 0..40_u32 {
        let subject = ["a.b", "a.*", "a.>", ">"][n as usize % 4];
        peers.insert(n, house.peer(&format!("SUB {subject} {n}\r\n")));
        if n % 3 == 2 {
            peers.remove(&(n / 2));
        }
        house.say(&mut publisher, &message("a.b", "x"));
        for (n, peer) in &peers {
            assert_eq!(peer.heard(), format!("MSG a.b {n} 1\r\nx\r\n"));
        }
    }
}

#[test]
fn each_publishers_messages_keep_their_order_across_threads() {
    const EACH: usize = 3000;
    let house = House::new();
    let subscriber = house.peer("SUB n.* 1\r\n");
    std::thread::scope(|scope| {
        for name in ["x", "y"] {
            let (router, now) = (house.router.clone(), house.now);
            scope.spawn(move || {
                let shard = House { worker: router.worker(), router, now };
                let mut publisher = shard.peer("");
                for n in 0..EACH {
                    shard.say(&mut publisher, &message(&format!("n.{name}"), &n.to_string()));
                }
            });
        }
    });
    let heard = subscriber.heard();
    for name in ["x", "y"] {
        let start = format!("MSG n.{name} ");
        let mut lines = heard.lines();
        let mut next = 0;
        while let Some(line) = lines.next() {
            let payload = lines.next().unwrap();
            if line.starts_with(&start) {
                assert_eq!(payload, next.to_string());
                next += 1;
            }
        }
        assert_eq!(next, EACH);
    }
}
