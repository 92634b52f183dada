//! `/accstatz`: what each account does.

use jiff::Timestamp;
use midge_router::Account;
use serde::Serialize;

use super::{BadQuery, Query};
use crate::server::Server;

/// nats-server 2.15's `AccountStatz`.
#[derive(Serialize)]
pub(super) struct Accstatz<'a> {
    server_id: &'a str,
    now: Timestamp,
    account_statz: Vec<AccountStat>,
}

/// nats-server 2.15's `AccountStat` (`server/events.go`).
#[derive(Serialize)]
pub(crate) struct AccountStat {
    acc: String,
    name: String,
    pub(crate) conns: u32,
    leafnodes: u32,
    total_conns: u32,
    num_subscriptions: u32,
    sent: DataStats,
    received: DataStats,
    slow_consumers: u64,
}

/// nats-server 2.15's `DataStats`, with its parts for other servers.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct DataStats {
    pub(crate) msgs: u64,
    pub(crate) bytes: u64,
    gateways: Part,
    routes: Part,
    leafs: Part,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Part {
    msgs: u64,
    bytes: u64,
}

pub(super) fn read<'a>(server: &'a Server, query: &Query) -> Result<Accstatz<'a>, BadQuery> {
    let unused = query.truth("unused")?;
    let only: Option<Vec<&str>> = query.text("accounts").map(|list| list.split(',').collect());
    let mut stats: Vec<AccountStat> = server
        .router()
        .accounts()
        .iter()
        .filter(|account| only.as_ref().is_none_or(|only| only.contains(&&**account.name())))
        .map(|account| account_stat(server, account))
        .filter(|stat| unused || stat.conns > 0)
        .collect();
    stats.sort_by(|a, b| a.acc.cmp(&b.acc));
    Ok(Accstatz { server_id: server.id(), now: Timestamp::now(), account_statz: stats })
}

/// The account's connections to leafnodes and hubs.
pub(super) fn leafnodes(server: &Server, account: &Account) -> u32 {
    server.router().leaves().map_or(0, |leaves| leaves.count_of(account)) as u32
}

pub(crate) fn account_stat(server: &Server, account: &Account) -> AccountStat {
    let router = server.router();
    let traffic = router.traffic(account);
    AccountStat {
        acc: account.name().to_string(),
        name: account.name().to_string(),
        conns: account.clients(),
        leafnodes: leafnodes(server, account),
        // As in the original: those that are connected, here and elsewhere in the cluster.
        total_conns: account.clients() + leafnodes(server, account),
        num_subscriptions: account.subscriptions(),
        sent: DataStats { msgs: traffic.out_msgs, bytes: traffic.out_bytes, ..DataStats::default() },
        received: DataStats { msgs: traffic.in_msgs, bytes: traffic.in_bytes, ..DataStats::default() },
        slow_consumers: router.slow_consumers(account),
    }
}
