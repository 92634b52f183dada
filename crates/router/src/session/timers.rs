//! When a session must look up although nothing has come.

use std::time::{Duration, Instant};

/// A round trip is measured at least this often, even if the peer keeps sending.
const MEASURE_EVERY: Duration = Duration::from_secs(3600);

/// The times that a session waits for.
#[derive(Debug)]
pub(crate) struct Timers {
    /// When a CONNECT must have come.
    pub(crate) auth: Option<Instant>,
    /// When to think about a PING.
    ping: Instant,
    /// PINGs that have not been answered.
    pub(crate) pings_out: u32,
    /// When the last PING left.
    pinged: Option<Instant>,
}

/// What to do about the peer's silence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing yet.
    Wait,
    /// Ask whether it is there.
    Ping,
    /// It is not.
    Stale,
}

impl Timers {
    pub(crate) fn new(now: Instant, interval: Duration, auth: Option<Duration>) -> Self {
        Self { auth: auth.map(|timeout| now + timeout), ping: now + interval, pings_out: 0, pinged: None }
    }

    pub(crate) fn next(&self) -> Instant {
        self.auth.map_or(self.ping, |auth| auth.min(self.ping))
    }

    /// Starts over once the peer has said who it is, with a first PING after `first` at the latest. `spread` in 0..1024
    /// moves it by up to a fifth, so that those who came together are not all asked together.
    pub(crate) fn begin(&mut self, now: Instant, interval: Duration, first: Duration, spread: u32) {
        let first = interval.min(first);
        self.ping = now + first + first / 5 * spread.min(1023) / 1024;
    }

    /// Decides about the peer's silence when the time for it has come. `heard` is when it last showed that it lives;
    /// without it, the peer is asked in any case.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        heard: Option<Instant>,
        interval: Duration,
        max_out: u32,
    ) -> Silence {
        if now < self.ping {
            return Silence::Wait;
        }
        self.ping = now + interval;
        let measured = self.pinged.is_some_and(|at| now.duration_since(at) < MEASURE_EVERY);
        if measured && heard.is_some_and(|heard| now.saturating_duration_since(heard) < interval) {
            return Silence::Wait;
        }
        if self.pings_out >= max_out {
            return Silence::Stale;
        }
        self.pings_out += 1;
        self.pinged = Some(now);
        Silence::Ping
    }

    /// Takes a PONG; the round trip, if a PING was out.
    pub(crate) fn pong(&mut self, now: Instant) -> Option<Duration> {
        self.pings_out = 0;
        self.pinged.map(|at| now.saturating_duration_since(at).max(Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant, whichever")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        let start = now();
        let mut timers = Timers::new(start, SECOND, None);
        assert_eq!(timers.check(start, Some(start), SECOND, 2), Silence::Wait);
        for n in 1..=2 {
            assert_eq!(timers.check(start + SECOND * n, Some(start), SECOND, 2), Silence::Ping);
        }
        assert_eq!(timers.check(start + SECOND * 3, Some(start), SECOND, 2), Silence::Stale);
    }

    #[test]
    fn a_peer_that_talks_is_asked_once_only() {
        let start = now();
        let mut timers = Timers::new(start, SECOND * 10, None);
        timers.begin(start, SECOND * 10, SECOND * 2, 0);
        assert_eq!(timers.next(), start + SECOND * 2);
        assert_eq!(timers.check(start + SECOND * 2, Some(start), SECOND * 10, 2), Silence::Ping);
        assert_eq!(timers.pong(start + SECOND * 3), Some(SECOND));
        let heard = start + SECOND * 11;
        assert_eq!(timers.check(start + SECOND * 12, Some(heard), SECOND * 10, 2), Silence::Wait);
        assert_eq!(timers.check(start + SECOND * 22, Some(heard), SECOND * 10, 2), Silence::Ping);
    }

    #[test]
    fn the_first_ping_is_spread_by_a_fifth() {
        let start = now();
        let mut timers = Timers::new(start, SECOND * 10, Some(SECOND));
        assert_eq!(timers.next(), start + SECOND, "the CONNECT is waited for first");
        timers.auth = None;
        timers.begin(start, SECOND * 10, Duration::MAX, 1023);
        assert!(timers.next() > start + SECOND * 11 && timers.next() <= start + SECOND * 12);
    }
}
