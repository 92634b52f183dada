//! TCP ports of one peer on another's machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use midge_testkit::process::{Process, nats_servers};

use crate::backend::Key;
use crate::servers::{free_port, midged};

/// A command of midge that goes on, and the lines that it prints.
struct Command {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    complaints: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Command {
    fn start(arguments: &[&str]) -> Self {
        let midge = midged().parent().unwrap().join("midge");
        let mut child = std::process::Command::new(midge)
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let complaints = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, complaints }
    }

    fn complaint(&mut self) -> String {
        self.complaints.next().expect("it complains").unwrap()
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it goes on").unwrap()
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A web server that says the same to everybody.
fn web_server(page: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut request = BufReader::new(socket.try_clone().unwrap()).lines();
                while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
                let _ = socket.write_all(format!("{head}{page}").as_bytes());
            });
        }
    });
    address
}

fn fetch(port: &str) -> String {
    let mut socket = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text);
    text
}

/// A web page of one peer is a page on the other's own machine: through a stock server, and straight.
#[test]
fn a_page_is_forwarded() {
    let broker = Process::with_config(&nats_servers()[0], "");
    let (page, hidden) = (web_server("<h1>over there</h1>"), web_server("hidden"));
    let (one, other) = (Key::new(), Key::new());
    let url = broker.url();
    let (here, there) = (one.id(), other.id());
    let ways = ["--via", &url, "--link-listen", "udp://127.0.0.1:0", "--key", &other.file];
    let exposed = [&["expose", "--allow-peer", &here][..], &ways, &[&page]].concat();
    let mut expose = Command::start(&exposed);
    let udp = expose.line();
    assert!(udp.starts_with(&format!("Links at {there}@udp://127.0.0.1:")), "{udp}");
    let by_udp = udp.trim_start_matches("Links at ").to_owned();
    assert_eq!(expose.line(), format!("Links at {there}@nats:"));
    assert_eq!(expose.line(), format!("Exposing {page}"));
    for (ways, over) in [(["--via", url.as_str()], "nats:"), (["--peer", by_udp.as_str()], "udp://")] {
        let remote = format!("{there}:{page}");
        let mut forward =
            Command::start(&[&["forward", "--key", &one.file][..], &ways, &["0", &remote]].concat());
        let line = forward.line();
        assert!(line.contains(&format!("to {remote} over {over}")), "{line}");
        let port = line.split([':', ' ']).nth(2).unwrap();
        for _ in 0..3 {
            assert!(fetch(port).ends_with("<h1>over there</h1>"));
        }
        // What is not exposed is not reached, though it is there.
        let remote = format!("{there}:{hidden}");
        let mut forward =
            Command::start(&[&["forward", "--key", &one.file][..], &ways, &["0", &remote]].concat());
        let line = forward.line();
        assert_eq!(fetch(line.split([':', ' ']).nth(2).unwrap()), "");
        let why = forward.complaint();
        assert!(why.contains(&format!("the peer says: '{hidden}' may not be reached from here")), "{why}");
    }
    // Nor does anybody else reach anything.
    let remote = format!("{there}:{page}");
    let midge = midged().parent().unwrap().join("midge");
    let arguments = ["forward", "--timeout", "2", "--via", &url, "0", &remote];
    let output = std::process::Command::new(midge).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not allowed to link"), "{said}");
}

/// What the script in the documentation does, with a stock server.
#[test]
fn two_peers_through_a_stock_server() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for stock in nats_servers() {
        let port = free_port().to_string();
        let mut script = std::process::Command::new(root.join("docs/examples/through-nats.sh"));
        script.arg(&stock).arg(midged().parent().unwrap()).current_dir(root).env("BROKER_PORT", port);
        let output = script.output().unwrap();
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}\n{complained}");
        for line in ["linked: ", "answered: 5", "refused: 12D3Koo", "forwarded: <h1>", "all is well"] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}
