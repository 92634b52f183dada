//! What is measured.

/// The ratios to nats-server's figure that are aimed at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// What must not be exceeded.
    pub(crate) must: f64,
    /// What would be better still.
    pub(crate) stretch: f64,
}

const fn goal(must: f64, stretch: f64) -> Goal {
    Goal { must, stretch }
}

/// Messages through a server.
pub(crate) struct Traffic {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// The server's configuration; empty for none.
    pub(crate) config: &'static str,
    /// Connections that publish, in turn.
    pub(crate) publishers: usize,
    /// Connections that subscribe.
    pub(crate) receivers: usize,
    /// What the `n`th receiver says to subscribe. All sids are equally long.
    pub(crate) subscribe: fn(usize) -> String,
    /// Bytes of a sid.
    pub(crate) sid: usize,
    /// The `n`th message of a publisher.
    pub(crate) message: fn(usize, usize) -> Vec<u8>,
    /// Messages of a publisher after which they repeat.
    pub(crate) distinct: usize,
    /// How many times each message is delivered.
    pub(crate) copies: usize,
    /// Messages that are published each second.
    pub(crate) rate: u32,
    pub(crate) goal: Goal,
}

/// Requests, each sent when the one before has been answered.
pub(crate) struct Requests {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) figure: Figure,
    /// Connections that ask at the same time.
    pub(crate) requesters: usize,
    /// Connections that answer, in one queue group.
    pub(crate) responders: usize,
    pub(crate) goal: Goal,
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Figure {
    /// Processor time of the server.
    Processor,
    /// The time that a request takes, of which so large a part of all is below.
    Time(f64),
}

/// Things that a server holds.
pub(crate) struct Memory {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) connections: usize,
    /// Subscriptions of each connection.
    pub(crate) subscriptions: usize,
    /// Whether connections speak TLS.
    pub(crate) tls: bool,
    pub(crate) goal: Goal,
}

const MESSAGE: &str = "ns/message";
const DELIVERY: &str = "ns/delivery";

/// A message with a payload of that many bytes.
fn publish(subject: &str, payload: usize) -> Vec<u8> {
    let mut message = format!("PUB {subject} {payload}\r\n").into_bytes();
    message.resize(message.len() + payload, b'x');
    message.extend_from_slice(b"\r\n");
    message
}

/// What most have in common: one subject, one publisher.
const PLAIN: Traffic = Traffic {
    name: "",
    what: "",
    unit: MESSAGE,
    config: "",
    publishers: 1,
    receivers: 1,
    subscribe: |_| "SUB bench.a 1\r\n".to_owned(),
    sid: 1,
    message: |_, _| publish("bench.a", 16),
    distinct: 1,
    copies: 1,
    rate: 1_000_000,
    goal: goal(1.0, 1.0),
};

/// Rates are below what the slower server can do on one core, so that all are offered the same.
pub(crate) const TRAFFIC: [Traffic; 13] = [
    Traffic {
        name: "W1",
        what: "publish 16 B, nobody listens",
        receivers: 0,
        copies: 0,
        rate: 1_500_000,
        goal: goal(0.3, 0.2),
        ..PLAIN
    },
    Traffic {
        name: "W2",
        what: "publish 16 B on 1,000,000 subjects in disorder, nobody listens",
        receivers: 0,
        copies: 0,
        // Coprime, so that every subject comes once before any comes again.
        message: |_, n| publish(&format!("bench.{}", n * 611_953 % 1_000_000), 16),
        distinct: 1_000_000,
        rate: 600_000,
        goal: goal(0.25, 0.15),
        ..PLAIN
    },
    Traffic { name: "W3", what: "1:1, 16 B", goal: goal(0.2, 0.12), ..PLAIN },
    Traffic {
        name: "W4a",
        what: "1:1, 1 KiB",
        message: |_, _| publish("bench.a", 1024),
        rate: 200_000,
        goal: goal(0.5, 0.33),
        ..PLAIN
    },
    Traffic {
        name: "W4b",
        what: "1:1, 64 KiB",
        message: |_, _| publish("bench.a", 64 * 1024),
        rate: 8000,
        goal: goal(0.95, 0.8),
        ..PLAIN
    },
    Traffic {
        name: "W4c",
        what: "1:1, 1 MiB",
        message: |_, _| publish("bench.a", 1024 * 1024),
        rate: 400,
        goal: goal(0.85, 0.65),
        ..PLAIN
    },
    Traffic {
        name: "W5a",
        what: "fan-out 1:4, 128 B",
        unit: DELIVERY,
        message: |_, _| publish("bench.a", 128),
        receivers: 4,
        copies: 4,
        rate: 200_000,
        goal: goal(0.3, 0.15),
        ..PLAIN
    },
    Traffic {
        name: "W5b",
        what: "fan-out 1:100, 128 B",
        unit: DELIVERY,
        message: |_, _| publish("bench.a", 128),
        receivers: 100,
        copies: 100,
        rate: 8000,
        goal: goal(0.3, 0.15),
        ..PLAIN
    },
    Traffic {
        name: "W7a",
        what: "fan-in 100:1, 16 B",
        publishers: 100,
        rate: 800_000,
        goal: goal(0.35, 0.2),
        ..PLAIN
    },
    Traffic {
        name: "W7b",
        what: "10:10 on 10 subjects, 16 B",
        publishers: 10,
        receivers: 10,
        subscribe: |n| format!("SUB bench.{n} 1\r\n"),
        message: |publisher, _| publish(&format!("bench.{publisher}"), 16),
        rate: 800_000,
        goal: goal(0.35, 0.2),
        ..PLAIN
    },
    Traffic {
        name: "W8",
        what: "queue group 1→10, 16 B",
        receivers: 10,
        subscribe: |_| "SUB bench.a workers 1\r\n".to_owned(),
        rate: 500_000,
        goal: goal(0.25, 0.15),
        ..PLAIN
    },
    Traffic {
        name: "W19",
        what: "100,000 subjects, each wanted by one of 1000 wildcard subscriptions, 16 B",
        subscribe: |_| (0..1000).map(|n| format!("SUB bench.*.{n}.> {}\r\n", 1000 + n)).collect(),
        sid: 4,
        message: |_, n| publish(&format!("bench.a.{}.{}", n % 1000, n * 61_953 % 100_000), 16),
        distinct: 100_000,
        rate: 300_000,
        goal: goal(0.4, 0.2),
        ..PLAIN
    },
    Traffic {
        name: "W20",
        what: "1:1 with publish permissions and headers, 100 subjects of five tokens, 16 B",
        config: "authorization { users: [{ user: bench, password: bench, permissions: {
                     publish: { allow: [\"other.>\", \"bench.*.c.>\"], deny: \"bench.secret.>\" }, subscribe: \">\" } }] }",
        subscribe: |_| "SUB bench.> 1\r\n".to_owned(),
        message: |_, n| {
            format!("HPUB bench.b.c.d.{} 20 36\r\nNATS/1.0\r\nA: one\r\n\r\n{}\r\n", n % 100, "x".repeat(16)).into()
        },
        distinct: 100,
        rate: 400_000,
        goal: goal(0.35, 0.2),
        ..PLAIN
    },
];

pub(crate) const REQUESTS: [Requests; 4] = [
    Requests {
        name: "W9",
        what: "a request and its reply, one at a time",
        figure: Figure::Processor,
        requesters: 1,
        responders: 1,
        goal: goal(0.6, 0.45),
    },
    Requests {
        name: "W9 p50",
        what: "time that a request takes, one at a time",
        figure: Figure::Time(0.5),
        requesters: 1,
        responders: 1,
        goal: goal(0.92, 0.8),
    },
    Requests {
        name: "W9 p99.9",
        what: "time that a request takes, one at a time",
        figure: Figure::Time(0.999),
        requesters: 1,
        responders: 1,
        goal: goal(0.6, 0.4),
    },
    Requests {
        name: "W10",
        what: "requests of 50 connections, answered by 2",
        figure: Figure::Processor,
        requesters: 50,
        responders: 2,
        goal: goal(0.5, 0.3),
    },
];

pub(crate) const MEMORY: [Memory; 4] = [
    Memory {
        name: "W12",
        what: "an idle connection (of 10,000)",
        connections: 10_000,
        subscriptions: 0,
        tls: false,
        goal: goal(0.08, 0.04),
    },
    Memory {
        name: "W12t",
        what: "an idle TLS connection (of 2,000)",
        connections: 2000,
        subscriptions: 0,
        tls: true,
        goal: goal(0.25, 0.16),
    },
    Memory {
        name: "W13",
        what: "a subscription (of 1,000,000 literal ones on 10 connections)",
        connections: 10,
        subscriptions: 100_000,
        tls: false,
        goal: goal(0.15, 0.1),
    },
    Memory {
        name: "W22",
        what: "a fresh server",
        connections: 0,
        subscriptions: 0,
        tls: false,
        goal: goal(0.4, 0.3),
    },
];
