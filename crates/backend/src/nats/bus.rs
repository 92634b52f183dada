//! Pub-sub through a deployment.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::{Client, Request, Subscriber};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use midge_identity::KeyPair;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::connection::{QUESTION, Shared, Watch, reason};
use super::message::{self, Outgoing};
use super::{Connection, Deployment, Purpose};
use crate::bus::{Bus, BusEvent, BusEvents, Message, Messages, Pending, check_subscription};
use crate::error::{BackendError, BusError, Operation};
use crate::prefix::Prefix;

/// Time in which a server must have taken in what came before.
const SYNC: Duration = Duration::from_secs(10);
/// How often others have their turn before it is believed that nothing was refused.
const TURNS: usize = 16;
/// Messages that wait, in each direction.
const PURPOSE: Purpose = Purpose { echo: true, outgoing: 512, incoming: 4096, attempts: None };

/// Pub-sub through a NATS deployment: subjects below a prefix there are the subjects of programs here.
#[derive(Debug)]
pub struct ExternalBus {
    client: Client,
    connection: Connection,
    prefix: Prefix,
    /// Whether it takes no more.
    ended: AtomicBool,
    marks: Marks,
}

/// Messages to oneself, by which it is found out that the server has taken in what came before.
#[derive(Debug)]
struct Marks {
    /// Where they go, on the deployment.
    subject: String,
    waiting: Arc<Mutex<HashMap<Bytes, oneshot::Sender<()>>>>,
    task: AbortHandle,
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ExternalBus {
    /// Connects. Once it has, it comes back by itself.
    ///
    /// # Errors
    /// The deployment cannot be used, or lets this one not in.
    pub async fn connect(deployment: &Deployment, key: &KeyPair) -> Result<Arc<Self>, BackendError> {
        let (connection, client) = Connection::open(deployment, key, PURPOSE).await?;
        let prefix = deployment.prefix.clone();
        let place = client.new_inbox();
        let place = place.rsplit('.').next().unwrap_or_default();
        let subject = prefix.join(&format!("{QUESTION}.{place}"));
        let fail = |error: &dyn std::fmt::Display| BackendError::Connect {
            servers: connection.servers().to_owned(),
            why: error.to_string(),
        };
        let mut marks = client.subscribe(subject.clone()).await.map_err(|error| fail(&error))?;
        let waiting: Arc<Mutex<HashMap<Bytes, oneshot::Sender<()>>>> = Arc::default();
        let told = waiting.clone();
        let task = tokio::spawn(async move {
            while let Some(mark) = marks.next().await {
                if let Some(tell) = told.lock().remove(&mark.payload) {
                    // It may not want to know any more.
                    let _ = tell.send(());
                }
            }
        });
        let marks = Marks { subject, waiting, task: task.abort_handle() };
        Ok(Arc::new(Self { client, connection, prefix, ended: AtomicBool::new(false), marks }))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.connection.shared()
    }

    fn open(&self) -> Result<(), BusError> {
        if self.ended.load(Ordering::Acquire) { Err(BusError::Closed) } else { Ok(()) }
    }

    async fn send(&self, message: Message) -> Result<(), BusError> {
        self.open()?;
        message.check()?;
        self.fits(&message)?;
        let subject = self.prefix.outward(&message.subject);
        let reply = (!message.reply.is_empty()).then(|| self.prefix.outward(&message.reply));
        let outgoing = Outgoing {
            subject: subject.into(),
            reply: reply.map(Into::into),
            headers: message::headers(pairs(&message))?,
            payload: message.payload.clone(),
        };
        let sent = message::publish(&self.client, outgoing).await;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::Send => BusError::Closed,
            _ => BusError::Other(reason(&error)),
        })
    }

    /// Looks whether the server takes so much.
    fn fits(&self, message: &Message) -> Result<(), BusError> {
        let line = |(name, value): &(String, String)| name.len() + value.len() + ": \r\n".len();
        let head: usize = message.headers.iter().map(line).sum();
        let head = if head == 0 { 0 } else { head + "NATS/1.0\r\n\r\n".len() };
        let (size, most) = (head + message.payload.len(), self.client.max_payload());
        if size > most { Err(BusError::TooLong { size, most }) } else { Ok(()) }
    }

    async fn listen(&self, subject: String, queue: Option<String>) -> Result<Messages, BusError> {
        self.open()?;
        check_subscription(&subject, queue.as_deref())?;
        // Nobody subscribes to what is not below the prefix.
        if self.prefix.outward(&subject) != self.prefix.join(&subject) {
            return Err(BusError::Subject(subject));
        }
        let subject = self.prefix.join(&subject);
        let mut watch = self.shared().watch(Operation::Subscribe, &subject, queue.as_deref());
        let subscribed = match queue {
            Some(queue) => self.client.queue_subscribe(subject, queue).await,
            None => self.client.subscribe(subject).await,
        };
        let messages = subscribed.map_err(|error| BusError::Other(reason(&error)))?;
        tokio::select! {
            biased;
            refusal = watch.refused() => return Err(refusal.into()),
            done = self.sync() => done?,
        }
        for _ in 0..TURNS {
            if let Some(refusal) = watch.look() {
                return Err(refusal.into());
            }
            // What the server said before is told by another task.
            tokio::task::yield_now().await;
        }
        Ok(Messages::new(Mapped { messages, watch, prefix: self.prefix.clone(), ended: false }))
    }

    async fn ask(&self, question: Message, patience: Duration) -> Result<Message, BusError> {
        self.open()?;
        let question = Message { reply: String::new(), ..question };
        question.check()?;
        self.fits(&question)?;
        let shown = question.subject.clone();
        let subject = self.prefix.outward(&shown);
        let mut request = Request::new().payload(question.payload.clone()).timeout(Some(patience));
        if let Some(headers) = message::headers(pairs(&question))? {
            request = request.headers(headers);
        }
        let mut watch = self.shared().watch(Operation::Publish, &subject, None);
        let answer = tokio::select! {
            biased;
            answer = self.client.send_request(subject, request) => answer,
            refusal = watch.refused() => return Err(refusal.into()),
        };
        match answer {
            Ok(answer) => Ok(inward(&self.prefix, answer)),
            Err(error) => Err(match (error.kind(), self.shared().inbox_refused()) {
                (RequestErrorKind::NoResponders, _) => BusError::NoResponders(shown),
                (RequestErrorKind::TimedOut, Some(refusal)) => refusal.into(),
                (RequestErrorKind::TimedOut, None) => BusError::Timeout(shown),
                _ => BusError::Other(reason(&error)),
            }),
        }
    }

    /// Waits until the server has taken in everything that was said before: what one says to oneself comes back, or is said to
    /// come to nobody where one may not listen to oneself, or is refused.
    async fn sync(&self) -> Result<(), BusError> {
        let inbox = self.client.new_inbox();
        let mark = Bytes::from(inbox.rsplit('.').next().unwrap_or_default().to_owned());
        let (tell, told) = oneshot::channel();
        self.marks.waiting.lock().insert(mark.clone(), tell);
        let subject = self.marks.subject.clone();
        let mut watch = self.shared().watch(Operation::Publish, &subject, None);
        let request = Request::new().payload(mark.clone()).inbox(inbox).timeout(Some(SYNC));
        let done = tokio::select! {
            biased;
            Ok(()) = told => Ok(()),
            answer = self.client.send_request(subject, request) => match answer {
                Ok(_) => Ok(()),
                Err(error) => match (error.kind(), self.shared().inbox_refused()) {
                    (RequestErrorKind::NoResponders, _) => Ok(()),
                    (RequestErrorKind::TimedOut, Some(refusal)) => Err(refusal.into()),
                    (RequestErrorKind::TimedOut, None) => {
                        Err(BusError::Timeout(self.connection.servers().to_owned()))
                    }
                    _ => Err(BusError::Other(reason(&error))),
                },
            },
            // That is an answer, too.
            _ = watch.refused() => Ok(()),
        };
        self.marks.waiting.lock().remove(&mark);
        done
    }

    async fn end(&self) -> Result<(), BusError> {
        if self.ended.swap(true, Ordering::AcqRel) {
            return Err(BusError::Closed);
        }
        // The client forgets what is still on its way when it ends.
        self.sync().await?;
        let mut events = self.shared().events.subscribe();
        self.client.drain().await.map_err(|_| BusError::Closed)?;
        let closed = async {
            loop {
                match events.recv().await {
                    Ok(BusEvent::Closed) | Err(broadcast::error::RecvError::Closed) => return,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                }
            }
        };
        timeout(SYNC, closed).await.map_err(|_| BusError::Timeout(self.connection.servers().to_owned()))
    }
}

impl Bus for ExternalBus {
    fn publish(&self, message: Message) -> Pending<'_, ()> {
        Box::pin(self.send(message))
    }

    fn subscribe(&self, subject: &str, queue: Option<&str>) -> Pending<'_, Messages> {
        Box::pin(self.listen(subject.to_owned(), queue.map(str::to_owned)))
    }

    fn request(&self, question: Message, patience: Duration) -> Pending<'_, Message> {
        Box::pin(self.ask(question, patience))
    }

    fn flush(&self) -> Pending<'_, ()> {
        Box::pin(async {
            self.open()?;
            self.sync().await
        })
    }

    fn drain(&self) -> Pending<'_, ()> {
        Box::pin(self.end())
    }

    fn events(&self) -> BusEvents {
        BusEvents::new(self.shared().events.subscribe())
    }
}

/// A subscription's messages with a program's subjects. Refused, it ends.
struct Mapped {
    messages: Subscriber,
    watch: Watch,
    prefix: Prefix,
    ended: bool,
}

impl Stream for Mapped {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            self.ended |= !self.ended && self.watch.poll(cx).is_ready();
            if self.ended {
                return Poll::Ready(None);
            }
            let Some(message) = std::task::ready!(Pin::new(&mut self.messages).poll_next(cx)) else {
                self.ended = true;
                continue;
            };
            let message = inward(&self.prefix, message);
            // What buses say to themselves is nobody else's.
            if message.subject.split('.').next() != Some(QUESTION) {
                return Poll::Ready(Some(message));
            }
        }
    }
}

/// A message as a program sees it.
fn inward(prefix: &Prefix, message: async_nats::Message) -> Message {
    Message {
        headers: message::fields(&message).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        // Subscribed to, so it is below the prefix.
        subject: prefix.inward(&message.subject).unwrap_or_default(),
        // A reply that looks like a way out is not taken for one.
        reply: message.reply.and_then(|reply| prefix.inward(&reply)).unwrap_or_default(),
        payload: message.payload,
    }
}

fn pairs(message: &Message) -> impl Iterator<Item = (&str, &str)> {
    message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}
