//! Publishing and subscribing inside the process, as a client library would have it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use midge_router::local::{self, Outgoing};
use midge_router::{Account, SubscribeError};
use midge_wire::{header, subject};
use rustls::crypto::ring;
use tokio::time::timeout;

use crate::clock;
use crate::inside::Inside;
use crate::server::Server;

/// Random bytes in the subject that an answer is awaited on.
const INBOX_BYTES: usize = 16;
/// The status of an answer that says that nobody listens.
const NO_RESPONDERS: u16 = 503;

/// A client inside the process, without a socket. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    server: Arc<Server>,
    account: Arc<Account>,
    publisher: Arc<Inside>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Where answers go; empty for nowhere.
    pub reply: String,
    /// Names and values of its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The payload.
    pub payload: Bytes,
}

/// Messages of one subscription. It ends when this is dropped.
pub struct Subscription {
    inside: Inside,
}

/// Why something was not published.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The subject is none that can be published to.
    #[error("'{0}' is no subject to publish to")]
    Subject(String),
    /// There is more payload than the server takes.
    #[error("{size} bytes, where the server takes {most}")]
    TooLong {
        /// Bytes of headers and payload.
        size: usize,
        /// Most that are taken.
        most: usize,
    },
    /// A header's name or value cannot stand in a line.
    #[error("header '{0}' cannot stand in a line")]
    Header(String),
    /// The server has closed this client.
    #[error("the server has closed this client")]
    Closed,
}

/// Why there is no answer.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The question could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The answer could not be subscribed to.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// Nobody listens there.
    #[error("nobody listens to '{0}'")]
    NoResponders(String),
    /// Nobody answered in time.
    #[error("no answer from '{0}' in time")]
    Timeout(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("account", self.account.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Message {
    /// A message with that payload and nothing else.
    #[must_use]
    pub fn new(subject: &str, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.to_owned(), payload: payload.into(), ..Self::default() }
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn of(message: &local::Message) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            subject: text(&message.subject),
            reply: text(&message.reply),
            headers: header::fields(&message.headers)
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            payload: message.payload.clone(),
        }
    }
}

impl Client {
    pub(crate) fn new(server: &Arc<Server>, account: &Arc<Account>) -> Self {
        let publisher = Arc::new(Inside::join(server, account));
        Self { server: server.clone(), account: account.clone(), publisher }
    }

    /// Publishes a payload.
    ///
    /// # Errors
    /// The server does not take it.
    pub fn publish(&self, subject: &str, payload: impl Into<Bytes>) -> Result<(), PublishError> {
        self.send(&Message::new(subject, payload)).map(drop)
    }

    /// Publishes a message; to how many receivers it went, other servers counted once each.
    ///
    /// # Errors
    /// The server does not take it.
    pub fn send(&self, message: &Message) -> Result<u64, PublishError> {
        let Message { subject, reply, headers, payload } = message;
        if !is_subject(subject) {
            return Err(PublishError::Subject(subject.clone()));
        }
        if !reply.is_empty() && !is_subject(reply) {
            return Err(PublishError::Subject(reply.clone()));
        }
        let fits = |text: &str| !text.contains(['\r', '\n']);
        for (name, value) in headers {
            if name.is_empty() || name.contains(':') || !fits(name) || !fits(value) {
                return Err(PublishError::Header(name.escape_debug().to_string()));
            }
        }
        let mut block = Vec::new();
        if !headers.is_empty() {
            let fields: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            header::write(&mut block, &fields);
        }
        let (size, most) = (block.len() + payload.len(), self.server.router().limits().max_payload);
        if size > most {
            return Err(PublishError::TooLong { size, most });
        }
        if self.publisher.closed().is_some() {
            return Err(PublishError::Closed);
        }
        let out = Outgoing { subject: subject.as_bytes(), reply: reply.as_bytes(), headers: &block, payload };
        Ok(self.publisher.publish(&out, clock::now()))
    }

    /// Subscribes.
    ///
    /// # Errors
    /// The subject is none, or the server has stopped.
    pub fn subscribe(&self, subject: &str) -> Result<Subscription, SubscribeError> {
        self.queue_subscribe(subject, "")
    }

    /// Subscribes as a member of a queue group: each message goes to one of them.
    ///
    /// # Errors
    /// The subject or the group is none, or the server has stopped.
    pub fn queue_subscribe(&self, subject: &str, queue: &str) -> Result<Subscription, SubscribeError> {
        let inside = Inside::join(&self.server, &self.account);
        inside.subscribe(subject.as_bytes(), queue.as_bytes())?;
        Ok(Subscription { inside })
    }

    /// Asks, and waits for the first answer.
    ///
    /// # Errors
    /// Nobody listens, or nobody answers in time.
    pub async fn request(
        &self,
        subject: &str,
        payload: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Message, RequestError> {
        self.ask(Message::new(subject, payload), patience).await
    }

    /// The same with headers. The message's own reply subject is not used.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn ask(&self, question: Message, patience: Duration) -> Result<Message, RequestError> {
        let reply = inbox()?;
        let mut answers = self.subscribe(&reply)?;
        let question = Message { reply, ..question };
        let nobody = || RequestError::NoResponders(question.subject.clone());
        if self.send(&question)? == 0 {
            return Err(nobody());
        }
        let late = || RequestError::Timeout(question.subject.clone());
        let answer = timeout(patience, answers.next_local()).await.map_err(|_| late())?.ok_or_else(late)?;
        if header::status(&answer.headers) == Some(NO_RESPONDERS) && answer.payload.is_empty() {
            return Err(nobody());
        }
        Ok(Message::of(&answer))
    }

    /// The account that it publishes and subscribes in.
    #[must_use]
    pub fn account(&self) -> &str {
        self.account.name()
    }
}

/// Whether something can be published to it: it is a literal subject, and a word in a line of the protocol.
pub(crate) fn is_subject(name: &str) -> bool {
    local::is_word(name.as_bytes()) && subject::is_valid_literal(name.as_bytes())
}

/// A subject for one answer, which nobody guesses.
fn inbox() -> Result<String, RequestError> {
    let mut random = [0; INBOX_BYTES];
    ring::default_provider().secure_random.fill(&mut random).map_err(|_| RequestError::Random)?;
    Ok(format!("_INBOX.{}", data_encoding::BASE64URL_NOPAD.encode(&random)))
}

impl Subscription {
    /// The next message; `None` once the server has stopped, or has closed this subscription because more waits for it
    /// than may.
    pub async fn next(&mut self) -> Option<Message> {
        self.next_local().await.as_ref().map(Message::of)
    }

    async fn next_local(&mut self) -> Option<local::Message> {
        self.inside.next().await
    }

    /// The next message, if one has come.
    #[must_use]
    pub fn try_next(&mut self) -> Option<Message> {
        self.inside.take().as_ref().map(Message::of)
    }
}
