//! `midge forward`.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use midge::identity::PeerId;
use midge::link::{Address, LinkConfig, LinkEvent, LinkTable, PeerAddress, forward};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::Outcome;
use crate::bus::print;
use crate::linking::{Credentials, Nobody, Ways, addresses_of, host_and_port, seconds};

/// Reach a TCP port that a peer exposes as a port here.
#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// Where the peer is, as ID@udp://HOST:PORT or ID@nats:; said several times, further addresses. With --via and nothing
    /// else, it is sought there.
    #[arg(long, value_name = "ID@ADDRESS")]
    peer: Vec<PeerAddress>,
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    credentials: Credentials,
    /// Seconds to wait for the peer.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    /// The port here, or a host and a port; port 0 is any that is free.
    local: String,
    /// The peer's id and what it reaches, as ID:HOST:PORT.
    remote: Remote,
}

/// A peer, and what it reaches.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    peer: PeerId,
    target: String,
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (peer, target) = text.split_once(':').unwrap_or((text, ""));
        let peer = peer.parse().map_err(|why| format!("'{peer}': {why}"))?;
        host_and_port(target)?;
        Ok(Self { peer, target: target.to_owned() })
    }
}

impl Forward {
    pub(crate) async fn run(self) -> Outcome {
        let Remote { peer, target } = &self.remote;
        let mut addresses = addresses_of(*peer, &self.peer)?;
        if addresses.is_empty() && self.ways.is_via() {
            addresses.extend("nats:".parse::<Address>());
        }
        if addresses.is_empty() {
            return Err(format!(
                "where is {peer}? Say --peer {peer}@udp://HOST:PORT, or --via with a NATS server"
            ));
        }
        let listener = listen(&self.local).await?;
        let mut linked =
            self.ways.open(&self.credentials, &[], std::sync::Arc::new(Nobody), LinkConfig::default())?;
        let link = linked.reach(*peer, addresses, seconds(self.timeout)?).await?;
        let local = listener.local_addr().map_err(|error| format!("{}: {error}", self.local))?;
        print(format!("Forwarding {local} to {peer}:{target} over {}", link.address()).as_bytes())?;
        tokio::spawn(tell(linked.events));
        let table = linked.table;
        loop {
            match listener.accept().await {
                Ok((socket, from)) => {
                    let (table, peer, target) = (table.clone(), *peer, target.clone());
                    tokio::spawn(async move {
                        if let Err(why) = pass(&table, peer, &target, socket).await {
                            eprintln!("{from}: {why}");
                        }
                    });
                }
                // Too many files, say: those that are open end some time.
                Err(why) => {
                    eprintln!("{local}: {why}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn listen(local: &str) -> Outcome<TcpListener> {
    let wrong = |error: &dyn std::fmt::Display| format!("{local}: {error}");
    let places: Vec<SocketAddr> = match local.parse::<u16>() {
        Ok(port) => vec![(Ipv4Addr::LOCALHOST, port).into()],
        Err(_) => lookup_host(local).await.map_err(|error| wrong(&error))?.collect(),
    };
    TcpListener::bind(&places[..]).await.map_err(|error| wrong(&error))
}

/// Passes a connection on.
async fn pass(table: &LinkTable, peer: PeerId, target: &str, socket: TcpStream) -> Outcome {
    // Whoever writes has thought of how much at once.
    let _ = socket.set_nodelay(true);
    let link = table.link(&peer).ok_or("there is no link to the peer just now")?;
    let stream = forward::open(&link, target).await.map_err(|error| error.to_string())?;
    forward::join(socket, stream).await.map(drop).map_err(|error| error.to_string())
}

/// Says what happens to the link.
async fn tell(mut events: midge::link::LinkEvents) {
    while let Some(event) = events.next().await {
        match event {
            LinkEvent::Up(link) => eprintln!("Linked over {}", link.address()),
            LinkEvent::Moved { link, why, .. } => eprintln!("Linked over {} now: {why}", link.address()),
            LinkEvent::Down { why, .. } => eprintln!("No link: {why}"),
            LinkEvent::Unreachable { why, attempts, .. } if attempts % 20 == 1 => eprintln!("No link: {why}"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_a_peer_and_what_it_reaches() {
        const PEER: &str = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB";
        for target in ["127.0.0.1:80", "example.org:1", "[::1]:80"] {
            let remote: Remote = format!("{PEER}:{target}").parse().unwrap();
            assert_eq!((remote.peer.to_string().as_str(), remote.target.as_str()), (PEER, target));
        }
        for bad in
            ["", PEER, "x:127.0.0.1:80", &format!("{PEER}:80"), &format!("{PEER}:h:"), &format!("{PEER}::80")]
        {
            assert!(bad.parse::<Remote>().is_err(), "{bad}");
        }
    }
}
