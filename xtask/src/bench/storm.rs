//! Many connections at once, and what is left of them.

use std::io;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use midge_testkit::carrier::Carrier;

use super::crowd::{Crowd, write_all};
use super::dialect::{Said, Wanted};
use super::server::{Awake, Kind, Server, Setup};
use super::{Effort, Sample, part};
use crate::sh::Outcome;

/// How long to wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a server has to give memory back.
const GIVE_BACK: Duration = Duration::from_secs(60);
/// Subscriptions of each connection of a storm.
const SUBSCRIPTIONS: usize = 20;
/// Messages that everybody hears in a storm.
const MESSAGES: usize = 20;

/// Processor time for a connection, and what 99 % of them took less than from when each should have begun to the PONG,
/// when so many begin in a second.
pub(crate) fn connect(kind: &Kind, connections: u32, effort: &Effort) -> Outcome<Sample> {
    let _awake = Awake::start()?;
    let server = Server::start(kind, Setup::Plain(""))?;
    let connections = connections / effort.smaller as u32;
    let interval = Duration::from_secs(1) / (connections * effort.smaller as u32);
    let fail = |error: io::Error| format!("many connections: {error}");
    let mut crowd: Crowd<Newcomer> = Crowd::new(Vec::new()).map_err(fail)?;
    let mut times = Vec::new();
    let (before, start) = (server.cpu()?, Instant::now());
    while times.len() < connections as usize {
        let begun = crowd.members.len() as u32;
        let due = start + interval * begun;
        if begun < connections && Instant::now() >= due {
            let socket = TcpStream::connect(("127.0.0.1", server.port())).map_err(fail)?;
            socket.set_nodelay(true).map_err(fail)?;
            crowd
                .join(Box::new(socket), Newcomer { due, heard: Vec::new(), greeted: false })
                .map_err(fail)?;
        }
        let hear = |us: &mut dyn Carrier, newcomer: &mut Newcomer, bytes: &[u8]| {
            newcomer.hear(us, bytes, &server).map(|took| times.extend(took))
        };
        crowd.hear(Duration::ZERO, hear).map_err(fail)?;
        if start.elapsed() > PATIENCE {
            return Err(format!("{} of {connections} connections are there", times.len()));
        }
    }
    let rate = f64::from(connections) / start.elapsed().as_secs_f64();
    let spent = (server.cpu()? - before) as f64 / f64::from(connections);
    Ok(Sample { figures: vec![spent, part(&mut times, 0.99)], rate })
}

/// A connection that has begun.
struct Newcomer {
    due: Instant,
    heard: Vec<u8>,
    greeted: bool,
}

impl Newcomer {
    /// Answers the INFO, as clients do; how long it took, once the PONG is there.
    fn hear(&mut self, us: &mut dyn Carrier, bytes: &[u8], server: &Server) -> io::Result<Option<Duration>> {
        if self.greeted && self.heard.is_empty() {
            return Ok(None);
        }
        self.heard.extend_from_slice(bytes);
        if !self.greeted && self.heard.ends_with(b"\r\n") {
            self.greeted = true;
            let dialect = server.dialect();
            write_all(us, &[&dialect.hello(), dialect.ping()].concat())?;
        }
        if !server.dialect().is_answered(&self.heard) {
            return Ok(None);
        }
        self.heard = Vec::new();
        Ok(Some(self.due.elapsed()))
    }
}

/// Processor time for a connection and its TLS, one after the other.
pub(crate) fn handshakes(kind: &Kind, count: usize, effort: &Effort) -> Outcome<Sample> {
    let server = Server::start(kind, Setup::Tls)?;
    let count = count / effort.smaller;
    for _ in 0..count / 10 {
        server.client(&[])?;
    }
    let (before, start) = (server.cpu()?, Instant::now());
    for _ in 0..count {
        server.client(&[])?;
    }
    let spent = (server.cpu()? - before) as f64 / count as f64;
    Ok(Sample { figures: vec![spent], rate: count as f64 / start.elapsed().as_secs_f64() })
}

/// The part of the memory that a storm took which is still held a minute after it: connections with subscriptions and
/// messages, all gone.
pub(crate) fn give_back(kind: &Kind, connections: usize, effort: &Effort) -> Outcome<Sample> {
    let server = Server::start(kind, Setup::Plain(""))?;
    let connections = connections / effort.smaller;
    let mut first = server.client(&[])?;
    let before = server.settled_memory()?;
    let fail = |error: io::Error| format!("a storm: {error}");
    let start = Instant::now();
    let mut storm = Vec::new();
    for connection in 0..connections {
        let own = (0..SUBSCRIPTIONS)
            .map(|n| Wanted { sid: n + 2, ..Wanted::new(format!("storm.{connection}.{n}")) });
        let all: Vec<_> = own.chain([Wanted::new("storm.all")]).collect();
        storm.push(server.client(&all)?);
    }
    let rate = connections as f64 / start.elapsed().as_secs_f64();
    let message = server.dialect().publish(&Said::new("storm.all", 1024));
    for _ in 0..MESSAGES {
        write_all(&mut *first, &message).map_err(fail)?;
    }
    server.sync(&mut *first).map_err(fail)?;
    let most = server.settled_memory()?;
    drop(storm);
    let gone = Instant::now();
    let held = loop {
        thread::sleep(Duration::from_secs(1));
        let held = server.memory()?.saturating_sub(before) as f64 / most.saturating_sub(before) as f64;
        if gone.elapsed() >= GIVE_BACK / effort.smaller as u32 || held < 0.02 {
            break held;
        }
    };
    Ok(Sample { figures: vec![held], rate })
}
