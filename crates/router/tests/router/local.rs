//! Publishers and subscribers inside the process.

use std::sync::Arc;

use midge_router::local::{Local, Outgoing};
use midge_router::{CloseReason, Limits, Owner, SubscribeError};

use crate::house::House;

struct Idle;

impl Owner for Idle {
    fn write(&self, _: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        unreachable!("nothing is written to a peer inside the process")
    }

    fn wake(&self) {}
}

fn join(house: &House) -> Local {
    let account = house.router.global_account();
    Local::new(&house.router, house.worker.clone(), &account, Arc::new(Idle), house.now)
}

#[test]
fn local_peers_and_clients_hear_each_other() {
    let house = House::new();
    let local = join(&house);
    let sid = local.subscribe(b"a.*", b"").unwrap();
    let mut peer = house.peer("SUB b 1\r\n");
    house.say(&mut peer, "HPUB a.x r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    let message = local.take().unwrap();
    assert_eq!((message.sid, &message.subject[..], &message.reply[..]), (sid, &b"a.x"[..], &b"r"[..]));
    assert_eq!((&message.headers[..], &message.payload[..]), (&b"NATS/1.0\r\n\r\n"[..], &b"hi"[..]));
    assert!(local.take().is_none());

    let out = Outgoing { subject: b"b", reply: b"", headers: b"NATS/1.0\r\n\r\n", payload: b"yo" };
    assert_eq!(local.publish(&out, house.now), 1);
    assert_eq!(peer.heard(), "HMSG b 1 12 14\r\nNATS/1.0\r\n\r\nyo\r\n");
}

#[test]
fn queue_groups_and_ends_are_as_for_clients() {
    let house = House::new();
    let (one, two) = (join(&house), join(&house));
    let sid = one.subscribe(b"work", b"g").unwrap();
    two.subscribe(b"work", b"g").unwrap();
    let out = Outgoing { subject: b"work", ..Outgoing::default() };
    for _ in 0..20 {
        assert_eq!(one.publish(&out, house.now), 1);
    }
    let count = |local: &Local| std::iter::from_fn(|| local.take()).count();
    assert_eq!(count(&one) + count(&two), 20);
    one.unsubscribe(sid, 0);
    one.publish(&out, house.now);
    assert_eq!((count(&one), count(&two)), (0, 1));
    assert_eq!(one.subscribe(b"a..b", b""), Err(SubscribeError::Subject));
}

#[test]
fn a_local_peer_that_takes_nothing_is_closed() {
    let house = House::with(Limits { max_pending: 2000, ..Limits::default() }, false);
    let local = join(&house);
    local.subscribe(b"a", b"").unwrap();
    let mut peer = house.peer("");
    let message = format!("PUB a 500\r\n{}\r\n", "x".repeat(500));
    for _ in 0..4 {
        let mut rest = message.as_bytes();
        while !rest.is_empty() {
            rest = &rest[house.offer(&mut peer, rest).used..];
        }
    }
    assert_eq!(local.closed(), Some(CloseReason::SlowConsumerPendingBytes));
    assert_eq!(local.subscribe(b"b", b""), Err(SubscribeError::Closed));
    drop(local);
    assert_eq!(house.router.totals().subscriptions, 0);
}

/// What could not stand in a line of the protocol would be read as something else by other servers.
#[test]
fn words_with_blanks_or_line_ends_are_none() {
    let house = House::new();
    let subscriber = house.peer("SUB > 1\r\n");
    let local = join(&house);
    for word in [&b"a b"[..], b"a\tb", b"a\r\nPUB b 0\r\n", b"\x00", b"", &[b'x'; 3000]] {
        assert!(local.subscribe(word, b"").is_err(), "{word:?}");
        assert!(word.is_empty() || local.subscribe(b"a", word).is_err(), "{word:?}");
        let out = Outgoing { subject: word, payload: b"x", ..Outgoing::default() };
        assert_eq!(local.publish(&out, house.now), 0, "{word:?}");
        let out = Outgoing { subject: b"a", reply: word, payload: b"x", ..Outgoing::default() };
        assert_eq!(local.publish(&out, house.now), u64::from(word.is_empty()), "{word:?}");
    }
    assert_eq!(subscriber.heard().matches("MSG").count(), 1);
}
