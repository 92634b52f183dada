//! Who may be in a cluster, what crosses between its members, and what clients are told of them; midged beside
//! nats-server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use midge_testkit::process::{Process, nats_servers, program};
use midge_testkit::raw::{Frame, Raw};
use midge_testkit::tls::Authority;
use serde_json::Value;

use crate::monitoring::json;
use crate::servers::{CONVERGES, midged, settled, subscribe, wait_for_interest, wait_for_silence};
use crate::shape::same_shape;

fn newest() -> PathBuf {
    program("NATS_SERVER")
}

/// A member with this in its cluster block, and this beside it.
fn member(program: &Path, name: &str, block: &str, more: &str) -> Process {
    let text = format!("server_name: {name}\n{more}\ncluster {{ listen: \"127.0.0.1:-1\", {block} }}");
    Process::with_config(program, &text)
}

fn route_to(server: &Process) -> String {
    format!("routes: [\"nats-route://127.0.0.1:{}\"]", server.route_port())
}

/// Waits until clients of each hear those of the other.
#[track_caller]
fn converge(here: &Process, there: &Process) {
    let (mut here, mut there) = (Raw::client(here.port()), Raw::client(there.port()));
    subscribe(&mut here, &mut there, "meet.one", "1");
    subscribe(&mut there, &mut here, "meet.two", "1");
}

/// What a client is told, once it takes that at any time.
fn told(server: &Process) -> (Raw, Value) {
    let mut client = Raw::connect(server.port());
    let first = client.expect_line("INFO ");
    client.send(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
    client.expect_line("PONG");
    (client, serde_json::from_str(first.strip_prefix("INFO ").unwrap()).unwrap())
}

fn urls(info: &Value) -> Vec<String> {
    let mut urls: Vec<String> = info["connect_urls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|url| url.as_str().unwrap().to_owned())
        .collect();
    urls.sort();
    urls
}

/// Waits until a client is told of just these.
#[track_caller]
fn until_told(server: &Process, want: &[&Process]) {
    let mut want: Vec<String> = want.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    want.sort();
    let until = Instant::now() + CONVERGES;
    loop {
        let (_, info) = told(server);
        if urls(&info) == want {
            return;
        }
        assert!(Instant::now() < until, "{info} is not {want:?}");
    }
}

#[test]
fn clients_are_told_of_those_who_come_and_go() {
    for (first, second) in [(midged(), newest()), (newest(), midged()), (midged(), midged())] {
        let one = member(&first, "one", "name: C", "");
        let two = member(&second, "two", &format!("name: C, {}", route_to(&one)), "");
        until_told(&one, &[&one, &two]);
        until_told(&two, &[&one, &two]);
        let (mut client, info) = told(&one);
        assert_eq!(info["cluster"], "C");
        // One that is about to leave is not told of any more, and one that has gone neither.
        two.signal("USR2");
        while client.expect_line("INFO ").contains(&format!("127.0.0.1:{}", two.port())) {}
        drop(two);
        until_told(&one, &[&one]);
    }
}

#[test]
fn a_server_may_keep_its_clients_to_itself() {
    let one = member(&midged(), "one", "name: C, no_advertise: true", "");
    let two = member(&newest(), "two", &format!("name: C, {}", route_to(&one)), "");
    converge(&one, &two);
    let (_, info) = told(&one);
    assert_eq!(urls(&info), Vec::<String>::new());
    let (_, info) = told(&two);
    assert!(!urls(&info).contains(&format!("127.0.0.1:{}", one.port())), "{info}");
}

#[test]
fn whoever_must_show_something_does_and_others_are_refused() {
    let auth = "name: C, authorization { user: r, password: secret, timeout: 2 }";
    for (first, second) in [(midged(), newest()), (newest(), midged()), (midged(), midged())] {
        let one = member(&first, "one", auth, "");
        let url = |login: &str| format!("routes: [\"nats-route://{login}127.0.0.1:{}\"]", one.route_port());
        let two = member(&second, "two", &format!("{auth}, {}", url("r:secret@")), "");
        converge(&one, &two);
        let wrong = member(&second, "three", &format!("{auth}, {}", url("r:wrong@")), "");
        wrong.wait_for_line("Authorization Violation");
        assert!(one.log().iter().all(|line| !line.contains("secret") && !line.contains("wrong")));
        // A third finds the second by what the first tells, and who it is by its own configuration.
        let third = member(&midged(), "four", &format!("{auth}, {}", url("r:secret@")), "");
        converge(&third, &two);
    }
}

#[test]
fn other_clusters_stay_apart() {
    for (first, second) in [(midged(), newest()), (newest(), midged()), (midged(), midged())] {
        let one = member(&first, "one", "name: ONE", "");
        let two = member(&second, "two", &format!("name: TWO, {}", route_to(&one)), "");
        two.wait_for_line("does not match");
        let (mut here, mut there) = (Raw::client(one.port()), Raw::client(two.port()));
        there.send(b"SUB apart 1\r\n");
        there.sync();
        wait_for_silence(&mut here, "apart");
    }
}

#[test]
fn a_name_that_was_made_up_gives_way() {
    for (first, second) in [(midged(), newest()), (newest(), midged()), (midged(), midged())] {
        let one = member(&first, "one", "", "");
        let two = member(&second, "two", &format!("name: GIVEN, {}", route_to(&one)), "");
        converge(&one, &two);
        let (_, info) = told(&one);
        assert_eq!(info["cluster"], "GIVEN");
    }
}

#[test]
fn servers_that_know_each_other_and_themselves_have_one_connection_each() {
    // Both dial each other, and one itself.
    for (first, second) in [(midged(), newest()), (midged(), midged())] {
        let ports: Vec<u16> =
            (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()).collect();
        let routes = format!(
            "routes: [\"nats-route://127.0.0.1:{}\", \"nats-route://127.0.0.1:{}\"]",
            ports[0], ports[1]
        );
        let start = |program: &Path, name: &str, port: u16| {
            let text = format!(
                "server_name: {name}\nhttp: \"127.0.0.1:-1\"\ncluster {{ name: C, listen: \"127.0.0.1:{port}\", pool_size: -1, {routes} }}"
            );
            Process::with_config(program, &text)
        };
        let (one, two) = (start(&first, "one", ports[0]), start(&second, "two", ports[1]));
        converge(&one, &two);
        let until = Instant::now() + CONVERGES;
        while [&one, &two].iter().any(|server| json(server, "/routez")["num_routes"] != 1) {
            assert!(Instant::now() < until, "{} {}", json(&one, "/routez"), json(&two, "/routez"));
        }
        let (mut here, mut there) = (Raw::client(one.port()), Raw::client(two.port()));
        subscribe(&mut there, &mut here, "once", "1");
        here.send(b"PUB once 1\r\nx\r\n");
        assert_eq!(there.expect_message(), b"x");
        assert_eq!(settled(&mut there), []);
    }
}

#[test]
fn certificates_are_shown_both_ways() {
    let authority = Authority::new();
    let tls = |name: &str| {
        let identity = authority.member(name);
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", timeout: 5 }}",
            identity.certificate,
            identity.key,
            authority.file()
        )
    };
    for stock in nats_servers() {
        for (first, second) in [(midged(), stock.clone()), (stock.clone(), midged())] {
            let one = member(&first, "one", &format!("name: C, {}", tls("one")), "");
            let two = member(&second, "two", &format!("name: C, {}, {}", route_to(&one), tls("two")), "");
            converge(&one, &two);
        }
    }
    // Whoever speaks none is not heard.
    let one = member(&midged(), "one", &format!("name: C, {}", tls("one")), "");
    let plain = member(&midged(), "two", &format!("name: C, {}", route_to(&one)), "");
    one.wait_for_line("TLS route handshake error");
    drop(plain);
}

/// Every way to agree on compression, or not to, with each version that knows it, by whichever side connects.
#[test]
fn what_goes_between_servers_is_compressed() {
    let http = "http: \"127.0.0.1:-1\"";
    let modes = [
        ("s2_fast", "accept", ["s2_fast", "s2_fast"]),
        ("accept", "s2_better", ["s2_better", "s2_better"]),
        ("s2_best", "s2_fast", ["s2_best", "s2_fast"]),
        ("accept", "accept", ["off", "off"]),
        ("s2_fast", "off", ["off", "off"]),
        ("off", "s2_fast", ["off", "off"]),
    ];
    let [_, stocks @ ..] = &nats_servers()[..] else { panic!() };
    let pairs = stocks.iter().flat_map(|stock| [(midged(), stock.clone()), (stock.clone(), midged())]);
    for (first, second) in pairs.chain([(midged(), midged())]) {
        for (ours, theirs, want) in modes {
            let one = member(&first, "one", &format!("name: C, compression: {ours}"), http);
            let block = format!("name: C, compression: {theirs}, {}", route_to(&one));
            let two = member(&second, "two", &block, http);
            converge(&one, &two);
            let (mut here, mut there) = (Raw::client(one.port()), Raw::client(two.port()));
            for (from, to, subject) in [(0, 1, "big.there"), (1, 0, "big.here")] {
                let clients = [&mut here, &mut there];
                let [from, to] = if from < to {
                    clients
                } else {
                    let [a, b] = clients;
                    [b, a]
                };
                subscribe(to, from, subject, "7");
                // What shrinks, and what does not.
                let text: Vec<u8> = (0..120_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
                let mut state = 1_u64;
                let noise = (0..300_000).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                });
                for body in [text, noise.collect::<Vec<u8>>()] {
                    from.send(format!("PUB {subject} {}\r\n", body.len()).as_bytes());
                    from.send(&[&body[..], b"\r\n"].concat());
                    assert!(to.expect_message() == body, "{first:?} {ours}, {second:?} {theirs}: {subject}");
                }
            }
            let routes = [&one, &two].map(|server| json(server, "/routez"));
            let shown = routes.iter().map(|page| page["routes"].as_array().unwrap().iter());
            for (rows, want) in shown.zip(want) {
                for row in rows {
                    // nats-server has two words for that.
                    let got = row["compression"].as_str().unwrap().replace("not supported", "off");
                    assert_eq!(got, want, "{first:?} {ours}, {second:?} {theirs}");
                }
            }
        }
    }
}

#[test]
fn what_may_not_cross_does_not() {
    let permissions = "permissions { import: { allow: [\"in.>\", \"meet.>\"] }, export: { allow: [\"out.>\", \"meet.>\"] } }";
    let one = member(&midged(), "one", &format!("name: C, {permissions}"), "");
    let two = member(&newest(), "two", &format!("name: C, {}", route_to(&one)), "");
    converge(&one, &two);
    let (mut here, mut there) = (Raw::client(one.port()), Raw::client(two.port()));
    here.send(b"SUB in.a 1\r\nSUB other 2\r\n");
    here.sync();
    wait_for_interest(&mut there, "in.a");
    wait_for_silence(&mut there, "other");
    there.send(b"SUB out.a 1\r\nSUB other 2\r\nSUB out.end 3\r\n");
    there.sync();
    wait_for_interest(&mut here, "out.end");
    // Nobody but its own client listens here.
    here.send(b"UNSUB 2\r\n");
    wait_for_silence(&mut here, "other");
}

#[test]
fn accounts_are_kept_apart_and_may_have_connections_of_their_own() {
    const ACCOUNTS: &str =
        "accounts { A { users: [{user: a, pass: x}] }, B { users: [{user: b, pass: x}] } }";
    let client = |server: &Process, user: &str| {
        let mut client = Raw::connect(server.port());
        client.expect_line("INFO ");
        let options = r#""verbose":false,"headers":true,"no_responders":true"#;
        client.send(format!("CONNECT {{{options},\"user\":\"{user}\",\"pass\":\"x\"}}\r\n").as_bytes());
        client.sync();
        client
    };
    for own in ["", ", accounts: [A]"] {
        for stock in &nats_servers()[1..] {
            for (first, second) in
                [(midged(), stock.clone()), (stock.clone(), midged()), (midged(), midged())]
            {
                let block = format!("name: C{own}");
                let one = member(&first, "one", &block, ACCOUNTS);
                let two = member(&second, "two", &format!("{block}, {}", route_to(&one)), ACCOUNTS);
                let (mut here, mut there) = (client(&one, "a"), client(&two, "a"));
                let mut other = client(&two, "b");
                other.send(b"SUB both 1\r\n");
                other.sync();
                subscribe(&mut there, &mut here, "both", "1");
                here.send(b"PUB both 1\r\nx\r\n");
                assert_eq!(there.expect_message(), b"x");
                assert_eq!(settled(&mut other), []);
                let mut sender = client(&one, "b");
                wait_for_interest(&mut sender, "both");
                assert_eq!(other.expect_message(), b"");
                assert_eq!(settled(&mut there), []);
            }
        }
    }
}

/// A path for bytes that can be cut.
struct Wire {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let ends = open.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let mut bytes = [0; 16 * 1024];
                        while let Ok(len @ 1..) = from.read(&mut bytes) {
                            if to.write_all(&bytes[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                ends.lock().unwrap().extend([near, far]);
            }
        });
        Self { port, open }
    }

    fn cut(&self) {
        for end in self.open.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_route_that_is_cut_heals() {
    for stock in nats_servers() {
        for (first, second) in [(midged(), stock.clone()), (stock.clone(), midged())] {
            let one = member(&first, "one", "name: C", "");
            let wire = Wire::to(one.route_port());
            let routes = format!("routes: [\"nats-route://127.0.0.1:{}\"]", wire.port);
            let two = member(&second, "two", &format!("name: C, {routes}"), "");
            converge(&one, &two);
            let (mut here, mut there) = (Raw::client(one.port()), Raw::client(two.port()));
            subscribe(&mut there, &mut here, "stays", "1");
            subscribe(&mut here, &mut there, "stays.too", "1");
            for _ in 0..2 {
                wire.cut();
                wait_for_silence(&mut here, "stays");
                wait_for_interest(&mut here, "stays");
                wait_for_interest(&mut there, "stays.too");
                here.send(b"PUB stays 1\r\nx\r\n");
                // Those of the waiting come first.
                while there.expect_message() != b"x" {}
            }
        }
    }
}

#[test]
fn pages_about_routes_have_the_originals_fields() {
    let pages: Vec<[Value; 3]> = [midged(), newest()]
        .iter()
        .map(|program| {
            let one = member(program, "one", "name: C, pool_size: -1", "http: \"127.0.0.1:-1\"");
            let routes = route_to(&one);
            let two = member(&newest(), "two", &format!("name: C, pool_size: -1, {routes}"), "");
            converge(&one, &two);
            let pages = ["/routez", "/varz", "/routez?subs=1"].map(|path| json(&one, path));
            assert_eq!((&pages[1]["routes"], &pages[1]["remotes"]), (&Value::from(1), &Value::from(1)));
            assert_eq!(pages[0]["routes"][0]["remote_name"], "two");
            pages
        })
        .collect();
    let [ours, theirs] = &pages[..] else { panic!() };
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate().take(2) {
        same_shape(["/routez", "/varz"][at], ours, theirs);
    }
    let list = |page: &Value| page["routes"][0]["subscriptions_list"].as_array().unwrap().len();
    assert!(list(&ours[2]) > 10 && list(&theirs[2]) > 10);
}

/// A user of the system account hears of servers that are not the one it is connected to, and may ask them.
#[test]
fn the_system_account_reaches_across() {
    const SYSTEM: &str = "accounts { $SYS { users: [{user: s, pass: x}] } }";
    for (first, second) in [(midged(), newest()), (newest(), midged()), (midged(), midged())] {
        let one = member(&first, "one", "name: C", SYSTEM);
        let two = member(&second, "two", &format!("name: C, {}", route_to(&one)), SYSTEM);
        converge(&one, &two);
        let mut system = Raw::connect(one.port());
        system.expect_line("INFO ");
        system.send(b"CONNECT {\"user\":\"s\",\"pass\":\"x\",\"verbose\":false,\"headers\":true}\r\nSUB answers 1\r\n");
        system.sync();
        let until = Instant::now() + CONVERGES;
        let mut seen = Vec::new();
        while !(seen.contains(&"one".to_owned()) && seen.contains(&"two".to_owned())) {
            assert!(Instant::now() < until, "only {seen:?} answer");
            system.send(b"PUB $SYS.REQ.SERVER.PING.IDZ answers 0\r\n\r\n");
            while let Some(Frame::Message(_, body)) =
                system.frame_within(std::time::Duration::from_millis(100))
            {
                let answer: Value = serde_json::from_slice(&body).unwrap();
                let name = answer["name"].as_str().or_else(|| answer["server"]["name"].as_str());
                seen.extend(name.map(str::to_owned));
            }
        }
    }
}
