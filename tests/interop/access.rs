//! Every way of not being let in, and of being let in. What a client is told is asked of nats-server, too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use midge_testkit::process::{PATIENCE, Process, program};
use midge_testkit::raw::{Frame, Raw};
use midge_testkit::tls::{Authority, Identity};
use rcgen::SanType;
use rustls::{ClientConfig, ProtocolVersion};

const VIOLATION: &str = "-ERR 'Authorization Violation'";

/// midged and nats-server with the same configuration.
fn both(config: &str) -> [Process; 2] {
    ["MIDGED", "NATS_SERVER"].map(|name| Process::with_config(&program(name), config))
}

fn midged(config: &str) -> Process {
    Process::with_config(&program("MIDGED"), config)
}

/// What a client hears that says this, and whether the server hangs up then. INFO lines are left out.
fn answer(mut client: Raw, text: &str) -> (Vec<String>, bool) {
    client.send(text.as_bytes());
    client.send(b"PING\r\n");
    let mut heard = Vec::new();
    while let Some(frame) = client.frame() {
        let line = frame.line().to_owned();
        if !line.starts_with("INFO ") {
            heard.push(line.clone());
        }
        if line == "PONG" {
            return (heard, false);
        }
    }
    (heard, true)
}

fn connect(fields: &str) -> String {
    format!("CONNECT {{\"verbose\":false,\"pedantic\":false,{fields}}}\r\n")
}

/// Whether somebody is let in who shows this.
#[track_caller]
fn is_let_in(client: Raw, fields: &str) -> bool {
    let (heard, closed) = answer(client, &connect(fields));
    if closed {
        assert_eq!(heard, [VIOLATION], "{fields}");
    } else {
        assert_eq!(heard, ["PONG"], "{fields}");
    }
    !closed
}

#[test]
fn credentials_that_are_wrong_or_missing_are_refused() {
    let hash = bcrypt::hash("s3cret", 5).unwrap();
    let users = format!("authorization {{ users: [{{user: a, pass: x}}, {{user: h, pass: \"{hash}\"}}] }}");
    let cases: [(&str, &[(&str, bool)]); 3] = [
        (
            "authorization { token: t0k }",
            &[
                (r#""auth_token":"t0k""#, true),
                (r#""auth_token":"T0k""#, false),
                (r#""user":"t0k""#, false),
                (r#""name":"x""#, false),
            ],
        ),
        (
            "authorization { user: u, pass: p }",
            &[
                (r#""user":"u","pass":"p""#, true),
                (r#""user":"u","pass":"P""#, false),
                (r#""user":"u""#, false),
                (r#""user":"v","pass":"p""#, false),
            ],
        ),
        (
            &users,
            &[
                (r#""user":"a","pass":"x""#, true),
                (r#""user":"h","pass":"s3cret""#, true),
                (r#""user":"h","pass":"s3creT""#, false),
                (r#""user":"h""#, false),
                (r#""user":"nobody","pass":"x""#, false),
                (r#""auth_token":"x""#, false),
                (r#""user":"a","pass":"x","account":"B""#, false),
            ],
        ),
    ];
    for (config, claims) in cases {
        for server in both(config) {
            for (fields, let_in) in claims {
                assert_eq!(is_let_in(Raw::connect(server.port()), fields), *let_in, "{config}: {fields}");
            }
            let (heard, closed) = answer(Raw::connect(server.port()), "PUB a 0\r\n\r\n");
            assert_eq!((heard, closed), (vec![VIOLATION.to_owned()], true), "nothing comes before a CONNECT");
        }
    }
}

#[test]
fn hashing_does_not_hold_others_up() {
    let hash = bcrypt::hash("s3cret", 13).unwrap();
    let server = midged(&format!(
        "authorization {{ users: [{{user: quick, pass: x}}, {{user: slow, pass: \"{hash}\"}}] }}, shards: 1"
    ));
    let mut slow = Raw::connect(server.port());
    slow.frame();
    slow.send(connect(r#""user":"slow","pass":"s3cret""#).as_bytes());
    slow.send(b"PING\r\n");
    let mut quick = Raw::connect(server.port());
    quick.send(connect(r#""user":"quick","pass":"x""#).as_bytes());
    for _ in 0..20 {
        assert!(quick.sync().iter().all(|frame| frame.line().starts_with("INFO ")));
    }
    assert_eq!(slow.frame_within(Duration::from_millis(1)), None, "it is still being hashed");
    slow.expect_line("PONG");
}

/// What a connection is given to sign.
fn nonce(info: &Frame) -> String {
    let json: serde_json::Value = serde_json::from_str(info.line().strip_prefix("INFO ").unwrap()).unwrap();
    json["nonce"].as_str().unwrap().to_owned()
}

#[test]
fn keys_must_sign_the_connections_own_nonce() {
    use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD};
    let (pair, other) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let key = pair.public_key();
    for server in both(&format!("authorization {{ users: [{{nkey: {key}}}] }}")) {
        let replayed = {
            let mut earlier = Raw::connect(server.port());
            let nonce = nonce(&earlier.frame().unwrap());
            assert_eq!(nonce.len(), 15);
            pair.sign(nonce.as_bytes()).unwrap()
        };
        type Proof<'a> = &'a dyn Fn(&str) -> String;
        let signed = |pair: &nkeys::KeyPair, nonce: &str| pair.sign(nonce.as_bytes()).unwrap();
        let own = |fields: String| format!(r#""nkey":"{key}",{fields}"#);
        let cases: [(&str, bool, Proof<'_>); 8] = [
            ("URL-safe", true, &|nonce| {
                own(format!(r#""sig":"{}""#, BASE64URL_NOPAD.encode(&signed(&pair, nonce))))
            }),
            ("standard", true, &|nonce| own(format!(r#""sig":"{}""#, BASE64.encode(&signed(&pair, nonce))))),
            // Where both alphabets give the same text, this is the standard form.
            ("URL-safe with padding", false, &|nonce| {
                let mut text = BASE64URL.encode(&signed(&pair, nonce));
                text.insert(0, '-');
                own(format!(r#""sig":"{text}""#))
            }),
            ("replayed", false, &|_| own(format!(r#""sig":"{}""#, BASE64URL_NOPAD.encode(&replayed)))),
            ("another's", false, &|nonce| {
                own(format!(r#""sig":"{}""#, BASE64URL_NOPAD.encode(&signed(&other, nonce))))
            }),
            ("unknown", false, &|nonce| {
                let sig = BASE64URL_NOPAD.encode(&signed(&other, nonce));
                format!(r#""nkey":"{}","sig":"{sig}""#, other.public_key())
            }),
            ("missing", false, &|_| own(r#""name":"x""#.to_owned())),
            ("cut short", false, &|nonce| {
                own(format!(r#""sig":"{}""#, BASE64.encode(&signed(&pair, nonce)[..60])))
            }),
        ];
        for (case, let_in, proof) in cases {
            let mut client = Raw::connect(server.port());
            let nonce = nonce(&client.frame().unwrap());
            assert_eq!(is_let_in(client, &proof(&nonce)), let_in, "{case}");
        }
    }
}

#[test]
fn who_says_nothing_must_say_it_in_time() {
    for server in both("authorization { token: t, timeout: 0.3 }") {
        let mut silent = Raw::connect(server.port());
        silent.send(b"CONNECT {\"auth_tok");
        let lines: Vec<String> = silent.rest().iter().map(|frame| frame.line().to_owned()).collect();
        assert_eq!(lines[1..], ["-ERR 'Authentication Timeout'".to_owned()]);
    }
}

#[test]
fn credentials_that_are_too_large_are_refused() {
    for server in both("authorization { token: t }") {
        let (heard, closed) =
            answer(Raw::connect(server.port()), &connect(&format!(r#""auth_token":"{}""#, "t".repeat(5000))));
        assert_eq!((heard, closed), (vec!["-ERR 'maximum control line exceeded'".to_owned()], true));
    }
}

#[test]
fn users_come_by_the_connections_that_they_may() {
    let config = "authorization { users: [
        {user: w, pass: x, connection_types: [WEBSOCKET]}, {user: s, pass: x, connection_types: [STANDARD]}
      ] }
      websocket { listen: \"127.0.0.1:-1\", no_tls: true }";
    for server in both(config) {
        let (w, s) = (r#""user":"w","pass":"x""#, r#""user":"s","pass":"x""#);
        let websocket = || Raw::connect_websocket(server.websocket_port().unwrap(), &[], None).unwrap();
        assert!(!is_let_in(Raw::connect(server.port()), w) && is_let_in(Raw::connect(server.port()), s));
        assert!(is_let_in(websocket(), w) && !is_let_in(websocket(), s));
    }
}

#[test]
fn limits_of_an_account_are_kept() {
    let config = "accounts { A { users: [{user: a, pass: x}], limits: {max_connections: 2, max_subscriptions: 1, max_payload: 8} }, B { users: [{user: b, pass: x}] } }";
    for server in both(config) {
        let join = |user: &str| {
            let mut client = Raw::connect(server.port());
            client.frame();
            client.send(connect(&format!(r#""user":"{user}","pass":"x","protocol":1"#)).as_bytes());
            client
        };
        let mut one = join("a");
        one.sync();
        one.send(b"SUB x 1\r\nSUB y 2\r\n");
        let said: Vec<String> = one.sync().iter().map(|frame| frame.line().to_owned()).collect();
        assert_eq!(said.last().unwrap(), "-ERR 'maximum subscriptions exceeded'");
        let mut two = join("a");
        two.sync();
        let mut third = join("a");
        let said: Vec<String> = third.rest().iter().map(|frame| frame.line().to_owned()).collect();
        assert_eq!(said, ["-ERR 'maximum account active connections exceeded'"]);
        let mut other = join("b");
        other.sync();
        other.send(b"PUB x 9\r\n123456789\r\n");
        let said = other.sync().into_iter().filter(|frame| !frame.line().starts_with("INFO ")).count();
        assert_eq!(said, 0, "the other account has no such limit");
        two.send(b"PUB x 9\r\n123456789\r\n");
        two.expect_line("-ERR 'Maximum Payload Violation'");
        drop((one, two));
        let mut again = join("a");
        // Those who left make room, a moment later.
        while again.is_closed() || again.sync().is_empty() && again.is_closed() {
            again = join("a");
        }
    }
}

#[test]
fn accounts_hear_nothing_of_each_other() {
    let server = midged(
        "accounts { A { users: [{user: a, pass: x}] }, B { users: [{user: b, pass: x}] }, $SYS { users: [{user: s, pass: x}] } }
         authorization { users: [{user: g, pass: x}] }",
    );
    let mut clients: Vec<Raw> = ["a", "b", "g", "s"]
        .iter()
        .map(|user| {
            let mut client = Raw::connect(server.port());
            client.frame();
            let more = r#""headers":true,"no_responders":true"#;
            client.send(connect(&format!(r#""user":"{user}","pass":"x",{more}"#)).as_bytes());
            client.send(b"SUB t.> 1\r\nSUB t.* q 2\r\nSUB _INBOX.> 3\r\n");
            client.sync();
            client
        })
        .collect();
    clients[0].send(b"PUB t.x _INBOX.r 2\r\nhi\r\nPUB _INBOX.r 5\r\nreply\r\nPUB $SYS.x 1\r\nx\r\n");
    let own: Vec<String> = clients[0].sync().iter().map(|frame| frame.line().to_owned()).collect();
    assert_eq!(own.len(), 3, "both of its own subscriptions and its inbox: {own:?}");
    for (number, client) in clients.iter_mut().enumerate().skip(1) {
        let messages = client.sync().into_iter().filter(|frame| matches!(frame, Frame::Message(..))).count();
        assert_eq!(messages, 0, "connection {number} is in another account");
    }
    // Nobody in the other account listens to what only A listens to.
    clients[0].send(b"SUB only.a 9\r\n");
    clients[0].sync();
    clients[1].send(b"PUB only.a _INBOX.none 0\r\n\r\n");
    let told: Vec<Frame> = clients[1].sync();
    assert!(told[0].line().starts_with("HMSG _INBOX.none 3 "), "{told:?}");
}

/// A server with TLS, and what clients need for it.
struct Secure {
    authority: Authority,
    files: String,
    client: Identity,
}

impl Secure {
    fn new() -> Self {
        let authority = Authority::new();
        let server = authority.server("server");
        let files = format!("cert_file: \"{}\", key_file: \"{}\"", server.certificate, server.key);
        let client =
            authority.client("client", "alice", &[SanType::DnsName("alice.example".try_into().unwrap())]);
        Self { authority, files, client }
    }

    fn trust(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        self.authority.trusting(identity, &[])
    }
}

/// Whether the server ends the connection without letting the client in.
fn is_hung_up_on(mut client: Raw) -> bool {
    client.send(b"CONNECT {\"verbose\":false}\r\nPING\r\n");
    let frames = client.rest();
    client.is_closed() && !frames.iter().any(|frame| frame.line() == "PONG")
}

#[test]
fn a_client_without_tls_is_refused_where_it_is_needed() {
    let secure = Secure::new();
    for server in both(&format!("tls {{ {}, timeout: 0.5 }}", secure.files)) {
        assert!(is_hung_up_on(Raw::connect(server.port())), "it says CONNECT");
        let mut silent = Raw::connect(server.port());
        assert!(silent.frame().unwrap().line().contains("\"tls_required\":true"));
        silent.rest();
        let mut slow = Raw::connect(server.port());
        slow.frame();
        // The beginning of a handshake, and no more.
        slow.send(&[0x16, 3, 1, 2, 0, 1]);
        slow.rest();
        assert!(slow.is_closed());
        assert!(is_let_in(Raw::connect_tls(server.port(), &secure.trust(None)), r#""name":"x""#));
    }
}

#[test]
fn certificates_are_looked_at() {
    let (secure, stranger) = (Secure::new(), Secure::new());
    let verify =
        format!("tls {{ {}, ca_file: \"{}\", verify: true }}", secure.files, secure.authority.file());
    let pin = "ab".repeat(32);
    let pinned = format!(
        "tls {{ {}, ca_file: \"{}\", verify: true, pinned_certs: [\"{pin}\"] }}",
        secure.files,
        secure.authority.file()
    );
    for server in both(&verify) {
        let reach = |trust: &Arc<ClientConfig>| Raw::connect_tls(server.port(), trust);
        assert!(is_hung_up_on(reach(&secure.trust(None))), "no certificate");
        let foreign = secure.authority.trusting(Some(&stranger.client), &[]);
        assert!(is_hung_up_on(reach(&foreign)), "another authority's");
        let expired = secure.authority.expired_client("expired", "alice");
        assert!(is_hung_up_on(reach(&secure.trust(Some(&expired)))), "expired");
        assert!(is_let_in(reach(&secure.trust(Some(&secure.client))), r#""name":"x""#));
    }
    for server in both(&pinned) {
        let trust = secure.trust(Some(&secure.client));
        assert!(is_hung_up_on(Raw::connect_tls(server.port(), &trust)), "a key that is not pinned");
    }
    let ours = midged(&pinned);
    assert!(is_hung_up_on(Raw::connect_tls(ours.port(), &secure.trust(Some(&secure.client)))));
    ours.wait_for_line("TLS handshake error: certificate not pinned");
}

#[test]
fn no_older_tls_than_allowed_is_spoken() {
    let secure = Secure::new();
    for server in both(&format!("tls {{ {}, min_version: \"1.3\" }}", secure.files)) {
        let old = secure.authority.trusting(None, &[ProtocolVersion::TLSv1_2]);
        assert!(is_hung_up_on(Raw::connect_tls(server.port(), &old)));
        assert!(is_let_in(Raw::connect_tls(server.port(), &secure.trust(None)), r#""name":"x""#));
    }
    for server in both(&format!("tls {{ {} }}", secure.files)) {
        let old = secure.authority.trusting(None, &[ProtocolVersion::TLSv1_2]);
        assert!(is_let_in(Raw::connect_tls(server.port(), &old), r#""name":"x""#));
        // A handshake of TLS 1.0, by the version in its record and in its hello.
        let mut raw = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        raw.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
        raw.write_all(&hello).unwrap();
        let mut rest = Vec::new();
        let _ = raw.read_to_end(&mut rest);
        let alert = rest.split(|byte| *byte == b'\n').next_back().unwrap_or_default();
        assert!(alert.is_empty() || alert[0] == 0x15, "nothing but an alert: {alert:?}");
    }
}

#[test]
fn the_certificate_says_who_somebody_is() {
    let secure = Secure::new();
    let by_subject = secure.authority.client("bob", "bob", &[]);
    let nobody = secure.authority.client("nobody", "nobody", &[]);
    let config = format!(
        "tls {{ {}, ca_file: \"{}\", verify_and_map: true }}
         authorization {{ users: [{{user: \"alice.example\", permissions: {{publish: alices}}}}, {{user: \"CN=bob\", permissions: {{publish: bobs}}}}] }}",
        secure.files,
        secure.authority.file()
    );
    for server in both(&config) {
        for (identity, own) in [(&secure.client, "alices"), (&by_subject, "bobs")] {
            let mut client = Raw::connect_tls(server.port(), &secure.trust(Some(identity)));
            client.send(connect(r#""name":"x""#).as_bytes());
            client.send(format!("PUB {own} 0\r\n\r\nPUB other 0\r\n\r\n").as_bytes());
            let said: Vec<String> = client.sync().iter().map(|frame| frame.line().to_owned()).collect();
            assert_eq!(
                said[1..],
                ["-ERR 'Permissions Violation for Publish to \"other\"'".to_owned()],
                "{own}"
            );
        }
        let client = Raw::connect_tls(server.port(), &secure.trust(Some(&nobody)));
        assert!(!is_let_in(client, r#""user":"CN=bob""#), "what is said does not count");
    }
}

#[test]
fn tls_may_come_first_or_not_at_all() {
    let secure = Secure::new();
    let trust = secure.trust(None);
    for server in both(&format!("tls {{ {}, handshake_first: true, timeout: 0.5 }}", secure.files)) {
        assert!(is_let_in(Raw::connect_tls_first(server.port(), &trust), r#""name":"x""#));
        let mut plain = Raw::connect(server.port());
        assert!(plain.rest().is_empty(), "nothing is said before the handshake");
    }
    for server in both(&format!("tls {{ {}, handshake_first: \"150ms\" }}", secure.files)) {
        assert!(is_let_in(Raw::connect_tls_first(server.port(), &trust), r#""name":"x""#));
        assert!(is_let_in(Raw::connect_tls(server.port(), &trust), r#""name":"x""#));
    }
    for server in both(&format!("allow_non_tls: true, tls {{ {} }}", secure.files)) {
        assert!(is_let_in(Raw::connect_tls(server.port(), &trust), r#""name":"x""#));
        let mut plain = Raw::connect(server.port());
        assert!(plain.frame().unwrap().line().contains("\"tls_available\":true"));
        assert!(is_let_in(plain, r#""name":"x""#));
    }
}

#[test]
fn handshakes_are_limited_by_the_second() {
    let secure = Secure::new();
    let server = midged(&format!("tls {{ {}, connection_rate_limit: 2 }}", secure.files));
    let mut throttled = 0;
    for _ in 0..20 {
        let mut client = Raw::connect(server.port());
        let line = client.frame().unwrap().line().to_owned();
        throttled += usize::from(line == "-ERR 'Connection throttling is active. Please try again later.'");
    }
    assert!(throttled >= 10, "only {throttled}");
}

#[test]
fn websockets_are_refused_for_many_reasons() {
    let config = "websocket { listen: \"127.0.0.1:-1\", no_tls: true, handshake_timeout: \"500ms\", same_origin: true, headers: {X-Own: own} }";
    for server in both(config) {
        let port = server.websocket_port().unwrap();
        let head = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut said = Vec::new();
            let mut buffer = [0; 1024];
            while !said.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => said.extend_from_slice(&buffer[..n]),
                }
            }
            String::from_utf8_lossy(&said).into_owned()
        };
        let status = |request: String| ask(&request).lines().next().unwrap_or_default().to_owned();
        let good = format!("GET / HTTP/1.1\r\n{head}Sec-WebSocket-Version: 13\r\n\r\n");
        let said = ask(&good);
        assert!(said.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{said}");
        assert!(said.to_lowercase().contains("\r\nx-own: own\r\n"), "{said}");
        assert!(said.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{said}");
        for (request, code) in [
            (good.replace("GET", "POST"), "405"),
            (good.replace("Upgrade: websocket\r\n", ""), "400"),
            (good.replace("Connection: Upgrade\r\n", ""), "400"),
            (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400"),
            (good.replace("Version: 13", "Version: 12"), "400"),
            (good.replace("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n"), "403"),
            (good.replace("GET / ", "GET /mqtt "), "404"),
        ] {
            let said = status(request.clone());
            assert!(said.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {said}");
        }
        // Somebody who never ends his request.
        let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
        slow.set_read_timeout(Some(PATIENCE)).unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ").unwrap();
        let mut rest = Vec::new();
        let ended = slow.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|why| why.kind() == std::io::ErrorKind::ConnectionReset));
    }
}

#[test]
fn cookies_say_who_somebody_is() {
    let config = "authorization { users: [{user: a, pass: x}, {user: b, pass: y}] }
      websocket { listen: \"127.0.0.1:-1\", no_tls: true, user_cookie: u, pass_cookie: p }";
    for server in both(config) {
        let reach = |cookie: &str| {
            Raw::connect_websocket(server.websocket_port().unwrap(), &[("cookie", cookie)], None).unwrap()
        };
        assert!(is_let_in(reach("u=a; p=x"), r#""name":"x""#));
        assert!(!is_let_in(reach("u=a; p=y"), r#""name":"x""#));
        assert!(is_let_in(reach("u=a; p=x"), r#""user":"b","pass":"y""#), "what CONNECT says counts");
    }
}

#[test]
fn slow_handshakes_of_tls_end_and_leave_others_unharmed() {
    let secure = Secure::new();
    let server = midged(&format!(
        "tls {{ {0}, timeout: 1 }}, websocket {{ listen: \"127.0.0.1:-1\", handshake_timeout: \"1s\", tls {{ {0} }} }}",
        secure.files
    ));
    let mut idle: Vec<Raw> = (0..300)
        .map(|number| {
            let port = if number % 2 == 0 { server.port() } else { server.websocket_port().unwrap() };
            let mut raw = Raw::connect(port);
            raw.send(&[0x16, 3, 1, 2]);
            raw
        })
        .collect();
    assert!(is_let_in(Raw::connect_tls(server.port(), &secure.trust(None)), r#""name":"x""#));
    let secret = secure.trust(None);
    let websocket = Raw::connect_websocket(server.websocket_port().unwrap(), &[], Some(&secret)).unwrap();
    assert!(is_let_in(websocket, r#""name":"x""#));
    for raw in &mut idle {
        raw.rest();
        assert!(raw.is_closed());
    }
}

#[test]
fn answers_may_be_given_as_often_and_as_long_as_allowed() {
    let config = "authorization { users: [
        {user: asks, pass: x},
        {user: once, pass: x, permissions: {subscribe: \"q.>\", allow_responses: true}},
        {user: late, pass: x, permissions: {subscribe: \"q.>\", allow_responses: {max: 5, expires: \"100ms\"}}}
      ] }";
    for server in both(config) {
        let join = |user: &str| {
            let mut client = Raw::connect(server.port());
            client.frame();
            client.send(connect(&format!(r#""user":"{user}","pass":"x""#)).as_bytes());
            client.sync();
            client
        };
        let lines =
            |frames: Vec<Frame>| frames.iter().map(|frame| frame.line().to_owned()).collect::<Vec<_>>();
        let denied = "-ERR 'Permissions Violation for Publish to \"r.1\"'".to_owned();
        let (mut asks, mut once, mut late) = (join("asks"), join("once"), join("late"));
        once.send(b"SUB q.once 1\r\nPUB r.1 0\r\n\r\n");
        assert_eq!(lines(once.sync()), [denied.as_str()], "nothing was asked yet");
        asks.send(b"PUB q.once r.1 0\r\n\r\n");
        asks.sync();
        once.expect_message();
        once.send(b"PUB r.1 0\r\n\r\nPUB r.1 0\r\n\r\n");
        assert_eq!(lines(once.sync()), [denied.as_str()], "one answer, and no more");
        late.send(b"SUB q.late 1\r\n");
        late.sync();
        asks.send(b"PUB q.late r.1 0\r\n\r\n");
        asks.sync();
        late.expect_message();
        late.send(b"PUB r.1 0\r\n\r\n");
        assert!(lines(late.sync()).is_empty(), "in time");
        // The time itself is what is tested here.
        std::thread::sleep(Duration::from_millis(150));
        late.send(b"PUB r.1 0\r\n\r\n");
        assert_eq!(lines(late.sync()), [denied], "too late");
    }
}
