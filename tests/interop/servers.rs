//! What tests of several servers share: waiting until one knows what is wanted on another.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use midge_testkit::process::{Process, program};
use midge_testkit::raw::{Frame, Raw};

/// In what time what is wanted on one server must be known on all others.
pub(crate) const CONVERGES: Duration = Duration::from_secs(5);

pub(crate) fn midged() -> PathBuf {
    program("MIDGED")
}

/// Asks once; whether the server says that nobody listens.
fn is_nobody(client: &mut Raw, subject: &str) -> bool {
    client.send(format!("SUB wait.inbox 77\r\nPUB {subject} wait.inbox 0\r\n\r\nUNSUB 77\r\n").as_bytes());
    settled(client).iter().any(|frame| frame.line().starts_with("HMSG wait.inbox 77 "))
}

/// Asks until somebody listens, who hears the last question.
#[track_caller]
pub(crate) fn wait_for_interest(client: &mut Raw, subject: &str) {
    let until = Instant::now() + CONVERGES;
    while is_nobody(client, subject) {
        assert!(Instant::now() < until, "nobody listens to {subject} after {CONVERGES:?}");
    }
}

/// Asks until nobody listens any more.
#[track_caller]
pub(crate) fn wait_for_silence(client: &mut Raw, subject: &str) {
    let until = Instant::now() + CONVERGES;
    while !is_nobody(client, subject) {
        assert!(Instant::now() < until, "somebody listens to {subject} after {CONVERGES:?}");
    }
}

/// Subscribes on `there` and waits until that is known `here`. What the wait itself has sent is taken away.
#[track_caller]
pub(crate) fn subscribe(there: &mut Raw, here: &mut Raw, subject: &str, more: &str) {
    there.send(format!("SUB {subject} {more}\r\n").as_bytes());
    there.sync();
    let literal = subject.replace(['*', '>'], "probe");
    wait_for_interest(here, &literal);
    assert_eq!(there.expect_message(), b"", "the probe itself");
}

/// The next message, whatever else the server says in between.
#[track_caller]
pub(crate) fn message(client: &mut Raw) -> Frame {
    loop {
        match client.frame() {
            Some(frame @ Frame::Message(..)) => return frame,
            Some(Frame::Line(_)) => {}
            None => panic!("no message before the end"),
        }
    }
}

/// The messages that have come by the time the server has done what it was sent.
pub(crate) fn settled(client: &mut Raw) -> Vec<Frame> {
    client.sync().into_iter().filter(|frame| matches!(frame, Frame::Message(..))).collect()
}

/// A port that nobody has just now, nor is given who asks for any that is free.
pub(crate) fn free_port() -> u16 {
    let first = 14_000 + (std::process::id() % 2_500) as u16 * 2;
    (first..20_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// A server that can come back where it was.
pub(crate) fn with_port(stock: &Path) -> Process {
    Process::with_config_on(stock, free_port().into(), "")
}
