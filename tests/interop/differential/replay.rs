//! Saying a talk to a server.

use midge_testkit::process::PATIENCE;
use midge_testkit::raw::{Frame, Raw};
use serde_json::Value;

use super::generate::{Step, Talk, is_queued};

/// Fields of an INFO that are each server's own.
const OWN: [&str; 12] = [
    "connect_urls",
    "server_id",
    "server_name",
    "version",
    "go",
    "host",
    "port",
    "client_id",
    "nonce",
    "xkey",
    "api_lvl",
    "git_commit",
];

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// To each connection, in order.
    pub(super) connections: Vec<Vec<String>>,
    /// To members of queue groups, whichever they were.
    pub(super) queued: Vec<String>,
    /// How much of it each connection had been told before it said its last.
    before_last: Vec<usize>,
}

impl Heard {
    /// Whether both servers said the same. Where a server may lose what it had to say in the end, `theirs` may have
    /// said less.
    pub(super) fn same(&self, theirs: &Self, may_lose: bool) -> bool {
        let connections = self.connections.iter().zip(&theirs.connections).zip(&theirs.before_last);
        let same = |((ours, theirs), before): ((&Vec<String>, &Vec<String>), &usize)| {
            ours == theirs || may_lose && theirs.len() >= *before && ours.starts_with(theirs)
        };
        self.connections.len() == theirs.connections.len()
            && connections.into_iter().all(same)
            && (self.queued == theirs.queued || may_lose && holds(&self.queued, &theirs.queued))
    }

    pub(super) fn count(&self) -> usize {
        self.connections.iter().map(Vec::len).sum::<usize>() + self.queued.len()
    }
}

/// Whether all of `some` are among `all`, each as often. Both are sorted.
fn holds(all: &[String], some: &[String]) -> bool {
    let mut rest = all.iter();
    some.iter().all(|one| rest.any(|other| other == one))
}

pub(super) fn replay(talk: &Talk, connect: &dyn Fn() -> Raw) -> Heard {
    replay_with(talk, &|_| connect(), &mut || {})
}

/// The same with several servers: `connect` says which one each connection goes to, and `settle` waits until they have
/// told each other everything.
pub(super) fn replay_between(talk: &Talk, connect: &dyn Fn(usize) -> Raw, settle: &mut dyn FnMut()) -> Heard {
    replay_with(talk, connect, &mut || settle())
}

fn replay_with(talk: &Talk, connect: &dyn Fn(usize) -> Raw, settle: &mut dyn FnMut()) -> Heard {
    let mut raws: Vec<Raw> = Vec::new();
    let mut frames: Vec<Vec<Frame>> = Vec::new();
    // Frames that each connection had before it said its last.
    let mut last: Vec<usize> = Vec::new();
    for step in &talk.steps {
        settle();
        match step {
            Step::Connect => {
                let mut raw = connect(raws.len());
                frames.push(raw.frame().into_iter().collect());
                last.push(usize::MAX);
                raws.push(raw);
            }
            Step::Say { to, pieces } => {
                send(&mut raws[*to], pieces);
                // The last PONG says that everything before has been done.
                let seen = until_pongs(&mut raws[*to], count_pings(pieces));
                frames[*to].extend(seen);
            }
            Step::Last { to, pieces } => {
                send(&mut raws[*to], pieces);
                raws[*to].finish();
                last[*to] = frames[*to].len();
                frames[*to].extend(raws[*to].rest());
            }
        }
    }
    settle();
    for (raw, frames) in raws.iter_mut().zip(&mut frames) {
        if !raw.is_closed() {
            raw.send(b"PING\r\n");
            raw.finish();
            frames.extend(raw.rest());
        }
    }
    let mut heard = Heard { connections: Vec::new(), queued: Vec::new(), before_last: Vec::new() };
    for (mut frames, last) in frames.into_iter().zip(last) {
        // When a server asks whether somebody is there is its own affair.
        frames.retain(|frame| frame.line() != "PING");
        let own = frames.iter().take(last).filter(|frame| !is_queued(frame.line())).count();
        heard.before_last.push(own);
        let (queued, own): (Vec<Frame>, Vec<Frame>) =
            frames.into_iter().partition(|frame| is_queued(frame.line()));
        heard.queued.extend(queued.iter().map(without_member));
        let mut own: Vec<String> = own.iter().map(shown).collect();
        in_some_order(&mut own);
        heard.connections.push(own);
    }
    heard.queued.sort();
    heard
}

fn send(raw: &mut Raw, pieces: &[Vec<u8>]) {
    for piece in pieces {
        raw.send(piece);
        if pieces.len() > 1 {
            // Not for waiting, but so that the pieces are likely to be read one by one.
            std::thread::yield_now();
        }
    }
}

/// Steps end with a PING; some have more of them. No payload has one.
fn count_pings(pieces: &[Vec<u8>]) -> usize {
    pieces.concat().to_ascii_uppercase().windows(4).filter(|window| *window == b"PING").count()
}

fn until_pongs(raw: &mut Raw, mut pongs: usize) -> Vec<Frame> {
    let mut seen = Vec::new();
    while pongs > 0 {
        match raw.frame_within(PATIENCE) {
            Some(frame) => {
                pongs -= usize::from(frame.line() == "PONG");
                seen.push(frame);
            }
            None => {
                assert!(raw.is_closed(), "no PONG after {seen:?}");
                return seen;
            }
        }
    }
    seen
}

/// Several subscriptions of a connection may want a message; which is served first is free.
fn in_some_order(frames: &mut [String]) {
    let others = |frame: &str| {
        let mut words: Vec<String> = frame.split(' ').map(str::to_owned).collect();
        let is_message = matches!(words.first().map(String::as_str), Some("MSG" | "HMSG"));
        if is_message {
            words.get_mut(2).map(std::mem::take)?;
        }
        is_message.then(|| words.join(" "))
    };
    let mut from = 0;
    while from < frames.len() {
        let first = others(&frames[from]);
        let same =
            frames[from..].iter().take_while(|frame| first.is_some() && others(frame) == first).count();
        frames[from..from + same].sort();
        from += same.max(1);
    }
}

/// A frame as it is compared: an INFO without what is each server's own.
fn shown(frame: &Frame) -> String {
    match frame {
        // Which of the requester's subscriptions is told that nobody listens is free.
        Frame::Message(_, body) if body.starts_with(b"NATS/1.0 503\r\nNats-Subject: ") => {
            without_member(frame)
        }
        Frame::Message(line, body) => format!("{line} | {}", body.escape_ascii()),
        Frame::Line(line) => {
            match line.strip_prefix("INFO ").and_then(|json| serde_json::from_str(json).ok()) {
                Some(Value::Object(mut info)) => {
                    info.retain(|key, _| !OWN.contains(&key.as_str()));
                    format!("INFO {}", Value::Object(info))
                }
                _ => line.clone(),
            }
        }
    }
}

/// A message without saying which subscription got it, but for its queue group.
fn without_member(frame: &Frame) -> String {
    let mut words: Vec<&str> = frame.line().split(' ').collect();
    if let Some(sid) = words.get_mut(2) {
        // `q<group>-<number>`
        *sid = if sid.starts_with('q') { sid.split('-').next().unwrap_or_default() } else { "?" };
    }
    match frame {
        Frame::Message(_, body) => format!("{} | {}", words.join(" "), body.escape_ascii()),
        Frame::Line(_) => words.join(" "),
    }
}
