//! New options for a midged that runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use midge_testkit::process::{Folder, Process, program};
use midge_testkit::raw::{Frame, Raw};
use midge_testkit::tls::Authority;

use crate::servers::{subscribe, wait_for_silence};

/// A midged whose configuration is written anew.
struct Reloading {
    server: Process,
    path: PathBuf,
    _folder: Folder,
}

impl Reloading {
    fn start(config: &str) -> Self {
        let folder = Folder::new("reload");
        let path = folder.file("server.conf", config);
        let server = Process::start(&program("MIDGED"), &["-c", &path]);
        Self { server, path: path.into(), _folder: folder }
    }

    /// Reads another configuration; the log line that says what came of it.
    fn reload(&self, config: &str) -> String {
        write(&self.path, config);
        let order = format!("reload={}", self.server.pid());
        let status = Command::new(program("MIDGED")).args(["--signal", &order]).status().unwrap();
        assert!(status.success(), "{status}");
        self.server.wait_for_line("server configuration")
    }

    #[track_caller]
    fn takes(&self, config: &str) {
        let line = self.reload(config);
        assert!(line.contains("[INF] Reloaded server configuration (sha256:"), "{line}");
    }

    fn join(&self, fields: &str) -> Raw {
        let mut client = Raw::connect(self.server.port());
        client.frame();
        client.send(format!("CONNECT {{\"verbose\":false,\"pedantic\":false,{fields}}}\r\n").as_bytes());
        client.sync();
        assert!(!client.is_closed(), "{fields}");
        client
    }
}

fn write(path: &Path, config: &str) {
    std::fs::write(path, config).unwrap();
}

fn lines(frames: Vec<Frame>) -> Vec<String> {
    frames.iter().map(|frame| frame.line().to_owned()).collect()
}

#[test]
fn leafnodes_of_users_who_have_gone_go_and_those_who_may_do_less_do_less() {
    let config = |users: &str| {
        format!("accounts {{ A {{ users: [{users}] }} }}\nleafnodes {{ listen: \"127.0.0.1:-1\" }}")
    };
    let other = "{user: c, pass: x}";
    let hub = Reloading::start(&config(&format!("{{user: l, pass: x}}, {other}")));
    let leaf = format!(
        "leafnodes {{ reconnect: 100ms, remotes: [{{url: \"nats-leaf://l:x@127.0.0.1:{}\"}}] }}",
        hub.server.leafnode_port()
    );
    let leaf = Process::with_config(&program("MIDGED"), &leaf);
    let (mut above, mut below) =
        (hub.join(r#""user":"c","pass":"x","headers":true,"no_responders":true"#), Raw::client(leaf.port()));
    subscribe(&mut below, &mut above, "down.a", "1");
    subscribe(&mut above, &mut below, "up.a", "1");
    hub.takes(&config(&format!("{{user: l, pass: x, permissions: {{ publish: \"none\" }}}}, {other}")));
    // It comes again, and is not told of what it may not send.
    subscribe(&mut below, &mut above, "down.b", "2");
    wait_for_silence(&mut below, "up.a");
    hub.takes(&config(other));
    leaf.wait_for_line("Authorization Violation");
    wait_for_silence(&mut above, "down.a");
}

#[test]
fn users_who_are_not_known_any_more_go_and_others_stay() {
    let users = |list: &str| format!("authorization {{ users: [ {list} ] }}");
    let before = users("{user: stays, pass: x}, {user: goes, pass: x}, {user: other, pass: x}");
    let server = Reloading::start(&before);
    let mut stays = server.join(r#""user":"stays","pass":"x""#);
    let mut goes = server.join(r#""user":"goes","pass":"x""#);
    let mut other = server.join(r#""user":"other","pass":"x""#);
    stays.send(b"SUB a 1\r\n");
    stays.sync();
    server.takes(&users("{user: stays, pass: x}, {user: other, pass: changed}, {user: new, pass: x}"));
    assert!(goes.rest().is_empty() && goes.is_closed(), "without a word, as in the original");
    assert_eq!(lines(other.rest()), ["-ERR 'Authorization Violation'"], "its password is another");
    let mut new = server.join(r#""user":"new","pass":"x""#);
    new.send(b"PUB a 2\r\nhi\r\n");
    assert_eq!(stays.expect_message(), b"hi");
}

#[test]
fn permissions_that_become_narrower_hold_at_once() {
    let with = |permissions: &str| {
        format!("authorization {{ users: [ {{user: a, pass: x{permissions}}}, {{user: b, pass: x}} ] }}")
    };
    let server = Reloading::start(&with(""));
    let mut narrowed = server.join(r#""user":"a","pass":"x""#);
    let mut free = server.join(r#""user":"b","pass":"x""#);
    narrowed.send(b"SUB a.* 1\r\nSUB b 2\r\nSUB c q 3\r\nPUB p 0\r\n\r\n");
    assert!(narrowed.sync().is_empty());
    server
        .takes(&with(", permissions: { publish: z, subscribe: { allow: [\"a.*\"], deny: [\"a.secret\"] } }"));
    let mut told = lines(narrowed.sync());
    told.sort();
    assert_eq!(
        told,
        [
            "-ERR 'Permissions Violation for Subscription to \"b\" (sid \"2\")'",
            "-ERR 'Permissions Violation for Subscription to \"c\" using queue \"q\" (sid \"3\")'",
        ]
    );
    free.send(b"PUB a.secret 6\r\nsecret\r\nPUB b 1\r\nb\r\nPUB a.open 4\r\nopen\r\n");
    free.sync();
    assert_eq!(narrowed.expect_message(), b"open", "what is denied is not delivered any more");
    narrowed.send(b"PUB p 0\r\n\r\nPUB z 0\r\n\r\n");
    assert_eq!(lines(narrowed.sync()), ["-ERR 'Permissions Violation for Publish to \"p\"'"]);
    server.takes(&with(""));
    narrowed.send(b"PUB p 0\r\n\r\nSUB b 4\r\n");
    assert!(narrowed.sync().is_empty(), "wider again");
}

#[test]
fn what_cannot_change_is_refused_by_name_and_nothing_changes() {
    let server = Reloading::start("max_payload: 100\nserver_name: a");
    let mut client = server.join(r#""name":"x""#);
    for (config, why) in [
        (
            "max_payload: 10\nserver_name: b",
            "config reload not supported for server_name: old=\"a\", new=\"b\"",
        ),
        (
            "max_payload: 10\nserver_name: a\nmax_paylod: 3",
            "unknown field 'max_paylod' (did you mean 'max_payload'?)",
        ),
        ("max_payload: 10\nserver_name: a\ntls { cert_file: none, key_file: none }", "certificate none: "),
    ] {
        write(&server.path, config);
        server.server.signal("HUP");
        let line = server.server.wait_for_line("Failed to reload server configuration");
        // What is wrong with a configuration stands on lines of its own.
        if !line.contains(why) {
            server.server.wait_for_line(why);
        }
        client.send(format!("PUB a 50\r\n{}\r\n", "x".repeat(50)).as_bytes());
        assert!(client.sync().is_empty(), "the old limit is in force");
    }
    server.takes("max_payload: 10\nserver_name: a");
    client.send(b"PUB a 11\r\n");
    client.expect_line("-ERR 'Maximum Payload Violation'");
}

#[test]
fn limits_certificates_and_logs_change() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = |authority: &Authority, more: &str| {
        let server = authority.server("server");
        format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n{more}", server.certificate, server.key)
    };
    let server = Reloading::start(&tls(&old, ""));
    let mut early = Raw::connect_tls(server.server.port(), &old.trusting(None, &[]));
    early.send(b"CONNECT {\"verbose\":false}\r\n");
    early.sync();
    server.takes(&tls(&new, "max_connections: 2\ndebug: true"));
    let mut late = Raw::connect_tls(server.server.port(), &new.trusting(None, &[]));
    late.send(b"CONNECT {\"verbose\":false}\r\n");
    late.sync();
    assert!(!late.is_closed(), "who comes later sees the new certificate");
    assert!(early.sync().is_empty() && !early.is_closed(), "who was there before is left alone");
    server.server.wait_for_line("[DBG]");
    server.takes(&tls(&new, "max_connections: 1"));
    let mut left = 0;
    for client in [&mut early, &mut late] {
        let said = lines(client.sync());
        left += usize::from(!client.is_closed());
        assert!(!client.is_closed() || said == ["-ERR 'maximum connections exceeded'"], "{said:?}");
    }
    assert_eq!(left, 1);
}

/// 1,000 reloads while 100 clients exchange messages: none is lost, and nobody is disconnected.
#[test]
fn reloads_disturb_nobody() {
    const CLIENTS: usize = 100;
    let config = |round: usize| {
        let users: String = (0..CLIENTS)
            .map(|n| format!("{{user: u{n}, pass: x, permissions: {{publish: [\"t.>\", \"r{round}\"]}}}}\n"))
            .collect();
        format!(
            "authorization {{ users: [ {users} {{user: extra{round}, pass: x}} ] }}\nmax_payload: {}\nping_interval: {}s",
            100_000 + round,
            60 + round % 7
        )
    };
    let server = Reloading::start(&config(0));
    let mut clients: Vec<Raw> = (0..CLIENTS)
        .map(|n| {
            let mut client = server.join(&format!(r#""user":"u{n}","pass":"x""#));
            client.send(format!("SUB t.{n} 1\r\n").as_bytes());
            client.sync();
            client
        })
        .collect();
    for round in 1..=1000 {
        write(&server.path, &config(round));
        server.server.signal("HUP");
        for (number, client) in clients.iter_mut().enumerate() {
            let to = (number * 7 + round) % CLIENTS;
            client.send(format!("PUB t.{to} 8\r\n{round:08}\r\n").as_bytes());
        }
        server.server.wait_for_line("[INF] Reloaded server configuration");
        for (number, client) in clients.iter_mut().enumerate() {
            // Seven and a hundred have no common factor, so everybody is published to once a round.
            assert_eq!(client.expect_message(), format!("{round:08}").as_bytes(), "client {number}");
        }
    }
    for client in &mut clients {
        assert!(client.sync().is_empty() && !client.is_closed());
    }
}

#[test]
fn strangers_who_never_said_connect_are_looked_at_too() {
    let server = Reloading::start(
        "authorization { users: [{user: g, pass: x}, {user: u, pass: x}] }\nno_auth_user: g",
    );
    let mut stranger = Raw::connect(server.server.port());
    stranger.frame();
    stranger.send(b"SUB a 1\r\n");
    stranger.sync();
    server.takes("authorization { users: [{user: u, pass: x}] }");
    assert!(lines(stranger.rest()).is_empty() && stranger.is_closed(), "whom it was taken for is gone");
}

#[test]
fn nobody_slips_in_by_a_password_that_is_being_hashed_meanwhile() {
    let hash = bcrypt::hash("s3cret", 8).unwrap();
    let users = format!("authorization {{ users: [{{user: u, pass: \"{hash}\"}}, {{user: v, pass: y}}] }}");
    let server = Reloading::start(&users);
    let mut guests: Vec<Raw> = (0..20).map(|_| Raw::connect(server.server.port())).collect();
    for guest in &mut guests {
        guest.frame();
        guest.send(b"CONNECT {\"verbose\":false,\"user\":\"u\",\"pass\":\"s3cret\"}\r\n");
    }
    server.takes("authorization { users: [{user: v, pass: y}] }");
    for guest in &mut guests {
        guest.rest();
        assert!(guest.is_closed(), "the user is gone");
    }
}

#[test]
fn a_wrong_configuration_shows_no_secret() {
    let server = Reloading::start("authorization { users: [{user: u, pass: s3cret}] }");
    write(&server.path, "authorization { users: [{user: u, pass: s3cret, tokn: x}] }");
    server.server.signal("HUP");
    server.server.wait_for_line("tokn");
    let mut client = Raw::connect(server.server.port());
    client.frame();
    client.send(b"CONNECT {\"user\":\"u\",\"pass\":271828}\r\n");
    client.rest();
    server.server.wait_for_line("wrong type");
    let log = server.server.log().join("\n");
    assert!(!log.contains("s3cret") && !log.contains("271828"), "{log}");
}
