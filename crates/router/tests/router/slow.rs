//! Receivers that do not take what waits for them, and producers that wait for them.

use std::time::Duration;

use midge_router::{CloseReason, Limits, Next, SessionError};

use crate::house::House;

fn limits() -> Limits {
    Limits { max_pending: 1000, ..Limits::default() }
}

fn message(size: usize) -> String {
    format!("PUB a {size}\r\n{}\r\n", "x".repeat(size))
}

#[test]
fn too_much_waiting_closes_the_receiver_and_nobody_else() {
    let house = House::with(limits(), false);
    let mut slow = house.peer("SUB a 1\r\n");
    let healthy = house.peer("SUB a 2\r\n");
    slow.set_room(0);
    slow.woken();
    let mut publisher = house.peer(&message(600));
    house.say(&mut publisher, &message(600));
    assert_eq!(slow.session.conn().closed(), Some(CloseReason::SlowConsumerPendingBytes));
    assert!(slow.woken() > 0, "its owner is told");
    assert_eq!(slow.session.conn().pending(), 0, "what waited is given up");
    assert_eq!(healthy.heard().matches("MSG").count(), 2);
    assert_eq!(house.router.totals().counters.slow_pending, 1);
    slow.session.close(CloseReason::SlowConsumerPendingBytes);
}

#[test]
fn a_receiver_must_take_something_before_the_write_deadline() {
    let mut house = House::with(Limits { disable_short_first_ping: true, ..Limits::default() }, false);
    let mut slow = house.peer("SUB a 1\r\n");
    slow.set_room(10);
    house.peer(&message(600));
    let deadline = slow.session.poll_timeout();
    assert_eq!(deadline, house.now + house.router.limits().write_deadline);
    house.later(Duration::from_secs(10));
    house.tick(|tick| slow.session.handle_timeout(tick));
    assert_eq!(slow.error(), Some(SessionError::WriteDeadline));
    assert_eq!(house.router.totals().counters.slow_deadline, 1);
}

#[test]
fn a_receiver_that_takes_what_was_offered_has_its_time_anew() {
    let mut house = House::new();
    let mut slow = house.peer("SUB a 1\r\n");
    slow.set_room(10);
    house.peer(&message(600));
    house.later(Duration::from_secs(9));
    slow.set_room(usize::MAX);
    house.tick(|tick| slow.session.conn().flush(tick.worker, tick.now));
    house.later(Duration::from_secs(9));
    house.tick(|tick| slow.session.handle_timeout(tick));
    assert_eq!((slow.session.conn().closed(), slow.heard().matches("MSG").count()), (None, 1));
}

#[test]
fn a_producer_waits_for_a_crowded_receiver_and_goes_on_when_it_has_room() {
    let house = House::with(limits(), false);
    let slow = house.peer("SUB a 1\r\n");
    let mut publisher = house.peer("");
    slow.set_room(0);
    house.say(&mut publisher, &message(780));
    let both = format!("{}PING\r\n", message(50));
    let done = house.offer(&mut publisher, both.as_bytes());
    assert!(matches!(done.next, Next::Stalled(until) if until > house.now), "{done:?}");
    assert_eq!(done.used, both.len() - 6, "the message was taken, the PING waits");
    publisher.woken();
    slow.set_room(usize::MAX);
    house.tick(|tick| slow.session.conn().flush(tick.worker, tick.now));
    assert_eq!(publisher.woken(), 1);
    house.say(&mut publisher, "PING\r\n");
    assert!(publisher.heard().starts_with("PONG\r\n"));
    assert_eq!(house.router.totals().counters.stalls, 1);
}

#[test]
fn a_producer_that_waits_goes_on_when_the_receiver_is_cut_off() {
    let house = House::with(limits(), false);
    let slow = house.peer("SUB a 1\r\n");
    slow.set_room(0);
    let (mut waiting, mut last_straw) = (house.peer(""), house.peer(""));
    house.say(&mut last_straw, &message(780));
    for _ in 0..3 {
        assert!(matches!(house.offer(&mut waiting, message(1).as_bytes()).next, Next::Stalled(_)));
    }
    waiting.woken();
    house.offer(&mut last_straw, message(600).as_bytes());
    assert_eq!(slow.session.conn().closed(), Some(CloseReason::SlowConsumerPendingBytes));
    assert_eq!(waiting.woken(), 1, "once, however often it has waited");
}

/// Messages that come together are handed over together, but never so many that a receiver goes from having room
/// to having too much without the producer's having waited.
#[test]
fn a_producer_waits_in_the_middle_of_its_input() {
    for (max_pending, size) in [(1000, 50), (100_000, 400), (3_000_000, 15_000)] {
        let house = House::with(Limits { max_pending, ..Limits::default() }, false);
        let slow = house.peer("SUB a 1\r\n");
        slow.set_room(0);
        let mut publisher = house.peer("");
        let many = message(size).repeat(2 * max_pending / size);
        let done = house.offer(&mut publisher, many.as_bytes());
        assert!(matches!(done.next, Next::Stalled(_)) && done.used < many.len(), "{max_pending}: {done:?}");
        assert_eq!(slow.session.conn().closed(), None, "{max_pending}");
        assert!(slow.session.conn().pending() > max_pending / 4 * 3);
        let mut at = done.used;
        while slow.session.conn().closed().is_none() && at < many.len() {
            at += house.offer(&mut publisher, &many.as_bytes()[at..]).used;
        }
        assert_eq!(slow.session.conn().closed(), Some(CloseReason::SlowConsumerPendingBytes));
    }
}

#[test]
fn a_producer_does_not_wait_longer_than_its_budget() {
    let mut house = House::with(limits(), false);
    let slow = house.peer("SUB a 1\r\n");
    let mut publisher = house.peer("");
    slow.set_room(0);
    house.say(&mut publisher, &message(780));
    let many = message(1).repeat(10);
    let (mut at, mut stalls) = (0, 0);
    let start = house.now;
    while at < many.len() {
        let done = house.offer(&mut publisher, &many.as_bytes()[at..]);
        at += done.used;
        if let Next::Stalled(until) = done.next {
            stalls += 1;
            house.now = until;
        }
    }
    assert!(
        stalls > 0 && house.now - start <= Duration::from_millis(10),
        "{stalls}: {:?}",
        house.now - start
    );
}

/// A receiver with a large socket buffer takes nothing until there is room for a good part of it again, and is
/// waited for all the same; one that never took anything while its output waited is not waited for so long.
#[test]
fn a_producer_waits_by_the_receivers_own_pace() {
    for (pause, waits, not_any_more) in
        [(0, 19, 20), (2, 19, 20), (80, 159, 160), (400, 799, 800), (700, 999, 1000)]
    {
        let mut house = House::with(limits(), false);
        let slow = house.peer("SUB a 1\r\n");
        let mut publisher = house.peer("");
        slow.set_room(0);
        house.say(&mut publisher, &message(900));
        house.say(&mut publisher, "");
        if pause > 0 {
            house.later(Duration::from_millis(pause));
            slow.set_room(10);
            house.tick(|tick| slow.session.conn().flush(tick.worker, tick.now));
        }
        house.later(Duration::from_millis(waits));
        assert!(
            matches!(house.offer(&mut publisher, message(1).as_bytes()).next, Next::Stalled(_)),
            "{pause}: it waits"
        );
        house.later(Duration::from_millis(not_any_more - waits));
        house.say(&mut publisher, "");
        assert!(
            !matches!(house.offer(&mut publisher, message(1).as_bytes()).next, Next::Stalled(_)),
            "{pause}: it waits no more"
        );
    }
}

/// Whoever is slow takes something now and then, a socket buffer's worth at a time.
#[test]
fn a_producer_waits_for_who_is_slow_and_not_for_who_takes_nothing() {
    let mut house = House::with(limits(), false);
    let slow = house.peer("SUB a 1\r\n");
    let mut publisher = house.peer("");
    slow.set_room(0);
    house.say(&mut publisher, &message(780));
    for _ in 0..5 {
        house.later(Duration::from_millis(900));
        slow.set_room(10);
        house.tick(|tick| slow.session.conn().flush(tick.worker, tick.now));
        assert!(matches!(house.offer(&mut publisher, message(1).as_bytes()).next, Next::Stalled(_)));
        house.later(Duration::from_millis(10));
        house.say(&mut publisher, "");
    }
    house.later(Duration::from_millis(1000));
    assert!(!matches!(house.offer(&mut publisher, message(1).as_bytes()).next, Next::Stalled(_)));
    assert_eq!(slow.session.conn().closed(), None);
}

#[test]
fn without_stalling_a_crowded_receiver_misses_messages() {
    let house = House::with(Limits { no_fast_producer_stall: true, ..limits() }, false);
    let slow = house.peer("SUB a 1\r\n");
    let mut publisher = house.peer("");
    slow.set_room(0);
    house.say(&mut publisher, &message(780));
    house.say(&mut publisher, &message(50).repeat(20));
    slow.set_room(usize::MAX);
    house.tick(|tick| slow.session.conn().flush(tick.worker, tick.now));
    assert_eq!(slow.heard().matches("MSG").count(), 1);
    assert_eq!(slow.session.conn().closed(), None);
}

/// Another thread is writing when the connection closes: its driver waits for what is on the way, and must be
/// told when it has left.
#[test]
fn a_driver_that_waits_for_the_last_bytes_is_woken_when_they_have_left() {
    let house = House::new();
    let peer = house.peer("SUB a 1\r\n");
    let conn = peer.session.conn().clone();
    peer.during_next_write(move || {
        conn.close(CloseReason::ClientClosed);
    });
    peer.woken();
    house.peer(&message(5));
    assert_eq!(peer.session.conn().pending(), 0);
    assert_eq!(peer.woken(), 2, "once for the end, and once when everything has left");
}

#[test]
fn what_a_peer_is_told_itself_counts() {
    let house = House::with(limits(), false);
    let mut slow = house.peer("");
    slow.set_room(0);
    house.say(&mut slow, &"PING\r\n".repeat(1000));
    assert_eq!(slow.session.conn().closed(), Some(CloseReason::SlowConsumerPendingBytes));
    assert_eq!(slow.session.conn().pending(), 0, "what waited is given up");
    assert_eq!(house.router.totals().counters.slow_pending, 1);
}
