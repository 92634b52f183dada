//! The `leafnodes` block: leafnodes of this server, and hubs that it is a leafnode of.
//!
//! Keys are nats-server 2.15's (`server/opts.go`, `parseLeafNodes`, `parseRemoteLeafNodes`), checks those of its
//! `validateLeafNode`.

use std::path::PathBuf;
use std::time::Duration;

use midge_conf::{Map, Node, Value};
use midge_identity::{NkeyKind, PublicNkey};

use super::cluster::{ServerUrl, texts};
use super::compression::compression;
use super::faults::Faults;
use super::table::{OptionSpec, put, said, spec, tls_block};
use super::{Address, Compression, Given, OptionsError, Secret, TlsOptions, people, tls};

/// nats-server's default for the port of leafnodes.
const PORT: u16 = 7422;

/// How the server has leafnodes, and is one.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafnodeOptions {
    /// Name or IP address to listen on for leafnodes; `None` for all.
    pub host: Option<String>,
    /// The port for leafnodes, zero for any that is free; `None` for no listener.
    pub port: Option<u16>,
    /// The address that leafnodes are told, if another.
    pub advertise: Option<Address>,
    /// Whether leafnodes are told nothing of other servers.
    pub no_advertise: bool,
    /// What leafnodes must show.
    pub auth: LeafAuth,
    /// How TLS is spoken with leafnodes, if at all.
    pub tls: Option<TlsOptions>,
    /// The oldest version of a leafnode that is taken; `None` for any.
    pub min_version: Option<[u32; 3]>,
    /// Whether leafnodes hear nothing of each other.
    pub isolated: bool,
    /// How what goes over leafnode connections is compressed.
    pub compression: Compression,
    /// Time between attempts to connect to a hub; `None` is a second.
    pub reconnect: Option<Duration>,
    /// The hubs.
    pub remotes: Vec<LeafRemote>,
}

/// What leafnodes must show; nothing is what clients must show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeafAuth {
    /// The one user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The one key.
    pub nkey: Option<PublicNkey>,
    /// The account that those belong to of whom nothing else is said; `None` is the global one.
    pub account: Option<String>,
    /// Several users.
    pub users: Vec<LeafUser>,
    /// Time in which to show it.
    pub timeout: Option<Duration>,
}

/// Somebody who a leafnode may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafUser {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The account that it belongs to.
    pub account: Option<String>,
}

/// A hub.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LeafRemote {
    /// Where it is; any of them.
    pub urls: Vec<ServerUrl>,
    /// This server's account that is shared with it; `None` is the global one.
    pub account: Option<String>,
    /// The file with a JWT and its key.
    pub credentials: Option<PathBuf>,
    /// The seed of the key that this server is known by.
    pub nkey: Option<Secret>,
    /// How what goes to it is compressed, if not as for all.
    pub compression: Option<Compression>,
    /// How TLS is spoken with it, if not as anybody does.
    pub tls: Option<TlsOptions>,
    /// Whether this server is the hub all the same.
    pub hub: bool,
    /// What is not taken in from it.
    pub deny_imports: Vec<String>,
    /// What is not let out to it.
    pub deny_exports: Vec<String>,
    /// Whether its addresses are tried in their order.
    pub no_randomize: bool,
    /// Whether this server does not want to hear of the hub's other leafnodes.
    pub isolated: bool,
}

impl Default for LeafnodeOptions {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            advertise: None,
            no_advertise: false,
            auth: LeafAuth::default(),
            tls: None,
            min_version: None,
            isolated: false,
            compression: Compression::auto(),
            reconnect: None,
            remotes: Vec::new(),
        }
    }
}

impl LeafAuth {
    /// Whether leafnodes must show something else than clients.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.user.is_some() || self.nkey.is_some() || !self.users.is_empty()
    }

    /// The accounts that leafnodes may belong to.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &String> {
        self.account.iter().chain(self.users.iter().filter_map(|user| user.account.as_ref()))
    }
}

impl LeafnodeOptions {
    /// Whether there may be leafnodes or hubs.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.port.is_some() || !self.remotes.is_empty()
    }

    /// The address that is listened on for leafnodes.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("0.0.0.0")
    }

    pub(super) fn check(&self, known: impl Fn(&str) -> bool) -> Result<(), OptionsError> {
        let LeafAuth { user, password, users, .. } = &self.auth;
        if user.is_some() != password.is_some() {
            return Err(OptionsError::HalfLeafUser);
        }
        let tls = self.tls.iter().chain(self.remotes.iter().filter_map(|remote| remote.tls.as_ref()));
        if tls.into_iter().any(|tls| tls.map) {
            return Err(OptionsError::MapsServers("leafnodes"));
        }
        let by_websocket = |remote: &LeafRemote| remote.urls.iter().filter(|url| url.is_websocket()).count();
        if self.remotes.iter().any(|remote| ![0, remote.urls.len()].contains(&by_websocket(remote))) {
            return Err(OptionsError::MixedHub);
        }
        if user.is_some() && !users.is_empty() {
            return Err(OptionsError::LeafUserAndUsers);
        }
        let shared = self.remotes.iter().filter_map(|remote| remote.account.as_ref());
        if let Some(nobody) = self.auth.accounts().chain(shared).find(|name| !known(name)) {
            return Err(OptionsError::LeafAccount(nobody.clone()));
        }
        if self.remotes.iter().any(|remote| remote.credentials.is_some() && remote.nkey.is_some()) {
            return Err(OptionsError::LeafCredentialsAndNkey);
        }
        Ok(())
    }
}

/// What can stand in the block.
pub(super) static LEAFNODES: &[OptionSpec] = &[
    spec(
        &["leafnodes.listen", "leaf.listen"],
        "Address and port, or only the port, to listen on for leafnodes.",
        "none",
        "\"127.0.0.1:7422\"",
        |o, v| {
            let address = v.address(PORT)?;
            o.leafnodes.host = address.host.or(o.leafnodes.host.take());
            o.leafnodes.port = Some(address.port);
            Ok(())
        },
    )
    .restart(|o| format!("{:?}:{:?}", o.leafnodes.host, o.leafnodes.port)),
    spec(
        &["leafnodes.port", "leaf.port"],
        "Port for leafnodes; -1 for any that is free.",
        "none",
        "7422",
        |o, v| {
            let port = v.within(-1, 65_535)?;
            o.leafnodes.port = (port != 0).then(|| u16::try_from(port).unwrap_or(0));
            Ok(())
        },
    )
    .restart(|o| format!("{:?}", o.leafnodes.port)),
    spec(
        &["leafnodes.host", "leafnodes.net", "leaf.host", "leaf.net"],
        "Address to listen on for leafnodes.",
        "0.0.0.0",
        "\"127.0.0.1\"",
        |o, v| put(&mut o.leafnodes.host, v.text().map(Some)),
    )
    .restart(|o| format!("{:?}", o.leafnodes.host)),
    spec(
        &["leafnodes.advertise", "leaf.advertise"],
        "Address that leafnodes are told to connect to.",
        "the listen address",
        "\"hub.example.com:7422\"",
        |o, v| {
            let text = v.text()?;
            let address = match v.address(PORT) {
                Ok(address) => address,
                Err(_) if !text.contains(':') => Address { host: Some(text), port: PORT },
                Err(why) => return Err(why.into()),
            };
            o.leafnodes.advertise = Some(address);
            Ok(())
        },
    )
    .restart(|o| format!("{:?}", o.leafnodes.advertise)),
    spec(
        &["leafnodes.no_advertise", "leaf.no_advertise"],
        "Tell leafnodes nothing of other servers.",
        "false",
        "true",
        |o, v| put(&mut o.leafnodes.no_advertise, v.boolean()),
    )
    .restart(|o| o.leafnodes.no_advertise.to_string()),
    spec(
        &[
            "leafnodes.authorization.user",
            "leafnodes.authorization.username",
            "leaf.authorization.user",
            "leaf.authorization.username",
        ],
        "User that leafnodes must be.",
        "as for clients",
        "\"leaf\"",
        |o, v| put(&mut o.leafnodes.auth.user, v.text().map(said)),
    )
    .restart(|o| format!("{:?}", o.leafnodes.auth.user)),
    spec(
        &[
            "leafnodes.authorization.password",
            "leafnodes.authorization.pass",
            "leaf.authorization.password",
            "leaf.authorization.pass",
        ],
        "Password of that user.",
        "none",
        "\"s3cret\"",
        |o, v| put(&mut o.leafnodes.auth.password, v.text().map(|text| Some(Secret::new(text)))),
    )
    .restart(|o| if o.leafnodes.auth.password.is_some() { "set".to_owned() } else { "none".to_owned() }),
    spec(
        &["leafnodes.authorization.nkey", "leaf.authorization.nkey"],
        "Key that leafnodes must have.",
        "as for clients",
        "\"UA6KOMQ67XOE3FHE37W4OXADVXVYISBNLTBUT2LSY5VFKAIJ7CRDR2RZ\"",
        |o, v| {
            let key: PublicNkey = v.text()?.parse().map_err(|_| v.wrong("a user's public nkey"))?;
            if key.kind() != NkeyKind::User {
                return Err(v.wrong("a user's public nkey").into());
            }
            o.leafnodes.auth.nkey = Some(key);
            Ok(())
        },
    )
    .restart(|o| format!("{:?}", o.leafnodes.auth.nkey)),
    spec(
        &["leafnodes.authorization.account", "leaf.authorization.account"],
        "Account that leafnodes belong to of which nothing else is said.",
        "the global one",
        "\"$G\"",
        |o, v| put(&mut o.leafnodes.auth.account, v.text().map(said)),
    )
    .restart(|o| format!("{:?}", o.leafnodes.auth.account)),
    spec(
        &["leafnodes.authorization.users", "leaf.authorization.users"],
        "Users that leafnodes may be, each with user, password and account.",
        "as for clients",
        "[{user: \"a\", password: \"b\", account: \"$G\"}]",
        |o, v| put(&mut o.leafnodes.auth.users, users(v)),
    )
    .restart(|o| {
        let shown = |user: &LeafUser| {
            format!("{}:{}@{}", user.user, user.password.mark(), user.account.as_deref().unwrap_or_default())
        };
        o.leafnodes.auth.users.iter().map(shown).collect::<Vec<_>>().join(",")
    }),
    spec(
        &["leafnodes.authorization.timeout", "leaf.authorization.timeout"],
        "Time in which leafnodes must show it.",
        "2s",
        "2.5",
        |o, v| put(&mut o.leafnodes.auth.timeout, v.seconds().map(|time| (!time.is_zero()).then_some(time))),
    )
    .restart(|o| format!("{:?}", o.leafnodes.auth.timeout)),
    tls_block(&["leafnodes.tls", "leaf.tls"], "TLS for leafnodes.", |o| &mut o.leafnodes.tls),
    spec(
        &["leafnodes.min_version", "leafnodes.minimum_version", "leaf.min_version", "leaf.minimum_version"],
        "The oldest version of a leafnode that is taken.",
        "any",
        "\"2.10.0\"",
        |o, v| {
            let text = v.text()?;
            let numbers: Vec<u32> =
                text.trim_start_matches('v').split('.').map_while(|number| number.parse().ok()).collect();
            let [major, minor, patch] = numbers[..] else { return Err(v.wrong("a version like \"2.10.0\"").into()) };
            o.leafnodes.min_version = Some([major, minor, patch]);
            Ok(())
        },
    )
    .restart(|o| format!("{:?}", o.leafnodes.min_version)),
    spec(
        &[
            "leafnodes.isolate_leafnode_interest",
            "leafnodes.isolate",
            "leaf.isolate_leafnode_interest",
            "leaf.isolate",
        ],
        "Whether leafnodes hear nothing of each other.",
        "false",
        "true",
        |o, v| put(&mut o.leafnodes.isolated, v.boolean()),
    )
    .restart(|o| o.leafnodes.isolated.to_string()),
    spec(
        &[
            "leafnodes.reconnect",
            "leafnodes.reconnect_delay",
            "leafnodes.reconnect_interval",
            "leaf.reconnect",
            "leaf.reconnect_delay",
            "leaf.reconnect_interval",
        ],
        "Time between attempts to connect to a hub.",
        "1s",
        "\"5s\"",
        |o, v| put(&mut o.leafnodes.reconnect, v.duration().map(|time| (!time.is_zero()).then_some(time))),
    )
    .restart(|o| format!("{:?}", o.leafnodes.reconnect)),
    spec(
        &["leafnodes.compression", "leaf.compression"],
        "How what goes over leafnode connections is compressed: off, accept, s2_auto, s2_fast, s2_better, s2_best, or a block of mode and rtt_thresholds.",
        "s2_auto",
        "\"s2_fast\"",
        |o, v| put(&mut o.leafnodes.compression, compression(v, &Compression::auto())),
    )
    .restart(|o| format!("{:?}", o.leafnodes.compression)),
    spec(
        &["leafnodes.remotes", "leaf.remotes"],
        "Hubs that this server is a leafnode of, each with url or urls, and account, credentials, nkey, tls, hub, deny_imports, deny_exports, no_randomize, isolate.",
        "none",
        "[{url: \"nats-leaf://user:password@127.0.0.1:7422\", account: \"$G\"}]",
        |o, v| put(&mut o.leafnodes.remotes, remotes(v)),
    )
    .restart(|o| {
        let shown = |remote: &LeafRemote| {
            let urls = remote.urls.iter().map(ServerUrl::marked).collect::<Vec<_>>().join(",");
            let seed = remote.nkey.as_ref().map(Secret::mark).unwrap_or_default();
            format!("{urls} {seed} {remote:?}")
        };
        o.leafnodes.remotes.iter().map(shown).collect::<Vec<_>>().join("; ")
    }),
];

fn maps<'a>(value: &'a Given<'_>, what: &str) -> Result<Vec<(&'a Node, &'a Map)>, Faults> {
    let Given::Key(Value::List(list)) = value else {
        return Err(value.wrong(&format!("a list of {what}")).into());
    };
    let mut faults = Faults::default();
    let mut all = Vec::new();
    for node in list {
        match &node.value {
            Value::Map(map) => all.push((node, map)),
            other => faults.add(node.span, format!("expected a block, but got {}", other.kind())),
        }
    }
    faults.or(all)
}

fn users(value: &Given<'_>) -> Result<Vec<LeafUser>, Faults> {
    let mut faults = Faults::default();
    let mut users = Vec::new();
    for (node, map) in maps(value, "users")? {
        let (mut user, mut password, mut account) = Default::default();
        for entry in map.iter() {
            let Some(text) = faults.note(entry.node.span, Given::Key(&entry.node.value).text()) else {
                continue;
            };
            match entry.key.to_lowercase().as_str() {
                "user" | "username" => user = text,
                "pass" | "password" => password = text,
                "account" => account = said(text),
                _ => faults.add(entry.span, format!("unknown field '{}' in a leafnode user", entry.key)),
            }
        }
        if user.is_empty() || password.is_empty() {
            faults.add(node.span, "a leafnode user requires a user and a password");
        }
        users.push(LeafUser { user, password: Secret::new(password), account });
    }
    faults.or(users)
}

fn remotes(value: &Given<'_>) -> Result<Vec<LeafRemote>, Faults> {
    let mut faults = Faults::default();
    let mut remotes = Vec::new();
    for (node, map) in maps(value, "hubs")? {
        let mut remote = LeafRemote::default();
        for entry in map.iter() {
            let (at, value) = (entry.node.span, Given::Key(&entry.node.value));
            let key = entry.key.to_lowercase();
            let set = match key.as_str() {
                "url" | "urls" => put(&mut remote.urls, urls(&value)),
                "account" | "local" => put(&mut remote.account, value.text().map(said)),
                "credentials" | "creds" => {
                    put(&mut remote.credentials, value.text().map(|path| Some(path.into())))
                }
                "nkey" | "seed" => put(&mut remote.nkey, seed(&value).map(Some)),
                "hub" => put(&mut remote.hub, value.boolean()),
                "deny_imports" | "deny_import" => {
                    put(&mut remote.deny_imports, people::subject_list(&entry.node))
                }
                "deny_exports" | "deny_export" => {
                    put(&mut remote.deny_exports, people::subject_list(&entry.node))
                }
                "no_randomize" | "dont_randomize" => put(&mut remote.no_randomize, value.boolean()),
                "isolate_leafnode_interest" | "isolate" => put(&mut remote.isolated, value.boolean()),
                "compression" => {
                    put(&mut remote.compression, compression(&value, &Compression::auto()).map(Some))
                }
                "tls" => match &entry.node.value {
                    Value::Map(map) => tls::apply(remote.tls.get_or_insert_default(), map),
                    _ => Err(value.wrong("a block").into()),
                },
                _ if entry.used => Ok(()),
                _ => {
                    let later = LATER.iter().find(|later| **later == key);
                    let why = match later {
                        Some(_) => format!("'{key}' in a hub is not supported yet"),
                        None => format!("unknown field '{}' in a hub", entry.key),
                    };
                    faults.add(entry.span, why);
                    continue;
                }
            };
            faults.note(at, set);
        }
        if remote.urls.is_empty() {
            faults.add(node.span, "a hub requires a url, or urls");
        }
        remotes.push(remote);
    }
    faults.or(remotes)
}

/// Keys of a hub that nats-server knows and that are refused by name.
const LATER: &[&str] = &[
    "ws_compress",
    "ws_compression",
    "ws_no_masking",
    "jetstream_cluster_migrate",
    "first_info_timeout",
    "disabled",
    "proxy",
    "request_isolation",
];

fn urls(value: &Given<'_>) -> Result<Vec<ServerUrl>, Faults> {
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

fn seed(value: &Given<'_>) -> Result<Secret, String> {
    let text = value.text()?;
    // What is wrong is not quoted: it may be a secret all but for that.
    nkeys::KeyPair::from_seed(&text)
        .map_err(|_| "expected a user's seed, which begins with SU".to_owned())?;
    Ok(Secret::new(text))
}
