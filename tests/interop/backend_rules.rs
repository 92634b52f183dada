//! What a deployment must let a peer do and no more, who one is there, and what strangers on it can do to peers.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::{Client, HeaderMap, Message};
use futures_util::StreamExt;
use midge::backend::rendezvous::{DialRequest, RandomBytes, Terms};
use midge::backend::{
    BusError, BusEvent, Carrier, Deployment, ExternalBus, Listening, Login, Operation, Permissions, Prefix,
    proto,
};
use midge::bus::Bus;
use midge::identity::{KeyPair, NkeyKind, PeerId, challenge, pem};
use midge::link::{Anybody, LinkConfig, LinkEvent, LinkTable};
use midge::mesh::new_key;
use midge_testkit::process::{Folder, Process, nats_servers};
use prost::Message as _;
use tokio::time::timeout;

use crate::servers::midged;

const BOUND: Duration = Duration::from_secs(20);
/// Time in which a link that is not to be would have been.
const NO_LINK: Duration = Duration::from_secs(8);

fn prefix() -> Prefix {
    "acme".parse().unwrap()
}

fn at(url: &str) -> Deployment {
    Deployment { prefix: prefix(), ..Deployment::at(&[url]) }
}

/// A peer with a carrier, and what becomes of its links.
struct Peer {
    table: LinkTable,
    events: midge::link::LinkEvents,
    carrier: Arc<Carrier>,
}

impl Peer {
    fn new(deployment: &Deployment, key: &KeyPair) -> Self {
        let (table, events, streams) =
            LinkTable::new(key.clone(), Arc::new(Anybody), LinkConfig::default()).unwrap();
        let carrier = Carrier::start(deployment, key, Listening::To(Arc::new(Anybody))).unwrap();
        table.add_path(carrier.clone()).unwrap();
        std::mem::forget(streams);
        Self { table, events, carrier }
    }

    /// Whether there is a link to that peer in the end, or why not: what the link says and what the connection does.
    async fn reach(&mut self, peer: PeerId) -> Result<(), BTreeSet<String>> {
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
        let tries = (0..7).map(|missing| {
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
    let why = here.reach(to).await.expect_err("a link without a permission");
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

/// What a server that means ill gives a peer to sign, in a CONNECT of the peer; nothing if it hangs up.
fn signed_for(nonce: &str, key: &KeyPair) -> Option<serde_json::Value> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let nonce = serde_json::to_string(nonce).unwrap();
    let hears = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let info = format!(
            "INFO {{\"server_id\":\"N\",\"version\":\"2.10.0\",\"headers\":true,\"max_payload\":1048576,\"auth_required\":true,\"nonce\":{nonce}}}\r\n"
        );
        socket.write_all(info.as_bytes()).unwrap();
        let mut line = String::new();
        let _ = BufReader::new(socket).read_line(&mut line);
        line.strip_prefix("CONNECT ").map(|json| serde_json::from_str(json).unwrap())
    });
    let _carrier = Carrier::start(&at(&url), key, Listening::No).unwrap();
    hears.join().unwrap()
}

/// A hostile server gets a signature of a nonce, by the key for logins, and of nothing else; the peer's own key signs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_peers_key_signs_nothing_for_a_server() {
    let key = new_key().unwrap();
    let (own, login) = (key.public(), key.login_key().public());
    let honest = "abcdefghijklmno";
    let said = tokio::task::block_in_place(|| signed_for(honest, &key)).expect("a nonce is signed");
    assert_eq!(said["nkey"], login.nkey(NkeyKind::User).to_string());
    let signature = said["sig"].as_str().unwrap();
    assert!(challenge::verify(&login.nkey(NkeyKind::User), honest, signature).is_ok());
    assert!(challenge::verify(&own.nkey(NkeyKind::User), honest, signature).is_err());
    assert!(!said.to_string().contains(&own.nkey(NkeyKind::User).to_string()[1..]), "nor is it named");
    // What would be a certificate's signature, a signed message's, or a question for a link.
    for dangerous in [
        "libp2p-tls-handshake:0123456789",
        "midge link over nats 1: dial",
        "12345678901234567890",
        "a b",
        "\u{0}\u{1}",
    ] {
        let said = tokio::task::block_in_place(|| signed_for(dangerous, &key));
        assert!(said.is_none(), "{dangerous:?} is signed: {said:?}");
    }
}

/// Asks as a peer that knows how.
struct Attacker {
    client: Client,
    key: KeyPair,
    target: PeerId,
}

impl Attacker {
    async fn new(url: &str, key: &KeyPair, target: PeerId) -> Self {
        Self { client: async_nats::connect(url).await.unwrap(), key: key.clone(), target }
    }

    fn question(&self, prefix: &str, late: Duration) -> Vec<u8> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() - late;
        let mut chance = RandomBytes::new([0; 64]);
        chance.iter_mut().for_each(|byte| *byte = nkeys_random());
        let prefix: Prefix = prefix.parse().unwrap();
        let terms = Terms { key: &self.key, prefix: &prefix, now, max_datagram: 16_000 };
        DialRequest::new(&terms, self.target, &chance).bytes
    }

    /// The number that the answer says why with; none if it agrees.
    async fn ask(&self, question: Vec<u8>) -> Option<String> {
        let subject = format!("acme.link.{}.dial", self.target);
        let answer: Message = self.client.request(subject, question.into()).await.unwrap();
        let code =
            |headers: &HeaderMap| headers.get("Nats-Service-Error-Code").map(|code| code.as_str().to_owned());
        answer.headers.as_ref().and_then(code)
    }

    /// A question that says something else, signed by that key.
    fn altered(&self, signer: &KeyPair, change: impl FnOnce(&mut proto::Dial)) -> Vec<u8> {
        let signed = proto::Signed::decode(&self.question("acme", Duration::ZERO)[..]).unwrap();
        let mut dial = proto::Dial::decode(&signed.body[..]).unwrap();
        change(&mut dial);
        let body = dial.encode_to_vec();
        let signature = signer.sign(&[b"midge link over nats 1: dial\0", &body[..]].concat()).to_vec();
        proto::Signed { body, signature }.encode_to_vec()
    }
}

fn nkeys_random() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u8
}

/// A question that was overheard, forged, old, or for somebody else is refused and counted; floods of them and of junk
/// datagrams cost bounded memory, and the link that is there goes on.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_gain_nothing() {
    const FLOOD: usize = 20_000;
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        let (friend, stranger, key) = (new_key().unwrap(), new_key().unwrap(), new_key().unwrap());
        let folder = Folder::new("attack");
        let config = format!(
            "http: \"127.0.0.1:-1\"\nmesh {{ key: \"{}\", allow: [\"{}\"] }}\nbackend {{ urls: \"{}\", prefix: acme }}",
            folder.file("peer.key", &pem::private(&key)),
            friend.peer_id(),
            broker.url()
        );
        let server = Process::with_config(&midged(), &config);
        server.wait_for_line("connected");
        let target = key.peer_id();
        let ear = async_nats::connect(broker.url()).await.unwrap();
        let mut overheard = ear.subscribe(format!("acme.link.{target}.dial")).await.unwrap();
        ear.flush().await.unwrap();
        let mut linked = Peer::new(&at(&broker.url()), &friend);
        assert_eq!(linked.reach(target).await, Ok(()));
        let attacker = Attacker::new(&broker.url(), &friend, target).await;
        let refused = || page(&server)["dials_refused"].as_u64().unwrap();
        let mut before = refused();
        // Overheard and said again: another's answer is of no use, and this one gets none.
        let replayed = timeout(BOUND, overheard.next()).await.unwrap().unwrap().payload.to_vec();
        let other = Attacker::new(&broker.url(), &stranger, target).await;
        let hour = Duration::from_secs(3600);
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("replayed", replayed, "409"),
            ("by a stranger", other.question("acme", Duration::ZERO), "403"),
            ("an hour old", attacker.question("acme", hour), "408"),
            ("of another prefix", attacker.question("other", Duration::ZERO), "404"),
            ("forged", attacker.altered(&stranger, |_| ()), "403"),
            (
                "for another",
                attacker.altered(&friend, |dial| dial.target = stranger.peer_id().to_bytes().to_vec()),
                "404",
            ),
            (
                "with a key of small order",
                attacker.altered(&friend, |dial| dial.ephemeral = vec![0; 32]),
                "400",
            ),
            ("of another version", attacker.altered(&friend, |dial| dial.version = 9), "400"),
            ("junk", b"junk".to_vec(), "400"),
            ("long", vec![8; 100_000], "400"),
        ];
        for (what, question, code) in cases {
            assert_eq!(attacker.ask(question).await.as_deref(), Some(code), "{what}");
            before += 1;
            assert_eq!(refused(), before, "{what} is counted");
        }
        // Floods: of questions that claim to be a friend's, of a friend's own, and of datagrams.
        let memory = server.memory();
        let forged = attacker.altered(&stranger, |_| ());
        for _ in 0..FLOOD {
            attacker.client.publish(format!("acme.link.{target}.dial"), forged.clone().into()).await.unwrap();
            attacker
                .client
                .publish(format!("acme.d.{target}.aaaaaaaaaaaaaaaaaaaaaaaa"), vec![7; 1200].into())
                .await
                .unwrap();
        }
        for _ in 0..20 {
            attacker.client.publish(format!("acme.d.{target}.x"), vec![7; 1_000_000].into()).await.unwrap();
        }
        let mut busy = 0;
        for _ in 0..60 {
            busy += usize::from(
                attacker.ask(attacker.question("acme", Duration::ZERO)).await.as_deref() == Some("429"),
            );
        }
        assert!(busy > 0, "a peer may ask so often and no more");
        let counts = page(&server);
        // Those for which there was no room are not even looked at.
        for count in ["dropped_packets", "dials_refused"] {
            assert!(counts[count].as_u64().unwrap() > 1000, "{counts}");
        }
        assert!(counts["sessions"].as_u64().unwrap() <= 16, "{counts}");
        let grown = server.memory().saturating_sub(memory);
        assert!(grown < 100_000_000, "{grown} bytes");
        let link = linked.table.link(&target).expect("the link is there");
        assert!(!link.is_closed() && link.open("nats.io/2/client").await.is_ok());
    }
}

/// What the server counts of what goes through the deployment.
fn page(server: &Process) -> serde_json::Value {
    crate::mesh::page(server, "/linkz")["backend"].clone()
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
        let (there, mut here) = (Peer::new(&at(&broker.url()), &other), Peer::new(&at(&broker.url()), &one));
        assert_eq!(here.reach(there.table.peer()).await, Ok(()));
    }
}
