//! Links with those who know nothing of this crate: QUIC with libp2p's own TLS, both ways.

use std::net::SocketAddr;
use std::sync::Arc;

use libp2p_identity::Keypair;
use midge_identity::{KeyPair, PeerId};
use midge_link::{Address, Anybody, LinkConfig, LinkEvent, LinkTable, UdpPath};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::house::PROTOCOL;

/// What the other side writes before its own words: Bifrost's and ours.
const HEAD: &[u8] = b"\x08\x0a\x06test/1";

fn theirs(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn id_of(key: &Keypair) -> PeerId {
    key.public().to_peer_id().to_string().parse().unwrap()
}

fn table()
-> (LinkTable, midge_link::LinkEvents, tokio::sync::mpsc::Receiver<midge_link::IncomingStream>, SocketAddr) {
    let key = KeyPair::from_seed(&[1; 32]).unwrap();
    let (table, events, streams) = LinkTable::new(key, Arc::new(Anybody), LinkConfig::default()).unwrap();
    let path = UdpPath::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = midge_link::PacketPath::local_address(&*path);
    table.add_path(path).unwrap();
    table.serve(PROTOCOL);
    (table, events, streams, address)
}

#[tokio::test]
async fn libp2ps_tls_dials_and_is_known() {
    let (ours, mut events, mut streams, address) = table();
    let key = theirs(2);
    let expected = ours.peer().to_string().parse().unwrap();
    let mut config = libp2p_tls::make_client_config(&key, Some(expected)).unwrap();
    // What Bifrost's peers say.
    config.alpn_protocols = vec![b"bifrost".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = endpoint.connect_with(config, address, "l").unwrap().await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[HEAD, b"hello"].concat()).await.unwrap();
    let mut incoming = streams.recv().await.unwrap();
    assert_eq!((incoming.link.peer(), incoming.link.protocol().as_str()), (id_of(&key), "bifrost"));
    assert!(matches!(events.next().await, Some(LinkEvent::Up(link)) if link.peer() == id_of(&key)));
    let mut hello = [0; 5];
    incoming.stream.read_exact(&mut hello).await.unwrap();
    incoming.stream.write_all(&hello).await.unwrap();
    recv.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn libp2ps_tls_is_dialled_and_proves_who_it_is() {
    let (ours, mut events, _streams, _) = table();
    let key = theirs(3);
    let mut config = libp2p_tls::make_server_config(&key).unwrap();
    config.alpn_protocols = vec![b"bifrost".to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address: Address = format!("udp://{}", endpoint.local_addr().unwrap()).parse().unwrap();
    let expected = ours.peer();
    let answering = tokio::spawn(async move {
        loop {
            let Ok(connection) = endpoint.accept().await.unwrap().await else { continue };
            let chain =
                connection.peer_identity().unwrap().downcast::<Vec<rustls::pki_types::CertificateDer>>();
            let peer = libp2p_tls::certificate::parse(&chain.unwrap()[0]).unwrap().peer_id();
            assert_eq!(peer.to_string(), expected.to_string(), "they know who we are");
            let Ok((mut send, mut recv)) = connection.accept_bi().await else { continue };
            let mut said = [0; 14];
            recv.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"\x08\x0a\x06test/1hello");
            send.write_all(b"hello").await.unwrap();
            connection.closed().await;
            return;
        }
    });
    // Somebody else at the same address is not believed.
    let other = id_of(&theirs(4));
    ours.want(other, vec![address.clone()]);
    let Some(LinkEvent::Unreachable { why, .. }) = events.next().await else { panic!() };
    assert!(
        why.contains(&format!("expected peer {other}")) && why.contains(&id_of(&key).to_string()),
        "{why}"
    );
    ours.forget(&other);
    ours.want(id_of(&key), vec![address]);
    let link = loop {
        if let Some(LinkEvent::Up(link)) = events.next().await {
            break link;
        }
    };
    assert_eq!((link.peer(), link.protocol().as_str()), (id_of(&key), "bifrost"));
    let mut stream = link.open(PROTOCOL).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    ours.close().await;
    answering.await.unwrap();
}
