//! The table.

use std::time::Duration;

use super::{Address, Given, Options};

/// One thing that can be set.
#[derive(Debug)]
#[non_exhaustive]
pub struct OptionSpec {
    /// Its names in a configuration file, the usual one first; a dot stands for a block.
    pub keys: &'static [&'static str],
    /// Its names on the command line, the short one first.
    pub flags: &'static [&'static str],
    /// What the flag's value is called in the help; empty for a switch.
    pub value: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// What holds when nothing is said.
    pub default: &'static str,
    /// A value, as a file writes it.
    pub example: &'static str,
    /// What a reload does with a change.
    pub reload: Reload,
    /// Sets it.
    pub set: fn(&mut Options, &Given<'_>) -> Result<(), String>,
}

/// What a reload does with a change of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It takes effect.
    Live,
    /// It is refused: the server must be started anew.
    Restart,
}

/// A name that nats-server knows and that stands for something not built yet.
#[derive(Debug, Clone, Copy)]
pub struct Later {
    /// The names.
    pub names: &'static [&'static str],
    /// What they stand for.
    pub what: &'static str,
}

const fn spec(
    keys: &'static [&'static str],
    doc: &'static str,
    default: &'static str,
    example: &'static str,
    set: fn(&mut Options, &Given<'_>) -> Result<(), String>,
) -> OptionSpec {
    OptionSpec { keys, flags: &[], value: "", doc, default, example, reload: Reload::Live, set }
}

impl OptionSpec {
    const fn flag(mut self, flags: &'static [&'static str], value: &'static str) -> Self {
        self.flags = flags;
        self.value = value;
        self
    }

    const fn restart(mut self) -> Self {
        self.reload = Reload::Restart;
        self
    }

    /// Whether the flag stands alone.
    #[must_use]
    pub const fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// Zero and less mean that there is no limit.
fn limit(given: &Given<'_>) -> Result<usize, String> {
    Ok(usize::try_from(given.int()?).unwrap_or(0))
}

fn positive(given: &Given<'_>) -> Result<Duration, String> {
    let time = given.duration()?;
    if time.is_zero() { Err("expected a time above zero".to_owned()) } else { Ok(time) }
}

/// All that can be set, in the order in which the help shows it.
pub static TABLE: &[OptionSpec] = &[
    // Where to listen, and who this is.
    spec(&["host", "net"], "Address to listen on for clients.", "0.0.0.0", "\"127.0.0.1\"", |o, v| {
        put(&mut o.listen.host, v.text())
    })
    .flag(&["a", "addr", "net"], "host")
    .restart(),
    spec(&["port"], "Port for clients; -1 for any that is free.", "4222", "4222", |o, v| {
        put(&mut o.listen.port, v.port(4222))
    })
    .flag(&["p", "port"], "port")
    .restart(),
    spec(
        &["listen"],
        "Address and port, or only the port, to listen on for clients.",
        "0.0.0.0:4222",
        "\"127.0.0.1:4222\"",
        |o, v| {
            let Address { host, port } = v.address(4222)?;
            o.listen.host = host.unwrap_or_else(|| "0.0.0.0".to_owned());
            o.listen.port = port;
            Ok(())
        },
    )
    .restart(),
    spec(&["server_name"], "Name of this server.", "its id", "\"n1\"", |o, v| {
        put(&mut o.name, v.text().map(Some))
    })
    .flag(&["n", "name", "server_name"], "name")
    .restart(),
    spec(
        &["client_advertise"],
        "Address that clients are told to connect to.",
        "the listen address",
        "\"nats.example.com:4222\"",
        |o, v| {
            let text = v.text()?;
            let port = o.listen.port;
            let address = match v.address(port) {
                Ok(address) => address,
                // A host alone stands for the client port.
                Err(_) if !text.contains(':') => Address { host: Some(text), port },
                Err(why) => return Err(why),
            };
            o.listen.advertise = Some(address);
            Ok(())
        },
    )
    .flag(&["client_advertise"], "address"),
    spec(
        &["pid_file", "pidfile"],
        "File to write the process number to.",
        "none",
        "\"/tmp/midged.pid\"",
        |o, v| put(&mut o.files.pid, v.text().map(|path| Some(path.into()))),
    )
    .flag(&["P", "pid"], "file"),
    spec(
        &["ports_file_dir"],
        "Folder for a file that names all ports: `midged_<pid>.ports`.",
        "none",
        "\"/tmp\"",
        |o, v| put(&mut o.files.ports_dir, v.text().map(|path| Some(path.into()))),
    )
    .flag(&["ports_file_dir"], "dir"),
    spec(
        &["shards"],
        "Threads that move messages; 0 for one for each processor. Not known to nats-server.",
        "0",
        "2",
        |o, v| put(&mut o.shards, v.within(0, 1024).map(|n| n as usize)),
    )
    .restart(),
    spec(
        &["store_dir", "storedir"],
        "Folder for stored data. Nothing is stored without JetStream.",
        "none",
        "\"/tmp/midge\"",
        |o, v| put(&mut o.store_dir, v.text().map(|path| Some(path.into()))),
    )
    .flag(&["sd", "store_dir"], "dir")
    .restart(),
    // Monitoring.
    spec(
        &["http_port", "monitor_port"],
        "Port for monitoring over HTTP; -1 for any that is free.",
        "none",
        "8222",
        |o, v| {
            if v.int()? == 0 {
                o.monitor = None;
                return Ok(());
            }
            let host = o.monitor.take().and_then(|monitor| monitor.host);
            put(&mut o.monitor, v.port(0).map(|port| Some(Address { host, port })))
        },
    )
    .flag(&["m", "http_port"], "port")
    .restart(),
    spec(
        &["http"],
        "Address and port, or only the port, for monitoring over HTTP.",
        "none",
        "\"127.0.0.1:8222\"",
        |o, v| put(&mut o.monitor, v.address(8222).map(Some)),
    )
    .restart(),
    // Logging.
    spec(&["log_file", "logfile"], "File to log to.", "standard error", "\"/tmp/midged.log\"", |o, v| {
        put(&mut o.log.file, v.text().map(|path| Some(path.into())))
    })
    .flag(&["l", "log"], "file")
    .restart(),
    spec(&["logtime"], "Begin each line with the time.", "true", "true", |o, v| {
        put(&mut o.log.time, v.boolean())
    })
    .flag(&["T", "logtime"], ""),
    spec(&["logtime_utc"], "Write times as UTC.", "false", "true", |o, v| put(&mut o.log.utc, v.boolean()))
        .flag(&["logtime_utc"], ""),
    spec(&["debug"], "Log what helps to find faults.", "false", "true", |o, v| {
        put(&mut o.log.debug, v.boolean())
    })
    .flag(&["D", "debug"], ""),
    spec(&["trace"], "Log every protocol line.", "false", "true", |o, v| put(&mut o.log.trace, v.boolean()))
        .flag(&["V", "trace"], ""),
    spec(
        &["trace_verbose"],
        "Log every protocol line, those of the system account included.",
        "false",
        "true",
        |o, v| put(&mut o.log.trace, v.boolean()),
    )
    .flag(&["VV"], ""),
    spec(&[], "Debug and trace.", "false", "true", |o, v| {
        put(&mut o.log.debug, v.boolean())?;
        put(&mut o.log.trace, v.boolean())
    })
    .flag(&["DV", "DVV"], ""),
    spec(
        &["log_size_limit", "logfile_size_limit"],
        "Bytes after which the log file is put aside and a new one begun; 0 for never.",
        "0",
        "10MB",
        |o, v| put(&mut o.log.size_limit, v.size().map(|n| n as u64)),
    )
    .flag(&["log_size_limit"], "limit"),
    spec(
        &["logfile_max_num", "log_max_num"],
        "Log files to keep, the current one included; 0 for all.",
        "0",
        "5",
        |o, v| put(&mut o.log.max_files, v.size()),
    ),
    spec(
        &["max_traced_msg_len"],
        "Most bytes of a payload that a trace shows; 0 for all.",
        "0",
        "128",
        |o, v| put(&mut o.log.max_traced, v.size()),
    )
    .flag(&["max_traced_msg_len"], "len"),
    // Who may connect.
    spec(
        &["authorization.user", "authorization.username"],
        "User that clients must be.",
        "none",
        "\"alice\"",
        |o, v| put(&mut o.auth.user, v.text().map(Some)),
    )
    .flag(&["user"], "user"),
    spec(
        &["authorization.password", "authorization.pass"],
        "Password of that user.",
        "none",
        "\"s3cret\"",
        |o, v| put(&mut o.auth.password, v.text().map(Some)),
    )
    .flag(&["pass"], "password"),
    spec(&["authorization.token"], "Token that clients must show.", "none", "\"t0ken\"", |o, v| {
        put(&mut o.auth.token, v.text().map(Some))
    })
    .flag(&["auth"], "token"),
    spec(&["authorization.timeout"], "Time in which clients must show it.", "2s", "2.5", |o, v| {
        put(&mut o.limits.auth_timeout, v.seconds())
    }),
    // Limits.
    spec(
        &["max_connections", "max_conn"],
        "Most client connections; 0 for any number.",
        "65536",
        "1000",
        |o, v| put(&mut o.limits.max_connections, limit(v)),
    ),
    spec(
        &["max_subscriptions", "max_subs"],
        "Most subscriptions of one connection; 0 for any number.",
        "0",
        "1000",
        |o, v| put(&mut o.limits.max_subscriptions, limit(v)),
    ),
    spec(
        &["max_subscription_tokens", "max_sub_tokens"],
        "Most tokens in a subscription's subject.",
        "any number",
        "16",
        |o, v| put(&mut o.limits.max_subscription_tokens, v.within(1, 255).map(|n| n as usize)),
    ),
    spec(&["max_control_line"], "Most bytes of a protocol line's arguments.", "4KB", "4KB", |o, v| {
        put(&mut o.limits.max_control_line, v.within(1, i64::from(i32::MAX)).map(|n| n as usize))
    }),
    spec(&["max_payload"], "Most bytes of a message.", "1MB", "1MB", |o, v| {
        put(&mut o.limits.max_payload, v.within(1, i64::from(i32::MAX)).map(|n| n as usize))
    }),
    spec(&["max_pending"], "Most bytes that may wait for one connection.", "64MB", "64MB", |o, v| {
        put(&mut o.limits.max_pending, v.within(1, i64::MAX).map(|n| n as usize))
    }),
    spec(&["max_closed_clients"], "Ended connections that monitoring remembers.", "10000", "1000", |o, v| {
        put(&mut o.max_closed_clients, v.size())
    })
    .restart(),
    spec(&["ping_interval"], "Time between PINGs.", "2m", "\"30s\"", |o, v| {
        put(&mut o.limits.ping_interval, positive(v))
    }),
    spec(&["ping_max"], "PINGs that may stay unanswered.", "2", "3", |o, v| {
        put(&mut o.limits.max_pings_out, v.within(1, i64::from(u32::MAX)).map(|n| n as u32))
    }),
    spec(
        &["write_deadline"],
        "Time in which a client must take what is sent to it.",
        "10s",
        "\"5s\"",
        |o, v| put(&mut o.limits.write_deadline, positive(v)),
    ),
    spec(
        &["no_fast_producer_stall"],
        "Drop messages for a client that cannot keep up instead of holding publishers back.",
        "false",
        "true",
        |o, v| put(&mut o.limits.no_fast_producer_stall, v.boolean()),
    ),
    spec(&["no_header_support"], "Take no messages with headers.", "false", "true", |o, v| {
        put(&mut o.limits.headers, v.boolean().map(|off| !off))
    })
    .restart(),
    // Leaving.
    spec(
        &["lame_duck_duration"],
        "Time over which clients are closed in lame duck mode; at least 30s.",
        "2m",
        "\"60s\"",
        |o, v| {
            let time = v.duration()?;
            if time < Duration::from_secs(30) {
                return Err(format!("invalid lame_duck_duration of {time:?}, minimum is 30 seconds"));
            }
            put(&mut o.lame_duck.duration, Ok(time))
        },
    ),
    spec(
        &["lame_duck_grace_period"],
        "Time before the first client is closed in lame duck mode.",
        "10s",
        "\"5s\"",
        |o, v| put(&mut o.lame_duck.grace, v.duration()),
    ),
];

const fn later(names: &'static [&'static str], what: &'static str) -> Later {
    Later { names, what }
}

/// Keys that nats-server knows and that are refused by name.
pub static UNSUPPORTED_KEYS: &[Later] = &[
    later(
        &[
            "accounts",
            "no_auth_user",
            "system_account",
            "system",
            "no_system_account",
            "no_system",
            "no_sys_acc",
            "default_sentinel",
        ],
        "accounts",
    ),
    later(
        &[
            "authorization.users",
            "authorization.default_permission",
            "authorization.default_permissions",
            "authorization.permissions",
        ],
        "several users and permissions",
    ),
    later(&["authorization.auth_callout", "authorization.auth_hook"], "authentication by callout"),
    later(&["authorization.proxy_required", "proxies", "proxy_protocol"], "proxies"),
    later(&["mappings", "maps"], "subject mappings"),
    later(&["https", "https_port", "http_base_path"], "monitoring over HTTPS and below a path"),
    later(&["cluster", "gateway", "connect_error_reports", "reconnect_error_reports"], "clusters"),
    later(&["leafnodes", "leaf"], "leafnodes"),
    later(&["jetstream", "default_js_domain"], "JetStream"),
    later(&["syslog", "remote_syslog"], "logging to syslog"),
    later(&["prof_port", "prof_block_rate"], "profiling"),
    later(&["tls", "allow_non_tls", "ocsp", "ocsp_cache"], "TLS"),
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
    later(&["websocket", "ws"], "WebSocket"),
    later(&["mqtt"], "MQTT"),
    later(&["server_tags", "server_metadata", "feature_flags"], "tags and feature flags"),
    later(&["trace_headers"], "traces of headers alone"),
    later(&["disable_sublist_cache", "no_sublist_cache"], "running without the match cache"),
];

/// Flags that nats-server knows and that are refused by name.
pub static UNSUPPORTED_FLAGS: &[Later] = &[
    later(&["ms", "https_port"], "monitoring over HTTPS"),
    later(&["s", "syslog", "r", "remote_syslog"], "logging to syslog"),
    later(&["js", "jetstream"], "JetStream"),
    later(&["tls", "tlscert", "tlskey", "tlsverify", "tlscacert", "help_tls"], "TLS"),
    later(
        &[
            "routes",
            "cluster",
            "cluster_name",
            "no_advertise",
            "cluster_advertise",
            "connect_retries",
            "cluster_listen",
        ],
        "clusters",
    ),
    later(&["profile"], "profiling"),
];
