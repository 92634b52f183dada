//! Clients that are broken, slow, silent or many: a clear line in the log, bounded memory, and nothing that the
//! others notice.

use std::time::{Duration, Instant};

use midge_testkit::process::{PATIENCE, Process, program};
use midge_testkit::raw::{Frame, Raw};

fn midged(config: &str) -> Process {
    Process::with_config(&program("MIDGED"), config)
}

/// A pair of clients that must not notice anything.
struct Bystanders {
    publisher: Raw,
    subscriber: Raw,
    count: u32,
}

impl Bystanders {
    fn new(server: &Process) -> Self {
        let mut subscriber = Raw::client(server.port());
        subscriber.send(b"SUB bystanders 1\r\n");
        subscriber.sync();
        Self { publisher: Raw::client(server.port()), subscriber, count: 0 }
    }

    /// A message from one to the other.
    fn check(&mut self) {
        self.count += 1;
        let body = self.count.to_string();
        self.publisher.send(format!("PUB bystanders {}\r\n{body}\r\n", body.len()).as_bytes());
        assert_eq!(self.subscriber.expect_message(), body.as_bytes());
    }
}

fn errors(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(Frame::line).filter(|line| line.starts_with("-ERR")).collect()
}

#[test]
fn impossible_sizes_close_the_connection() {
    let server = midged("");
    let mut bystanders = Bystanders::new(&server);
    for (line, error, logged) in [
        ("PUB a 1073741824\r\n", &["-ERR 'Unknown Protocol Operation'"][..], "Client parser ERROR"),
        (
            "PUB a 999999999\r\n",
            &["-ERR 'Maximum Payload Violation'"][..],
            "maximum payload exceeded: 999999999 vs 1048576",
        ),
        (
            "PUB a 1048577\r\n",
            &["-ERR 'Maximum Payload Violation'"][..],
            "maximum payload exceeded: 1048577 vs 1048576",
        ),
        ("PUB a -1\r\n", &[][..], "Client parser ERROR"),
        ("HPUB a 12 -1\r\n", &[][..], "Client parser ERROR"),
    ] {
        let mut client = Raw::client(server.port());
        client.send(line.as_bytes());
        let frames = client.rest();
        // The oldest rule: a size that is none closes without a word.
        let got = errors(&frames);
        assert!(got == error || got.is_empty(), "{line}: {got:?}");
        server.wait_for_line(logged);
        bystanders.check();
    }
}

#[test]
fn a_control_line_of_ten_megabytes_ends_at_the_limit() {
    let server = midged("");
    let mut bystanders = Bystanders::new(&server);
    let before = server.memory();
    let mut client = Raw::client(server.port());
    client.send(b"SUB ");
    // The server hangs up long before the end; what it does not take is lost in the socket.
    client.send(&vec![b'x'; 10 * 1024 * 1024]);
    assert_eq!(errors(&client.rest()), ["-ERR 'maximum control line exceeded'"]);
    server.wait_for_line("Client parser ERROR");
    bystanders.check();
    assert!(server.memory() < before + 4 * 1024 * 1024, "{before} bytes before, {} after", server.memory());
}

#[test]
fn silent_connections_are_asked_and_then_closed() {
    let server = midged("ping_interval: \"100ms\", ping_max: 2, debug: true");
    let mut half = Raw::connect(server.port());
    half.send(b"CONNECT {\"verbose\":false}\r\nPUB a 10\r\nabc");
    let frames = half.rest();
    assert_eq!(frames.iter().filter(|frame| frame.line() == "PING").count(), 2);
    assert_eq!(errors(&frames), ["-ERR 'Stale Connection'"]);
    server.wait_for_line("Stale Client Connection - Closing");
}

#[test]
fn a_reader_that_does_not_read_is_closed_and_the_others_get_everything() {
    const COUNT: usize = 3000;
    let server = midged("max_pending: 4MB, max_payload: 64KB");
    let mut slow = Raw::client(server.port());
    slow.send(b"SUB flood 1\r\n");
    slow.sync();
    let mut healthy = Raw::client(server.port());
    healthy.send(b"SUB flood 1\r\n");
    healthy.sync();
    let port = server.port();
    let publisher = std::thread::spawn(move || {
        let mut publisher = Raw::client(port);
        let message = [b"PUB flood 32768\r\n", &[b'm'; 32768][..], b"\r\n"].concat();
        for _ in 0..COUNT {
            publisher.send(&message);
        }
        publisher.sync();
    });
    for _ in 0..COUNT {
        assert_eq!(healthy.expect_message().len(), 32768);
    }
    publisher.join().unwrap();
    let line = server.wait_for_line("Slow Consumer Detected");
    assert!(line.contains("MaxPending") || line.contains("WriteDeadline"), "{line}");
    // What is under way to two connections, what they may have pending, and what the program itself takes.
    assert!(server.memory() < 64 * 1024 * 1024, "{} bytes", server.memory());
}

#[test]
fn a_reader_that_stops_is_closed_at_the_write_deadline() {
    let server = midged("write_deadline: \"200ms\", max_pending: 64MB");
    let mut slow = Raw::client(server.port());
    slow.send(b"SUB flood 1\r\n");
    slow.sync();
    let mut publisher = Raw::client(server.port());
    let message = [b"PUB flood 1000000\r\n", &[b'm'; 1_000_000][..], b"\r\n"].concat();
    // More than the sockets of both sides hold.
    for _ in 0..20 {
        publisher.send(&message);
    }
    publisher.sync();
    server.wait_for_line("Slow Consumer Detected: WriteDeadline");
}

#[test]
fn ten_thousand_connections_without_connect_harm_nobody() {
    const COUNT: usize = 10_000;
    midge_testkit::process::many_files();
    let server = midged("authorization { token: secret, timeout: 3 }");
    let connect = b"CONNECT {\"verbose\":false,\"auth_token\":\"secret\"}\r\n";
    let mut client = Raw::connect(server.port());
    client.send(connect);
    client.send(b"SUB a 1\r\n");
    client.sync();
    let before = server.memory();
    let mut silent: Vec<Raw> = (0..COUNT).map(|_| Raw::connect(server.port())).collect();
    for n in 0..100 {
        client.send(format!("PUB a 3\r\n{n:03}\r\n").as_bytes());
        assert_eq!(client.expect_message(), format!("{n:03}").as_bytes());
    }
    let each = server.memory().saturating_sub(before) / COUNT as u64;
    assert!(each < 8 * 1024, "{each} bytes for each connection");
    for raw in &mut silent {
        assert_eq!(errors(&raw.rest()), ["-ERR 'Authentication Timeout'"]);
    }
    server.wait_for_line("authentication timeout");
    client.sync();
}

#[test]
fn more_connections_than_allowed_are_turned_away() {
    let server = midged("max_connections: 2");
    let mut first = Raw::client(server.port());
    let mut second = Raw::client(server.port());
    first.sync();
    second.sync();
    let mut third = Raw::connect(server.port());
    let frames = third.rest();
    assert!(frames[0].line().starts_with("INFO "));
    assert_eq!(errors(&frames), ["-ERR 'maximum connections exceeded'"]);
    server.wait_for_line("maximum connections exceeded");
    first.send(b"PUB a 5\r\n");
    drop(first);
    // The place is free once the server has noticed.
    let end = Instant::now() + PATIENCE;
    loop {
        let mut again = Raw::connect(server.port());
        again.frame();
        again.send(b"PING\r\n");
        let answer = again.frame_within(Duration::from_secs(5));
        if answer.is_some_and(|frame| frame.line() == "PONG") {
            break;
        }
        assert!(Instant::now() < end, "the place never becomes free");
    }
    second.sync();
}
