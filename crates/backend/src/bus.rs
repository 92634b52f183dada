//! Publishing and subscribing, whatever carries the messages.
//!
//! A program that is written for a [`Bus`] does not know whether a router of its own process carries its messages or a
//! deployment that is somebody else's. What every bus must do is in [`conformance`](crate::conformance).

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use midge_wire::subject;
use tokio::sync::broadcast;

use crate::error::{BusError, Refusal};

/// Something that will have happened.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, BusError>> + Send + 'a>>;

/// Publishing and subscribing. What is published by one bus on a subject comes to the subscriptions on it of all buses that
/// are connected, its own among them, in the order in which it was published there. A subscription whose messages are not
/// taken in time loses some of them, or ends; that is told by [`BusEvent::SlowConsumer`].
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// Publishes. Done when the message is on its way; whether anybody hears it is not said.
    fn publish(&self, message: Message) -> Pending<'_, ()>;

    /// Subscribes: as one of a queue group if one is named, of which one member hears each message. Done when the messages
    /// of this bus that are published after it come.
    fn subscribe(&self, subject: &str, queue: Option<&str>) -> Pending<'_, Messages>;

    /// Asks, and waits for the first answer. The message's own reply subject is not used.
    fn request(&self, question: Message, patience: Duration) -> Pending<'_, Message>;

    /// Waits until everything that was published and subscribed has been taken in.
    fn flush(&self) -> Pending<'_, ()>;

    /// Has everything that was published taken in and everything that has come handed on, then ends. Subscriptions end
    /// after their last message; what is published after this is refused.
    fn drain(&self) -> Pending<'_, ()>;

    /// What happens to the bus from now on.
    fn events(&self) -> BusEvents;
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Where answers go; empty for nowhere.
    pub reply: String,
    /// Names and values of its headers. Values of one name keep their order; that of names is not kept everywhere.
    pub headers: Vec<(String, String)>,
    /// The payload.
    pub payload: Bytes,
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

    /// Looks whether it can be published.
    ///
    /// # Errors
    /// A subject or a header is none.
    pub fn check(&self) -> Result<(), BusError> {
        if !is_subject(&self.subject) {
            return Err(BusError::Subject(self.subject.clone()));
        }
        if !self.reply.is_empty() && !is_subject(&self.reply) {
            return Err(BusError::Subject(self.reply.clone()));
        }
        let fits = |text: &str| !text.contains(['\r', '\n']);
        for (name, value) in &self.headers {
            let is_name = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
            if name.is_empty() || !is_name || !fits(value) {
                return Err(BusError::Header(name.escape_debug().to_string()));
            }
        }
        Ok(())
    }
}

/// Whether something can be published to it: it is a literal subject, and a word in a line of the protocol.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    subject::is_word(text.as_bytes()) && subject::is_valid_literal(text.as_bytes())
}

/// Looks whether there can be a subscription on it, in that queue group.
///
/// # Errors
/// One of them is none.
pub fn check_subscription(subject: &str, queue: Option<&str>) -> Result<(), BusError> {
    if !subject::is_word(subject.as_bytes()) || !subject::is_valid(subject.as_bytes()) {
        return Err(BusError::Subject(subject.to_owned()));
    }
    match queue {
        Some(queue) if !subject::is_word(queue.as_bytes()) => Err(BusError::Queue(queue.to_owned())),
        _ => Ok(()),
    }
}

/// Messages of one subscription. It ends when this is dropped.
pub struct Messages(Pin<Box<dyn Stream<Item = Message> + Send>>);

impl Messages {
    /// Those of a stream.
    pub fn new(stream: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The next one; `None` once the subscription has ended.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

/// Something that happens to a bus.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// Messages go and come, for the first time or again.
    Connected,
    /// No messages go or come. What is published waits, as far as there is room.
    Disconnected,
    /// Whoever carries messages does not let this bus do something.
    Refused(Refusal),
    /// Messages were lost, since a subscription's were not taken in time.
    SlowConsumer,
    /// Something else has gone wrong.
    Failed(String),
    /// The bus has ended.
    Closed,
}

/// What happens to a bus. Whoever does not take it in time misses some of it.
#[derive(Debug)]
pub struct BusEvents(broadcast::Receiver<BusEvent>);

impl BusEvents {
    /// What that channel says.
    #[must_use]
    pub const fn new(receiver: broadcast::Receiver<BusEvent>) -> Self {
        Self(receiver)
    }

    /// The next event; `None` once there will be none.
    pub async fn next(&mut self) -> Option<BusEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
