//! `/varz`: the server itself.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use super::servers::{ClusterVarz, LeafVarz};
use crate::process::Usage;
use crate::server::{PROTOCOL_VERSION, Server};
use crate::setup::Setup;
use crate::talk::uptime;

/// A part of the server that is not there.
#[derive(Serialize)]
struct Absent {}

#[derive(Serialize)]
pub(crate) struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl ByKind {
    pub(crate) const fn clients(clients: u64) -> Self {
        Self { clients, routes: 0, gateways: 0, leafs: 0 }
    }
}

/// Names, order and units are nats-server 2.15's (`server/monitor.go`, `Varz`).
#[derive(Serialize)]
pub(super) struct Varz<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    #[serde(flatten)]
    settings: Settings,
    #[serde(flatten)]
    state: Figures,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: Timestamp,
    config_digest: String,
    system_account: String,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Timestamp>,
}

#[derive(Serialize)]
struct Identity<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'static str,
    proto: u32,
    go: String,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "is_false")]
    auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_false(b: &bool) -> bool {
    !*b
}

#[derive(Serialize)]
struct Settings {
    max_connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_subscriptions: Option<usize>,
    ping_interval: u64,
    ping_max: u32,
    http_host: String,
    http_port: i32,
    http_base_path: String,
    https_port: i32,
    auth_timeout: f64,
    max_control_line: usize,
    max_payload: usize,
    max_pending: usize,
    cluster: ClusterVarz,
    gateway: Absent,
    leaf: LeafVarz,
    mqtt: Absent,
    websocket: WebSocketVarz,
    jetstream: Absent,
    tls_timeout: f64,
    write_deadline: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_urls: Vec<String>,
}

/// nats-server 2.15's `WebsocketOptsVarz`.
#[derive(Serialize, Default)]
struct WebSocketVarz {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_auth_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    no_tls: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_map: bool,
    #[serde(skip_serializing_if = "is_false")]
    same_origin: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_origins: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    compression: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Timestamp>,
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

pub(super) fn read(server: &Server) -> Varz<'_> {
    let info = server.router().info();
    let totals = server.router().totals();
    let setup = server.setup();
    let entrance = server.router().entrance();
    let counters = totals.counters;
    Varz {
        identity: Identity {
            server_id: server.id(),
            server_name: server.name(),
            version: PROTOCOL_VERSION,
            proto: 1,
            go: info.go,
            host: info.host,
            port: info.port,
            auth_required: entrance.asks,
            tls_required: entrance.tls_required,
            tls_verify: entrance.tls_verify,
        },
        settings: settings(server, &setup),
        state: state(server, &totals),
        http_req_stats: server.requests(),
        config_load_time: server.configured_at(),
        config_digest: setup.options.config.as_ref().map(|config| config.digest.clone()).unwrap_or_default(),
        system_account: server.router().system_account().name().to_string(),
        slow_consumer_stats: ByKind::clients(counters.slow_pending + counters.slow_deadline),
        stale_connection_stats: ByKind::clients(counters.stale_connections),
        tls_cert_not_after: setup.tls.as_ref().and_then(|tls| tls.ends),
    }
}

fn settings(server: &Server, setup: &Setup) -> Settings {
    let options = &setup.options;
    let limits = &options.limits;
    // As it was configured: -1 for a free port, 0 where nothing is listened on.
    let port = |address: &Option<crate::options::Address>| match address.as_ref().map(|address| address.port)
    {
        Some(0) => -1,
        port => port.unwrap_or(0).into(),
    };
    let tls_timeout = options.tls.block.as_ref().map_or(2.0, |tls| tls.timeout.as_secs_f64());
    let default_timeout = if options.tls.block.is_some() { tls_timeout + 1.0 } else { 2.0 };
    Settings {
        max_connections: if limits.max_connections == 0 { -1 } else { limits.max_connections as i64 },
        max_subscriptions: Some(limits.max_subscriptions).filter(|most| *most > 0),
        ping_interval: limits.ping_interval.as_nanos() as u64,
        ping_max: limits.max_pings_out,
        http_host: options.monitor_host().to_owned(),
        http_port: port(&options.monitor.http),
        http_base_path: options.monitor.base_path.clone(),
        https_port: port(&options.monitor.https),
        auth_timeout: options.auth.timeout.map_or(default_timeout, |time| time.as_secs_f64()),
        max_control_line: limits.max_control_line,
        max_payload: limits.max_payload,
        max_pending: limits.max_pending,
        cluster: ClusterVarz::of(server, options),
        gateway: Absent {},
        leaf: LeafVarz::of(server, options),
        mqtt: Absent {},
        websocket: websocket(setup),
        jetstream: Absent {},
        tls_timeout,
        write_deadline: limits.write_deadline.as_nanos() as u64,
        connect_urls: server.router().info().connect_urls,
    }
}

fn websocket(setup: &Setup) -> WebSocketVarz {
    let block = &setup.options.websocket;
    if block.port.is_none() {
        return WebSocketVarz::default();
    }
    WebSocketVarz {
        host: Some(block.host.clone().unwrap_or_else(|| "0.0.0.0".to_owned())),
        port: block.port,
        advertise: block.advertise.clone(),
        no_auth_user: block.no_auth_user.clone(),
        handshake_timeout: block.handshake_timeout.map(|time| time.as_nanos() as u64),
        auth_timeout: block.auth.timeout.map(|time| time.as_secs_f64()),
        no_tls: block.no_tls,
        tls_map: block.tls.as_ref().is_some_and(|tls| tls.map),
        same_origin: block.same_origin,
        allowed_origins: block.allowed_origins.clone(),
        compression: block.compression,
        tls_cert_not_after: setup.websocket_tls.as_ref().and_then(|tls| tls.ends),
    }
}

fn state(server: &Server, totals: &midge_router::Totals) -> Figures {
    let shards = server.setup().options.shards;
    let usage = Usage::now();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let traffic = totals.counters.traffic;
    let cluster = server.router().cluster();
    Figures {
        start: server.started_at(),
        now: Timestamp::now(),
        uptime: uptime(server.started(), Instant::now()),
        mem: usage.memory,
        cores,
        gomaxprocs: if shards == 0 { cores } else { shards },
        cpu: usage.cpu,
        connections: totals.clients,
        total_connections: totals.total_connections,
        routes: cluster.map_or(0, midge_router::Cluster::route_count) as u32,
        remotes: cluster.map_or(0, midge_router::Cluster::member_count) as u32,
        leafnodes: server.router().leaves().map_or(0, midge_router::Leaves::count) as u32,
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
