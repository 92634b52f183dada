//! Requests and replies.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use midge_testkit::carrier::Carrier;

use super::crowd::{Crowd, Ear, write_all};
use super::dialect::Wanted;
use super::server::{Awake, Kind, Server, Setup};
use super::{Effort, Sample, part};
use crate::sh::Outcome;

/// Seconds of load before the counting.
const WARM_UP: f64 = 0.5;
/// How long to wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who asks, and who answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requests {
    /// Connections that ask.
    pub(crate) requesters: usize,
    /// Connections that answer, in one queue group.
    pub(crate) responders: usize,
    /// Requests that are sent each second, whether or not those before have been answered; zero where each requester
    /// waits for its reply and then asks again.
    pub(crate) rate: u32,
}

/// Processor time of the server for a request, and what of the requests took less than: half, and 99.9 %.
pub(crate) fn closed(kind: &Kind, requests: &Requests, effort: &Effort) -> Outcome<Sample> {
    let (mut times, spent, elapsed) = run(kind, requests, effort)?;
    let count = times.len() as f64;
    let figures = vec![spent / count, part(&mut times, 0.5), part(&mut times, 0.999)];
    Ok(Sample { figures, rate: count / elapsed })
}

/// What 99 % of the requests took less than, counted from when each should have been sent.
pub(crate) fn open(kind: &Kind, requests: &Requests, effort: &Effort) -> Outcome<Sample> {
    let (mut times, _, elapsed) = run(kind, requests, effort)?;
    let rate = times.len() as f64 / elapsed;
    Ok(Sample { figures: vec![part(&mut times, 0.99)], rate })
}

fn run(kind: &Kind, requests: &Requests, effort: &Effort) -> Outcome<(Vec<Duration>, f64, f64)> {
    let _awake = Awake::start()?;
    let server = Server::start(kind, Setup::Plain(""))?;
    let mut parties = Parties::new(&server, requests)?;
    let fail = |error: io::Error| format!("a request: {error}");
    parties.run(WARM_UP).map_err(fail)?;
    let (before, start) = (server.cpu()?, Instant::now());
    let times = parties.run(effort.seconds).map_err(fail)?;
    let elapsed = start.elapsed().as_secs_f64();
    Ok((times, (server.cpu()? - before) as f64, elapsed))
}

/// Those who ask and those who answer, on one thread.
pub(crate) struct Parties {
    crowd: Crowd<Party>,
    requesters: usize,
    rate: u32,
}

enum Party {
    Requester { number: usize, ear: Ear },
    Responder { ear: Ear },
}

/// When each request should have been sent, by its number.
struct Asked {
    times: Vec<Instant>,
    took: Vec<Duration>,
    /// No new requests from then on.
    end: Instant,
    /// Whether who has been answered asks again.
    again: bool,
}

impl Parties {
    pub(crate) fn new(server: &Server, requests: &Requests) -> Outcome<Self> {
        let mut members = Vec::new();
        for number in 0..requests.requesters {
            let inbox = Wanted::new(format!("_INBOX.{number:03}.*"));
            members.push((server.client(&[inbox])?, Party::Requester { number, ear: Ear::default() }));
        }
        for _ in 0..requests.responders {
            let service = Wanted { queue: "workers", ..Wanted::new("bench.ask") };
            members.push((server.client(&[service])?, Party::Responder { ear: Ear::default() }));
        }
        let crowd = Crowd::new(members).map_err(|error| error.to_string())?;
        Ok(Self { crowd, requesters: requests.requesters, rate: requests.rate })
    }

    /// How long each request took.
    pub(crate) fn run(&mut self, seconds: f64) -> io::Result<Vec<Duration>> {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        let mut asked = Asked { times: Vec::new(), took: Vec::new(), end, again: self.rate == 0 };
        if asked.again {
            for number in 0..self.requesters {
                self.ask(number, &mut asked, Instant::now())?;
            }
        }
        let quiet = end + PATIENCE;
        loop {
            let mut wait = Duration::from_millis(100);
            if !asked.again {
                let due = start + Duration::from_secs(1) / self.rate * asked.times.len() as u32;
                if due < end {
                    // The kernel's timers are too coarse for this.
                    wait = Duration::ZERO;
                    if Instant::now() >= due {
                        self.ask(asked.times.len() % self.requesters, &mut asked, due)?;
                    }
                }
            }
            self.crowd.hear(wait, |party, its, bytes| its.hear(party, bytes, &mut asked))?;
            let now = Instant::now();
            if now >= end && asked.took.len() == asked.times.len() {
                return Ok(asked.took);
            }
            if now >= quiet {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn ask(&mut self, number: usize, asked: &mut Asked, due: Instant) -> io::Result<()> {
        match self.crowd.members.get_mut(number) {
            Some((requester, _)) => asked.ask(&mut **requester, number, due),
            None => Ok(()),
        }
    }
}

impl Asked {
    fn ask(&mut self, requester: &mut dyn Carrier, number: usize, due: Instant) -> io::Result<()> {
        let request = format!("PUB bench.ask _INBOX.{number:03}.{} 16\r\n", self.times.len());
        self.times.push(due);
        write_all(requester, format!("{request}xxxxxxxxxxxxxxxx\r\n").as_bytes())
    }
}

impl Party {
    fn hear(&mut self, us: &mut dyn Carrier, bytes: &[u8], asked: &mut Asked) -> io::Result<()> {
        match self {
            Self::Requester { number, ear } => ear.hear(us, bytes, |us, line| {
                let subject = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                let digits = subject.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
                let which = digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit & 15));
                let now = Instant::now();
                let due = asked.times.get(which).copied().unwrap_or(now);
                asked.took.push(now.saturating_duration_since(due));
                if asked.again && now < asked.end { asked.ask(us, *number, now) } else { Ok(()) }
            }),
            Self::Responder { ear } => {
                let mut replies = Vec::new();
                ear.hear(us, bytes, |_, line| {
                    let to = line.split(|byte| *byte == b' ').nth(3).unwrap_or_default();
                    replies.extend_from_slice(b"PUB ");
                    replies.extend_from_slice(to);
                    replies.write_all(b" 16\r\nyyyyyyyyyyyyyyyy\r\n")
                })?;
                write_all(us, &replies)
            }
        }
    }
}
