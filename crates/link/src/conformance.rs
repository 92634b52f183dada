//! What every [`PacketPath`] must do, as a program that a new one runs in its tests.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! let network = midge_link::mem::MemNetwork::new(7);
//! midge_link::conformance::check(network.join(), network.join(), "nobody").await;
//! # });
//! ```

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use midge_identity::{KeyPair, PeerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::path::{Outgoing, PacketPath, Received, Sent};
use crate::{Anybody, LinkConfig, LinkEvent, LinkTable};

/// Time in which anything must have happened.
const BOUND: Duration = Duration::from_secs(20);
/// Bytes that a link carries in the end.
const MUCH: usize = 1 << 20;

/// Checks two ends of one network that lose nothing of what is sent slowly, and that reach each other by what each
/// shows for its address. `nowhere` is a text that is no address there.
///
/// # Panics
/// They do something that a [`PacketPath`] must not.
pub async fn check(one: Arc<dyn PacketPath>, other: Arc<dyn PacketPath>, nowhere: &str) {
    check_peers((one, peer(1)), (other, peer(2)), nowhere).await;
}

/// The same for networks that find peers by their keys: whose ends the two are.
///
/// # Panics
/// As [`check`].
pub async fn check_peers(
    (one, key): (Arc<dyn PacketPath>, KeyPair),
    (other, other_key): (Arc<dyn PacketPath>, KeyPair),
    nowhere: &str,
) {
    limits(&*one);
    let there = find(&one, &other, other_key.peer_id()).await;
    let here = find(&other, &one, key.peer_id()).await;
    let lost = one.clone().locate(other_key.peer_id(), nowhere.to_owned()).await;
    assert!(lost.is_err(), "'{nowhere}' is an address");
    // IPv6 or not, a port that is something, and an address that can be sent to.
    for address in [here, there] {
        assert!(!address.ip().is_unspecified() && address.port() != 0, "{address} cannot be sent to");
    }
    sizes(&one, &other, there).await;
    both_ways(&one, &other, there).await;
    in_one_go(&one, &other, there).await;
    waking(&one, &other, there).await;
    flood(&one, there).await;
    links((one, key), (other, other_key), there).await;
}

fn peer(seed: u8) -> KeyPair {
    let Ok(key) = KeyPair::from_seed(&[seed; 32]) else { panic!("every seed is a key's") };
    key
}

fn limits(path: &dyn PacketPath) {
    let limits = path.limits();
    assert!(limits.max_datagram >= 1200, "QUIC needs datagrams of 1200 bytes, not {}", limits.max_datagram);
    assert!(limits.max_sent >= 1 && limits.max_received >= 1, "one datagram is the least: {limits:?}");
    let scheme = path.scheme();
    assert!(!scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase()), "scheme '{scheme}'");
    assert_eq!(scheme, path.scheme(), "a scheme that changes");
}

/// The address of `to`, found by `from`.
async fn find(from: &Arc<dyn PacketPath>, to: &Arc<dyn PacketPath>, peer: PeerId) -> SocketAddr {
    let shown = to.show(to.local_address());
    let found = timeout(BOUND, from.clone().locate(peer, shown.clone())).await;
    let Ok(Ok(found)) = found else { panic!("what is shown as '{shown}' is not found") };
    assert_eq!(found.len(), 1, "'{shown}' is one address");
    found[..].first().copied().unwrap_or_else(|| to.local_address())
}

fn send(path: &Arc<dyn PacketPath>, to: SocketAddr, bytes: &[u8]) {
    let datagram = Outgoing { to, bytes, size: None, ecn: 0, from: None };
    assert_eq!(path.try_send(&datagram), Sent::Gone, "a quiet network has room");
}

/// The next datagrams, each by itself.
async fn receive(path: &Arc<dyn PacketPath>) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut room = vec![0; 65_536];
    let mut slot = [Received::one(path.local_address(), 0)];
    let received =
        timeout(BOUND, poll_fn(|cx| path.poll_recv(cx, &mut [IoSliceMut::new(&mut room)], &mut slot)));
    let Ok(count) = received.await else { panic!("nothing has come") };
    assert_eq!(count, 1, "one buffer is filled");
    let [Received { from, len, size, .. }] = slot;
    assert!(len <= room.len() && size > 0 || len == 0, "{len} bytes in pieces of {size}");
    room.truncate(len);
    room.chunks(size.max(1)).map(|datagram| (from, datagram.to_vec())).collect()
}

async fn sizes(one: &Arc<dyn PacketPath>, other: &Arc<dyn PacketPath>, there: SocketAddr) {
    for len in [1, 2, 1199, 1200, usize::from(one.limits().max_datagram)] {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7 + len) as u8).collect();
        send(one, there, &bytes);
        let received = receive(other).await;
        assert_eq!(received.len(), 1, "one datagram");
        assert!(received.first().is_some_and(|(_, got)| *got == bytes), "{len} bytes arrive as they were");
    }
}

async fn both_ways(one: &Arc<dyn PacketPath>, other: &Arc<dyn PacketPath>, there: SocketAddr) {
    send(one, there, b"question");
    let Some((from, _)) = receive(other).await.pop() else { panic!("nothing has come") };
    send(other, from, b"answer");
    let Some((from, answer)) = receive(one).await.pop() else { panic!("nothing has come") };
    assert_eq!((from, answer.as_slice()), (there, &b"answer"[..]), "who is answered hears who answers");
}

async fn in_one_go(one: &Arc<dyn PacketPath>, other: &Arc<dyn PacketPath>, there: SocketAddr) {
    let count = one.limits().max_sent.min(5);
    let bytes: Vec<u8> = (0..count * 1200 - 200).map(|n| (n / 1200) as u8).collect();
    let size = (count > 1).then_some(1200);
    let datagrams = Outgoing { to: there, bytes: &bytes, size, ecn: 0, from: None };
    assert_eq!(one.try_send(&datagrams), Sent::Gone);
    let mut received = Vec::new();
    while received.len() < count {
        received.extend(receive(other).await.into_iter().map(|(_, bytes)| bytes));
    }
    received.sort();
    let want: Vec<_> = bytes.chunks(1200).map(<[u8]>::to_vec).collect();
    assert_eq!(received, want, "datagrams behind each other are cut apart");
}

async fn waking(one: &Arc<dyn PacketPath>, other: &Arc<dyn PacketPath>, there: SocketAddr) {
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { receive(&other).await }
    });
    tokio::task::yield_now().await;
    send(one, there, b"wake");
    assert!(waiting.await.is_ok_and(|got| got.len() == 1), "who waits is woken");
}

/// However much is sent: it is taken or lost, or there is room again some time.
async fn flood(one: &Arc<dyn PacketPath>, there: SocketAddr) {
    let bytes = [7; 1200];
    let datagram = Outgoing { to: there, bytes: &bytes, size: None, ecn: 0, from: None };
    for _ in 0..20_000 {
        if one.try_send(&datagram) == Sent::Full {
            let rooms = (0..3).map(|_| one.clone().room());
            for room in rooms {
                assert!(timeout(BOUND, room).await.is_ok(), "there is never room again");
            }
        }
    }
}

async fn links(
    (one, key): (Arc<dyn PacketPath>, KeyPair),
    (other, other_key): (Arc<dyn PacketPath>, KeyPair),
    there: SocketAddr,
) {
    const PROTOCOL: &str = "conformance/1";
    let address = format!("{}://{}", one.scheme(), one.show(there));
    let Ok(address) = address.parse() else { panic!("{address} is no address") };
    let table = |key| match LinkTable::new(key, Arc::new(Anybody), LinkConfig::default()) {
        Ok(table) => table,
        Err(error) => panic!("{error}"),
    };
    let ((dialler, mut events, _streams), (listener, _events, mut incoming)) = (table(key), table(other_key));
    for (table, path) in [(&dialler, one), (&listener, other)] {
        assert!(table.add_path(path).is_ok(), "an endpoint is made");
    }
    listener.serve(PROTOCOL);
    dialler.want(listener.peer(), vec![address]);
    let link = loop {
        match timeout(BOUND, events.next()).await {
            Ok(Some(LinkEvent::Up(link))) => break link,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => panic!("no link comes to be"),
        }
    };
    let Ok(mut out) = link.open(PROTOCOL).await else { panic!("no stream") };
    let sending = tokio::spawn(async move {
        out.write_all(&vec![42; MUCH]).await?;
        out.shutdown().await
    });
    let Ok(Some(mut stream)) = timeout(BOUND, incoming.recv()).await else { panic!("no stream has come") };
    let mut got = Vec::new();
    let read = timeout(BOUND, stream.stream.read_to_end(&mut got)).await;
    assert!(matches!(read, Ok(Ok(MUCH))) && got.iter().all(|byte| *byte == 42), "much arrives: {read:?}");
    assert!(sending.await.is_ok_and(|sent| sent.is_ok()), "much is sent");
    dialler.close().await;
    listener.close().await;
}
