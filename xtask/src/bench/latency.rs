//! How long messages take, counted from when each should have been sent, so that a message that could not be sent in time
//! because the server did not read counts as what it is: late.

use std::io;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Ear, write_all};
use super::dialect::{Said, Wanted};
use super::server::{Awake, Kind, Server, Setup};
use super::{Effort, Sample, part};
use crate::sh::Outcome;

/// How long to wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);
const SUBJECT: &str = "bench.a";

/// Messages that are sent one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    /// Messages each second.
    pub(crate) rate: u32,
    /// Bytes.
    pub(crate) payload: usize,
    pub(crate) receivers: usize,
}

/// What half of the messages, 99 % and 99.9 % took less than.
pub(crate) fn steady(kind: &Kind, steady: &Steady, effort: &Effort) -> Outcome<Sample> {
    let (mut times, rate) = run(kind, steady, effort, "", false)?;
    let figures = [0.5, 0.99, 0.999].iter().map(|share| part(&mut times, *share)).collect();
    Ok(Sample { figures, rate })
}

/// A quarter of what it is without, so that whoever takes nothing is in the way while it is looked: for a second of
/// some five.
const LITTLE_PENDING: &str = "max_pending: 16MB";
const STALLED_SECONDS: f64 = 4.0;

/// What 99 % of the messages took less than while one more receiver takes nothing, by what it is without that one.
pub(crate) fn stalled(kind: &Kind, steady: &Steady, effort: &Effort) -> Outcome<Sample> {
    let effort = &Effort { seconds: STALLED_SECONDS, ..*effort };
    let (mut without, _) = run(kind, steady, effort, LITTLE_PENDING, false)?;
    let (mut with, rate) = run(kind, steady, effort, LITTLE_PENDING, true)?;
    Ok(Sample { figures: vec![part(&mut with, 0.99) / part(&mut without, 0.99)], rate })
}

/// How long each delivery took, and how many there were each second.
fn run(
    kind: &Kind,
    steady: &Steady,
    effort: &Effort,
    config: &'static str,
    stalls: bool,
) -> Outcome<(Vec<Duration>, f64)> {
    let _awake = Awake::start()?;
    let server = Server::start(kind, Setup::Plain(config))?;
    let fail = |error: io::Error| format!("messages one by one: {error}");
    let listening =
        (0..steady.receivers).map(|_| Ok((server.client(&[Wanted::new(SUBJECT)])?, (Ear::default(), 0))));
    let mut crowd = Crowd::new(listening.collect::<Outcome<_>>()?).map_err(fail)?;
    let deaf = if stalls { Some(server.client(&[Wanted::new(SUBJECT)])?) } else { None };
    if let Some(deaf) = &deaf {
        rustix::net::sockopt::set_socket_recv_buffer_size(deaf.socket(), 4096)
            .map_err(|error| error.to_string())?;
    }
    let mut publisher = server.client(&[])?;
    let message = server.dialect().publish(&Said::new(SUBJECT, steady.payload));
    let interval = Duration::from_secs(1) / steady.rate;
    // The first part is to warm up.
    let (uncounted, all) =
        (f64::from(steady.rate) * effort.seconds / 4.0, f64::from(steady.rate) * effort.seconds * 1.25);
    let (uncounted, all) = (uncounted as u32, all as u32);
    let mut times = Vec::new();
    let (start, mut sent, mut heard) = (Instant::now(), 0, 0);
    let quiet = start + interval * all + PATIENCE;
    while heard < all * steady.receivers as u32 {
        let now = Instant::now();
        if sent < all && now >= start + interval * sent {
            write_all(&mut *publisher, &message).map_err(fail)?;
            sent += 1;
        }
        if now > quiet {
            return Err(format!("{heard} messages have come of {}", all * steady.receivers as u32));
        }
        let look =
            |us: &mut dyn midge_testkit::carrier::Carrier, (ear, count): &mut (Ear, u32), bytes: &[u8]| {
                ear.hear(us, bytes, |_, _| {
                    if *count >= uncounted {
                        times.push(start.elapsed().saturating_sub(interval * *count));
                    }
                    *count += 1;
                    heard += 1;
                    Ok(())
                })
            };
        crowd.hear(Duration::ZERO, look).map_err(fail)?;
    }
    let rate = f64::from(heard) / start.elapsed().as_secs_f64();
    Ok((times, rate))
}

/// Rounds of one message to many, at least: 99 % of fewer would be all but none.
const ROUNDS: usize = 300;

/// One message at a time to many: processor time for each delivery, and what of 99 % the last receiver heard within.
pub(crate) fn last_of_many(kind: &Kind, receivers: usize, effort: &Effort) -> Outcome<Sample> {
    let _awake = Awake::start()?;
    let server = Server::start(kind, Setup::Plain(""))?;
    let fail = |error: io::Error| format!("one message to many: {error}");
    let listening = (0..receivers).map(|_| Ok((server.client(&[Wanted::new(SUBJECT)])?, Ear::default())));
    let mut crowd = Crowd::new(listening.collect::<Outcome<_>>()?).map_err(fail)?;
    let mut publisher = server.client(&[])?;
    let message = server.dialect().publish(&Said::new(SUBJECT, 128));
    let mut round = |crowd: &mut Crowd<Ear>| -> io::Result<Duration> {
        let start = Instant::now();
        write_all(&mut *publisher, &message)?;
        let mut heard = 0;
        while heard < receivers {
            crowd.hear(PATIENCE, |us, ear, bytes| {
                ear.hear(us, bytes, |_, _| {
                    heard += 1;
                    Ok(())
                })
            })?;
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(start.elapsed())
    };
    let warm = Instant::now();
    while warm.elapsed().as_secs_f64() < effort.seconds / 4.0 {
        round(&mut crowd).map_err(fail)?;
    }
    let (before, start) = (server.cpu()?, Instant::now());
    let mut times = Vec::new();
    while start.elapsed().as_secs_f64() < effort.seconds || times.len() < ROUNDS / effort.smaller {
        times.push(round(&mut crowd).map_err(fail)?);
    }
    let (count, elapsed) = (times.len() as f64, start.elapsed().as_secs_f64());
    let spent = (server.cpu()? - before) as f64 / (count * receivers as f64);
    Ok(Sample { figures: vec![spent, part(&mut times, 0.99)], rate: count / elapsed })
}
