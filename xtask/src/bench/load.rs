//! The generator: raw sockets and blocks of messages that were made before.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use midge_testkit::raw::Raw;
use midge_testkit::tls::Authority;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::server::{Kind, Server};
use super::workload::{Memory, Traffic};
use crate::sh::Outcome;

/// Bytes of a block: what clients' own write buffers hold.
const BLOCK: usize = 32 * 1024;
/// Load before the counting. Longer than it takes until the server's first PING, which would be miscounted.
const WARM_UP: f64 = 3.0;
/// How long everything may take to arrive after the last message was sent.
const PATIENCE: Duration = Duration::from_secs(20);
/// Subscriptions that are sent at once.
const SUBS_AT_ONCE: usize = 1000;

/// What one run found.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// Nanoseconds a message, or bytes a thing.
    pub(crate) cost: f64,
    /// Messages published each second, in fact.
    pub(crate) rate: f64,
}

/// Offers messages at the workload's rate and reads what comes.
pub(crate) fn traffic(kind: &Kind, traffic: &Traffic, seconds: f64) -> Outcome<Sample> {
    let server = Server::start(kind)?;
    let queue = if traffic.queue { "workers " } else { "" };
    let mut receivers = Vec::new();
    for _ in 0..traffic.receivers {
        receivers.push(server.client(&format!("SUB bench.a {queue}1\r\n"))?);
    }
    let mut publisher = server.client("")?;
    let receivers = Receivers::start(receivers)?;
    let block = Block::new(traffic.payload);
    let delivered = format!("MSG bench.a 1 {}\r\n", traffic.payload).len() + traffic.payload + 2;

    block.send(&mut publisher, traffic.rate, WARM_UP)?;
    receivers.wait_until_quiet();
    let (bytes_before, cpu_before) = (receivers.bytes(), server.cpu()?);
    let start = Instant::now();
    let sent = block.send(&mut publisher, traffic.rate, seconds)?;
    let expected = sent * (traffic.copies() * delivered) as u64;
    if traffic.receivers == 0 {
        sync(&mut publisher)?;
    }
    let got = receivers.wait_for(bytes_before + expected) - bytes_before;
    let elapsed = start.elapsed().as_secs_f64();
    if got != expected {
        return Err(format!("{}: {got} of {expected} bytes arrived from {}", traffic.name, kind.name));
    }
    let spent = server.cpu()? - cpu_before;
    let units = sent * traffic.copies().max(1) as u64;
    Ok(Sample { cost: spent as f64 / units as f64, rate: sent as f64 / elapsed })
}

/// Opens connections with subscriptions, and sees how much the server has grown.
pub(crate) fn memory(kind: &Kind, memory: &Memory, smaller: usize) -> Outcome<Sample> {
    if memory.tls {
        return tls_memory(kind, memory, smaller);
    }
    let server = Server::start(kind)?;
    // What the first connection costs belongs to the server, not to each connection.
    let _first = server.client("")?;
    let before = server.settled_memory();
    let start = Instant::now();
    let (connections, subscriptions) = match memory.subscriptions {
        0 => (memory.connections / smaller, 0),
        each => (memory.connections, each / smaller),
    };
    let mut held = Vec::new();
    for connection in 0..connections {
        let mut stream = server.client("")?;
        let mut text = String::new();
        for n in 0..subscriptions {
            text += &format!("SUB bench.{connection}.{n} {n}\r\n");
            if (n + 1) % SUBS_AT_ONCE == 0 {
                stream.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
                text.clear();
            }
        }
        stream.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        sync(&mut stream)?;
        held.push(stream);
    }
    let things = (connections * subscriptions.max(1)) as f64;
    let rate = things / start.elapsed().as_secs_f64();
    let grown = server.settled_memory().saturating_sub(before);
    Ok(Sample { cost: grown as f64 / things, rate })
}

/// The same, of connections that speak TLS.
fn tls_memory(kind: &Kind, memory: &Memory, smaller: usize) -> Outcome<Sample> {
    let authority = Authority::new();
    let trust = authority.trusting(None, &[]);
    let server = Server::with_tls(kind, &authority)?;
    let _first = server.tls_client(&trust);
    let before = server.settled_memory();
    let start = Instant::now();
    let held: Vec<Raw> = (0..memory.connections / smaller).map(|_| server.tls_client(&trust)).collect();
    let rate = held.len() as f64 / start.elapsed().as_secs_f64();
    let grown = server.settled_memory().saturating_sub(before);
    Ok(Sample { cost: grown as f64 / held.len() as f64, rate })
}

/// Waits until the server has done everything that it was sent.
fn sync(stream: &mut TcpStream) -> Outcome {
    let mut ask = || -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"PING\r\n")?;
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        while !heard.ends_with(b"PONG\r\n") {
            let len = stream.read(&mut piece)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            heard.extend_from_slice(piece.get(..len).unwrap_or_default());
        }
        Ok(())
    };
    ask().map_err(|error| format!("the server does not answer a PING: {error}"))
}

/// As many messages as are written at once.
struct Block {
    bytes: Vec<u8>,
    messages: u64,
}

impl Block {
    fn new(payload: usize) -> Self {
        let mut message = format!("PUB bench.a {payload}\r\n").into_bytes();
        message.resize(message.len() + payload, b'x');
        message.extend_from_slice(b"\r\n");
        let messages = (BLOCK / message.len()).max(1);
        Self { bytes: message.repeat(messages), messages: messages as u64 }
    }

    /// Sends blocks at their times, which do not move when the server is slow; how many messages it were.
    fn send(&self, stream: &mut TcpStream, rate: u32, seconds: f64) -> Outcome<u64> {
        let blocks = (f64::from(rate) * seconds / self.messages as f64).ceil().max(1.0) as u32;
        let interval = Duration::from_secs_f64(self.messages as f64 / f64::from(rate));
        let start = Instant::now();
        for number in 0..blocks {
            let due = start + interval * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            stream.write_all(&self.bytes).map_err(|error| format!("the server takes no more: {error}"))?;
        }
        Ok(u64::from(blocks) * self.messages)
    }
}

/// A thread that reads all receivers and counts bytes.
struct Receivers {
    count: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receivers {
    fn start(streams: Vec<TcpStream>) -> Outcome<Self> {
        for stream in &streams {
            stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        }
        let (count, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (count.clone(), ends.clone());
        let thread = thread::spawn(move || receive(streams, &counter, &end));
        Ok(Self { count, ends, thread: Some(thread) })
    }

    fn bytes(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until nothing has come for a while.
    fn wait_until_quiet(&self) {
        let mut last = u64::MAX;
        while last != self.bytes() {
            last = self.bytes();
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// Waits for that many bytes; how many there are.
    fn wait_for(&self, bytes: u64) -> u64 {
        let until = Instant::now() + PATIENCE;
        while self.bytes() < bytes && Instant::now() < until {
            thread::sleep(Duration::from_micros(200));
        }
        self.bytes()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(mut streams: Vec<TcpStream>, count: &AtomicU64, ends: &AtomicBool) {
    let mut buffer = vec![0; 256 * 1024];
    let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !ends.load(Ordering::Acquire) {
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> =
                streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
            if poll(&mut fds, Some(&pause)).is_err() {
                continue;
            }
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        for (stream, _) in streams.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            if let Ok(len) = stream.read(&mut buffer) {
                count.fetch_add(len as u64, Ordering::AcqRel);
            }
        }
    }
}
