//! What a router allows its peers.

use std::time::Duration;

/// The limits that hold for every connection. Defaults are nats-server 2.15's (`server/const.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of headers and payload in one message.
    pub max_payload: usize,
    /// Most bytes of arguments on one control line.
    pub max_control_line: usize,
    /// Most bytes that may wait for one connection.
    pub max_pending: usize,
    /// Most client connections; with zero, nobody is let in.
    pub max_connections: usize,
    /// Most subscriptions of one connection; zero for any number.
    pub max_subscriptions: usize,
    /// Most tokens of a subscription's subject; zero for any number.
    pub max_subscription_tokens: usize,
    /// Time between PINGs.
    pub ping_interval: Duration,
    /// PINGs that may be unanswered.
    pub max_pings_out: u32,
    /// Time within which what waits must be taken.
    pub write_deadline: Duration,
    /// Whether crowded receivers lose messages instead of holding publishers back.
    pub no_fast_producer_stall: bool,
    /// Whether the first PING waits for a whole interval.
    pub disable_short_first_ping: bool,
    /// Whether messages with headers are taken at all.
    pub headers: bool,
    /// Most bytes that what is wanted behind one connection to another server may take.
    pub max_interest: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: 1024 * 1024,
            max_control_line: 4096,
            max_pending: 64 * 1024 * 1024,
            max_connections: 64 * 1024,
            max_subscriptions: 0,
            max_subscription_tokens: 0,
            ping_interval: Duration::from_secs(120),
            max_pings_out: 2,
            write_deadline: Duration::from_secs(10),
            no_fast_producer_stall: false,
            disable_short_first_ping: false,
            headers: true,
            max_interest: 1024 * 1024 * 1024,
        }
    }
}

/// What one account allows, below the server's own limits. `None` adds nothing to those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountLimits {
    /// Most client connections of the whole account.
    pub max_connections: Option<usize>,
    /// Most subscriptions of one connection.
    pub max_subscriptions: Option<usize>,
    /// Most bytes of headers and payload in one message.
    pub max_payload: Option<usize>,
}
