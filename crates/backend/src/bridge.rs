//! The messages of a server shared with everybody who uses a deployment.
//!
//! To the server this is a leafnode that wants everything; to the deployment it is a client that subscribes to what is wanted
//! on the server, below a prefix. So the server's interest goes out, its messages do, and what is published there comes in,
//! each once.
//!
//! A client gets a copy of a message for each of its subscriptions that match, and a server wants one, in the order in which
//! messages were published. So there is one subscription for all that is wanted by subscribers in no queue group, which is on
//! everything below the prefix; it is there while anything is wanted. A queue group has one of its own, and its copy is for a
//! member of that group alone: the server must take what lists a group so (the entrance of such a connection says it), not as
//! what other leafnodes send.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, StatusCode, Subscriber};
use futures_util::StreamExt;
use midge_identity::KeyPair;
use midge_wire::encode::{self, Peer, RoutedTo};
use midge_wire::{Decoded, Decoder, Interest, LeafGrammar, Limits, PeerOp, Routed, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::bus::BusEvents;
use crate::error::BackendError;
use crate::nats::{Connection, Deployment, Purpose, State};
use crate::prefix::{OUTSIDE, Prefix};

/// Messages that wait, at the client and on their way to the server.
const PURPOSE: Purpose = Purpose { echo: false, outgoing: 256, incoming: 4096 };
const WAITING: usize = 64;
/// Bytes that are read at once.
const READ: usize = 64 * 1024;

/// What shares a server's messages. It ends when this is dropped.
#[derive(Debug)]
pub struct Bridge {
    connection: Connection,
    task: AbortHandle,
}

impl Bridge {
    /// Shares the messages of the server at the other end of `io`, which takes leafnodes there, with those who use the
    /// deployment, below its prefix. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// What is said of the deployment cannot be used.
    pub fn start(
        deployment: &Deployment,
        key: &KeyPair,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, BackendError> {
        let (connection, connecting) = Connection::begin(deployment, key, PURPOSE)?;
        let (prefix, name) = (deployment.prefix.clone(), key.peer_id().to_string());
        let state = connection.watch_state();
        let task = tokio::spawn(async move {
            let client = connecting.await;
            let talk = Talk::new(client, prefix, state);
            if let Err(why) = talk.run(io, &name).await {
                tracing::debug!("Messages are not shared any more: {why}");
            }
        });
        Ok(Self { connection, task: task.abort_handle() })
    }

    /// What happens to the connection to the deployment from now on.
    #[must_use]
    pub fn events(&self) -> BusEvents {
        BusEvents::new(self.connection.shared().events.subscribe())
    }

    /// The deployment's servers, as logs may name them.
    #[must_use]
    pub fn servers(&self) -> &str {
        self.connection.servers()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A message that has come for a queue group, or for those in none.
type Arrived = (Option<Arc<[u8]>>, async_nats::Message);

struct Talk {
    client: Client,
    prefix: Prefix,
    /// Whether anything goes to the deployment just now.
    state: watch::Receiver<State>,
    /// What is wanted by subscribers in no queue group.
    plain: HashSet<Vec<u8>>,
    /// The subscription for all of them.
    everything: Option<Wanted>,
    /// Subscriptions of queue groups, by subject and group.
    queues: HashMap<(Vec<u8>, Vec<u8>), Wanted>,
    arrive: mpsc::Sender<Arrived>,
    arrived: mpsc::Receiver<Arrived>,
}

/// A subscription, which ends when this is dropped.
struct Wanted(AbortHandle);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Talk {
    fn new(client: Client, prefix: Prefix, state: watch::Receiver<State>) -> Self {
        let (arrive, arrived) = mpsc::channel(WAITING);
        Self {
            client,
            prefix,
            state,
            plain: HashSet::new(),
            everything: None,
            queues: HashMap::new(),
            arrive,
            arrived,
        }
    }

    /// Talks to the server until it ends.
    async fn run(mut self, io: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> io::Result<()> {
        let (mut read, mut write) = tokio::io::split(io);
        let mut decoder =
            Decoder::<LeafGrammar>::new(Limits { max_payload: usize::MAX, ..Limits::default() });
        let (mut input, mut out, mut greeted) = (Vec::new(), Vec::new(), false);
        loop {
            tokio::select! {
                Some((queue, message)) = self.arrived.recv() => self.hand_on(queue.as_deref(), &message, &mut out),
                read = read.read_buf(&mut input) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    let mut from = 0;
                    loop {
                        let rest = input.get(from..).unwrap_or_default();
                        let decoded = decoder.decode(rest).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.to_string()))?;
                        match decoded {
                            Decoded::Op { op, used } => {
                                self.take(op, (name, &mut greeted), &mut out).await;
                                from += used;
                            }
                            Decoded::Incomplete { used, need } => {
                                input.drain(..from + used);
                                input.reserve(need.min(READ));
                                break;
                            }
                        }
                    }
                }
            }
            if !out.is_empty() {
                write.write_all(&out).await?;
                write.flush().await?;
                out.clear();
            }
        }
    }

    /// Does what the server says.
    async fn take(&mut self, op: PeerOp<'_>, (name, greeted): (&str, &mut bool), out: &mut Vec<u8>) {
        match op {
            PeerOp::Info(_) if !*greeted => {
                *greeted = true;
                let hello = format!(
                    "{{\"name\":\"backend {name}\",\"server_id\":\"backend {name}\",\"headers\":true}}"
                );
                encode::connect(out, hello.as_bytes());
                out.extend_from_slice(encode::PING);
                encode::wanted(out, Peer::Leaf, &Interest { subject: b">", ..Interest::default() });
            }
            PeerOp::Wanted(interest) => self.want(&interest).await,
            PeerOp::Unwanted(interest) => self.unwant(&interest),
            PeerOp::Msg(routed) => self.send(&routed).await,
            PeerOp::Ping => out.extend_from_slice(encode::PONG),
            _ => {}
        }
    }

    async fn want(&mut self, interest: &Interest<'_>) {
        // By the first, servers find out whether they go round in a circle; the others are nobody's here.
        let is_ours =
            interest.subject.starts_with(b"$LDS.") || interest.subject.starts_with(OUTSIDE.as_bytes());
        let (Ok(subject), Ok(queue)) =
            (std::str::from_utf8(interest.subject), std::str::from_utf8(interest.queue))
        else {
            return;
        };
        if is_ours {
            return;
        }
        if queue.is_empty() {
            self.plain.insert(interest.subject.to_vec());
            if self.everything.is_none() {
                let messages = self.client.subscribe(self.prefix.join(">")).await;
                self.everything = messages.ok().map(|messages| self.collect(None, messages));
            }
            return;
        }
        let key = (interest.subject.to_vec(), interest.queue.to_vec());
        if !self.queues.contains_key(&key) {
            let messages = self.client.queue_subscribe(self.prefix.join(subject), queue.to_owned()).await;
            if let Ok(messages) = messages {
                let wanted = self.collect(Some(interest.queue.into()), messages);
                self.queues.insert(key, wanted);
            }
        }
    }

    fn unwant(&mut self, interest: &Interest<'_>) {
        if !interest.queue.is_empty() {
            self.queues.remove(&(interest.subject.to_vec(), interest.queue.to_vec()));
            return;
        }
        self.plain.remove(interest.subject);
        if self.plain.is_empty() {
            self.everything = None;
        }
    }

    /// Takes a subscription's messages.
    fn collect(&self, queue: Option<Arc<[u8]>>, mut messages: Subscriber) -> Wanted {
        let arrive = self.arrive.clone();
        let taking = async move {
            while let Some(message) = messages.next().await {
                if arrive.send((queue.clone(), message)).await.is_err() {
                    return;
                }
            }
        };
        Wanted(tokio::spawn(taking).abort_handle())
    }

    /// Publishes a message of the server. While nothing goes there, it is lost, as with any leafnode.
    async fn send(&self, routed: &Routed<'_>) {
        let message = &routed.message;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (Some(subject), Some(reply)) = (text(message.subject), text(message.reply)) else { return };
        if self.state.borrow().is_away() {
            return;
        }
        let subject = self.prefix.outward(subject);
        let payload = bytes::Bytes::copy_from_slice(message.payload());
        let headers = headers(message.headers());
        let (client, reply) = (&self.client, self.prefix.outward(reply));
        let sent = match (headers, message.reply.is_empty()) {
            (None, true) => client.publish(subject, payload).await,
            (None, false) => client.publish_with_reply(subject, reply, payload).await,
            (Some(headers), true) => client.publish_with_headers(subject, headers, payload).await,
            (Some(headers), false) => {
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
        };
        if let Err(why) = sent {
            tracing::debug!("A message is not shared: {why}");
        }
    }

    /// Hands a message to the server.
    fn hand_on(&self, queue: Option<&[u8]>, message: &async_nats::Message, out: &mut Vec<u8>) {
        // That nobody listens there says nothing of who listens here.
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return;
        }
        let Some(subject) = self.prefix.inward(&message.subject) else { return };
        let reply = message.reply.as_ref().and_then(|reply| self.prefix.inward(reply)).unwrap_or_default();
        let mut block = Vec::new();
        if let Some(headers) = message.headers.as_ref().filter(|headers| !headers.is_empty()) {
            let fields: Vec<(&str, &str)> = headers
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())))
                .collect();
            header::write(&mut block, &fields);
        }
        let queues: Vec<&[u8]> = queue.into_iter().collect();
        let to = RoutedTo {
            subject: subject.as_bytes(),
            reply: reply.as_bytes(),
            queues: &queues,
            ..RoutedTo::default()
        };
        encode::routed(out, Peer::Leaf, to, &block, &message.payload);
    }
}

fn headers(block: &[u8]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in header::fields(block) {
        let name: Option<HeaderName> = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        let value: Option<HeaderValue> = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        // One that no client could send is left out.
        if let (Some(name), Some(value)) = (name, value) {
            map.append(name, value);
        }
    }
    (!map.is_empty()).then_some(map)
}
