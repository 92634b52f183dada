//! Random talks with midged and with nats-server, and what both answer, compared.
//!
//! A talk is up to three connections that say valid and broken things, cut into pieces at random places. Every
//! step ends with a PING or with the end of the connection, so that it is done on both servers before the next
//! begins. What one connection is told must then be the same, frame by frame; only which member of a queue group
//! gets a message is free, so those messages are compared over all members.

mod cluster;
mod generate;
mod replay;

use std::sync::Arc;

use midge_testkit::process::{Process, program};
use midge_testkit::raw::Raw;
use midge_testkit::tls::Authority;

use self::generate::Talk;
use self::replay::{Heard, replay};

/// Limits low enough to be run into.
const LIMITS: &str = "max_payload: 1024\nmax_control_line: 512\nmax_subscriptions: 8\n";

/// Users who may do more and less. Subjects begin with a token of the talk's own.
const USERS: &str = r#"
authorization {
  default_permissions: { publish: ["*.a", "*.a.>", "*.b.>"], subscribe: { deny: "*.x" } }
  users: [
    { user: free, pass: p, permissions: {} }
    { user: usual, pass: p }
    { user: teller, pass: p, permissions: { publish: { allow: ["*.a", "*.a.>", "*.b.*"], deny: ["*.a.c", "*.*.x"] }, subscribe: { deny: ["*.c", "*.c.>"] } } }
    { user: hearer, pass: p, permissions: { publish: "*.>", subscribe: { allow: ["*.a.>", "*.*", "*.b.* g", "*.>"], deny: ["*.a.x", "*.b.> h", "*.long-token"] } } }
    { user: groups, pass: p, permissions: { subscribe: { allow: ["*.a", "*.> g"] } } }
    { user: answers, pass: p, permissions: { subscribe: "*.>", publish: { deny: "*.x.>" }, allow_responses: { max: 2 } } }
  ]
}
"#;
const USER_LOGINS: [&str; 8] = [
    r#""user":"free","pass":"p""#,
    r#""user":"usual","pass":"p""#,
    r#""user":"teller","pass":"p""#,
    r#""user":"hearer","pass":"p""#,
    r#""user":"groups","pass":"p""#,
    r#""user":"answers","pass":"p""#,
    r#""user":"free","pass":"wrong""#,
    r#""user":"nobody","pass":"p""#,
];

/// Accounts that hear nothing of each other, and one that says nothing of itself.
const ACCOUNTS: &str = r#"
accounts {
  A { users: [ { user: a, pass: p }, { user: quiet, pass: p, permissions: { publish: { deny: "*.a" } } } ] }
  B { users: [ { user: b, pass: p } ], limits: { max_subscriptions: 3, max_payload: 64 } }
  $SYS { users: [ { user: s, pass: p } ] }
}
no_auth_user: a
"#;
const ACCOUNT_LOGINS: [&str; 6] = [
    r#""user":"a","pass":"p""#,
    r#""user":"quiet","pass":"p""#,
    r#""user":"b","pass":"p""#,
    r#""user":"s","pass":"p""#,
    r#""name":"nobody in particular""#,
    r#""user":"a","pass":"x""#,
];

/// What talks are about.
#[derive(Clone, Copy, Default)]
struct Scene<'a> {
    name: &'a str,
    config: &'a str,
    /// Fields of a CONNECT that say who somebody is.
    logins: &'a [&'a str],
    /// Whether nats-server may lose the last words to a connection (see differences.toml).
    may_lose: bool,
}

/// How talks reach a server.
type Reach<'a> = &'a dyn Fn(&Process) -> Raw;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, but is '{text}'")))
}

/// Has talks with both servers, and fails at the first that differs.
fn compare(scene: &Scene<'_>, reach: Reach<'_>) {
    let Scene { name: scene, config, logins, may_lose } = *scene;
    let config = format!("{LIMITS}{config}");
    let start = |name| Process::with_config(&program(name), &config);
    let (ours, theirs) = (start("MIDGED"), start("NATS_SERVER"));
    let first = number("MIDGE_SEED").unwrap_or(1);
    let count = number("MIDGE_SESSIONS").unwrap_or(1000);
    let mut frames = 0;
    for seed in first..first + count {
        let talk = Talk::generate(seed, logins);
        let (from_us, from_them) = (replay(&talk, &|| reach(&ours)), replay(&talk, &|| reach(&theirs)));
        frames += from_them.count();
        assert!(
            from_us.same(&from_them, may_lose),
            "{scene}: seed {seed} differs; again: cargo xtask interop --seed {seed}\n\n{talk}\n{}",
            difference(&from_us, &from_them)
        );
    }
    // A generator that says nothing worth answering would always pass.
    assert!(frames as u64 > count * 5, "only {frames} frames in {count} talks");
}

#[test]
fn random_talks_are_answered_as_nats_server_does() {
    compare(&Scene { name: "plain", ..Scene::default() }, &|server| Raw::connect(server.port()));
}

#[test]
fn users_with_permissions_are_answered_as_nats_server_does() {
    let scene = Scene { name: "users", config: USERS, logins: &USER_LOGINS, ..Scene::default() };
    compare(&scene, &|server| Raw::connect(server.port()));
}

#[test]
fn accounts_are_kept_apart_as_nats_server_does() {
    let scene = Scene { name: "accounts", config: ACCOUNTS, logins: &ACCOUNT_LOGINS, ..Scene::default() };
    compare(&scene, &|server| Raw::connect(server.port()));
}

#[test]
fn talks_over_tls_are_answered_as_nats_server_does() {
    let authority = Authority::new();
    let identity = authority.server("server");
    let config = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", timeout: 20 }}",
        identity.certificate, identity.key
    );
    let trust = authority.trusting(None, &[]);
    compare(&Scene { name: "tls", config: &config, ..Scene::default() }, &|server| {
        Raw::connect_tls(server.port(), &Arc::clone(&trust))
    });
}

#[test]
fn talks_over_websocket_are_answered_as_nats_server_does() {
    let config = "websocket { listen: \"127.0.0.1:-1\", no_tls: true }";
    compare(&Scene { name: "websocket", config, may_lose: true, ..Scene::default() }, &|server| {
        Raw::connect_websocket(server.websocket_port().unwrap(), &[], None).unwrap()
    });
}

/// The connections that differ, side by side.
fn difference(ours: &Heard, theirs: &Heard) -> String {
    let mut text = String::new();
    for (number, (ours, theirs)) in ours.connections.iter().zip(&theirs.connections).enumerate() {
        if ours == theirs {
            continue;
        }
        let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        text += &format!(
            "connection {number}, from frame {at}:\n  midged:      {:?}\n  nats-server: {:?}\n",
            ours.get(at..),
            theirs.get(at..)
        );
    }
    if ours.queued != theirs.queued {
        text +=
            &format!("queue groups:\n  midged:      {:?}\n  nats-server: {:?}\n", ours.queued, theirs.queued);
    }
    text
}
