//! Datagrams over subjects: links through a deployment that both peers reach, when they reach nothing else of each other.
//!
//! A peer holds one subscription, `P.d.<self>.*`, for all its sessions; the last token tells them apart. Who may send to it
//! is decided by the rendezvous, before any datagram; the link's own encryption does the rest.

mod service;

use std::collections::HashMap;
use std::fmt;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use async_nats::client::RequestErrorKind;
use async_nats::service::NATS_SERVICE_ERROR;
use async_nats::{Request, Subject, Subscriber};
use bytes::Bytes;
use futures_util::Stream;
use midge_identity::{KeyPair, PeerId};
use midge_link::{Admission, Boxed, LocateError, Numbered, Outgoing, PacketPath, PathLimits, Received, Sent};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::bus::BusEvents;
use crate::error::{BackendError, Operation, in_a_line};
use crate::nats::{Connection, Deployment, Purpose};
use crate::prefix::Prefix;
use crate::rendezvous::{DialRequest, RandomBytes, RendezvousError, Session, Terms, Token, WAIT};

/// What addresses of this network begin with.
pub const SCHEME: &str = "nats";
/// The micro service that peers find each other by.
pub const SERVICE: &str = "midge-link";
/// Most bytes of a datagram: more makes links no faster, and holds up what else goes over the same connection.
const MAX_DATAGRAM: u16 = 16_000;
/// Bytes that all links together may have on their way to this peer. A server ends a connection for which more waits than
/// it is set to keep: 64 MiB, if nothing else is said.
const WINDOW: u32 = 32 * 1024 * 1024;
/// Datagrams that wait to be sent, here and in the client below: 1 MiB each.
const OUTGOING: usize = 64;
/// How often the client below tries to come back before another one takes its place.
const ATTEMPTS: Option<usize> = Some(20);
/// Datagrams that wait to be taken.
const INCOMING: usize = 2048;
/// Sessions that others have asked for, and as many that this side has; and those of one peer.
const MOST_SESSIONS: usize = 1024;
const MOST_OF_ONE: usize = 16;
/// Time in which a peer must have answered.
const ANSWER: Duration = Duration::from_secs(2);
/// How often sessions are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// What is added for those who see a link's end late.
const LINGER: Duration = Duration::from_millis(300);
/// Datagrams that are looked at before others have their turn.
const TURN: usize = 256;

const NETWORK: Numbered = Numbered(2);

/// Whether peers may ask this one for links.
#[derive(Debug, Clone)]
pub enum Listening {
    /// Those may whom this admits.
    To(Arc<dyn Admission>),
    /// It only asks others.
    No,
}

/// Links through a NATS deployment. Needs a tokio runtime with I/O and time; ends when it is dropped.
pub struct Carrier {
    inner: Arc<Inner>,
    connection: Connection,
    out: mpsc::Sender<(Subject, Bytes)>,
    tasks: Vec<AbortHandle>,
}

/// What a carrier has refused and dropped, since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarrierStats {
    /// Sessions at the moment.
    pub sessions: usize,
    /// Datagrams that were taken to be sent. Those that find no server are lost.
    pub sent: u64,
    /// Datagrams that were received.
    pub received: u64,
    /// Datagrams that were received with a token of no session, or longer than any is. Those for which there was no room are
    /// not among them.
    pub dropped: u64,
    /// Dials of others that were accepted.
    pub accepted: u64,
    /// Dials of others that were refused.
    pub refused: u64,
}

struct Inner {
    key: KeyPair,
    us: PeerId,
    prefix: Prefix,
    state: Mutex<State>,
    counts: Counts,
    /// Told when there may be room for what is to be sent.
    room: Notify,
    /// Told when the subscription has ended.
    ended: Notify,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct State {
    sessions: HashMap<u64, Entry>,
    by_token: HashMap<Token, u64>,
    incoming: Option<Subscriber>,
    /// Who waits for datagrams before there is a subscription.
    waker: Option<Waker>,
}

/// A session.
struct Entry {
    peer: PeerId,
    /// What its datagrams are sent to.
    subject: Subject,
    /// The token in the subject of those that come.
    token: Token,
    max_datagram: u16,
    /// Whether this side has asked for it.
    is_ours: bool,
    /// When the last datagram has come before there was a link, or the session was agreed on.
    heard: Instant,
    /// Whether there is a link at the other end.
    is_linked: bool,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("servers", &self.connection.servers()).finish_non_exhaustive()
    }
}

impl Carrier {
    /// Begins to connect, and goes on until it has; after that it comes back by itself.
    ///
    /// # Errors
    /// What is said of the deployment cannot be used.
    pub fn start(
        deployment: &Deployment,
        key: &KeyPair,
        listening: Listening,
    ) -> Result<Arc<Self>, BackendError> {
        let purpose = Purpose { echo: false, outgoing: OUTGOING, incoming: INCOMING, attempts: ATTEMPTS };
        let (connection, attempt) = Connection::begin(deployment, key, purpose)?;
        let inner = Arc::new(Inner {
            key: key.clone(),
            us: key.peer_id(),
            prefix: deployment.prefix.clone(),
            state: Mutex::default(),
            counts: Counts::default(),
            room: Notify::new(),
            ended: Notify::new(),
        });
        let (out, waiting) = mpsc::channel(OUTGOING);
        let running = service::run(inner.clone(), attempt, waiting, listening);
        let tasks =
            vec![tokio::spawn(running).abort_handle(), tokio::spawn(sweep(inner.clone())).abort_handle()];
        Ok(Arc::new(Self { inner, connection, out, tasks }))
    }

    /// What happens to the connection: from the beginning for the first who asks, and from now on for others.
    #[must_use]
    pub fn events(&self) -> BusEvents {
        self.connection.events()
    }

    /// Why there is no connection to the deployment just now, if there is none.
    #[must_use]
    pub fn away(&self) -> Option<String> {
        self.connection.away()
    }

    /// The deployment's servers, as logs may name them.
    #[must_use]
    pub fn servers(&self) -> &str {
        self.connection.servers()
    }

    /// What subjects begin with.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// What has been refused and dropped.
    #[must_use]
    pub fn stats(&self) -> CarrierStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.inner.counts;
        CarrierStats {
            sessions: self.inner.state.lock().sessions.len(),
            sent: read(&counts.sent),
            received: read(&counts.received),
            dropped: read(&counts.dropped),
            accepted: read(&counts.accepted),
            refused: read(&counts.refused),
        }
    }

    /// Asks a peer for a session.
    async fn ask(&self, peer: PeerId) -> Result<SocketAddr, String> {
        if let Some(why) = self.away() {
            return Err(why);
        }
        let Some(client) = self.connection.client() else {
            return Err("there is no connection yet".to_owned());
        };
        let inner = &self.inner;
        let random = random_bytes().ok_or("the system gives no random bytes")?;
        let question = DialRequest::new(&inner.terms(), peer, &random);
        let subject = inner.prefix.join(&format!("link.{peer}.dial"));
        let shared = self.connection.shared();
        let mut watch = shared.watch(Operation::Publish, &subject, None);
        let request = Request::new().payload(question.bytes.clone().into());
        // An inbox of its own, which is forgotten with it: many a peer does not answer.
        let request = request.inbox(client.new_inbox()).timeout(Some(ANSWER));
        let answer = tokio::select! {
            biased;
            answer = client.send_request(subject, request) => answer,
            refusal = watch.refused() => return Err(refusal.to_string()),
        };
        let answer = answer.map_err(|error| match (error.kind(), shared.inbox_refused()) {
            (RequestErrorKind::NoResponders, _) => format!(
                "nobody at {} answers for that peer below '{}'",
                self.connection.servers(),
                inner.prefix
            ),
            (RequestErrorKind::TimedOut, Some(refusal)) => refusal.to_string(),
            (RequestErrorKind::TimedOut, None) => "the peer does not answer".to_owned(),
            _ => error.to_string(),
        })?;
        if let Some(why) = answer.headers.as_ref().and_then(|headers| headers.get(NATS_SERVICE_ERROR)) {
            // Nobody has signed that, so it is only a hint.
            return Err(format!("the peer is said to refuse: {}", in_a_line(why.as_str())));
        }
        let session = question.answered(&answer.payload).map_err(|why| why.to_string())?;
        inner.enter(&session, true).map_err(|why| why.to_string())
    }

    /// The subject that datagrams to that address go to.
    fn subject(&self, to: SocketAddr) -> Option<Subject> {
        let handle = NETWORK.number(to)?;
        self.inner.state.lock().sessions.get(&handle).map(|entry| entry.subject.clone())
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Inner {
    fn terms(&self) -> Terms<'_> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Terms { key: &self.key, prefix: &self.prefix, now, max_datagram: MAX_DATAGRAM }
    }

    /// Remembers a session; the address that stands for it.
    fn enter(&self, session: &Session, is_ours: bool) -> Result<SocketAddr, RendezvousError> {
        let (there, here) = if is_ours {
            (session.to_listener, session.to_dialer)
        } else {
            (session.to_dialer, session.to_listener)
        };
        let subject = self.prefix.join(&format!("d.{}.{there}", session.peer)).into();
        let mut state = self.state.lock();
        // Those who ask do not take the places of those whom this side asks.
        let alike = || state.sessions.values().filter(|entry| entry.is_ours == is_ours);
        let of_one = alike().filter(|entry| entry.peer == session.peer).count();
        if alike().count() >= MOST_SESSIONS || of_one >= MOST_OF_ONE {
            return Err(RendezvousError::Busy(WAIT));
        }
        // Nobody guesses an address that is in use.
        let handle = random().map(u64::from_be_bytes).ok_or(RendezvousError::Busy(WAIT))?;
        let max_datagram = session.max_datagram.min(MAX_DATAGRAM);
        let entry = Entry {
            peer: session.peer,
            subject,
            token: here,
            max_datagram,
            is_ours,
            heard: Instant::now(),
            is_linked: false,
        };
        state.sessions.insert(handle, entry);
        state.by_token.insert(here, handle);
        Ok(NETWORK.address(handle))
    }

    /// Takes datagrams from there from now on.
    fn receive(&self, incoming: Subscriber) {
        let mut state = self.state.lock();
        state.incoming = Some(incoming);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn forget(&self, handle: u64) {
        let mut state = self.state.lock();
        if let Some(entry) = state.sessions.remove(&handle) {
            state.by_token.remove(&entry.token);
        }
    }
}

/// Forgets sessions that nothing came of.
async fn sweep(inner: Arc<Inner>) {
    loop {
        sleep(SWEEP).await;
        let mut state = inner.state.lock();
        let State { sessions, by_token, .. } = &mut *state;
        sessions.retain(|_, entry| {
            let stays = entry.is_linked || entry.heard.elapsed() < WAIT;
            if !stays {
                by_token.remove(&entry.token);
            }
            stays
        });
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

fn random_bytes() -> Option<RandomBytes> {
    let mut bytes = Zeroizing::new([0; 64]);
    SystemRandom::new().fill(&mut *bytes).ok()?;
    Some(bytes)
}

impl PacketPath for Carrier {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn local_address(&self) -> SocketAddr {
        // No session has it but by a chance of one in 2^64.
        NETWORK.address(0)
    }

    fn limits(&self) -> PathLimits {
        PathLimits {
            max_datagram: MAX_DATAGRAM,
            max_sent: 1,
            max_received: 1,
            reliable: true,
            relayed: true,
            window: Some(WINDOW),
        }
    }

    fn try_send(&self, datagram: &Outgoing<'_>) -> Sent {
        let session = NETWORK.number(datagram.to).and_then(|handle| {
            let state = self.inner.state.lock();
            state.sessions.get(&handle).map(|entry| (entry.subject.clone(), entry.max_datagram))
        });
        // To nobody, or more than is taken there: a loss.
        let Some((subject, _)) = session.filter(|(_, most)| datagram.bytes.len() <= usize::from(*most))
        else {
            return Sent::Gone;
        };
        match self.out.try_reserve() {
            Ok(room) => {
                room.send((subject, Bytes::copy_from_slice(datagram.bytes)));
                self.inner.counts.sent.fetch_add(1, Ordering::Relaxed);
                Sent::Gone
            }
            Err(mpsc::error::TrySendError::Full(())) => Sent::Full,
            Err(mpsc::error::TrySendError::Closed(())) => Sent::Gone,
        }
    }

    fn room(self: Arc<Self>) -> Boxed<()> {
        Box::pin(async move {
            loop {
                let mut told = pin!(self.inner.room.notified());
                // Told from here on, so that no room is overlooked.
                told.as_mut().enable();
                if self.out.capacity() > 0 {
                    return;
                }
                told.await;
            }
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        received: &mut [Received],
    ) -> Poll<usize> {
        let mut state = self.inner.state.lock();
        let State { sessions, by_token, incoming, waker, .. } = &mut *state;
        let Some(subscription) = incoming else {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let mut is_over = false;
        let mut filled = 0;
        let (mut taken, mut dropped) = (0, 0);
        let mut slots = buffers.iter_mut().zip(received.iter_mut());
        let mut slot = slots.next();
        while let Some((buffer, place)) = slot.as_mut() {
            if taken == TURN {
                cx.waker().wake_by_ref();
                break;
            }
            let Poll::Ready(message) = Pin::new(&mut *subscription).poll_next(cx) else { break };
            let Some(message) = message else {
                is_over = true;
                break;
            };
            taken += 1;
            let token = message.subject.rsplit('.').next().and_then(Token::parse);
            let found = token.and_then(|token| by_token.get(&token).copied());
            let (Some(handle), Some(room)) = (found, buffer.get_mut(..message.payload.len())) else {
                dropped += 1;
                continue;
            };
            // A link sees for itself whether the other side is there.
            if let Some(entry) = sessions.get_mut(&handle).filter(|entry| !entry.is_linked) {
                entry.heard = Instant::now();
            }
            room.copy_from_slice(&message.payload);
            **place = Received::one(NETWORK.address(handle), message.payload.len());
            filled += 1;
            slot = slots.next();
        }
        if is_over {
            // The client has gone. There will be another one, so it is no end to those who wait.
            *incoming = None;
            *waker = Some(cx.waker().clone());
            self.inner.ended.notify_one();
        }
        self.inner.counts.received.fetch_add(filled as u64, Ordering::Relaxed);
        self.inner.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        if filled == 0 { Poll::Pending } else { Poll::Ready(filled) }
    }

    fn locate(self: Arc<Self>, peer: PeerId, text: String) -> Boxed<Result<Vec<SocketAddr>, LocateError>> {
        let asking = async move {
            if !text.is_empty() {
                return Err(LocateError(format!("'{text}' says too much: an address here is nats: alone")));
            }
            self.ask(peer).await.map(|address| vec![address]).map_err(LocateError)
        };
        // What the client's futures hold may only be looked at by one.
        let task = tokio::spawn(asking);
        Box::pin(async move {
            let found = AbortOnDrop(task);
            found.await
        })
    }

    fn show(&self, _: SocketAddr) -> String {
        String::new()
    }

    fn owner(&self, address: SocketAddr) -> Option<PeerId> {
        let handle = NETWORK.number(address)?;
        self.inner.state.lock().sessions.get(&handle).map(|entry| entry.peer)
    }

    fn lost(self: Arc<Self>, to: SocketAddr) -> Boxed<String> {
        Box::pin(async move {
            let Some(subject) = self.subject(to) else { return "the session has ended".to_owned() };
            let mut watch = self.connection.shared().watch(Operation::Publish, &subject, None);
            watch.refused().await.to_string()
        })
    }

    fn linked(&self, address: SocketAddr) {
        if let Some(handle) = NETWORK.number(address)
            && let Some(entry) = self.inner.state.lock().sessions.get_mut(&handle)
        {
            entry.is_linked = true;
        }
    }

    fn done(&self, address: SocketAddr, rtt: Duration) {
        let Some(handle) = NETWORK.number(address) else { return };
        let inner = self.inner.clone();
        // Without a runtime there is nobody to say farewell to.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return inner.forget(handle) };
        // A farewell that is not heard costs the other side its idle timeout.
        runtime.spawn(async move {
            sleep(LINGER.max(rtt * 9)).await;
            inner.forget(handle);
        });
    }
}

/// A question that nobody waits for is not asked to its end.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Vec<SocketAddr>, LocateError>>);

impl Future for AbortOnDrop {
    type Output = Result<Vec<SocketAddr>, LocateError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = std::task::ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(done.unwrap_or_else(|error| Err(LocateError(error.to_string()))))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
