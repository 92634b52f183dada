//! What messages go by: a NATS server, or a link to a peer. Over a link, the same client talks to the peer by a stream of
//! it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, HeaderMap};
use clap::Args;
use futures_util::StreamExt;
use midge::backend::Login;
use midge::client::Message;
use midge::identity::KeyPair;
use midge::link::{Link, LinkConfig, LinkStream, LinkTable, PeerAddress};
use midge::mesh::{CLIENT_PROTOCOL, random_text};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::Outcome;
use crate::linking::{Credentials, Nobody, Ways, addresses_of, seconds};

/// Time for the server to have taken in what was said last.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Most bytes of the line by which the client says who it is.
const MOST_HELLO: u64 = 16 * 1024;

/// Where messages go: to a NATS server, or with --peer straight over a link.
#[derive(Args)]
pub(crate) struct Place {
    /// The NATS server.
    #[arg(long, short, value_name = "URL", default_value = "nats://127.0.0.1:4222", conflicts_with = "peer")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// A peer to link to and be a client of, as ID@udp://HOST:PORT or, with --via, ID@nats:; said several times, one peer's
    /// further addresses.
    #[arg(long, value_name = "ID@ADDRESS")]
    peer: Vec<PeerAddress>,
    #[command(flatten)]
    ways: Ways,
    /// Seconds to wait for the server, the peer, or an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    timeout: f64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

/// A connection to where messages go.
pub(crate) struct Bus {
    client: async_nats::Client,
    /// What it goes by, if that is a link.
    table: Option<LinkTable>,
}

/// Messages of a subscription.
pub(crate) struct Messages(async_nats::Subscriber);

impl Place {
    pub(crate) fn patience(&self) -> Outcome<Duration> {
        seconds(self.timeout)
    }

    /// The peer's key, if a file is named.
    pub(crate) fn key(&self) -> Outcome<Option<KeyPair>> {
        self.ways.key()
    }

    pub(crate) async fn connect(&self) -> Outcome<Bus> {
        let Some(PeerAddress { peer, .. }) = self.peer.first() else {
            if self.ways.is_via() {
                return Err("--via is for a peer: name it with --peer ID@nats:, or the server with --server"
                    .to_owned());
            }
            return self.connect_to_server().await;
        };
        let addresses = addresses_of(*peer, &self.peer)?;
        let mut linked = self.ways.open(&self.credentials, &[], Arc::new(Nobody), LinkConfig::default())?;
        let link = linked.reach(*peer, addresses, self.patience()?).await?;
        let client = self.connect_over(&link).await?;
        Ok(Bus { client, table: Some(linked.table) })
    }

    /// A client of the peer. It knows TCP only, so it connects to this process, which passes on what it says, and is told
    /// by a secret that it is this process's own client.
    async fn connect_over(&self, link: &Link) -> Outcome<async_nats::Client> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", link.address());
        let stream = link.open(CLIENT_PROTOCOL).await.map_err(|error| fail(&error))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| fail(&error))?;
        let address = listener.local_addr().map_err(|error| fail(&error))?;
        let secret = random_text().map_err(|error| fail(&error))?;
        tokio::spawn(pass_on(listener, stream, secret.clone()));
        let options =
            ConnectOptions::new().connection_timeout(self.patience()?).token(secret).max_reconnects(1);
        options.connect(format!("nats://{address}")).await.map_err(|error| fail(&error))
    }

    async fn connect_to_server(&self) -> Outcome<Bus> {
        let mut options = ConnectOptions::new().connection_timeout(self.patience()?);
        options = match self.credentials.login()? {
            Login::Derived => options,
            Login::Credentials(text) => options.credentials(&text).map_err(|error| error.to_string())?,
            Login::Nkey(seed) => options.nkey(seed.to_string()),
            Login::User { user, password } => options.user_and_password(user, password.to_string()),
            Login::Token(token) => options.token(token.to_string()),
        };
        let tls = self.credentials.tls();
        if let Some(ca) = tls.ca {
            options = options.add_root_certificates(ca);
        }
        if let (Some(certificate), Some(key)) = (tls.certificate, tls.key) {
            options = options.add_client_certificate(certificate, key);
        }
        // What stands before @ may be secret.
        let shown = self.server.rsplit_once('@').map_or(self.server.as_str(), |(_, place)| place);
        let client =
            options.connect(self.server.as_str()).await.map_err(|error| format!("{shown}: {error}"))?;
        Ok(Bus { client, table: None })
    }
}

/// Passes on what the one client says that knows the secret, and what the peer answers, until either ends.
async fn pass_on(listener: TcpListener, mut stream: LinkStream, secret: String) {
    // The greeting is the peer's, and the same for whoever asks.
    let mut info = Vec::new();
    while info.last() != Some(&b'\n') {
        let Ok(byte) = stream.read_u8().await else { return };
        info.push(byte);
    }
    while let Ok((socket, _)) = listener.accept().await {
        // Nobody waits for anybody else's client.
        if let Some((mut socket, hello)) = introduce(socket, &info, &secret).await {
            drop(listener);
            if stream.write_all(&hello).await.is_ok() {
                // Either side's end is the end.
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut stream).await;
            }
            return;
        }
    }
}

/// The client, and what it said first, if that was the secret.
async fn introduce(socket: TcpStream, info: &[u8], secret: &str) -> Option<(BufReader<TcpStream>, Vec<u8>)> {
    let mut socket = BufReader::new(socket);
    socket.write_all(info).await.ok()?;
    let mut hello = Vec::new();
    (&mut socket).take(MOST_HELLO).read_until(b'\n', &mut hello).await.ok()?;
    let said = String::from_utf8_lossy(&hello).contains(&format!("\"auth_token\":\"{secret}\""));
    said.then_some((socket, hello))
}

impl Bus {
    pub(crate) async fn send(&self, message: Message) -> Outcome {
        let headers = to_map(&message)?;
        let (client, subject, payload) = (&self.client, message.subject, message.payload);
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

    pub(crate) async fn subscribe(&self, subject: &str, queue: Option<&str>) -> Outcome<Messages> {
        let subject = subject.to_owned();
        let subscribed = match queue {
            Some(queue) => self.client.queue_subscribe(subject, queue.to_owned()).await,
            None => self.client.subscribe(subject).await,
        };
        let messages = subscribed.map_err(|error| error.to_string())?;
        self.client.flush().await.map_err(|error| error.to_string())?;
        Ok(Messages(messages))
    }

    pub(crate) async fn request(&self, question: Message, patience: Duration) -> Outcome<Message> {
        let subject = question.subject.clone();
        let mut request =
            async_nats::Request::new().payload(question.payload.clone()).timeout(Some(patience));
        if let Some(headers) = to_map(&question)? {
            request = request.headers(headers);
        }
        let answer = self.client.send_request(question.subject, request).await;
        answer.map(from_nats).map_err(|error| format!("{subject}: {error}"))
    }

    /// Sees to it that the server has had everything, and ends.
    pub(crate) async fn close(self) -> Outcome {
        let flushed = self.client.flush().await.map_err(|error| error.to_string());
        // What was said before a question has been taken in when that is answered, be it that nobody listens there.
        let question = self.client.request(self.client.new_inbox(), "".into());
        let _ = timeout(LAST_WORDS, question).await;
        if let Some(table) = self.table {
            table.close().await;
        }
        flushed
    }
}

impl Messages {
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.0.next().await.map(from_nats)
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

/// Bytes as text in one line: what is no printable text is escaped, so that nobody can write a line of their own.
pub(crate) fn in_a_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .flat_map(|letter| {
            letter
                .is_control()
                .then(|| letter.escape_default())
                .map_or_else(|| vec![letter], Iterator::collect)
        })
        .collect()
}

/// Prints bytes as they are, and a line's end.
pub(crate) fn print(bytes: &[u8]) -> Outcome {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(|error| format!("standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_a_line_of_his_own() {
        assert_eq!(in_a_line("a\nb\u{1b}[2J \u{e4}".as_bytes()), "a\\nb\\u{1b}[2J \u{e4}");
        assert_eq!(in_a_line(b"\xff"), "\u{fffd}");
    }
}
