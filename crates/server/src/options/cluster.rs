//! The `cluster` block, and the flags that stand for it.
//!
//! Keys are nats-server 2.15's (`server/opts.go`, `parseCluster`), checks those of its `validateCluster`.

use std::time::Duration;

use axum::http::Uri;
use midge_conf::Value;
use midge_router::SubjectRules;
use percent_encoding::percent_decode_str;

use super::compression::compression;
use super::faults::Faults;
use super::table::{OptionSpec, put, said, spec, tls_block};
use super::{Address, Compression, Given, OptionsError, Secret, TlsOptions, people};

/// nats-server's default for the port of routes, in all its examples.
const PORT: u16 = 6222;
/// nats-server's default for `cluster.pool_size`.
const POOL_SIZE: u32 = 3;

/// How the server is a member of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterOptions {
    /// The cluster's name; without one it is made up, and gives way to another member's.
    pub name: Option<String>,
    /// Name or IP address to listen on for routes; `None` for all.
    pub host: Option<String>,
    /// The port for routes, zero for any that is free; `None` for no cluster.
    pub port: Option<u16>,
    /// The address that other servers are told, if another.
    pub advertise: Option<Address>,
    /// Whether clients are told nothing of other servers.
    pub no_advertise: bool,
    /// Servers that are connected to.
    pub routes: Vec<ServerUrl>,
    /// How often a server is tried again that another one has told of.
    pub connect_retries: u32,
    /// Whether longer is waited with each attempt.
    pub connect_backoff: bool,
    /// What other servers must show.
    pub auth: ClusterAuth,
    /// What this server lets others know that it wants; `None` is everything.
    pub import: Option<SubjectRules>,
    /// What it takes others to want; `None` is everything.
    pub export: Option<SubjectRules>,
    /// Connections to each other server; zero for one that serves everything.
    pub pool_size: u32,
    /// Accounts that have a connection of their own to each other server.
    pub accounts: Vec<String>,
    /// Time between PINGs to other servers; `None` is as for clients.
    pub ping_interval: Option<Duration>,
    /// How what goes between servers is compressed.
    pub compression: Compression,
    /// How TLS is spoken between servers, if at all.
    pub tls: Option<TlsOptions>,
}

/// What other servers must show, and this one shows those of which it was told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterAuth {
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Time in which to show it.
    pub timeout: Option<Duration>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name: None,
            host: None,
            port: None,
            advertise: None,
            no_advertise: false,
            routes: Vec::new(),
            connect_retries: 0,
            connect_backoff: false,
            auth: ClusterAuth::default(),
            import: None,
            export: None,
            pool_size: POOL_SIZE,
            accounts: Vec::new(),
            ping_interval: None,
            compression: Compression::Off,
            tls: None,
        }
    }
}

/// Where another server is, and who one is to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// What stands before `://`, such as `nats-route`.
    pub scheme: String,
    /// Name or IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, without a slash at its end; empty for none.
    pub path: String,
    /// The user, if one is named.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<Secret>,
}

impl ServerUrl {
    /// Reads `scheme://user:password@host:port`; a missing port is `port`.
    pub(crate) fn parse(text: &str, port: u16) -> Result<Self, String> {
        // What is wrong is not quoted: there may be a password in it.
        let wrong = || "expected a URL like \"nats-route://user:password@host:6222\"".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(wrong());
        }
        let plain = |text: &str| percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| wrong());
        let said = authority.as_str().rsplit_once('@').map(|(said, _)| said);
        let (user, password): (Option<String>, Option<String>) = match said.map(|said| said.split_once(':')) {
            None => (None, None),
            Some(Some((user, password))) => (Some(plain(user)?), Some(plain(password)?)),
            Some(None) => (said.map(plain).transpose()?, None),
        };
        // An invalid port would be taken for none.
        let place = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, place)| place);
        if authority.port_u16().is_none() && place.len() > authority.host().len() {
            return Err(wrong());
        }
        Ok(Self {
            scheme: scheme.to_lowercase(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            path: uri.path().trim_end_matches('/').to_owned(),
            user,
            password: password.map(Secret::new),
        })
    }

    /// Whether it is one of WebSocket.
    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self.scheme.as_str(), "ws" | "wss")
    }

    /// The address, and who one is there, so that a change shows.
    pub(crate) fn marked(&self) -> String {
        let user = self.user.as_deref().unwrap_or_default();
        let password = self.password.as_ref().map(Secret::mark).unwrap_or_default();
        format!("{}://{user}:{password}@{}{}", self.scheme, self.address(), self.path)
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl ClusterOptions {
    /// Whether the server is a member of a cluster.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.port.is_some()
    }

    /// The address that is listened on for routes.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("0.0.0.0")
    }

    pub(super) fn check(&self) -> Result<(), OptionsError> {
        if !self.is_on() && !self.routes.is_empty() {
            return Err(OptionsError::RoutesWithoutCluster);
        }
        match self.name.as_deref() {
            Some(name) if name.contains(char::is_whitespace) => return Err(OptionsError::ClusterName),
            Some("_") => return Err(OptionsError::ReservedCluster),
            _ => {}
        }
        if self.auth.user.is_some() != self.auth.password.is_some() {
            return Err(OptionsError::HalfClusterUser);
        }
        if self.tls.as_ref().is_some_and(|tls| tls.map) {
            return Err(OptionsError::MapsServers("cluster"));
        }
        if self.pool_size == 0 && !self.accounts.is_empty() {
            return Err(OptionsError::DedicatedWithoutPool);
        }
        Ok(())
    }
}

/// What can stand in the block.
pub(super) static CLUSTER: &[OptionSpec] = &[
    spec(
        &["cluster.name"],
        "Name of the cluster; without one, a name is made up that gives way to another member's.",
        "made up",
        "\"east\"",
        |o, v| put(&mut o.cluster.name, v.text().map(said)),
    )
    .flag(&["cluster_name"], "name")
    .restart(|o| format!("{:?}", o.cluster.name)),
    spec(
        &["cluster.listen"],
        "Address and port, or only the port, to listen on for other servers; the flag takes a URL, with the user and password that they must be.",
        "none",
        "\"127.0.0.1:6222\"",
        |o, v| listen(&mut o.cluster, v),
    )
    .flag(&["cluster", "cluster_listen"], "url")
    .restart(|o| format!("{:?}:{:?}", o.cluster.host, o.cluster.port)),
    spec(
        &["cluster.port"],
        "Port for other servers; -1 for any that is free.",
        "none",
        "6222",
        |o, v| {
            let port = v.within(-1, 65_535)?;
            o.cluster.port = (port != 0).then(|| u16::try_from(port).unwrap_or(0));
            Ok(())
        },
    )
    .restart(|o| format!("{:?}", o.cluster.port)),
    spec(
        &["cluster.host", "cluster.net"],
        "Address to listen on for other servers.",
        "0.0.0.0",
        "\"127.0.0.1\"",
        |o, v| put(&mut o.cluster.host, v.text().map(Some)),
    )
    .restart(|o| format!("{:?}", o.cluster.host)),
    spec(
        &["cluster.cluster_advertise", "cluster.advertise"],
        "Address that other servers are told to connect to.",
        "the listen address",
        "\"n1.example.com:6222\"",
        |o, v| {
            let text = v.text()?;
            let address = match v.address(PORT) {
                Ok(address) => address,
                Err(_) if !text.contains(':') => Address { host: Some(text), port: PORT },
                Err(why) => return Err(why.into()),
            };
            o.cluster.advertise = Some(address);
            Ok(())
        },
    )
    .flag(&["cluster_advertise"], "address")
    .restart(|o| format!("{:?}", o.cluster.advertise)),
    spec(
        &["cluster.no_advertise"],
        "Tell clients nothing of other servers.",
        "false",
        "true",
        |o, v| put(&mut o.cluster.no_advertise, v.boolean()),
    )
    .flag(&["no_advertise"], "")
    .restart(|o| o.cluster.no_advertise.to_string()),
    spec(
        &["cluster.routes"],
        "Servers of the cluster to connect to.",
        "none",
        "[\"nats-route://127.0.0.1:6222\"]",
        |o, v| put(&mut o.cluster.routes, routes(v)),
    )
    .flag(&["routes"], "urls")
    .restart(|o| {
        o.cluster.routes.iter().map(ServerUrl::marked).collect::<Vec<_>>().join(",")
    }),
    spec(
        &["cluster.connect_retries"],
        "How often to try a server again that another one has told of.",
        "0",
        "5",
        |o, v| put(&mut o.cluster.connect_retries, v.within(0, i64::from(u32::MAX)).map(|n| n as u32)),
    )
    .flag(&["connect_retries"], "number")
    .restart(|o| o.cluster.connect_retries.to_string()),
    spec(
        &["cluster.connect_backoff"],
        "Wait longer with each attempt to connect to a server.",
        "false",
        "true",
        |o, v| put(&mut o.cluster.connect_backoff, v.boolean()),
    )
    .restart(|o| o.cluster.connect_backoff.to_string()),
    spec(
        &["cluster.authorization.user", "cluster.authorization.username"],
        "User that other servers must be, and that this one is to servers of which it was told.",
        "none",
        "\"route\"",
        |o, v| put(&mut o.cluster.auth.user, v.text().map(said)),
    )
    .restart(|o| format!("{:?}", o.cluster.auth.user)),
    spec(
        &["cluster.authorization.password", "cluster.authorization.pass"],
        "Password of that user.",
        "none",
        "\"s3cret\"",
        |o, v| put(&mut o.cluster.auth.password, v.text().map(|text| Some(Secret::new(text)))),
    )
    .restart(|o| o.cluster.auth.password.as_ref().map_or_else(|| "none".to_owned(), Secret::mark)),
    spec(
        &["cluster.authorization.timeout"],
        "Time in which other servers must show it.",
        "2s, or one more than TLS's",
        "2.5",
        |o, v| put(&mut o.cluster.auth.timeout, v.seconds().map(|time| (!time.is_zero()).then_some(time))),
    )
    .restart(|o| format!("{:?}", o.cluster.auth.timeout)),
    spec(
        &["cluster.permissions"],
        "What this server lets others know that it wants (import), and what it takes others to want (export).",
        "everything",
        "{import: \"a.>\", export: {deny: [\"b\"]}}",
        |o, v| {
            let rules = people::permissions(v)?;
            let some = |rules: SubjectRules| (rules != SubjectRules::default()).then_some(rules);
            (o.cluster.import, o.cluster.export) = (some(rules.publish), some(rules.subscribe));
            Ok(())
        },
    )
    .restart(|o| format!("{:?} {:?}", o.cluster.import, o.cluster.export)),
    spec(
        &["cluster.pool_size"],
        "Connections to each other server; -1 for one that serves everything.",
        "3",
        "5",
        |o, v| {
            o.cluster.pool_size = match v.within(-1, 64)? {
                -1 => 0,
                0 => POOL_SIZE,
                size => size as u32,
            };
            Ok(())
        },
    )
    .restart(|o| o.cluster.pool_size.to_string()),
    spec(
        &["cluster.accounts"],
        "Accounts that have a connection of their own to each other server.",
        "none",
        "[\"A\"]",
        |o, v| put(&mut o.cluster.accounts, texts(v, "account").map(|list| list.into_iter().map(|(t, _)| t).collect())),
    )
    .restart(|o| format!("{:?}", o.cluster.accounts)),
    spec(
        &["cluster.compression"],
        "How what goes to other servers is compressed: off, accept, s2_auto, s2_fast, s2_better, s2_best, or a block of mode and rtt_thresholds. nats-server's default is accept, which costs a copy of all that is sent and received even where nobody asks for more.",
        "off",
        "\"s2_fast\"",
        |o, v| put(&mut o.cluster.compression, compression(v, &Compression::Fast)),
    )
    .restart(|o| format!("{:?}", o.cluster.compression)),
    spec(
        &["cluster.ping_interval"],
        "Time between PINGs to other servers, 30 seconds at most.",
        "as for clients",
        "\"20s\"",
        |o, v| put(&mut o.cluster.ping_interval, v.duration().map(|time| (!time.is_zero()).then_some(time))),
    )
    .restart(|o| format!("{:?}", o.cluster.ping_interval)),
    tls_block(&["cluster.tls"], "TLS between servers; every server must show a certificate.", |o| {
        &mut o.cluster.tls
    }),
];

fn listen(cluster: &mut ClusterOptions, value: &Given<'_>) -> Result<(), Faults> {
    if let Given::Flag(text) = value
        && text.contains("://")
    {
        let url = ServerUrl::parse(&text.replace(":-1", ":0"), PORT)?;
        (cluster.host, cluster.port) = (Some(url.host), Some(url.port));
        (cluster.auth.user, cluster.auth.password) = (url.user, url.password);
        return Ok(());
    }
    let address = value.address(PORT)?;
    cluster.host = address.host.or(cluster.host.take());
    cluster.port = Some(address.port);
    Ok(())
}

/// A text, or a list of them, with the places of those of a list. A flag separates them by commas.
pub(super) fn texts(
    value: &Given<'_>,
    what: &str,
) -> Result<Vec<(String, Option<midge_conf::Span>)>, Faults> {
    match value {
        Given::Flag(text) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(words.map(|word| (word.to_owned(), None)).collect())
        }
        Given::Key(Value::Text(text)) => Ok(vec![(text.clone(), None)]),
        Given::Key(Value::List(list)) => {
            let mut faults = Faults::default();
            let texts = list.iter().filter_map(|node| {
                Some((faults.note(node.span, Given::Key(&node.value).text())?, Some(node.span)))
            });
            let texts = texts.collect();
            faults.or(texts)
        }
        Given::Key(_) => Err(value.wrong(&format!("{what} or a list of them")).into()),
    }
}

fn routes(value: &Given<'_>) -> Result<Vec<ServerUrl>, Faults> {
    let mut faults = Faults::default();
    let mut urls = Vec::new();
    for (text, at) in texts(value, "a URL")? {
        match (ServerUrl::parse(&text, PORT), at) {
            (Ok(url), _) => urls.push(url),
            (Err(why), Some(at)) => faults.add(at, why),
            (Err(why), None) => return Err(why.into()),
        }
    }
    faults.or(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_and_perhaps_a_user() {
        let url = ServerUrl::parse("nats-route://a%40b:p%3aw@[::1]:7", PORT).unwrap();
        let password = url.password.as_ref().map(Secret::reveal);
        assert_eq!((url.user.as_deref(), password), (Some("a@b"), Some("p:w")));
        assert_eq!((url.address(), url.scheme.as_str()), ("[::1]:7".to_owned(), "nats-route"));
        assert_eq!(ServerUrl::parse("nats://h", PORT).unwrap().address(), "h:6222");
        assert!(!format!("{url:?}").contains("p:w"));
        for wrong in ["", "h:1", "nats://", "nats://u:secret@:1", "nats://u:secret@h:99999"] {
            let why = ServerUrl::parse(wrong, PORT).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
