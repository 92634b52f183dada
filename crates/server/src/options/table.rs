//! The table.

use std::time::Duration;

use super::backend::BACKEND;
use super::cluster::CLUSTER;
use super::faults::Faults;
use super::leafnodes::LEAFNODES;
use super::mesh::MESH;
use super::websocket::WEBSOCKET;
use super::{Address, Given, Options, Secret, TlsOptions, people, tls};

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
    pub set: Setter,
    /// What it is now, for those that cannot change while the server runs.
    pub show: Option<fn(&Options) -> String>,
}

/// How an option is set.
#[derive(Debug)]
pub enum Setter {
    /// By a value.
    Value(fn(&mut Options, &Given<'_>) -> Result<(), Faults>),
    /// By a `tls` block; where it is kept.
    Tls(fn(&mut Options) -> &mut Option<TlsOptions>),
}

/// What a reload does with a change of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It takes effect.
    Live,
    /// It is refused: the server must be started anew.
    Restart,
}

pub(super) const fn spec(
    keys: &'static [&'static str],
    doc: &'static str,
    default: &'static str,
    example: &'static str,
    set: fn(&mut Options, &Given<'_>) -> Result<(), Faults>,
) -> OptionSpec {
    let set = Setter::Value(set);
    OptionSpec { keys, flags: &[], value: "", doc, default, example, reload: Reload::Live, set, show: None }
}

/// A `tls` block.
pub(super) const fn tls_block(
    keys: &'static [&'static str],
    doc: &'static str,
    place: fn(&mut Options) -> &mut Option<TlsOptions>,
) -> OptionSpec {
    let example = "{cert_file: \"server.pem\", key_file: \"server-key.pem\"}";
    let set = Setter::Tls(place);
    OptionSpec {
        keys,
        flags: &[],
        value: "",
        doc,
        default: "none",
        example,
        reload: Reload::Live,
        set,
        show: None,
    }
}

impl OptionSpec {
    pub(super) const fn flag(mut self, flags: &'static [&'static str], value: &'static str) -> Self {
        self.flags = flags;
        self.value = value;
        self
    }

    /// Marks what cannot change while the server runs, and says how to see whether it would.
    pub(super) const fn restart(mut self, show: fn(&Options) -> String) -> Self {
        self.reload = Reload::Restart;
        self.show = Some(show);
        self
    }

    /// Sets the option.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn apply(&self, options: &mut Options, given: &Given<'_>) -> Result<(), Faults> {
        match self.set {
            Setter::Value(set) => set(options, given),
            Setter::Tls(place) => match given {
                Given::Key(midge_conf::Value::Map(map)) => {
                    tls::apply(place(options).get_or_insert_default(), map)
                }
                _ => Err(given.wrong("a block").into()),
            },
        }
    }

    /// Whether the flag stands alone.
    #[must_use]
    pub const fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

pub(super) fn put<T>(place: &mut T, value: Result<T, impl Into<Faults>>) -> Result<(), Faults> {
    *place = value.map_err(Into::into)?;
    Ok(())
}

/// A name or secret; an empty one is none, as in nats-server.
pub(super) fn said(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
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
pub fn table() -> impl Iterator<Item = &'static OptionSpec> {
    TABLE.iter().chain(CLUSTER).chain(LEAFNODES).chain(MESH).chain(BACKEND).chain(WEBSOCKET)
}

static TABLE: &[OptionSpec] = &[
    // Where to listen, and who this is.
    spec(&["host", "net"], "Address to listen on for clients.", "0.0.0.0", "\"127.0.0.1\"", |o, v| {
        put(&mut o.listen.host, v.text())
    })
    .flag(&["a", "addr", "net"], "host")
    .restart(|o| o.listen.host.clone()),
    spec(&["port"], "Port for clients; -1 for any that is free.", "4222", "4222", |o, v| {
        put(&mut o.listen.port, v.port(4222))
    })
    .flag(&["p", "port"], "port")
    .restart(|o| o.listen.port.to_string()),
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
    .restart(|o| format!("{}:{}", o.listen.host, o.listen.port)),
    spec(&["server_name"], "Name of this server.", "its id", "\"n1\"", |o, v| {
        put(&mut o.name, v.text().map(Some))
    })
    .flag(&["n", "name", "server_name"], "name")
    .restart(|o| format!("{:?}", o.name)),
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
                Err(why) => return Err(why.into()),
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
    .restart(|o| o.shards.to_string()),
    spec(
        &["store_dir", "storedir"],
        "Folder for stored data. Nothing is stored without JetStream.",
        "none",
        "\"/tmp/midge\"",
        |o, v| put(&mut o.files.store_dir, v.text().map(|path| Some(path.into()))),
    )
    .flag(&["sd", "store_dir"], "dir")
    .restart(|o| format!("{:?}", o.files.store_dir)),
    // Monitoring.
    spec(
        &["http_port", "monitor_port"],
        "Port for monitoring over HTTP; -1 for any that is free.",
        "none",
        "8222",
        |o, v| {
            if v.int()? == 0 {
                o.monitor.http = None;
                return Ok(());
            }
            let host = o.monitor.http.take().and_then(|monitor| monitor.host);
            put(&mut o.monitor.http, v.port(0).map(|port| Some(Address { host, port })))
        },
    )
    .flag(&["m", "http_port"], "port")
    .restart(|o| format!("{:?}", o.monitor.http)),
    spec(
        &["http"],
        "Address and port, or only the port, for monitoring over HTTP.",
        "none",
        "\"127.0.0.1:8222\"",
        |o, v| put(&mut o.monitor.http, v.address(8222).map(Some)),
    )
    .restart(|o| format!("{:?}", o.monitor.http)),
    spec(
        &["https_port"],
        "Port for monitoring over HTTPS, with the certificate of the tls block; -1 for any that is free.",
        "none",
        "8443",
        |o, v| {
            if v.int()? == 0 {
                o.monitor.https = None;
                return Ok(());
            }
            let host = o.monitor.https.take().and_then(|monitor| monitor.host);
            put(&mut o.monitor.https, v.port(0).map(|port| Some(Address { host, port })))
        },
    )
    .flag(&["ms", "https_port"], "port")
    .restart(|o| format!("{:?}", o.monitor.https)),
    spec(
        &["https"],
        "Address and port, or only the port, for monitoring over HTTPS.",
        "none",
        "\"127.0.0.1:8443\"",
        |o, v| put(&mut o.monitor.https, v.address(8443).map(Some)),
    )
    .restart(|o| format!("{:?}", o.monitor.https)),
    spec(&["http_base_path"], "Path that monitoring is below.", "/", "\"/nats\"", |o, v| {
        put(&mut o.monitor.base_path, v.text().map(|path| path.trim_matches('/').to_owned()))
    })
    .restart(|o| o.monitor.base_path.clone()),
    // Logging.
    spec(&["log_file", "logfile"], "File to log to.", "standard error", "\"/tmp/midged.log\"", |o, v| {
        put(&mut o.log.file, v.text().map(|path| Some(path.into())))
    })
    .flag(&["l", "log"], "file"),
    spec(&["syslog"], "Log to the system's log, unless there is a log file.", "false", "true", |o, v| {
        put(&mut o.log.syslog, v.boolean())
    })
    .flag(&["s", "syslog"], ""),
    spec(
        &["remote_syslog"],
        "Syslog to log to, unless there is a log file: udp://, tcp://, unix:// or unixgram://.",
        "none",
        "\"udp://127.0.0.1:514\"",
        |o, v| put(&mut o.log.remote_syslog, v.text().map(Some)),
    )
    .flag(&["r", "remote_syslog"], "url"),
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
        |o, v| put(&mut o.auth.user, v.text().map(said)),
    )
    .flag(&["user"], "user"),
    spec(
        &["authorization.password", "authorization.pass"],
        "Password of that user.",
        "none",
        "\"s3cret\"",
        |o, v| put(&mut o.auth.password, v.text().map(|text| Some(Secret::new(text)))),
    )
    .flag(&["pass"], "password"),
    spec(&["authorization.token"], "Token that clients must show.", "none", "\"t0ken\"", |o, v| {
        put(&mut o.auth.token, v.text().map(|text| said(text).map(Secret::new)))
    })
    .flag(&["auth"], "token"),
    spec(
        &["authorization.users"],
        "Users of the global account, each with user and password or with nkey, permissions and connection_types.",
        "none",
        "[{user: \"a\", password: \"b\", permissions: {publish: \"a.>\", subscribe: {deny: \"b\"}}}]",
        |o, v| put(&mut o.auth.users, people::users(v).map(Some)),
    ),
    spec(
        &[
            "authorization.default_permissions",
            "authorization.default_permission",
            "authorization.permissions",
        ],
        "What those users may do of whom nothing else is said.",
        "everything",
        "{publish: \"a.>\", allow_responses: {max: 2, expires: \"1m\"}}",
        |o, v| put(&mut o.auth.default_permissions, people::permissions(v).map(Some)),
    ),
    spec(
        &["authorization.timeout"],
        "Time in which clients must show it; one second more than TLS's, where there is TLS.",
        "2s",
        "2.5",
        |o, v| put(&mut o.auth.timeout, v.seconds().map(Some)),
    ),
    spec(
        &["no_auth_user"],
        "User or nkey that somebody is who shows nothing.",
        "none",
        "\"guest\"",
        |o, v| put(&mut o.auth.no_auth_user, v.text().map(said)),
    ),
    spec(
        &["accounts"],
        "Accounts: names, or blocks with users, default_permissions and limits (max_connections, max_subscriptions, max_payload).",
        "only the global one",
        "{A: {users: [{user: \"a\", password: \"b\"}], limits: {max_connections: 10}}}",
        |o, v| put(&mut o.accounts.list, people::accounts(v)),
    ),
    spec(
        &["system_account", "system"],
        "Account for the server's own services.",
        "$SYS",
        "\"SYS\"",
        |o, v| put(&mut o.accounts.system, v.text().map(Some)),
    )
    .restart(|o| format!("{:?}", o.accounts.system)),
    spec(
        &["no_system_account", "no_system", "no_sys_acc"],
        "Offer no services and events in a system account.",
        "false",
        "true",
        |o, v| put(&mut o.accounts.no_system, v.boolean()),
    )
    .restart(|o| o.accounts.no_system.to_string()),
    // TLS.
    tls_block(&["tls"], "TLS for clients.", |o| &mut o.tls.block),
    spec(&["allow_non_tls"], "Let clients do without TLS, too.", "false", "true", |o, v| {
        put(&mut o.tls.allow_plain, v.boolean())
    }),
    spec(&[], "Speak TLS with clients.", "false", "true", |o, v| {
        if v.boolean()? {
            o.tls.block.get_or_insert_default();
        } else {
            o.tls.block = None;
        }
        Ok(())
    })
    .flag(&["tls"], ""),
    spec(&[], "File with the server's certificate chain (PEM).", "none", "\"server.pem\"", |o, v| {
        put(
            &mut o.tls.block.get_or_insert_default().first_certificate().certificate,
            v.text().map(Into::into),
        )
    })
    .flag(&["tlscert"], "file"),
    spec(&[], "File with its private key (PEM).", "none", "\"server-key.pem\"", |o, v| {
        put(&mut o.tls.block.get_or_insert_default().first_certificate().key, v.text().map(Into::into))
    })
    .flag(&["tlskey"], "file"),
    spec(&[], "Speak TLS, and ask clients for a certificate.", "false", "true", |o, v| {
        put(&mut o.tls.block.get_or_insert_default().verify, v.boolean())
    })
    .flag(&["tlsverify"], ""),
    spec(&[], "File with the authorities of clients' certificates (PEM).", "none", "\"ca.pem\"", |o, v| {
        put(&mut o.tls.block.get_or_insert_default().ca_file, v.text().map(|path| Some(path.into())))
    })
    .flag(&["tlscacert"], "file"),
    // Limits.
    spec(
        &["max_connections", "max_conn"],
        "Most client connections; with 0, nobody is let in.",
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
        put(&mut o.monitor.max_closed_clients, v.size())
    })
    .restart(|o| o.monitor.max_closed_clients.to_string()),
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
    .restart(|o| o.limits.headers.to_string()),
    // Leaving.
    spec(
        &["lame_duck_duration"],
        "Time over which clients are closed in lame duck mode; at least 30s.",
        "2m",
        "\"60s\"",
        |o, v| {
            let time = v.duration()?;
            if time < Duration::from_secs(30) {
                return Err(format!("invalid lame_duck_duration of {time:?}, minimum is 30 seconds").into());
            }
            o.lame_duck.duration = time;
            Ok(())
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
