//! `/routez`, `/leafz` and `/gatewayz`: other servers.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use midge_router::{Dialled, LeafSnapshot, RouteSnapshot};
use serde::Serialize;

use super::connz::{Subs, go_duration};
use super::subsz::SubDetail;
use super::{BadQuery, Query};
use crate::carrier::Carrier;
use crate::options::ClusterOptions;
use crate::server::Server;
use crate::talk::uptime;

/// Nothing can be in a list of these.
#[derive(Serialize)]
enum Nobody {}

/// nats-server 2.15's `Routez`.
#[derive(Serialize)]
pub(super) struct Routez<'a> {
    server_id: &'a str,
    server_name: &'a str,
    now: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<Lists>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<Lists>,
    num_routes: usize,
    routes: Vec<RouteInfo>,
}

/// nats-server 2.15's `SubjectPermission`.
#[derive(Serialize, Clone)]
struct Lists {
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

/// nats-server 2.15's `RouteInfo`.
#[derive(Serialize)]
struct RouteInfo {
    rid: u64,
    remote_id: String,
    remote_name: String,
    did_solicit: bool,
    is_configured: bool,
    ip: String,
    port: u16,
    start: Timestamp,
    last_activity: Timestamp,
    rtt: String,
    uptime: String,
    idle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<Lists>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<Lists>,
    pending_size: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    compression: &'static str,
}

pub(super) fn routez<'a>(server: &'a Server, query: &Query) -> Result<Routez<'a>, BadQuery> {
    let subs = Subs::of(query)?;
    let setup = server.setup();
    let block = &setup.options.cluster;
    let router = server.router();
    let all = router.cluster().map(|cluster| cluster.routes(router, subs != Subs::Count)).unwrap_or_default();
    let mut routes: Vec<RouteInfo> = all.into_iter().map(|route| row(server, block, route, subs)).collect();
    routes.sort_by_key(|route| route.rid);
    Ok(Routez {
        server_id: server.id(),
        server_name: server.name(),
        now: Timestamp::now(),
        import: lists(block.import.as_ref()),
        export: lists(block.export.as_ref()),
        num_routes: routes.len(),
        routes,
    })
}

fn row(server: &Server, block: &ClusterOptions, route: RouteSnapshot, subs: Subs) -> RouteInfo {
    let conn = &route.conn;
    let (ip, port) = conn.peer().rsplit_once(':').unwrap_or((conn.peer(), ""));
    let (now, active, traffic) = (Instant::now(), conn.last_activity(), conn.traffic());
    let list = |sub: &midge_router::SubSnapshot| String::from_utf8_lossy(&sub.subject).into_owned();
    let detail = |sub| SubDetail::new(sub, "", conn.cid());
    RouteInfo {
        rid: conn.cid(),
        remote_id: route.id,
        remote_name: route.name,
        did_solicit: route.dialled.is_some(),
        is_configured: route.dialled == Some(Dialled::Configured),
        ip: ip.trim_matches(['[', ']']).to_owned(),
        port: port.parse().unwrap_or(0),
        start: server.time_of(conn.started()),
        last_activity: server.time_of(active),
        rtt: conn.rtt().map_or_else(|| "0s".to_owned(), go_duration),
        uptime: uptime(conn.started(), now),
        idle: uptime(active, now),
        import: lists(block.import.as_ref()),
        export: lists(block.export.as_ref()),
        pending_size: conn.pending(),
        in_msgs: traffic.in_msgs,
        out_msgs: traffic.out_msgs,
        in_bytes: traffic.in_bytes,
        out_bytes: traffic.out_bytes,
        subscriptions: route.subscription_count,
        subscriptions_list: if subs == Subs::Subjects {
            route.subscriptions.iter().map(list).collect()
        } else {
            Vec::new()
        },
        subscriptions_list_detail: if subs == Subs::Detail {
            route.subscriptions.iter().map(detail).collect()
        } else {
            Vec::new()
        },
        account: route.account,
        compression: Carrier::compression(conn),
    }
}

fn lists(rules: Option<&midge_router::SubjectRules>) -> Option<Lists> {
    rules.map(|rules| Lists { allow: rules.allow.clone(), deny: rules.deny.clone() })
}

/// nats-server 2.15's `Leafz`.
#[derive(Serialize)]
pub(super) struct Leafz<'a> {
    server_id: &'a str,
    now: Timestamp,
    leafnodes: usize,
    leafs: Vec<LeafInfo>,
}

/// nats-server 2.15's `LeafInfo`.
#[derive(Serialize)]
struct LeafInfo {
    id: u64,
    name: String,
    is_spoke: bool,
    #[serde(skip_serializing_if = "is_false")]
    is_isolated: bool,
    account: String,
    ip: String,
    port: u16,
    rtt: String,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    compression: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_false(b: &bool) -> bool {
    !*b
}

pub(super) fn leafz<'a>(server: &'a Server, query: &Query) -> Result<Leafz<'a>, BadQuery> {
    let subs = Subs::of(query)? != Subs::Count;
    let router = server.router();
    let mut all = router.leaves().map(|leaves| leaves.all(router, subs)).unwrap_or_default();
    if let Some(account) = query.text("acc") {
        all.retain(|leaf| *leaf.account == *account);
    }
    let mut leafs: Vec<LeafInfo> = all.into_iter().map(leaf).collect();
    leafs.sort_by_key(|leaf| leaf.id);
    Ok(Leafz { server_id: server.id(), now: Timestamp::now(), leafnodes: leafs.len(), leafs })
}

fn leaf(leaf: LeafSnapshot) -> LeafInfo {
    let conn = &leaf.conn;
    let (ip, port) = conn.peer().rsplit_once(':').unwrap_or((conn.peer(), ""));
    let traffic = conn.traffic();
    let list = leaf.subscriptions.iter().map(|sub| String::from_utf8_lossy(&sub.subject).into_owned());
    LeafInfo {
        id: conn.cid(),
        name: leaf.name,
        // What this server is, not the other one.
        is_spoke: !leaf.is_spoke,
        is_isolated: leaf.isolated,
        account: leaf.account.to_string(),
        ip: ip.trim_matches(['[', ']']).to_owned(),
        port: port.parse().unwrap_or(0),
        rtt: conn.rtt().map_or_else(|| "0s".to_owned(), go_duration),
        in_msgs: traffic.in_msgs,
        out_msgs: traffic.out_msgs,
        in_bytes: traffic.in_bytes,
        out_bytes: traffic.out_bytes,
        subscriptions: leaf.subscription_count,
        subscriptions_list: list.collect(),
        compression: Carrier::compression(conn),
    }
}

/// nats-server 2.15's `Gatewayz`.
#[derive(Serialize)]
pub(super) struct Gatewayz<'a> {
    server_id: &'a str,
    now: Timestamp,
    outbound_gateways: BTreeMap<String, Nobody>,
    inbound_gateways: BTreeMap<String, Nobody>,
}

pub(super) fn gatewayz(server: &Server) -> Gatewayz<'_> {
    Gatewayz {
        server_id: server.id(),
        now: Timestamp::now(),
        outbound_gateways: BTreeMap::new(),
        inbound_gateways: BTreeMap::new(),
    }
}
