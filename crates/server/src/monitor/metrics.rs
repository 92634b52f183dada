//! `/metrics`: the server's figures in Prometheus's text format (version 0.0.4).

use std::fmt::{Display, Write};
use std::time::Instant;

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::accstatz::account_stat;
use crate::process::Usage;
use crate::server::{PROTOCOL_VERSION, Server};

/// The whole page.
pub(super) fn text(server: &Server) -> Response {
    server.count_request("/metrics");
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], page(server)).into_response()
}

/// A page being written.
struct Page(String);

impl Page {
    /// A figure with its samples, each with its labels.
    fn metric<L: Display, V: Display>(&mut self, name: &str, kind: &str, help: &str, samples: &[(L, V)]) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP midge_{name} {help}\n# TYPE midge_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "midge_{name}{labels} {value}");
        }
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help, &[("", value)]);
    }
}

fn page(server: &Server) -> String {
    let mut page = Page(String::new());
    let label = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = format!(
        "{{server_id=\"{}\",server_name=\"{}\",version=\"{}\",protocol=\"{PROTOCOL_VERSION}\"}}",
        server.id(),
        label(server.name()),
        env!("CARGO_PKG_VERSION")
    );
    page.metric("info", "gauge", "What this server is.", &[(labels, 1)]);
    let uptime = Instant::now().saturating_duration_since(server.started()).as_secs_f64();
    page.one("uptime_seconds", "gauge", "Time since the server's start.", uptime);
    page.one("resident_memory_bytes", "gauge", "Memory that the process holds.", Usage::now().memory);
    let totals = server.router().totals();
    page.one("connections", "gauge", "Open client connections.", totals.clients);
    page.one("connections_total", "counter", "Connections since the start.", totals.total_connections);
    page.one("subscriptions", "gauge", "Subscriptions.", totals.subscriptions);
    page.one("subscriptions_total", "counter", "Subscriptions ever made.", totals.inserts);
    let counters = totals.counters;
    let traffic = counters.traffic;
    let ways = |into, out| [("{direction=\"in\"}", into), ("{direction=\"out\"}", out)];
    page.metric("messages_total", "counter", "Messages.", &ways(traffic.in_msgs, traffic.out_msgs));
    page.metric(
        "bytes_total",
        "counter",
        "Bytes of headers and payload.",
        &ways(traffic.in_bytes, traffic.out_bytes),
    );
    let slow =
        [("{reason=\"pending\"}", counters.slow_pending), ("{reason=\"deadline\"}", counters.slow_deadline)];
    page.metric(
        "slow_consumers_total",
        "counter",
        "Connections closed because they could not keep up.",
        &slow,
    );
    page.one(
        "stale_connections_total",
        "counter",
        "Connections closed because they did not answer.",
        counters.stale_connections,
    );
    page.one("stalls_total", "counter", "Times that a publisher was held back.", counters.stalls);
    page.one("reads_total", "counter", "Turns of sessions.", counters.reads);
    page.one("flushes_total", "counter", "Connections written at the end of a tick.", counters.flushes);
    let lookups = [
        ("{outcome=\"memo\"}", counters.memo_hits),
        ("{outcome=\"hit\"}", counters.cache_hits),
        ("{outcome=\"miss\"}", counters.cache_misses),
        ("{outcome=\"stale\"}", counters.cache_stale),
    ];
    page.metric("lookups_total", "counter", "Look-ups of who wants a subject.", &lookups);
    accounts(server, &mut page, label);
    page.0
}

fn accounts(server: &Server, page: &mut Page, label: impl Fn(&str) -> String) {
    let accounts = server.router().accounts();
    let stats: Vec<_> = accounts
        .iter()
        .map(|account| {
            (format!("{{account=\"{}\"", label(account.name())), account_stat(server, account), account)
        })
        .collect();
    let of = |value: &dyn Fn(&midge_router::Account) -> u64| -> Vec<(String, u64)> {
        stats.iter().map(|(labels, _, account)| (format!("{labels}}}"), value(account))).collect()
    };
    page.metric(
        "account_connections",
        "gauge",
        "Open client connections of an account.",
        &of(&|a| u64::from(a.clients())),
    );
    page.metric(
        "account_subscriptions",
        "gauge",
        "Subscriptions of an account.",
        &of(&|a| u64::from(a.subscriptions())),
    );
    page.metric(
        "account_connections_total",
        "counter",
        "Client connections that an account ever had.",
        &of(&|a| u64::from(a.total_clients())),
    );
    let messages: Vec<(String, u64)> = stats
        .iter()
        .flat_map(|(labels, _, account)| {
            let traffic = server.router().traffic(account);
            [
                (format!("{labels},direction=\"in\"}}"), traffic.in_msgs),
                (format!("{labels},direction=\"out\"}}"), traffic.out_msgs),
            ]
        })
        .collect();
    page.metric("account_messages_total", "counter", "Messages of an account.", &messages);
}
