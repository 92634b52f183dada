//! What carries a connection, as far as somebody asks: authentication, monitoring, logs.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use midge_identity::PeerId;
use midge_link::Link;
use midge_router::{CloseReason, Conn, Tag};
use midge_wire::json::Credentials;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConnection};

use crate::options::ConnectionType;

/// What carries a connection. Left with the connection as its tag, where it is not a plain socket.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) kind: ConnectionType,
    /// What TLS's handshake has shown, once it has.
    pub(crate) tls: OnceLock<TlsFacts>,
    /// How what is sent is compressed, as nats-server calls it, once that is agreed on.
    pub(crate) compression: OnceLock<&'static str>,
    /// The link that it is a stream of.
    pub(crate) link: Option<OverLink>,
    /// Whether it is this process's own way to a deployment (see `mesh::backend`).
    pub(crate) is_bridge: bool,
    /// Whom a proxy says that it forwards, for log lines only.
    pub(crate) forwarded_for: Option<IpAddr>,
    /// What cookies said, until the connection ends.
    cookies: Mutex<CookieValues>,
    /// Why the connection ended, once it has: WebSocket says goodbye with it.
    pub(crate) ended: OnceLock<CloseReason>,
}

/// What a link has proven.
#[derive(Debug)]
pub(crate) struct OverLink {
    pub(crate) peer: PeerId,
    /// The account that it belongs to, if not to the global one.
    pub(crate) account: Option<String>,
}

/// What TLS's handshake has shown.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// Such as `1.3`.
    pub(crate) version: &'static str,
    pub(crate) suite: String,
    /// Whether it came before the first INFO.
    pub(crate) first: bool,
    /// The peer's certificate and those that it is signed by.
    pub(crate) peer: Vec<CertificateDer<'static>>,
}

impl TlsFacts {
    /// What that connection's handshake has shown.
    pub(crate) fn of(connection: &ServerConnection, first: bool) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "",
        };
        let suite = connection.negotiated_cipher_suite();
        // rustls puts the version into the names of TLS 1.3.
        let suite =
            suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default().replace("TLS13_", "TLS_");
        let peer = connection.peer_certificates().unwrap_or_default();
        Self { version, suite, first, peer: peer.iter().map(|one| one.clone().into_owned()).collect() }
    }
}

/// Who somebody is by the cookies of a WebSocket request; empty where nothing was said.
#[derive(Clone, Default)]
pub(crate) struct CookieValues {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) token: String,
}

impl CookieValues {
    fn complete(&self, credentials: &mut Credentials) {
        for (said, cookie) in [
            (&mut credentials.user, &self.user),
            (&mut credentials.pass, &self.password),
            (&mut credentials.auth_token, &self.token),
        ] {
            if said.is_empty() {
                said.clone_from(cookie);
            }
        }
    }
}

impl fmt::Debug for CookieValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieValues").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Carrier {
    pub(crate) fn new(kind: ConnectionType) -> Self {
        Self {
            kind,
            tls: OnceLock::new(),
            compression: OnceLock::new(),
            link: None,
            is_bridge: false,
            forwarded_for: None,
            cookies: Mutex::default(),
            ended: OnceLock::new(),
        }
    }

    /// A stream of a link to a peer of that account.
    pub(crate) fn link(link: &Link, account: Option<String>) -> Self {
        let link = Some(OverLink { peer: link.peer(), account });
        Self { link, ..Self::new(ConnectionType::Standard) }
    }

    /// This peer's own way to a deployment.
    pub(crate) fn bridge(us: PeerId) -> Self {
        let link = Some(OverLink { peer: us, account: None });
        Self { link, is_bridge: true, ..Self::new(ConnectionType::Standard) }
    }

    pub(crate) fn websocket(cookies: CookieValues, forwarded_for: Option<IpAddr>) -> Self {
        let cookies = Mutex::new(cookies);
        Self { cookies, forwarded_for, ..Self::new(ConnectionType::WebSocket) }
    }

    /// Says by cookies what a CONNECT leaves open.
    pub(crate) fn complete(&self, credentials: &mut Credentials) {
        self.cookies.lock().complete(credentials);
    }

    /// Notes why the connection ended, and forgets what is secret: others may remember the connection for a while.
    pub(crate) fn end(&self, reason: CloseReason) {
        // The first reason stays.
        let _ = self.ended.set(reason);
        *self.cookies.lock() = CookieValues::default();
    }

    /// How what that connection sends is compressed, as nats-server calls it.
    pub(crate) fn compression(conn: &Conn) -> &'static str {
        Self::of(conn).and_then(|carrier| carrier.compression.get().copied()).unwrap_or("off")
    }

    /// What carries that connection, if more than a plain socket.
    pub(crate) fn of(conn: &Conn) -> Option<Arc<Self>> {
        Self::from_tag(conn.tag()?)
    }

    pub(crate) fn from_tag(tag: &Tag) -> Option<Arc<Self>> {
        tag.clone().downcast().ok()
    }
}
