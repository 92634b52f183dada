//! What a deployment must let a peer do and no more, and who one is there.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use midge::backend::{
    BusError, BusEvent, Carrier, Deployment, ExternalBus, Listening, Login, Operation, Permissions, Prefix,
};
use midge::bus::Bus;
use midge::identity::{KeyPair, NkeyKind, PeerId, pem};
use midge::link::{Anybody, LinkConfig, LinkEvent, LinkTable};
use midge::mesh::new_key;
use midge_testkit::process::{Folder, Process, nats_servers};
use tokio::time::timeout;

use crate::leafnode::jwt;
use crate::servers::midged;

pub(crate) const BOUND: Duration = Duration::from_secs(20);
/// Time in which a link that is not to be would have been.
const NO_LINK: Duration = Duration::from_secs(8);

fn prefix() -> Prefix {
    "acme".parse().unwrap()
}

pub(crate) fn at(url: &str) -> Deployment {
    Deployment { prefix: prefix(), ..Deployment::at(&[url]) }
}

/// A peer with a carrier, and what becomes of its links.
pub(crate) struct Peer {
    pub(crate) table: LinkTable,
    events: midge::link::LinkEvents,
    carrier: Arc<Carrier>,
}

impl Peer {
    pub(crate) fn new(deployment: &Deployment, key: &KeyPair) -> Self {
        let (table, events, streams) =
            LinkTable::new(key.clone(), Arc::new(Anybody), LinkConfig::default()).unwrap();
        let carrier = Carrier::start(deployment, key, Listening::To(Arc::new(Anybody))).unwrap();
        table.add_path(carrier.clone()).unwrap();
        std::mem::forget(streams);
        Self { table, events, carrier }
    }

    /// Whether there is a link to that peer in the end, or why not: what the link says and what the connection does.
    pub(crate) async fn reach(&mut self, peer: PeerId) -> Result<(), BTreeSet<String>> {
        self.table.want(peer, vec!["nats:".parse().unwrap()]);
        let (mut why, mut told) = (BTreeSet::new(), self.carrier.events());
        let linked = async {
            loop {
                tokio::select! {
                    event = self.events.next() => match event.unwrap() {
                        LinkEvent::Up(_) => return,
                        LinkEvent::Unreachable { why: one, .. } => drop(why.insert(one)),
                        _ => {}
                    },
                    Some(BusEvent::Refused(refusal)) = told.next() => drop(why.insert(refusal.to_string())),
                }
            }
        };
        timeout(NO_LINK, linked).await.map_err(|_| why)
    }
}

/// A server where each of these keys is a user that may do what stands there.
fn with_users(stock: &std::path::Path, users: &[(&KeyPair, Permissions)]) -> Process {
    let users = users.iter().map(|(key, may)| may.configuration(Some(&key.login_key().public())));
    let users = users.collect::<Vec<_>>().join("\n");
    Process::with_config(stock, &format!("authorization {{ users: [\n{users}\n] }}"))
}

/// What is printed suffices, exactly: links, and messages below a prefix of their own.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_enough() {
    for stock in nats_servers() {
        let keys = [new_key().unwrap(), new_key().unwrap()];
        let messages: Prefix = "acme.bus".parse().unwrap();
        // As the command prints it, comments and all.
        let folder = Folder::new("permissions");
        let printed: Vec<String> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let file = folder.file(&format!("{at}.key"), &pem::private(key));
                let midge = midged().parent().unwrap().join("midge");
                let mut command = Command::new(midge);
                command.args(["backend", "permissions", "--key", &file]);
                let output = command.args(["--via-prefix", "acme", "--pubsub", "acme.bus"]).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                String::from_utf8(output.stdout).unwrap()
            })
            .collect();
        let broker =
            Process::with_config(&stock, &format!("authorization {{ users: [\n{}\n] }}", printed.join("\n")));
        let [mut one, other] = keys.each_ref().map(|key| Peer::new(&at(&broker.url()), key));
        assert_eq!(one.reach(other.table.peer()).await, Ok(()));
        let deployment = Deployment { prefix: messages, ..at(&broker.url()) };
        let buses = [
            ExternalBus::connect(&deployment, &keys[0]).await.unwrap(),
            ExternalBus::connect(&deployment, &keys[1]).await.unwrap(),
        ];
        let [one, other] = buses;
        midge::backend::conformance::check(one, other).await;
        let violations: Vec<String> =
            broker.log().into_iter().filter(|line| line.contains("Violation")).collect();
        assert_eq!(violations, [""; 0], "nothing else was tried");
    }
}

/// Without any one of the permissions there is no link, and what is said names what is missing. (Only discovery needs `$SRV`.)
#[tokio::test(flavor = "multi_thread")]
async fn each_permission_that_is_missing_is_named() {
    let stocks = nats_servers();
    for stock in [&stocks[0], &stocks[stocks.len() - 1]] {
        let tries = (0..9).map(|missing| {
            let stock = stock.clone();
            async move { without(&stock, missing).await }
        });
        futures_util::future::join_all(tries).await;
    }
}

async fn without(stock: &std::path::Path, missing: usize) {
    let (dialer, listener) = (new_key().unwrap(), new_key().unwrap());
    let may = |key: &KeyPair| Permissions::of(&key.peer_id(), &prefix(), None);
    let (mut dials, mut listens) = (may(&dialer), may(&listener));
    let (from, to) = (dialer.peer_id(), listener.peer_id());
    // Whose permission is missing, and what is said of it, by whom.
    let (named, by_dialer) = match missing {
        0 => (dials.publish.remove(0).replace('*', &to.to_string()), true),
        1 => (dials.publish.remove(1).replace("d.*.*", &format!("d.{to}.")), true),
        2 => (dials.subscribe.remove(1), true),
        3 => (dials.subscribe.remove(2).replace('>', ""), true),
        4 => (listens.subscribe.remove(0), false),
        5 => (listens.subscribe.remove(1), false),
        7 => (listens.publish.remove(1).replace("d.*.*", &format!("d.{from}.")), false),
        // Only who looks around misses it.
        8 => (listens.subscribe.remove(3).replace('>', ""), false),
        _ => {
            listens.responses = (0, 1);
            (format!("_INBOX_{from}."), false)
        }
    };
    let mut configuration = [
        dials.configuration(Some(&dialer.login_key().public())),
        listens.configuration(Some(&listener.login_key().public())),
    ];
    if missing == 6 {
        let line = configuration[1].lines().find(|line| line.contains("allow_responses")).unwrap().to_owned();
        configuration[1] = configuration[1].replace(&line, "");
    }
    let users = configuration.join("\n");
    let broker = Process::with_config(stock, &format!("authorization {{ users: [\n{users}\n] }}"));
    let there = Peer::new(&at(&broker.url()), &listener);
    let mut listeners = there.carrier.events();
    let mut here = Peer::new(&at(&broker.url()), &dialer);
    let reached = here.reach(to).await;
    assert_eq!(
        reached.is_ok(),
        missing == 8,
        "{missing}: a link without a permission, or none with what it needs"
    );
    let why = reached.err().unwrap_or_default();
    let mut said = why.clone();
    if !by_dialer {
        said.clear();
        let refused = async {
            while let Some(event) = listeners.next().await {
                if let BusEvent::Refused(refusal) = event {
                    return refusal.to_string();
                }
            }
            unreachable!()
        };
        said.insert(timeout(BOUND, refused).await.expect("nothing is said of it"));
    }
    let is_named =
        said.iter().any(|text| text.contains(&format!("'{named}")) && text.contains("permission is missing"));
    assert!(is_named, "{missing}: {named}: {said:?} ({why:?})");
}

/// Programs hear what they may not do: at once where they ask for it, and by events.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_says_what_it_may_not() {
    for stock in nats_servers() {
        let key = new_key().unwrap();
        let inbox = format!("_INBOX_{}.>", key.peer_id());
        let may = Permissions {
            publish: vec!["acme.yes".to_owned(), "acme._SYNC.*".to_owned()],
            subscribe: vec!["acme.yes".to_owned(), inbox],
            responses: (1, 5),
        };
        let broker = with_users(&stock, &[(&key, may)]);
        let bus = ExternalBus::connect(&at(&broker.url()), &key).await.unwrap();
        let mut events = bus.events();
        let mut refused = async |operation, subject: &str| {
            let told = async {
                loop {
                    if let Some(BusEvent::Refused(refusal)) = events.next().await {
                        return refusal;
                    }
                }
            };
            let refusal = timeout(BOUND, told).await.unwrap();
            assert_eq!((refusal.operation, refusal.subject.as_str()), (operation, subject));
        };
        assert!(bus.subscribe("yes", None).await.is_ok());
        for queue in [None, Some("group")] {
            // Told at once, or, if what carries it was slow, by the end of what was subscribed to.
            match bus.subscribe("no.*", queue).await {
                Err(BusError::Refused(refusal)) => assert_eq!(refusal.queue.as_deref(), queue),
                Ok(mut messages) => assert_eq!(timeout(BOUND, messages.next()).await.unwrap(), None),
                other => panic!("{other:?}"),
            }
            refused(Operation::Subscribe, "acme.no.*").await;
        }
        bus.publish(midge::bus::Message::new("no", "")).await.unwrap();
        refused(Operation::Publish, "acme.no").await;
        let asked = bus.request(midge::bus::Message::new("no.ask", ""), BOUND).await;
        assert!(
            matches!(&asked, Err(BusError::Refused(refusal)) if refusal.subject == "acme.no.ask"),
            "{asked:?}"
        );
        assert!(bus.flush().await.is_ok());
    }
}

/// Who is not let in hears why.
#[tokio::test(flavor = "multi_thread")]
async fn logins_are_of_every_kind_and_wrong_ones_are_told() {
    let stock = nats_servers().pop().unwrap();
    let key = new_key().unwrap();
    let other = nkeys::KeyPair::new_user();
    let folder = Folder::new("login");
    let config = format!(
        "authorization {{ users: [ {{ user: u, password: p }}, {{ nkey: {} }}, {{ nkey: {} }} ] }}",
        key.login_key().public().nkey(NkeyKind::User),
        other.public_key()
    );
    let broker = Process::with_config(&stock, &config);
    let token = Process::with_config(&stock, "authorization { token: t }");
    let seed = other.seed().unwrap();
    let user = |password: &str| Login::User { user: "u".to_owned(), password: password.to_owned().into() };
    let with_user = broker.url().replace("nats://", "nats://u:p@");
    let with_token = token.url().replace("nats://", "nats://t@");
    for (url, login, fits) in [
        (broker.url(), Login::Derived, true),
        (broker.url(), Login::Nkey(seed.into()), true),
        (broker.url(), user("p"), true),
        (with_user, Login::Derived, true),
        (with_token, Login::Derived, true),
        (token.url(), Login::Token("t".to_owned().into()), true),
        (broker.url(), user("x"), false),
        (token.url(), Login::Token("x".to_owned().into()), false),
        (token.url(), Login::Derived, false),
    ] {
        let deployment = Deployment { login: login.clone(), ..at(&url) };
        let connected = ExternalBus::connect(&deployment, &key).await;
        match connected {
            Ok(_) => assert!(fits, "{login:?}"),
            Err(why) => {
                let why = why.to_string();
                assert!(!fits && why.contains("authorization violation"), "{login:?}: {why}");
            }
        }
    }
    // A server that is not there, and one that cannot be found.
    for (url, want) in [("nats://127.0.0.1:1", "refused"), ("nats://nowhere.invalid", "nowhere.invalid")] {
        let why = ExternalBus::connect(&at(url), &key).await.unwrap_err().to_string();
        assert!(why.contains(want), "{why}");
    }
    drop(folder);
}

/// Peers in two accounts that export to each other what links need, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_are_joined_by_exports_and_imports() {
    for stock in nats_servers() {
        let (one, other) = (new_key().unwrap(), new_key().unwrap());
        let account = |name: &str, theirs: &str, us: &KeyPair, them: &KeyPair| {
            let (here, there) = (us.peer_id(), them.peer_id());
            format!(
                "{name} {{
  users: [ {{ nkey: {login} }} ]
  exports: [ {{ service: \"acme.link.{here}.dial\", accounts: [{theirs}] }}, {{ stream: \"acme.d.{there}.>\", accounts: [{theirs}] }} ]
  imports: [ {{ service: {{ account: {theirs}, subject: \"acme.link.{there}.dial\" }} }}, {{ stream: {{ account: {theirs}, subject: \"acme.d.{here}.>\" }} }} ]
}}",
                login = us.login_key().public().nkey(NkeyKind::User)
            )
        };
        let config = format!(
            "accounts {{\n{}\n{}\n}}",
            account("ONE", "OTHER", &one, &other),
            account("OTHER", "ONE", &other, &one)
        );
        let broker = Process::with_config(&stock, &config);
        let (mut there, mut here) =
            (Peer::new(&at(&broker.url()), &other), Peer::new(&at(&broker.url()), &one));
        assert_eq!(here.reach(there.table.peer()).await, Ok(()));
        here.table.close().await;
        drop(here);
        // And the other way round.
        let here = Peer::new(&at(&broker.url()), &one);
        assert_eq!(there.reach(here.table.peer()).await, Ok(()));
        // Not without what carries the answers' datagrams.
        let less = config.replacen(
            &format!(", {{ stream: \"acme.d.{}.>\", accounts: [OTHER] }}", other.peer_id()),
            "",
            1,
        );
        assert_ne!(less, config);
        let less = less.replacen(
            &format!(", {{ stream: {{ account: ONE, subject: \"acme.d.{}.>\" }} }}", other.peer_id()),
            "",
            1,
        );
        let broker = Process::with_config(&stock, &less);
        let (there, mut here) = (Peer::new(&at(&broker.url()), &other), Peer::new(&at(&broker.url()), &one));
        assert!(here.reach(there.table.peer()).await.is_err());
    }
}

/// midged by its flags alone, over WebSocket, with credentials whose permissions are those that are printed for nsc.
#[test]
fn midged_is_told_by_flags() {
    for stock in nats_servers() {
        let [operator, account] = [nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account()];
        let limits = r#""subs":-1,"data":-1,"payload":-1"#;
        let operator_jwt = jwt(&operator, &operator, r#"{"type":"operator","version":2}"#);
        let account_jwt = jwt(
            &operator,
            &account,
            &format!(
                r#"{{"limits":{{{limits},"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1}},"type":"account","version":2}}"#
            ),
        );
        let broker = Process::with_config(
            &stock,
            &format!(
                "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload {{ {}: {account_jwt} }}\nwebsocket {{ listen: \"127.0.0.1:-1\", no_tls: true }}",
                account.public_key()
            ),
        );
        let folder = Folder::new("flags");
        let url = format!("ws://127.0.0.1:{}", broker.websocket_port().unwrap());
        let keys = [new_key().unwrap(), new_key().unwrap()];
        let servers: Vec<Process> = (0..2)
            .map(|at| {
                let (key, peer) = (&keys[at], &keys[1 - at]);
                let user = nkeys::KeyPair::new_user();
                // What nsc makes of the line that is printed.
                let may = Permissions::of(&key.peer_id(), &prefix(), None);
                let list = |subjects: &[String]| serde_json::to_string(subjects).unwrap();
                let claims = format!(
                    r#"{{"pub":{{"allow":{}}},"sub":{{"allow":{}}},"resp":{{"max":{},"ttl":{}000000000}},{limits},"type":"user","version":2}}"#,
                    list(&may.publish),
                    list(&may.subscribe),
                    may.responses.0,
                    may.responses.1
                );
                let creds = format!(
                    "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                    jwt(&account, &user, &claims),
                    user.seed().unwrap()
                );
                let creds = folder.file(&format!("{at}.creds"), &creds);
                let key = folder.file(&format!("{at}.key"), &pem::private(key));
                let peer = format!("{}@nats:", peer.peer_id());
                let arguments =
                    ["--via", &url, "--creds", &creds, "--via-prefix", "acme", "--key", &key, "--peer", &peer];
                Process::start(&midged(), &arguments)
            })
            .collect();
        for (server, peer) in servers.iter().zip(keys.iter().rev()) {
            server.wait_for_line(&format!("Link up: peer {} at nats:", peer.peer_id()));
        }
        // A file that is not there is told at once.
        let output = Command::new(midged())
            .args(["-p", "-1", "--via", &url, "--creds", "/no/such.creds"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("/no/such.creds"), "{said}");
    }
}
