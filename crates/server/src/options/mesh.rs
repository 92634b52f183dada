//! The `mesh` block, and the flags that stand for it: links to other midges, which are known by their keys.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use midge_backend::SCHEME;
use midge_identity::PeerId;
use midge_link::{Address, PeerAddress};

use super::cluster::texts;
use super::faults::Faults;
use super::table::{OptionSpec, put, spec};
use super::{BackendOptions, Given, OptionsError};

/// The name of a cluster of peers that none is given: what Bifrost's routers call theirs.
pub const MESH_CLUSTER: &str = "nats.io/2/router";

/// How the server has links to other peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshOptions {
    /// The file with the server's key, which is made if it is not there; without one, a key is made for this run only.
    pub key: Option<PathBuf>,
    /// Where links are listened for. With none, the server dials only.
    pub listen: Vec<Address>,
    /// Peers to which a link is kept.
    pub peers: Vec<PeerAddress>,
    /// Further peers that may link, and are trusted as servers of the same cluster.
    pub allow: Vec<PeerId>,
    /// Whether everybody may who has a key: as a client or leafnode.
    pub allow_any: bool,
    /// To which account peers belong.
    pub accounts: PeerAccounts,
}

/// To which account peers belong that connect as clients or leafnodes, and the clients of a node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerAccounts {
    /// All to the global one.
    #[default]
    Shared,
    /// Each to one that is named by its key (`A…`).
    PerPeer,
}

impl MeshOptions {
    /// Whether the server has links to others.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.listen.is_empty() || !self.peers.is_empty()
    }

    /// Whether that peer may link.
    #[must_use]
    pub fn allows(&self, peer: &PeerId) -> bool {
        self.allow_any || self.names(peer)
    }

    /// Whether that peer is named, and so is trusted as a server of the same cluster.
    #[must_use]
    pub fn names(&self, peer: &PeerId) -> bool {
        self.allow.contains(peer) || self.peers.iter().any(|known| known.peer == *peer)
    }

    pub(super) fn check(&self, backend: &BackendOptions) -> Result<(), OptionsError> {
        let others = !self.allow.is_empty() || self.allow_any;
        if others && self.listen.is_empty() && !backend.carries_links() {
            return Err(OptionsError::AllowWithoutListen);
        }
        let unreachable =
            self.peers.iter().find(|peer| peer.address.scheme() == SCHEME && !backend.carries_links());
        unreachable.map_or(Ok(()), |peer| Err(OptionsError::PeerWithoutBackend(peer.to_string())))
    }
}

/// The socket address that links are listened for on.
pub(crate) fn socket_address(address: &Address) -> std::io::Result<SocketAddr> {
    let text = address.rest().replace(":-1", ":0");
    let mut found = text.to_socket_addrs()?;
    found.next().ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"))
}

/// What can stand in the block.
pub(super) static MESH: &[OptionSpec] = &[
    spec(
        &["mesh.key"],
        "File with this server's key, by which other peers know it; made if it is not there.",
        "a key for this run only",
        "\"/var/lib/midge/peer.key\"",
        |o, v| put(&mut o.mesh.key, v.text().map(|path| Some(path.into()))),
    )
    .flag(&["key"], "file")
    .restart(|o| format!("{:?}", o.mesh.key)),
    spec(
        &["mesh.listen"],
        "Where to listen for links of other peers; may be said several times.",
        "none",
        "[\"udp://0.0.0.0:4223\"]",
        |o, v| {
            let given = addresses(v)?;
            add(&mut o.mesh.listen, v, given);
            Ok(())
        },
    )
    .flag(&["link-listen", "link_listen"], "udp://host:port")
    .restart(|o| shown(&o.mesh.listen)),
    spec(
        &["mesh.peers"],
        "Peers to keep a link to, and where they are: ID@udp://HOST:PORT, or ID@nats: through the deployment of backend. One with several addresses is named several times; what goes straight to it is preferred.",
        "none",
        "[\"12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB@udp://192.0.2.1:4223\"]",
        |o, v| {
            let given = parse(v, "a peer", |text| {
                let peer: PeerAddress = text.parse().map_err(|why: midge_link::AddressError| why.to_string())?;
                match (peer.address.scheme(), peer.address.rest()) {
                    ("udp", _) | (SCHEME, "") => Ok(peer),
                    (SCHEME, _) => Err(format!("'{text}': an address through a NATS deployment is nats: alone")),
                    _ => Err(format!("'{text}': peers are reached by udp:// and nats: only")),
                }
            })?;
            add(&mut o.mesh.peers, v, given);
            Ok(())
        },
    )
    .flag(&["peer"], "id@udp://host:port|id@nats:")
    .restart(|o| shown(&o.mesh.peers)),
    spec(
        &["mesh.allow"],
        "Further peers that may link, as clients, leafnodes and servers of the cluster; any lets everybody link, but those who are not named as clients and leafnodes only. May be said several times.",
        "none",
        "[\"12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq\"]",
        |o, v| {
            let given = parse(v, "a peer's id", |text| match text {
                "any" => Ok(None),
                text => text.parse::<PeerId>().map(Some).map_err(|why: midge_identity::PeerIdError| format!("'{text}': {why}")),
            })?;
            if matches!(v, Given::Key(_)) {
                (o.mesh.allow, o.mesh.allow_any) = (Vec::new(), false);
            }
            o.mesh.allow_any |= given.contains(&None);
            o.mesh.allow.extend(given.into_iter().flatten());
            Ok(())
        },
    )
    .flag(&["allow-peer", "allow_peer"], "id|any")
    .restart(|o| format!("{} {}", shown(&o.mesh.allow), o.mesh.allow_any)),
    spec(
        &["mesh.accounts"],
        "To which account peers belong that connect as clients: shared (all to the global one) or per_peer (each to its own).",
        "shared",
        "\"per_peer\"",
        |o, v| {
            o.mesh.accounts = match v.text()?.as_str() {
                "shared" => PeerAccounts::Shared,
                "per_peer" => PeerAccounts::PerPeer,
                other => return Err(format!("expected \"shared\" or \"per_peer\", but got \"{other}\"").into()),
            };
            Ok(())
        },
    )
    .restart(|o| format!("{:?}", o.mesh.accounts)),
];

/// A flag may be said several times; a key says all.
fn add<T>(place: &mut Vec<T>, given: &Given<'_>, values: Vec<T>) {
    if matches!(given, Given::Key(_)) {
        place.clear();
    }
    place.extend(values);
}

fn shown(list: &[impl ToString]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn addresses(value: &Given<'_>) -> Result<Vec<Address>, Faults> {
    parse(value, "an address", |text| {
        let address: Address = text.parse().map_err(|why: midge_link::AddressError| why.to_string())?;
        if address.scheme() != "udp" {
            return Err(format!("'{text}': links are listened for by UDP only, as udp://HOST:PORT"));
        }
        let port = address.rest().rsplit_once(':').map(|(_, port)| port);
        if !port.is_some_and(|port| port == "-1" || port.parse::<u16>().is_ok()) {
            return Err(format!("'{text}' has no port, as udp://HOST:PORT has"));
        }
        Ok(address)
    })
}

/// Each of one or several texts.
fn parse<T>(
    value: &Given<'_>,
    what: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Faults> {
    let mut faults = Faults::default();
    let mut all = Vec::new();
    for (text, at) in texts(value, what)? {
        match (read(&text), at) {
            (Ok(one), _) => all.push(one),
            (Err(why), Some(at)) => faults.add(at, why),
            (Err(why), None) => return Err(why.into()),
        }
    }
    faults.or(all)
}
