//! `/connz`: connections.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use midge_router::{ConnSnapshot, Kind};
use serde::Serialize;

use super::subsz::SubDetail;
use super::{BadQuery, Monitor, Params, number, truth, window};
use crate::talk::uptime;

/// nats-server 2.15's `Connz`.
#[derive(Serialize)]
struct Connz<'a> {
    server_id: &'a str,
    now: Timestamp,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<ConnInfo>,
}

/// nats-server 2.15's `ConnInfo`.
#[derive(Serialize)]
struct ConnInfo {
    cid: u64,
    kind: &'static str,
    r#type: &'static str,
    ip: String,
    port: u16,
    start: Timestamp,
    last_activity: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    pending_bytes: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How much is said about subscriptions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subs {
    Count,
    Subjects,
    Detail,
}

pub(super) async fn handle(State(monitor): State<Arc<Monitor>>, params: Params) -> Response {
    monitor.count("/connz");
    match connz(&monitor, &params) {
        Ok(connz) => super::json(&connz, &params),
        Err(bad) => bad.into_response(),
    }
}

fn connz<'a>(monitor: &'a Monitor, params: &Params) -> Result<Connz<'a>, BadQuery> {
    let (offset, mut limit) = window(params)?;
    let subs = if params.get("subs").is_some_and(|subs| subs == "detail") {
        Subs::Detail
    } else if truth(params, "subs")? {
        Subs::Subjects
    } else {
        Subs::Count
    };
    let state = params.get("state").map_or("open", String::as_str).to_lowercase();
    let router = monitor.server.router();
    let mut list = match state.as_str() {
        "open" | "" => router.open_connections(subs != Subs::Count),
        "closed" => router.ended_connections(),
        "any" | "all" => {
            let mut list = router.open_connections(subs != Subs::Count);
            list.extend(router.ended_connections());
            list
        }
        other => {
            return Err(BadQuery(format!("Error decoding 'state': '{other}' is not open, closed or any")));
        }
    };
    list.retain(|conn| conn.kind == Kind::Client);
    if let Some(account) = params.get("acc").filter(|account| !account.is_empty()) {
        list.retain(|conn| conn.account.as_deref() == Some(account));
    }
    let total = list.len();
    let cid = number(params, "cid")?;
    if cid > 0 {
        limit = 1;
        list.retain(|conn| conn.cid == cid as u64);
    }
    let now = Instant::now();
    sort(&mut list, params.get("sort").map_or("", String::as_str), &state, now)?;
    let connections: Vec<ConnInfo> =
        list.into_iter().skip(offset).take(limit).map(|conn| info(monitor, conn, subs, now)).collect();
    Ok(Connz {
        server_id: monitor.server.id(),
        now: Timestamp::now(),
        num_connections: connections.len(),
        total,
        offset,
        limit,
        connections,
    })
}

/// Only numbers and starts are sorted upwards; of everything else, most comes first.
fn sort(list: &mut [ConnSnapshot], by: &str, state: &str, now: Instant) -> Result<(), BadQuery> {
    match by {
        "" | "cid" | "start" => list.sort_by_key(|conn| conn.cid),
        "subs" => list.sort_by_key(|conn| Reverse(conn.subscription_count)),
        "pending" => list.sort_by_key(|conn| Reverse(conn.pending_bytes)),
        "msgs_to" => list.sort_by_key(|conn| Reverse(conn.traffic.out_msgs)),
        "msgs_from" => list.sort_by_key(|conn| Reverse(conn.traffic.in_msgs)),
        "bytes_to" => list.sort_by_key(|conn| Reverse(conn.traffic.out_bytes)),
        "bytes_from" => list.sort_by_key(|conn| Reverse(conn.traffic.in_bytes)),
        "last" => list.sort_by_key(|conn| Reverse(conn.last_activity)),
        "idle" => list.sort_by_key(|conn| conn.last_activity),
        "uptime" => list.sort_by_key(|conn| Reverse(conn.ended.unwrap_or(now).duration_since(conn.started))),
        "rtt" => list.sort_by_key(|conn| Reverse(conn.rtt)),
        "stop" if state == "closed" => list.sort_by_key(|conn| Reverse(conn.ended)),
        "reason" if state == "closed" => {
            list.sort_by_key(|conn| conn.closed.map_or("", midge_router::CloseReason::text));
        }
        "stop" | "reason" => {
            return Err(BadQuery(format!("sort by {by} only valid on closed connections")));
        }
        other => return Err(BadQuery(format!("invalid sorting option: {other}"))),
    }
    Ok(())
}

fn info(monitor: &Monitor, conn: ConnSnapshot, subs: Subs, now: Instant) -> ConnInfo {
    let (ip, port) = conn.peer.rsplit_once(':').unwrap_or((&conn.peer, ""));
    let until = conn.ended.unwrap_or(now);
    let hello = conn.hello.as_deref().cloned().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let list = match subs {
        Subs::Subjects => conn.subscriptions.iter().map(|sub| text(&sub.subject)).collect(),
        _ => Vec::new(),
    };
    let detail = match subs {
        Subs::Detail => {
            // Here the original leaves the account out of each, as it stands with the connection.
            conn.subscriptions.iter().map(|sub| SubDetail::new(sub, "", conn.cid)).collect()
        }
        _ => Vec::new(),
    };
    ConnInfo {
        cid: conn.cid,
        kind: "Client",
        r#type: "nats",
        ip: ip.trim_matches(['[', ']']).to_owned(),
        port: port.parse().unwrap_or(0),
        start: monitor.time_of(conn.started),
        last_activity: monitor.time_of(conn.last_activity),
        stop: conn.closed.and(conn.ended).map(|at| monitor.time_of(at)),
        reason: conn.closed.and_then(|reason| conn.ended.map(|_| reason.text())),
        rtt: conn.rtt.map(go_duration),
        uptime: uptime(conn.started, until),
        idle: uptime(conn.last_activity, until),
        pending_bytes: conn.pending_bytes,
        in_msgs: conn.traffic.in_msgs,
        out_msgs: conn.traffic.out_msgs,
        in_bytes: conn.traffic.in_bytes,
        out_bytes: conn.traffic.out_bytes,
        stalls: conn.stalls,
        subscriptions: conn.subscription_count,
        name: hello.name,
        lang: hello.lang,
        version: hello.version,
        subscriptions_list: list,
        subscriptions_list_detail: detail,
    }
}

/// A time as Go prints it: in the largest unit that leaves a whole part, without trailing zeros.
fn go_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let (unit, name) = match nanos {
        0..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let digits = if unit == 1_000 {
        3
    } else if unit == 1_000_000 {
        6
    } else {
        9
    };
    let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_printed_as_go_does() {
        let print = |nanos| go_duration(Duration::from_nanos(nanos));
        assert_eq!((print(525_000), print(1_250_000)), ("525µs".into(), "1.25ms".into()));
        assert_eq!((print(7), print(2_000_000_000)), ("7ns".into(), "2s".into()));
    }
}
