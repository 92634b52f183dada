//! The router inside the process as a [`Bus`].

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::stream;
use midge_backend::BusError;
use midge_backend::bus::{Bus, BusEvent, BusEvents, Message, Messages, Pending};
use midge_router::CloseReason;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::client::{Client, shown};
use crate::inside::Inside;

/// Events that are kept for those who do not take them at once.
const EVENTS: usize = 16;

/// Pub-sub by the router of this process, and what it is connected to.
pub struct EmbeddedBus {
    client: Client,
    events: broadcast::Sender<BusEvent>,
    ended: Arc<AtomicBool>,
    /// Those that are there, and the number of the one subscription of each.
    subscribers: Mutex<Vec<(Weak<Inside>, u64)>>,
}

impl fmt::Debug for EmbeddedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBus").field("client", &self.client).finish_non_exhaustive()
    }
}

impl EmbeddedBus {
    /// A bus that publishes and subscribes as that client does.
    #[must_use]
    pub fn new(client: Client) -> Arc<Self> {
        let (events, ended) = (broadcast::Sender::new(EVENTS), Arc::default());
        Arc::new(Self { client, events, ended, subscribers: Mutex::default() })
    }

    fn open(&self) -> Result<(), BusError> {
        if self.ended.load(Ordering::Acquire) { Err(BusError::Closed) } else { Ok(()) }
    }

    fn listen(&self, subject: &str, queue: Option<&str>) -> Result<Messages, BusError> {
        self.open()?;
        let (inside, sid) = self.client.join(subject, queue)?;
        let inside = Arc::new(inside);
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|(known, _)| known.strong_count() > 0);
        subscribers.push((Arc::downgrade(&inside), sid));
        drop(subscribers);
        let (ended, events) = (self.ended.clone(), self.events.clone());
        Ok(Messages::new(stream::unfold((inside, ended, events), async |(inside, ended, events)| {
            loop {
                // Looked at first: what has come before the end is still taken.
                let closed = inside.closed();
                let over = ended.load(Ordering::Acquire) || closed.is_some();
                if let Some(message) = inside.take() {
                    return Some((shown(&message), (inside, ended, events)));
                }
                if over {
                    if closed.is_some_and(CloseReason::is_slow_consumer) {
                        // Nobody may listen.
                        let _ = events.send(BusEvent::SlowConsumer);
                    }
                    return None;
                }
                inside.arrival().await;
            }
        })))
    }

    fn end(&self) -> Result<(), BusError> {
        if self.ended.swap(true, Ordering::AcqRel) {
            return Err(BusError::Closed);
        }
        for (inside, sid) in std::mem::take(&mut *self.subscribers.lock()) {
            if let Some(inside) = inside.upgrade() {
                inside.unsubscribe(sid, 0);
                inside.wake();
            }
        }
        // Nobody may listen.
        let _ = self.events.send(BusEvent::Closed);
        Ok(())
    }
}

impl Bus for EmbeddedBus {
    fn publish(&self, message: Message) -> Pending<'_, ()> {
        Box::pin(async move {
            self.open()?;
            self.client.send(&message).map(drop)
        })
    }

    fn subscribe(&self, subject: &str, queue: Option<&str>) -> Pending<'_, Messages> {
        let subscribed = self.listen(subject, queue);
        Box::pin(async { subscribed })
    }

    fn request(&self, question: Message, patience: Duration) -> Pending<'_, Message> {
        Box::pin(async move {
            self.open()?;
            self.client.ask(question, patience).await
        })
    }

    fn flush(&self) -> Pending<'_, ()> {
        // The router takes in what is said while it is said.
        Box::pin(async { self.open() })
    }

    fn drain(&self) -> Pending<'_, ()> {
        Box::pin(async { self.end() })
    }

    fn events(&self) -> BusEvents {
        BusEvents::new(self.events.subscribe())
    }
}
