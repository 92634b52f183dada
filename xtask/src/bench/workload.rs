//! What is measured.

/// Messages through a server.
pub(crate) struct Traffic {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// Bytes of a message's payload.
    pub(crate) payload: usize,
    /// Connections that subscribe.
    pub(crate) receivers: usize,
    /// Whether they share one queue group.
    pub(crate) queue: bool,
    /// Messages that are published each second.
    pub(crate) rate: u32,
    /// The ratio that must not be exceeded.
    pub(crate) goal: f64,
}

impl Traffic {
    /// How many times each message is delivered.
    pub(crate) const fn copies(&self) -> usize {
        if self.queue { 1 } else { self.receivers }
    }
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
    pub(crate) goal: f64,
}

const MESSAGE: &str = "ns/message";
const DELIVERY: &str = "ns/delivery";

/// Rates are below what the slower server can do on one core, so that both are offered the same.
pub(crate) const TRAFFIC: [Traffic; 8] = [
    Traffic {
        name: "W1",
        what: "publish 16 B, nobody listens",
        unit: MESSAGE,
        payload: 16,
        receivers: 0,
        queue: false,
        rate: 2_000_000,
        goal: 1.0,
    },
    Traffic {
        name: "W3",
        what: "1:1, 16 B",
        unit: MESSAGE,
        payload: 16,
        receivers: 1,
        queue: false,
        rate: 1_000_000,
        goal: 1.0,
    },
    Traffic {
        name: "W4a",
        what: "1:1, 1 KiB",
        unit: MESSAGE,
        payload: 1024,
        receivers: 1,
        queue: false,
        rate: 300_000,
        goal: 1.0,
    },
    Traffic {
        name: "W4b",
        what: "1:1, 64 KiB",
        unit: MESSAGE,
        payload: 64 * 1024,
        receivers: 1,
        queue: false,
        rate: 8000,
        goal: 1.0,
    },
    Traffic {
        name: "W4c",
        what: "1:1, 1 MiB",
        unit: MESSAGE,
        payload: 1024 * 1024,
        receivers: 1,
        queue: false,
        rate: 400,
        goal: 1.0,
    },
    Traffic {
        name: "W5a",
        what: "fan-out 1:4, 128 B",
        unit: DELIVERY,
        payload: 128,
        receivers: 4,
        queue: false,
        rate: 200_000,
        goal: 1.0,
    },
    Traffic {
        name: "W5b",
        what: "fan-out 1:100, 128 B",
        unit: DELIVERY,
        payload: 128,
        receivers: 100,
        queue: false,
        rate: 8000,
        goal: 1.0,
    },
    Traffic {
        name: "W8",
        what: "queue group 1→10, 16 B",
        unit: MESSAGE,
        payload: 16,
        receivers: 10,
        queue: true,
        rate: 500_000,
        goal: 1.0,
    },
];

pub(crate) const MEMORY: [Memory; 3] = [
    Memory {
        name: "W12",
        what: "an idle connection (of 10,000)",
        connections: 10_000,
        subscriptions: 0,
        tls: false,
        goal: 0.25,
    },
    Memory {
        name: "W12t",
        what: "an idle TLS connection (of 2,000)",
        connections: 2000,
        subscriptions: 0,
        tls: true,
        goal: 0.25,
    },
    Memory {
        name: "W13",
        what: "a subscription (of 1,000,000 literal ones on 10 connections)",
        connections: 10,
        subscriptions: 100_000,
        tls: false,
        goal: 0.25,
    },
];
