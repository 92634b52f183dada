//! A stock NATS server as what carries messages: the bus of a program, and what a server shares with others.

use std::time::{Duration, Instant};

use midge::Node;
use midge::backend::{BusError, Deployment, ExternalBus, TlsFiles};
use midge::bus::{Bus, Message};
use midge::channel::{ChannelOptions, Unsigned};
use midge::mesh::new_key;
use midge::options::Options;
use midge_testkit::process::{Process, nats_servers};
use midge_testkit::raw::{Frame, Raw};
use midge_testkit::tls::Authority;
use tokio::time::timeout;

use crate::backend::Key;
use crate::servers::{CONVERGES, message, midged, settled, wait_for_interest, with_port};

const BOUND: Duration = Duration::from_secs(60);

/// The same suite for a router inside the process and for a deployment, with each of the servers, with a prefix and without.
#[tokio::test]
async fn a_deployment_is_a_bus_as_a_router_is() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        for prefix in ["", "acme.x"] {
            let deployment =
                Deployment { prefix: prefix.parse().unwrap(), ..Deployment::at(&[&broker.url()]) };
            let one = ExternalBus::connect(&deployment, &new_key().unwrap()).await.unwrap();
            let other = ExternalBus::connect(&deployment, &new_key().unwrap()).await.unwrap();
            midge::backend::conformance::check(one, other).await;
        }
    }
}

/// Clients of midged and of the stock server hear each other below the prefix, each message once: plain subscriptions that
/// overlap, queue groups with members on both sides, questions both ways, headers.
#[test]
fn messages_are_shared_through_a_stock_server() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        let server = Process::with_config(
            &midged(),
            &format!("backend {{ urls: \"{}\", pubsub: acme, links: false }}", broker.url()),
        );
        server.wait_for_line("Messages through");
        let (mut inside, mut outside) = (Raw::client(server.port()), Raw::client(broker.port()));
        // From inside.
        outside.send(b"SUB acme.> 1\r\n");
        outside.sync();
        let until = Instant::now() + CONVERGES;
        while settled(&mut outside).is_empty() {
            assert!(Instant::now() < until, "nothing is shared");
            inside.send(b"PUB probe 0\r\n\r\n");
        }
        inside.sync();
        inside.send(b"HPUB a.b answers 21 23\r\nNATS/1.0\r\nName: v\r\n\r\nhi\r\nPUB a.end 0\r\n\r\n");
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|frame: &Frame| frame.line().contains("acme.a.end")) {
            heard.push(message(&mut outside));
        }
        heard.retain(|frame| frame.line().contains("acme.a.b"));
        let Frame::Message(line, body) = &heard[0] else { unreachable!() };
        assert_eq!((heard.len(), line.as_str()), (1, "HMSG acme.a.b 1 acme.answers 21 23"));
        assert!(String::from_utf8_lossy(body).contains("Name: v"));
        outside.send(b"UNSUB 1\r\n");
        // From outside: subscriptions that overlap get a copy each, and no more.
        inside.send(b"SUB a.* 1\r\nSUB *.b 2\r\nSUB a.b 3\r\nSUB jobs g 4\r\nSUB jobs 5\r\nSUB > 6\r\n");
        inside.sync();
        for subject in ["a.b", "jobs"] {
            wait_for_interest(&mut outside, &format!("acme.{subject}"));
        }
        settle_both(&mut inside, &mut outside);
        outside.send(b"PUB acme.a.b acme.back 4\r\nonce\r\n");
        let heard = settle_both(&mut inside, &mut outside);
        let mut lines: Vec<&str> = heard.iter().map(Frame::line).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["MSG a.b 1 back 4", "MSG a.b 2 back 4", "MSG a.b 3 back 4", "MSG a.b 6 back 4"]);
        // A queue group has members on both sides: each message goes to one of them, and to all others.
        outside.send(b"SUB acme.jobs g 7\r\n");
        outside.sync();
        for _ in 0..100 {
            outside.send(b"PUB acme.jobs 1\r\nx\r\n");
        }
        let there = settled(&mut outside).len();
        let mut here = settle_both(&mut inside, &mut outside);
        let of = |here: &[Frame], sid: &str| {
            here.iter().filter(|frame| frame.line() == format!("MSG jobs {sid} 1")).count()
        };
        // What is for a group comes by a way of its own.
        while of(&here, "4") + there < 100 {
            here.push(message(&mut inside));
        }
        here.extend(settle_both(&mut inside, &mut outside));
        let worked = of(&here, "4");
        assert_eq!((of(&here, "5"), of(&here, "6"), worked + there), (100, 100, 100));
        assert!(worked > 10 && there > 10, "{worked} here and {there} there");
        outside.send(b"UNSUB 7\r\n");
        outside.sync();
        // Questions of stock clients are answered where they came from, which is not below the prefix.
        inside.send(b"UNSUB 6\r\nSUB service 8\r\n");
        inside.sync();
        wait_for_interest(&mut outside, "acme.service");
        settle_both(&mut inside, &mut outside);
        outside.send(b"SUB _INBOX.x.1 9\r\nPUB acme.service _INBOX.x.1 1\r\n?\r\n");
        let question = message(&mut inside);
        assert_eq!(question.line(), "MSG service 8 $OUTSIDE._INBOX.x.1 1");
        inside.send(b"PUB $OUTSIDE._INBOX.x.1 6\r\nanswer\r\n");
        assert_eq!(outside.expect_message(), b"answer");
        // And the other way round.
        outside.send(b"SUB acme.theirs 10\r\n");
        outside.sync();
        inside.send(b"SUB _INBOX.y.* 11\r\nPUB theirs _INBOX.y.1 1\r\n?\r\n");
        let Frame::Message(line, _) = message(&mut outside) else { unreachable!() };
        let reply = line.split(' ').nth(3).unwrap().to_owned();
        assert_eq!(reply, "acme._INBOX.y.1");
        wait_for_interest(&mut outside, &reply);
        outside.send(format!("PUB {reply} 6\r\nanswer\r\n").as_bytes());
        while inside.expect_message() != b"answer" {}
    }
}

/// What has come inside by the time that everything that was said outside has.
fn settle_both(inside: &mut Raw, outside: &mut Raw) -> Vec<Frame> {
    inside.send(b"SUB settled.* 99\r\n");
    let mut heard = settled(inside);
    wait_for_interest(outside, "acme.settled.probe");
    outside.send(b"PUB acme.settled.now 0\r\n\r\n");
    loop {
        let frame = message(inside);
        if frame.line().starts_with("MSG settled.now 99") {
            inside.send(b"UNSUB 99\r\n");
            heard.extend(settled(inside));
            heard.retain(|frame| !frame.line().contains(" settled."));
            heard.retain(|frame| !frame.line().contains("$OUTSIDE.wait.inbox"));
            return heard;
        }
        heard.push(frame);
    }
}

/// What a program does with a node, whichever it is.
async fn program<K>(node: &Node<K>, other: &Node<K>) {
    let bus = other.bus().clone();
    let mut jobs = bus.subscribe("sum.*", Some("adders")).await.unwrap();
    bus.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(job) = jobs.next().await {
            let text = String::from_utf8_lossy(&job.payload).into_owned();
            let sum: u64 = text.split('+').flat_map(str::parse::<u64>).sum();
            bus.publish(Message::new(&job.reply, sum.to_string())).await.unwrap();
        }
    });
    let answer = loop {
        match node.bus().request(Message::new("sum.two", "2+3"), BOUND).await {
            Err(BusError::NoResponders(_)) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(answer.payload, "5");
    answering.abort();
    // On a channel, what is signed is believed, and what is not is left out or marked, as the receiver says.
    let marks = ChannelOptions { unsigned: Unsigned::Mark, ..ChannelOptions::default() };
    let mut believes = other.channel("news", ChannelOptions::default()).await.unwrap();
    let mut marks = other.channel("news", marks).await.unwrap();
    let says = node.channel("news", ChannelOptions::default()).await.unwrap();
    let heard = async {
        loop {
            node.bus().publish(Message::new("news", "nobody says so")).await.unwrap();
            if let Ok(Some(message)) = timeout(Duration::from_millis(20), marks.next()).await {
                return message;
            }
        }
    };
    let unsigned = timeout(BOUND, heard).await.unwrap();
    assert_eq!((unsigned.sender, &unsigned.payload[..]), (None, &b"nobody says so"[..]));
    says.send(b"all is well").await.unwrap();
    let news = timeout(BOUND, believes.next()).await.unwrap().unwrap();
    assert_eq!((news.sender, &news.payload[..]), (Some(node.peer_id()), &b"all is well"[..]));
    assert!(believes.rejected() > 0);
}

/// The same program by routers with a link between them, and by a deployment; there, stock clients read what is signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_does_not_know_what_carries_its_messages() {
    let key = new_key().unwrap();
    let alice = Node::builder()
        .embedded(Options::default())
        .listen("127.0.0.1:0".parse().unwrap())
        .allow(key.peer_id())
        .start()
        .unwrap();
    let there = format!("{}@{}", alice.peer_id(), alice.addresses()[0]);
    let bob = Node::builder().key(key).embedded(Options::default()).peer(&there).unwrap().start().unwrap();
    program(&alice, &bob).await;
    alice.shutdown().await;
    bob.shutdown().await;
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        let deployment = Deployment { prefix: "acme".parse().unwrap(), ..Deployment::at(&[&broker.url()]) };
        let alice = Node::builder().external(deployment.clone()).start().await.unwrap();
        let bob = Node::builder().external(deployment).start().await.unwrap();
        let mut stock = Raw::client(broker.port());
        stock.send(b"SUB acme.news 1\r\n");
        stock.sync();
        program(&alice, &bob).await;
        let signed = loop {
            match message(&mut stock) {
                Frame::Message(line, body) if line.starts_with("HMSG acme.news 1 ") => break body,
                _ => {}
            }
        };
        let text = String::from_utf8_lossy(&signed);
        assert!(text.ends_with("\r\n\r\nall is well") && text.contains("Midge-Signature: "), "{text}");
        alice.shutdown().await.unwrap();
        bob.shutdown().await.unwrap();
    }
}

/// Several servers, of which one is not there; TLS with a certificate of one's own; WebSocket.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_reached_in_every_way() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (identity, client) = (authority.server("server"), authority.client("client", "midge", &[]));
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", identity.certificate, identity.key);
    let trusting = TlsFiles { ca: Some(authority.file().into()), ..TlsFiles::default() };
    for stock in nats_servers() {
        let plain = Process::with_config(&stock, "websocket { listen: \"127.0.0.1:-1\", no_tls: true }");
        let safe =
            Process::with_config(&stock, &format!("{tls}\nwebsocket {{ listen: \"127.0.0.1:-1\", {tls} }}"));
        let at = |scheme: &str, port: u16| format!("{scheme}://localhost:{port}");
        let websocket = |server: &Process| server.websocket_port().unwrap();
        for urls in [
            vec!["nats://127.0.0.1:1".to_owned(), at("tls", safe.port())],
            vec![at("nats", safe.port())],
            vec![at("wss", websocket(&safe))],
            vec![at("ws", websocket(&plain))],
        ] {
            let deployment =
                Deployment { urls: urls.clone(), tls: trusting.clone(), ..Deployment::default() };
            let bus = ExternalBus::connect(&deployment, &new_key().unwrap()).await;
            let bus = bus.unwrap_or_else(|why| panic!("{urls:?}: {why}"));
            let mut heard = bus.subscribe("a", None).await.unwrap();
            bus.publish(Message::new("a", "hello")).await.unwrap();
            assert_eq!(timeout(BOUND, heard.next()).await.unwrap().unwrap().payload, "hello", "{urls:?}");
        }
        // One who must show a certificate of his own.
        let verifying =
            tls.replace("tls {", &format!("tls {{ verify: true, ca_file: \"{}\",", authority.file()));
        let verifying = Process::with_config(&stock, &verifying);
        let shown = TlsFiles {
            certificate: Some(client.certificate.clone().into()),
            key: Some(client.key.clone().into()),
            ..trusting.clone()
        };
        for (files, fits) in [(shown, true), (trusting.clone(), false)] {
            let deployment = Deployment { tls: files, ..Deployment::at(&[&at("tls", verifying.port())]) };
            assert_eq!(ExternalBus::connect(&deployment, &new_key().unwrap()).await.is_ok(), fits);
        }
        let unknown = Deployment {
            tls: TlsFiles { ca: Some(stranger.file().into()), ..TlsFiles::default() },
            ..Deployment::at(&[&at("tls", safe.port())])
        };
        let why = ExternalBus::connect(&unknown, &new_key().unwrap()).await.unwrap_err().to_string();
        assert!(why.contains("certificate") || why.contains("BadSignature"), "{why}");
    }
}

/// Servers that share messages and have links to each other, too: nothing goes round.
#[test]
#[expect(clippy::needless_range_loop, reason = "each talks to each")]
fn nothing_goes_round_between_servers_that_share_messages() {
    for stock in nats_servers() {
        let broker = Process::with_config(&stock, "");
        let (one, other) = (Key::new(), Key::new());
        let server = |key: &Key, peer: &Key| {
            let config = format!(
                "mesh {{ key: \"{}\", peers: [\"{}@nats:\"] }}\nbackend {{ urls: \"{}\", pubsub: true }}",
                key.file,
                peer.id(),
                broker.url()
            );
            Process::with_config(&midged(), &config)
        };
        let servers = [server(&one, &other), server(&other, &one)];
        for server in &servers {
            server.wait_for_line("Link up");
        }
        let ports = [servers[0].port(), servers[1].port(), broker.port()];
        let subject =
            |at: usize, rest: &str| if at == 2 { format!("midge.bus.{rest}") } else { rest.to_owned() };
        let mut clients = ports.map(Raw::client);
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(format!("SUB {} 1\r\n", subject(at, "n.*")).as_bytes());
            client.sync();
        }
        // A linked server has two ways to another's clients, and they hear both. Nobody else hears anything twice, and nothing
        // comes a third time.
        let copies = |from: usize, at: usize| if from != at && from != 2 && at != 2 { 2 } else { 1 };
        // Until everybody hears everybody, by all ways.
        for from in 0..3 {
            let (until, mut number) = (Instant::now() + BOUND, 0);
            loop {
                number += 1;
                let text = format!("{from} {number}");
                let say = format!("PUB {} {}\r\n{text}\r\n", subject(from, "n.meet"), text.len());
                clients[from].send(say.as_bytes());
                let mut heard = [0; 3];
                for (at, client) in clients.iter_mut().enumerate() {
                    let patience = Instant::now() + Duration::from_millis(200);
                    while heard[at] < copies(from, at) && Instant::now() < patience {
                        let frame = client.frame_within(Duration::from_millis(50));
                        heard[at] += usize::from(
                            matches!(frame, Some(Frame::Message(_, body)) if body == text.as_bytes()),
                        );
                    }
                }
                if (0..3).all(|at| heard[at] == copies(from, at)) {
                    break;
                }
                assert!(Instant::now() < until, "{from} is heard {heard:?} times");
            }
        }
        // What comes now comes so often and no more: a thing that goes round comes again and again.
        for from in 0..3 {
            for round in 0..10 {
                let text = format!("from {from} {round}");
                clients[from]
                    .send(format!("PUB {} {}\r\n{text}\r\n", subject(from, "n.once"), text.len()).as_bytes());
            }
        }
        for at in 0..3 {
            let mut heard = Vec::new();
            let all: usize = (0..3).map(|from| 10 * copies(from, at)).sum();
            while heard.len() < all {
                if let Frame::Message(line, body) = message(&mut clients[at])
                    && line.contains("n.once")
                {
                    heard.push(body);
                }
            }
            for from in 0..3 {
                for round in 0..10 {
                    let text = format!("from {from} {round}");
                    let times = heard.iter().filter(|body| **body == text.as_bytes()).count();
                    assert_eq!(times, copies(from, at), "{text} at {at}");
                }
            }
        }
        // What goes round would have come again by the time that another message has come by all ways.
        clients[0].send(b"PUB n.mark 0\r\n\r\n");
        for at in 0..3 {
            for _ in 0..copies(0, at) {
                let frame = message(&mut clients[at]);
                assert!(frame.line().contains("n.mark"), "{frame:?}");
            }
            assert_eq!(settled(&mut clients[at]), []);
        }
    }
}

/// The deployment comes later than midged, goes, and comes back: messages are shared whenever it is there; a bus goes on at
/// another of its servers.
#[tokio::test(flavor = "multi_thread")]
async fn what_shares_messages_comes_back() {
    let stock = nats_servers().pop().unwrap();
    let cluster =
        |routes: &str| format!("cluster {{ name: C, listen: \"127.0.0.1:-1\", routes: [{routes}] }}");
    let later = with_port(&stock);
    let (port, url) = (i32::from(later.port()), later.url());
    drop(later);
    let server = Process::with_config(
        &midged(),
        &format!("backend {{ urls: \"{url}\", pubsub: acme, links: false }}"),
    );
    // Longer than a server waits for who says nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut broker = Process::with_config_on(&stock, port, &cluster(""));
    let heard = |server: &Process, broker: &Process| {
        let (mut inside, mut outside) = (Raw::client(server.port()), Raw::client(broker.port()));
        outside.send(b"SUB acme.> 1\r\n");
        outside.sync();
        inside.send(b"SUB back 1\r\n");
        inside.sync();
        let until = Instant::now() + BOUND;
        while settled(&mut outside).is_empty() {
            assert!(Instant::now() < until, "nothing is shared");
            inside.send(b"PUB probe 0\r\n\r\n");
        }
        while settled(&mut inside).is_empty() {
            assert!(Instant::now() < until, "nothing comes in");
            outside.send(b"PUB acme.back 0\r\n\r\n");
        }
    };
    tokio::task::block_in_place(|| heard(&server, &broker));
    let second =
        Process::with_config(&stock, &cluster(&format!("\"nats://127.0.0.1:{}\"", broker.route_port())));
    let deployment = Deployment { urls: vec![url, second.url()], ..Deployment::default() };
    let bus = ExternalBus::connect(&deployment, &new_key().unwrap()).await.unwrap();
    let mut messages = bus.subscribe("goes.on", None).await.unwrap();
    drop(broker);
    // Whichever of the two it was at: it goes on at the other, with its subscriptions.
    let goes_on = async {
        loop {
            bus.publish(Message::new("goes.on", "")).await.unwrap();
            if timeout(Duration::from_millis(100), messages.next()).await.is_ok() {
                return;
            }
        }
    };
    timeout(BOUND, goes_on).await.unwrap();
    assert!(bus.flush().await.is_ok());
    broker = Process::with_config_on(
        &stock,
        port,
        &cluster(&format!("\"nats://127.0.0.1:{}\"", second.route_port())),
    );
    tokio::task::block_in_place(|| heard(&server, &broker));
}
