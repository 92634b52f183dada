//! Clients over any byte stream: a server without a port on somebody else's runtime.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use midge_router::CloseReason;
use midge_router::local::Outgoing;
use midge_server::Server;
use midge_server::options::Options;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn server(change: impl FnOnce(&mut Options)) -> Arc<Server> {
    let mut options = Options::default();
    change(&mut options);
    Server::new(options).unwrap()
}

/// A client that has connected, with the task that drives its other end.
async fn client(server: &Arc<Server>, room: usize) -> (DuplexStream, JoinHandle<()>) {
    let (mut client, io) = tokio::io::duplex(room);
    let task = tokio::spawn(server.clone().drive(io, "duplex:1"));
    client.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await.unwrap();
    hear(&mut client, b"PONG\r\n").await;
    (client, task)
}

/// Reads up to and with `end`.
async fn hear(client: &mut DuplexStream, end: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    while !heard.ends_with(end) {
        let read = tokio::time::timeout(PATIENCE, client.read_buf(&mut heard)).await;
        let read = read.unwrap_or_else(|_| panic!("heard only {}", heard.escape_ascii()));
        assert!(read.unwrap() > 0, "closed after {}", heard.escape_ascii());
    }
    heard
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

#[tokio::test]
async fn clients_exchange_messages_and_leave_nothing_behind() {
    let server = server(|_| {});
    let (mut one, first) = client(&server, 4096).await;
    let (mut two, second) = client(&server, 4096).await;
    one.write_all(b"SUB a 1\r\nPING\r\n").await.unwrap();
    hear(&mut one, b"PONG\r\n").await;
    two.write_all(b"PUB a 2\r\nhi\r\n").await.unwrap();
    assert_eq!(hear(&mut one, b"hi\r\n").await, b"MSG a 1 2\r\nhi\r\n");
    drop((one, two));
    within(first).await.unwrap();
    within(second).await.unwrap();
    assert_eq!((server.router().clients(), server.router().totals().subscriptions), (0, 0));
}

/// A reader that is slower than its publisher holds it back instead of losing anything.
#[tokio::test]
async fn a_slow_reader_holds_its_publisher_back() {
    const MESSAGES: usize = 4000;
    let server = server(|options| {
        options.limits.max_payload = 2048;
        options.limits.max_pending = 256 * 1024;
    });
    let (mut reader, _reading) = client(&server, 1024).await;
    reader.write_all(b"SUB a 1\r\nPING\r\n").await.unwrap();
    hear(&mut reader, b"PONG\r\n").await;
    let (mut publisher, _publishing) = client(&server, 1024).await;
    let payload = "x".repeat(1000);
    let publish = tokio::spawn(async move {
        for n in 0..MESSAGES {
            let message = format!("PUB a 1006\r\n{n:06}{payload}\r\n");
            publisher.write_all(message.as_bytes()).await.unwrap();
        }
        publisher
    });
    let mut heard = Vec::new();
    for n in 0..MESSAGES {
        let frame = 13 + 1006 + 2;
        while heard.len() < frame {
            assert!(within(reader.read_buf(&mut heard)).await.unwrap() > 0, "closed at message {n}");
        }
        assert_eq!(heard[..19], format!("MSG a 1 1006\r\n{n:06}").as_bytes()[..19]);
        heard.drain(..frame + 1);
    }
    let _publisher = within(publish).await.unwrap();
    assert_eq!(server.router().totals().counters.slow_pending, 0);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up_at_the_write_deadline() {
    let server = server(|options| options.limits.write_deadline = Duration::from_millis(50));
    let (mut reader, reading) = client(&server, 1024).await;
    reader.write_all(b"SUB a 1\r\nPING\r\n").await.unwrap();
    hear(&mut reader, b"PONG\r\n").await;
    let inside = server.join(&server.router().global_account());
    let payload = vec![b'x'; 300_000];
    inside.publish(&Outgoing { subject: b"a", payload: &payload, ..Outgoing::default() }, Instant::now());
    within(reading).await.unwrap();
    assert_eq!(server.router().totals().counters.slow_deadline, 1);
    let ended = server.router().ended_connections();
    assert_eq!(ended[0].closed, Some(CloseReason::SlowConsumerWriteDeadline));
}

#[tokio::test]
async fn a_stop_delivers_what_was_accepted_and_ends_everybody() {
    let server = server(|_| {});
    let (mut reader, reading) = client(&server, 2048).await;
    reader.write_all(b"SUB a 1\r\nPING\r\n").await.unwrap();
    hear(&mut reader, b"PONG\r\n").await;
    let inside = server.join(&server.router().global_account());
    let payload = vec![b'x'; 500_000];
    inside.publish(&Outgoing { subject: b"a", payload: &payload, ..Outgoing::default() }, Instant::now());
    let stop = tokio::spawn({
        let server = server.clone();
        async move { server.stop().await }
    });
    let mut heard = Vec::new();
    within(reader.read_to_end(&mut heard)).await.unwrap();
    assert!(heard.len() > payload.len() && heard.starts_with(b"MSG a 1 500000\r\n"), "{}", heard.len());
    within(reading).await.unwrap();
    within(stop).await.unwrap();
    assert!(within(inside.next()).await.is_none());
    assert_eq!(inside.closed(), Some(CloseReason::ServerShutdown));
}

#[tokio::test]
async fn a_stranger_without_the_token_is_turned_away() {
    let server = server(|options| options.auth.token = Some(midge_server::options::Secret::new("s3cret")));
    let (mut stranger, io) = tokio::io::duplex(4096);
    let task = tokio::spawn(server.clone().drive(io, "duplex:1"));
    stranger.write_all(b"CONNECT {\"auth_token\":\"guess\"}\r\nPING\r\n").await.unwrap();
    let mut heard = Vec::new();
    within(stranger.read_to_end(&mut heard)).await.unwrap();
    assert!(heard.ends_with(b"-ERR 'Authorization Violation'\r\n"), "{}", heard.escape_ascii());
    within(task).await.unwrap();

    let (mut friend, io) = tokio::io::duplex(4096);
    tokio::spawn(server.clone().drive(io, "duplex:2"));
    friend.write_all(b"CONNECT {\"verbose\":false,\"auth_token\":\"s3cret\"}\r\nPING\r\n").await.unwrap();
    hear(&mut friend, b"PONG\r\n").await;
}

/// On a runtime with several threads, connections write to each other from anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_on_several_threads_hear_everything() {
    const EACH: usize = 500;
    let server = server(|_| {});
    let mut readers = Vec::new();
    for _ in 0..4 {
        let (mut reader, _) = client(&server, 8192).await;
        reader.write_all(b"SUB a.* 1\r\nPING\r\n").await.unwrap();
        hear(&mut reader, b"PONG\r\n").await;
        readers.push(tokio::spawn(async move {
            let mut heard = Vec::new();
            let whole = 4 * EACH * "MSG a.0 1 5\r\n00000\r\n".len();
            while heard.len() < whole {
                assert!(within(reader.read_buf(&mut heard)).await.unwrap() > 0);
            }
            (String::from_utf8(heard).unwrap(), reader)
        }));
    }
    let mut publishers = Vec::new();
    for p in 0..4 {
        let (mut publisher, _) = client(&server, 8192).await;
        publishers.push(tokio::spawn(async move {
            for n in 0..EACH {
                publisher.write_all(format!("PUB a.{p} 5\r\n{n:05}\r\n").as_bytes()).await.unwrap();
            }
            publisher
        }));
    }
    for reader in readers {
        let (heard, _) = within(reader).await.unwrap();
        for p in 0..4 {
            let head = format!("MSG a.{p} 1 5\r\n");
            let payloads: Vec<&str> = heard.split(&head).skip(1).map(|rest| &rest[..5]).collect();
            let want: Vec<String> = (0..EACH).map(|n| format!("{n:05}")).collect();
            assert_eq!(payloads, want, "publisher {p}");
        }
    }
}

/// A carrier that never says that it has ended.
struct Endless(DuplexStream);

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Endless {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_carrier_that_does_not_end_is_given_up() {
    let server = server(|_| {});
    let (mut client, io) = tokio::io::duplex(4096);
    let task = tokio::spawn(server.clone().drive(Endless(io), "duplex:1"));
    client.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await.unwrap();
    hear(&mut client, b"PONG\r\n").await;
    client.write_all(b"nonsense\r\n").await.unwrap();
    within(task).await.unwrap();
    assert_eq!(server.router().clients(), 0);
}
