//! What messages go by: a NATS server, or links to peers.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectOptions, HeaderMap};
use clap::Args;
use futures_util::StreamExt;
use midge::Node;
use midge::client::{Message, Subscription};
use midge::identity::KeyPair;
use midge::link::PeerAddress;
use midge::mesh::{new_key, read_key};
use tokio::time::{sleep, timeout};

use crate::Outcome;

/// How often it is looked whether a peer is there.
const LOOK: Duration = Duration::from_millis(10);
/// Time for a peer to say who listens there, once it is there.
const INTEREST: Duration = Duration::from_secs(1);

/// Where messages go: to a NATS server, or with --peer straight over links.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The NATS server.
    #[arg(long, short, value_name = "URL", default_value = "nats://127.0.0.1:4222", conflicts_with = "peer")]
    server: String,
    /// A file with credentials for the server.
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// A file with an nkey seed to log in with.
    #[arg(long, value_name = "FILE")]
    nkey: Option<PathBuf>,
    /// User to log in as, with --password.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// Password of that user.
    #[arg(long)]
    password: Option<String>,
    /// Token to log in with.
    #[arg(long)]
    token: Option<String>,
    /// A peer to link to, as ID@udp://HOST:PORT; may be said several times.
    #[arg(long, value_name = "ID@ADDRESS")]
    peer: Vec<PeerAddress>,
    /// The file with this peer's key; without it, a key is made for this run only.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Seconds to wait for the server, the peer, or an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    timeout: f64,
}

/// A connection to where messages go.
pub(crate) enum Bus {
    Nats(async_nats::Client),
    Node(Box<Node>),
}

/// Messages of a subscription.
pub(crate) enum Messages {
    Nats(async_nats::Subscriber),
    Node(Subscription),
}

impl Place {
    pub(crate) fn patience(&self) -> Outcome<Duration> {
        Duration::try_from_secs_f64(self.timeout).map_err(|error| format!("--timeout: {error}"))
    }

    /// The peer's key, if a file is named.
    pub(crate) fn key(&self) -> Outcome<Option<KeyPair>> {
        self.key.as_deref().map(read_key).transpose().map_err(|error| error.to_string())
    }

    pub(crate) async fn connect(&self) -> Outcome<Bus> {
        if self.peer.is_empty() {
            return self.connect_to_server().await;
        }
        let key = self.key()?.map_or_else(new_key, Ok).map_err(|error| error.to_string())?;
        let mut builder = Node::builder().key(key);
        for peer in &self.peer {
            builder = builder.peer(&peer.to_string()).map_err(|error| error.to_string())?;
        }
        let node = builder.start().map_err(|error| error.to_string())?;
        let mut events = node.events();
        let members = || node.server().router().cluster().map_or(0, midge::router::Cluster::member_count);
        let joined = async {
            while members() == 0 {
                sleep(LOOK).await;
            }
        };
        if timeout(self.patience()?, joined).await.is_err() {
            let mut why = "it does not answer".to_owned();
            while let Ok(event) = events.try_recv() {
                if let midge::link::LinkEvent::Unreachable { why: said, .. } = event {
                    why = said;
                }
            }
            return Err(format!("no peer was reached: {why} (this peer is {})", node.peer_id()));
        }
        Ok(Bus::Node(Box::new(node)))
    }

    async fn connect_to_server(&self) -> Outcome<Bus> {
        let mut options = ConnectOptions::new().connection_timeout(self.patience()?);
        if let Some(path) = &self.creds {
            let read = options.credentials_file(path).await;
            options = read.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(path) = &self.nkey {
            let seed = std::fs::read_to_string(path);
            options =
                options.nkey(seed.map_err(|error| format!("{}: {error}", path.display()))?.trim().to_owned());
        }
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        let client = options.connect(self.server.as_str()).await;
        client.map(Bus::Nats).map_err(|error| format!("{}: {error}", self.server))
    }
}

impl Bus {
    /// Publishes, once somebody could have heard of it.
    pub(crate) async fn send(&self, message: Message) -> Outcome {
        match self {
            Self::Nats(client) => {
                let headers = to_map(&message)?;
                let (subject, payload) = (message.subject, message.payload);
                let sent = match (headers, message.reply) {
                    (None, reply) if reply.is_empty() => client.publish(subject, payload).await,
                    (None, reply) => client.publish_with_reply(subject, reply, payload).await,
                    (Some(headers), reply) if reply.is_empty() => {
                        client.publish_with_headers(subject, headers, payload).await
                    }
                    (Some(headers), reply) => {
                        client.publish_with_reply_and_headers(subject, reply, headers, payload).await
                    }
                };
                sent.map_err(|error| error.to_string())?;
                client.flush().await.map_err(|error| error.to_string())
            }
            Self::Node(node) => {
                // Who listens there is told right after the link is up.
                let client = node.client();
                let told = async {
                    while client.send(&message).map_err(|error| error.to_string())? == 0 {
                        sleep(LOOK).await;
                    }
                    Ok(())
                };
                timeout(INTEREST, told)
                    .await
                    .unwrap_or_else(|_| Err(format!("nobody listens to '{}'", message.subject)))
            }
        }
    }

    pub(crate) async fn subscribe(&self, subject: &str, queue: Option<&str>) -> Outcome<Messages> {
        match self {
            Self::Nats(client) => {
                let subject = subject.to_owned();
                let subscribed = match queue {
                    Some(queue) => client.queue_subscribe(subject, queue.to_owned()).await,
                    None => client.subscribe(subject).await,
                };
                let messages = subscribed.map_err(|error| error.to_string())?;
                client.flush().await.map_err(|error| error.to_string())?;
                Ok(Messages::Nats(messages))
            }
            Self::Node(node) => {
                let subscribed = node.client().queue_subscribe(subject, queue.unwrap_or_default());
                subscribed.map(Messages::Node).map_err(|error| error.to_string())
            }
        }
    }

    pub(crate) async fn request(&self, question: Message, patience: Duration) -> Outcome<Message> {
        match self {
            Self::Nats(client) => {
                let subject = question.subject.clone();
                let mut request =
                    async_nats::Request::new().payload(question.payload.clone()).timeout(Some(patience));
                if let Some(headers) = to_map(&question)? {
                    request = request.headers(headers);
                }
                let answer = client.send_request(question.subject, request).await;
                answer.map(from_nats).map_err(|error| format!("{subject}: {error}"))
            }
            Self::Node(node) => {
                let (client, subject) = (node.client(), question.subject.clone());
                let told = async {
                    loop {
                        match client.ask(question.clone(), patience).await {
                            Err(midge::client::RequestError::NoResponders(_)) => sleep(LOOK).await,
                            answer => return answer.map_err(|error| error.to_string()),
                        }
                    }
                };
                let patience = patience + INTEREST;
                timeout(patience, told)
                    .await
                    .unwrap_or_else(|_| Err(format!("nobody listens to '{subject}'")))
            }
        }
    }

    /// Sees to it that everything has left, and ends.
    pub(crate) async fn close(self) -> Outcome {
        match self {
            Self::Nats(client) => client.flush().await.map_err(|error| error.to_string()),
            Self::Node(node) => {
                node.shutdown().await;
                Ok(())
            }
        }
    }
}

impl Messages {
    pub(crate) async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Nats(messages) => messages.next().await.map(from_nats),
            Self::Node(messages) => messages.next().await,
        }
    }
}

fn to_map(message: &Message) -> Outcome<Option<HeaderMap>> {
    if message.headers.is_empty() {
        return Ok(None);
    }
    let mut map = HeaderMap::new();
    for (name, value) in &message.headers {
        let wrong = |what: &str| format!("header '{name}': {what}");
        let name: async_nats::HeaderName = name.parse().map_err(|_| wrong("no name of a header"))?;
        let value: async_nats::HeaderValue = value.parse().map_err(|_| wrong("no value of a header"))?;
        map.append(name, value);
    }
    Ok(Some(map))
}

fn from_nats(message: async_nats::Message) -> Message {
    let headers = message
        .headers
        .iter()
        .flat_map(HeaderMap::iter)
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())));
    Message {
        headers: headers.collect(),
        subject: message.subject.to_string(),
        reply: message.reply.map(|reply| reply.to_string()).unwrap_or_default(),
        payload: message.payload,
    }
}

/// `Name: value`, as people write a header.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| format!("'{text}' is no header, as Name:value is"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// What is said on the command line, or else on standard input.
pub(crate) fn payload(said: Option<String>) -> Outcome<bytes::Bytes> {
    match said {
        Some(text) => Ok(text.into()),
        None => {
            let mut bytes = Vec::new();
            let read = std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes);
            read.map_err(|error| format!("standard input: {error}"))?;
            Ok(bytes.into())
        }
    }
}

/// Prints bytes as they are, and a line's end.
pub(crate) fn print(bytes: &[u8]) -> Outcome {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(|error| format!("standard output: {error}"))
}
