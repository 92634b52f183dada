//! Transcripts: what goes in and must come out, replayed against our session and against nats-server.
//!
//! `C:` is what the client says (a line end is added, unless the line ends with a backslash; `\t` and `\n` stand
//! for themselves), `S:` what the server must answer, `<closed>` that it hangs up. `C2:` and `S2:` are a second
//! connection. `option` lines are the server's configuration. Of an INFO, only the fields that stand there count.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use midge::options::{Credential, Options, Secret, apply_file};
use midge::router::{
    Arrival, ClientSession, Entrance, Event, Grant, Next, Owner, Permissions, Router, Settings, Tick,
    Verdict, Worker,
};
use midge::wire::json::Credentials;
use midge_testkit::process::{Process, program};
use midge_testkit::raw::Raw;
use serde_json::Value;

#[derive(Debug, PartialEq)]
enum Line {
    Say(usize, Vec<u8>),
    Hear(usize, String),
}

#[derive(Debug)]
struct Transcript {
    path: PathBuf,
    config: String,
    lines: Vec<(usize, Line)>,
}

impl Transcript {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut transcript = Self { path: path.to_owned(), config: String::new(), lines: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(option) = line.strip_prefix("option ") {
                transcript.config += &format!("{option}\n");
                continue;
            }
            let (who, rest) = line.split_once(':').unwrap_or_else(|| panic!("{place}: what is '{line}'?"));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            let (side, connection) = who.split_at(1);
            let connection = if connection.is_empty() { 0 } else { connection.parse::<usize>().unwrap() - 1 };
            let line = match side {
                "C" => Line::Say(connection, said(rest)),
                "S" => Line::Hear(connection, rest.to_owned()),
                _ => panic!("{place}: what is '{line}'?"),
            };
            transcript.lines.push((number + 1, line));
        }
        transcript
    }

    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts/client");
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() > 20, "the transcripts are there");
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Plays it to a peer, and says where the peer does otherwise.
    fn play(&self, peer: &mut dyn Peer) -> Result<(), String> {
        // The first INFO is heard by those who ask for it, and taken away by all others.
        let mut greeted = [false; 4];
        for (number, line) in &self.lines {
            let place = format!("{}:{number}", self.path.display());
            let (connection, wants_info) = match line {
                Line::Say(connection, _) => (*connection, false),
                Line::Hear(connection, text) => (*connection, text.starts_with("INFO ")),
            };
            if !std::mem::replace(&mut greeted[connection], true) && !wants_info {
                let info = peer.hear(connection);
                if !info.as_ref().is_some_and(|line| line.starts_with("INFO ")) {
                    return Err(format!("{place}: the server greets with {info:?}"));
                }
            }
            match line {
                Line::Say(connection, bytes) => peer.say(*connection, bytes),
                Line::Hear(connection, want) => {
                    let got = peer.hear(*connection);
                    let got = got.as_deref().unwrap_or("<closed>");
                    if !fits(want, got) {
                        return Err(format!("{place}: expected '{want}', heard '{got}'"));
                    }
                }
            }
        }
        // Nothing else has been said.
        for (connection, _) in greeted.iter().enumerate().filter(|(_, greeted)| **greeted) {
            let rest = peer.rest(connection);
            if !rest.is_empty() {
                let place = self.path.display();
                return Err(format!("{place}: at the end, connection {} hears {rest:?}", connection + 1));
            }
        }
        Ok(())
    }
}

/// Plays all of them, and shows every one that goes wrong.
fn play_all(peer: impl Fn(&Transcript) -> Box<dyn Peer>) {
    let wrong: Vec<String> = Transcript::all()
        .iter()
        .filter_map(|transcript| transcript.play(peer(transcript).as_mut()).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn said(text: &str) -> Vec<u8> {
    let (text, end) = text.strip_suffix('\\').map_or((text, "\r\n"), |text| (text, ""));
    format!("{}{end}", text.replace("\\t", "\t").replace("\\n", "\n")).into_bytes()
}

fn fits(want: &str, got: &str) -> bool {
    let info =
        |line: &str| line.strip_prefix("INFO ").and_then(|json| serde_json::from_str::<Value>(json).ok());
    match (info(want), info(got)) {
        (Some(Value::Object(want)), Some(got)) => want.iter().all(|(key, value)| got[key] == *value),
        _ => want == got,
    }
}

/// Something that transcripts are played to.
trait Peer {
    fn say(&mut self, connection: usize, bytes: &[u8]);
    /// The next line, or none at the end.
    fn hear(&mut self, connection: usize) -> Option<String>;
    /// What has not been heard yet, up to the answer to a PING or the end.
    fn rest(&mut self, connection: usize) -> Vec<String>;
}

/// Lines without knowing which of them are payload.
fn take_line(bytes: &mut Vec<u8>) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = bytes.drain(..=end).collect();
    Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

/// Our session, without a driver.
struct Ours {
    router: Arc<Router>,
    worker: Arc<parking_lot::Mutex<Worker>>,
    options: Options,
    sessions: Vec<(ClientSession, Arc<Screen>, Vec<u8>)>,
}

#[derive(Default)]
struct Screen(Mutex<Vec<u8>>);

impl Owner for Screen {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut shown = self.0.lock().unwrap();
        bytes.iter().for_each(|slice| shown.extend_from_slice(slice));
        Ok(bytes.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

impl Ours {
    fn new(config: &str) -> Self {
        let mut options = Options::default();
        apply_file(&mut options, &midge_conf::parse("transcript", config, &midge_conf::NoFiles).unwrap())
            .unwrap();
        let server = midge::Server::new(options.clone()).unwrap();
        let router = Router::new(Settings {
            info: server.router().info(),
            limits: options.limits.clone(),
            entrance: Entrance::clone(&server.router().entrance()),
            seed: 1,
            max_ended: 0,
            cluster: None,
            leaves: None,
        });
        let worker = router.worker();
        Self { router, worker, options, sessions: Vec::new() }
    }

    fn reach(&mut self, connection: usize) {
        while self.sessions.len() <= connection {
            let screen = Arc::new(Screen::default());
            let mut worker = self.worker.lock();
            let mut tick = Tick { worker: &mut worker, now: Instant::now() };
            let session =
                ClientSession::client(&self.router, Arrival::from("127.0.0.1:1"), screen.clone(), &mut tick);
            tick.worker.flush(tick.now);
            self.sessions.push((session, screen, Vec::new()));
        }
    }

    fn feed(&mut self, connection: usize, bytes: &[u8]) {
        self.reach(connection);
        let (session, _, input) = &mut self.sessions[connection];
        input.extend_from_slice(bytes);
        loop {
            let mut worker = self.worker.lock();
            let mut tick = Tick { worker: &mut worker, now: Instant::now() };
            let done = session.handle_input(input, &mut tick);
            input.drain(..done.used);
            while let Some(event) = session.poll_event() {
                if let Event::Authenticate(request) = event {
                    let verdict = verdict(&self.options, &self.router, &request.credentials);
                    session.handle_verdict(verdict, &mut tick);
                }
            }
            tick.worker.flush(tick.now);
            if done.next != Next::Verdict {
                break;
            }
        }
    }
}

/// Who somebody is, by a token, one user, or many with permissions.
fn verdict(options: &Options, router: &Arc<Router>, claim: &Credentials) -> Verdict {
    let auth = &options.auth;
    let same = |want: &Option<Secret>, got: &str| want.as_ref().is_none_or(|want| want.reveal() == got);
    let single = same(&auth.token, &claim.auth_token)
        && auth.user.as_ref().is_none_or(|user| *user == claim.user)
        && same(&auth.password, &claim.pass);
    let mut users = options.users().map(|(_, user)| user).peekable();
    if users.peek().is_none() {
        return if single { Verdict::Welcome(router.anyone().clone()) } else { Verdict::Refused };
    }
    let known = users.find(|user| match &user.credential {
        Credential::Password(name, secret) => *name == claim.user && secret.reveal() == claim.pass,
        Credential::Nkey(_) => false,
    });
    match known {
        Some(user) => {
            let permissions = user.permissions.clone().map(|rules| Arc::new(Permissions::new(rules)));
            Verdict::Welcome(Arc::new(Grant { permissions, ..Grant::of(router.global_account()) }))
        }
        None => Verdict::Refused,
    }
}

impl Peer for Ours {
    fn say(&mut self, connection: usize, bytes: &[u8]) {
        // A byte at a time: where input is cut must not matter.
        for byte in bytes {
            self.feed(connection, &[*byte]);
        }
    }

    fn hear(&mut self, connection: usize) -> Option<String> {
        self.reach(connection);
        let (session, screen, _) = &self.sessions[connection];
        let line = take_line(&mut screen.0.lock().unwrap());
        let is_open = session.conn().closed().is_none();
        line.or_else(|| is_open.then(|| "<nothing, though the connection is open>".to_owned()))
    }

    fn rest(&mut self, connection: usize) -> Vec<String> {
        let screen = self.sessions[connection].1.clone();
        let mut bytes = screen.0.lock().unwrap();
        std::iter::from_fn(|| take_line(&mut bytes)).collect()
    }
}

/// A real server.
struct Theirs {
    process: Process,
    raws: Vec<Raw>,
    /// What has been said since the last answer, by whom. Sent in one piece: nats-server complains of some messages
    /// twice when they come in two.
    said: (usize, Vec<u8>),
}

impl Theirs {
    fn new(server: &str, transcript: &Transcript) -> Self {
        Self {
            process: Process::with_config(&program(server), &transcript.config),
            raws: Vec::new(),
            said: (0, Vec::new()),
        }
    }

    fn send(&mut self) {
        let (connection, bytes) = std::mem::take(&mut self.said);
        if !bytes.is_empty() {
            self.reach(connection).send(&bytes);
        }
    }

    fn reach(&mut self, connection: usize) -> &mut Raw {
        while self.raws.len() <= connection {
            self.raws.push(Raw::connect(self.process.port()));
        }
        &mut self.raws[connection]
    }
}

impl Peer for Theirs {
    fn say(&mut self, connection: usize, bytes: &[u8]) {
        if self.said.0 != connection {
            self.send();
        }
        self.said.0 = connection;
        self.said.1.extend_from_slice(bytes);
    }

    fn hear(&mut self, connection: usize) -> Option<String> {
        self.send();
        self.reach(connection).next_line()
    }

    fn rest(&mut self, connection: usize) -> Vec<String> {
        self.send();
        let raw = self.reach(connection);
        let _ = raw.stream().shutdown(std::net::Shutdown::Write);
        std::iter::from_fn(|| raw.next_line()).collect()
    }
}

#[test]
fn transcripts_are_what_our_session_says() {
    play_all(|transcript| Box::new(Ours::new(&transcript.config)));
}

#[test]
fn transcripts_are_what_nats_server_says() {
    play_all(|transcript| Box::new(Theirs::new("NATS_SERVER", transcript)));
}

#[test]
fn transcripts_are_what_midged_says() {
    play_all(|transcript| Box::new(Theirs::new("MIDGED", transcript)));
}
