//! Messages through a server: blocks that were made before, sent at their times, and whoever reads what comes.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use midge_testkit::carrier::Carrier;

use super::crowd::{Crowd, write_all};
use super::dialect::{Dialect, Said, Wanted};
use super::server::{Kind, Server, Setup};
use super::{Effort, Sample};
use crate::sh::Outcome;

/// Seconds of load before the counting.
const WARM_UP: f64 = 0.5;
/// Bytes of a NATS server's PING.
const PING: u64 = 6;
/// How long everything may take to arrive after the last message was sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Subscriptions that a churning client begins, and ends, at once.
const CHURNING: u64 = 100;

/// Who publishes what, and who hears it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) setup: Setup,
    /// Connections that publish, in turn.
    pub(crate) publishers: usize,
    /// Connections that subscribe.
    pub(crate) receivers: usize,
    /// What the `n`th receiver subscribes to. All sids are equally long.
    pub(crate) subscribe: fn(usize) -> Vec<Wanted>,
    /// Digits of a sid.
    pub(crate) sid: usize,
    /// The `n`th message of a publisher.
    pub(crate) message: fn(usize, usize) -> Said,
    /// Messages of a publisher after which they repeat.
    pub(crate) distinct: usize,
    /// How many times each message is delivered.
    pub(crate) copies: usize,
    /// Messages that are published each second.
    pub(crate) rate: u32,
    /// Bytes that are written at once, at least a message.
    pub(crate) block: usize,
    /// Subscriptions that somebody else begins, and ends, each second.
    pub(crate) churn: u32,
}

/// What passing messages costs: processor time of the server for each that it delivers or, where nobody listens, takes.
pub(crate) fn cost(kind: &Kind, traffic: &Traffic, effort: &Effort) -> Outcome<Sample> {
    let mut running = Running::start(kind, traffic)?;
    running.pass(WARM_UP)?;
    let (before, start) = (running.server.cpu()?, Instant::now());
    let sent = running.pass(effort.seconds)?;
    let elapsed = start.elapsed().as_secs_f64();
    let spent = running.server.cpu()? - before;
    let units = sent.messages * traffic.copies.max(1) as u64;
    Ok(Sample { figures: vec![spent as f64 / units as f64], rate: sent.messages as f64 / elapsed })
}

/// Messages that pass each second, when as many are sent as go.
pub(crate) fn most(kind: &Kind, traffic: &Traffic, effort: &Effort) -> Outcome<Sample> {
    let mut running = Running::start(kind, traffic)?;
    running.pass(WARM_UP)?;
    let start = Instant::now();
    let sent = running.pass(effort.seconds)?;
    let rate = sent.messages as f64 / start.elapsed().as_secs_f64();
    Ok(Sample { figures: vec![rate], rate })
}

/// What it costs while somebody subscribes and unsubscribes, and how much more that is than without.
pub(crate) fn churn(kind: &Kind, traffic: &Traffic, effort: &Effort) -> Outcome<Sample> {
    let calm = cost(kind, &Traffic { churn: 0, ..*traffic }, effort)?;
    let mut sample = cost(kind, traffic, effort)?;
    let penalty = sample.figures.iter().sum::<f64>() / calm.figures.iter().sum::<f64>();
    sample.figures.push(penalty);
    Ok(sample)
}

/// A server with its clients.
pub(crate) struct Running<'t> {
    traffic: &'t Traffic,
    pub(crate) server: Server,
    receivers: Receivers,
    source: Source,
    churner: Option<Churner>,
}

impl<'t> Running<'t> {
    pub(crate) fn start(kind: &Kind, traffic: &'t Traffic) -> Outcome<Self> {
        let server = Server::start(kind, traffic.setup)?;
        let listening = (0..traffic.receivers).map(|n| server.client(&(traffic.subscribe)(n)));
        let listening: Vec<_> = listening.collect::<Outcome<_>>()?;
        let source = Source::new(&server, traffic)?;
        let receivers = Receivers::start(listening, source.acknowledged(server.dialect())?)?;
        let churner = if traffic.churn > 0 { Some(Churner::new(&server)?) } else { None };
        let mut running = Self { traffic, server, receivers, source, churner };
        if running.server.is_routed() {
            running.wait_for_route()?;
        }
        // What a server tells new clients has come before anything is counted.
        running.receivers.wait_until_quiet();
        Ok(running)
    }

    /// Publishes until somebody hears it.
    fn wait_for_route(&mut self) -> Outcome {
        self.receivers.wait_until_quiet();
        let (before, until) = (self.receivers.bytes(), Instant::now() + PATIENCE);
        while self.receivers.bytes() == before {
            if Instant::now() > until {
                return Err("nothing comes by the route".to_owned());
            }
            self.source.send(self.traffic, 0.001, None)?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends for so many seconds, and waits until everything has arrived.
    pub(crate) fn pass(&mut self, seconds: f64) -> Outcome<Sent> {
        let name = || format!("a server on {}", self.server.port());
        let (heard, acknowledged) = self.receivers.bytes();
        let sent = self.source.send(self.traffic, seconds, self.churner.as_mut())?;
        let answers = self.server.dialect().acknowledged(self.traffic.copies) as u64 * sent.messages;
        if self.traffic.receivers == 0 && answers == 0 {
            self.source.sync(&self.server)?;
        }
        let (got, answered) = self.receivers.wait_for(heard + sent.delivered, acknowledged + answers);
        let (got, answered) = (got - heard, answered - acknowledged);
        // A PING may come to each in between.
        let more = got.saturating_sub(sent.delivered);
        let pings = PING * self.traffic.receivers as u64 * (1 + seconds as u64);
        if got < sent.delivered || more % PING > 0 || more > pings || answered < answers {
            return Err(format!("{got} of {} bytes arrived from {}", sent.delivered, name()));
        }
        Ok(sent)
    }
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
pub(crate) struct Sent {
    pub(crate) messages: u64,
    /// Bytes that receivers hear of it.
    delivered: u64,
}

/// Publishers, and what each of them says again and again.
struct Source {
    publishers: Vec<(Box<dyn Carrier>, Vec<Block>)>,
    /// Messages of a block, on average.
    messages: f64,
    /// Blocks sent so far.
    sent: usize,
}

impl Source {
    fn new(server: &Server, traffic: &Traffic) -> Outcome<Self> {
        let mut publishers = Vec::new();
        for publisher in 0..traffic.publishers {
            publishers.push((server.client(&[])?, blocks(server.dialect(), traffic, publisher)));
        }
        let all = || publishers.iter().flat_map(|(_, blocks)| blocks);
        let messages = all().map(|block| block.messages as f64).sum::<f64>() / all().count() as f64;
        Ok(Self { publishers, messages, sent: 0 })
    }

    /// The publishers' sockets, where servers answer every message.
    fn acknowledged(&self, dialect: Dialect) -> Outcome<Vec<TcpStream>> {
        if dialect.acknowledged(0) == 0 {
            return Ok(Vec::new());
        }
        let sockets = self.publishers.iter().map(|(publisher, _)| publisher.socket().try_clone());
        sockets.collect::<io::Result<_>>().map_err(|error| error.to_string())
    }

    /// Sends blocks at their times, which do not move when the server is slow.
    fn send(&mut self, traffic: &Traffic, seconds: f64, mut churner: Option<&mut Churner>) -> Outcome<Sent> {
        let rate = f64::from(traffic.rate);
        let interval = Duration::from_secs_f64(self.messages / rate);
        let start = Instant::now();
        let mut sent = Sent::default();
        let fail = |error: io::Error| format!("the server takes no more: {error}");
        for number in 0.. {
            let due = start + interval * number;
            if (due - start).as_secs_f64() >= seconds || start.elapsed().as_secs_f64() > 4.0 * seconds {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let count = self.publishers.len();
            let (publisher, blocks) = self.publishers.get_mut(self.sent % count).ok_or("nobody publishes")?;
            let block = blocks.get(self.sent / count % blocks.len()).ok_or("there is nothing to say")?;
            write_all(&mut **publisher, &block.bytes).map_err(fail)?;
            sent.messages += block.messages;
            sent.delivered += block.delivered;
            self.sent += 1;
            if let Some(churner) = &mut churner {
                let wanted = (due - start).as_secs_f64() * f64::from(traffic.churn);
                churner.go_on(wanted as u64).map_err(fail)?;
            }
        }
        if let Some(churner) = churner {
            churner.begun = 0;
        }
        Ok(sent)
    }

    /// Waits until the server has taken everything.
    fn sync(&mut self, server: &Server) -> Outcome {
        let mut publishers = self.publishers.iter_mut();
        publishers
            .try_for_each(|(publisher, _)| server.sync(&mut **publisher))
            .map_err(|error| format!("the server does not answer: {error}"))
    }
}

/// A publisher's messages, in blocks: the first ones that are all different, or one block of the same one.
fn blocks(dialect: Dialect, traffic: &Traffic, publisher: usize) -> Vec<Block> {
    let message = |number| dialect.publish(&(traffic.message)(publisher, number));
    let mut blocks: Vec<Block> = Vec::new();
    let mut number = 0;
    while number < traffic.distinct {
        let mut block = Block { bytes: Vec::new(), messages: 0, delivered: 0 };
        loop {
            let bytes = message(number % traffic.distinct);
            let too_much = block.bytes.len() + bytes.len() > traffic.block;
            let all = traffic.distinct > 1 && number >= traffic.distinct;
            if block.messages > 0 && (too_much || all) {
                break;
            }
            block.delivered += (traffic.copies * dialect.heard(bytes.len(), traffic.sid)) as u64;
            block.messages += 1;
            block.bytes.extend_from_slice(&bytes);
            number += 1;
        }
        blocks.push(block);
    }
    blocks
}

/// Somebody who subscribes and unsubscribes.
struct Churner {
    client: Box<dyn Carrier>,
    /// Subscriptions begun in this pass.
    begun: u64,
    /// The number of the next one.
    next: u64,
}

impl Churner {
    fn new(server: &Server) -> Outcome<Self> {
        Ok(Self { client: server.client(&[])?, begun: 0, next: 0 })
    }

    /// Begins subscriptions until there have been so many, some at once, and ends as many older ones.
    fn go_on(&mut self, wanted: u64) -> io::Result<()> {
        while self.begun + CHURNING <= wanted {
            let mut text = String::new();
            for number in self.next..self.next + CHURNING {
                text += &format!("SUB churn.{number} {number}\r\n");
                if let Some(old) = number.checked_sub(CHURNING) {
                    text += &format!("UNSUB {old}\r\n");
                }
            }
            self.client.write_all(text.as_bytes())?;
            self.begun += CHURNING;
            self.next += CHURNING;
        }
        Ok(())
    }
}

/// A thread that reads all receivers, and publishers that are answered, and counts bytes.
struct Receivers {
    heard: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receivers {
    fn start(receivers: Vec<Box<dyn Carrier>>, publishers: Vec<TcpStream>) -> Outcome<Self> {
        let (heard, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ends = Arc::new(AtomicBool::new(false));
        let mut members: Vec<_> = receivers.into_iter().map(|receiver| (receiver, heard.clone())).collect();
        for publisher in publishers {
            members.push((Box::new(publisher), acknowledged.clone()));
        }
        let mut crowd = Crowd::new(members).map_err(|error| error.to_string())?;
        let end = ends.clone();
        let thread = thread::spawn(move || {
            let count = |_: &mut dyn Carrier, count: &mut Arc<AtomicU64>, bytes: &[u8]| {
                count.fetch_add(bytes.len() as u64, Ordering::AcqRel);
                Ok(())
            };
            // Whoever waits for more sees that nothing comes.
            while !end.load(Ordering::Acquire) && crowd.hear(Duration::from_millis(50), count).is_ok() {}
        });
        Ok(Self { heard, acknowledged, ends, thread: Some(thread) })
    }

    /// Bytes that receivers have heard, and publishers.
    fn bytes(&self) -> (u64, u64) {
        (self.heard.load(Ordering::Acquire), self.acknowledged.load(Ordering::Acquire))
    }

    /// Waits until nothing has come for a while.
    fn wait_until_quiet(&self) {
        let mut last = (u64::MAX, u64::MAX);
        while last != self.bytes() {
            last = self.bytes();
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for that many bytes; how many there are.
    fn wait_for(&self, heard: u64, acknowledged: u64) -> (u64, u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let bytes = self.bytes();
            if (bytes.0 >= heard && bytes.1 >= acknowledged) || Instant::now() > until {
                return bytes;
            }
            thread::sleep(Duration::from_micros(200));
        }
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
