//! The messages of a server shared with everybody who uses a deployment.
//!
//! To the server this is a hub that wants everything; to the deployment it is a client that subscribes, below a prefix, to
//! what is wanted on the server. As with any hub, what goes there is what the server's own clients and leafnodes say, and what
//! comes from there is for them: other servers of the cluster have a way of their own, or none. So nothing goes round, however
//! many servers of a cluster share their messages.
//!
//! A client gets a copy of a message for each of its subscriptions that match, and a server wants one, in the order in which
//! messages were published. So there is one subscription for all that is wanted by subscribers in no queue group, which is on
//! everything below the prefix; it is there while anything is wanted. A queue group has one of its own, and its copy is for a
//! member of that group alone: the server must take what lists a group so (the entrance of such a connection says it), not as
//! what other leafnodes send.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{Client, StatusCode, Subscriber};
use futures_util::StreamExt;
use midge_identity::KeyPair;
use midge_wire::encode::{self, Peer, RoutedTo};
use midge_wire::json::PeerInfo;
use midge_wire::{Decoded, Decoder, Interest, LeafGrammar, Limits, PeerOp, Routed, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::bus::{BusEvents, is_subject};
use crate::error::{BackendError, in_a_line};
use crate::nats::message::{self, Outgoing};
use crate::nats::{Connection, Deployment, Purpose, QUESTION, State};
use crate::prefix::{OUTSIDE, Prefix};

/// Messages that wait, at the client and on their way to the server.
const PURPOSE: Purpose = Purpose { echo: false, outgoing: 256, incoming: 1024, attempts: Some(20) };
const WAITING: usize = 64;
/// Time before the server is talked to again.
const PAUSE: Duration = Duration::from_secs(1);
/// Subjects that are remembered for answers: these and as many older ones.
const REPLIES: usize = 8192;
/// Most bytes of a line that servers say to each other.
const MOST_LINE: usize = 64 * 1024;
/// Bytes that are read at once.
const READ: usize = 64 * 1024;

/// What shares a server's messages. It ends when this is dropped.
#[derive(Debug)]
pub struct Bridge {
    connection: Connection,
    task: AbortHandle,
}

impl Bridge {
    /// Shares the messages of a server with those who use the deployment, below its prefix: `open` gives a connection to
    /// the server as a leafnode has one, as often as one is needed. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// What is said of the deployment cannot be used.
    pub fn start<T>(
        deployment: &Deployment,
        key: &KeyPair,
        open: impl Fn() -> T + Send + 'static,
    ) -> Result<Self, BackendError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (connection, attempt) = Connection::begin(deployment, key, PURPOSE)?;
        let (prefix, name) = (deployment.prefix.clone(), key.peer_id().to_string());
        let state = connection.watch_state();
        let task = tokio::spawn(async move {
            loop {
                // A server waits for a while only for who says nothing, so there is a client before there is a connection to it.
                let talk = Talk::new(attempt.connect().await, prefix.clone(), state.clone());
                let why = talk.run(open(), &name).await.err();
                let why = why.map_or_else(|| "the server has ended it".to_owned(), |why| why.to_string());
                tracing::warn!("Messages are not shared for a moment: {why}");
                sleep(PAUSE).await;
            }
        });
        Ok(Self { connection, task: task.abort_handle() })
    }

    /// What happens to the connection to the deployment from now on.
    #[must_use]
    pub fn events(&self) -> BusEvents {
        self.connection.events()
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

/// What has come of a subscription.
enum Arrived {
    /// A message for a queue group, or for those in none.
    Message(Option<Arc<[u8]>>, async_nats::Message),
    /// Its end: there is no connection any more, and will be none.
    End,
}

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
    replies: Replies,
    /// Bytes of headers and payload that the server takes.
    most: usize,
}

/// Where answers may go that are not below the prefix: those who asked lately have said so. Nothing else of the deployment is
/// the server's clients' to publish to.
#[derive(Default)]
struct Replies {
    newer: HashSet<String>,
    older: HashSet<String>,
}

impl Replies {
    fn note(&mut self, subject: &str) {
        if self.newer.len() >= REPLIES {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(subject.to_owned());
    }

    fn contain(&self, subject: &str) -> bool {
        self.newer.contains(subject) || self.older.contains(subject)
    }
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
            replies: Replies::default(),
            most: usize::MAX,
        }
    }

    /// Talks to the server until it ends.
    async fn run(mut self, io: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> io::Result<()> {
        let (mut read, mut write) = tokio::io::split(io);
        let mut decoder = Decoder::<LeafGrammar>::new(Limits {
            max_payload: usize::MAX,
            max_control_line: MOST_LINE,
            ..Limits::default()
        });
        let (mut input, mut out, mut greeted) = (Vec::new(), Vec::new(), false);
        loop {
            tokio::select! {
                Some(arrived) = self.arrived.recv() => match arrived {
                    Arrived::Message(queue, message) => self.hand_on(queue.as_deref(), &message, &mut out),
                    Arrived::End => return Err(io::ErrorKind::NotConnected.into()),
                },
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
                                self.take(op, (name, &mut greeted), &mut out).await?;
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
    async fn take(
        &mut self,
        op: PeerOp<'_>,
        (name, greeted): (&str, &mut bool),
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        match op {
            PeerOp::Info(json) if !*greeted => {
                *greeted = true;
                let info = PeerInfo::from_json(json).unwrap_or_default();
                self.most =
                    usize::try_from(info.max_payload).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
                let version = &info.version;
                let hello = format!(
                    "{{\"version\":\"{version}\",\"name\":\"backend {name}\",\"server_id\":\"backend {name}\",\"headers\":true,\"is_hub\":true}}"
                );
                encode::connect(out, hello.as_bytes());
                out.extend_from_slice(encode::PING);
                encode::wanted(out, Peer::Leaf, &Interest { subject: b">", ..Interest::default() });
            }
            PeerOp::Wanted(interest) => self.want(&interest).await,
            PeerOp::Unwanted(interest) => self.unwant(&interest),
            PeerOp::Msg(routed) => return self.send(&routed).await,
            PeerOp::Ping => out.extend_from_slice(encode::PONG),
            PeerOp::Err(why) => return Err(io::Error::other(in_a_line(&String::from_utf8_lossy(why)))),
            _ => {}
        }
        Ok(())
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
                if arrive.send(Arrived::Message(queue.clone(), message)).await.is_err() {
                    return;
                }
            }
            // Nobody may be there any more.
            let _ = arrive.send(Arrived::End).await;
        };
        Wanted(tokio::spawn(taking).abort_handle())
    }

    /// Publishes a message of the server. While nothing goes there, it is lost, as with any leafnode.
    async fn send(&self, routed: &Routed<'_>) -> io::Result<()> {
        let message = &routed.message;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (Some(subject), Some(reply)) = (text(message.subject), text(message.reply)) else {
            return Ok(());
        };
        if self.state.borrow().is_away() {
            return Ok(());
        }
        let is_answer = subject.strip_prefix(OUTSIDE).and_then(|rest| rest.strip_prefix('.'));
        if is_answer.is_some_and(|to| !self.prefix.as_str().is_empty() && !self.replies.contain(to)) {
            tracing::debug!("A message is not shared: nobody has asked for it outside the prefix");
            return Ok(());
        }
        let subject = self.prefix.outward(subject);
        let fields = header::fields(message.headers());
        let fields = fields.filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        let outgoing = Outgoing {
            subject: subject.into(),
            reply: (!message.reply.is_empty()).then(|| self.prefix.outward(reply).into()),
            // What no client could have sent goes without its headers.
            headers: message::headers(fields).unwrap_or_default(),
            payload: bytes::Bytes::copy_from_slice(message.payload()),
        };
        let sent = message::publish(&self.client, outgoing).await;
        match sent {
            Err(why) if why.kind() == PublishErrorKind::Send => Err(io::ErrorKind::NotConnected.into()),
            Err(why) => {
                tracing::debug!("A message is not shared: {why}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Hands a message to the server.
    fn hand_on(&mut self, queue: Option<&[u8]>, message: &async_nats::Message, out: &mut Vec<u8>) {
        // That nobody listens there says nothing of who listens here.
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return;
        }
        let Some(subject) = self.prefix.inward(&message.subject) else { return };
        // Nor is what buses say to themselves anybody else's.
        if !is_subject(&subject) || subject.split('.').next() == Some(QUESTION) {
            return;
        }
        let reply = message.reply.as_ref().and_then(|reply| self.prefix.inward(reply)).unwrap_or_default();
        if !reply.is_empty() && !is_subject(&reply) {
            return;
        }
        if let Some(to) = reply.strip_prefix(OUTSIDE).and_then(|rest| rest.strip_prefix('.')) {
            self.replies.note(to);
        }
        let mut block = Vec::new();
        let fields: Vec<(&str, &str)> = message::fields(message).collect();
        if !fields.is_empty() || message.status.is_some() {
            header::write(&mut block, &fields);
        }
        if let Some(status) = message.status {
            let said = message.description.as_deref().unwrap_or_default();
            let line = format!(" {} {said}", status.as_u16());
            block.splice(header::VERSION.len()..header::VERSION.len(), line.trim_end().bytes());
        }
        if block.len() + message.payload.len() > self.most {
            tracing::debug!("A message is not taken in: it is longer than this server takes");
            return;
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
