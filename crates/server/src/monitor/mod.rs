//! What a server tells of itself: over HTTP, with nats-server's paths, query parameters and field names, and to
//! users of the system account by the same functions.

mod accountz;
mod accstatz;
mod connz;
mod healthz;
mod linkz;
mod metrics;
mod peers;
mod query;
mod serve;
mod servers;
mod subsz;
mod varz;

use serde::Serialize;

pub(crate) use accountz::account_info;
pub(crate) use accstatz::{AccountStat, account_stat};
pub(crate) use connz::kind as conn_kind;
pub(crate) use query::{BadQuery, Query};
pub(crate) use serve::serve;
pub(crate) use varz::ByKind;

use crate::server::Server;

/// One thing that a server tells.
pub(crate) struct Endpoint {
    /// Its path over HTTP.
    pub(crate) path: &'static str,
    /// Its name in `$SYS.REQ.SERVER.PING.<name>`.
    pub(crate) name: &'static str,
    /// What the index page calls it.
    title: &'static str,
    pub(crate) read: fn(&Server, &Query, Style) -> Result<String, BadQuery>,
}

/// How JSON is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Pretty,
    Compact,
}

impl Style {
    fn print(self, value: &impl Serialize) -> Result<String, BadQuery> {
        let text = match self {
            Self::Pretty => serde_json::to_string_pretty(value),
            Self::Compact => serde_json::to_string(value),
        };
        text.map_err(|why| BadQuery(why.to_string()))
    }
}

/// All of them, in the order of the index page.
pub(crate) static ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/varz",
        name: "VARZ",
        title: "General",
        read: |s, _, style| style.print(&varz::read(s)),
    },
    Endpoint {
        path: "/connz",
        name: "CONNZ",
        title: "Connections",
        read: |s, q, style| style.print(&connz::read(s, q)?),
    },
    Endpoint {
        path: "/accountz",
        name: "ACCOUNTZ",
        title: "Accounts",
        read: |s, q, style| style.print(&accountz::read(s, q)?),
    },
    Endpoint {
        path: "/accstatz",
        name: "STATZ",
        title: "Account Stats",
        read: |s, q, style| style.print(&accstatz::read(s, q)?),
    },
    Endpoint {
        path: "/subsz",
        name: "SUBSZ",
        title: "Subscriptions",
        read: |s, q, style| style.print(&subsz::read(s, q)?),
    },
    Endpoint {
        path: "/routez",
        name: "ROUTEZ",
        title: "Routes",
        read: |s, q, style| style.print(&peers::routez(s, q)?),
    },
    Endpoint {
        path: "/leafz",
        name: "LEAFZ",
        title: "LeafNodes",
        read: |s, q, style| style.print(&peers::leafz(s, q)?),
    },
    Endpoint {
        path: "/gatewayz",
        name: "GATEWAYZ",
        title: "Gateways",
        read: |s, _, style| style.print(&peers::gatewayz(s)),
    },
    Endpoint {
        path: "/linkz",
        name: "LINKZ",
        title: "Links",
        read: |s, _, style| style.print(&linkz::read(s)),
    },
    Endpoint {
        path: "/healthz",
        name: "HEALTHZ",
        title: "Health Probe",
        read: |s, q, style| Style::Compact.print(&healthz::read(s, q, style)?),
    },
];
