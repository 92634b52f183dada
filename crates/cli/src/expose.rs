//! `midge expose`.

use std::collections::HashSet;
use std::sync::Arc;

use clap::Args;
use midge::identity::PeerId;
use midge::link::forward::{self, Targets};
use midge::link::{Address, Admission, LinkConfig, LinkEvent};

use crate::Outcome;
use crate::bus::print;
use crate::linking::{Credentials, Linked, Ways, host_and_port};

/// Streams that a peer may have open at once.
const MOST_STREAMS: u32 = 1000;

/// Let peers reach TCP ports from here, and nothing else.
#[derive(Debug, Args)]
pub(crate) struct Expose {
    /// Who may, by id; any lets everybody. May be said several times.
    #[arg(long, value_name = "ID|any", required = true)]
    allow_peer: Vec<Allowed>,
    /// Where to listen for links, as udp://HOST:PORT; may be said several times.
    #[arg(long, value_name = "udp://HOST:PORT")]
    link_listen: Vec<Address>,
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    credentials: Credentials,
    /// What may be reached, as HOST:PORT: those who ask must say the same.
    #[arg(required = true)]
    targets: Vec<String>,
}

#[derive(Debug, Clone)]
enum Allowed {
    Any,
    Peer(PeerId),
}

impl std::str::FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            text => text.parse().map(Self::Peer).map_err(|why| format!("'{text}': {why}")),
        }
    }
}

/// Lets these link.
#[derive(Debug)]
struct Named {
    any: bool,
    peers: HashSet<PeerId>,
}

impl Admission for Named {
    fn admits(&self, peer: &PeerId) -> bool {
        self.any || self.peers.contains(peer)
    }
}

impl Expose {
    pub(crate) async fn run(self) -> Outcome {
        self.targets.iter().try_for_each(|target| host_and_port(target))?;
        let mut listen = self.link_listen.clone();
        if let Some(other) = listen.iter().find(|address| address.scheme() != "udp") {
            return Err(format!("{other}: links are listened for as udp://HOST:PORT, or with --via"));
        }
        if self.ways.is_via() {
            listen.extend("nats:".parse::<Address>());
        }
        if listen.is_empty() {
            return Err("nobody could link: say --link-listen udp://HOST:PORT, or --via with a NATS server"
                .to_owned());
        }
        let peers = self.allow_peer.iter().filter_map(|allowed| match allowed {
            Allowed::Peer(peer) => Some(*peer),
            Allowed::Any => None,
        });
        let any = self.allow_peer.iter().any(|allowed| matches!(allowed, Allowed::Any));
        let admission = Arc::new(Named { any, peers: peers.collect() });
        let config = LinkConfig { max_streams: MOST_STREAMS, ..LinkConfig::default() };
        let linked = self.ways.open(&self.credentials, &listen, admission, config)?;
        let Linked { table, mut events, mut streams, addresses } = linked;
        table.serve(forward::PROTOCOL);
        for address in &addresses {
            print(format!("Links at {}@{address}", table.peer()).as_bytes())?;
        }
        for target in &self.targets {
            print(format!("Exposing {target}").as_bytes())?;
        }
        let targets = Arc::new(Targets::new(self.targets));
        loop {
            tokio::select! {
                Some(incoming) = streams.recv() => {
                    let targets = targets.clone();
                    tokio::spawn(async move {
                        let peer = incoming.link.peer();
                        match forward::serve(incoming.stream, &targets).await {
                            Ok((target, there, back)) => eprintln!("{peer}: {target}: {there} bytes there, {back} back"),
                            Err(why) => eprintln!("{peer}: {why}"),
                        }
                    });
                }
                event = events.next() => match event {
                    Some(LinkEvent::Up(link)) => eprintln!("Link up: {} at {}", link.peer(), link.address()),
                    Some(LinkEvent::Down { link, why }) => eprintln!("Link down: {}: {why}", link.peer()),
                    Some(LinkEvent::Refused { peer: Some(peer), why, .. }) => eprintln!("Refused: {peer}: {why}"),
                    Some(_) => {}
                    None => return Err("there are no links any more".to_owned()),
                },
            }
        }
    }
}
