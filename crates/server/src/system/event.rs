//! The JSON of events.

use jiff::Timestamp;
use midge_router::{Conn, Kind};
use midge_wire::json::Credentials;
use serde::Serialize;

use super::ServerInfo;
use crate::carrier::Carrier;
use crate::monitor::{AccountStat, ByKind, conn_kind};
use crate::process::Usage;
use crate::server::Server;

/// nats-server's `ConnectEventMsg`.
#[derive(Serialize)]
pub(super) struct Connected<'a> {
    pub(super) r#type: &'static str,
    pub(super) id: String,
    pub(super) timestamp: Timestamp,
    pub(super) server: ServerInfo<'a>,
    pub(super) client: Client,
}

/// nats-server's `DisconnectEventMsg`.
#[derive(Serialize)]
pub(super) struct Disconnected<'a> {
    pub(super) r#type: &'static str,
    pub(super) id: String,
    pub(super) timestamp: Timestamp,
    pub(super) server: ServerInfo<'a>,
    pub(super) client: Client,
    pub(super) sent: Stats,
    pub(super) received: Stats,
    pub(super) reason: &'static str,
}

/// nats-server's `AccountNumConns`.
#[derive(Serialize)]
pub(super) struct Account<'a> {
    pub(super) r#type: &'static str,
    pub(super) id: String,
    pub(super) timestamp: Timestamp,
    pub(super) server: ServerInfo<'a>,
    #[serde(flatten)]
    pub(super) stat: AccountStat,
}

/// nats-server's `ClientInfo`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Client {
    start: Timestamp,
    host: String,
    id: u64,
    acc: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Timestamp>,
    name_tag: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_type: Option<&'static str>,
}

impl Client {
    pub(super) fn of(server: &Server, conn: &Conn, user: &str) -> Self {
        let account = conn.grant().account.name().to_string();
        let hello = conn.hello().as_deref().cloned().unwrap_or_default();
        let host = conn.peer().rsplit_once(':').map_or(conn.peer(), |(host, _)| host);
        let is_client = conn.kind() == Kind::Client;
        Self {
            start: server.time_of(conn.started()),
            host: host.trim_matches(['[', ']']).to_owned(),
            id: conn.cid(),
            acc: account.clone(),
            user: user.to_owned(),
            name: hello.name.into(),
            lang: hello.lang.into(),
            ver: hello.version.into(),
            rtt: None,
            stop: None,
            name_tag: account,
            kind: if is_client { "Client" } else { "Leafnode" },
            client_type: is_client.then(|| conn_kind(Carrier::of(conn).as_deref())),
        }
    }

    /// The same, of a connection that has ended.
    pub(super) fn gone(self, conn: &Conn) -> Self {
        let rtt = conn.rtt().map(|rtt| rtt.as_nanos() as u64);
        Self { rtt, stop: Some(Timestamp::now()), ..self }
    }
}

/// Whom a client said that it was: what a refused one is called.
pub(super) fn asked_user(asked: &Credentials) -> String {
    if !asked.nkey.is_empty() {
        asked.nkey.clone()
    } else if !asked.user.is_empty() {
        asked.user.clone()
    } else if !asked.auth_token.is_empty() {
        "[REDACTED]".to_owned()
    } else {
        String::new()
    }
}

/// nats-server's `DataStats`, of one connection or of all.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Stats {
    msgs: u64,
    bytes: u64,
}

impl Stats {
    pub(super) fn sent_by(conn: &Conn) -> Self {
        let traffic = conn.traffic();
        Self { msgs: traffic.in_msgs, bytes: traffic.in_bytes }
    }

    pub(super) fn received_by(conn: &Conn) -> Self {
        let traffic = conn.traffic();
        Self { msgs: traffic.out_msgs, bytes: traffic.out_bytes }
    }
}

/// nats-server's `ServerStatsMsg`.
#[derive(Serialize)]
pub(super) struct Statsz<'a> {
    server: ServerInfo<'a>,
    statsz: ServerStats,
}

#[derive(Serialize)]
struct ServerStats {
    start: Timestamp,
    mem: u64,
    cores: usize,
    cpu: f64,
    connections: u32,
    total_connections: u64,
    active_accounts: usize,
    subscriptions: u32,
    sent: Stats,
    sent_to_clients: Stats,
    received: Stats,
    received_from_clients: Stats,
    slow_consumers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_consumer_stats: Option<ByKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stale_connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_connection_stats: Option<ByKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stalled_clients: u64,
    active_servers: u32,
    gomaxprocs: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl<'a> Statsz<'a> {
    pub(super) fn of(server: &'a Server) -> Self {
        let router = server.router();
        let totals = router.totals();
        let usage = Usage::now();
        let traffic = totals.counters.traffic;
        let (sent, received) = (
            Stats { msgs: traffic.out_msgs, bytes: traffic.out_bytes },
            Stats { msgs: traffic.in_msgs, bytes: traffic.in_bytes },
        );
        let slow = totals.counters.slow_pending + totals.counters.slow_deadline;
        let stale = totals.counters.stale_connections;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let with_connections: std::collections::HashSet<u32> = router
            .connections()
            .iter()
            .filter(|conn| conn.kind() == Kind::Client)
            .map(|conn| conn.grant().account.index())
            .collect();
        Self {
            server: server.introduce(),
            statsz: ServerStats {
                start: server.started_at(),
                mem: usage.memory,
                cores,
                cpu: usage.cpu,
                connections: totals.clients,
                total_connections: totals.total_connections,
                active_accounts: with_connections.len(),
                subscriptions: totals.subscriptions,
                sent,
                sent_to_clients: sent,
                received,
                received_from_clients: received,
                slow_consumers: slow,
                slow_consumer_stats: (slow > 0).then(|| ByKind::clients(slow)),
                stale_connections: stale,
                stale_connection_stats: (stale > 0).then(|| ByKind::clients(stale)),
                stalled_clients: totals.counters.stalls,
                active_servers: 1,
                gomaxprocs: cores,
            },
        }
    }
}
