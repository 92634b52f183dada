//! `/varz`: the server itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::{Monitor, Params};
use crate::process::Usage;
use crate::server::PROTOCOL_VERSION;
use crate::talk::uptime;

/// A part of the server that is not there.
#[derive(Serialize)]
struct Absent {}

#[derive(Serialize)]
struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl ByKind {
    const fn clients(clients: u64) -> Self {
        Self { clients, routes: 0, gateways: 0, leafs: 0 }
    }
}

/// Names, order and units are nats-server 2.15's (`server/monitor.go`, `Varz`).
#[derive(Serialize)]
struct Varz<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    #[serde(flatten)]
    settings: Settings<'a>,
    #[serde(flatten)]
    state: Figures,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: Timestamp,
    config_digest: &'a str,
    system_account: &'static str,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
}

#[derive(Serialize)]
struct Identity<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'static str,
    proto: u32,
    go: &'a str,
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "is_false")]
    auth_required: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_false(b: &bool) -> bool {
    !*b
}

#[derive(Serialize)]
struct Settings<'a> {
    max_connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_subscriptions: Option<usize>,
    ping_interval: u64,
    ping_max: u32,
    http_host: &'a str,
    http_port: u16,
    http_base_path: &'static str,
    https_port: u16,
    auth_timeout: f64,
    max_control_line: usize,
    max_payload: usize,
    max_pending: usize,
    cluster: Absent,
    gateway: Absent,
    leaf: Absent,
    mqtt: Absent,
    websocket: Absent,
    jetstream: Absent,
    tls_timeout: f64,
    write_deadline: u64,
}

#[derive(Serialize)]
struct Figures {
    start: Timestamp,
    now: Timestamp,
    uptime: String,
    mem: u64,
    cores: usize,
    gomaxprocs: usize,
    cpu: f64,
    connections: u32,
    total_connections: u64,
    routes: u32,
    remotes: u32,
    leafnodes: u32,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: u32,
}

pub(super) async fn handle(State(monitor): State<Arc<Monitor>>, params: Params) -> Response {
    monitor.count("/varz");
    let server = &monitor.server;
    let info = server.router().info();
    let totals = server.router().totals();
    let requests = monitor.requests.lock().clone();
    let counters = totals.counters;
    let varz = Varz {
        identity: Identity {
            server_id: server.id(),
            server_name: server.name(),
            version: PROTOCOL_VERSION,
            proto: 1,
            go: &info.go,
            host: &info.host,
            port: info.port,
            auth_required: server.router().auth_required(),
        },
        settings: settings(&monitor),
        state: state(&monitor, &totals),
        http_req_stats: requests,
        config_load_time: server.started_at(),
        config_digest: server.options().config.as_ref().map_or("", |config| config.digest.as_str()),
        system_account: midge_router::SYSTEM,
        slow_consumer_stats: ByKind::clients(counters.slow_pending + counters.slow_deadline),
        stale_connection_stats: ByKind::clients(counters.stale_connections),
    };
    super::json(&varz, &params)
}

fn settings(monitor: &Monitor) -> Settings<'_> {
    let options = monitor.server.options();
    let limits = &options.limits;
    Settings {
        max_connections: if limits.max_connections == 0 { -1 } else { limits.max_connections as i64 },
        max_subscriptions: Some(limits.max_subscriptions).filter(|most| *most > 0),
        ping_interval: limits.ping_interval.as_nanos() as u64,
        ping_max: limits.max_pings_out,
        http_host: options.monitor_host(),
        http_port: options.monitor.as_ref().map_or(0, |address| address.port),
        http_base_path: "",
        https_port: 0,
        auth_timeout: limits.auth_timeout.as_secs_f64(),
        max_control_line: limits.max_control_line,
        max_payload: limits.max_payload,
        max_pending: limits.max_pending,
        cluster: Absent {},
        gateway: Absent {},
        leaf: Absent {},
        mqtt: Absent {},
        websocket: Absent {},
        jetstream: Absent {},
        tls_timeout: 2.0,
        write_deadline: limits.write_deadline.as_nanos() as u64,
    }
}

fn state(monitor: &Monitor, totals: &midge_router::Totals) -> Figures {
    let server = &monitor.server;
    let usage = Usage::now();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let traffic = totals.counters.traffic;
    Figures {
        start: server.started_at(),
        now: Timestamp::now(),
        uptime: uptime(server.started(), Instant::now()),
        mem: usage.memory,
        cores,
        gomaxprocs: if server.options().shards == 0 { cores } else { server.options().shards },
        cpu: usage.cpu,
        connections: totals.clients,
        total_connections: totals.total_connections,
        routes: 0,
        remotes: 0,
        leafnodes: 0,
        in_msgs: traffic.in_msgs,
        in_bytes: traffic.in_bytes,
        in_client_msgs: traffic.in_msgs,
        in_client_bytes: traffic.in_bytes,
        out_msgs: traffic.out_msgs,
        out_bytes: traffic.out_bytes,
        out_client_msgs: traffic.out_msgs,
        out_client_bytes: traffic.out_bytes,
        slow_consumers: totals.counters.slow_pending + totals.counters.slow_deadline,
        stale_connections: totals.counters.stale_connections,
        stalled_clients: totals.counters.stalls,
        subscriptions: totals.subscriptions,
    }
}
