//! Peers on a network in memory, in a time that goes on when nobody has anything to do.

use std::sync::Arc;
use std::time::Duration;

use midge_identity::{KeyPair, PeerId};
use midge_link::mem::{MemNetwork, MemPath};
use midge_link::{
    Address, Admission, Anybody, IncomingStream, Link, LinkConfig, LinkEvent, LinkEvents, LinkTable,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const PROTOCOL: &str = "test/1";
/// Time in which everything happens that happens.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

pub(crate) struct Peer {
    pub(crate) table: LinkTable,
    pub(crate) events: LinkEvents,
    pub(crate) streams: mpsc::Receiver<IncomingStream>,
    pub(crate) places: Vec<Arc<MemPath>>,
}

/// Lets some link and nobody else.
#[derive(Debug)]
pub(crate) struct Only(pub(crate) Vec<PeerId>);

impl Admission for Only {
    fn admits(&self, peer: &PeerId) -> bool {
        self.0.contains(peer)
    }
}

/// Keys in the order of their ids.
pub(crate) fn keys(count: usize) -> Vec<KeyPair> {
    let mut keys: Vec<KeyPair> =
        (0..count).map(|n| KeyPair::from_seed(&[n as u8 + 1; 32]).unwrap()).collect();
    keys.sort_by_key(KeyPair::peer_id);
    keys
}

pub(crate) fn config() -> LinkConfig {
    LinkConfig { seed: Some(1), ..LinkConfig::default() }
}

impl Peer {
    pub(crate) fn new(key: &KeyPair, network: &MemNetwork) -> Self {
        Self::with(key, vec![network.join()], Arc::new(Anybody), config())
    }

    pub(crate) fn with(
        key: &KeyPair,
        places: Vec<Arc<MemPath>>,
        admission: Arc<dyn Admission>,
        config: LinkConfig,
    ) -> Self {
        let (table, events, streams) = LinkTable::new(key.clone(), admission, config).unwrap();
        for place in &places {
            table.add_path(place.clone()).unwrap();
        }
        table.serve(PROTOCOL);
        Self { table, events, streams, places }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.table.peer()
    }

    pub(crate) fn address(&self) -> Address {
        format!("mem://{}", self.places.first().unwrap().number()).parse().unwrap()
    }

    pub(crate) fn want(&self, other: &Self) {
        self.table.want(other.id(), vec![other.address()]);
    }

    pub(crate) async fn event(&mut self) -> LinkEvent {
        timeout(BOUND, self.events.next()).await.expect("something happens").unwrap()
    }

    pub(crate) async fn up(&mut self) -> Link {
        match self.event().await {
            LinkEvent::Up(link) => link,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until there is no link to that peer.
    pub(crate) async fn down(&mut self) -> midge_link::Ended {
        loop {
            if let LinkEvent::Down { why, .. } = self.event().await {
                return why;
            }
        }
    }

    /// Whether what is said on the link is heard there, and answered.
    pub(crate) async fn says(&self, other: &mut Self) -> bool {
        let Some(link) = self.table.link(&other.id()) else { return false };
        let talk = async {
            let mut out = link.open(PROTOCOL).await.ok()?;
            out.write_all(b"said").await.ok()?;
            let mut incoming = other.streams.recv().await?.stream;
            let mut said = [0; 4];
            incoming.read_exact(&mut said).await.ok()?;
            incoming.write_all(&said).await.ok()?;
            out.read_exact(&mut said).await.ok()?;
            (said == *b"said").then_some(())
        };
        timeout(BOUND, talk).await.is_ok_and(|done| done.is_some())
    }

    /// How many links there are to that peer.
    pub(crate) fn links_to(&self, other: &Self) -> usize {
        let all = self.table.links();
        all.iter().find(|links| links.iter().any(|link| link.peer() == other.id())).map_or(0, Vec::len)
    }
}

/// Lets time go by.
pub(crate) async fn later(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}
