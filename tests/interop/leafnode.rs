//! Leafnodes and hubs, midged and nats-server as each.

use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use midge_testkit::process::{Folder, Process, nats_servers, program};
use midge_testkit::raw::{Frame, Raw};
use midge_testkit::tls::Authority;
use nkeys::KeyPair;

use crate::servers::{CONVERGES, message, midged, settled, subscribe, wait_for_interest, wait_for_silence};

/// A user of the account that is shared with leafnodes.
const ACCOUNTS: &str = "accounts { HA { users: [{user: a, pass: x}] }, LA { users: [{user: l, pass: x}] } }";

fn client(server: &Process, user: &str) -> Raw {
    let mut client = Raw::connect(server.port());
    client.expect_line("INFO ");
    let options = r#""verbose":false,"pedantic":false,"headers":true,"no_responders":true"#;
    let login = if user.is_empty() { String::new() } else { format!(",\"user\":\"{user}\",\"pass\":\"x\"") };
    client.send(format!("CONNECT {{{options}{login}}}\r\n").as_bytes());
    client.sync();
    assert!(!client.is_closed(), "{user}");
    client
}

fn hub(program: &Path, more: &str) -> Process {
    let text = format!("server_name: hub\n{ACCOUNTS}\n{more}");
    Process::with_config(program, &format!("{text}\nleafnodes {{ listen: \"127.0.0.1:-1\" }}"))
}

fn leaf(program: &Path, name: &str, remote: &str) -> Process {
    Process::with_config(
        program,
        &format!("server_name: {name}\n{ACCOUNTS}\nleafnodes {{ remotes: [{{ {remote} }}] }}"),
    )
}

/// Everything that crosses between an account here and one there.
fn everything_between(from: &mut Raw, to: &mut Raw, tag: &str) {
    subscribe(to, from, &format!("{tag}.plain"), "1");
    subscribe(to, from, &format!("{tag}.*.x"), "2");
    from.send(
        format!("PUB {tag}.plain 2\r\np1\r\nPUB {tag}.a.x {tag}.r 2\r\nw1\r\nPUB {tag}.a.y 2\r\nno\r\n")
            .as_bytes(),
    );
    assert_eq!(message(to), Frame::Message(format!("MSG {tag}.plain 1 2"), b"p1".to_vec()));
    assert_eq!(message(to), Frame::Message(format!("MSG {tag}.a.x 2 {tag}.r 2"), b"w1".to_vec()));
    // A request with headers, and its reply.
    from.send(
        format!(
            "SUB {tag}.inbox 9\r\nHPUB {tag}.plain {tag}.inbox 21 24\r\nNATS/1.0\r\nK: some\r\n\r\nask\r\n"
        )
        .as_bytes(),
    );
    let want = format!("HMSG {tag}.plain 1 {tag}.inbox 21 24");
    assert_eq!(message(to), Frame::Message(want, b"NATS/1.0\r\nK: some\r\n\r\nask".to_vec()));
    to.send(format!("PUB {tag}.inbox 6\r\nanswer\r\n").as_bytes());
    assert_eq!(message(from), Frame::Message(format!("MSG {tag}.inbox 9 6"), b"answer".to_vec()));
    // A queue group: each message to one of two.
    to.send(format!("SUB {tag}.work g 3\r\nSUB {tag}.work g 4\r\nSUB {tag}.done 5\r\n").as_bytes());
    to.sync();
    wait_for_interest(from, &format!("{tag}.done"));
    assert_eq!(to.expect_message(), b"");
    from.send(format!("PUB {tag}.work 1\r\nx\r\n").repeat(50).as_bytes());
    from.send(format!("PUB {tag}.done 0\r\n\r\n").as_bytes());
    let mut worked = 0;
    while message(to).line() != format!("MSG {tag}.done 5 0") {
        worked += 1;
    }
    assert_eq!(worked, 50, "{tag}");
    // A megabyte, and many in order.
    let large = vec![b'x'; 1024 * 1024];
    from.send(format!("PUB {tag}.plain {}\r\n", large.len()).as_bytes());
    from.send(&[&large[..], b"\r\n"].concat());
    assert!(to.expect_message() == large, "{tag}: a megabyte");
    let many: String = (0..5000).map(|n| format!("PUB {tag}.plain 8\r\n{n:08}\r\n")).collect();
    from.send(many.as_bytes());
    for n in 0..5000 {
        assert_eq!(to.expect_message(), format!("{n:08}").as_bytes(), "{tag}");
    }
    from.send(b"UNSUB 9\r\n");
    to.send(b"UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\nUNSUB 4\r\nUNSUB 5\r\n");
    to.sync();
    wait_for_silence(from, &format!("{tag}.plain"));
    assert_eq!(settled(to), [], "{tag}");
}

/// A leafnode's account LA and a hub's account HA are one.
fn shared(hub_program: &Path, leaf_program: &Path) {
    let hub = hub(hub_program, "");
    let url = format!("nats-leaf://a:x@127.0.0.1:{}", hub.leafnode_port());
    let leaf = leaf(leaf_program, "leaf", &format!("url: \"{url}\", account: LA"));
    let (mut above, mut below) = (client(&hub, "a"), client(&leaf, "l"));
    everything_between(&mut below, &mut above, "up");
    everything_between(&mut above, &mut below, "down");
    // Other accounts are none of the other side's business.
    let mut other = client(&leaf, "a");
    other.send(b"SUB up.> 1\r\nSUB down.> 2\r\n");
    other.sync();
    above.send(b"PUB down.x 1\r\nx\r\n");
    below.send(b"PUB up.x 1\r\nx\r\n");
    above.sync();
    below.sync();
    assert_eq!(settled(&mut other), []);
}

/// The hub goes and comes back: all is as before.
fn hub_restarts(hub_program: &Path, leaf_program: &Path) {
    let config =
        |port: &str| format!("server_name: hub\n{ACCOUNTS}\nleafnodes {{ listen: \"127.0.0.1:{port}\" }}");
    let first = Process::with_config(hub_program, &config("-1"));
    let port = first.leafnode_port();
    let url = format!("nats-leaf://a:x@127.0.0.1:{port}");
    let leaf = leaf(leaf_program, "leaf", &format!("url: \"{url}\", account: LA"));
    let mut below = client(&leaf, "l");
    let mut above = client(&first, "a");
    below.send(b"SUB stays 1\r\n");
    wait_for_interest(&mut above, "stays");
    above.send(b"SUB above 1\r\n");
    wait_for_interest(&mut below, "above");
    drop(first);
    wait_for_silence(&mut below, "above");
    let again = Process::with_config(hub_program, &config(&port.to_string()));
    let mut above = client(&again, "a");
    wait_for_interest(&mut above, "stays");
    everything_between(&mut below, &mut above, "again");
}

/// A leafnode that is connected to two servers of the hub's cluster hears each message once, and what is done at one is
/// known at the other.
fn two_hubs(hub_program: &Path, leaf_program: &Path) {
    let cluster = |name: &str, routes: &str| {
        format!(
            "server_name: {name}\n{ACCOUNTS}\nleafnodes {{ listen: \"127.0.0.1:-1\" }}\ncluster {{ name: HC, listen: \"127.0.0.1:-1\", {routes} }}"
        )
    };
    let one = Process::with_config(hub_program, &cluster("h1", ""));
    let routes = format!("routes: [\"nats-route://127.0.0.1:{}\"]", one.route_port());
    let two = Process::with_config(hub_program, &cluster("h2", &routes));
    let remote =
        |hub: &Process| format!("url: \"nats-leaf://a:x@127.0.0.1:{}\", account: LA", hub.leafnode_port());
    let [left, right] =
        [("left", &one), ("right", &two)].map(|(name, hub)| leaf(leaf_program, name, &remote(hub)));
    let (mut below, mut beside) = (client(&left, "l"), client(&right, "l"));
    everything_between(&mut below, &mut beside, "across");
    everything_between(&mut beside, &mut below, "back");
    let mut above = client(&two, "a");
    everything_between(&mut above, &mut below, "far");
    everything_between(&mut below, &mut above, "near");
}

/// Whoever is its own hub's hub is told so.
fn loops(hub_program: &Path, leaf_program: &Path) {
    let folder = Folder::new("loop");
    // Each is the other's leafnode: whoever dials second needs a port that is known before.
    let first = Process::with_config(hub_program, "server_name: one\nleafnodes { listen: \"127.0.0.1:-1\" }");
    let port = first.leafnode_port();
    drop(first);
    let text = format!(
        "server_name: two\nleafnodes {{ listen: \"127.0.0.1:-1\", remotes: [{{ url: \"nats-leaf://127.0.0.1:{port}\" }}] }}"
    );
    let second = Process::start(leaf_program, &["-D", "-c", &folder.file("two.conf", &text)]);
    let text = format!(
        "server_name: one\nleafnodes {{ listen: \"127.0.0.1:{port}\", remotes: [{{ url: \"nats-leaf://127.0.0.1:{}\" }}] }}",
        second.leafnode_port()
    );
    let first = Process::start(hub_program, &["-D", "-c", &folder.file("one.conf", &text)]);
    let found = |server: &Process| server.log().iter().any(|line| line.to_lowercase().contains("loop"));
    let until = std::time::Instant::now() + CONVERGES * 2;
    while !(found(&first) || found(&second)) {
        assert!(std::time::Instant::now() < until, "{:#?} {:#?}", first.log(), second.log());
        // Something to wait for: each answers once it has done what came before.
        client(&first, "").sync();
    }
    // One of the two connections is enough.
    let (mut here, mut there) = (client(&first, ""), client(&second, ""));
    subscribe(&mut there, &mut here, "once", "1");
    here.send(b"PUB once 1\r\nx\r\n");
    assert_eq!(there.expect_message(), b"x");
    assert_eq!(settled(&mut there), []);
}

/// Certificates, and both orders of greeting and handshake.
fn over_tls(hub_program: &Path, leaf_program: &Path, first: bool) {
    let authority = Authority::new();
    let (server, client_identity) = (authority.server("hub"), authority.client("leaf", "leaf", &[]));
    let first = if first { ", handshake_first: true" } else { "" };
    let tls = |cert: &str, key: &str| {
        format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{}\"{first}", authority.file())
    };
    let hub = Process::with_config(
        hub_program,
        &format!(
            "server_name: hub\n{ACCOUNTS}\nleafnodes {{ listen: \"127.0.0.1:-1\", {}, verify: true }} }}",
            tls(&server.certificate, &server.key)
        ),
    );
    let remote = format!(
        "url: \"tls://a:x@127.0.0.1:{}\", account: LA, {} }}",
        hub.leafnode_port(),
        tls(&client_identity.certificate, &client_identity.key)
    );
    let leaf = leaf(leaf_program, "leaf", &remote);
    everything_between(&mut client(&leaf, "l"), &mut client(&hub, "a"), "up");
    everything_between(&mut client(&hub, "a"), &mut client(&leaf, "l"), "down");
}

/// In WebSocket messages, with and without TLS.
fn over_websocket(hub_program: &Path, leaf_program: &Path, secure: bool) {
    let authority = Authority::new();
    let identity = authority.server("hub");
    let tls = if secure {
        format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", identity.certificate, identity.key)
    } else {
        "no_tls: true".to_owned()
    };
    let hub = hub(hub_program, &format!("websocket {{ listen: \"127.0.0.1:-1\", {tls} }}"));
    // Whoever has a block for TLS means it.
    let schemes = if secure { &["wss", "ws"][..] } else { &["ws"] };
    let trust = if secure { format!(", tls {{ ca_file: \"{}\" }}", authority.file()) } else { String::new() };
    for scheme in schemes {
        let port = hub.websocket_port().unwrap();
        let leaf = leaf(
            leaf_program,
            "leaf",
            &format!("url: \"{scheme}://a:x@127.0.0.1:{port}\", account: LA{trust}"),
        );
        everything_between(&mut client(&leaf, "l"), &mut client(&hub, "a"), "up");
        everything_between(&mut client(&hub, "a"), &mut client(&leaf, "l"), "down");
    }
}

/// By a key, and as a user of the leafnodes' own.
fn by_other_names(hub_program: &Path, leaf_program: &Path, keys: bool) {
    let key = nkeys::KeyPair::new_user();
    let (public, seed) = (key.public_key(), key.seed().unwrap());
    let text = format!(
        "server_name: hub\naccounts {{ HA {{ users: [{{user: a, pass: x}}, {{nkey: {public}}}] }} }}\nleafnodes {{ listen: \"127.0.0.1:-1\" }}"
    );
    let hub = Process::with_config(hub_program, &text);
    if keys {
        let remote = format!("url: \"nats-leaf://127.0.0.1:{}\", nkey: \"{seed}\"", hub.leafnode_port());
        let leaf = leaf(leaf_program, "leaf", &format!("{remote}, account: LA"));
        everything_between(&mut client(&leaf, "l"), &mut client(&hub, "a"), "key");
    }
    let own = format!(
        "server_name: hub\n{ACCOUNTS}\nleafnodes {{ listen: \"127.0.0.1:-1\", authorization {{ users: [{{user: u, password: p, account: HA}}] }} }}"
    );
    let hub = Process::with_config(hub_program, &own);
    let url =
        |login: &str| format!("url: \"nats-leaf://{login}@127.0.0.1:{}\", account: LA", hub.leafnode_port());
    let leaf_two = leaf(leaf_program, "leaf", &url("u:p"));
    everything_between(&mut client(&leaf_two, "l"), &mut client(&hub, "a"), "own");
    // And not as anybody else.
    let wrong = leaf(leaf_program, "wrong", &url("a:x"));
    wrong.wait_for_line("Authorization Violation");
}

/// Several hubs' accounts, a hub that is not at the first of its addresses, and what may not cross.
fn by_several_remotes(hub_program: &Path, leaf_program: &Path, isolates: bool) {
    let limited = "permissions { publish: [\"ok.>\", \"end\"], subscribe: [\"ok.>\", \"end\", \"up.>\"] }";
    let accounts = format!(
        "accounts {{ HA {{ users: [{{user: a, pass: x}}] }}, HB {{ users: [{{user: b, pass: x}}, {{user: p, pass: x, {limited}}}] }},
         LA {{ users: [{{user: l, pass: x}}] }}, LB {{ users: [{{user: m, pass: x}}] }} }}"
    );
    let hub = Process::with_config(
        hub_program,
        &format!("server_name: hub\n{accounts}\nleafnodes {{ listen: \"127.0.0.1:-1\" }}"),
    );
    let port = hub.leafnode_port();
    let start = |remotes: &str| {
        let text =
            format!("server_name: leaf\n{accounts}\nleafnodes {{ reconnect: 1, remotes: [{remotes}] }}");
        Process::with_config(leaf_program, &text)
    };
    let isolated = if isolates { ", isolate_leafnode_interest: true" } else { "" };
    let both = start(&format!(
        "{{ urls: [\"nats-leaf://a:x@127.0.0.1:1\", \"nats-leaf://a:x@127.0.0.1:{port}\"], no_randomize: true, account: LA, deny_imports: [\"in.no\"], deny_exports: [\"out.no\"] }},
         {{ url: \"nats-leaf://b:x@127.0.0.1:{port}\", account: LB{isolated} }}"
    ));
    let [mut a, mut b] = ["a", "b"].map(|user| client(&hub, user));
    let [mut l, mut m] = ["l", "m"].map(|user| client(&both, user));
    for (above, below, tag) in [(&mut a, &mut l, "first"), (&mut b, &mut m, "second")] {
        everything_between(below, above, &format!("{tag}.up"));
        everything_between(above, below, &format!("{tag}.down"));
    }
    // What is denied stays where it is, and nobody hears of the other account.
    subscribe(&mut a, &mut l, "out.yes", "1");
    subscribe(&mut l, &mut a, "in.yes", "1");
    for client in [&mut a, &mut l, &mut m] {
        client.send(b"SUB in.no 2\r\nSUB out.no 3\r\n");
        client.sync();
    }
    l.send(b"UNSUB 3\r\nPUB out.no 1\r\nx\r\nPUB out.yes 1\r\ny\r\n");
    assert_eq!(message(&mut a), Frame::Message("MSG out.yes 1 1".to_owned(), b"y".to_vec()));
    a.send(b"UNSUB 2\r\nPUB in.no 1\r\nx\r\nPUB in.yes 1\r\ny\r\n");
    assert_eq!(message(&mut l), Frame::Message("MSG in.yes 1 1".to_owned(), b"y".to_vec()));
    assert_eq!(settled(&mut m), []);
    drop(both);
    // What its user may not do.
    let limited = start(&format!("{{ url: \"nats-leaf://p:x@127.0.0.1:{port}\", account: LB }}"));
    let mut m = client(&limited, "m");
    b.send(b"SUB ok.up 1\r\nSUB no.up 2\r\nSUB end 3\r\n");
    b.sync();
    wait_for_interest(&mut m, "end");
    assert_eq!(b.expect_message(), b"", "the probe itself");
    m.send(b"PUB no.up 1\r\nx\r\nPUB ok.up 1\r\ny\r\n");
    assert_eq!(message(&mut b), Frame::Message("MSG ok.up 1 1".to_owned(), b"y".to_vec()));
}

/// By a token, and as the hub of whom it connects to.
fn by_token_and_as_hub(hub_program: &Path, leaf_program: &Path) {
    let hub = Process::with_config(
        hub_program,
        "server_name: hub\nauthorization { token: t0k }\nleafnodes { listen: \"127.0.0.1:-1\" }",
    );
    let port = hub.leafnode_port();
    let remote = format!("url: \"nats-leaf://t0k@127.0.0.1:{port}\"");
    let text = |more: &str| format!("server_name: leaf\nleafnodes {{ remotes: [{{ {remote}{more} }}] }}");
    for more in ["", ", hub: true"] {
        let leaf = Process::with_config(leaf_program, &text(more));
        let mut above = Raw::connect(hub.port());
        above.expect_line("INFO ");
        let options = r#""verbose":false,"headers":true,"no_responders":true,"auth_token":"t0k""#;
        above.send(format!("CONNECT {{{options}}}\r\n").as_bytes());
        above.sync();
        let mut below = client(&leaf, "");
        everything_between(&mut below, &mut above, "up");
        everything_between(&mut above, &mut below, "down");
    }
}

/// What goes between them is compressed, if both want that.
fn compressed(hub_program: &Path, leaf_program: &Path) {
    for (above, below, want) in [
        ("s2_fast", "s2_best", ["s2_fast", "s2_best"]),
        ("accept", "s2_better", ["s2_better", "s2_better"]),
        ("{ mode: s2_auto, rtt_thresholds: [0s, 1h] }", "accept", ["s2_fast", "s2_fast"]),
        ("off", "s2_fast", ["off", "off"]),
        ("s2_fast", "off", ["off", "off"]),
        ("accept", "accept", ["off", "off"]),
    ] {
        let http = "http: \"127.0.0.1:-1\"";
        let text = format!(
            "server_name: hub\n{http}\n{ACCOUNTS}\nleafnodes {{ listen: \"127.0.0.1:-1\", compression: {above} }}"
        );
        let hub = Process::with_config(hub_program, &text);
        let url = format!("nats-leaf://a:x@127.0.0.1:{}", hub.leafnode_port());
        let remote = format!("url: \"{url}\", account: LA, compression: {below}");
        let text =
            format!("server_name: leaf\n{http}\n{ACCOUNTS}\nleafnodes {{ remotes: [{{ {remote} }}] }}");
        let leaf = Process::with_config(leaf_program, &text);
        let (mut at_hub, mut at_leaf) = (client(&hub, "a"), client(&leaf, "l"));
        everything_between(&mut at_leaf, &mut at_hub, "up");
        everything_between(&mut at_hub, &mut at_leaf, "down");
        for (server, want) in [(&hub, want[0]), (&leaf, want[1])] {
            let page = crate::monitoring::json(server, "/leafz");
            // nats-server has two words for that.
            let got = page["leafs"][0]["compression"].as_str().unwrap().replace("not supported", "off");
            assert_eq!(got, want, "{hub_program:?} {above}, {leaf_program:?} {below}");
        }
    }
}

fn pairs(stock: &Path, with: impl Fn(&Path, &Path)) {
    let ours = midged();
    with(&ours, stock);
    with(stock, &ours);
}

/// A JWT of version 2 (nats-io/jwt): claims that `by` signs.
pub(crate) fn jwt(by: &KeyPair, of: &KeyPair, nats: &str) -> String {
    let header = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
    let claims = format!(
        r#"{{"jti":"X","iat":1700000000,"iss":"{}","name":"n","sub":"{}","nats":{nats}}}"#,
        by.public_key(),
        of.public_key()
    );
    let said = format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(header.as_bytes()),
        BASE64URL_NOPAD.encode(claims.as_bytes())
    );
    let signature = BASE64URL_NOPAD.encode(&by.sign(said.as_bytes()).unwrap());
    format!("{said}.{signature}")
}

/// A hub whose users are not in its configuration: a leafnode is known by its credentials file.
fn by_credentials(hub_program: &Path) {
    let [operator, account, user] = [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user()];
    let limits = r#""subs":-1,"data":-1,"payload":-1"#;
    let operator_jwt = jwt(&operator, &operator, r#"{"type":"operator","version":2}"#);
    let account_jwt = jwt(
        &operator,
        &account,
        &format!(
            r#"{{"limits":{{{limits},"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1}},"type":"account","version":2}}"#
        ),
    );
    let user_jwt =
        jwt(&account, &user, &format!(r#"{{"pub":{{}},"sub":{{}},{limits},"type":"user","version":2}}"#));
    let public = account.public_key();
    let config = format!(
        "server_name: hub\noperator: {operator_jwt}\nresolver: MEMORY\nresolver_preload {{ {public}: {account_jwt} }}\nleafnodes {{ listen: \"127.0.0.1:-1\" }}"
    );
    let hub = Process::with_config(hub_program, &config);
    let folder = Folder::new("credentials");
    let file = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    };
    let url = format!("nats-leaf://127.0.0.1:{}", hub.leafnode_port());
    let with = |path: &Path| format!("url: \"{url}\", account: LA, credentials: \"{}\"", path.display());
    let good = file("good.creds", &user.seed().unwrap());
    let leaf_of = |remote: &str| leaf(&midged(), "leaf", remote);
    let below = leaf_of(&with(&good));
    // A client that is known likewise.
    let mut above = Raw::connect(hub.port());
    let info: serde_json::Value =
        serde_json::from_str(above.expect_line("INFO ").strip_prefix("INFO ").unwrap()).unwrap();
    let nonce = info["nonce"].as_str().unwrap();
    let sig = BASE64URL_NOPAD.encode(&user.sign(nonce.as_bytes()).unwrap());
    let options = r#""verbose":false,"headers":true,"no_responders":true"#;
    above.send(format!("CONNECT {{{options},\"jwt\":\"{user_jwt}\",\"sig\":\"{sig}\"}}\r\n").as_bytes());
    above.sync();
    let mut at_leaf = client(&below, "l");
    everything_between(&mut at_leaf, &mut above, "up");
    everything_between(&mut above, &mut at_leaf, "down");
    // Another's key signs for nobody.
    let bad = file("bad.creds", &KeyPair::new_user().seed().unwrap());
    leaf_of(&with(&bad)).wait_for_line("Authorization Violation");
}

macro_rules! for_each_version {
    ($($name:ident $version:expr;)*) => {
        $(mod $name {
            use super::*;

            fn stock() -> PathBuf {
                nats_servers()[$version].clone()
            }

            #[test]
            fn accounts_are_shared() {
                pairs(&stock(), shared);
            }

            #[test]
            fn a_hub_goes_and_comes_back() {
                pairs(&stock(), hub_restarts);
            }

            #[test]
            fn leafnodes_meet_through_the_hubs_cluster() {
                pairs(&stock(), two_hubs);
            }

            #[test]
            fn a_loop_is_refused() {
                pairs(&stock(), loops);
            }

            #[test]
            fn certificates_are_shown() {
                pairs(&stock(), |hub, leaf| over_tls(hub, leaf, false));
                if $version > 0 {
                    pairs(&stock(), |hub, leaf| over_tls(hub, leaf, true));
                }
            }

            #[test]
            fn websocket_carries_it() {
                pairs(&stock(), |hub, leaf| over_websocket(hub, leaf, false));
                pairs(&stock(), |hub, leaf| over_websocket(hub, leaf, true));
            }

            #[test]
            fn several_remotes_and_what_may_not_cross() {
                pairs(&stock(), |hub, leaf| by_several_remotes(hub, leaf, $version > 1));
            }

            #[test]
            fn a_token_and_the_hubs_part() {
                by_token_and_as_hub(&stock(), &midged());
                // 2.9 has no way to say a token; its hub asks for none.
                if $version > 0 {
                    by_token_and_as_hub(&midged(), &stock());
                }
            }

            #[test]
            fn a_leafnode_is_known_by_its_credentials() {
                by_credentials(&stock());
            }

            #[test]
            fn what_goes_across_is_compressed() {
                // 2.9 knows of none.
                if $version > 0 {
                    pairs(&stock(), compressed);
                }
            }

            #[test]
            fn leafnodes_are_known_by_keys_and_by_names() {
                pairs(&stock(), |hub, leaf| by_other_names(hub, leaf, $version > 0));
            }
        })*
    };
}

for_each_version! {
    with_2_9 0;
    with_2_10 1;
    with_2_15 2;
}

#[test]
fn both_midged() {
    let ours = midged();
    shared(&ours, &ours);
    hub_restarts(&ours, &ours);
    two_hubs(&ours, &ours);
    loops(&ours, &ours);
    over_tls(&ours, &ours, false);
    over_tls(&ours, &ours, true);
    by_other_names(&ours, &ours, true);
    compressed(&ours, &ours);
    by_several_remotes(&ours, &ours, true);
    by_token_and_as_hub(&ours, &ours);
    over_websocket(&ours, &ours, false);
    over_websocket(&ours, &ours, true);
}

/// What a hub tells of a leafnode in events and on pages is what nats-server tells.
#[test]
fn hubs_tell_of_leafnodes_as_the_original_does() {
    let told: Vec<(serde_json::Value, serde_json::Value)> = [midged(), program("NATS_SERVER")]
        .iter()
        .map(|hub_program| {
            let text = "server_name: hub\nhttp: \"127.0.0.1:-1\"\naccounts { HA { users: [{user: a, pass: x}] }, $SYS { users: [{user: s, pass: x}] } }\nleafnodes { listen: \"127.0.0.1:-1\", compression: off }";
            let hub = Process::with_config(hub_program, text);
            let mut system = client(&hub, "s");
            system.send(b"SUB $SYS.ACCOUNT.HA.CONNECT 1\r\n");
            system.sync();
            let url = format!("url: \"nats-leaf://a:x@127.0.0.1:{}\"", hub.leafnode_port());
            let leaf = leaf(&midged(), "leaf", &format!("{url}, account: LA"));
            let event = serde_json::from_slice(&system.expect_message()).unwrap();
            // What is wanted behind it is known once that of a client is.
            let mut below = client(&leaf, "l");
            below.send(b"SUB x 1\r\n");
            wait_for_interest(&mut client(&hub, "a"), "x");
            let page = crate::monitoring::json(&hub, "/leafz");
            (event, page)
        })
        .collect();
    let [(our_event, our_page), (their_event, their_page)] = &told[..] else { panic!() };
    crate::shape::same_shape("CONNECT", our_event, their_event);
    for key in ["name", "kind", "user", "acc"] {
        assert_eq!(our_event["client"][key], their_event["client"][key], "{key}");
    }
    crate::shape::same_shape("/leafz", our_page, their_page);
}
