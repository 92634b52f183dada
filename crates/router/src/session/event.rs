//! What a session tells whoever runs it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use midge_wire::WireError;
use midge_wire::json::{Credentials, PeerInfo};

use crate::cluster::Opening;
use crate::grant::Grant;
use crate::reason::CloseReason;

/// What a session tells whoever runs it. Facts for logs and decisions; none of them needs an answer but
/// [`Event::Authenticate`].
#[derive(Debug)]
pub enum Event {
    /// The peer has said who it is: find out whether that is so, and call `handle_verdict`.
    Authenticate(Box<AuthRequest>),
    /// The peer has been let in, by a first CONNECT or a further one.
    Connected,
    /// Something was refused; the connection goes on.
    Refused(Refusal),
    /// The connection was closed from this side.
    Closed(CloseReason, Option<SessionError>),
    /// Something about the cluster.
    Route(RouteNews),
    /// Something about a leafnode connection.
    Leaf(LeafNews),
}

/// What a leafnode connection tells.
#[derive(Debug)]
pub enum LeafNews {
    /// The connection is one to a leafnode or hub now.
    Joined {
        /// The other server's id, if it said so.
        id: String,
        /// Its name.
        name: String,
    },
    /// The hub may also be reached by these addresses.
    Urls(Vec<String>),
    /// The other server has complained: a text with quotes around it.
    Told(String),
}

/// Why a connection cannot be one to a leafnode or hub. Prints as the text of the `-ERR` that nats-server sends for it,
/// where it sends any.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// A client has come to the port of leafnodes.
    #[error("attempted to connect to leaf node port")]
    WrongPort,
    /// A gateway has come to the port of leafnodes.
    #[error("Rejecting connection from gateway {0:?} on the leafnode port")]
    Gateway(String),
    /// What was dialled is no port of leafnodes.
    #[error("attempted to connect to wrong port")]
    NoHub,
    /// The name of the leafnode's cluster would not stand in the protocol's lines.
    #[error("cluster name cannot contain spaces")]
    ClusterName,
    /// No cluster may be called so.
    #[error("cluster name is reserved")]
    ReservedName,
    /// The leafnode's cluster is called as this server's.
    #[error("remote leafnode has same cluster name")]
    SameCluster,
    /// The leafnode is older than this.
    #[error("connection rejected since minimum version required is {0:?}")]
    Version(String),
    /// The same leafnode has come again.
    #[error("Duplicate Remote LeafNode Connection")]
    Duplicate,
    /// The connection leads back to this server.
    #[error("Loop detected for leafnode account={0:?}. Delaying attempt to reconnect for 30s")]
    Loop(String),
    /// The hub has not said in time that it takes the connection.
    #[error("Stale Leaf Node Connection - Closing")]
    Silent,
    /// The leafnode wants what it may not have.
    #[error("Permissions Violation for Subscription to {0:?}")]
    Subscription(String),
    /// The leafnode publishes where it may not.
    #[error("Permissions Violation for Publish to {0:?}")]
    Publish(String),
    /// More is wanted behind the other server than this one will remember.
    #[error("maximum subscriptions exceeded")]
    TooMuchInterest,
}

impl LeafError {
    const fn reason(&self) -> CloseReason {
        match self {
            Self::WrongPort | Self::Gateway(_) | Self::NoHub => CloseReason::WrongPort,
            Self::ClusterName | Self::ReservedName => CloseReason::ProtocolViolation,
            Self::SameCluster => CloseReason::ClusterNameConflict,
            Self::Version(_) => CloseReason::MinimumVersionRequired,
            Self::Duplicate => CloseReason::DuplicateRemoteLeafnode,
            Self::Loop(_) => CloseReason::ProtocolViolation,
            Self::Silent => CloseReason::StaleConnection,
            Self::Subscription(_) => CloseReason::SubscribeViolation,
            Self::Publish(_) => CloseReason::PublishViolation,
            Self::TooMuchInterest => CloseReason::MaxSubscriptionsExceeded,
        }
    }
}

/// What a route tells of the cluster.
#[derive(Debug)]
pub enum RouteNews {
    /// The connection is one to another member now.
    Joined {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Connections to it that are to be made, too.
        open: Vec<Opening>,
    },
    /// There is another server, which is to be connected to.
    Heard(Box<PeerInfo>),
    /// A member has said something new of itself.
    Changed,
}

/// Why a connection cannot be one between two members of a cluster. Prints as the text of the `-ERR` that nats-server
/// sends for it, where it sends any.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A client has come to the port of routes.
    #[error("attempted to connect to route port")]
    WrongPort,
    /// A gateway has come to the port of routes.
    #[error("Rejecting connection from gateway {0:?} on the Route port")]
    Gateway(String),
    /// The names of the clusters differ.
    #[error("Rejecting connection, cluster name {theirs:?} does not match {ours:?}")]
    ClusterName {
        /// The other's.
        theirs: String,
        /// This server's.
        ours: String,
    },
    /// No cluster may be called so.
    #[error("Rejecting connection, cluster name \"_\" is reserved")]
    ReservedName,
    /// The connection goes to this server itself.
    #[error("route to itself")]
    ToItself,
    /// The other server has this server's name.
    #[error("another server has this server's name, {0:?}")]
    SameName(String),
    /// The other server announces an id that is not the one that it has proven.
    #[error("peer {proven} announces the id of another server, {said}")]
    NotProven {
        /// What it has proven.
        proven: String,
        /// What it says.
        said: String,
    },
    /// There is such a connection to the server of that id already.
    #[error("there is a route to {0} already")]
    Duplicate(String),
    /// There are not so many places in the pool.
    #[error("Invalid route pool index: {index} - pool size is {size}")]
    PoolIndex {
        /// The place.
        index: u32,
        /// How many there are.
        size: u32,
    },
    /// The account has no connection of its own here.
    #[error("No route for account {0:?}")]
    NoRoute(String),
    /// There is no such account.
    #[error("Unable to lookup account {0:?}: account missing")]
    NoAccount(String),
    /// Without a pool no account has a connection of its own.
    #[error("Not possible to have a dedicated route for account {0:?} between those servers")]
    NotDedicated(String),
    /// More is wanted behind the other server than this one will remember.
    #[error("maximum subscriptions exceeded")]
    TooMuchInterest,
    /// A subject is none.
    #[error("Invalid Subscription")]
    Subject,
}

impl RouteError {
    /// Whether the peer is told.
    const fn is_told(&self) -> bool {
        !matches!(self, Self::ToItself | Self::SameName(_) | Self::Duplicate(_))
    }

    const fn reason(&self) -> CloseReason {
        match self {
            Self::NotProven { .. } => CloseReason::AuthenticationViolation,
            Self::WrongPort | Self::Gateway(_) => CloseReason::WrongPort,
            Self::ClusterName { .. } | Self::ReservedName => CloseReason::ClusterNameConflict,
            Self::ToItself | Self::SameName(_) | Self::Duplicate(_) => CloseReason::DuplicateRoute,
            Self::NoAccount(_) | Self::NoRoute(_) | Self::NotDedicated(_) => CloseReason::MissingAccount,
            Self::TooMuchInterest => CloseReason::MaxSubscriptionsExceeded,
            Self::PoolIndex { .. } | Self::Subject => CloseReason::ProtocolViolation,
        }
    }
}

/// Who the peer says it is.
pub struct AuthRequest {
    /// What its CONNECT says.
    pub credentials: Credentials,
    /// What it was to sign; empty when nothing was asked.
    pub nonce: String,
}

impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

/// The answer to [`Event::Authenticate`].
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The peer is somebody.
    Welcome(Arc<Grant>),
    /// It is not.
    Refused,
}

/// What was refused. Prints as the text of the `-ERR` that nats-server 2.15 sends for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A subscription's subject is not valid.
    Subject,
    /// A publish subject is not valid. The message was delivered all the same.
    PublishSubject,
    /// A publish on this subject.
    Publish(Vec<u8>),
    /// A publish with this reply subject.
    Reply(Vec<u8>),
    /// A subscription on this subject, in this queue group, with this sid.
    Subscribe(Vec<u8>, Vec<u8>, Vec<u8>),
    /// A subscription that was made and is not allowed any more: subject, queue group and sid.
    Removed(Vec<u8>, Vec<u8>, Vec<u8>),
    /// A subscription on this subject, for its number of tokens.
    Tokens(Vec<u8>),
    /// One subscription too many.
    TooMany,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject => f.write_str("Invalid Subject"),
            Self::PublishSubject => f.write_str("Invalid Publish Subject"),
            Self::Publish(subject) => {
                write!(f, "Permissions Violation for Publish to {}", Quoted(subject))
            }
            Self::Reply(reply) => {
                write!(f, "Permissions Violation for Publish with Reply of {}", Quoted(reply))
            }
            Self::Subscribe(subject, queue, _) => subscription(f, subject, queue),
            Self::Removed(subject, queue, sid) => {
                subscription(f, subject, queue)?;
                write!(f, " (sid {})", Quoted(sid))
            }
            Self::Tokens(subject) => {
                write!(f, "Permissions Violation for Subscription to {}, too many tokens", Quoted(subject))
            }
            Self::TooMany => f.write_str("maximum subscriptions exceeded"),
        }
    }
}

fn subscription(f: &mut fmt::Formatter<'_>, subject: &[u8], queue: &[u8]) -> fmt::Result {
    write!(f, "Permissions Violation for Subscription to {}", Quoted(subject))?;
    if queue.is_empty() { Ok(()) } else { write!(f, " using queue {}", Quoted(queue)) }
}

/// Bytes in double quotes as Go's `%q` prints them.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => f.write_str("\\\"")?,
                    '\\' => f.write_str("\\\\")?,
                    '\u{7}' => f.write_str("\\a")?,
                    '\u{8}' => f.write_str("\\b")?,
                    '\u{c}' => f.write_str("\\f")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\u{b}' => f.write_str("\\v")?,
                    c if (c as u32) < 0x20 || c == '\u{7f}' => write!(f, "\\x{:02x}", c as u32)?,
                    c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                    c => fmt::Write::write_char(f, c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

/// Why a session closed its connection, sorted by who must act. [`SessionError::err_text`] is the only home of
/// the texts that go to the peer.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The peer broke the protocol.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The peer's CONNECT cannot be read.
    #[error("bad CONNECT: {0}")]
    Connect(String),
    /// The peer's INFO cannot be read.
    #[error("bad INFO: {0}")]
    Info(String),
    /// The peer reported an error.
    #[error("Client Error {0}")]
    Peer(String),
    /// The peer speaks a version of the client protocol that does not exist.
    #[error("invalid client protocol")]
    Version,
    /// The peer wants to be told of missing responders but takes no headers.
    #[error("no responders requires headers support")]
    NoRespondersWithoutHeaders,
    /// The peer did not prove who it is, or did not begin by saying it.
    #[error("authentication error")]
    Authorization,
    /// The peer did not say in time who it is.
    #[error("authentication timeout")]
    AuthTimeout,
    /// There are as many connections as there may be.
    #[error("maximum connections exceeded")]
    TooManyConnections,
    /// The account has as many connections as it may have.
    #[error("maximum account active connections exceeded")]
    TooManyAccountConnections,
    /// The peer has more subscriptions than it may have any more.
    #[error("maximum subscriptions exceeded")]
    TooManySubscriptions,
    /// The peer does not answer.
    #[error("stale connection")]
    Stale,
    /// The peer does not take what is sent to it.
    #[error("write deadline exceeded")]
    WriteDeadline,
    /// The connection cannot be one between servers of a cluster.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The connection cannot be one to a leafnode or hub.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

impl SessionError {
    /// The text inside the quotes of the `-ERR` that the peer gets; `None` where it gets none.
    #[must_use]
    pub fn err_text(&self) -> Option<Cow<'static, str>> {
        if let Self::Route(error) = self {
            return error.is_told().then(|| error.to_string().into());
        }
        if let Self::Leaf(error) = self {
            return (*error != LeafError::NoHub).then(|| error.to_string().into());
        }
        self.fixed_text().map(Cow::Borrowed)
    }

    const fn fixed_text(&self) -> Option<&'static str> {
        match self {
            Self::Wire(error) => error.err_text(),
            Self::Version => Some("invalid client protocol"),
            Self::NoRespondersWithoutHeaders => Some("no responders requires headers support"),
            Self::Authorization => Some("Authorization Violation"),
            Self::AuthTimeout => Some("Authentication Timeout"),
            Self::TooManyConnections => Some("maximum connections exceeded"),
            Self::TooManyAccountConnections => Some("maximum account active connections exceeded"),
            Self::TooManySubscriptions => Some("maximum subscriptions exceeded"),
            Self::Stale => Some("Stale Connection"),
            Self::Connect(_)
            | Self::Info(_)
            | Self::Peer(_)
            | Self::WriteDeadline
            | Self::Route(_)
            | Self::Leaf(_) => None,
        }
    }

    /// What the connection is recorded to have ended for.
    #[must_use]
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Wire(WireError::ControlLineTooLong { .. }) => CloseReason::MaxControlLineExceeded,
            Self::Wire(WireError::PayloadTooLarge { .. }) => CloseReason::MaxPayloadExceeded,
            Self::Wire(_) | Self::Connect(_) | Self::Info(_) => CloseReason::ProtocolViolation,
            Self::Peer(_) => CloseReason::ParseError,
            Self::Version => CloseReason::BadClientProtocolVersion,
            Self::NoRespondersWithoutHeaders => CloseReason::NoRespondersRequiresHeaders,
            Self::Authorization => CloseReason::AuthenticationViolation,
            Self::AuthTimeout => CloseReason::AuthenticationTimeout,
            Self::TooManyConnections => CloseReason::MaxConnectionsExceeded,
            Self::TooManyAccountConnections => CloseReason::MaxAccountConnectionsExceeded,
            Self::TooManySubscriptions => CloseReason::MaxSubscriptionsExceeded,
            Self::Stale => CloseReason::StaleConnection,
            Self::WriteDeadline => CloseReason::SlowConsumerWriteDeadline,
            Self::Route(error) => error.reason(),
            Self::Leaf(error) => error.reason(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_quoted_as_go_does() {
        assert_eq!(Quoted(b"a\"b\\\x01\xff\t\xc3\xa4").to_string(), "\"a\\\"b\\\\\\x01\\xff\\t\u{e4}\"");
        assert_eq!(
            Refusal::Subscribe(b"a".into(), b"q".into(), b"7".into()).to_string(),
            "Permissions Violation for Subscription to \"a\" using queue \"q\""
        );
        assert_eq!(
            Refusal::Removed(b"a".into(), b"".into(), b"7".into()).to_string(),
            "Permissions Violation for Subscription to \"a\" (sid \"7\")"
        );
    }
}
