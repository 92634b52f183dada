//! Servers that are none, or mean no good, at the ports for other servers: what they are told is what nats-server tells
//! them, and nobody else notices.

use std::time::Duration;

use midge_testkit::process::{PATIENCE, Process, program};
use midge_testkit::raw::{Frame, Raw};

const CONFIG: &str = "server_name: here\naccounts { A { users: [{user: a, pass: x}] } }\nno_auth_user: a
cluster { name: C, listen: \"127.0.0.1:-1\", authorization { user: r, password: p, timeout: 2 } }
leafnodes { listen: \"127.0.0.1:-1\", compression: off, authorization { users: [{user: l, password: p, account: A}], timeout: 2 } }";

/// A port for other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Route,
    Leafnode,
}

impl Port {
    fn of(self, server: &Process) -> u16 {
        match self {
            Self::Route => server.route_port(),
            Self::Leafnode => server.leafnode_port(),
        }
    }

    /// What lets a server in.
    const fn hello(self) -> &'static str {
        match self {
            Self::Route => {
                "CONNECT {\"cluster\":\"C\",\"user\":\"r\",\"pass\":\"p\",\"name\":\"X\",\"headers\":true}\r\nINFO {\"server_id\":\"X\",\"server_name\":\"x\",\"headers\":true,\"host\":\"127.0.0.1\",\"port\":1}\r\n"
            }
            Self::Leafnode => {
                "CONNECT {\"user\":\"l\",\"pass\":\"p\",\"name\":\"leaf\",\"server_id\":\"L\",\"headers\":true}\r\n"
            }
        }
    }
}

/// Says something at a port, and hears why that is the end of it.
fn last_words(server: &Process, port: Port, says: &str) -> Vec<String> {
    let mut peer = Raw::connect(port.of(server));
    assert!(peer.expect_line("INFO ").contains("server_id"));
    peer.send(says.as_bytes());
    let frames = peer.rest();
    let errors = frames.iter().map(Frame::line).filter(|line| line.starts_with("-ERR"));
    errors.map(str::to_owned).collect()
}

/// Clients that must not notice anything.
struct Bystanders(Raw, Raw, u32);

impl Bystanders {
    fn new(server: &Process) -> Self {
        let (mut subscriber, publisher) = (Raw::client(server.port()), Raw::client(server.port()));
        subscriber.send(b"SUB bystanders 1\r\n");
        subscriber.sync();
        Self(subscriber, publisher, 0)
    }

    fn check(&mut self) {
        self.2 += 1;
        let body = self.2.to_string();
        self.1.send(format!("PUB bystanders {}\r\n{body}\r\n", body.len()).as_bytes());
        assert_eq!(self.0.expect_message(), body.as_bytes());
    }
}

#[test]
fn whoever_does_not_belong_hears_what_nats_server_says() {
    use Port::{Leafnode, Route};
    let [ours, theirs] = ["MIDGED", "NATS_SERVER"].map(|name| Process::with_config(&program(name), CONFIG));
    let mut bystanders = Bystanders::new(&ours);
    let after = |port: Port, more: &str| (port, format!("{}{more}", port.hello()));
    let first = |port: Port, says: &str| (port, says.to_owned());
    for (port, says) in [
        first(Route, "PING\r\n"),
        first(Route, "JUNK\r\n"),
        first(Route, "CONNECT {\"lang\":\"go\",\"user\":\"r\",\"pass\":\"p\"}\r\n"),
        first(Route, "CONNECT {\"cluster\":\"C\",\"user\":\"r\",\"pass\":\"wrong\"}\r\n"),
        first(Route, "CONNECT {\"cluster\":\"C\"}\r\n"),
        first(Route, "CONNECT {\"cluster\":\"X\",\"user\":\"r\",\"pass\":\"p\"}\r\n"),
        first(Route, "CONNECT {\"cluster\":\"_\",\"user\":\"r\",\"pass\":\"p\"}\r\n"),
        first(Route, "CONNECT {\"gateway\":\"G\",\"cluster\":\"C\",\"user\":\"r\",\"pass\":\"p\"}\r\n"),
        first(Route, "SUB a 1\r\n"),
        after(Route, "JUNK\r\n"),
        after(Route, "-ERR 'you'\r\n"),
        after(Route, "RMSG A a x\r\n"),
        after(Route, "RMSG A a b c 1\r\nx\r\n"),
        after(Route, "HMSG A a 5 2\r\nxx\r\n"),
        after(Route, &format!("RS+ A {}\r\n", "x".repeat(70_000))),
        first(Leafnode, "PING\r\n"),
        first(Leafnode, "JUNK\r\n"),
        first(Leafnode, "CONNECT {\"lang\":\"go\",\"user\":\"l\",\"pass\":\"p\"}\r\n"),
        first(Leafnode, "CONNECT {\"user\":\"l\",\"pass\":\"wrong\"}\r\n"),
        first(Leafnode, "CONNECT {\"user\":\"l\",\"pass\":\"p\",\"cluster\":\"C\"}\r\n"),
        first(Leafnode, "CONNECT {\"user\":\"l\",\"pass\":\"p\",\"cluster\":\"a b\"}\r\n"),
        first(Leafnode, "CONNECT {\"user\":\"l\",\"pass\":\"p\",\"gateway\":\"G\"}\r\n"),
        after(Leafnode, "RS+ A a\r\n"),
        after(Leafnode, "LS+ a q\r\n"),
        after(Leafnode, "LS+ $KV.a.b\r\n"),
        after(Leafnode, "LMSG a b c 1\r\nx\r\n"),
        after(Leafnode, "JUNK\r\n"),
    ] {
        let [us, them] = [&ours, &theirs].map(|server| last_words(server, port, &says));
        let shown: String = says.chars().take(200).collect();
        assert_eq!(us, them, "{port:?}: {shown}");
        bystanders.check();
    }
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let [ours, theirs] = ["MIDGED", "NATS_SERVER"].map(|name| Process::with_config(&program(name), CONFIG));
    for port in [Port::Route, Port::Leafnode] {
        let [us, them] = [&ours, &theirs].map(|server| last_words(server, port, ""));
        assert_eq!(us, them, "{port:?}");
        assert_eq!(us, ["-ERR 'Authentication Timeout'"]);
    }
}

#[test]
fn sizes_that_nobody_means_take_no_memory() {
    let server = Process::with_config(&program("MIDGED"), CONFIG);
    let mut bystanders = Bystanders::new(&server);
    let before = server.memory();
    for (port, line, want) in [
        (Port::Route, "RMSG A a 999999999\r\n", "-ERR 'Maximum Payload Violation'"),
        (Port::Route, "RMSG A a 1073741824\r\n", "-ERR 'Unknown Protocol Operation'"),
        (Port::Route, "LMSG LC A a 0 999999999\r\n", "-ERR 'Maximum Payload Violation'"),
        (Port::Leafnode, "LMSG a 999999999\r\n", "-ERR 'Maximum Payload Violation'"),
        (Port::Leafnode, "HMSG a 12 999999999\r\n", "-ERR 'Maximum Payload Violation'"),
    ] {
        let said = last_words(&server, port, &format!("{}{line}", port.hello()));
        assert!(said.is_empty() || said == [want], "{line}: {said:?}");
        bystanders.check();
    }
    // One that is announced and never sent.
    let mut peers = Vec::new();
    for _ in 0..50 {
        let mut peer = Raw::connect(server.leafnode_port());
        peer.send(format!("{}LMSG a 60000000\r\n", Port::Leafnode.hello()).as_bytes());
        peer.send(&[b'x'; 1000]);
        peers.push(peer);
    }
    bystanders.check();
    assert!(server.memory() < before + 64 * 1024 * 1024, "{} to {}", before, server.memory());
}

#[test]
fn a_flood_of_interest_is_remembered_cheaply_and_forgotten() {
    const MANY: usize = 50_000;
    let server = Process::with_config(&program("MIDGED"), CONFIG);
    let mut bystanders = Bystanders::new(&server);
    for port in [Port::Route, Port::Leafnode] {
        let before = server.memory();
        let mut peer = Raw::connect(port.of(&server));
        peer.expect_line("INFO ");
        peer.send(port.hello().as_bytes());
        let name = if port == Port::Route { "RS+ A" } else { "LS+" };
        for block in (0..MANY).collect::<Vec<_>>().chunks(1000) {
            let lines: String =
                block.iter().map(|n| format!("{name} flood.{n}.with.some.more\r\n")).collect();
            peer.send(lines.as_bytes());
        }
        peer.send(b"PING\r\n");
        peer.expect_line("PONG");
        bystanders.check();
        let grown = server.memory().saturating_sub(before);
        assert!(grown < MANY as u64 * 400, "{port:?}: {grown} bytes");
        drop(peer);
        let mut asks = Raw::client(server.port());
        crate::servers::wait_for_silence(&mut asks, &format!("flood.{}.with.some.more", MANY - 1));
        bystanders.check();
    }
}

#[test]
fn a_server_that_takes_nothing_does_not_stop_the_others() {
    let config =
        CONFIG.replace("cluster {", "max_pending: 1MB\nwrite_deadline: \"1s\"\nmax_payload: 64KB\ncluster {");
    let server = Process::with_config(&program("MIDGED"), &config);
    let mut bystanders = Bystanders::new(&server);
    let mut peer = Raw::connect(server.route_port());
    peer.expect_line("INFO ");
    peer.send(format!("{}RS+ A flood\r\nPING\r\n", Port::Route.hello()).as_bytes());
    peer.expect_line("PONG");
    let mut publisher = Raw::client(server.port());
    let message = format!("PUB flood 60000\r\n{}\r\n", "x".repeat(60_000));
    // More than waits anywhere on the way.
    for _ in 0..300 {
        publisher.send(message.as_bytes());
        bystanders.check();
    }
    publisher.sync();
    server.wait_for_line("Slow Consumer Detected");
    bystanders.check();
    let frames = std::iter::from_fn(|| peer.frame_within(PATIENCE.min(Duration::from_secs(10)))).count();
    assert!(peer.is_closed(), "after {frames} frames");
}
