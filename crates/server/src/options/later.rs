//! What nats-server knows and midge does not yet: refused by name, never ignored.

/// A name that nats-server knows and that stands for something not built yet.
#[derive(Debug, Clone, Copy)]
pub struct Later {
    /// The names.
    pub names: &'static [&'static str],
    /// What they stand for.
    pub what: &'static str,
}

const fn later(names: &'static [&'static str], what: &'static str) -> Later {
    Later { names, what }
}

/// Keys that nats-server knows and that are refused by name.
pub static UNSUPPORTED_KEYS: &[Later] = &[
    later(&["default_sentinel"], "operators and JWTs"),
    later(&["accounts.imports", "accounts.exports"], "exports and imports between accounts"),
    later(&["accounts.jetstream"], "JetStream"),
    later(&["accounts.mappings", "accounts.maps"], "subject mappings"),
    later(&["accounts.msg_trace", "accounts.trace_dest"], "message traces"),
    later(&["accounts.cluster_traffic"], "clusters"),
    later(&["authorization.auth_callout", "authorization.auth_hook"], "authentication by callout"),
    later(&["authorization.proxy_required", "proxies", "proxy_protocol"], "proxies"),
    later(&["mappings", "maps"], "subject mappings"),
    later(&["gateway", "connect_error_reports", "reconnect_error_reports"], "gateways"),
    later(&["cluster.authorization.users", "cluster.authorization.token"], "more than one user for servers"),
    later(&["cluster.write_deadline", "cluster.write_timeout"], "write deadlines for servers of their own"),
    later(
        &["leafnodes.write_deadline", "leafnodes.write_timeout", "leafnodes.jetstream"],
        "these for leafnodes",
    ),
    later(&["leafnodes.authorization.token"], "tokens for leafnodes"),
    later(&["jetstream", "default_js_domain"], "JetStream"),
    later(&["prof_port", "prof_block_rate"], "profiling"),
    later(&["ocsp", "ocsp_cache"], "OCSP"),
    later(&["write_timeout"], "another policy for write deadlines"),
    later(
        &[
            "operator",
            "operators",
            "roots",
            "root",
            "root_operators",
            "root_operator",
            "trusted",
            "trusted_keys",
        ],
        "operators and JWTs",
    ),
    later(
        &[
            "resolver",
            "account_resolver",
            "accounts_resolver",
            "resolver_tls",
            "resolver_preload",
            "resolver_pinned_accounts",
        ],
        "operators and JWTs",
    ),
    later(&["mqtt"], "MQTT"),
    later(&["server_tags", "server_metadata", "feature_flags"], "tags and feature flags"),
    later(&["trace_headers"], "traces of headers alone"),
    later(&["disable_sublist_cache", "no_sublist_cache"], "running without the match cache"),
];

/// Flags that nats-server knows and that are refused by name.
pub static UNSUPPORTED_FLAGS: &[Later] = &[
    later(&["js", "jetstream"], "JetStream"),
    later(&["help_tls"], "a page about TLS: see the options' documentation"),
    later(&["profile"], "profiling"),
];
