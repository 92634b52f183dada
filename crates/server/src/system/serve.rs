//! Requests to the server, over the system account and over each account of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_router::local::{Message, Outgoing};
use midge_router::{Account, CloseReason, Conn, Permissions};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::event::Statsz;
use crate::inside::Inside;
use crate::monitor::{BadQuery, ENDPOINTS, Query, Style, account_info, account_stat};
use crate::server::Server;

/// Time between two reports of the server's figures, at first and at most. It doubles in between, as nats-server's.
const REPORT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// How often it is looked whether there are new accounts.
const NEW_ACCOUNTS: Duration = Duration::from_millis(500);

/// Time between two counts of an account's connections, where nobody comes or goes (nats-server's `eventsHBInterval`).
const HEARTBEAT: Duration = Duration::from_secs(30);
/// What can be asked of an account.
const OF_ACCOUNTS: [&str; 6] = ["CONNZ", "SUBSZ", "LEAFZ", "INFO", "CONNS", "STATZ"];
/// What one server can be told to do.
const ORDERS: [&str; 3] = ["RELOAD", "KICK", "LDM"];

/// Answers requests until the task is aborted.
pub(crate) async fn serve(server: Arc<Server>) {
    if server.system().is_none() {
        return;
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(system(server.clone()));
    tasks.spawn(report(server.clone()));
    tasks.spawn(count_connections(server.clone()));
    let mut served = HashSet::new();
    loop {
        for account in server.router().accounts() {
            if !account.is_system() && served.insert(account.index()) {
                tasks.spawn(own(server.clone(), account));
            }
        }
        tokio::time::sleep(NEW_ACCOUNTS).await;
    }
}

/// Tells the server's figures again and again, to whoever listens.
async fn report(server: Arc<Server>) {
    let mut pause = REPORT.0;
    loop {
        tokio::time::sleep(pause).await;
        server.tell_stats();
        pause = (pause * 2).min(REPORT.1);
    }
}

/// Tells again and again how many connections each account has.
async fn count_connections(server: Arc<Server>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        for account in server.router().accounts().iter().filter(|account| account.clients() > 0) {
            server.tell_connections(account);
        }
    }
}

/// Answers users of the system account.
async fn system(server: Arc<Server>) {
    while answer_system(&server).await {}
}

/// Answers them until there were more requests than can wait; whether to begin anew.
async fn answer_system(server: &Arc<Server>) -> bool {
    let inside = server.join(&server.router().system_account());
    // By name, so that whoever asks for something else hears that nobody answers.
    let of_servers = ENDPOINTS.iter().map(|endpoint| endpoint.name).filter(|name| *name != "STATZ");
    let of_servers = of_servers.chain(["IDZ", "STATSZ"]);
    let id = server.id();
    let mut subjects: Vec<String> = of_servers
        .flat_map(|name| [format!("$SYS.REQ.SERVER.PING.{name}"), format!("$SYS.REQ.SERVER.{id}.{name}")])
        .chain(ORDERS.iter().map(|name| format!("$SYS.REQ.SERVER.{id}.{name}")))
        .chain(OF_ACCOUNTS.iter().map(|name| format!("$SYS.REQ.ACCOUNT.*.{name}")))
        .collect();
    for more in ["$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$SYS.REQ.USER.*.INFO"] {
        subjects.push(more.to_owned());
    }
    if !subscribe(&inside, &subjects) {
        return false;
    }
    while let Some(message) = inside.next().await {
        asked(server, &inside, &message).await;
        // Whoever asks much must not keep others waiting.
        tokio::task::yield_now().await;
    }
    overrun(server, &inside)
}

/// Says that requests were lost; whether to begin anew.
fn overrun(server: &Server, inside: &Inside) -> bool {
    let account = inside.account().name();
    if !server.is_stopping() {
        warn!("Account {account:?} asks the server more than it can answer: what waited is dropped");
    }
    !server.is_stopping()
}

fn subscribe(inside: &Inside, subjects: &[impl AsRef<str>]) -> bool {
    let subscribe = |subject: &str| inside.subscribe(subject.as_bytes(), b"").err();
    let failed = subjects.iter().find_map(|subject| subscribe(subject.as_ref()));
    if let Some(why) = failed {
        error!("The server's own services are not offered: {why}");
    }
    failed.is_none()
}

async fn asked(server: &Arc<Server>, inside: &Inside, message: &Message) {
    let subject = String::from_utf8_lossy(&message.subject);
    let words: Vec<&str> = subject.split('.').collect();
    match words.as_slice() {
        // Asked without a reply, all who listen are told.
        [_, _, "SERVER", "PING"] | [_, _, "SERVER", _, "STATSZ"] if message.reply.is_empty() => {
            server.tell_stats();
        }
        _ if message.reply.is_empty() => {}
        [_, _, "SERVER", "PING"] => statsz(server, inside, message),
        [_, _, "SERVER", "PING", what] => to_server(server, inside, message, what),
        [_, _, "SERVER", _, what @ ("RELOAD" | "KICK" | "LDM")] => order(server, inside, message, what).await,
        [_, _, "SERVER", _, what] => to_server(server, inside, message, what),
        [_, _, "ACCOUNT", "PING", "STATZ"] => of_account(server, inside, message, None, "STATZ"),
        [_, _, "ACCOUNT", account, what] => of_account(server, inside, message, Some(account), what),
        [_, _, "USER", ..] => user_info(server, inside, message),
        _ => {}
    }
}

/// Answers users of one account, about that account.
async fn own(server: Arc<Server>, account: Arc<Account>) {
    while answer_own(&server, &account).await {}
}

/// Answers them until there were more requests than can wait; whether to begin anew.
async fn answer_own(server: &Arc<Server>, account: &Arc<Account>) -> bool {
    let inside = server.join(account);
    let subjects = [
        "$SYS.REQ.USER.INFO",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.ACCOUNT.PING.STATZ",
    ];
    if !subscribe(&inside, &subjects) {
        return false;
    }
    while let Some(message) = inside.next().await {
        match &*message.subject {
            _ if message.reply.is_empty() => {}
            b"$SYS.REQ.USER.INFO" => user_info(server, &inside, &message),
            subject if subject.ends_with(b".CONNZ") => {
                of_account(server, &inside, &message, Some(account.name()), "CONNZ");
            }
            _ => of_account(server, &inside, &message, Some(account.name()), "STATZ"),
        }
        tokio::task::yield_now().await;
    }
    overrun(server, &inside)
}

fn reply(inside: &Inside, message: &Message, body: &impl Serialize) {
    let text = serde_json::to_string(body).unwrap_or_default();
    let out = Outgoing { subject: &message.reply, payload: text.as_bytes(), ..Outgoing::default() };
    inside.publish(&out, Instant::now());
}

/// What is answered (nats-server's `ServerAPIResponse`).
#[derive(Serialize)]
struct Answer<'a> {
    server: super::ServerInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<serde_json::value::RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ApiError>,
}

#[derive(Serialize)]
struct ApiError {
    code: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

/// Why a request was not done.
enum Failure {
    /// It could not be understood.
    Request(String),
    /// What it asks for could not be read.
    Data(String),
    /// What it orders could not be done.
    Order(String),
}

impl From<BadQuery> for Failure {
    fn from(BadQuery(why): BadQuery) -> Self {
        Self::Data(why)
    }
}

/// Answers with what was read, or with why it was not.
fn answer(server: &Server, inside: &Inside, message: &Message, read: Result<Option<String>, Failure>) {
    use serde_json::value::RawValue;

    let (data, error) = match read {
        Ok(text) => (text.and_then(|text| RawValue::from_string(text).ok()), None),
        Err(Failure::Request(why)) => (None, Some((400, why))),
        Err(Failure::Data(why)) => (Some(RawValue::NULL.to_owned()), Some((500, why))),
        Err(Failure::Order(why)) => (None, Some((500, why))),
    };
    let error = error.map(|(code, description)| ApiError { code, description });
    reply(inside, message, &Answer { server: server.introduce(), data, error });
}

/// The options of a request; `None` where they are meant for other servers.
fn options(server: &Server, message: &Message) -> Result<Option<Map<String, Value>>, Failure> {
    if message.payload.is_empty() {
        return Ok(Some(Map::new()));
    }
    let options: Map<String, Value> =
        serde_json::from_slice(&message.payload).map_err(|why| Failure::Request(why.to_string()))?;
    let exact = options.get("exact_match").and_then(Value::as_bool).unwrap_or(false);
    let host = server.setup().options.listen.host.clone();
    for (key, own) in [("server_name", server.name()), ("host", &host), ("cluster", "")] {
        let wanted = options.get(key).and_then(Value::as_str).unwrap_or_default();
        let fits = if exact { own == wanted } else { own.contains(wanted) };
        if !wanted.is_empty() && !fits {
            return Ok(None);
        }
    }
    let tags = options.get("tags").and_then(Value::as_array).is_some_and(|tags| !tags.is_empty());
    let domain = options.get("domain").and_then(Value::as_str).is_some_and(|domain| !domain.is_empty());
    Ok((!tags && !domain).then_some(options))
}

/// Something that monitoring tells, too.
fn to_server(server: &Arc<Server>, inside: &Inside, message: &Message, what: &str) {
    match what {
        "STATSZ" => return statsz(server, inside, message),
        "IDZ" => {
            let host = &server.setup().options.listen.host;
            return reply(
                inside,
                message,
                &json!({ "name": server.name(), "host": host, "id": server.id() }),
            );
        }
        _ => {}
    }
    // STATZ is an account's.
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.name == what && what != "STATZ") else {
        return;
    };
    let read = match options(server, message) {
        Ok(None) => return,
        Err(why) => Err(why),
        Ok(Some(options)) => Query::from_json(&options)
            .and_then(|query| (endpoint.read)(server, &query, Style::Compact))
            .map(Some)
            .map_err(Failure::from),
    };
    answer(server, inside, message, read);
}

fn statsz(server: &Server, inside: &Inside, message: &Message) {
    match options(server, message) {
        Ok(None) => {}
        Ok(Some(_)) => reply(inside, message, &Statsz::of(server)),
        Err(why) => answer(server, inside, message, Err(why)),
    }
}

/// Something about one account, or about all.
fn of_account(server: &Arc<Server>, inside: &Inside, message: &Message, account: Option<&str>, what: &str) {
    let mut options = match options(server, message) {
        Ok(Some(options)) => options,
        Ok(None) => return,
        Err(why) => return answer(server, inside, message, Err(why)),
    };
    let name = match what {
        "CONNZ" | "SUBSZ" | "LEAFZ" => what,
        "STATZ" => "STATZ",
        "INFO" => {
            let info = account_info(server, account.unwrap_or_default());
            let read = info.map(|info| serde_json::to_string(&info).ok()).map_err(Failure::from);
            return answer(server, inside, message, read);
        }
        "CONNS" => {
            let account = account.and_then(|name| server.router().account(name));
            if let Some(account) = account.filter(|account| account.clients() > 0) {
                reply(inside, message, &account_stat(server, &account));
            }
            return;
        }
        _ => return,
    };
    if let Some(account) = account {
        let key = if name == "STATZ" { "accounts" } else { "account" };
        options.insert(key.to_owned(), account.into());
        options.insert("include_unused".to_owned(), true.into());
        options.remove("acc");
    }
    if name == "SUBSZ" {
        options.insert("subscriptions".to_owned(), true.into());
    }
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.name == name) else { return };
    let read = Query::from_json(&options)
        .and_then(|query| (endpoint.read)(server, &query, Style::Compact))
        .map(Some)
        .map_err(Failure::from);
    answer(server, inside, message, read);
}

/// Something to do.
async fn order(server: &Arc<Server>, inside: &Inside, message: &Message, what: &str) {
    let options = match options(server, message) {
        Ok(Some(options)) => options,
        Ok(None) => return,
        Err(why) => return answer(server, inside, message, Err(why)),
    };
    if what == "RELOAD" {
        let done = server.reload_from_source().await.map(|()| None).map_err(Failure::Order);
        return answer(server, inside, message, done);
    }
    // There is no client 0.
    let cid = options.get("cid").and_then(Value::as_u64).unwrap_or_default();
    let client = server.router().client(cid);
    let done = match (what, client) {
        ("KICK", Some(client)) => {
            client.close(CloseReason::Kicked);
            Ok(None)
        }
        ("KICK", None) => Err(Failure::Order("no such client or leafnode id".to_owned())),
        (_, Some(client)) if send_away(server, &client) => Ok(None),
        (_, Some(_)) => Err(Failure::Order(
            "client does not support Lame Duck Mode or is not ready to receive the notification".to_owned(),
        )),
        (_, None) => Err(Failure::Order("no such client id".to_owned())),
    };
    answer(server, inside, message, done);
}

fn send_away(server: &Server, client: &Arc<Conn>) -> bool {
    let worker = server.driven_worker();
    let mut worker = worker.lock();
    server.router().send_away(client, &mut worker, Instant::now())
}

/// Tells somebody who he is.
fn user_info(server: &Server, inside: &Inside, message: &Message) {
    let grant = message.from.grant();
    let account = grant.account.name();
    let mut data = json!({ "user": &*grant.user, "account": &**account, "account_name": &**account });
    if let (Some(permissions), Some(fields)) = (&grant.permissions, data.as_object_mut()) {
        fields.insert("permissions".to_owned(), shown(permissions));
    }
    answer(server, inside, message, Ok(Some(data.to_string())));
}

/// Permissions as nats-server's `Permissions` print them.
fn shown(permissions: &Permissions) -> Value {
    let rules = permissions.rules();
    let list = |rules: &midge_router::SubjectRules| {
        let mut shown = Map::new();
        if let Some(allow) = rules.allow.as_ref().filter(|allow| !allow.is_empty()) {
            shown.insert("allow".to_owned(), allow.clone().into());
        }
        if !rules.deny.is_empty() {
            shown.insert("deny".to_owned(), rules.deny.clone().into());
        }
        Value::Object(shown)
    };
    let mut shown = json!({ "publish": list(&rules.publish), "subscribe": list(&rules.subscribe) });
    if let (Some(responses), Some(fields)) = (rules.responses, shown.as_object_mut()) {
        let max = responses.max.map_or(-1, i64::from);
        let ttl = responses.expires.map_or(-1, |time| time.as_nanos() as i64);
        fields.insert("responses".to_owned(), json!({ "max": max, "ttl": ttl }));
    }
    shown
}
