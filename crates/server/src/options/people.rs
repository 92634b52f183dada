//! Users, what they may do, and the accounts that they belong to, as a configuration says them.
//!
//! Keys, their other names and the texts of errors are nats-server 2.15's (`server/opts.go`: `parseUsers`,
//! `parseUserPermissions`, `parseAccounts`).

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use midge_conf::{Entry, Map, Node, Value};
use midge_identity::{NkeyKind, PublicNkey};
use midge_router::{AccountLimits, GLOBAL, PermissionRules, ResponseRules, SubjectRules};
use midge_wire::subject;

use super::faults::Faults;
use super::{Given, unsupported_key};

/// A password or token, plain or as a bcrypt hash. Does not print.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What tells secrets apart, within this process only, and says nothing of them.
    pub(crate) fn mark(&self) -> String {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        format!("[hidden {:08x}]", KEY.hash_one(&self.0) as u32)
    }

    /// Whether it is a bcrypt hash (nats-server's `isBcrypt`).
    #[must_use]
    pub fn is_hash(&self) -> bool {
        let rest = self.0.strip_prefix("$2").and_then(|rest| rest.strip_prefix(['a', 'b', 'x', 'y']));
        rest.and_then(|rest| rest.strip_prefix('$')).is_some_and(|rest| {
            let (cost, rest) = rest.split_at_checked(2).unwrap_or_default();
            !cost.is_empty() && cost.bytes().all(|b| b.is_ascii_digit()) && rest.starts_with('$')
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// What a user must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password(String, Secret),
    /// A signature by this key.
    Nkey(PublicNkey),
}

impl Credential {
    /// What the user is called: the name, or the key's text.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Password(name, _) => name,
            Self::Nkey(key) => key.as_str(),
        }
    }
}

/// What may carry a user's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionType {
    /// A byte stream of its own.
    Standard,
    /// WebSocket.
    WebSocket,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserOptions {
    /// What it must show.
    pub credential: Credential,
    /// What it may do; `None` is everything.
    pub permissions: Option<PermissionRules>,
    /// What may carry it; `None` is anything.
    pub connection_types: Option<Vec<ConnectionType>>,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountOptions {
    /// Its name.
    pub name: String,
    /// Its users.
    pub users: Vec<UserOptions>,
    /// What it allows.
    pub limits: AccountLimits,
}

/// The keys of a block, in small letters.
fn block<'a>(node: &'a Node, what: &str, faults: &mut Faults) -> Vec<(String, &'a Entry)> {
    match &node.value {
        Value::Map(map) => keys(map),
        other => {
            faults.add(node.span, format!("expected a block for {what}, but got {}", other.kind()));
            Vec::new()
        }
    }
}

fn keys(map: &Map) -> Vec<(String, &Entry)> {
    map.iter().map(|entry| (entry.key.to_lowercase(), entry)).collect()
}

fn given(node: &Node) -> Given<'_> {
    Given::Key(&node.value)
}

/// A key that does not belong there.
fn unknown(entry: &Entry, what: &str, faults: &mut Faults) {
    if !entry.used {
        faults.add(entry.span, format!("unknown field '{}' in {what}", entry.key));
    }
}

/// A list of users.
pub(super) fn users(value: &Given<'_>) -> Result<Vec<UserOptions>, Faults> {
    let Given::Key(Value::List(list)) = value else {
        return Err(value.wrong("a list of users").into());
    };
    let mut faults = Faults::default();
    let users = list.iter().filter_map(|node| user(node, &mut faults)).collect();
    faults.or(users)
}

fn user(node: &Node, faults: &mut Faults) -> Option<UserOptions> {
    let before = faults.0.len();
    let (mut nkey, mut name, mut password) = (None, None, None);
    let (mut permissions, mut connection_types) = (None, None);
    for (key, entry) in block(node, "a user", faults) {
        let at = entry.node.span;
        match key.as_str() {
            "nkey" => nkey = faults.note(at, given(&entry.node).text().and_then(|text| user_key(&text))),
            "user" | "username" => name = faults.note(at, given(&entry.node).text()),
            "pass" | "password" => password = faults.note(at, given(&entry.node).text()),
            "permission" | "permissions" | "authorization" => {
                permissions = faults.note(at, self::permissions(&given(&entry.node)));
            }
            "allowed_connection_types" | "connection_types" | "clients" => {
                connection_types = faults.note(at, connections(&entry.node));
            }
            "proxy_required" => faults.add(entry.span, "'proxy_required' is not supported yet: proxies"),
            _ => unknown(entry, "a user", faults),
        }
    }
    if faults.0.len() > before {
        return None;
    }
    let credential = match (nkey, name) {
        (Some(key), None) if password.is_none() => Credential::Nkey(key),
        (Some(_), _) => {
            faults.add(node.span, "nkey users do not take usernames or passwords");
            return None;
        }
        (None, Some(name)) if !name.is_empty() => {
            Credential::Password(name, Secret::new(password.unwrap_or_default()))
        }
        (None, _) => {
            faults.add(node.span, "a user entry requires a user: set 'user' or 'nkey'");
            return None;
        }
    };
    Some(UserOptions { credential, permissions, connection_types })
}

fn user_key(text: &str) -> Result<PublicNkey, String> {
    match text.parse::<PublicNkey>() {
        Ok(key) if key.kind() == NkeyKind::User => Ok(key),
        Ok(_) => Err("not a valid public nkey for a user: it must begin with U".to_owned()),
        Err(why) => Err(format!("not a valid public nkey for a user: {why}")),
    }
}

fn connections(node: &Node) -> Result<Vec<ConnectionType>, Faults> {
    let mut faults = Faults::default();
    let mut types = Vec::new();
    for (text, at) in texts(node, "connection types")? {
        match text.to_uppercase().as_str() {
            "STANDARD" => types.push(ConnectionType::Standard),
            "WEBSOCKET" => types.push(ConnectionType::WebSocket),
            name @ ("LEAFNODE" | "LEAFNODE_WS" | "MQTT" | "MQTT_WS" | "IN_PROCESS") => {
                faults.add(at, format!("connection type '{name}' is not supported yet"));
            }
            name => faults.add(at, format!("unknown connection type '{name}': use STANDARD or WEBSOCKET")),
        }
    }
    faults.or(types)
}

/// One text or a list of them, each with its place.
fn texts(node: &Node, what: &str) -> Result<Vec<(String, midge_conf::Span)>, Faults> {
    let nodes = match &node.value {
        Value::Text(_) => std::slice::from_ref(node),
        Value::List(list) => list,
        other => {
            return Err(
                format!("expected {what} as a text or a list of them, but got {}", other.kind()).into()
            );
        }
    };
    let mut faults = Faults::default();
    let texts =
        nodes.iter().filter_map(|node| Some((faults.note(node.span, given(node).text())?, node.span)));
    let texts = texts.collect();
    faults.or(texts)
}

/// What somebody may do.
pub(super) fn permissions(value: &Given<'_>) -> Result<PermissionRules, Faults> {
    let Given::Key(Value::Map(map)) = value else {
        return Err(value.wrong("a block of permissions").into());
    };
    let mut faults = Faults::default();
    let mut rules = PermissionRules::default();
    for (key, entry) in keys(map) {
        let at = entry.node.span;
        match key.as_str() {
            "pub" | "publish" | "import" => {
                rules.publish = faults.note(at, subjects(&entry.node, false)).unwrap_or_default();
            }
            "sub" | "subscribe" | "export" => {
                rules.subscribe = faults.note(at, subjects(&entry.node, true)).unwrap_or_default();
            }
            "publish_allow_responses" | "allow_responses" => {
                rules.responses = faults.note(at, responses(&entry.node)).flatten();
            }
            _ => unknown(entry, "permissions", &mut faults),
        }
    }
    if rules.responses.is_some() {
        // Whoever may answer may not publish freely unless that is said.
        rules.publish.allow.get_or_insert_default();
    }
    faults.or(rules)
}

/// Subjects, wildcards allowed.
pub(super) fn subject_list(node: &Node) -> Result<Vec<String>, Faults> {
    patterns(node, false)
}

fn subjects(node: &Node, queues: bool) -> Result<SubjectRules, Faults> {
    // An empty list is no list, as in the original.
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let Value::Map(map) = &node.value else {
        return Ok(SubjectRules { allow: some(patterns(node, queues)?), deny: Vec::new() });
    };
    let mut faults = Faults::default();
    let mut rules = SubjectRules::default();
    for (key, entry) in keys(map) {
        let list = patterns(&entry.node, queues);
        match key.as_str() {
            "allow" => rules.allow = faults.note(entry.node.span, list).and_then(some),
            "deny" => rules.deny = faults.note(entry.node.span, list).unwrap_or_default(),
            _ => unknown(entry, "subject permissions, where only 'allow' and 'deny' are", &mut faults),
        }
    }
    faults.or(rules)
}

fn patterns(node: &Node, queues: bool) -> Result<Vec<String>, Faults> {
    let mut faults = Faults::default();
    let mut patterns = Vec::new();
    for (text, at) in texts(node, "subjects")? {
        let words: Vec<&str> = text.split_whitespace().collect();
        let wrong = match words.as_slice() {
            [pattern] if subject::is_valid(pattern.as_bytes()) => None,
            [pattern, queue] if queues && subject::is_valid(pattern.as_bytes()) => {
                let valid = subject::is_valid(queue.as_bytes());
                (!valid).then(|| format!("queue \"{queue}\" is not a valid queue"))
            }
            _ => Some(format!("subject \"{text}\" is not a valid subject")),
        };
        match wrong {
            Some(why) => faults.add(at, why),
            None => patterns.push(words.join(" ")),
        }
    }
    faults.or(patterns)
}

/// One answer within two minutes, unless more is said.
const RESPONSES: ResponseRules = ResponseRules { max: Some(1), expires: Some(Duration::from_secs(120)) };

fn responses(node: &Node) -> Result<Option<ResponseRules>, Faults> {
    match &node.value {
        Value::Bool(allowed) => return Ok(allowed.then_some(RESPONSES)),
        Value::Map(_) => {}
        other => {
            let kind = other.kind();
            return Err(
                format!("expected true, false or a block of 'max' and 'expires', but got {kind}").into()
            );
        }
    }
    let mut faults = Faults::default();
    let mut rules = RESPONSES;
    for (key, entry) in block(node, "responses", &mut faults) {
        let at = entry.node.span;
        match key.as_str() {
            "max" | "max_msgs" | "max_messages" | "max_responses" => match given(&entry.node).int() {
                // Zero is the default, and what is below is no limit.
                Ok(0) => {}
                Ok(most) => rules.max = u32::try_from(most).ok(),
                Err(why) => faults.add(at, why),
            },
            "expires" | "expiration" | "ttl" => match &entry.node.value {
                Value::Text(text) if text.starts_with('-') => rules.expires = None,
                Value::Text(_) => match given(&entry.node).duration() {
                    Ok(Duration::ZERO) => {}
                    Ok(time) => rules.expires = Some(time),
                    Err(why) => faults.add(at, why),
                },
                other => faults.add(at, format!("expected a time like \"1m\", but got {}", other.kind())),
            },
            _ => unknown(entry, "responses", &mut faults),
        }
    }
    faults.or(Some(rules))
}

/// Accounts, as a list of names or as a block for each.
pub(super) fn accounts(value: &Given<'_>) -> Result<Vec<AccountOptions>, Faults> {
    let mut faults = Faults::default();
    let mut accounts: Vec<AccountOptions> = Vec::new();
    let empty = |name| AccountOptions { name, users: Vec::new(), limits: AccountLimits::default() };
    match value {
        Given::Key(Value::List(list)) => {
            let mut names = HashSet::new();
            for node in list {
                let Some(name) = faults.note(node.span, given(node).text()) else { continue };
                if name == GLOBAL {
                    faults.add(node.span, format!("\"{name}\" is a reserved account"));
                } else if !names.insert(name.clone()) {
                    faults.add(node.span, format!("duplicate account entry: {name}"));
                } else {
                    accounts.push(empty(name));
                }
            }
        }
        Given::Key(Value::Map(map)) => {
            for entry in map.iter().filter(|entry| !entry.used) {
                if entry.key == GLOBAL {
                    faults.add(entry.span, format!("\"{GLOBAL}\" is a reserved account"));
                    continue;
                }
                accounts.push(account(entry, &mut faults));
            }
        }
        _ => return Err(value.wrong("a list of names or a block for each account").into()),
    }
    faults.or(accounts)
}

fn account(entry: &Entry, faults: &mut Faults) -> AccountOptions {
    let mut account =
        AccountOptions { name: entry.key.clone(), users: Vec::new(), limits: AccountLimits::default() };
    let mut default = None;
    for (key, inner) in block(&entry.node, "an account", faults) {
        let at = inner.node.span;
        match key.as_str() {
            "users" => account.users = faults.note(at, users(&given(&inner.node))).unwrap_or_default(),
            "default_permissions" => default = faults.note(at, permissions(&given(&inner.node))),
            "limits" => account.limits = limits(&inner.node, faults),
            "nkey" => {
                let key = given(&inner.node).text().and_then(|text| {
                    let key = text.parse::<PublicNkey>().ok().filter(|key| key.kind() == NkeyKind::Account);
                    key.ok_or_else(|| format!("not a valid public nkey for an account: \"{text}\""))
                });
                faults.note(at, key);
            }
            _ => match unsupported_key(&format!("accounts.{key}")) {
                Some(what) => faults.add(inner.span, format!("'{key}' is not supported yet: {what}")),
                None => unknown(inner, "an account", faults),
            },
        }
    }
    default_to(&mut account.users, default.as_ref());
    account
}

/// Gives those without permissions of their own the default ones.
pub(super) fn default_to(users: &mut [UserOptions], default: Option<&PermissionRules>) {
    for user in users.iter_mut().filter(|user| user.permissions.is_none()) {
        user.permissions = default.cloned();
    }
}

fn limits(node: &Node, faults: &mut Faults) -> AccountLimits {
    let mut limits = AccountLimits::default();
    for (key, entry) in block(node, "limits", faults) {
        // Below zero is no limit.
        let most = || given(&entry.node).int().map(|most| usize::try_from(most).ok());
        let at = entry.node.span;
        match key.as_str() {
            "max_connections" | "max_conn" => limits.max_connections = faults.note(at, most()).flatten(),
            "max_subscriptions" | "max_subs" => limits.max_subscriptions = faults.note(at, most()).flatten(),
            "max_payload" | "max_pay" => limits.max_payload = faults.note(at, most()).flatten(),
            "max_leafnodes" | "max_leafs" => {
                faults.add(entry.span, format!("'{key}' is not supported yet: leafnodes"));
            }
            _ => unknown(entry, "an account's limits", faults),
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use midge_conf::NoFiles;

    use super::*;

    fn value(text: &str) -> Value {
        let document = midge_conf::parse("t", &format!("v: {text}"), &NoFiles).unwrap();
        document.root.get("v").unwrap().value.clone()
    }

    #[test]
    fn permissions_have_many_forms() {
        let read = |text: &str| permissions(&Given::Key(&value(text))).map_err(|faults| faults.to_string());
        let rules = read("{ pub: a, sub: [b, \"c q\"] }").unwrap();
        assert_eq!(rules.publish.allow, Some(vec!["a".to_owned()]));
        assert_eq!(rules.subscribe.allow, Some(vec!["b".to_owned(), "c q".to_owned()]));
        let rules = read("{ publish: { deny: \"x.>\" }, subscribe: {} }").unwrap();
        assert_eq!((rules.publish.allow, rules.publish.deny), (None, vec!["x.>".to_owned()]));
        assert_eq!(read("{ pub: [], sub: { allow: [] } }").unwrap(), PermissionRules::default());
        let rules = read("{ allow_responses: true }").unwrap();
        assert_eq!((rules.publish.allow, rules.responses), (Some(Vec::new()), Some(RESPONSES)));
        let rules = read("{ publish: p, allow_responses: { max: 5, expires: \"-1s\" } }").unwrap();
        assert_eq!(rules.responses, Some(ResponseRules { max: Some(5), expires: None }));
        assert_eq!(read("{ allow_responses: false }").unwrap(), PermissionRules::default());
        for (text, why) in [
            ("3", "expected a block of permissions, but got a number"),
            ("{ publish: \"a q\" }", "subject \"a q\" is not a valid subject"),
            ("{ subscribe: \"a..b\" }", "subject \"a..b\" is not a valid subject"),
            ("{ subscribe: \"a b c\" }", "subject \"a b c\" is not a valid subject"),
            ("{ publish: { allows: a } }", "unknown field 'allows' in subject permissions"),
            ("{ publish: 7 }", "expected subjects as a text or a list of them, but got a number"),
            ("{ allow_responses: 3 }", "expected true, false or a block"),
            ("{ allow_responses: { expires: 3 } }", "expected a time like \"1m\", but got a number"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn users_show_a_password_or_a_key() {
        let key = nkeys::KeyPair::new_user().public_key();
        let read = |text: &str| users(&Given::Key(&value(text))).map_err(|faults| faults.to_string());
        let two =
            read(&format!("[ {{ user: a, pass: b, connection_types: [WEBSOCKET] }}, {{ nkey: {key} }} ]"));
        let two = two.unwrap();
        assert_eq!((two[0].credential.name(), two[1].credential.name()), ("a", key.as_str()));
        assert_eq!(two[0].connection_types, Some(vec![ConnectionType::WebSocket]));
        assert!(!format!("{two:?}").contains("\"b\""), "a password is not printed");
        let server = nkeys::KeyPair::new_server().public_key();
        for (text, why) in [
            ("[ {} ]".to_owned(), "a user entry requires a user"),
            ("[ { pass: b } ]".to_owned(), "a user entry requires a user"),
            (format!("[ {{ nkey: {key}, user: a }} ]"), "nkey users do not take usernames or passwords"),
            (format!("[ {{ nkey: {server} }} ]"), "not a valid public nkey for a user: it must begin with U"),
            ("[ { nkey: UX } ]".to_owned(), "not a valid public nkey for a user: not an nkey"),
            ("[ { user: a, connection_types: [CARRIER_PIGEON] } ]".to_owned(), "unknown connection type"),
            ("[ { usr: a } ]".to_owned(), "unknown field 'usr' in a user"),
            ("[ 3 ]".to_owned(), "expected a block for a user, but got a number"),
            ("{}".to_owned(), "expected a list of users, but got a block"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn accounts_have_users_limits_and_defaults() {
        let read = |text: &str| accounts(&Given::Key(&value(text))).map_err(|faults| faults.to_string());
        let one = read(
            "{ A { users: [ { user: a }, { user: b, permissions: { pub: x } } ],
                   default_permissions: { sub: y }, limits: { max_conn: 3, max_subs: -1, max_payload: 100 } } }",
        );
        let one = one.unwrap().remove(0);
        let limits =
            AccountLimits { max_connections: Some(3), max_subscriptions: None, max_payload: Some(100) };
        assert_eq!((one.name.as_str(), one.limits), ("A", limits));
        let allowed = |user: usize| one.users[user].permissions.as_ref().unwrap().subscribe.allow.clone();
        assert_eq!((allowed(0), allowed(1)), (Some(vec!["y".to_owned()]), None));
        assert_eq!(read("[A, B]").unwrap().len(), 2);
        for (text, why) in [
            ("[A, A]", "duplicate account entry: A"),
            ("[ \"$G\" ]", "\"$G\" is a reserved account"),
            ("{ A: 3 }", "expected a block for an account, but got a number"),
            ("{ A { jetstream: true } }", "'jetstream' is not supported yet: JetStream"),
            ("{ A { exports: [] } }", "'exports' is not supported yet"),
            ("{ A { uses: [] } }", "unknown field 'uses' in an account"),
            ("{ A { nkey: x } }", "not a valid public nkey for an account"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn hashes_are_told_from_passwords() {
        assert!(Secret::new("$2a$11$3kIDaCxw.Glsl1.u5nKa6eUnNDLV5HV9tIuUp7EHhMt6Nm9myW1aS").is_hash());
        for plain in ["", "$2a", "$2a$", "$2a$x1$abc", "2a$11$", "$3a$11$abc"] {
            assert!(!Secret::new(plain).is_hash(), "{plain}");
        }
    }
}
