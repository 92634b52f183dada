//! Stock clients, as their registries ship them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::ConnectOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use midge_testkit::process::{PATIENCE, Process, program};
use tokio::time::timeout;

fn midged() -> Process {
    Process::start(&program("MIDGED"), &[])
}

/// Waits for something that must come.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it must come in time")
}

#[tokio::test]
async fn async_nats_publishes_and_subscribes() {
    let server = midged();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut exact = client.subscribe("a.b").await.unwrap();
    let mut star = client.subscribe("a.*").await.unwrap();
    let mut tail = client.subscribe("a.>").await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Key", "value");
    client.publish_with_headers("a.b", headers, "one".into()).await.unwrap();
    for sub in [&mut exact, &mut star, &mut tail] {
        let message = soon(sub.next()).await.unwrap();
        assert_eq!((message.subject.as_str(), message.payload.as_ref()), ("a.b", b"one".as_ref()));
        assert_eq!(message.headers.unwrap().get("Key").unwrap().as_str(), "value");
    }
    let large = Bytes::from(vec![7; 1024 * 1024 - 100]);
    client.publish("a.large", large.clone()).await.unwrap();
    assert_eq!(soon(tail.next()).await.unwrap().payload, large);
    exact.unsubscribe().await.unwrap();
    client.publish("a.b", "two".into()).await.unwrap();
    assert_eq!(soon(star.next()).await.unwrap().subject.as_str(), "a.large");
    assert_eq!(soon(star.next()).await.unwrap().payload.as_ref(), b"two");
    assert!(soon(exact.next()).await.is_none());
}

#[tokio::test]
async fn async_nats_shares_work_in_queue_groups() {
    let server = midged();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(client.queue_subscribe("work", "group".into()).await.unwrap());
    }
    client.flush().await.unwrap();
    let other = async_nats::connect(server.url()).await.unwrap();
    for n in 0..400_u32 {
        other.publish("work", n.to_string().into()).await.unwrap();
    }
    other.flush().await.unwrap();
    let mut all = futures_util::stream::select_all(
        members.into_iter().enumerate().map(|(n, sub)| sub.map(move |m| (n, m)).boxed()),
    );
    let mut counts = [0; 4];
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let (member, message) = soon(all.next()).await.unwrap();
        counts[member] += 1;
        assert!(seen.insert(message.payload), "each message goes to one member");
    }
    assert!(counts.iter().all(|count| *count > 40), "everybody gets a share: {counts:?}");
}

#[tokio::test]
async fn async_nats_requests_and_is_told_of_missing_responders() {
    let server = midged();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut service = client.subscribe("service").await.unwrap();
    let responder = client.clone();
    tokio::spawn(async move {
        while let Some(message) = service.next().await {
            responder.publish(message.reply.unwrap(), message.payload).await.unwrap();
        }
    });
    for n in 0..100 {
        let answer = soon(client.request("service", format!("{n}").into())).await.unwrap();
        assert_eq!(answer.payload, Bytes::from(format!("{n}")));
    }
    let error = soon(client.request("nobody", "".into())).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn async_nats_drains() {
    let server = midged();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut sub = client.subscribe("d").await.unwrap();
    for _ in 0..1000 {
        client.publish("d", "x".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    client.drain().await.unwrap();
    let mut count = 0;
    while soon(sub.next()).await.is_some() {
        count += 1;
    }
    assert_eq!(count, 1000);
}

#[tokio::test]
async fn async_nats_comes_back_after_a_restart() {
    let server = midged();
    let port = server.port();
    let (told, mut events) = tokio::sync::mpsc::channel(32);
    let options = ConnectOptions::new().event_callback(move |event| {
        let told = told.clone();
        async move {
            let _ = told.send(event).await;
        }
    });
    let client =
        options.reconnect_delay_callback(|_| Duration::from_millis(20)).connect(server.url()).await.unwrap();
    let mut sub = client.subscribe("r").await.unwrap();
    client.flush().await.unwrap();
    assert!(matches!(soon(events.recv()).await, Some(async_nats::Event::Connected)));
    drop(server);
    assert!(matches!(soon(events.recv()).await, Some(async_nats::Event::Disconnected)));
    let _server = Process::start_on(&program("MIDGED"), i32::from(port), &[]);
    while !matches!(soon(events.recv()).await, Some(async_nats::Event::Connected)) {}
    // The subscription has been made again.
    client.publish("r", "again".into()).await.unwrap();
    assert_eq!(soon(sub.next()).await.unwrap().payload.as_ref(), b"again");
}

/// Runs a client's script. It prints `restart` when the server shall be restarted, and is told when it has been.
fn script(command: &mut Command) {
    let mut server = midged();
    let port = server.port();
    let mut child = command
        .env("NATS_URL", server.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line == "restart" {
            drop(server);
            server = Process::start_on(&program("MIDGED"), i32::from(port), &[]);
            writeln!(stdin, "restarted").unwrap();
        }
        said.push(line);
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {said:#?}\n{:#?}", server.log());
    // A script that stops early must not pass.
    let want = [
        "publish",
        "wildcards",
        "queue",
        "request",
        "no responders",
        "headers",
        "restart",
        "reconnect",
        "drain",
    ];
    assert_eq!(said, want);
}

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/interop")
}

#[test]
fn nats_py() {
    script(Command::new(program("PEER_PYTHON")).arg(format!("{}/python/core.py", folder())));
}

#[test]
fn nats_io_transport_node() {
    let home = program("PEER_NODE");
    // Modules are looked for beside the script, so it must stand beside them.
    let script_path = home.join("core.mjs");
    std::fs::copy(format!("{}/node/core.mjs", folder()), &script_path).unwrap();
    script(Command::new("node").arg(script_path));
}
