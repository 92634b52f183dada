//! `/routez`, `/leafz` and `/gatewayz`: other servers. There are none yet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::server::Server;

/// Nothing can be in a list of these.
#[derive(Serialize)]
enum Nobody {}

/// nats-server 2.15's `Routez`.
#[derive(Serialize)]
pub(super) struct Routez<'a> {
    server_id: &'a str,
    server_name: &'a str,
    now: Timestamp,
    num_routes: usize,
    routes: Vec<Nobody>,
}

pub(super) fn routez(server: &Server) -> Routez<'_> {
    Routez {
        server_id: server.id(),
        server_name: server.name(),
        now: Timestamp::now(),
        num_routes: 0,
        routes: Vec::new(),
    }
}

/// nats-server 2.15's `Leafz`.
#[derive(Serialize)]
pub(super) struct Leafz<'a> {
    server_id: &'a str,
    now: Timestamp,
    leafnodes: usize,
    leafs: Vec<Nobody>,
}

pub(super) fn leafz(server: &Server) -> Leafz<'_> {
    Leafz { server_id: server.id(), now: Timestamp::now(), leafnodes: 0, leafs: Vec::new() }
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
