//! Who gets a message, in which form, and in which order.

use std::collections::BTreeMap;
use std::sync::Arc;

use midge_router::{Grant, Limits, PermissionRules, Permissions, ResponseRules};
use proptest::prelude::*;

use crate::house::{House, Peer};

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
fn a_group_shares_what_comes_at_once() {
    const NOT_TO_ITSELF: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\n";
    let house = House::new();
    let many = house.peer("SUB work g 1\r\n");
    let few = house.peer("SUB work g 2\r\nUNSUB 2 5\r\n");
    let traced = house.peer("SUB work g 3\r\n");
    traced.session.conn().set_trace(true);
    let mut publisher = house.peer(&format!("{NOT_TO_ITSELF}SUB work g 4\r\n"));
    let all: String = (100..400).map(|n| message("work", &n.to_string())).collect();
    house.say(&mut publisher, &all);
    let heard = [&many, &few, &traced, &publisher].map(|peer| {
        let heard = peer.heard();
        let numbers: Vec<u32> = heard.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        numbers
    });
    assert!(heard[0].len() > 50 && heard[2].len() > 50);
    assert_eq!((heard[1].len(), heard[3].len()), (5, 0));
    let mut all = heard.concat();
    all.sort_unstable();
    assert_eq!(all, (100..400).collect::<Vec<_>>(), "each once");
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
    let other = house.peer("SUB a 1\r\nUNSUB 1 2\r\n");
    house.say(&mut peer, &message("a", "x").repeat(3));
    assert_eq!(other.heard().matches("MSG a 1 ").count(), 2, "nobody else listens");
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

/// A message is looked up once, whoever sends it: a second look would take a subject that is used once for one that is
/// used often.
#[test]
fn a_message_is_looked_up_once() {
    let house = House::new();
    let counters = || house.router.totals().counters;
    let mut publisher = house.peer("");
    house.say(&mut publisher, &message("a", "x").repeat(3));
    assert_eq!((counters().cache_misses, counters().memo_hits), (1, 2));

    let house = House::with(Limits::default(), true);
    let mut grant = Grant::of(house.router.add_account("$G"));
    let mut rules = PermissionRules::default();
    rules.publish.allow = Some(vec!["nothing".to_owned()]);
    rules.responses = Some(ResponseRules { max: Some(1), expires: None });
    grant.permissions = Some(Arc::new(Permissions::new(rules)));
    let mut service = house.peer_with(grant, "SUB ask 1\r\n");
    let mut asker = house.peer_with(Grant::of(house.router.add_account("$G")), "SUB inbox.* 2\r\n");
    house.say(&mut asker, "PUB ask inbox.1 0\r\n\r\n");
    let before = house.router.totals().counters.cache_misses;
    house.say(&mut service, &message("inbox.1", "answer"));
    assert_eq!(house.router.totals().counters.cache_misses - before, 1);
    assert!(asker.heard().ends_with("answer\r\n"));
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

/// Stands for a message's number.
const NUMBER: &str = "####";

/// One thing that a publisher says.
fn saying() -> impl Strategy<Value = String> {
    let subject = || prop_oneof![12 => Just("t.b"), 4 => Just("a.b"), 1 => Just("a.c"), 1 => Just("nobody")];
    prop_oneof![
        20 => (subject(), "[a-z]{0,40}").prop_map(|(subject, payload)| message(subject, &format!("{NUMBER}{payload}"))),
        2 => (subject(), 0..40_usize).prop_map(|(subject, len)| {
            format!("HPUB {subject} 12 {}\r\nNATS/1.0\r\n\r\n{NUMBER}{}\r\n", 16 + len, "h".repeat(len))
        }),
        1 => subject().prop_map(|subject| format!("PUB {subject} inbox.1 4\r\n{NUMBER}\r\n")),
        1 => Just(message("t.b", &format!("{NUMBER}{}", "x".repeat(17_000)))),
        1 => Just("PING\r\n".to_owned()),
        1 => (subject(), 1..4).prop_map(|(subject, sid)| format!("SUB {subject} {sid}\r\n")),
        1 => (1..4, 0..60).prop_map(|(sid, max)| format!("UNSUB {sid} {max}\r\n")),
        1 => any::<bool>().prop_map(|echo| {
            format!("CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"echo\":{echo}}}\r\n")
        }),
    ]
}

/// What everybody hears, by sid, when all of it is said at once, or one after the other. Whoever hears a message after
/// a later one fails.
fn what_all_hear(sayings: &[String], at_once: bool) -> Vec<BTreeMap<String, String>> {
    let house = House::new();
    let quiet = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false}\r\n";
    let receivers = [
        "SUB a.b 1\r\n".to_owned(),
        "SUB a.* 1\r\nSUB a.b 22\r\nUNSUB 22 40\r\n".to_owned(),
        "SUB a.> long-enough-to-be-elsewhere\r\n".to_owned(),
        format!("{quiet}SUB a.b 5\r\n"),
        "SUB a.b g 7\r\nSUB a.c g 7\r\n".to_owned(),
        "SUB a.c 9\r\nUNSUB 9 3\r\nSUB t.b 10\r\nUNSUB 10 20\r\n".to_owned(),
        "SUB t.* 11\r\n".to_owned(),
        format!("{quiet}SUB t.> 12\r\n"),
        "SUB t.b g 13\r\nUNSUB 13 30\r\n".to_owned(),
    ];
    let receivers: Vec<Peer> = receivers.iter().map(|text| house.peer(text)).collect();
    let mut publisher = house.peer("SUB a.b 3\r\nSUB t.b 4\r\n");
    let numbered = sayings.iter().zip(0..).map(|(text, n)| text.replace(NUMBER, &format!("{n:04}")));
    let numbered: Vec<String> = numbered.collect();
    if at_once {
        house.say(&mut publisher, &numbered.concat());
    } else {
        numbered.iter().for_each(|saying| house.say(&mut publisher, saying));
    }
    receivers.iter().chain([&publisher]).map(|peer| by_sid(&peer.heard())).collect()
}

fn by_sid(heard: &str) -> BTreeMap<String, String> {
    let (mut all, mut sid, mut last) = (BTreeMap::<_, String>::new(), "", "");
    for line in heard.split("\r\n") {
        if line.starts_with("MSG") || line.starts_with("HMSG") {
            sid = line.split(' ').nth(2).unwrap();
        } else if line == "PONG" {
            sid = line;
        } else if line.starts_with(|c: char| c.is_ascii_digit()) {
            assert!(last <= &line[..4], "{last} before {line}");
            last = &line[..4];
        }
        all.entry(sid.to_owned()).or_default().push_str(line);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Messages that come together are handed over together; nobody may see a difference.
    #[test]
    fn what_is_said_at_once_is_heard_as_if_it_were_not(
        sayings in proptest::collection::vec(saying(), 1..150),
    ) {
        prop_assert_eq!(what_all_hear(&sayings, true), what_all_hear(&sayings, false));
    }
}
