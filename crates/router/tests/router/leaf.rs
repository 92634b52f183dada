//! Leafnode connections, from both ends.

use std::sync::Arc;

use midge_router::{
    Event, Grant, Leaf, LeafDial, LeafError, LeafNews, LeafRules, LeafSettings, Next, PermissionRules,
    Permissions, ResponseRules, SessionError, SubjectRules, Verdict,
};
use midge_wire::json::{Credentials, PeerConnect, PeerInfo};

use crate::house::{House, Peer, json};
use crate::route::{self, sorted};

fn settings() -> LeafSettings {
    let info = PeerInfo {
        server_id: "US".into(),
        server_name: "us".into(),
        version: "2.15.1".into(),
        headers: true,
        ..PeerInfo::default()
    };
    LeafSettings { info, cluster: "us".into(), ..LeafSettings::default() }
}

fn hub() -> House {
    House::hub(settings(), None)
}

fn dial(rules: LeafRules) -> LeafDial {
    let login = |nonce: &str| Credentials {
        user: "u".into(),
        sig: format!("signed {nonce}"),
        ..Credentials::default()
    };
    LeafDial { rules, login: Arc::new(login) }
}

const HELLO: &str = "CONNECT {\"server_id\":\"L\",\"name\":\"leaf\",\"cluster\":\"LC\",\"headers\":true}\r\n";
const FIRST: &str = "INFO {\"server_id\":\"H\",\"server_name\":\"hub\",\"client_id\":5,\"nonce\":\"n\",\"headers\":true,\"info_on_connect\":true,\"leafnode_urls\":[\"h:1\"]}\r\n";

fn second(more: &str) -> String {
    format!(
        "INFO {{\"server_id\":\"H\",\"server_name\":\"hub\",\"headers\":true,\"connect_info\":true,\"remote_account\":\"HA\"{more}}}\r\n"
    )
}

/// A leafnode that says `hello` and is let in with this.
fn comes(house: &House, hello: &str, grant: Grant) -> Peer<Leaf> {
    let mut peer = house.leaf(None);
    assert_eq!(house.offer(&mut peer, hello.as_bytes()).next, Next::Verdict);
    assert!(matches!(peer.session.poll_event(), Some(Event::Authenticate(_))));
    house.tick(|tick| peer.session.handle_verdict(Verdict::Welcome(grant.into()), tick));
    peer
}

/// A leafnode of the global account, of that cluster.
fn spoke(house: &House, cluster: &str) -> Peer<Leaf> {
    let hello = format!(
        "CONNECT {{\"server_id\":\"{cluster}1\",\"name\":\"{cluster}1\",\"cluster\":\"{cluster}\",\"headers\":true}}\r\n"
    );
    let peer = comes(house, &hello, Grant::of(house.router.global_account()));
    house.told(&peer);
    peer
}

/// A hub with which the global account is shared.
fn at_hub(house: &House, rules: LeafRules, more: &str) -> Peer<Leaf> {
    let mut peer = house.leaf(Some((dial(rules), "$G")));
    house.say(&mut peer, FIRST);
    house.say(&mut peer, &second(more));
    assert_eq!(peer.session.conn().closed(), None);
    house.told(&peer);
    peer
}

/// Without the subject by which loops are found.
fn without_loop(told: &str) -> String {
    told.lines().filter(|line| !line.contains("$LDS.")).map(|line| format!("{line}\r\n")).collect()
}

fn loop_subject(told: &str) -> String {
    told.lines()
        .find_map(|line| line.strip_prefix("LS+ ").filter(|subject| subject.starts_with("$LDS.")))
        .unwrap()
        .to_owned()
}

#[test]
fn a_leafnode_is_greeted_let_in_and_told_what_is_wanted() {
    let house = hub();
    let _client = house.peer_of("A", "SUB a 1\r\nSUB q g 2\r\nSUB q g 3\r\n");
    let _other = house.peer("SUB elsewhere 1\r\n");
    let mut peer = house.leaf(None);
    let first: PeerInfo = json(&peer.heard(), "INFO ");
    assert!(
        first.client_id > 0 && first.info_on_connect && first.auth_required && first.leafnode_urls.is_some()
    );
    assert_eq!((first.nonce.as_str(), first.connect_info), ("nonce", false));
    house.say(&mut peer, HELLO);
    assert!(matches!(peer.session.poll_event(), Some(Event::Authenticate(_))));
    let rules = PermissionRules {
        subscribe: SubjectRules { allow: Some(vec!["down.>".into()]), deny: Vec::new() },
        ..PermissionRules::default()
    };
    let grant = Grant {
        permissions: Some(Arc::new(Permissions::new(rules))),
        ..Grant::of(house.router.add_account("A"))
    };
    house.tick(|tick| peer.session.handle_verdict(Verdict::Welcome(grant.into()), tick));
    let told = house.told(&peer);
    let second: PeerInfo = json(&told, "INFO ");
    assert_eq!((second.remote_account.as_str(), second.connect_info), ("A", true));
    assert_eq!(second.import.unwrap().allow.unwrap(), ["down.>"]);
    let (_, told) = told.split_once("\r\n").unwrap();
    assert_eq!(sorted(&without_loop(told)), ["LS+ a", "LS+ q g 2"]);
    assert_eq!(loop_subject(told).len(), "$LDS.".len() + 22);
    assert!(matches!(peer.session.poll_event(), Some(Event::Leaf(LeafNews::Joined { id, .. })) if id == "L"));
    assert!(matches!(peer.session.poll_event(), Some(Event::Connected)));
}

#[test]
fn a_hub_is_told_who_this_is_and_what_is_wanted_here() {
    let house = hub();
    let _client = house.peer("SUB a 1\r\n");
    let rules = LeafRules { deny_imports: vec!["x".into()], ..LeafRules::default() };
    let mut peer = house.leaf(Some((dial(rules), "$G")));
    assert_eq!(peer.heard(), "", "the hub speaks first");
    house.say(&mut peer, FIRST);
    let connect: PeerConnect = json(&peer.heard(), "CONNECT ");
    assert_eq!((connect.user.as_str(), connect.sig.as_str(), connect.name.as_str()), ("u", "signed n", "us"));
    assert_eq!((connect.cluster.as_str(), connect.remote_account.as_str()), ("us", "$G"));
    assert_eq!(connect.deny_pub, ["x"]);
    house.say(&mut peer, &second(""));
    let told = house.told(&peer);
    assert_eq!(without_loop(&told), "LS+ a\r\n");
    assert!(matches!(peer.session.poll_event(), Some(Event::Leaf(LeafNews::Urls(urls))) if urls == ["h:1"]));
    // What another server of the hub's cluster changes later.
    house.say(&mut peer, "INFO {\"leafnode_urls\":[\"h:1\",\"h:2\"]}\r\n");
    let urls = std::iter::from_fn(|| peer.session.poll_event()).find_map(|event| match event {
        Event::Leaf(LeafNews::Urls(urls)) => Some(urls),
        _ => None,
    });
    assert_eq!(urls.unwrap().len(), 2);
}

#[test]
fn messages_and_interest_cross_both_ways() {
    let house = hub();
    let mut leaf = spoke(&house, "LC");
    let mut client = house.peer("SUB here 1\r\nSUB work g 2\r\n");
    assert_eq!(house.told(&leaf), "LS+ here\r\nLS+ work g 1\r\n");
    house.say(&mut leaf, "LS+ there\r\nLS+ far g 2\r\n");
    let all = house.router.leaves().unwrap().all(&house.router, true);
    assert_eq!((all[0].subscription_count, all[0].subscriptions.len()), (2, 2));
    house.say(
        &mut client,
        "PUB there 1\r\nx\r\nHPUB there r 12 13\r\nNATS/1.0\r\n\r\ny\r\nPUB far r 1\r\nz\r\n",
    );
    assert_eq!(
        leaf.heard(),
        "LMSG there 1\r\nx\r\nHMSG there r 12 13\r\nNATS/1.0\r\n\r\ny\r\nLMSG far + r g 1\r\nz\r\n"
    );
    house.say(&mut leaf, "LMSG here 1\r\na\r\nLMSG here r 1\r\nb\r\nLMSG work 1\r\nc\r\nLMSG work | g 1\r\nd\r\nHMSG here 12 13\r\nNATS/1.0\r\n\r\ne\r\n");
    assert_eq!(
        client.heard(),
        "MSG here 1 1\r\na\r\nMSG here 1 r 1\r\nb\r\nMSG work 2 1\r\nd\r\nHMSG here 1 12 13\r\nNATS/1.0\r\n\r\ne\r\n"
    );
    assert_eq!(leaf.heard(), "", "nothing comes back");
    house.say(&mut leaf, "LS- there\r\n");
    house.say(&mut client, "SUB inbox 9\r\nPUB there inbox 0\r\n\r\n");
    assert!(client.heard().contains("503"));
}

#[test]
fn leafnodes_of_one_cluster_do_not_hear_of_each_other() {
    let house = hub();
    let [mut one, two, mut other] = ["LC", "LC", "XC"].map(|cluster| spoke(&house, cluster));
    house.say(&mut one, "LS+ a\r\nLS+ q g 2\r\n");
    assert_eq!((house.told(&one).as_str(), house.told(&two).as_str()), ("", ""));
    assert_eq!(house.told(&other), "LS+ a\r\nLS+ q g 2\r\n");
    house.say(&mut other, "LS+ b\r\nLS+ q g 3\r\n");
    assert_eq!(house.told(&one), "LS+ b\r\nLS+ q g 3\r\n");
    assert_eq!(house.told(&two), "LS+ b\r\nLS+ q g 3\r\n");
    house.say(&mut other, "LMSG a 1\r\nx\r\nLMSG b 1\r\ny\r\n");
    assert_eq!(one.heard(), "LMSG a 1\r\nx\r\n");
    let mut two = two;
    house.say(&mut two, "LMSG a 1\r\nx\r\nLMSG q | g 1\r\nz\r\n");
    assert_eq!((one.heard().as_str(), other.heard().as_str()), ("", "LMSG q | g 1\r\nz\r\n"));
    drop(other);
    assert_eq!(sorted(&house.told(&two)), ["LS- b", "LS- q g"]);
}

#[test]
fn a_leafnode_tells_its_hub_of_its_own_clients_and_leafnodes_only() {
    let house = House::hub(settings(), Some(route::settings()));
    let mut route = route::member(&house, ",\"lnoc\":true,\"lnocu\":true");
    let mut hub = at_hub(&house, LeafRules::default(), "");
    let mut leaf = spoke(&house, "LC");
    house.say(&mut route, "RS+ $G on.route\r\n");
    house.say(&mut hub, "LS+ at.hub\r\n");
    house.say(&mut leaf, "LS+ at.leaf\r\n");
    let mut client = house.peer("SUB here 1\r\n");
    assert_eq!(house.told(&hub), "LS+ at.leaf\r\nLS+ here\r\n");
    assert_eq!(house.told(&leaf), "LS+ on.route\r\nLS+ at.hub\r\nLS+ here\r\n");
    assert_eq!(house.told(&route), "LS+ LC $G at.leaf\r\nRS+ $G here\r\n");
    // And messages by the same table.
    house.say(&mut route, "RS+ $G all\r\n");
    house.say(&mut hub, "LS+ all\r\n");
    house.say(&mut leaf, "LS+ all\r\n");
    let _all = house.peer("SUB all 1\r\n");
    for who in [
        &route.heard(),
        &hub.heard(),
        &leaf.heard(),
        &house.told(&route),
        &house.told(&hub),
        &house.told(&leaf),
    ] {
        assert!(!who.contains("MSG"));
    }
    let heard = |route: &Peer<_>, hub: &Peer<Leaf>, leaf: &Peer<Leaf>| {
        [route.heard(), hub.heard(), leaf.heard()].map(|heard| heard.matches("MSG").count())
    };
    house.say(&mut client, "PUB all 1\r\nx\r\n");
    assert_eq!(heard(&route, &hub, &leaf), [1, 1, 1], "from a client");
    house.say(&mut route, "RMSG $G all 1\r\nx\r\n");
    assert_eq!(heard(&route, &hub, &leaf), [0, 0, 1], "from a route");
    house.say(&mut hub, "LMSG all 1\r\nx\r\n");
    assert_eq!(heard(&route, &hub, &leaf), [0, 0, 1], "from a hub");
    house.say(&mut leaf, "LMSG all 1\r\nx\r\n");
    assert_eq!(route.heard(), "LMSG LC $G all 0 1\r\nx\r\n");
    assert_eq!(heard(&route, &hub, &leaf), [0, 1, 0], "from a leafnode");
}

#[test]
fn what_leafnodes_want_is_told_apart_where_a_route_knows_of_that() {
    let house = House::hub(settings(), Some(route::settings()));
    let info = |id: &str, more: &str| {
        format!("INFO {{\"server_id\":\"{id}\",\"server_name\":\"{id}\",\"headers\":true{more}}}\r\n")
    };
    let mut old = route::comes(&house, route::CONNECT, &info("OLD", ""));
    let half = route::comes(&house, route::CONNECT, &info("HALF", ",\"lnoc\":true"));
    let mut new = route::comes(&house, route::CONNECT, &info("NEW", ",\"lnoc\":true,\"lnocu\":true"));
    [house.told(&old), house.told(&half), house.told(&new)].iter().for_each(drop);
    let mut leaf = spoke(&house, "LC");
    house.say(&mut leaf, "LS+ s\r\nLS+ q g 2\r\nLS- s\r\nLS- q g\r\n");
    assert_eq!(house.told(&old), "RS+ $G s\r\nRS+ $G q g 2\r\nRS- $G s\r\nRS- $G q g\r\n");
    assert_eq!(house.told(&half), "LS+ LC $G s\r\nLS+ LC $G q g 2\r\nLS- $G s\r\nLS- $G q g\r\n");
    assert_eq!(house.told(&new), "LS+ LC $G s\r\nLS+ LC $G q g 2\r\nLS- LC $G s\r\nLS- LC $G q g\r\n");
    // A cluster's leafnode at another hub gets nothing of its own cluster.
    house.say(&mut new, "LS+ LC $G x\r\nLS+ XC $G y\r\n");
    house.say(&mut old, "RS+ $G x\r\n");
    assert_eq!(sorted(&house.told(&leaf)), ["LS+ x", "LS+ y"]);
    house.say(&mut leaf, "LMSG x 1\r\na\r\nHMSG y r 12 13\r\nNATS/1.0\r\n\r\nb\r\n");
    assert_eq!(new.heard(), "LMSG LC $G y r 12 13\r\nNATS/1.0\r\n\r\nb\r\n");
    assert_eq!(old.heard(), "RMSG $G x 1\r\na\r\n");
    let receiver = house.peer("SUB y 1\r\n");
    house.say(&mut leaf, "LS+ z\r\nLS+ z2\r\n");
    house.say(
        &mut new,
        "LMSG LC $G z 0 1\r\na\r\nLMSG XC $G z 0 1\r\nb\r\nLMSG XC $G y 0 1\r\nc\r\nLS- XC $G y\r\n",
    );
    assert_eq!(leaf.heard(), "LMSG z 1\r\nb\r\n", "not of its own cluster");
    assert_eq!(receiver.heard(), "MSG y 1 1\r\nc\r\n");
}

#[test]
fn members_behind_leafnodes_come_last() {
    let house = House::hub(settings(), Some(route::settings()));
    let mut route = route::member(&house, "");
    let mut leaf = spoke(&house, "LC");
    house.say(&mut leaf, "LS+ work g 5\r\n");
    let mut publisher = house.peer("");
    let mut count = |leaf: &Peer<Leaf>, route: &Peer<_>| {
        house.say(&mut publisher, &"PUB work 0\r\n\r\n".repeat(50));
        [leaf.heard().matches("| g").count(), route.heard().matches("| g").count()]
    };
    assert_eq!(count(&leaf, &route), [50, 0]);
    house.say(&mut route, "RS+ $G work g 1\r\n");
    assert_eq!(count(&leaf, &route), [0, 50]);
    house.say(&mut route, "RMSG $G work | g 1\r\nx\r\n");
    assert!(
        leaf.heard().ends_with("LMSG work | g 1\r\nx\r\n"),
        "what came by a route may go on to a leafnode"
    );
}

#[test]
fn a_loop_is_found_at_both_ends() {
    let house = hub();
    let leaf = comes(&house, HELLO, Grant::of(house.router.global_account()));
    let own = loop_subject(&house.told(&leaf));
    let want = SessionError::Leaf(LeafError::Loop("$G".into()));
    let mut other = spoke(&house, "XC");
    house.say(&mut other, &format!("LS+ {own}\r\n"));
    assert_eq!(other.error(), Some(want.clone()));
    assert!(other.heard().ends_with(
        "-ERR 'Loop detected for leafnode account=\"$G\". Delaying attempt to reconnect for 30s'\r\n"
    ));
    let mut hub = at_hub(&house, LeafRules::default(), "");
    house.say(&mut hub, &format!("LS+ {own}\r\n"));
    assert_eq!(hub.error(), Some(want));
    // Somebody else's goes on to those for whom it may be a loop.
    let mut third = spoke(&house, "YC");
    house.told(&leaf);
    house.say(&mut third, "LS+ $LDS.somebody\r\n");
    assert_eq!(house.told(&leaf), "LS+ $LDS.somebody\r\n");
}

#[test]
fn the_same_leafnode_again_takes_the_place_of_the_first() {
    let house = hub();
    let hello =
        "CONNECT {\"server_id\":\"L\",\"name\":\"leaf\",\"cluster\":\"LC\",\"remote_account\":\"A\"}\r\n";
    let grant = || Grant::of(house.router.global_account());
    let mut first = comes(&house, hello, grant());
    // It was started anew, and has another id.
    let second = comes(&house, &hello.replace("\"L\"", "\"M\""), grant());
    let other = comes(&house, &hello.replace("\"A\"", "\"B\""), grant());
    house.tick(|tick| first.session.handle_revision(tick));
    assert_eq!(first.error(), Some(LeafError::Duplicate.into()));
    assert!(first.heard().ends_with("-ERR 'Duplicate Remote LeafNode Connection'\r\n"));
    assert_eq!((second.session.conn().is_revised(), other.session.conn().is_revised()), (false, false));
    drop(first);
    assert_eq!(house.router.leaves().unwrap().count(), 2);
}

#[test]
fn whoever_is_no_leafnode_is_told_why() {
    let house = House::hub(LeafSettings { min_version: Some([2, 10, 0]), ..settings() }, None);
    for (hello, want) in [
        ("{\"lang\":\"go\"}", "attempted to connect to leaf node port"),
        ("{\"gateway\":\"G\"}", "Rejecting connection from gateway \"G\" on the leafnode port"),
        ("{\"cluster\":\"a b\",\"version\":\"2.10.0\"}", "cluster name cannot contain spaces"),
        ("{\"cluster\":\"_\",\"version\":\"2.10.0\"}", "cluster name is reserved"),
        ("{\"cluster\":\"us\",\"version\":\"2.10.0\"}", "remote leafnode has same cluster name"),
        ("{\"version\":\"2.9.10\"}", "connection rejected since minimum version required is \"2.10.0\""),
        ("{}", "connection rejected since minimum version required is \"2.10.0\""),
    ] {
        let peer = comes(&house, &format!("CONNECT {hello}\r\n"), Grant::of(house.router.global_account()));
        assert!(peer.heard().ends_with(&format!("-ERR '{want}'\r\n")), "{hello}");
        assert!(peer.session.conn().closed().is_some(), "{hello}");
    }
    let mut peer = house.leaf(None);
    house.say(&mut peer, "PING\r\n");
    assert_eq!(peer.error(), Some(SessionError::Authorization));
    assert_eq!(house.router.leaves().unwrap().count(), 0);
    // What was dialled is a port for clients, or says nothing.
    let mut peer = house.leaf(Some((dial(LeafRules::default()), "$G")));
    house.say(&mut peer, "INFO {\"server_id\":\"H\"}\r\n");
    assert_eq!(peer.error(), Some(LeafError::NoHub.into()));
    let mut late = House::hub(settings(), None);
    let mut peer = late.leaf(Some((dial(LeafRules::default()), "$G")));
    late.say(&mut peer, FIRST);
    late.now = peer.session.poll_timeout();
    late.tick(|tick| peer.session.handle_timeout(tick));
    assert!(peer.heard().ends_with("-ERR 'Stale Leaf Node Connection - Closing'\r\n"));
}

#[test]
fn what_a_leafnode_may_not_do_is_not_done() {
    let house = hub();
    let rules = PermissionRules {
        publish: SubjectRules { allow: Some(vec!["up.>".into()]), deny: Vec::new() },
        subscribe: SubjectRules { allow: Some(vec!["down.>".into()]), deny: Vec::new() },
        responses: None,
    };
    let grant = Grant {
        permissions: Some(Arc::new(Permissions::new(rules))),
        ..Grant::of(house.router.global_account())
    };
    let hello = "CONNECT {\"name\":\"l\",\"headers\":true,\"deny_pub\":[\"down.not\"]}\r\n";
    let mut client = house.peer("SUB up.a 1\r\nSUB down.a 2\r\n");
    let leaf = comes(&house, hello, grant.clone());
    let told = house.told(&leaf);
    assert_eq!(
        sorted(&told)
            .into_iter()
            .filter(|line| line.starts_with("LS+ up") || line.starts_with("LS+ down"))
            .collect::<Vec<_>>(),
        ["LS+ up.a"]
    );
    let mut leaf = leaf;
    // By this, loops are found, whatever is permitted.
    house.say(&mut leaf, "LS+ $LDS.somebody\r\n");
    assert_eq!(leaf.session.conn().closed(), None);
    house.say(&mut leaf, "LS+ down.b\r\nLS+ *.c\r\nLMSG up.a 1\r\nx\r\n");
    house.say(&mut client, "PUB down.b 1\r\na\r\nPUB down.c 1\r\nb\r\nPUB other.c 1\r\nc\r\n");
    assert_eq!(leaf.heard(), "LMSG down.b 1\r\na\r\nLMSG down.c 1\r\nb\r\n");
    for (says, want) in [
        ("LS+ bad.b\r\n", "Permissions Violation for Subscription to \"bad.b\""),
        ("LS+ down.not\r\n", "Permissions Violation for Subscription to \"down.not\""),
        ("LS+ $KV.b.k\r\n", "Permissions Violation for Subscription to \"$KV.b.k\""),
        ("LMSG down.a 1\r\nx\r\n", "Permissions Violation for Publish to \"down.a\""),
    ] {
        let mut leaf = comes(&house, hello, grant.clone());
        house.say(&mut leaf, says);
        assert!(leaf.heard().ends_with(&format!("-ERR '{want}'\r\n")), "{says}");
        assert!(leaf.session.conn().closed().is_some(), "{says}");
    }
    assert_eq!(client.heard(), "MSG up.a 1 1\r\nx\r\n");
}

#[test]
fn a_leafnode_may_answer_what_it_was_asked() {
    let house = hub();
    let rules = PermissionRules {
        publish: SubjectRules { allow: Some(Vec::new()), deny: Vec::new() },
        subscribe: SubjectRules { allow: Some(vec!["service".into()]), deny: Vec::new() },
        responses: Some(ResponseRules { max: Some(1), expires: None }),
    };
    let permissions = Some(Arc::new(Permissions::new(rules)));
    let grant = Grant { permissions, ..Grant::of(house.router.global_account()) };
    let mut client = house.peer("SUB inbox.* 1\r\n");
    let mut leaf = comes(&house, HELLO, grant);
    house.say(&mut leaf, "LS+ service\r\n");
    house.told(&leaf);
    house.say(&mut client, "PUB service inbox.a 1\r\nx\r\n");
    assert_eq!(leaf.heard(), "LMSG service inbox.a 1\r\nx\r\n");
    house.say(&mut leaf, "LMSG inbox.a 2\r\nok\r\n");
    assert_eq!((client.heard().as_str(), leaf.session.conn().closed()), ("MSG inbox.a 1 2\r\nok\r\n", None));
    house.say(&mut leaf, "LMSG inbox.b 2\r\nno\r\n");
    assert!(leaf.session.conn().closed().is_some(), "nobody asked for that");
}

#[test]
fn a_leafnode_keeps_what_its_rules_and_its_hub_deny() {
    let house = hub();
    let rules = LeafRules {
        deny_imports: vec!["no.in".into()],
        deny_exports: vec!["no.out".into()],
        ..LeafRules::default()
    };
    let mut hub =
        at_hub(&house, rules, ",\"export\":{\"deny\":[\"up.not\"]},\"import\":{\"deny\":[\"down.not\"]}");
    let mut client = house.peer("SUB no.in 1\r\nSUB yes 2\r\nSUB down.not 3\r\nSUB $KV.b.k 4\r\n");
    assert_eq!(house.told(&hub), "LS+ yes\r\n");
    house.say(&mut hub, "LS+ >\r\n");
    house.say(
        &mut client,
        "PUB no.out 1\r\na\r\nPUB up.not 1\r\nb\r\nPUB $JS.API.INFO 1\r\nc\r\nPUB ok 1\r\nd\r\n",
    );
    assert_eq!(hub.heard(), "LMSG ok 1\r\nd\r\n");
    house.say(&mut hub, "LMSG no.in 1\r\na\r\nLMSG down.not 1\r\nb\r\nLMSG yes 1\r\nc\r\n");
    assert_eq!(client.heard(), "MSG yes 2 1\r\nc\r\n");
    assert_eq!(hub.session.conn().closed(), None, "the hub does not know better");
}

#[test]
fn the_one_who_dials_may_be_the_hub() {
    let house = hub();
    let mut down = at_hub(&house, LeafRules { is_hub: true, ..LeafRules::default() }, "");
    let mut leaf = spoke(&house, "LC");
    house.say(&mut leaf, "LS+ a\r\n");
    assert_eq!(house.told(&down), "LS+ a\r\n");
    house.say(&mut down, "LS+ b\r\n");
    assert_eq!(house.told(&leaf), "LS+ b\r\n");
    // And the one who is dialled may not be.
    let other = hub();
    let hello = "CONNECT {\"name\":\"h\",\"is_hub\":true}\r\n";
    let up = comes(&other, hello, Grant::of(other.router.global_account()));
    other.told(&up);
    let mut second = at_hub(&other, LeafRules::default(), "");
    other.say(&mut second, "LS+ c\r\n");
    assert_eq!(other.told(&up), "", "what a hub wants is not told to another");
}

#[test]
fn an_isolated_leafnode_hears_of_no_other() {
    let house = hub();
    let hello = "CONNECT {\"name\":\"i\",\"isolate\":true}\r\n";
    let isolated = comes(&house, hello, Grant::of(house.router.global_account()));
    house.told(&isolated);
    let mut leaf = spoke(&house, "LC");
    house.say(&mut leaf, "LS+ a\r\n");
    let _client = house.peer("SUB b 1\r\n");
    assert_eq!(house.told(&isolated), "LS+ b\r\n");
}

/// What comes by a way where groups are apart is for a member of each group that is listed, or for those who are in none; what
/// comes by any other is for both.
#[test]
fn groups_apart_get_what_is_theirs_and_nobody_else_does() {
    for (groups_apart, with_queue) in [(true, ""), (false, "MSG work 1 1\r\nd\r\n")] {
        let house = hub();
        let client = house.peer("SUB work 1\r\nSUB work g 2\r\n");
        let mut bridge = house.leaf_by(None, midge_router::Entrance { groups_apart, ..Default::default() });
        let hello = "CONNECT {\"server_id\":\"B\",\"name\":\"b\",\"headers\":true,\"is_hub\":true}\r\n";
        assert_eq!(house.offer(&mut bridge, hello.as_bytes()).next, Next::Verdict);
        let grant = Grant::of(house.router.global_account());
        house.tick(|tick| bridge.session.handle_verdict(Verdict::Welcome(grant.into()), tick));
        house.told(&bridge);
        house.say(&mut bridge, "LMSG work 1\r\nc\r\n");
        assert_eq!(client.heard(), "MSG work 1 1\r\nc\r\n");
        house.say(&mut bridge, "LMSG work | g 1\r\nd\r\n");
        assert_eq!(client.heard(), format!("{with_queue}MSG work 2 1\r\nd\r\n"));
        drop(client);
    }
}
