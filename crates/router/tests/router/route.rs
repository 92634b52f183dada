//! Routes: what a server says to others of its cluster, and does with what they say.

use midge_router::{
    ClusterSettings, Dial, Event, Next, Opening, Route, RouteError, RouteNews, SessionError, Verdict,
};
use midge_router::{Entrance, Grant, SubjectRules};
use midge_testkit::alloc::allocations;
use midge_wire::json::{PeerConnect, PeerInfo};

use crate::house::{House, Peer, json};

pub(crate) fn settings() -> ClusterSettings {
    let info = PeerInfo {
        server_id: "US".into(),
        server_name: "us".into(),
        proto: 2,
        headers: true,
        host: "10.0.0.1".into(),
        port: 6222,
        ..PeerInfo::default()
    };
    ClusterSettings { name: Some("C".into()), info, ..ClusterSettings::default() }
}

pub(crate) fn pooled() -> ClusterSettings {
    ClusterSettings { pool_size: 3, ..settings() }
}

pub(crate) const CONNECT: &str = "CONNECT {\"cluster\":\"C\"}\r\n";

pub(crate) fn info(more: &str) -> String {
    format!(
        "INFO {{\"server_id\":\"THEM\",\"server_name\":\"them\",\"headers\":true,\"port\":6222{more}}}\r\n"
    )
}

/// Lets a server in that has said CONNECT.
pub(crate) fn welcome(house: &House, peer: &mut Peer<Route>) {
    assert!(matches!(peer.session.poll_event(), Some(Event::Authenticate(_))));
    let grant = Grant::of(house.router.global_account());
    house.tick(|tick| peer.session.handle_verdict(Verdict::Welcome(grant.into()), tick));
}

/// A server that has come and says `connect` and `info`.
pub(crate) fn comes(house: &House, connect: &str, info: &str) -> Peer<Route> {
    let_in(house, house.server(None), connect, info)
}

fn let_in(house: &House, mut peer: Peer<Route>, connect: &str, info: &str) -> Peer<Route> {
    assert_eq!(house.offer(&mut peer, connect.as_bytes()).next, Next::Verdict);
    welcome(house, &mut peer);
    if peer.session.conn().closed().is_none() {
        house.say(&mut peer, info);
    }
    peer
}

/// A member that has come.
pub(crate) fn member(house: &House, more: &str) -> Peer<Route> {
    let peer = comes(house, CONNECT, &info(more));
    assert_eq!(peer.session.conn().closed(), None, "{more}");
    house.told(&peer);
    peer
}

pub(crate) fn news(peer: &mut Peer<Route>) -> Vec<RouteNews> {
    std::iter::from_fn(|| peer.session.poll_event())
        .filter_map(|event| if let Event::Route(news) = event { Some(news) } else { None })
        .collect()
}

/// Lines in no order.
pub(crate) fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn proven(id: &str) -> Entrance {
    Entrance { proven: Some(id.into()), ..Entrance::default() }
}

/// What carries the connection has proven who the other server is, so it can be nobody else.
#[test]
fn a_server_that_has_proven_its_id_cannot_announce_another() {
    let house = House::member(pooled());
    for dial in [None, Some(Dial::default())] {
        let dialled = dial.is_some();
        let mut peer = house.server_by(dial, proven("SOMEBODY"));
        if dialled {
            house.say(&mut peer, &info(""));
        } else {
            peer = let_in(&house, peer, CONNECT, &info(""));
        }
        let error = peer.error();
        let want = RouteError::NotProven { proven: "SOMEBODY".into(), said: "THEM".into() };
        assert_eq!(error, Some(SessionError::Route(want)), "dialled: {dialled}");
    }
    assert_eq!(house.router.cluster().unwrap().member_count(), 0);
}

/// Such a connection serves everything, whatever pool there is, and a new one takes the place of the one before: what
/// carried that may have gone without this side's knowing.
#[test]
fn a_server_that_has_proven_its_id_takes_its_own_place() {
    let house = House::member(pooled());
    let _client = house.peer("SUB a 1\r\n");
    let hello: PeerInfo = json(&house.server_by(None, proven("THEM")).heard(), "INFO ");
    assert_eq!(hello.route_pool_size, 0);
    let mut first = let_in(&house, house.server_by(None, proven("THEM")), CONNECT, &info(""));
    assert!(house.told(&first).ends_with("\r\nRS+ $G a\r\n"));
    assert!(matches!(&news(&mut first)[..], [RouteNews::Joined { open, .. }] if open.is_empty()));
    house.say(&mut first, "RS+ $G b\r\n");
    let second = let_in(&house, house.server_by(None, proven("THEM")), CONNECT, &info(""));
    house.tick(|tick| first.session.handle_revision(tick));
    assert_eq!(first.error(), Some(SessionError::Route(RouteError::Duplicate("THEM".into()))));
    assert_eq!(first.heard(), "", "nobody is told");
    assert!(house.told(&second).ends_with("\r\nRS+ $G a\r\n"));
    drop(first);
    let mut publisher = house.peer("");
    house.say(&mut publisher, "PUB a 1\r\nx\r\n");
    assert_eq!(house.told(&second), "", "no echo of what is wanted here only");
    assert_eq!(house.router.cluster().unwrap().route_count(), 1);
    // One that has proven nothing does not get in by saying the same.
    let mut other = comes(&house, CONNECT, &info(""));
    assert_eq!(other.error(), Some(SessionError::Route(RouteError::Duplicate("THEM".into()))));
}

/// A place in a pool that is not there is no reason to make four thousand million.
#[test]
fn a_place_in_no_pool_takes_no_memory() {
    let house = House::member(settings());
    let far = ",\"route_pool_idx\":4294967295";
    let _stock = member(&house, far);
    let house = House::member(pooled());
    let peer = let_in(&house, house.server_by(None, proven("THEM")), CONNECT, &info(far));
    assert_eq!(peer.session.conn().closed(), None);
    assert_eq!(house.router.cluster().unwrap().route_count(), 1);
}

/// Who has proven nothing may be somebody else: whoever has takes the place.
#[test]
fn a_server_that_has_proven_its_id_takes_the_place_of_one_that_has_not() {
    let house = House::member(settings());
    let mut claims = member(&house, "");
    let _proven = let_in(&house, house.server_by(None, proven("THEM")), CONNECT, &info(""));
    house.tick(|tick| claims.session.handle_revision(tick));
    assert_eq!(claims.error(), Some(SessionError::Route(RouteError::Duplicate("THEM".into()))));
    assert_eq!(house.router.cluster().unwrap().route_count(), 1);
}

/// Who cannot be connected to is nobody to tell of.
#[test]
fn others_are_told_only_of_servers_that_they_can_reach() {
    let house = House::member(settings());
    let stock = member(&house, "");
    let far = info("").replace("THEM", "FAR").replace("6222", "0").replace("\"them", "\"far");
    let _far = let_in(&house, house.server_by(None, proven("FAR")), CONNECT, &far);
    assert_eq!(house.told(&stock), "");
    let near = info("").replace("THEM", "NEAR").replace("\"them", "\"near");
    let _near = let_in(&house, house.server_by(None, proven("NEAR")), CONNECT, &near);
    let told: PeerInfo = json(&house.told(&stock), "INFO ");
    assert_eq!(told.ip, "nats-route://10.0.0.9:6222/");
}

#[test]
fn whoever_comes_is_greeted_and_told_what_is_wanted() {
    let house = House::member(settings());
    let _client = house.peer("SUB a 1\r\nSUB a 2\r\nSUB q g 3\r\nSUB q g 4\r\n");
    let _other = house.peer_of("A", "SUB b.> 1\r\n");
    let mut peer = house.server(None);
    let hello: PeerInfo = json(&peer.heard(), "INFO ");
    assert_eq!((hello.cluster.as_str(), hello.server_id.as_str(), hello.route_pool_size), ("C", "US", 0));
    house.say(&mut peer, CONNECT);
    welcome(&house, &mut peer);
    assert_eq!(house.told(&peer), "", "nothing before its INFO");
    house.say(&mut peer, &info(""));
    let told = house.told(&peer);
    assert_eq!(sorted(&told), ["RS+ $G a", "RS+ $G q g 2", "RS+ A b.>"]);
    assert!(
        matches!(&news(&mut peer)[..], [RouteNews::Joined { id, open, .. }] if id == "THEM" && open.is_empty())
    );
    house.say(&mut peer, "RS+ $G wanted\r\n");
    let routes = house.router.cluster().unwrap().routes(&house.router, true);
    assert_eq!(
        (routes[0].subscription_count, routes[0].subscriptions[0].subject.as_slice()),
        (1, &b"wanted"[..])
    );
    assert!(matches!(&routes[..], [route] if route.name == "them" && route.dialled.is_none()));
}

#[test]
fn whoever_is_dialled_hears_who_it_is_and_what_is_wanted() {
    let house = House::member(pooled());
    let _client = house.peer("SUB a 1\r\n");
    let credentials =
        midge_wire::json::Credentials { user: "u".into(), pass: "p".into(), ..Default::default() };
    let mut peer = house.server(Some(Dial { credentials, ..Dial::default() }));
    let connect: PeerConnect = json(&peer.heard(), "CONNECT ");
    assert_eq!((connect.name.as_str(), connect.cluster.as_str()), ("US", "C"));
    assert_eq!((connect.user.as_str(), connect.pass.as_str()), ("u", "p"));
    // One without a pool: everything goes by this connection.
    house.say(&mut peer, &info(""));
    let told = house.told(&peer);
    assert_eq!(json::<PeerInfo>(&told, "INFO ").route_pool_size, 0);
    assert!(told.ends_with("RS+ $G a\r\n"), "{told}");
    drop(peer);

    // One with a pool: the account has its place, and there are more connections to be made.
    let mut peer = house.server(Some(Dial::default()));
    peer.heard();
    house.say(&mut peer, &info(",\"route_pool_size\":3"));
    let told = house.told(&peer);
    assert_eq!(json::<PeerInfo>(&told, "INFO ").route_pool_size, 3);
    assert!(told.ends_with("PING\r\n"), "$G has place 2: {told}");
    let [RouteNews::Joined { open, .. }] = &news(&mut peer)[..] else { panic!("not joined") };
    let place = |slot, account: Option<&str>| Opening { slot, account: account.map(str::to_owned) };
    assert_eq!(*open, [place(1, None), place(2, None), place(0, Some("$SYS"))]);
    let mut third = house.server(Some(Dial { opening: place(2, None), ..Dial::default() }));
    third.heard();
    house.say(&mut third, &info(",\"route_pool_size\":3"));
    let told = house.told(&third);
    assert_eq!(json::<PeerInfo>(&told, "INFO ").route_pool_idx, 2);
    assert!(told.ends_with("RS+ $G a\r\n"), "{told}");
}

#[test]
fn interest_is_told_when_it_begins_and_when_it_ends() {
    let house = House::member(settings());
    let peer = member(&house, "");
    let mut client = house.peer("SUB a 1\r\n");
    assert_eq!(house.told(&peer), "RS+ $G a\r\n");
    house.say(&mut client, "SUB a 2\r\nUNSUB 1\r\n");
    assert_eq!(house.told(&peer), "", "somebody still wants it");
    house.say(&mut client, "UNSUB 2\r\n");
    assert_eq!(house.told(&peer), "RS- $G a\r\n");
    house.say(&mut client, "SUB q g 1\r\nSUB q g 2\r\nUNSUB 1\r\nUNSUB 2\r\n");
    assert_eq!(house.told(&peer), "RS+ $G q g 1\r\nRS+ $G q g 2\r\nRS+ $G q g 1\r\nRS- $G q g\r\n");
    house.say(&mut client, "SUB once 1\r\nUNSUB 1 1\r\nSUB last 2\r\n");
    assert_eq!(house.told(&peer), "RS+ $G once\r\nRS+ $G last\r\n");
    let mut publisher = house.peer("");
    house.say(&mut publisher, "PUB once 0\r\n\r\n");
    assert_eq!(house.told(&peer), "RS- $G once\r\n", "it has had its last message");
    drop(client);
    assert_eq!(house.told(&peer), "RS- $G last\r\n");
}

#[test]
fn a_server_gets_one_copy_for_all_who_want_it() {
    let house = House::member(settings());
    let mut peer = member(&house, "");
    house.say(&mut peer, "RS+ $G a\r\nRS+ $G a\r\nRS+ $G *\r\nRS+ $G a g1 1\r\nRS+ $G > g2 3\r\n");
    let mut client = house.peer("");
    house.say(&mut client, "PUB a 2\r\nhi\r\nPUB a r 2\r\nhi\r\nPUB b 1\r\nx\r\nPUB b.c 1\r\ny\r\n");
    let groups = peer.heard();
    let either = |with: &str| groups.contains(with);
    assert!(either("RMSG $G a | g1 g2 2\r\nhi\r\n") || either("RMSG $G a | g2 g1 2\r\nhi\r\n"), "{groups}");
    assert!(
        either("RMSG $G a + r g1 g2 2\r\nhi\r\n") || either("RMSG $G a + r g2 g1 2\r\nhi\r\n"),
        "{groups}"
    );
    assert!(groups.ends_with("RMSG $G b | g2 1\r\nx\r\nRMSG $G b.c | g2 1\r\ny\r\n"), "{groups}");
    house.say(&mut peer, "RS- $G a\r\nRS- $G a g1\r\nRS- $G > g2\r\n");
    house.say(&mut client, "PUB a 2\r\nhi\r\nHPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB b.c 1\r\ny\r\n");
    assert_eq!(peer.heard(), "RMSG $G a 2\r\nhi\r\nHMSG $G a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    house.say(&mut peer, "RS- $G *\r\n");
    house.say(&mut client, "SUB inbox 1\r\nPUB a inbox 0\r\n\r\n");
    assert!(client.heard().contains("503"), "nobody wants it any more");
}

#[test]
fn one_without_headers_gets_none() {
    let house = House::member(settings());
    let mut peer = comes(&house, CONNECT, "INFO {\"server_id\":\"OLD\"}\r\n");
    house.told(&peer);
    house.say(&mut peer, "RS+ $G a\r\n");
    let mut client = house.peer("");
    house.say(&mut client, "HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    assert_eq!(peer.heard(), "RMSG $G a r 2\r\nhi\r\n");
}

#[test]
fn what_comes_from_a_server_goes_to_clients_only() {
    let house = House::member(settings());
    let mut one = member(&house, "");
    let mut two = comes(&house, CONNECT, "INFO {\"server_id\":\"TWO\",\"server_name\":\"two\"}\r\n");
    house.say(&mut two, "RS+ $G >\r\nRS+ A >\r\n");
    let client = house.peer("SUB a 1\r\nSUB a g 2\r\n");
    let other = house.peer_of("A", "SUB a 1\r\n");
    house.told(&one);
    house.told(&two);
    house.say(
        &mut one,
        "RMSG $G a 2\r\nhi\r\nRMSG A a r 1\r\nx\r\nRMSG NONE a 1\r\ny\r\nRMSG $G a | g 1\r\nz\r\n",
    );
    assert_eq!(client.heard(), "MSG a 1 2\r\nhi\r\nMSG a 1 1\r\nz\r\nMSG a 2 1\r\nz\r\n");
    assert_eq!(other.heard(), "MSG a 1 r 1\r\nx\r\n");
    assert_eq!((one.heard(), two.heard()), (String::new(), String::new()));
    let figures = house.router.traffic(&house.router.add_account("A"));
    assert_eq!((figures.in_msgs, figures.out_msgs), (1, 1));
}

#[test]
fn a_message_for_a_group_whose_member_has_gone_goes_to_another_server() {
    let house = House::member(settings());
    let mut one = member(&house, "");
    let mut two = comes(&house, CONNECT, "INFO {\"server_id\":\"TALL\",\"server_name\":\"two\"}\r\n");
    house.say(&mut one, "RS+ $G a g 1\r\n");
    house.say(&mut two, "RS+ $G a g 1\r\n");
    house.told(&one);
    house.told(&two);
    house.say(&mut one, "RMSG $G a | g 1\r\nx\r\n");
    assert_eq!(two.heard(), "RMSG $G a | g 1\r\nx\r\n", "and not back to where it came from");
    assert_eq!(one.heard(), "");
    // Only ever to a server of a lesser id than its sender's, or it could go round for ever.
    house.say(&mut two, "RMSG $G a | g 1\r\nx\r\n");
    assert_eq!((one.heard(), two.heard()), (String::new(), String::new()));
    house.say(&mut two, "RS- $G a g\r\n");
    house.say(&mut one, "RMSG $G a | g 1\r\nx\r\n");
    assert_eq!((one.heard(), two.heard()), (String::new(), String::new()));
}

#[test]
fn members_of_a_group_are_chosen_by_weight_wherever_they_are() {
    const MESSAGES: usize = 4000;
    let house = House::member(settings());
    let local = house.peer("SUB work g 1\r\n");
    let mut one = member(&house, "");
    let mut two = comes(&house, CONNECT, "INFO {\"server_id\":\"TWO\",\"server_name\":\"two\"}\r\n");
    house.say(&mut one, "RS+ $G work g 1\r\n");
    house.say(&mut two, "RS+ $G work g 9\r\nRS+ $G work g 2\r\n");
    house.told(&one);
    house.told(&two);
    let mut publisher = house.peer("");
    house.say(&mut publisher, &"PUB work 0\r\n\r\n".repeat(MESSAGES));
    let had = [local.heard(), one.heard(), two.heard()].map(|heard| heard.matches("MSG").count());
    assert_eq!(had.iter().sum::<usize>(), MESSAGES, "each once");
    for (had, share) in had.into_iter().zip([1, 1, 2]) {
        let fair = MESSAGES * share / 4;
        assert!(had.abs_diff(fair) < fair / 5, "{had} of {fair}");
    }
}

#[test]
fn what_a_server_wanted_goes_with_it() {
    let house = House::member(settings());
    let mut peer = member(&house, "");
    house.router.add_account("A");
    house.say(&mut peer, "RS+ $G a\r\nRS+ A b g 1\r\n");
    let mut client = house.peer("SUB inbox 1\r\nPUB a inbox 0\r\n\r\n");
    assert!(!client.heard().contains("503"));
    assert_eq!((house.router.totals().subscriptions, house.router.cluster().unwrap().member_count()), (3, 1));
    drop(peer);
    house.say(&mut client, "PUB a inbox 0\r\n\r\n");
    assert!(client.heard().contains("503"));
    assert_eq!((house.router.totals().subscriptions, house.router.cluster().unwrap().member_count()), (1, 0));
}

#[test]
fn no_subject_is_deeper_than_a_match_can_go() {
    let house = House::member(settings());
    let mut peer = member(&house, "");
    let deep = |token: &str, count| vec![token; count].join(".");
    house.say(&mut peer, &format!("RS+ $G {}\r\n", deep("*", 2048)));
    let mut client = house.peer("");
    let shallow = format!("PUB {} 1\r\nx\r\n", deep("a", 2000));
    house.say(&mut client, &shallow);
    assert_eq!(client.session.conn().closed(), None);
    house.say(&mut peer, &format!("RS+ $G {}\r\n", deep("*", 2049)));
    assert_eq!(peer.error(), Some(RouteError::Subject.into()));
}

/// As nats-server up to 2.10.22, which names the leafnode's cluster where something is wanted only.
#[test]
fn what_an_old_server_s_leafnodes_do_not_want_any_more_is_forgotten() {
    let house = House::member(settings());
    let mut peer = member(&house, ",\"lnoc\":true");
    house.say(&mut peer, "LS+ LC $G a\r\nLS+ LD $G a\r\nRS+ $G a\r\nLS+ LC $G q g 2\r\n");
    let count = || house.router.cluster().unwrap().routes(&house.router, false)[0].subscription_count;
    assert_eq!(count(), 4);
    house.say(&mut peer, "LS- $G a\r\nLS- $G q g\r\n");
    assert_eq!(count(), 2);
    house.say(&mut peer, "LS- $G a\r\nLS- $G a\r\n");
    assert_eq!(count(), 1, "what its own clients want stays");
    house.say(&mut peer, "RS- $G a\r\n");
    assert_eq!(count(), 0);
}

#[test]
fn an_account_with_a_connection_of_its_own_is_named_nowhere() {
    let house = House::member(ClusterSettings { dedicated: vec!["A".into()], ..pooled() });
    house.router.add_account("A");
    let pool = ",\"route_pool_size\":3";
    let [mut a, mut slot] = [",\"route_account\":\"A\"", ",\"route_pool_idx\":0"]
        .map(|more| member(&house, &format!("{pool}{more}")));
    let mut client = house.peer_of("A", "SUB a 1\r\n");
    assert_eq!((house.told(&a).as_str(), house.told(&slot).as_str()), ("RS+ a\r\n", ""));
    house.say(&mut a, "RS+ b\r\nRS+ q g 2\r\nRMSG a 2\r\nhi\r\nHMSG a r 12 12\r\nNATS/1.0\r\n\r\n\r\n");
    assert_eq!(client.heard(), "MSG a 1 2\r\nhi\r\nHMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n");
    house.say(&mut client, "PUB b 1\r\nx\r\nPUB q 1\r\ny\r\n");
    assert_eq!(a.heard(), "RMSG b 1\r\nx\r\nRMSG q | g 1\r\ny\r\n");
    house.say(&mut slot, "RS+ $G b\r\n");
    house.say(&mut client, "PUB b 1\r\nx\r\n");
    assert_eq!((a.heard().as_str(), slot.heard().as_str()), ("RMSG b 1\r\nx\r\n", ""));
}

#[test]
fn publishers_are_spread_over_the_connections_and_each_stays_on_one() {
    let house = House::member(pooled());
    let old = house.peer("");
    let more = |at| format!(",\"route_pool_size\":3,\"pool_by_publisher\":true,\"route_pool_idx\":{at}");
    let mut lanes = [0, 1, 2].map(|at| member(&house, &more(at)));
    let _wants = house.peer("SUB here 1\r\n");
    for lane in &mut lanes {
        assert_eq!(house.told(lane), "RS+ $G here\r\n", "each knows what a publisher on it may be asked for");
        house.say(lane, "RS+ $G a\r\n");
    }
    let mut used = [0; 3];
    for mut publisher in (0..6).map(|_| house.peer("")).chain([old]) {
        house.say(&mut publisher, "PUB a 1\r\nx\r\nPUB a 1\r\ny\r\n");
        let heard = [0, 1, 2].map(|at| lanes[at].heard());
        assert_eq!(
            heard.concat(),
            "RMSG $G a 1\r\nx\r\nRMSG $G a 1\r\ny\r\n",
            "one copy each, on one connection"
        );
        used[heard.iter().position(|heard| !heard.is_empty()).unwrap()] += 1;
    }
    assert_eq!(used, [3, 2, 2], "who was there before the others came stays on the first");
    let [first, second, third] = lanes;
    drop(second);
    let mut publishers: Vec<_> = (0..3).map(|_| house.peer("")).collect();
    for publisher in &mut publishers {
        house.say(publisher, "PUB a 1\r\nx\r\n");
    }
    let had = [first.heard(), third.heard()].map(|heard| heard.matches("RMSG").count());
    assert_eq!(had, [2, 1], "the first stands in for one that has gone");
}

#[test]
fn what_may_not_cross_does_not() {
    let rules = |allow: &str| Some(SubjectRules { allow: Some(vec![allow.to_owned()]), deny: Vec::new() });
    let house =
        House::member(ClusterSettings { import: rules("in.>"), export: rules("out.>"), ..settings() });
    let mut peer = member(&house, "");
    let mut client = house.peer("SUB in.a 1\r\nSUB other 2\r\n");
    assert_eq!(house.told(&peer), "RS+ $G in.a\r\n");
    house.say(&mut peer, "RS+ $G out.a\r\nRS+ $G other\r\n");
    house.say(&mut client, "PUB out.a 1\r\nx\r\nPUB other 1\r\ny\r\n");
    assert_eq!(peer.heard(), "RMSG $G out.a 1\r\nx\r\n");
    // Nor does a wildcard let out what is denied.
    let denied = SubjectRules { allow: None, deny: vec!["secret".to_owned()] };
    let house = House::member(ClusterSettings { export: Some(denied), ..settings() });
    let mut peer = member(&house, "");
    house.say(&mut peer, "RS+ $G >\r\n");
    let mut client = house.peer("");
    house.say(&mut client, "PUB secret 1\r\nx\r\nPUB open 1\r\ny\r\n");
    assert_eq!(peer.heard(), "RMSG $G open 1\r\ny\r\n");
}

#[test]
fn clients_see_what_a_stream_holds_as_it_was_published() {
    let house = House::member(settings());
    let mut peer = member(&house, "");
    let client = house.peer("SUB deliver 1\r\n");
    let ack = "$JS.ACK.st.co.1.2.3.4.5";
    house.say(
        &mut peer,
        &format!("RMSG $G deliver {ack}@st.a@b 2\r\nhi\r\nRMSG $G deliver $JS.ACK.x@y 1\r\nz\r\n"),
    );
    assert_eq!(client.heard(), format!("MSG st.a@b 1 {ack} 2\r\nhi\r\nMSG deliver 1 $JS.ACK.x@y 1\r\nz\r\n"));
}

#[test]
fn no_server_makes_another_remember_more_than_it_will() {
    let limits = midge_router::Limits { max_interest: 10_000, ..midge_router::Limits::default() };
    let house = House::built(limits, false, (Some(settings()), None));
    let mut peer = member(&house, "");
    let flood: String = (0..1000).map(|n| format!("RS+ $G flood.{n}\r\n")).collect();
    house.say(&mut peer, &flood);
    assert_eq!(peer.error(), Some(RouteError::TooMuchInterest.into()));
    assert!(peer.heard().ends_with("-ERR 'maximum subscriptions exceeded'\r\n"));
    drop(peer);
    assert_eq!(house.router.totals().subscriptions, 0);
    // Names of groups count, too.
    let limits = midge_router::Limits { max_interest: 200_000, ..midge_router::Limits::default() };
    let house = House::built(limits, false, (Some(settings()), None));
    let mut peer = member(&house, "");
    for n in 0..4 {
        house.say(&mut peer, &format!("RS+ $G s {n}{} 1\r\n", "g".repeat(60_000)));
    }
    assert_eq!(peer.error(), Some(RouteError::TooMuchInterest.into()));
}

#[test]
fn a_message_to_or_from_a_server_allocates_nothing() {
    let house = House::member(settings());
    let mut peer = member(&house, "");
    let receiver = house.peer("SUB here 1\r\nSUB work g 2\r\n");
    house.say(&mut peer, "RS+ $G there\r\nRS+ $G far g 2\r\nRS+ $G far h 1\r\n");
    house.told(&peer);
    let mut publisher = house.peer("");
    let out = "PUB there 5\r\nhello\r\nPUB far r 5\r\nhello\r\n".repeat(100);
    let back = "RMSG $G here 5\r\nhello\r\nRMSG $G work | g 5\r\nhello\r\n".repeat(100);
    let mut count = 0;
    for round in 0..8 {
        count = 0;
        for (says, text) in [(true, &out), (false, &back)] {
            let (allocated, ()) =
                allocations(
                    || {
                        if says { house.say(&mut publisher, text) } else { house.say(&mut peer, text) }
                    },
                );
            [&receiver, &publisher].iter().for_each(|screen| screen.clear());
            peer.clear();
            count += allocated;
        }
        assert!(round < 4 || count == 0, "round {round}: {count}");
    }
    assert_eq!(count, 0);
}

#[test]
fn a_server_is_asked_whether_it_is_there_however_much_it_talks() {
    let mut house = House::member(settings());
    let mut peer = member(&house, "");
    for _ in 0..3 {
        house.now = peer.session.poll_timeout();
        house.say(&mut peer, "PING\r\n");
        house.tick(|tick| peer.session.handle_timeout(tick));
        assert_eq!(peer.heard(), "PONG\r\nPING\r\n");
        house.say(&mut peer, "PONG\r\n");
    }
    for _ in 0..3 {
        house.now = peer.session.poll_timeout();
        house.tick(|tick| peer.session.handle_timeout(tick));
    }
    assert_eq!(peer.error(), Some(SessionError::Stale));
}
