//! Who is a member of a cluster, and who is not.

use midge_router::{ClusterSettings, Event, Opening, RouteError, RouteNews, SessionError, Verdict};
use midge_wire::json::PeerInfo;

use crate::house::{House, json};
use crate::route::{CONNECT, comes, info, member, news, pooled, settings};

/// How a server ends that says this.
fn end(settings: ClusterSettings, connect: &str, info: &str) -> (Option<SessionError>, String) {
    let house = House::member(settings);
    let mut peer = comes(&house, connect, info);
    let said = house.told(&peer);
    let err = said.lines().find(|line| line.starts_with("-ERR")).unwrap_or_default().to_owned();
    (peer.error(), err)
}

#[test]
fn whoever_does_not_belong_is_told_why() {
    let refused = |connect: &str, info: &str| end(pooled(), connect, info);
    for (connect, hello, want) in [
        (
            "CONNECT {\"cluster\":\"X\"}\r\n",
            info(""),
            "-ERR 'Rejecting connection, cluster name \"X\" does not match \"C\"'",
        ),
        ("CONNECT {}\r\n", info(""), "-ERR 'Rejecting connection, cluster name \"\" does not match \"C\"'"),
        (
            "CONNECT {\"cluster\":\"_\"}\r\n",
            info(""),
            "-ERR 'Rejecting connection, cluster name \"_\" is reserved'",
        ),
        (
            "CONNECT {\"cluster\":\"C\",\"lang\":\"go\"}\r\n",
            info(""),
            "-ERR 'attempted to connect to route port'",
        ),
        (
            "CONNECT {\"cluster\":\"C\",\"gateway\":\"G\"}\r\n",
            info(""),
            "-ERR 'Rejecting connection from gateway \"G\" on the Route port'",
        ),
        (
            CONNECT,
            info(",\"route_pool_size\":3,\"route_pool_idx\":7"),
            "-ERR 'Invalid route pool index: 7 - pool size is 3'",
        ),
        (
            CONNECT,
            info(",\"route_pool_size\":3,\"route_account\":\"$G\""),
            "-ERR 'No route for account \"$G\"'",
        ),
        (
            CONNECT,
            info(",\"route_pool_size\":3,\"route_account\":\"NOPE\""),
            "-ERR 'Unable to lookup account \"NOPE\": account missing'",
        ),
        (
            CONNECT,
            info(",\"route_account\":\"$SYS\""),
            "-ERR 'Not possible to have a dedicated route for account \"$SYS\" between those servers'",
        ),
        (CONNECT, "INFO {\"server_id\":\"US\"}\r\n".to_owned(), ""),
        (CONNECT, "INFO {\"server_id\":\"X\",\"server_name\":\"us\"}\r\n".to_owned(), ""),
        (CONNECT, "INFO {\"port\":\"x\"}\r\n".to_owned(), ""),
        (
            CONNECT,
            info(",\"cluster\":\"X\""),
            "-ERR 'Rejecting connection, cluster name \"X\" does not match \"C\"'",
        ),
        (CONNECT, info("") + "RS+ $G a..b\r\n", "-ERR 'Invalid Subscription'"),
        (CONNECT, info("") + "JUNK\r\n", "-ERR 'Unknown Protocol Operation'"),
        (CONNECT, info("") + "-ERR 'whatever'\r\n", ""),
    ] {
        let (error, said) = refused(connect, &hello);
        assert!(error.is_some(), "{connect}{hello}");
        assert_eq!(said, want, "{connect}{hello}");
    }
}

#[test]
fn who_says_nothing_of_itself_is_nobody() {
    let house = House::member(settings());
    let mut peer = house.server(None);
    house.say(&mut peer, &info(""));
    assert_eq!(peer.error(), Some(SessionError::Authorization));
    let mut peer = house.server(None);
    house.say(&mut peer, CONNECT);
    assert!(matches!(peer.session.poll_event(), Some(Event::Authenticate(_))));
    house.tick(|tick| peer.session.handle_verdict(Verdict::Refused, tick));
    assert!(peer.heard().ends_with("-ERR 'Authorization Violation'\r\n"));
    assert_eq!(house.router.cluster().unwrap().member_count(), 0);
}

#[test]
fn the_first_connection_for_a_place_stays() {
    let house = House::member(pooled());
    let pool = ",\"route_pool_size\":3";
    let _first = member(&house, pool);
    let mut second = comes(&house, CONNECT, &info(pool));
    assert_eq!(second.error(), Some(RouteError::Duplicate("THEM".into()).into()));
    let _other_place = member(&house, &format!("{pool},\"route_pool_idx\":1"));
    let _system = member(&house, &format!("{pool},\"route_account\":\"$SYS\""));
    assert_eq!(house.router.cluster().unwrap().route_count(), 3);
    let opening = |slot, account: Option<&str>| Opening { slot, account: account.map(str::to_owned) };
    let has = |opening| house.router.cluster().unwrap().has("THEM", &opening);
    assert_eq!(
        [has(opening(1, None)), has(opening(2, None)), has(opening(0, Some("$SYS")))],
        [true, false, true]
    );
}

#[test]
fn a_made_up_name_gives_way() {
    let house = House::member(ClusterSettings { name: None, ..settings() });
    let cluster = house.router.cluster().unwrap();
    assert_eq!(cluster.name(), "US");
    let mut less = comes(&house, "CONNECT {\"cluster\":\"A\",\"cluster_dynamic\":true}\r\n", &info(""));
    assert!(
        matches!(less.error(), Some(SessionError::Route(RouteError::ClusterName { .. }))),
        "it must give way"
    );
    let peer = comes(&house, "CONNECT {\"cluster\":\"GIVEN\"}\r\n", &info(""));
    assert_eq!((peer.session.conn().closed(), cluster.name().as_str()), (None, "GIVEN"));
    let mut other = comes(&house, "CONNECT {\"cluster\":\"OTHER\"}\r\n", &info(""));
    assert!(matches!(other.error(), Some(SessionError::Route(RouteError::ClusterName { .. }))));
}

#[test]
fn a_made_up_name_gives_way_even_among_those_who_share_it() {
    let house = House::member(ClusterSettings { name: None, ..settings() });
    let cluster = house.router.cluster().unwrap();
    let mut friend = comes(&house, "CONNECT {\"cluster\":\"US\",\"cluster_dynamic\":true}\r\n", &info(""));
    assert_eq!(friend.session.conn().closed(), None);
    let other = info("").replace("THEM", "MORE").replace("them", "more");
    let more = comes(&house, "CONNECT {\"cluster\":\"Z\",\"cluster_dynamic\":true}\r\n", &other);
    assert_eq!((more.session.conn().closed(), cluster.name().as_str()), (None, "Z"));
    house.tick(|tick| friend.session.handle_revision(tick));
    assert!(
        matches!(friend.error(), Some(SessionError::Route(RouteError::ClusterName { .. }))),
        "it must come again, by the new name"
    );
    // No name is none that could be given way to.
    let mut nameless = comes(&house, "CONNECT {}\r\n", &info(""));
    assert!(matches!(nameless.error(), Some(SessionError::Route(RouteError::ClusterName { .. }))));
    assert_eq!(cluster.name(), "Z");
}

#[test]
fn no_pool_is_larger_than_makes_sense() {
    let house = House::member(pooled());
    let huge = ",\"route_pool_size\":4294967295,\"route_pool_idx\":4294967294";
    let mut peer = comes(&house, CONNECT, &info(huge));
    assert!(matches!(peer.error(), Some(SessionError::Route(RouteError::PoolIndex { .. }))));
}

#[test]
fn a_newcomer_is_told_of_to_those_who_are_there() {
    let house = House::member(settings());
    let mut first = member(&house, "");
    let second = comes(
        &house,
        CONNECT,
        "INFO {\"server_id\":\"TWO\",\"server_name\":\"two\",\"port\":7,\"nonce\":\"n\"}\r\n",
    );
    let told: PeerInfo = json(&house.told(&first), "INFO ");
    assert_eq!(
        (told.server_id.as_str(), told.ip.as_str(), told.nonce.as_str()),
        ("TWO", "nats-route://10.0.0.9:7/", "")
    );
    assert!(!house.told(&second).contains("THEM"), "it is for those to come");
    house.say(&mut first, "INFO {\"server_id\":\"THREE\",\"ip\":\"nats-route://10.0.0.3:6222/\"}\r\n");
    house.say(&mut first, "INFO {\"server_id\":\"GW\",\"gateway\":\"EAST\"}\r\n");
    house.say(&mut first, &info(",\"ldm\":true,\"connect_urls\":[\"a:1\"]"));
    let news = news(&mut first);
    assert!(
        matches!(&news[..], [RouteNews::Joined { .. }, RouteNews::Heard(info), RouteNews::Changed] if info.server_id == "THREE"),
        "{news:?}"
    );
    assert_eq!(house.router.cluster().unwrap().client_urls().0, Vec::<String>::new(), "it is about to leave");
    let quiet =
        comes(&house, CONNECT, "INFO {\"server_id\":\"Q\",\"server_name\":\"q\",\"gossip_mode\":1}\r\n");
    assert_eq!((house.told(&first).as_str(), quiet.session.conn().closed()), ("", None));
}
