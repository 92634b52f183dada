//! Accounts see nothing of each other; limits and figures are kept for each.

use std::time::Duration;

use midge_router::{CloseReason, Event, Limits, Refusal, SessionError, Verdict};

use crate::house::{CONNECT, House, MAX_ENDED};

#[test]
fn accounts_share_no_subject() {
    let house = House::with(Limits::default(), true);
    let mut a = house.peer_of("A", "SUB > 1\r\n");
    let b = house.peer_of("B", "SUB > 1\r\nSUB x q 2\r\n");
    let system = house.peer_of("$SYS", "SUB > 1\r\n");
    house.say(&mut a, "PUB x inbox 2\r\nhi\r\n");
    assert_eq!(a.heard(), "MSG x 1 inbox 2\r\nhi\r\n");
    assert_eq!((b.heard().as_str(), system.heard().as_str()), ("", ""));
    house.say(&mut a, "UNSUB 1\r\nSUB inbox 2\r\nPUB x inbox 2\r\nhi\r\n");
    assert!(a.heard().contains("503"), "B's subscription is no responder for A");
}

#[test]
fn each_account_has_its_figures() {
    let house = House::with(Limits::default(), true);
    let mut a = house.peer_of("A", "SUB x 1\r\nSUB x 2\r\n");
    let _b = house.peer_of("B", "SUB x 1\r\n");
    house.say(&mut a, "PUB x 2\r\nhi\r\n");
    let figures = |name: &str| {
        let account = house.router.account(name).unwrap();
        let traffic = house.router.traffic(&account);
        (account.clients(), account.subscriptions(), traffic.in_msgs, traffic.out_msgs, traffic.out_bytes)
    };
    assert_eq!(figures("A"), (1, 2, 1, 2, 4));
    assert_eq!(figures("B"), (1, 1, 0, 0, 0));
    assert_eq!(figures("$G"), (0, 0, 0, 0, 0));
    drop(a);
    assert_eq!(figures("A"), (0, 0, 1, 2, 4));
}

#[test]
fn who_is_refused_or_says_nothing_in_time_is_closed() {
    let mut house = House::with(Limits::default(), true);
    let mut refused = house.stranger();
    house.offer(&mut refused, format!("{CONNECT}PUB a 1\r\nx\r\n").as_bytes());
    house.tick(|tick| refused.session.handle_verdict(Verdict::Refused, tick));
    assert_eq!(refused.session.conn().closed(), Some(CloseReason::AuthenticationViolation));
    assert!(refused.heard().ends_with("-ERR 'Authorization Violation'\r\n"));
    assert_eq!(house.router.totals().counters.traffic.in_msgs, 0, "nothing of it was taken");

    let mut hasty = house.stranger();
    house.say(&mut hasty, "PUB a 1\r\nx\r\n");
    assert!(hasty.heard().ends_with("-ERR 'Authorization Violation'\r\n"));

    let mut silent = house.stranger();
    house.later(Duration::from_secs(2));
    house.tick(|tick| silent.session.handle_timeout(tick));
    assert_eq!(silent.error(), Some(SessionError::AuthTimeout));
    assert!(silent.heard().ends_with("-ERR 'Authentication Timeout'\r\n"));
}

#[test]
fn limits_are_kept() {
    let limits =
        Limits { max_subscriptions: 2, max_subscription_tokens: 3, max_connections: 2, ..Limits::default() };
    let house = House::with(limits, false);
    let mut peer = house.peer("SUB a 1\r\nSUB b.c.d.e 9\r\nSUB b 2\r\nSUB c 3\r\n");
    let heard = peer.heard();
    assert_eq!(
        heard,
        "-ERR 'Permissions Violation for Subscription to \"b.c.d.e\", too many tokens'\r\n-ERR 'maximum subscriptions exceeded'\r\n"
    );
    let events: Vec<_> = std::iter::from_fn(|| peer.session.poll_event()).collect();
    assert!(matches!(
        events[..],
        [Event::Connected, Event::Refused(Refusal::Tokens(_)), Event::Refused(Refusal::TooMany)]
    ));
    assert_eq!(peer.session.conn().closed(), None);
    let _second = house.peer("");
    let third = house.stranger();
    assert_eq!(third.session.conn().closed(), Some(CloseReason::MaxConnectionsExceeded));
    assert!(third.heard().ends_with("-ERR 'maximum connections exceeded'\r\n"));
}

#[test]
fn the_last_connections_are_remembered() {
    let house = House::new();
    for _ in 0..MAX_ENDED + 2 {
        house.peer("SUB a 1\r\n");
    }
    let ended = house.router.ended_connections();
    let cids: Vec<u64> = ended.iter().map(|conn| conn.cid).collect();
    assert_eq!(cids, (3..=MAX_ENDED as u64 + 2).collect::<Vec<_>>());
    assert_eq!((house.router.connection_count(), house.router.clients()), (0, 0));
}

/// Of each connection 32 subscriptions are remembered, and 4096 of all: of the last 128.
#[test]
fn connections_that_ended_earlier_lose_their_subscriptions_first() {
    let house = House::new();
    let subs: String = (0..40).map(|n| format!("SUB a.{n} {n}\r\n")).collect();
    for _ in 0..MAX_ENDED {
        house.peer(&subs);
    }
    let ended = house.router.ended_connections();
    let (bare, whole) = ended.split_at(MAX_ENDED - 128);
    assert!(bare.iter().all(|conn| conn.subscriptions.is_empty() && conn.subscription_count == 40));
    assert!(whole.iter().all(|conn| conn.subscriptions.len() == 32));
}
