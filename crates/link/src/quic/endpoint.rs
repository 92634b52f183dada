//! One end of all links over one network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use midge_identity::{KeyPair, PeerId};
use parking_lot::Mutex;
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, EndpointConfig, Incoming,
    MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::InvalidCid;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::{sleep, timeout};

use super::certificate::CertificateError;
use super::socket::Socket;
use super::tls::{Credentials, Slot, Verdict};
use crate::Admission;
use crate::config::LinkConfig;
use crate::link::{Direction, Ended, Link, NewLink, shown};
use crate::path::PacketPath;

/// What the key is salted with by which an endpoint tells that it knows nothing of a link any more.
const RESET_SALT: &[u8] = b"midge quic stateless reset v1";
/// The same for the key that marks connection ids as ours.
const IDS_SALT: &[u8] = b"midge quic connection ids v1";
/// Bytes of a datagram that QUIC needs, and that are taken at least whatever a network says.
const MIN_DATAGRAM: u16 = 1200;
const USUAL_DATAGRAM: u16 = 1472;
/// Handshakes at once from one address: a part of all, or so many.
const FROM_ONE: (usize, usize) = (16, 8);
/// The name that TLS is given and nobody sees.
const NAME: &str = "peer.midge.invalid";
/// How often it is looked whether the other side has confirmed a handshake. The library does not tell.
const LOOK: Duration = Duration::from_millis(1);
/// Most datagrams of handshakes that wait to be looked at.
const MOST_INCOMING: usize = 4096;

/// Why there is no endpoint.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Certificate(String),
    /// TLS cannot be spoken.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The table has been closed.
    #[error("there are no links any more")]
    Closed,
    /// The network cannot be used.
    #[error("{0}")]
    Path(#[from] std::io::Error),
}

/// Why a dialled peer has no link to this one.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// There is no network of that kind here.
    #[error("no network is set up for {0}: addresses")]
    NoPath(String),
    /// The address leads nowhere.
    #[error("{address}: {why}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        why: String,
    },
    /// Somebody else is there.
    #[error("expected peer {expected}, but {address} is {actual}")]
    Mismatch {
        /// Who was expected.
        expected: PeerId,
        /// Who is there.
        actual: PeerId,
        /// Where.
        address: String,
    },
    /// It is this peer itself.
    #[error("{0} is this peer itself")]
    Itself(String),
    /// Whoever is there has not proven to be anybody.
    #[error("{address}: {why}")]
    Certificate {
        /// Where.
        address: String,
        /// What is wrong with what was shown.
        why: CertificateError,
    },
    /// The other side has refused.
    #[error("{address} refuses this peer: it must be allowed there ({why})")]
    Refused {
        /// Where.
        address: String,
        /// What it said.
        why: String,
    },
    /// Nobody answered in time.
    #[error("{0} does not answer")]
    Timeout(String),
    /// Anything else.
    #[error("{address}: {why}")]
    Failed {
        /// Where.
        address: String,
        /// What was said.
        why: String,
    },
}

/// Somebody who was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) address: String,
    /// Who it was, if that was proven.
    pub(crate) peer: Option<PeerId>,
    pub(crate) why: String,
}

/// Somebody who has begun a handshake.
pub(crate) struct Arrival {
    incoming: Incoming,
    config: Arc<ServerConfig>,
    slot: Slot,
    seat: Seat,
}

/// Handshakes that others have begun, by the address that each comes from.
type Handshakes = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A place among the handshakes at once.
struct Seat(Handshakes, IpAddr);

impl Seat {
    /// A place for somebody at that address, unless there are as many from there as may be.
    fn take(all: &Handshakes, from: IpAddr, most: usize) -> Option<Self> {
        let mut counts = all.lock();
        let count = counts.entry(from).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self(all.clone(), from))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// The part of an address that one owner has: of IPv6, 64 bits. Addresses that a network has made up are whole.
fn owner(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(ip) if !ip.is_unique_local() => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip => ip,
    }
}

/// Makes connection ids of chance and a mark, by which an endpoint knows its own without remembering them.
struct Ids(hmac::Key);

/// Bytes of chance, and of the mark.
const ID_PART: usize = 8;

impl Ids {
    fn mark(&self, chance: &[u8]) -> [u8; ID_PART] {
        let mut mark = [0; ID_PART];
        mark.iter_mut().zip(hmac::sign(&self.0, chance).as_ref()).for_each(|(to, from)| *to = *from);
        mark
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut chance = [0; ID_PART];
        // Without chance they would only be the same, and links would fail.
        let _ = SystemRandom::new().fill(&mut chance);
        ConnectionId::new(&[chance, self.mark(&chance)].concat())
    }

    fn cid_len(&self) -> usize {
        2 * ID_PART
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.split_at_checked(ID_PART) {
            Some((chance, mark)) if *mark == self.mark(chance) => Ok(()),
            _ => Err(InvalidCid),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    quic: quinn::Endpoint,
    path: Arc<dyn PacketPath>,
    credentials: Arc<Credentials>,
    admission: Arc<dyn Admission>,
    transport: Arc<TransportConfig>,
    config: Arc<LinkConfig>,
    handshakes: Handshakes,
    /// Connections that others carry.
    relayed: Arc<Relayed>,
}

/// Connections that others carry, and that share what may be on its way to this end.
#[derive(Debug)]
struct Relayed {
    /// What each may have if it is alone, and what all may.
    most: u32,
    window: Option<u32>,
    connections: Mutex<Vec<Connection>>,
}

/// Tells a network that nothing has come of dialling an address, unless something has.
struct Dialling<'a> {
    path: &'a dyn PacketPath,
    to: Option<SocketAddr>,
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if let Some(to) = self.to {
            self.path.done(to, Duration::ZERO);
        }
    }
}

impl Relayed {
    /// Whether there is a link at that address.
    fn has(&self, address: SocketAddr) -> bool {
        self.connections.lock().iter().any(|connection| connection.remote_address() == address)
    }

    fn join(&self, connection: &Connection) {
        let mut connections = self.connections.lock();
        connections.push(connection.clone());
        self.share(&connections);
    }

    fn leave(&self, connection: &Connection) {
        let mut connections = self.connections.lock();
        connections.retain(|other| other.stable_id() != connection.stable_id());
        self.share(&connections);
    }

    fn share(&self, connections: &[Connection]) {
        let Some(window) = self.window else { return };
        let each = window / u32::try_from(connections.len().max(LEAST_SHARING)).unwrap_or(u32::MAX);
        let each = each.max(LEAST_WINDOW).min(self.most);
        for connection in connections {
            connection.set_receive_window(VarInt::from_u32(each));
        }
    }
}

/// Some of the window is kept for those who come next: no connection has more than an eighth.
const LEAST_SHARING: usize = 8;
/// What each is left with.
const LEAST_WINDOW: u32 = 32 * 1024;

/// Lets those link whom another one does, of one peer only.
#[derive(Debug)]
struct Only(Option<PeerId>, Arc<dyn Admission>);

impl Admission for Only {
    fn admits(&self, peer: &PeerId) -> bool {
        self.0.is_none_or(|only| only == *peer) && self.1.admits(peer)
    }
}

impl Endpoint {
    pub(crate) fn new(
        key: &KeyPair,
        credentials: &Arc<Credentials>,
        path: Arc<dyn PacketPath>,
        admission: Arc<dyn Admission>,
        config: Arc<LinkConfig>,
    ) -> Result<Self, EndpointError> {
        let limits = path.limits();
        if limits.max_datagram < MIN_DATAGRAM {
            let what = format!("datagrams of {} bytes, where QUIC needs {MIN_DATAGRAM}", limits.max_datagram);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what).into());
        }
        let mut secret = [0; 32];
        // The same after a restart at the same place, so that whoever still thinks of a link from before learns at once that
        // it is gone; and others at other places, so that no two endpoints answer for each other.
        let place = shown(&*path, path.local_address());
        key.derive(RESET_SALT, place.as_bytes(), &mut secret);
        let mut quic = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)));
        key.derive(IDS_SALT, place.as_bytes(), &mut secret);
        let ids = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        quic.cid_generator(move || Box::new(Ids(ids.clone())));
        // Only what is below 1200 is refused.
        let _ = quic.max_udp_payload_size(limits.max_datagram.max(USUAL_DATAGRAM));
        if let Some(seed) = config.seed {
            key.derive(&seed.to_be_bytes(), b"simulated chance", &mut secret);
            quic.rng_seed(Some(secret));
        }
        let transport = Arc::new(transport(&config, &*path));
        let (server, _) = credentials.server(admission.clone())?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport.clone()).max_incoming(MOST_INCOMING).migration(!limits.relayed);
        let socket = Arc::new(Socket::new(path.clone()));
        let runtime = Arc::new(quinn::TokioRuntime);
        let quic = quinn::Endpoint::new_with_abstract_socket(quic, Some(server), socket, runtime)?;
        let (credentials, handshakes) = (credentials.clone(), Arc::default());
        let (most, window) = (config.link_window, limits.window);
        let relayed = Arc::new(Relayed { most, window, connections: Mutex::default() });
        Ok(Self { quic, path, credentials, admission, transport, config, handshakes, relayed })
    }

    pub(crate) const fn path(&self) -> &Arc<dyn PacketPath> {
        &self.path
    }

    /// Dials a peer at an address. There is a link only once the other side has agreed, too.
    pub(crate) async fn dial(&self, peer: PeerId, to: SocketAddr) -> Result<Link, DialError> {
        let address = shown(&*self.path, to);
        let mut dialling = Dialling { path: &*self.path, to: Some(to) };
        let done = tokio::select! {
            biased;
            done = self.shake_hands(peer, to, &address) => done,
            why = self.path.clone().lost(to) => Err(DialError::Failed { address, why }),
            () = sleep(self.config.dial_timeout) => Err(DialError::Timeout(address)),
        };
        if done.is_ok() {
            dialling.to = None;
        }
        done
    }

    /// A link, and what must be seen to when it ends.
    fn link(&self, connection: Connection, peer: PeerId, direction: Direction) -> Link {
        let path = self.path.clone();
        if path.limits().relayed {
            let (relayed, connection, path) = (self.relayed.clone(), connection.clone(), path.clone());
            path.linked(connection.remote_address());
            relayed.join(&connection);
            tokio::spawn(async move {
                connection.closed().await;
                relayed.leave(&connection);
                path.done(connection.remote_address(), connection.rtt());
            });
        }
        Link::new(NewLink { connection, peer, direction, path })
    }

    async fn shake_hands(&self, peer: PeerId, to: SocketAddr, address: &str) -> Result<Link, DialError> {
        let failed = |why: String| DialError::Failed { address: address.to_owned(), why };
        let (crypto, slot) = self.credentials.client(peer).map_err(|error| failed(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport.clone());
        let connecting =
            self.quic.connect_with(config, to, NAME).map_err(|error| failed(error.to_string()))?;
        let connection = match connecting.await {
            Ok(connection) => connection,
            Err(error) => return Err(explain(error, slot.get(), address, peer)),
        };
        // TLS is done with a server before the server is done with the client.
        while connection.stats().frame_rx.handshake_done == 0 {
            tokio::select! {
                biased;
                error = connection.closed() => return Err(explain(error, None, address, peer)),
                () = sleep(LOOK.max(connection.rtt() / 8)) => {}
            }
        }
        Ok(self.link(connection, peer, Direction::Outgoing))
    }

    /// The next one that begins a handshake; `None` once the endpoint is closed.
    pub(crate) async fn arrival(&self) -> Option<Arrival> {
        loop {
            let incoming = self.quic.accept().await?;
            let busy: usize = self.handshakes.lock().values().sum();
            if busy >= self.config.max_handshakes {
                incoming.ignore();
                continue;
            }
            if busy >= self.config.max_handshakes / 4 && !incoming.remote_address_validated() {
                // It comes again with a token, or was no one.
                let _ = incoming.retry();
                continue;
            }
            // Whoever has one address is not given all the places.
            let most = (self.config.max_handshakes / FROM_ONE.0).max(FROM_ONE.1);
            let Some(seat) = Seat::take(&self.handshakes, owner(incoming.remote_address()), most) else {
                incoming.ignore();
                continue;
            };
            let only = self.path.owner(incoming.remote_address());
            let admission = Arc::new(Only(only, self.admission.clone()));
            let Ok((crypto, slot)) = self.credentials.server(admission) else { continue };
            let mut config = ServerConfig::with_crypto(Arc::new(crypto));
            config.transport_config(self.transport.clone()).migration(!self.path.limits().relayed);
            return Some(Arrival { incoming, config: Arc::new(config), slot, seat });
        }
    }

    /// Finishes a handshake.
    pub(crate) async fn admit(&self, arrival: Arrival) -> Result<Link, Refused> {
        let from = arrival.incoming.remote_address();
        let done = self.agree(arrival).await;
        // Somebody may make a bad handshake where there is a link.
        if done.is_err() && !self.relayed.has(from) {
            self.path.done(from, Duration::ZERO);
        }
        done
    }

    async fn agree(&self, arrival: Arrival) -> Result<Link, Refused> {
        let Arrival { incoming, config, slot, seat } = arrival;
        let address = shown(&*self.path, incoming.remote_address());
        let refused = |why: String| {
            let peer = match slot.get() {
                Some(Verdict::NotAdmitted(peer) | Verdict::Peer(peer) | Verdict::Mismatch(peer)) => {
                    Some(*peer)
                }
                Some(Verdict::Bad(_)) | None => None,
            };
            let why = match slot.get() {
                Some(Verdict::NotAdmitted(_)) => "it is not allowed to link here".to_owned(),
                Some(Verdict::Bad(error)) => error.to_string(),
                _ => why,
            };
            Refused { address: address.clone(), peer, why }
        };
        let connecting = incoming.accept_with(config).map_err(|error| refused(error.to_string()))?;
        let connection = match timeout(self.config.dial_timeout, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => return Err(refused("the handshake took too long".to_owned())),
        };
        drop(seat);
        let Some(Verdict::Peer(peer)) = slot.get() else { return Err(refused("no certificate".to_owned())) };
        Ok(self.link(connection, *peer, Direction::Incoming))
    }

    /// Ends all links and takes no more.
    pub(crate) fn close(&self) {
        self.quic.close(Ended::Shutdown.code(), b"");
    }

    /// Waits until the other sides had time to hear of the end.
    pub(crate) async fn wait(&self) {
        // No longer than the sending of a farewell takes; some other sides have gone already.
        let _ = timeout(Duration::from_secs(3), self.quic.wait_idle()).await;
    }
}

fn transport(config: &LinkConfig, path: &dyn PacketPath) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let limits = path.limits();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(limits.max_datagram);
    // Only times beyond 2^62 milliseconds are refused.
    let idle = config.idle_timeout.try_into().ok();
    let window = config.link_window.min(limits.window.unwrap_or(u32::MAX) / LEAST_SHARING as u32);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(config.max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(idle)
        .keep_alive_interval(Some(config.keep_alive))
        .stream_receive_window(VarInt::from_u32(config.stream_window.min(window)))
        .receive_window(VarInt::from_u32(window))
        .send_window(u64::from(window))
        .mtu_discovery_config(Some(discovery))
        // Unreliable datagrams only ask whether somebody is there; what they hold is not kept.
        .datagram_receive_buffer_size(Some(1024))
        .datagram_send_buffer_size(1024);
    transport
}

/// What has gone wrong with a dial.
fn explain(
    error: quinn::ConnectionError,
    verdict: Option<&Verdict>,
    address: &str,
    expected: PeerId,
) -> DialError {
    let address = address.to_owned();
    match verdict {
        Some(Verdict::Mismatch(actual)) => return DialError::Mismatch { expected, actual: *actual, address },
        Some(Verdict::NotAdmitted(_)) => return DialError::Itself(address),
        Some(Verdict::Bad(why)) => return DialError::Certificate { address, why: why.clone() },
        Some(Verdict::Peer(_)) | None => {}
    }
    match error {
        quinn::ConnectionError::TimedOut => DialError::Timeout(address),
        quinn::ConnectionError::ConnectionClosed(close) => {
            DialError::Refused { address, why: close.to_string() }
        }
        quinn::ConnectionError::ApplicationClosed(close) => {
            DialError::Refused { address, why: Ended::of(&close).to_string() }
        }
        error => DialError::Failed { address, why: error.to_string() },
    }
}
