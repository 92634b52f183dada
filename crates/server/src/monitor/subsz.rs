//! `/subsz`: subscriptions.

use jiff::Timestamp;
use midge_router::{Account, SubSnapshot};
use midge_wire::subject;
use serde::Serialize;

use super::{BadQuery, Query};
use crate::server::Server;

/// nats-server 2.15's `Subsz`.
#[derive(Serialize)]
pub(super) struct Subsz<'a> {
    server_id: &'a str,
    now: Timestamp,
    #[serde(flatten)]
    stats: SublistStats,
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriptions_list: Option<Vec<SubDetail>>,
}

/// nats-server 2.15's `SubDetail`.
#[derive(Serialize)]
pub(super) struct SubDetail {
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account_tag: String,
    subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    qgroup: String,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    cid: u64,
}

impl SubDetail {
    pub(super) fn new(sub: &SubSnapshot, account: &str, cid: u64) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            account: account.to_owned(),
            account_tag: account.to_owned(),
            subject: text(&sub.subject),
            qgroup: text(&sub.queue),
            sid: text(&sub.sid),
            msgs: sub.delivered,
            max: (sub.max > 0).then_some(sub.max),
            cid,
        }
    }
}

/// nats-server 2.15's `SublistStats`. What caches hold is known for the whole server only.
#[derive(Serialize)]
pub(super) struct SublistStats {
    num_subscriptions: u32,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: u64,
    avg_fanout: f64,
}

impl SublistStats {
    pub(super) fn of(server: &Server, account: Option<&Account>) -> Self {
        let totals = server.router().totals();
        let counters = totals.counters;
        let hits = counters.memo_hits + counters.cache_hits;
        let matches = hits + counters.cache_misses + counters.cache_stale;
        Self {
            num_subscriptions: account.map_or(totals.subscriptions, Account::subscriptions),
            num_cache: totals.cache.sets,
            num_inserts: totals.inserts,
            num_removes: totals.inserts.saturating_sub(u64::from(totals.subscriptions)),
            num_matches: matches,
            cache_hit_rate: ratio(hits, matches),
            max_fanout: totals.cache.max_fanout,
            avg_fanout: ratio(totals.cache.fanout, totals.cache.sets),
        }
    }
}

pub(super) fn read<'a>(server: &'a Server, query: &Query) -> Result<Subsz<'a>, BadQuery> {
    let (offset, limit) = query.window()?;
    let test = query.text("test");
    if let Some(test) = test
        && !subject::is_valid_literal(test.as_bytes())
    {
        return Err(BadQuery(format!("invalid test subject, must be valid publish subject: {test}")));
    }
    let router = server.router();
    let name = query.text("acc");
    let account = name.and_then(|name| router.account(name));
    let mut list = None;
    let mut total = 0;
    if query.truth("subs")? {
        let details = details(router, test, name);
        total = details.len();
        list = Some(details.into_iter().skip(offset).take(limit).collect());
    }
    Ok(Subsz {
        server_id: server.id(),
        now: Timestamp::now(),
        stats: SublistStats::of(server, account.as_deref()),
        total,
        offset,
        limit,
        subscriptions_list: list,
    })
}

/// Zero of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn details(router: &midge_router::Router, test: Option<&str>, account: Option<&str>) -> Vec<SubDetail> {
    let mut details = Vec::new();
    for conn in router.open_connections(true) {
        let name = conn.grant.account.name().clone();
        if account.is_some_and(|account| *account != *name) {
            continue;
        }
        let wanted = conn
            .subscriptions
            .iter()
            .filter(|sub| test.is_none_or(|test| subject::matches(&sub.subject, test.as_bytes())));
        details.extend(wanted.map(|sub| SubDetail::new(sub, &name, conn.cid)));
    }
    details
}
