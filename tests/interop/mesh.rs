//! Peers known by their keys: midged's links, what comes over them, and what stock servers see of it.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use midge::identity::{KeyPair, NkeyKind, PeerId};
use midge::link::{Anybody, Link, LinkConfig, LinkEvent, LinkEvents, LinkStream, LinkTable, UdpPath};
use midge::mesh::{CLIENT_PROTOCOL, LEAF_PROTOCOL, ROUTER_PROTOCOL, new_key};
use midge_testkit::process::{Folder, Process, nats_servers, program};
use midge_testkit::raw::Raw;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::servers::{midged, subscribe, wait_for_interest};

const BOUND: Duration = Duration::from_secs(20);

/// Two ports for links that nobody has just now, nor is given who asks for any that is free.
fn ports() -> [String; 2] {
    let first = 20_000 + (std::process::id() % 5_000) as u16 * 2;
    let mut free = (first..32_000).filter(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok());
    [(); 2].map(|()| free.next().unwrap().to_string())
}

/// What the script in the documentation does, with servers that were just built.
#[test]
fn two_peers_from_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let programs = midged().parent().unwrap().to_owned();
    let mut script = Command::new(root.join("docs/examples/two-peers.sh"));
    script.arg(programs).current_dir(root);
    let [one, other] = ports();
    script.env("LINKS_A", one).env("LINKS_B", other);
    let output = script.output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    for line in
        ["linked: ", "heard: hello from b", "answered: 5", "refused: 12D3Koo", "back: after", "all is well"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
}

/// A server that listens for links, and lets that peer link.
fn listening(more: &str, allow: &str) -> Process {
    let config = format!("{more}\nmesh {{ listen: \"udp://127.0.0.1:-1\", allow: [\"{allow}\"] }}");
    Process::with_config(&midged(), &config)
}

/// A peer that is no server: it has links, and says on them what it likes.
struct Stranger {
    table: LinkTable,
    events: LinkEvents,
    key: KeyPair,
}

impl Stranger {
    fn new() -> Self {
        Self::with(new_key().unwrap())
    }

    fn with(key: KeyPair) -> Self {
        let (table, events, streams) =
            LinkTable::new(key.clone(), Arc::new(Anybody), LinkConfig::default()).unwrap();
        table.add_path(UdpPath::bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        table.serve(ROUTER_PROTOCOL);
        std::mem::forget(streams);
        Self { table, events, key }
    }

    /// A server that lets it link, and whose id comes before its own or after it: who comes first opens routes.
    fn beside(more: &str, server_first: bool) -> (Self, Process, Folder) {
        let (mut one, mut other) = (new_key().unwrap(), new_key().unwrap());
        if (one.peer_id() < other.peer_id()) != server_first {
            std::mem::swap(&mut one, &mut other);
        }
        let folder = Folder::new("mesh");
        let key = folder.file("peer.key", &midge::identity::pem::private(&one));
        let config = format!(
            "{more}\nmesh {{ key: \"{key}\", listen: \"udp://127.0.0.1:-1\", allow: [\"{}\"] }}",
            other.peer_id()
        );
        (Self::with(other), Process::with_config(&midged(), &config), folder)
    }

    async fn link(&mut self, server: &Process) -> Result<Link, String> {
        let peer = server.peer_id().parse().unwrap();
        let address = format!("udp://127.0.0.1:{}", server.link_port()).parse().unwrap();
        self.table.want(peer, vec![address]);
        loop {
            match timeout(BOUND, self.events.next()).await.unwrap().unwrap() {
                LinkEvent::Up(link) => return Ok(link),
                LinkEvent::Unreachable { why, .. } => return Err(why),
                _ => {}
            }
        }
    }
}

/// Reads until what was read contains this.
async fn until(stream: &mut LinkStream, part: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(part) {
        let read = timeout(BOUND, stream.read_buf(&mut seen)).await;
        let seen = String::from_utf8_lossy(&seen);
        assert!(matches!(read, Ok(Ok(1..))), "no '{part}': {seen} {read:?}");
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn a_peer_connects_as_a_client_by_its_key_alone() {
    // Who has no link needs a password; who has one has proven more.
    let mut stranger = Stranger::new();
    let more = "authorization { user: u, password: p }\nhttp: \"127.0.0.1:-1\"";
    let server = listening(more, &stranger.table.peer().to_string());
    let link = stranger.link(&server).await.unwrap();
    let mut stream = link.open(CLIENT_PROTOCOL).await.unwrap();
    let info = until(&mut stream, "\r\n").await;
    assert!(
        info.starts_with("INFO {") && !info.contains("nonce") && !info.contains("auth_required"),
        "{info}"
    );
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPING\r\n").await.unwrap();
    until(&mut stream, "PONG\r\n").await;
    let mut local = Raw::connect(server.port());
    local.expect_line("INFO ");
    local.send(b"CONNECT {\"user\":\"u\",\"pass\":\"p\"}\r\nPUB a 5\r\nhello\r\n");
    assert!(until(&mut stream, "hello\r\n").await.contains("MSG a 1 5\r\n"));
    let user = stranger.key.public().nkey(NkeyKind::User).to_string();
    let connz = page(&server, "/connz?auth=1");
    let known =
        connz["connections"].as_array().unwrap().iter().any(|conn| conn["authorized_user"] == user.as_str());
    assert!(known, "{connz}");
    let linkz = page(&server, "/linkz");
    assert_eq!(linkz["num_links"], 1);
    assert_eq!(linkz["peer_id"], server.peer_id().as_str());
    let row = &linkz["links"][0];
    assert_eq!(
        (row["peer_id"].as_str(), row["via"].as_str()),
        (Some(&*stranger.table.peer().to_string()), Some("udp"))
    );
    assert_eq!((row["in_use"].as_bool(), row["did_solicit"].as_bool()), (Some(true), Some(false)));
}

/// The page, as JSON.
pub(crate) fn page(server: &Process, path: &str) -> Value {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.monitor_port().unwrap())).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn with_accounts_of_their_own_peers_do_not_hear_each_other() {
    let mut strangers = [Stranger::new(), Stranger::new()];
    let [one, other] = strangers.each_ref().map(|stranger| stranger.table.peer().to_string());
    let config = format!(
        "mesh {{ listen: \"udp://127.0.0.1:-1\", allow: [\"{one}\", \"{other}\"], accounts: per_peer }}"
    );
    let server = Process::with_config(&midged(), &config);
    let mut streams = Vec::new();
    for stranger in &mut strangers {
        let link = stranger.link(&server).await.unwrap();
        let mut stream = link.open(CLIENT_PROTOCOL).await.unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPING\r\n").await.unwrap();
        until(&mut stream, "PONG\r\n").await;
        streams.push(stream);
    }
    streams[0].write_all(b"PUB a 3\r\none\r\nPING\r\n").await.unwrap();
    assert!(until(&mut streams[0], "PONG\r\n").await.contains("MSG a 1 3\r\none\r\n"));
    streams[1].write_all(b"PING\r\n").await.unwrap();
    assert!(!until(&mut streams[1], "PONG\r\n").await.contains("MSG"));
}

#[tokio::test]
async fn a_peer_connects_as_a_leafnode() {
    let mut stranger = Stranger::new();
    let server = listening("", &stranger.table.peer().to_string());
    let link = stranger.link(&server).await.unwrap();
    let mut stream = link.open(LEAF_PROTOCOL).await.unwrap();
    assert!(until(&mut stream, "\r\n").await.starts_with("INFO {"));
    stream
        .write_all(b"CONNECT {\"name\":\"leaf\",\"server_id\":\"L\",\"headers\":true}\r\nLS+ a\r\nPING\r\n")
        .await
        .unwrap();
    until(&mut stream, "PONG\r\n").await;
    Raw::client(server.port()).send(b"PUB a 5\r\nhello\r\n");
    assert!(until(&mut stream, "hello\r\n").await.contains("LMSG a 5\r\n"));
}

/// A peer that is not named is refused during the handshake, and the log says who it was; so is one that claims a name.
#[tokio::test]
async fn strangers_are_refused_by_their_keys() {
    let mut stranger = Stranger::new();
    let server = listening("", &new_key().unwrap().peer_id().to_string());
    let why = stranger.link(&server).await.unwrap_err();
    assert!(why.contains("refuses this peer"), "{why}");
    let line = server.wait_for_line("Link refused");
    assert!(line.contains(&stranger.table.peer().to_string()) && line.contains("not allowed"), "{line}");
}

/// What a peer's route announces must be the key that its link has proven.
#[tokio::test]
async fn a_peer_cannot_announce_another_servers_id() {
    let (mut stranger, server, _folder) = Stranger::beside("http: \"127.0.0.1:-1\"", false);
    let victim = new_key().unwrap().public().nkey(NkeyKind::Server).to_string();
    let link = stranger.link(&server).await.unwrap();
    let own = stranger.key.public().nkey(NkeyKind::Server).to_string();
    let mut claims = link.open(ROUTER_PROTOCOL).await.unwrap();
    let hello = |id: &str| {
        format!(
            "CONNECT {{\"cluster\":\"nats.io/2/router\",\"name\":\"{id}\",\"headers\":true}}\r\nINFO {{\"server_id\":\"{id}\",\"server_name\":\"{id}\",\"headers\":true}}\r\nPING\r\n"
        )
    };
    claims.write_all(hello(&victim).as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(BOUND, claims.read_to_end(&mut rest)).await.unwrap();
    let line = server.wait_for_line("announces the id of another server");
    assert!(line.contains(&own) && line.contains(&victim), "{line}");
    assert_eq!(page(&server, "/routez")["num_routes"], 0);
    // The link is unharmed, and as itself the peer is a member.
    let mut honest = link.open(ROUTER_PROTOCOL).await.unwrap();
    honest.write_all(hello(&own).as_bytes()).await.unwrap();
    until(&mut honest, "PONG\r\n").await;
    assert_eq!(page(&server, "/routez")["num_routes"], 1);
    // Streams of unknown protocols do no harm to it.
    for _ in 0..300 {
        let mut unknown = link.open("nobody.knows/1").await.unwrap();
        assert!(unknown.read_u8().await.is_err());
    }
    // A flood of interest is remembered cheaply, and forgotten with whoever wanted it.
    const MANY: usize = 50_000;
    let before = server.memory();
    let flood: String = (0..MANY).map(|n| format!("RS+ $G flood.{n}.with.some.more\r\n")).collect();
    honest.write_all(flood.as_bytes()).await.unwrap();
    honest.write_all(b"PING\r\n").await.unwrap();
    until(&mut honest, "PONG\r\n").await;
    let grown = server.memory().saturating_sub(before);
    assert!(grown < MANY as u64 * 400 + 20_000_000, "{grown} bytes");
    stranger.table.close().await;
    let mut asks = Raw::client(server.port());
    crate::servers::wait_for_silence(&mut asks, &format!("flood.{}.with.some.more", MANY - 1));
}

/// Whoever may link because anybody may is a client, and no server of this cluster.
#[tokio::test]
async fn who_is_not_named_is_no_server() {
    let server = listening("http: \"127.0.0.1:-1\"", "any");
    let mut stranger = Stranger::new();
    let link = stranger.link(&server).await.unwrap();
    if link.peer() > stranger.table.peer() {
        let mut route = link.open(ROUTER_PROTOCOL).await.unwrap();
        assert!(timeout(BOUND, route.read_u8()).await.unwrap().is_err());
    }
    let mut stream = link.open(CLIENT_PROTOCOL).await.unwrap();
    until(&mut stream, "\r\n").await;
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await.unwrap();
    until(&mut stream, "PONG\r\n").await;
    assert_eq!(page(&server, "/routez")["num_routes"], 0);
}

/// The side that comes first opens routes; what the other opens is not taken.
#[tokio::test]
async fn a_route_is_opened_by_whoever_comes_first() {
    let (mut later, server, _folder) = Stranger::beside("", true);
    let link = later.link(&server).await.unwrap();
    let mut stream = link.open(ROUTER_PROTOCOL).await.unwrap();
    assert!(timeout(BOUND, stream.read_u8()).await.unwrap().is_err());
}

/// A peer in Go, with quic-go.
fn go_peer(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("PEER_GO"));
    command.args(arguments);
    command
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// quic-go and Go's own TLS link to midged, and talk to it as a client.
#[test]
fn a_peer_in_go_links_and_is_known() {
    let key = new_key().unwrap();
    let server = listening("", &key.peer_id().to_string());
    let expected: PeerId = server.peer_id().parse().unwrap();
    let address = format!("127.0.0.1:{}", server.link_port());
    let dial = |key: &KeyPair, expected: &PeerId| {
        go_peer(&["dial", &hex(key.seed()), &address, &hex(expected.key().as_bytes())]).output().unwrap()
    };
    let output = dial(&key, &expected);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "INFO true PONG\n", "{output:?}");
    server.wait_for_line(&format!("Link up: peer {}", key.peer_id()));
    // It expects somebody, too; and who is not named is refused.
    let other = new_key().unwrap();
    let output = dial(&key, &other.peer_id());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another peer than expected"), "{output:?}");
    let output = dial(&other, &expected);
    assert!(!output.status.success(), "{output:?}");
    server.wait_for_line(&format!("Link refused: peer {}", other.peer_id()));
}

/// midged dials quic-go, proves who it is, and opens its route if it comes first.
#[test]
fn a_peer_in_go_is_dialled() {
    use std::io::BufRead;
    let (mut ours, mut theirs) = (new_key().unwrap(), new_key().unwrap());
    if ours.peer_id() > theirs.peer_id() {
        std::mem::swap(&mut ours, &mut theirs);
    }
    let mut peer =
        go_peer(&["listen", &hex(theirs.seed())]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(peer.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.next().unwrap().replace("address ", "");
    let folder = midge_testkit::process::Folder::new("go");
    let key = folder.file("peer.key", &midge::identity::pem::private(&ours));
    let config = format!("mesh {{ key: \"{key}\", peers: [\"{}@udp://{address}\"] }}", theirs.peer_id());
    let server = Process::with_config(&midged(), &config);
    assert_eq!(server.peer_id(), ours.peer_id().to_string());
    assert_eq!(lines.next().unwrap(), format!("peer {}", hex(ours.public().as_bytes())));
    assert_eq!(lines.next().unwrap(), "stream nats.io/2/router");
    server.wait_for_line(&format!("Link up: peer {}", theirs.peer_id()));
    assert!(peer.wait().unwrap().success());
}

/// Stock servers see a cluster, whichever of its members meet by links as well: here one that they know and one that they
/// are told of.
#[test]
fn stock_servers_cannot_tell_a_mesh_from_a_cluster() {
    for stock in nats_servers() {
        let stock =
            Process::with_config(&stock, "server_name: stock\ncluster { name: C, listen: \"127.0.0.1:-1\" }");
        let route = stock.route_port();
        let folder = Folder::new("mesh");
        let key = new_key().unwrap();
        let file = folder.file("peer.key", &midge::identity::pem::private(&key));
        let first = Process::with_config(
            &midged(),
            &format!(
                "server_name: first\ncluster {{ name: C, listen: \"127.0.0.1:-1\", routes: [\"nats://127.0.0.1:{route}\"] }}
mesh {{ listen: \"udp://127.0.0.1:-1\", allow: [\"{}\"] }}",
                key.peer_id()
            ),
        );
        let second = Process::with_config(
            &midged(),
            &format!(
                "server_name: second\ncluster {{ name: C, listen: \"127.0.0.1:-1\" }}
mesh {{ key: \"{file}\", peers: [\"{}@udp://127.0.0.1:{}\"] }}",
                first.peer_id(),
                first.link_port()
            ),
        );
        let all = [&stock, &first, &second];
        for (at, there) in all.iter().enumerate() {
            let subject = format!("on.{at}");
            let mut responder = Raw::client(there.port());
            responder.send(format!("SUB {subject} 1\r\n").as_bytes());
            responder.sync();
            for here in all.iter().filter(|here| !std::ptr::eq(**here, *there)) {
                wait_for_interest(&mut Raw::client(here.port()), &subject);
            }
        }
        // Each message once, to everybody.
        let mut hears = all.map(|server| Raw::client(server.port()));
        for hears in &mut hears {
            hears.send(b"SUB everybody 1\r\n");
            hears.sync();
        }
        for (number, here) in all.into_iter().enumerate() {
            let mut says = Raw::client(here.port());
            for (at, hears) in hears.iter_mut().enumerate() {
                // Known after what was wanted before.
                subscribe(hears, &mut says, &format!("known.{number}.{at}"), &format!("1{number}"));
            }
            says.send(b"PUB everybody 4\r\nonce\r\nPING\r\n");
            says.sync();
            for hears in &mut hears {
                assert_eq!(hears.expect_message(), b"once");
                assert!(hears.sync().is_empty(), "it comes once");
            }
        }
    }
}
