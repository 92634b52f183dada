//! TCP connections over links: a port here is one that the other side reaches.
//!
//! Whoever opens a stream for [`PROTOCOL`] says where to; the other side connects there if that is allowed, says whether it
//! has, and from then on what one side of the connection says the other hears. What may be reached is said by the side that
//! connects, and is nothing if nothing is said.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use prost::Message;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::establish::{EstablishError, read_message};
use crate::link::{Link, LinkStream};
use crate::proto::{ForwardAnswer, ForwardRequest};

/// The protocol of such streams.
pub const PROTOCOL: &str = "midge/forward/1";
/// Most bytes of what is said before.
const MOST: usize = 1024;
/// Most letters of why there is no connection.
const MOST_WHY: usize = 256;
/// Most letters of where to that are shown if it is nowhere.
const MOST_SHOWN: usize = 100;
/// What the other side hears when a connection breaks.
const BROKEN: u32 = 500;
/// Time in which the other side must have said where to.
const ASK: Duration = Duration::from_secs(5);
/// Time in which there must be a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// There is no stream, or it did not say what it should.
    #[error(transparent)]
    Stream(#[from] EstablishError),
    /// The other side has not connected, and why.
    #[error("the peer says: {0}")]
    Refused(String),
    /// What is asked for may not be reached.
    #[error("'{0}' may not be reached from here")]
    NotAllowed(String),
    /// It cannot be reached.
    #[error("{target}: {source}")]
    Connect {
        /// What was asked for.
        target: String,
        /// Why it cannot be reached.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing was said in time.
    #[error("nothing was said in time")]
    Late,
}

/// What may be reached: each a host and a port, as whoever asks must say it.
#[derive(Debug, Clone, Default)]
pub struct Targets(HashSet<String>);

impl Targets {
    /// These and no others.
    pub fn new(targets: impl IntoIterator<Item = String>) -> Self {
        Self(targets.into_iter().collect())
    }

    /// Whether that one is among them.
    #[must_use]
    pub fn contain(&self, target: &str) -> bool {
        self.0.contains(target)
    }
}

/// Has the other side connect to `target`; the connection.
///
/// # Errors
/// It has not.
pub async fn open(link: &Link, target: &str) -> Result<LinkStream, ForwardError> {
    let mut stream = link.open(PROTOCOL).await?;
    let request = ForwardRequest { target: target.to_owned() };
    stream.write_all(&request.encode_length_delimited_to_vec()).await?;
    let answer = timeout(CONNECT + ASK, read_answer(&mut stream)).await.map_err(|_| ForwardError::Late)??;
    if answer.is_empty() { Ok(stream) } else { Err(ForwardError::Refused(answer)) }
}

/// What the other side says, in one line.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, ForwardError> {
    let answer: ForwardAnswer = read_message(stream, MOST).await?;
    Ok(in_a_line(&answer.error, MOST_WHY))
}

/// What others say, as it may stand in a line of ours.
fn in_a_line(text: &str, most: usize) -> String {
    text.chars().take(most).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Serves a stream that a peer has opened: connects to where it says if that is among `targets`, and passes on what both
/// sides say until both have ended. Where to, and the bytes that went there and came from there.
///
/// # Errors
/// There was no connection, or it broke.
pub async fn serve(mut stream: LinkStream, targets: &Targets) -> Result<(String, u64, u64), ForwardError> {
    let asked = timeout(ASK, read_message::<ForwardRequest>(&mut stream, MOST)).await;
    let target = asked.map_err(|_| ForwardError::Late)??.target;
    let connected = connect(&target, targets).await;
    let error = connected.as_ref().err().map(|why| why.to_string().chars().take(MOST_WHY).collect());
    // An empty message has no length that is read.
    let answer = ForwardAnswer { error: error.unwrap_or_default() };
    stream.write_all(&encode(&answer)).await?;
    let socket = match connected {
        Ok(socket) => socket,
        Err(why) => {
            // Otherwise the answer could be overtaken by the end.
            let _ = stream.shutdown().await;
            return Err(why);
        }
    };
    let (there, back) = copy(stream, socket).await?;
    Ok((target, there, back))
}

/// The answer behind its length. One that says nothing still has a byte, by which it is told from the end.
fn encode(answer: &ForwardAnswer) -> Vec<u8> {
    if answer.error.is_empty() {
        // The field, empty: what a reader takes for one that is not there.
        return vec![2, 1 << 3 | 2, 0];
    }
    answer.encode_length_delimited_to_vec()
}

async fn connect(target: &str, targets: &Targets) -> Result<TcpStream, ForwardError> {
    if !targets.contain(target) {
        return Err(ForwardError::NotAllowed(in_a_line(target, MOST_SHOWN)));
    }
    let refuse = |source| ForwardError::Connect { target: target.to_owned(), source };
    let connected = timeout(CONNECT, TcpStream::connect(target)).await;
    let socket = connected.map_err(|_| refuse(io::ErrorKind::TimedOut.into()))?.map_err(refuse)?;
    // Whoever writes has thought of how much at once.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

/// Passes on what both sides of a connection say until both have ended; the bytes that went into the stream and came out of
/// it.
///
/// # Errors
/// One of them broke.
pub async fn join(socket: TcpStream, stream: LinkStream) -> io::Result<(u64, u64)> {
    copy(stream, socket).await.map(|(came, went)| (went, came))
}

/// Passes on both directions: the bytes that came out of the stream and went into it. What breaks on one side breaks on the
/// other, and is not taken there for an end.
async fn copy(mut stream: LinkStream, mut socket: TcpStream) -> io::Result<(u64, u64)> {
    let done = copy_bidirectional(&mut stream, &mut socket).await;
    if done.is_err() {
        stream.reset(BROKEN);
        // Without it, the system would say that all is well.
        let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    }
    done
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use midge_identity::KeyPair;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::mem::MemNetwork;
    use crate::{Anybody, LinkConfig, LinkEvent, LinkTable};

    /// A link to a peer that lets these be reached, for as long as the tables are there.
    async fn linked(targets: Targets) -> (Link, [LinkTable; 2]) {
        let network = MemNetwork::new(1);
        let table = |seed| {
            let key = KeyPair::from_seed(&[seed; 32]).unwrap();
            LinkTable::new(key, Arc::new(Anybody), LinkConfig::default()).unwrap()
        };
        let ((near, mut events, _), (far, far_events, mut streams)) = (table(1), table(2));
        let place = network.join();
        let address = format!("mem://{}", place.number()).parse().unwrap();
        far.add_path(place).unwrap();
        far.serve(PROTOCOL);
        near.add_path(network.join()).unwrap();
        near.want(far.peer(), vec![address]);
        let Some(LinkEvent::Up(link)) = events.next().await else { panic!("no link") };
        tokio::spawn(async move {
            // Whoever takes no events gets no links.
            let _events = far_events;
            while let Some(incoming) = streams.recv().await {
                let targets = targets.clone();
                tokio::spawn(async move { serve(incoming.stream, &targets).await });
            }
        });
        (link, [near, far])
    }

    #[tokio::test]
    async fn both_sides_say_all_they_have_to_say() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let (link, _tables) = linked(Targets::new([target.clone()])).await;
        let echo = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            // Answered only after the end of the question: each direction ends by itself.
            socket.read_to_end(&mut all).await.unwrap();
            socket.write_all(&all).await.unwrap();
        });
        let mut stream = open(&link, &target).await.unwrap();
        let said: Vec<u8> = (0..300_000).map(|n| (n % 251) as u8).collect();
        stream.write_all(&said).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, said);
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_allowed_is_not_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open_port = listener.local_addr().unwrap().to_string();
        let (link, _tables) = linked(Targets::default()).await;
        for target in [open_port.as_str(), "127.0.0.1:1\r\nx", &"x".repeat(900)] {
            let why = open(&link, target).await.unwrap_err();
            assert!(
                matches!(&why, ForwardError::Refused(why) if why.contains("may not be reached")),
                "{why}"
            );
            assert!(!why.to_string().contains('\n'));
        }
        assert!(matches!(open(&link, &"x".repeat(2000)).await, Err(ForwardError::Stream(_))), "too long");
    }

    /// A connection that breaks in the middle is not taken for one that has ended.
    #[tokio::test]
    async fn what_breaks_is_broken_on_both_sides() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let (link, _tables) = linked(Targets::new([target.clone()])).await;
        // Over there.
        let mut stream = open(&link, &target).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"half of").await.unwrap();
        stream.read_exact(&mut [0; 7]).await.unwrap();
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(socket);
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
        // And from here.
        let mut stream = open(&link, &target).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        stream.write_all(b"half of").await.unwrap();
        socket.read_exact(&mut [0; 7]).await.unwrap();
        stream.reset(BROKEN);
        assert!(socket.read_to_end(&mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn what_does_not_answer_is_said() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let (link, _tables) = linked(Targets::new([closed.clone()])).await;
        let why = open(&link, &closed).await.unwrap_err().to_string();
        assert!(why.contains(&closed) && why.contains("refused"), "{why}");
    }
}
