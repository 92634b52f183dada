//! `/connz`: connections.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use midge_router::{ConnSnapshot, Kind};
use midge_wire::subject;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::subsz::SubDetail;
use super::{BadQuery, Query};
use crate::auth::Login;
use crate::carrier::Carrier;
use crate::options::{ConnectionType, Credential};
use crate::server::Server;
use crate::talk::uptime;

/// nats-server 2.15's `Connz`.
#[derive(Serialize)]
pub(super) struct Connz<'a> {
    server_id: &'a str,
    now: Timestamp,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    /// `None` where the query names an account that does not exist.
    connections: Option<Vec<ConnInfo>>,
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
    rtt: String,
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
    #[serde(flatten)]
    tls: Option<Tls>,
    #[serde(skip_serializing_if = "String::is_empty")]
    authorized_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    issuer_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name_tag: String,
}

/// What TLS's handshake has shown.
#[derive(Serialize)]
struct Tls {
    tls_version: &'static str,
    tls_cipher_suite: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_peer_certs: Vec<PeerCertificate>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_first: bool,
}

/// nats-server 2.15's `TLSPeerCert`.
#[derive(Serialize)]
struct PeerCertificate {
    subject: String,
    spki_sha256: String,
    cert_sha256: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How much is said about subscriptions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subs {
    Count,
    Subjects,
    Detail,
}

impl Subs {
    pub(super) fn of(query: &Query) -> Result<Self, BadQuery> {
        if query.text("subs").is_some_and(|subs| subs.eq_ignore_ascii_case("detail")) {
            return Ok(Self::Detail);
        }
        Ok(if query.truth("subs")? { Self::Subjects } else { Self::Count })
    }
}

/// What is told of each connection.
#[derive(Clone, Copy)]
struct Wanted {
    subs: Subs,
    auth: bool,
    now: Instant,
}

pub(super) fn read<'a>(server: &'a Server, query: &Query) -> Result<Connz<'a>, BadQuery> {
    let (offset, mut limit) = query.window()?;
    let subs = Subs::of(query)?;
    let wanted = Wanted { subs, auth: query.truth("auth")?, now: Instant::now() };
    let state = query.text("state").unwrap_or("open").to_lowercase();
    let account = query.text("acc");
    let filter = query.text("filter_subject").filter(|filter| *filter != ">");
    if filter.is_some() && account.is_none() {
        return Err(BadQuery("filter by subject only valid with account filtering".to_owned()));
    }
    let mut list = snapshots(server, &state, subs != Subs::Count || filter.is_some())?;
    if let Some(account) = account {
        list.retain(|conn| **conn.grant.account.name() == *account);
    }
    let total = list.len();
    if let Some(user) = query.text("user") {
        list.retain(|conn| *conn.grant.user == *user);
    }
    if let Some(filter) = filter {
        list.retain(|conn| {
            conn.ended.is_some()
                || conn.subscriptions.iter().any(|sub| subject::collide(&sub.subject, filter.as_bytes()))
        });
    }
    let cid = query.number("cid")?;
    if cid > 0 {
        limit = 1;
        list.retain(|conn| conn.cid == cid as u64);
    }
    sort(&mut list, query.text("sort").unwrap_or_default(), &state, wanted.now)?;
    let missing = account.is_some_and(|account| server.router().account(account).is_none());
    let connections: Vec<ConnInfo> =
        list.into_iter().skip(offset).take(limit).map(|conn| info(server, conn, wanted)).collect();
    Ok(Connz {
        server_id: if missing { "" } else { server.id() },
        now: Timestamp::now(),
        num_connections: connections.len(),
        total,
        offset,
        limit,
        connections: (!missing).then_some(connections),
    })
}

fn snapshots(server: &Server, state: &str, subscriptions: bool) -> Result<Vec<ConnSnapshot>, BadQuery> {
    let router = server.router();
    let mut list = match state {
        "open" => router.open_connections(subscriptions),
        "closed" => router.ended_connections(),
        "any" | "all" => {
            let mut list = router.open_connections(subscriptions);
            list.extend(router.ended_connections());
            list
        }
        other => return Err(BadQuery(format!("Error decoding state for {other}"))),
    };
    list.retain(|conn| conn.kind == Kind::Client);
    Ok(list)
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
        "uptime" => list.sort_by_key(|conn| conn.ended.unwrap_or(now).duration_since(conn.started)),
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

fn info(server: &Server, conn: ConnSnapshot, Wanted { subs, auth, now }: Wanted) -> ConnInfo {
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
    let carrier = conn.tag.as_ref().and_then(Carrier::from_tag);
    let (mut authorized_user, mut account, mut issuer_key, mut name_tag) = Default::default();
    if auth {
        let name = conn.grant.account.name().to_string();
        authorized_user = conn.grant.user.to_string();
        if has_nkey(&conn) {
            issuer_key = name.clone();
        }
        let global = name == midge_router::GLOBAL;
        // Of those who have gone, the original keeps only accounts with a name of their own.
        if !global || conn.ended.is_none() {
            name_tag = name.clone();
        }
        if !global {
            account = name;
        }
    }
    ConnInfo {
        cid: conn.cid,
        kind: "Client",
        r#type: kind(carrier.as_deref()),
        ip: ip.trim_matches(['[', ']']).to_owned(),
        port: port.parse().unwrap_or(0),
        start: server.time_of(conn.started),
        last_activity: server.time_of(conn.last_activity),
        stop: conn.closed.and(conn.ended).map(|at| server.time_of(at)),
        reason: conn.closed.and_then(|reason| conn.ended.map(|_| reason.text())),
        rtt: conn.rtt.map_or_else(|| "0s".to_owned(), go_duration),
        uptime: uptime(conn.started, until),
        idle: uptime(conn.last_activity, until),
        pending_bytes: conn.pending_bytes,
        in_msgs: conn.traffic.in_msgs,
        out_msgs: conn.traffic.out_msgs,
        in_bytes: conn.traffic.in_bytes,
        out_bytes: conn.traffic.out_bytes,
        stalls: conn.stalls,
        subscriptions: conn.subscription_count,
        name: hello.name.into(),
        lang: hello.lang.into(),
        version: hello.version.into(),
        tls: carrier.as_deref().and_then(|carrier| tls(carrier, auth && conn.ended.is_none())),
        authorized_user,
        account,
        subscriptions_list: list,
        subscriptions_list_detail: detail,
        issuer_key,
        name_tag,
    }
}

/// What nats-server calls a connection by what carries it.
pub(crate) fn kind(carrier: Option<&Carrier>) -> &'static str {
    match carrier.map(|carrier| carrier.kind) {
        Some(ConnectionType::WebSocket) => "websocket",
        Some(ConnectionType::Standard) | None => "nats",
    }
}

fn has_nkey(conn: &ConnSnapshot) -> bool {
    let login = Login::of(&conn.grant);
    matches!(login.as_deref(), Some(Login::User(user)) if matches!(user.credential, Credential::Nkey(_)))
}

fn tls(carrier: &Carrier, certificates: bool) -> Option<Tls> {
    let facts = carrier.tls.get()?;
    let peer = if certificates { facts.peer.as_slice() } else { &[] };
    Some(Tls {
        tls_version: facts.version,
        tls_cipher_suite: facts.suite.clone(),
        tls_peer_certs: peer.iter().filter_map(certificate).collect(),
        tls_first: facts.first && carrier.kind == ConnectionType::Standard,
    })
}

fn certificate(der: &CertificateDer<'_>) -> Option<PeerCertificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PeerCertificate {
        subject: crate::auth::subject_of(&parsed),
        spki_sha256: hex(parsed.public_key().raw),
        cert_sha256: hex(der),
    })
}

/// A time as Go prints it: in the largest unit that leaves a whole part, without trailing zeros.
pub(super) fn go_duration(time: Duration) -> String {
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
