//! What is logged of a connection, and who it is found to be.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use midge_router::{CloseReason, Conn, Direction, Event, Kind, Quoted, Refusal, RouteError, SessionError};
use midge_wire::WireError;
use midge_wire::json::Credentials;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tracing::{debug, error, info, trace, warn};

use crate::auth::{Login, claimed};
use crate::carrier::Carrier;
use crate::drive::End;
use crate::tls::HandshakeError;

/// A connection's side of the log.
#[derive(Debug)]
pub(crate) struct Talk {
    reason: Option<CloseReason>,
    /// Whom the peer says that it is, for those who are told that it is not: no secrets.
    asked: Option<Box<Credentials>>,
}

/// A connection as log lines begin with it: address, number and, once it is known, what the client said of itself.
struct Name<'a>(&'a Conn);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = Carrier::of(self.0).and_then(|carrier| carrier.forwarded_for) {
            write!(f, "{address}/")?;
        }
        let number = match self.0.kind() {
            Kind::Client | Kind::Local => "cid",
            Kind::Route => "rid",
            Kind::Spoke | Kind::Hub => "lid",
        };
        write!(f, "{} - {number}:{}", self.0.peer(), self.0.cid())?;
        let Some(hello) = self.0.hello() else { return Ok(()) };
        let version = if hello.version.is_empty() { String::new() } else { format!("v{}", hello.version) };
        let words: Vec<&str> = [version.as_str(), &hello.lang, &hello.name]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        if !words.is_empty() {
            write!(f, " - {}", Quoted(words.join(":").as_bytes()))?;
        }
        let grant = self.0.grant();
        match Login::of(&grant) {
            Some(login) => {
                write!(f, " - {}", Quoted(format!("{}/{}", grant.account.name(), login.label()).as_bytes()))
            }
            None => Ok(()),
        }
    }
}

impl Talk {
    pub(crate) fn new(conn: &Conn) -> Self {
        debug!("{} - {} connection created", Name(conn), kind(conn));
        Self { reason: None, asked: None }
    }

    /// Remembers whom the peer says that it is.
    pub(crate) fn asked(&mut self, credentials: &Credentials) {
        let mut asked = credentials.clone();
        let token = !asked.auth_token.is_empty();
        asked.hide_secrets();
        if token {
            asked.auth_token = "[REDACTED]".to_owned();
        }
        self.asked = Some(Box::new(asked));
    }

    /// Forgets whom the peer said that it is: now that is known.
    pub(crate) fn welcomed(&mut self) {
        self.asked = None;
    }

    /// Logs that there is no TLS with the peer. Who does not even begin it is none of the operator's concern.
    pub(crate) fn no_handshake(&self, conn: &Conn, why: &HandshakeError) {
        let name = Name(conn);
        match why {
            HandshakeError::Timeout | HandshakeError::NotTls => debug!("{name} - TLS handshake error: {why}"),
            HandshakeError::NotPinned | HandshakeError::Tls(_) => {
                error!("{name} - TLS handshake error: {why}")
            }
        }
    }

    /// Logs an event.
    pub(crate) fn handle(&mut self, event: Event, conn: &Conn) {
        let name = Name(conn);
        match event {
            // Whoever runs the session answers it.
            Event::Authenticate(_) | Event::Connected | Event::Route(_) | Event::Leaf(_) => {}
            Event::Refused(refusal @ (Refusal::TooMany | Refusal::Tokens(_))) => error!("{name} - {refusal}"),
            Event::Refused(refusal @ (Refusal::Subject | Refusal::PublishSubject)) => {
                debug!("{name} - {refusal}")
            }
            Event::Refused(Refusal::Publish(subject)) => {
                error!("{name} - Publish Violation - Subject {}", Quoted(&subject));
            }
            Event::Refused(Refusal::Reply(reply)) => {
                error!("{name} - Publish Violation - Reply {}", Quoted(&reply));
            }
            Event::Refused(Refusal::Subscribe(subject, queue, sid)) => {
                let queue =
                    if queue.is_empty() { String::new() } else { format!(", Queue: {}", Quoted(&queue)) };
                let (subject, sid) = (Quoted(&subject), String::from_utf8_lossy(&sid));
                error!("{name} - Subscription Violation - Subject {subject}{queue}, SID {sid}");
            }
            Event::Refused(Refusal::Removed(subject, queue, sid)) => {
                let queue =
                    if queue.is_empty() { String::new() } else { format!(" using queue {}", Quoted(&queue)) };
                let (subject, sid) = (Quoted(&subject), Quoted(&sid));
                info!("{name} - Removed sub {subject}{queue} (sid {sid}) - not authorized");
            }
            Event::Closed(reason, Some(SessionError::Authorization)) => {
                self.reason = Some(reason);
                let claimed = self.asked.as_deref().and_then(claimed);
                let claimed = claimed.map(|who| format!(" - {who}")).unwrap_or_default();
                error!("{name} - authentication error{claimed}");
            }
            Event::Closed(reason, error) => {
                self.reason = Some(reason);
                closed(&name, reason, error.as_ref(), conn);
            }
        }
    }

    /// Logs the end of the connection.
    pub(crate) fn ended(&self, conn: &Conn) -> End<'_> {
        let reason = self.reason.unwrap_or(CloseReason::ClientClosed);
        let line = format!("{} - {} connection closed: {}", Name(conn), kind(conn), reason.text());
        if conn.kind() == Kind::Client {
            debug!("{line}")
        } else {
            info!("{line}")
        }
        End { reason, claimed: self.asked.as_deref() }
    }
}

/// What kind of peer a connection has, as log lines say it.
fn kind(conn: &Conn) -> &'static str {
    match conn.kind() {
        Kind::Client | Kind::Local => "Client",
        Kind::Route => "Router",
        Kind::Spoke | Kind::Hub => "Leafnode",
    }
}

/// Why a connection was closed from this side, at the level at which nats-server logs it.
fn closed(name: &Name<'_>, reason: CloseReason, error: Option<&SessionError>, conn: &Conn) {
    match (error, reason) {
        (Some(SessionError::Wire(WireError::PayloadTooLarge { size, limit })), _) => {
            error!("{name} - maximum payload exceeded: {size} vs {limit}");
        }
        (Some(SessionError::Stale), _) => debug!("{name} - Stale {} Connection - Closing", kind(conn)),
        (Some(SessionError::WriteDeadline), _) | (None, CloseReason::SlowConsumerWriteDeadline) => {
            info!(
                "{name} - Slow Consumer Detected: WriteDeadline exceeded with {} bytes waiting",
                conn.pending()
            );
        }
        (None, CloseReason::SlowConsumerPendingBytes) => {
            info!("{name} - Slow Consumer Detected: MaxPending exceeded");
        }
        (Some(SessionError::Wire(why)), _) => error!("{name} - {} parser ERROR: {why}", kind(conn)),
        // Both servers dialled each other, or one itself.
        (Some(SessionError::Route(why @ (RouteError::Duplicate(_) | RouteError::ToItself))), _) => {
            debug!("{name} - {why}");
        }
        (Some(why), _) => error!("{name} - {why}"),
        (None, _) => {}
    }
}

/// Shows the protocol lines of one connection.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// Whose lines they are. Its owner holds this, so that it must not hold the connection.
    conn: OnceLock<Weak<Conn>>,
    /// Most bytes of a payload that are shown; zero for all.
    max: usize,
}

impl Tracer {
    pub(crate) const fn new(max: usize) -> Self {
        Self { conn: OnceLock::new(), max }
    }

    /// Says whose lines they are. Before that, none is shown.
    pub(crate) fn belong_to(&self, conn: &Arc<Conn>) {
        // Nobody says it twice.
        let _ = self.conn.set(Arc::downgrade(conn));
    }

    pub(crate) fn line(&self, direction: Direction, op: &str, args: &[u8]) {
        let Some(conn) = self.conn.get().and_then(Weak::upgrade) else { return };
        let arrow = match direction {
            Direction::In => "<<-",
            Direction::Out => "->>",
            Direction::Within => "<->",
        };
        let head = format!("{} - {arrow}", Name(&conn));
        let op = if op == "+OK" { "OK" } else { op };
        let args = match op {
            // The original shows neither.
            "INFO" => return,
            "MSG_PAYLOAD" if args.is_empty() => return,
            "MSG_PAYLOAD" => {
                let shown = if self.max == 0 { args } else { args.get(..self.max).unwrap_or(args) };
                let mut quoted = Quoted(shown).to_string();
                if shown.len() < args.len() {
                    quoted.insert_str(quoted.len() - 1, "...");
                }
                trace!("{head} MSG_PAYLOAD: [{quoted}]");
                return;
            }
            "CONNECT" => without_secrets(args),
            "-ERR" => {
                let bare = args.strip_prefix(b"'").and_then(|args| args.strip_suffix(b"'"));
                String::from_utf8_lossy(bare.unwrap_or(args)).into_owned()
            }
            _ => String::from_utf8_lossy(args).into_owned(),
        };
        let space = if op.is_empty() || args.is_empty() { "" } else { " " };
        trace!("{head} [{op}{space}{args}]");
    }
}

/// The body of a CONNECT with everything hidden that proves who somebody is.
fn without_secrets(json: &[u8]) -> String {
    const SECRETS: [&str; 4] = ["pass", "auth_token", "sig", "jwt"];
    let Ok(Fields(fields)) = serde_json::from_slice(json) else { return "[REDACTED]".to_owned() };
    let token = fields.iter().find(|(key, _)| key == "auth_token").map(|(_, value)| value.get());
    let shown = fields.iter().map(|(key, value)| {
        // A leafnode may say its token as its user, too.
        let secret = SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(key))
            || token.is_some_and(|token| token == value.get());
        let value = if secret { "\"[REDACTED]\"" } else { value.get() };
        format!("{}:{value}", serde_json::Value::from(key.as_str()))
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
}

/// An object's fields in their order, which maps do not keep.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// Logs that there are too many connections.
pub(crate) fn cannot_accept(error: &std::io::Error, wait: std::time::Duration) {
    warn!("Temporary Client Accept Error ({error}), sleeping {}ms", wait.as_millis());
}

/// Time since the server's start, as monitoring shows times: `1y2d3h4m5s`, without leading zeros.
pub(crate) fn uptime(since: Instant, now: Instant) -> String {
    let seconds = now.saturating_duration_since(since).as_secs();
    let (minutes, s) = (seconds / 60, seconds % 60);
    let (hours, m) = (minutes / 60, minutes % 60);
    let (days, h) = (hours / 24, hours % 24);
    let (y, d) = (days / 365, days % 365);
    match (y, d, h, m) {
        (0, 0, 0, 0) => format!("{s}s"),
        (0, 0, 0, _) => format!("{m}m{s}s"),
        (0, 0, _, _) => format!("{h}h{m}m{s}s"),
        (0, _, _, _) => format!("{d}d{h}h{m}m{s}s"),
        _ => format!("{y}y{d}d{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let shown = without_secrets(
            br#"{"user":"u","PASS":"p1","auth_token":"p2","jwt":"p3","sig":"p4","name":"n"}"#,
        );
        assert!(shown.contains("\"user\":\"u\"") && !shown.contains("p1"), "{shown}");
        assert_eq!(shown.matches("[REDACTED]").count(), 4);
        assert_eq!(without_secrets(b"{\"pass\":\"p"), "[REDACTED]");
    }

    #[test]
    fn times_are_shown_without_leading_zeros() {
        let now = Instant::now();
        let ago = |seconds| uptime(now, now + Duration::from_secs(seconds));
        assert_eq!((ago(0), ago(61), ago(90_061)), ("0s".into(), "1m1s".into(), "1d1h1m1s".into()));
    }
}
