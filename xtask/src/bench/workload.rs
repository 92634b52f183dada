//! What is measured.

use super::dialect::{Said, Wanted};
use super::latency::{self, Steady};
use super::request::{self, Requests};
use super::server::{Kind, Setup};
use super::traffic::{self, Traffic};
use super::{Effort, Sample, memory, storm};
use crate::sh::Outcome;

/// A figure's row in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) compared: Compared,
    /// What must not be exceeded.
    pub(crate) must: f64,
    /// What would be better still.
    pub(crate) stretch: f64,
}

/// How a figure is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Ours by that of the best of the others: less is better.
    Cost,
    /// That of the best of the others by ours: more is better.
    Rate,
    /// Ours alone: the figure is a ratio itself.
    Alone,
}

/// One run, which gives some figures.
pub(crate) struct Workload {
    pub(crate) figures: &'static [Figure],
    pub(crate) job: Job,
    pub(crate) rounds: Rounds,
    /// Whether message brokers of other kinds do the same job.
    pub(crate) brokers: bool,
}

/// How often it is worth being run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounds {
    /// As often as the effort says.
    All,
    /// What hardly varies and takes long.
    Few,
    /// What takes a minute.
    One,
}

/// What is done.
pub(crate) enum Job {
    Traffic(Traffic),
    Most(Traffic),
    Churn(Traffic),
    Requests(Requests),
    OpenRequests(Requests),
    Steady(Steady),
    Stalled(Steady),
    LastOfMany(usize),
    ConnectStorm(u32),
    Handshakes(usize),
    GiveBack(usize),
    Connections(Setup, usize),
    Subscriptions(usize, usize),
    Fresh,
}

impl Job {
    pub(crate) fn run(&self, kind: &Kind, effort: &Effort) -> Outcome<Sample> {
        match self {
            Self::Traffic(it) => traffic::cost(kind, it, effort),
            Self::Most(it) => traffic::most(kind, it, effort),
            Self::Churn(it) => traffic::churn(kind, it, effort),
            Self::Requests(it) => request::closed(kind, it, effort),
            Self::OpenRequests(it) => request::open(kind, it, effort),
            Self::Steady(it) => latency::steady(kind, it, effort),
            Self::Stalled(it) => latency::stalled(kind, it, effort),
            Self::LastOfMany(receivers) => latency::last_of_many(kind, *receivers, effort),
            Self::ConnectStorm(connections) => storm::connect(kind, *connections, effort),
            Self::Handshakes(count) => storm::handshakes(kind, *count, effort),
            Self::GiveBack(connections) => storm::give_back(kind, *connections, effort),
            Self::Connections(setup, count) => memory::connections(kind, *setup, *count, effort),
            Self::Subscriptions(connections, each) => {
                memory::subscriptions(kind, *connections, *each, effort)
            }
            Self::Fresh => memory::fresh(kind, effort),
        }
    }
}

const MESSAGE: &str = "ns/message";
const DELIVERY: &str = "ns/delivery";

const fn cost(name: &'static str, what: &'static str, unit: &'static str, must: f64, stretch: f64) -> Figure {
    Figure { name, what, unit, compared: Compared::Cost, must, stretch }
}

/// What most have in common: one subject, one publisher, one receiver.
const PLAIN: Traffic = Traffic {
    setup: Setup::Plain(""),
    publishers: 1,
    receivers: 1,
    subscribe: |_| vec![Wanted::new("bench.a")],
    sid: 1,
    message: |_, _| Said::new("bench.a", 16),
    distinct: 1,
    copies: 1,
    rate: 1_000_000,
    // What clients' own write buffers hold.
    block: 32 * 1024,
    churn: 0,
};

const fn traffic(figures: &'static [Figure], traffic: Traffic, brokers: bool) -> Workload {
    Workload { figures, job: Job::Traffic(traffic), rounds: Rounds::All, brokers }
}

const fn all_rounds(figures: &'static [Figure], job: Job) -> Workload {
    Workload { figures, job, rounds: Rounds::All, brokers: false }
}

const fn routed(figures: &'static [Figure], traffic: Traffic) -> Workload {
    all_rounds(figures, Job::Traffic(Traffic { setup: Setup::Routed, ..traffic }))
}

const fn linked(figures: &'static [Figure], traffic: Traffic) -> Workload {
    all_rounds(figures, Job::Traffic(Traffic { setup: Setup::Linked, ..traffic }))
}

const MANY_RECEIVE: Traffic =
    Traffic { message: |_, _| Said::new("bench.a", 128), receivers: 100, copies: 100, rate: 8000, ..PLAIN };

pub(crate) const SERIAL: Requests = Requests { requesters: 1, responders: 1, rate: 0 };
pub(crate) const PARALLEL: Requests = Requests { requesters: 50, responders: 2, rate: 0 };
pub(crate) const ONE_TO_ONE: Traffic = PLAIN;
pub(crate) const NOBODY: Traffic = Traffic { receivers: 0, copies: 0, rate: 1_500_000, ..PLAIN };
pub(crate) const ONE_TO_HUNDRED: Traffic = MANY_RECEIVE;

/// Rates are below what the slower NATS server can do on one core, so that all are offered the same.
pub(crate) const WORKLOADS: [Workload; 35] = [
    traffic(&[cost("W1", "publish 16 B, nobody listens", MESSAGE, 0.3, 0.2)], NOBODY, true),
    traffic(
        &[cost(
            "W2",
            "publish 16 B on 1,000,000 subjects in disorder, nobody listens",
            MESSAGE,
            0.25,
            0.15,
        )],
        Traffic {
            receivers: 0,
            copies: 0,
            // Coprime, so that every subject comes once before any comes again.
            message: |_, n| Said::new(format!("bench.{}", n * 611_953 % 1_000_000), 16),
            distinct: 1_000_000,
            rate: 400_000,
            ..PLAIN
        },
        true,
    ),
    traffic(&[cost("W3", "1:1, 16 B", MESSAGE, 0.2, 0.12)], ONE_TO_ONE, true),
    Workload {
        figures: &[Figure {
            name: "W3b",
            what: "1:1, 16 B, as many as go (the generator has one processor)",
            unit: "messages/s",
            compared: Compared::Rate,
            must: 0.4,
            stretch: 0.2,
        }],
        job: Job::Most(Traffic { rate: 100_000_000, ..PLAIN }),
        rounds: Rounds::All,
        brokers: true,
    },
    traffic(
        &[cost("W4a", "1:1, 1 KiB", MESSAGE, 0.5, 0.33)],
        Traffic { message: |_, _| Said::new("bench.a", 1024), rate: 200_000, ..PLAIN },
        true,
    ),
    traffic(
        &[cost("W4b", "1:1, 64 KiB", MESSAGE, 0.95, 0.8)],
        Traffic { message: |_, _| Said::new("bench.a", 64 * 1024), rate: 5000, ..PLAIN },
        true,
    ),
    traffic(
        &[cost("W4c", "1:1, 1 MiB", MESSAGE, 0.85, 0.65)],
        Traffic { message: |_, _| Said::new("bench.a", 1024 * 1024), rate: 400, ..PLAIN },
        true,
    ),
    traffic(
        &[cost("W5a", "fan-out 1:4, 128 B", DELIVERY, 0.3, 0.15)],
        Traffic { receivers: 4, copies: 4, rate: 200_000, ..MANY_RECEIVE },
        true,
    ),
    traffic(&[cost("W5b", "fan-out 1:100, 128 B", DELIVERY, 0.3, 0.15)], ONE_TO_HUNDRED, true),
    all_rounds(
        &[
            cost("W6", "fan-out 1:1000, 128 B, one message at a time", DELIVERY, 0.8, 0.6),
            cost("W6 p99", "until the last of 1000 has it", "ns", 0.7, 0.5),
        ],
        Job::LastOfMany(1000),
    ),
    traffic(
        &[cost("W7a", "fan-in 100:1, 16 B", MESSAGE, 0.35, 0.2)],
        Traffic { publishers: 100, rate: 800_000, ..PLAIN },
        true,
    ),
    traffic(
        &[cost("W7b", "10:10 on 10 subjects, 16 B", MESSAGE, 0.35, 0.2)],
        Traffic {
            publishers: 10,
            receivers: 10,
            subscribe: |n| vec![Wanted::new(format!("bench.{n}"))],
            message: |publisher, _| Said::new(format!("bench.{publisher}"), 16),
            rate: 800_000,
            ..PLAIN
        },
        true,
    ),
    traffic(
        &[cost("W8", "queue group 1→10, 16 B", MESSAGE, 0.25, 0.15)],
        Traffic {
            receivers: 10,
            subscribe: |_| vec![Wanted { queue: "workers", ..Wanted::new("bench.a") }],
            rate: 500_000,
            ..PLAIN
        },
        false,
    ),
    all_rounds(
        &[
            cost("W9", "a request and its reply, one at a time", "ns/request", 0.6, 0.45),
            cost("W9 p50", "time that such a request takes", "ns", 0.92, 0.8),
            cost("W9 p99.9", "time that such a request takes", "ns", 0.6, 0.4),
        ],
        Job::Requests(SERIAL),
    ),
    all_rounds(
        &[
            cost("W10", "requests of 50 connections, answered by 2", "ns/request", 0.5, 0.3),
            cost("W10 p50", "time that such a request takes", "ns", 0.92, 0.8),
            cost("W10 p99.9", "time that such a request takes", "ns", 0.6, 0.4),
        ],
        Job::Requests(PARALLEL),
    ),
    all_rounds(
        &[cost(
            "W10 open",
            "99 % of 15,000 requests a second of 50 connections take less",
            "ns",
            0.6,
            0.4,
        )],
        Job::OpenRequests(Requests { rate: 15_000, ..PARALLEL }),
    ),
    all_rounds(
        &[
            cost(
                "W11",
                "200,000 msg/s of 50 pairs while 10,000 subscriptions a second come and go",
                MESSAGE,
                0.3,
                0.15,
            ),
            Figure {
                name: "W11 churn",
                what: "the same, by what it is when none come and go",
                unit: "ratio",
                compared: Compared::Alone,
                must: 1.15,
                stretch: 1.05,
            },
        ],
        Job::Churn(Traffic {
            publishers: 50,
            receivers: 50,
            subscribe: |n| vec![Wanted::new(format!("bench.{n}"))],
            message: |publisher, _| Said::new(format!("bench.{publisher}"), 16),
            rate: 200_000,
            block: 4096,
            churn: 10_000,
            ..PLAIN
        }),
    ),
    Workload {
        figures: &[cost("W12", "an idle connection (of 10,000)", "bytes", 0.08, 0.04)],
        job: Job::Connections(Setup::Plain(""), 10_000),
        rounds: Rounds::Few,
        brokers: true,
    },
    Workload {
        figures: &[cost("W12 TLS", "an idle TLS connection (of 2000)", "bytes", 0.25, 0.16)],
        job: Job::Connections(Setup::Tls, 2000),
        rounds: Rounds::Few,
        brokers: false,
    },
    Workload {
        figures: &[
            cost(
                "W13",
                "a subscription (of 1,000,000 literal ones on 10 connections)",
                "bytes",
                0.15,
                0.1,
            ),
            cost("W13 CPU", "to take it", "ns", 0.4, 0.2),
        ],
        job: Job::Subscriptions(10, 100_000),
        rounds: Rounds::Few,
        brokers: false,
    },
    all_rounds(
        &[
            cost("W14", "a connection of 5000 that come within a second", "ns", 0.6, 0.4),
            cost("W14 p99", "until such a connection has its PONG", "ns", 0.5, 0.25),
        ],
        Job::ConnectStorm(5000),
    ),
    all_rounds(
        &[Figure {
            name: "W15",
            what: "p99 of 5000 msg/s, 1 KiB, to nine while a tenth takes nothing, by what it is without that one",
            unit: "ratio",
            compared: Compared::Alone,
            must: 1.3,
            stretch: 1.1,
        }],
        Job::Stalled(Steady { rate: 5000, payload: 1024, receivers: 9 }),
    ),
    routed(
        &[cost("W16", "1:1, 16 B, by a route; both servers", MESSAGE, 0.5, 0.35)],
        Traffic { rate: 400_000, ..PLAIN },
    ),
    routed(
        &[cost("W16 1:100", "1:100, 128 B, by a route; both servers", DELIVERY, 0.5, 0.35)],
        MANY_RECEIVE,
    ),
    linked(
        &[cost("L1", "1:1, 16 B, by a link (nats-server: by a route with TLS); both servers", MESSAGE, 1.0, 0.5)],
        Traffic { rate: 200_000, ..PLAIN },
    ),
    linked(
        &[cost("L2", "1:1, 1 KiB, the same", MESSAGE, 1.0, 0.5)],
        Traffic { message: |_, _| Said::new("bench.a", 1024), rate: 50_000, ..PLAIN },
    ),
    all_rounds(
        &[cost("W18", "1:1, 1 KiB, TLS", MESSAGE, 0.7, 0.5)],
        Job::Traffic(Traffic {
            setup: Setup::Tls,
            message: |_, _| Said::new("bench.a", 1024),
            rate: 60_000,
            ..PLAIN
        }),
    ),
    all_rounds(
        &[cost("W18 connect", "a connection and its TLS 1.3 handshake", "ns", 0.9, 0.7)],
        Job::Handshakes(500),
    ),
    traffic(
        &[cost(
            "W19",
            "100,000 subjects, each wanted by one of 1000 wildcard subscriptions, 16 B",
            MESSAGE,
            0.4,
            0.2,
        )],
        Traffic {
            subscribe: |_| {
                let sub = |n: usize| Wanted { sid: 1000 + n, ..Wanted::new(format!("bench.*.{n}.>")) };
                (0..1000).map(sub).collect()
            },
            sid: 4,
            message: |_, n| Said::new(format!("bench.a.{}.{}", n % 1000, n * 61_953 % 100_000), 16),
            distinct: 100_000,
            rate: 300_000,
            ..PLAIN
        },
        false,
    ),
    traffic(
        &[cost(
            "W20",
            "1:1 with publish permissions and headers, 100 subjects of five tokens, 16 B",
            MESSAGE,
            0.35,
            0.2,
        )],
        Traffic {
            setup: Setup::Plain(
                "authorization { users: [{ user: bench, password: bench, permissions: {
                     publish: { allow: [\"other.>\", \"bench.*.c.>\"], deny: \"bench.secret.>\" }, subscribe: \">\" } }] }",
            ),
            subscribe: |_| vec![Wanted::new("bench.>")],
            message: |_, n| Said {
                headers: "NATS/1.0\r\nA: one\r\n\r\n",
                ..Said::new(format!("bench.b.c.d.{}", n % 100), 16)
            },
            distinct: 100,
            rate: 400_000,
            ..PLAIN
        },
        false,
    ),
    Workload {
        figures: &[cost("W22", "a fresh server", "bytes", 0.4, 0.3)],
        job: Job::Fresh,
        rounds: Rounds::All,
        brokers: true,
    },
    Workload {
        figures: &[Figure {
            name: "W23",
            what: "what is still held a minute after a storm of 5000 connections and 100,000 subscriptions",
            unit: "ratio",
            compared: Compared::Alone,
            must: 0.2,
            stretch: 0.05,
        }],
        job: Job::GiveBack(5000),
        rounds: Rounds::One,
        brokers: false,
    },
    steady(
        &[
            cost("T10 p50", "1:1, 128 B, one by one, 4000 a second: half take less", "ns", 0.92, 0.8),
            cost("T10 p99", "99 % take less", "ns", 0.8, 0.6),
            cost("T10 p99.9", "99.9 % take less", "ns", 0.6, 0.4),
        ],
        4000,
    ),
    steady(
        &[
            cost("T50 p50", "the same, 20,000 a second", "ns", 0.92, 0.8),
            cost("T50 p99", "99 % take less", "ns", 0.8, 0.6),
            cost("T50 p99.9", "99.9 % take less", "ns", 0.6, 0.4),
        ],
        20_000,
    ),
    steady(
        &[
            cost("T80 p50", "the same, 32,000 a second", "ns", 0.92, 0.8),
            cost("T80 p99", "99 % take less", "ns", 0.8, 0.6),
            cost("T80 p99.9", "99.9 % take less", "ns", 0.6, 0.4),
        ],
        32_000,
    ),
];

const fn steady(figures: &'static [Figure], rate: u32) -> Workload {
    all_rounds(figures, Job::Steady(Steady { rate, payload: 128, receivers: 1 }))
}
