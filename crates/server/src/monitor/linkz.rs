//! `/linkz`: links to other peers. Not in nats-server, which has none.

use jiff::Timestamp;
use midge_backend::Carrier;
use midge_identity::NkeyKind;
use midge_link::{Direction, Link};
use serde::Serialize;

use super::connz::go_duration;
use crate::clock;
use crate::server::Server;
use crate::talk::uptime;

#[derive(Serialize)]
pub(super) struct Linkz<'a> {
    server_id: &'a str,
    /// What other peers call this server; none if it has no key of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    now: Timestamp,
    num_links: usize,
    links: Vec<LinkInfo>,
    /// The deployment that links go through, if any does.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<BackendInfo>,
}

#[derive(Serialize)]
struct BackendInfo {
    servers: String,
    prefix: String,
    connected: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    sessions: usize,
    out_packets: u64,
    in_packets: u64,
    /// With a token of no session, or too long.
    dropped_packets: u64,
    dials_accepted: u64,
    dials_refused: u64,
}

fn backend(carrier: &Carrier) -> BackendInfo {
    let (stats, reason) = (carrier.stats(), carrier.away());
    BackendInfo {
        servers: carrier.servers().to_owned(),
        prefix: carrier.prefix().to_string(),
        connected: reason.is_none(),
        reason,
        sessions: stats.sessions,
        out_packets: stats.sent,
        in_packets: stats.received,
        dropped_packets: stats.dropped,
        dials_accepted: stats.accepted,
        dials_refused: stats.refused,
    }
}

#[derive(Serialize)]
struct LinkInfo {
    lid: u64,
    peer_id: String,
    /// The id that the peer has as a NATS server.
    remote_id: String,
    address: String,
    /// What carries it, such as `udp`.
    via: &'static str,
    /// Whether it is the one that is used, or one in reserve.
    in_use: bool,
    did_solicit: bool,
    protocol: String,
    start: Timestamp,
    uptime: String,
    rtt: String,
    mtu: u16,
    in_bytes: u64,
    out_bytes: u64,
    out_packets: u64,
    lost_packets: u64,
}

pub(super) fn read(server: &Server) -> Linkz<'_> {
    let table = server.membership().and_then(|membership| membership.table());
    let all = table.map(midge_link::LinkTable::links).unwrap_or_default();
    let rows = |links: &Vec<Link>| -> Vec<LinkInfo> {
        links.iter().enumerate().map(|(place, link)| row(server, link, place == 0)).collect()
    };
    let links: Vec<LinkInfo> = all.iter().flat_map(rows).collect();
    Linkz {
        server_id: server.id(),
        peer_id: server.peer_id().map(|peer| peer.to_string()),
        now: Timestamp::now(),
        num_links: links.len(),
        links,
        backend: server.membership().and_then(|member| member.carrier()).as_deref().map(backend),
    }
}

fn row(server: &Server, link: &Link, in_use: bool) -> LinkInfo {
    let (stats, since) = (link.stats(), link.since().into_std());
    LinkInfo {
        lid: link.number(),
        peer_id: link.peer().to_string(),
        remote_id: link.peer().key().nkey(NkeyKind::Server).to_string(),
        address: link.address(),
        via: link.scheme(),
        in_use,
        did_solicit: link.direction() == Direction::Outgoing,
        protocol: link.protocol(),
        start: server.time_of(since),
        uptime: uptime(since, clock::now()),
        rtt: go_duration(stats.rtt),
        mtu: stats.mtu,
        in_bytes: stats.received_bytes,
        out_bytes: stats.sent_bytes,
        out_packets: stats.sent_packets,
        lost_packets: stats.lost_packets,
    }
}
