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
use super::workload::{Figure, Memory, Requests, Traffic};
use crate::sh::Outcome;

/// Bytes of a block: what clients' own write buffers hold.
const BLOCK: usize = 32 * 1024;
/// Seconds of load before the counting.
const WARM_UP: f64 = 0.8;
/// Bytes of a PING.
const PING: u64 = 6;
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
    let server = Server::start(kind, traffic.config)?;
    let receivers = (0..traffic.receivers).map(|n| server.client(&(traffic.subscribe)(n)));
    let receivers = Receivers::start(receivers.collect::<Outcome<_>>()?)?;
    let mut source = Source::new(&server, traffic)?;

    source.send(traffic.rate, WARM_UP)?;
    receivers.wait_until_quiet();
    let (bytes_before, cpu_before) = (receivers.bytes(), server.cpu()?);
    let start = Instant::now();
    let sent = source.send(traffic.rate, seconds)?;
    if traffic.receivers == 0 {
        source.sync()?;
    }
    let got = receivers.wait_for(bytes_before + sent.delivered) - bytes_before;
    let elapsed = start.elapsed().as_secs_f64();
    // A PING may come to each in between.
    let more = got.saturating_sub(sent.delivered);
    if got < sent.delivered || more % PING > 0 || more > PING * traffic.receivers as u64 {
        return Err(format!(
            "{}: {got} of {} bytes arrived from {}",
            traffic.name, sent.delivered, kind.name
        ));
    }
    let spent = server.cpu()? - cpu_before;
    let units = sent.messages * traffic.copies.max(1) as u64;
    Ok(Sample { cost: spent as f64 / units as f64, rate: sent.messages as f64 / elapsed })
}

/// Asks, and has it answered, as fast as it goes.
pub(crate) fn requests(kind: &Kind, requests: &Requests, seconds: f64) -> Outcome<Sample> {
    let server = Server::start(kind, "")?;
    let mut parties = Parties::new(&server, requests)?;
    parties.run(WARM_UP)?;
    let before = server.cpu()?;
    let start = Instant::now();
    let mut times = parties.run(seconds)?;
    let elapsed = start.elapsed().as_secs_f64();
    let spent = server.cpu()? - before;
    let count = times.len() as f64;
    let cost = match requests.figure {
        Figure::Processor => spent as f64 / count,
        Figure::Time(part) => {
            times.sort_unstable();
            let at = ((count * part) as usize).min(times.len().saturating_sub(1));
            times.get(at).map_or(f64::NAN, |time| time.as_nanos() as f64)
        }
    };
    Ok(Sample { cost, rate: count / elapsed })
}

/// Opens connections with subscriptions, and sees how much the server has grown.
pub(crate) fn memory(kind: &Kind, memory: &Memory, smaller: usize) -> Outcome<Sample> {
    if memory.tls {
        return tls_memory(kind, memory, smaller);
    }
    let server = Server::start(kind, "")?;
    if memory.connections == 0 {
        return Ok(Sample { cost: server.settled_memory() as f64, rate: 0.0 });
    }
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
    /// Bytes that receivers hear of it.
    delivered: u64,
}

/// What was sent.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    messages: u64,
    /// Bytes that receivers hear of it.
    delivered: u64,
}

/// Publishers, and what each of them says again and again.
struct Source {
    publishers: Vec<(TcpStream, Vec<Block>)>,
    /// Messages of a block, on average.
    messages: f64,
    /// Blocks sent so far.
    sent: usize,
}

impl Source {
    fn new(server: &Server, traffic: &Traffic) -> Outcome<Self> {
        let mut publishers = Vec::new();
        for publisher in 0..traffic.publishers {
            publishers.push((server.client("")?, blocks(traffic, publisher)));
        }
        let all = || publishers.iter().flat_map(|(_, blocks)| blocks);
        let messages = all().map(|block| block.messages as f64).sum::<f64>() / all().count() as f64;
        Ok(Self { publishers, messages, sent: 0 })
    }

    /// Sends blocks at their times, which do not move when the server is slow.
    fn send(&mut self, rate: u32, seconds: f64) -> Outcome<Sent> {
        let blocks = (f64::from(rate) * seconds / self.messages).ceil().max(1.0) as u32;
        let interval = Duration::from_secs_f64(self.messages / f64::from(rate));
        let start = Instant::now();
        let mut sent = Sent::default();
        for number in 0..blocks {
            let due = start + interval * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let count = self.publishers.len();
            let (stream, blocks) = self.publishers.get_mut(self.sent % count).ok_or("nobody publishes")?;
            let block = blocks.get(self.sent / count % blocks.len()).ok_or("there is nothing to say")?;
            stream.write_all(&block.bytes).map_err(|error| format!("the server takes no more: {error}"))?;
            sent.messages += block.messages;
            sent.delivered += block.delivered;
            self.sent += 1;
        }
        Ok(sent)
    }

    /// Waits until the server has taken everything.
    fn sync(&mut self) -> Outcome {
        self.publishers.iter_mut().try_for_each(|(stream, _)| sync(stream))
    }
}

/// A publisher's messages, in blocks.
fn blocks(traffic: &Traffic, publisher: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block = Block { bytes: Vec::new(), messages: 0, delivered: 0 };
    let mut number = 0;
    while number < traffic.distinct || blocks.is_empty() {
        let message = (traffic.message)(publisher, number);
        if !block.bytes.is_empty() && block.bytes.len() + message.len() > BLOCK {
            let full = std::mem::replace(&mut block, Block { bytes: Vec::new(), messages: 0, delivered: 0 });
            blocks.push(full);
        }
        // `MSG` is as long as `PUB`, and has a sid and a blank more.
        block.delivered += (traffic.copies * (message.len() + traffic.sid + 1)) as u64;
        block.messages += 1;
        block.bytes.extend_from_slice(&message);
        number += 1;
        if message.len() > BLOCK {
            break;
        }
    }
    if !block.bytes.is_empty() && (blocks.is_empty() || traffic.distinct > 1) {
        blocks.push(block);
    }
    blocks
}

/// Those who ask and those who answer. All of it happens on one thread, which waits for whatever comes.
struct Parties {
    requesters: Vec<Requester>,
    responders: Vec<TcpStream>,
    expected: usize,
}

struct Requester {
    stream: TcpStream,
    request: Vec<u8>,
    asked: Instant,
    /// Bytes of the reply that have come.
    heard: usize,
}

impl Parties {
    fn new(server: &Server, requests: &Requests) -> Outcome<Self> {
        let responders = (0..requests.responders).map(|_| server.client("SUB bench.ask workers 1\r\n"));
        let requesters = (0..requests.requesters).map(|n| {
            let stream = server.client(&format!("SUB _INBOX.{n:03}.* 1\r\n"))?;
            let request = format!("PUB bench.ask _INBOX.{n:03}.1 16\r\n{}\r\n", "x".repeat(16)).into_bytes();
            Ok(Requester { stream, request, asked: Instant::now(), heard: 0 })
        });
        let expected = format!("MSG _INBOX.{:03}.1 1 16\r\n", 0).len() + 18;
        Ok(Self {
            requesters: requesters.collect::<Outcome<_>>()?,
            responders: responders.collect::<Outcome<_>>()?,
            expected,
        })
    }

    /// How long each request took.
    fn run(&mut self, seconds: f64) -> Outcome<Vec<Duration>> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut times = Vec::new();
        let fail = |error: io::Error| format!("a request: {error}");
        for requester in &mut self.requesters {
            requester.asked = Instant::now();
            requester.stream.write_all(&requester.request).map_err(fail)?;
        }
        let mut outstanding = self.requesters.len();
        while outstanding > 0 {
            let (asking, answering) = self.wait().map_err(fail)?;
            for (responder, _) in self.responders.iter_mut().zip(answering).filter(|(_, ready)| *ready) {
                answer(responder).map_err(fail)?;
            }
            for (requester, _) in self.requesters.iter_mut().zip(asking).filter(|(_, ready)| *ready) {
                if requester.hear(self.expected).map_err(fail)? {
                    let now = Instant::now();
                    times.push(now - requester.asked);
                    requester.asked = now;
                    if now < end {
                        requester.stream.write_all(&requester.request).map_err(fail)?;
                    } else {
                        outstanding -= 1;
                    }
                }
            }
        }
        Ok(times)
    }

    /// Which requesters and responders have something to read.
    fn wait(&self) -> io::Result<(Vec<bool>, Vec<bool>)> {
        let streams = self.requesters.iter().map(|requester| &requester.stream).chain(&self.responders);
        let mut fds: Vec<PollFd<'_>> = streams.map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        if poll(&mut fds, Some(&patience))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let asking = ready.by_ref().take(self.requesters.len()).collect();
        Ok((asking, ready.collect()))
    }
}

impl Requester {
    /// Reads; whether the reply is there.
    fn hear(&mut self, expected: usize) -> io::Result<bool> {
        let mut piece = [0; 4096];
        let len = self.stream.read(&mut piece)?;
        let heard = piece.get(..len).unwrap_or_default();
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.heard += len - pings(&mut self.stream, heard)?;
        let done = self.heard >= expected;
        self.heard %= expected;
        Ok(done)
    }
}

/// Answers the PINGs in what was read whole; how many bytes they were.
fn pings(stream: &mut TcpStream, heard: &[u8]) -> io::Result<usize> {
    let pings = heard.windows(PING as usize).filter(|window| *window == b"PING\r\n").count();
    (0..pings).try_for_each(|_| stream.write_all(b"PONG\r\n"))?;
    Ok(pings * PING as usize)
}

/// Answers all requests that have come. Servers write whole messages, and few enough to be read at once.
fn answer(responder: &mut TcpStream) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    let len = responder.read(&mut piece)?;
    let heard = piece.get(..len).unwrap_or_default();
    if len == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    pings(responder, heard)?;
    let mut replies = Vec::new();
    for line in heard.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"MSG ")) {
        let to = line.split(|byte| *byte == b' ').nth(3).unwrap_or_default();
        replies.extend_from_slice(b"PUB ");
        replies.extend_from_slice(to);
        replies.extend_from_slice(b" 16\r\nyyyyyyyyyyyyyyyy\r\n");
    }
    responder.write_all(&replies)
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
