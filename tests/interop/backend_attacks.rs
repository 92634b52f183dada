//! What strangers on a deployment, and servers that mean ill, can do to peers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use async_nats::{Client, HeaderMap, Message};
use futures_util::StreamExt;
use midge::backend::rendezvous::{DialRequest, RandomBytes, Terms};
use midge::backend::{BackendError, Carrier, Deployment, Listening, Login, Prefix, proto};
use midge::identity::{KeyPair, NkeyKind, PeerId, challenge, pem};
use midge::mesh::new_key;
use midge_testkit::process::{Folder, Process, nats_servers};
use midge_testkit::raw::Raw;
use prost::Message as _;
use tokio::time::timeout;

use crate::backend_rules::{BOUND, Peer, at};
use crate::servers::{midged, wait_for_interest};

/// What a server that means ill gives a peer to sign, in a CONNECT of the peer; nothing if it hangs up.
fn signed_for(nonce: &str, login: Login, key: &KeyPair) -> Option<serde_json::Value> {
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
    let _carrier = Carrier::start(&Deployment { login, ..at(&url) }, key, Listening::No).unwrap();
    hears.join().unwrap()
}

/// A hostile server gets a signature of a nonce, by the key for logins, and of nothing else; the peer's own key signs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_peers_key_signs_nothing_for_a_server() {
    let key = new_key().unwrap();
    let (own, login) = (key.public(), key.login_key().public());
    let honest = "abcdefghijklmno";
    let said =
        tokio::task::block_in_place(|| signed_for(honest, Login::Derived, &key)).expect("a nonce is signed");
    assert_eq!(said["nkey"], login.nkey(NkeyKind::User).to_string());
    let signature = said["sig"].as_str().unwrap();
    assert!(challenge::verify(&login.nkey(NkeyKind::User), honest, signature).is_ok());
    assert!(challenge::verify(&own.nkey(NkeyKind::User), honest, signature).is_err());
    assert!(!said.to_string().contains(&own.nkey(NkeyKind::User).to_string()[1..]), "nor is it named");
    // What would be a certificate's signature, a signed message's, or a question for a link: with any kind of key.
    let other = new_key().unwrap();
    let seed = other.nkey_seed(NkeyKind::User).to_string();
    let credentials = format!("eyJ0.a.b\n{seed}\n");
    let logins = [Login::Derived, Login::Nkey(seed.into()), Login::Credentials(credentials.into())];
    for dangerous in [
        "libp2p-tls-handshake:0123456789",
        "midge link over nats 1: dial",
        "12345678901234567890",
        "a b",
        "\u{0}\u{1}",
    ] {
        for login in &logins {
            let said = tokio::task::block_in_place(|| signed_for(dangerous, login.clone(), &key));
            assert!(said.is_none(), "{dangerous:?} is signed: {said:?}");
        }
    }
    // And the peer's own key is no login, in whatever form.
    let own = key.nkey_seed(NkeyKind::User).to_string();
    for login in [Login::Nkey(own.clone().into()), Login::Credentials(format!("eyJ0.a.b\n{own}\n").into())] {
        let deployment = Deployment { login, ..at("nats://127.0.0.1:1") };
        let why = Carrier::start(&deployment, &key, Listening::No).unwrap_err();
        assert_eq!(why, BackendError::OwnKey);
    }
}

/// A server that lies about lengths, or says half of something, ends a connection and no more: midged goes on, and asks again.
#[test]
fn a_server_that_lies_does_no_harm() {
    let lies: [&[u8]; 5] = [
        b"-ERR\r\n",
        b"MSG a 1 18446744073709551615\r\n",
        b"HMSG a 1 5 5\r\nhello\r\n",
        b"\xff\xfe\r\n",
        b"INFO {\r\n",
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let config = format!("backend {{ urls: \"{url}\" }}\nmesh {{ allow: any }}");
    let server = Process::with_config(&midged(), &config);
    let mut sockets = Vec::new();
    for lie in lies.into_iter().chain([&b""[..]]) {
        // One that was lied to comes again.
        let (mut socket, _) = listener.accept().unwrap();
        let info =
            "INFO {\"server_id\":\"N\",\"version\":\"2.10.0\",\"headers\":true,\"max_payload\":1048576}\r\n";
        socket.write_all(info.as_bytes()).unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "PING" {}
        socket.write_all(&[b"PONG\r\n", lie].concat()).unwrap();
        sockets.push(socket);
    }
    let mut client = Raw::client(server.port());
    client.sync();
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
        let [friend, friend_too, stranger, key] = [(); 4].map(|()| new_key().unwrap());
        let folder = Folder::new("attack");
        let config = format!(
            "http: \"127.0.0.1:-1\"\nmesh {{ key: \"{}\", allow: [\"{}\", \"{}\"] }}\nbackend {{ urls: \"{}\", prefix: acme }}",
            folder.file("peer.key", &pem::private(&key)),
            friend.peer_id(),
            friend_too.peer_id(),
            broker.url()
        );
        let server = Process::with_config(&midged(), &config);
        server.wait_for_line("connected");
        wait_for_interest(&mut Raw::client(broker.port()), &format!("acme.link.{}.dial", key.peer_id()));
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
        // Sixteen sessions of one peer, of which one is the link; what is more is refused and counted.
        let accepted = || page(&server)["dials_accepted"].as_u64().unwrap();
        let (agreed, mut busy) = (accepted(), 0);
        let mut said = Vec::new();
        for _ in 0..19 {
            let subject = format!("acme.link.{target}.dial");
            let question = attacker.question("acme", Duration::ZERO);
            said.push(attacker.client.request(subject, question.into()).await.unwrap());
        }
        for answer in &said {
            // Signed, or not: who asks too often is not answered by a signature.
            let signed =
                proto::Signed::decode(&answer.payload[..]).ok().filter(|signed| !signed.body.is_empty());
            let code = signed.map(|signed| proto::Accept::decode(&signed.body[..]).unwrap().reject_code);
            busy += u64::from(code != Some(0));
        }
        assert!(busy >= 4, "{busy} of 19 were refused");
        assert_eq!((accepted() - agreed, refused() - before), (19 - busy, busy), "each is counted");
        // Broken headers cost the connection, which comes back; not the link.
        let mut raw = Raw::client(broker.port());
        for _ in 0..3 {
            raw.send(format!("HPUB acme.d.{target}.x 5 5\r\nhello\r\n").as_bytes());
            raw.sync();
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
        // Another friend is not held up by what is done in this one's name.
        let mut second = Peer::new(&at(&broker.url()), &friend_too);
        assert_eq!(second.reach(target).await, Ok(()));
        let counts = page(&server);
        // Those for which there was no room are not even looked at.
        for count in ["dropped_packets", "dials_refused"] {
            assert!(counts[count].as_u64().unwrap() > 1000, "{counts}");
        }
        assert!(counts["sessions"].as_u64().unwrap() <= 17, "{counts}");
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
