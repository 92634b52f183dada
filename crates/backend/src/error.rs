//! What goes wrong with somebody else's deployment, and with buses.

use std::fmt;

use crate::prefix::PrefixError;

/// Why a message was not published, not answered or not subscribed to.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The subject is none.
    #[error("'{0}' is no subject for this")]
    Subject(String),
    /// The queue group is none.
    #[error("'{0}' is no queue group: it has no letters, too many, or blanks")]
    Queue(String),
    /// A header's name or value cannot stand in a line.
    #[error("header '{0}' cannot stand in a line")]
    Header(String),
    /// There is more payload than is taken.
    #[error("{size} bytes, where {most} are taken")]
    TooLong {
        /// Bytes of headers and payload.
        size: usize,
        /// Most that are taken.
        most: usize,
    },
    /// The deployment does not let this user do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody listens there.
    #[error("nobody listens to '{0}'")]
    NoResponders(String),
    /// Nobody answered in time.
    #[error("no answer from '{0}' in time")]
    Timeout(String),
    /// The bus has ended.
    #[error("the bus has ended")]
    Closed,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What a user wanted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Publish.
    Publish,
    /// Subscribe.
    Subscribe,
}

/// Something that the deployment does not let its user do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What.
    pub operation: Operation,
    /// Where, on the deployment.
    pub subject: String,
    /// As one of which queue group, if as one.
    pub queue: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, subject, queue } = self;
        write!(f, "the NATS deployment does not let this user {operation} '{subject}'")?;
        if let Some(queue) = queue {
            write!(f, " in queue group '{queue}'")?;
        }
        f.write_str(": that permission is missing")
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish to",
            Self::Subscribe => "subscribe to",
        })
    }
}

impl Refusal {
    /// What a server says, if it is that: `Permissions Violation for Publish to "foo"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const WHAT: &str = "permissions violation for ";
        let rest = text.get(WHAT.len()..).filter(|_| text.to_ascii_lowercase().starts_with(WHAT))?;
        let (operation, rest) = rest.split_once(" to ")?;
        let operation = match operation.to_ascii_lowercase().as_str() {
            "publish" | "publish with reply" => Operation::Publish,
            "subscription" => Operation::Subscribe,
            _ => return None,
        };
        // Between quotes, or all of it.
        let quoted = |text: &str| {
            let text = text.trim_start_matches(['"', '\'']);
            in_a_line(text.split(['"', '\'']).next().unwrap_or_default().trim())
        };
        let subject = quoted(rest);
        let queue = rest.split_once(" using queue ").map(|(_, queue)| quoted(queue));
        (!subject.is_empty()).then_some(Self { operation, subject, queue })
    }
}

/// What others say, as it may stand in a line of ours.
pub(crate) fn in_a_line(text: &str) -> String {
    const MOST: usize = 2048;
    text.chars().take(MOST).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Why a deployment cannot be used.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// There is no server.
    #[error("no NATS server is named: say one, such as nats://HOST:4222")]
    NoServer,
    /// A server's address is none.
    #[error("'{url}' is no NATS server's address: {why}")]
    Url {
        /// What stands there, without what may be secret in it.
        url: String,
        /// Why.
        why: String,
    },
    /// Some servers are asked by WebSocket and some are not.
    #[error("either all NATS servers are reached by WebSocket (ws://, wss://) or none")]
    Mixed,
    /// The credentials cannot be used.
    #[error("the credentials cannot be used: {0}")]
    Credentials(String),
    /// The login is the peer's own key.
    #[error(
        "the credentials are the peer's own key, which could be made to sign anything: log in with another, or with none, and a key is derived"
    )]
    OwnKey,
    /// The prefix is none.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// No server lets this user in.
    #[error("{servers}: {why}")]
    Connect {
        /// Which.
        servers: String,
        /// Why.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_as_servers_write_them() {
        let queue = |name: &str| Some(name.to_owned());
        for (text, operation, subject, queue) in [
            ("Permissions Violation for Publish to \"foo\"", Operation::Publish, "foo", None),
            (
                "Permissions Violation for Publish to \"a.b\" with Reply of \"x\"",
                Operation::Publish,
                "a.b",
                None,
            ),
            ("Permissions Violation for Subscription to \"foo.>\"", Operation::Subscribe, "foo.>", None),
            (
                "Permissions Violation for Subscription to \"foo\" (sid \"7\")",
                Operation::Subscribe,
                "foo",
                None,
            ),
            (
                "Permissions Violation for Subscription to \"foo\" using queue \"q\"",
                Operation::Subscribe,
                "foo",
                queue("q"),
            ),
            ("permissions violation for subscription to $SRV.PING", Operation::Subscribe, "$SRV.PING", None),
        ] {
            assert_eq!(
                Refusal::parse(text),
                Some(Refusal { operation, subject: subject.to_owned(), queue }),
                "{text}"
            );
        }
        for text in [
            "",
            "Authorization Violation",
            "Permissions Violation for Publish",
            "Permissions Violation for \u{e4}",
        ] {
            assert_eq!(Refusal::parse(text), None, "{text}");
        }
    }
}
