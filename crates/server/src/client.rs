//! Publishing and subscribing inside the process, as a client library would have it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use midge_backend::BusError;
pub use midge_backend::bus::Message;
use midge_backend::bus::check_subscription;
use midge_router::local::{self, Outgoing};
use midge_router::{Account, SubscribeError};
use midge_wire::header;
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

/// Messages of one subscription. It ends when this is dropped.
pub struct Subscription {
    inside: Inside,
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

/// A message as others see it.
pub(crate) fn shown(message: &local::Message) -> Message {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Message {
        subject: text(&message.subject),
        reply: text(&message.reply),
        headers: header::fields(&message.headers).map(|(name, value)| (text(name), text(value))).collect(),
        payload: message.payload.clone(),
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
    pub fn publish(&self, subject: &str, payload: impl Into<Bytes>) -> Result<(), BusError> {
        self.send(&Message::new(subject, payload)).map(drop)
    }

    /// Publishes a message; to how many receivers it went, other servers counted once each.
    ///
    /// # Errors
    /// The server does not take it.
    pub fn send(&self, message: &Message) -> Result<u64, BusError> {
        message.check()?;
        let Message { subject, reply, headers, payload } = message;
        let mut block = Vec::new();
        if !headers.is_empty() {
            let fields: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            header::write(&mut block, &fields);
        }
        let (size, most) = (block.len() + payload.len(), self.server.router().limits().max_payload);
        if size > most {
            return Err(BusError::TooLong { size, most });
        }
        if self.publisher.closed().is_some() {
            return Err(BusError::Closed);
        }
        let out = Outgoing { subject: subject.as_bytes(), reply: reply.as_bytes(), headers: &block, payload };
        Ok(self.publisher.publish(&out, clock::now()))
    }

    /// Subscribes.
    ///
    /// # Errors
    /// The subject is none, or the server has stopped.
    pub fn subscribe(&self, subject: &str) -> Result<Subscription, BusError> {
        self.queue_subscribe(subject, "")
    }

    /// Subscribes as a member of a queue group: each message goes to one of them.
    ///
    /// # Errors
    /// The subject or the group is none, or the server has stopped.
    pub fn queue_subscribe(&self, subject: &str, queue: &str) -> Result<Subscription, BusError> {
        self.join(subject, (!queue.is_empty()).then_some(queue)).map(|(inside, _)| Subscription { inside })
    }

    /// A subscriber of its own, and the number of its one subscription.
    pub(crate) fn join(&self, subject: &str, queue: Option<&str>) -> Result<(Inside, u64), BusError> {
        check_subscription(subject, queue)?;
        let inside = Inside::join(&self.server, &self.account);
        let sid = inside.subscribe(subject.as_bytes(), queue.unwrap_or_default().as_bytes());
        let sid = sid.map_err(|error| match error {
            SubscribeError::Subject => BusError::Subject(subject.to_owned()),
            SubscribeError::Closed => BusError::Closed,
            other => BusError::Other(other.to_string()),
        })?;
        Ok((inside, sid))
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
    ) -> Result<Message, BusError> {
        self.ask(Message::new(subject, payload), patience).await
    }

    /// The same with headers. The message's own reply subject is not used.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn ask(&self, question: Message, patience: Duration) -> Result<Message, BusError> {
        let reply = inbox()?;
        let mut answers = self.subscribe(&reply)?;
        let question = Message { reply, ..question };
        let nobody = || BusError::NoResponders(question.subject.clone());
        if self.send(&question)? == 0 {
            return Err(nobody());
        }
        let late = || BusError::Timeout(question.subject.clone());
        let answer = timeout(patience, answers.next_local()).await.map_err(|_| late())?.ok_or_else(late)?;
        if header::status(&answer.headers) == Some(NO_RESPONDERS) && answer.payload.is_empty() {
            return Err(nobody());
        }
        Ok(shown(&answer))
    }

    /// The account that it publishes and subscribes in.
    #[must_use]
    pub fn account(&self) -> &str {
        self.account.name()
    }
}

/// A subject for one answer, which nobody guesses.
fn inbox() -> Result<String, BusError> {
    let mut random = [0; INBOX_BYTES];
    ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| BusError::Other("the system gives no random bytes".to_owned()))?;
    Ok(format!("_INBOX.{}", data_encoding::BASE64URL_NOPAD.encode(&random)))
}

impl Subscription {
    /// The next message; `None` once the server has stopped, or has closed this subscription because more waits for it
    /// than may.
    pub async fn next(&mut self) -> Option<Message> {
        self.next_local().await.as_ref().map(shown)
    }

    async fn next_local(&mut self) -> Option<local::Message> {
        self.inside.next().await
    }

    /// The next message, if one has come.
    #[must_use]
    pub fn try_next(&mut self) -> Option<Message> {
        self.inside.take().as_ref().map(shown)
    }
}
