//! One connection to a deployment, which comes back by itself.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ClientError, ConnectOptions, Event, ServerAddr, ServerError};
use midge_identity::KeyPair;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::sleep;

use super::credentials::{self, Credentials};
use super::{Deployment, Login, TlsFiles};
use crate::bus::{BusEvent, BusEvents};
use crate::error::{BackendError, Operation, Refusal, in_a_line};

/// Time in which a server must have let one in.
const CONNECT: Duration = Duration::from_secs(5);
/// Pause before a server is tried again: at first, and at most. It doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a server that says nothing is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// Events that are kept for those who do not take them at once.
const EVENTS: usize = 256;

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// Whether one's own messages come back.
    pub(crate) echo: bool,
    /// Messages that wait to be sent.
    pub(crate) outgoing: usize,
    /// Messages of a subscription that wait to be taken; what is too much is lost.
    pub(crate) incoming: usize,
    /// How often the client tries to come back before it ends, where somebody begins anew then.
    pub(crate) attempts: Option<usize>,
}

/// A connection, or the attempt to have one.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    servers: String,
    /// What has happened since the beginning, for the first who asks.
    first: Mutex<Option<broadcast::Receiver<BusEvent>>>,
}

/// How a connection does.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// There is none: why the last attempt failed, if there was one.
    Away(Option<String>),
    /// There is one.
    Here,
}

impl State {
    pub(crate) const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// What a connection's events say.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) events: broadcast::Sender<BusEvent>,
    state: watch::Sender<State>,
    client: Mutex<Known>,
    waiting: Mutex<Waiting>,
}

/// What is known of the client.
#[derive(Debug)]
enum Known {
    /// There has been none yet, or it is this one.
    Maybe(Option<Client>),
    /// Nobody wants one any more.
    Closed,
}

/// Who wants to know of which refusals.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    exact: HashMap<Matter, HashMap<u64, oneshot::Sender<Refusal>>>,
    /// The subjects that answers come to were refused, since the connection is there.
    inbox: Option<Refusal>,
    inbox_prefix: String,
}

/// What can be refused: what, on which subject, in which queue group.
type Matter = (Operation, String, Option<String>);

/// What tells that something is refused, as long as somebody has it.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    matter: Matter,
    number: u64,
    refusal: oneshot::Receiver<Refusal>,
}

impl Watch {
    /// Waits until it is.
    pub(crate) async fn refused(&mut self) -> Refusal {
        match (&mut self.refusal).await {
            Ok(refusal) => refusal,
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether it has been.
    pub(crate) fn look(&mut self) -> Option<Refusal> {
        self.refusal.try_recv().ok()
    }

    pub(crate) fn poll(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Refusal> {
        match std::pin::Pin::new(&mut self.refusal).poll(cx) {
            std::task::Poll::Ready(Ok(refusal)) => std::task::Poll::Ready(refusal),
            _ => std::task::Poll::Pending,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock();
        if let Some(all) = waiting.exact.get_mut(&self.matter) {
            all.remove(&self.number);
            if all.is_empty() {
                waiting.exact.remove(&self.matter);
            }
        }
    }
}

impl Shared {
    /// Tells when the server says that this is not allowed.
    pub(crate) fn watch(self: &Arc<Self>, operation: Operation, subject: &str, queue: Option<&str>) -> Watch {
        let (tell, refusal) = oneshot::channel();
        let matter = (operation, subject.to_owned(), queue.map(str::to_owned));
        let mut waiting = self.waiting.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.exact.entry(matter.clone()).or_default().insert(number, tell);
        Watch { shared: self.clone(), matter, number, refusal }
    }

    /// Whether answers cannot come.
    pub(crate) fn inbox_refused(&self) -> Option<Refusal> {
        self.waiting.lock().inbox.clone()
    }

    /// Tells whoever wants to know.
    fn refuse(&self, refusal: &Refusal) {
        let mut waiting = self.waiting.lock();
        if refusal.operation == Operation::Subscribe && refusal.subject.starts_with(&waiting.inbox_prefix) {
            waiting.inbox = Some(refusal.clone());
        }
        let matter = (refusal.operation, refusal.subject.clone(), refusal.queue.clone());
        let all = waiting.exact.remove(&matter);
        for tell in all.unwrap_or_default().into_values() {
            // It may not want to know any more.
            let _ = tell.send(refusal.clone());
        }
    }

    fn take(&self, event: Event) {
        let event = match event {
            Event::Connected => {
                self.waiting.lock().inbox = None;
                self.state.send_replace(State::Here);
                BusEvent::Connected
            }
            Event::Disconnected => {
                self.state.send_replace(State::Away(None));
                BusEvent::Disconnected
            }
            Event::SlowConsumer(_) => BusEvent::SlowConsumer,
            Event::ServerError(ServerError::Other(text)) => match Refusal::parse(&text) {
                Some(refusal) => {
                    self.refuse(&refusal);
                    if is_question(&refusal) {
                        return;
                    }
                    BusEvent::Refused(refusal)
                }
                None => BusEvent::Failed(in_a_line(&text)),
            },
            Event::ServerError(error) => BusEvent::Failed(error.to_string()),
            Event::ClientError(error) => {
                let why = match error {
                    ClientError::Other(why) => why,
                    other => other.to_string(),
                };
                let why = in_a_line(&why);
                self.state.send_replace(State::Away(Some(why.clone())));
                BusEvent::Failed(why)
            }
            Event::Closed => {
                self.state.send_replace(State::Away(Some("the connection has ended".to_owned())));
                BusEvent::Closed
            }
            Event::LameDuckMode | Event::Draining => return,
        };
        // Nobody may listen.
        let _ = self.events.send(event);
    }
}

/// The token below the prefix of subjects by which it is found out that the server has taken in what came before.
pub(crate) const QUESTION: &str = "_SYNC";

/// Whether nobody needs to know of it: who may not ask so hears that at once, which is an answer.
fn is_question(refusal: &Refusal) -> bool {
    refusal.subject.split('.').any(|token| token == QUESTION)
}

impl Connection {
    /// Connects, or says why that is not possible.
    pub(crate) async fn open(
        deployment: &Deployment,
        key: &KeyPair,
        purpose: Purpose,
    ) -> Result<(Self, Client), BackendError> {
        let (connection, attempt) = Self::begin(deployment, key, purpose)?;
        let client = attempt
            .run()
            .await
            .map_err(|why| BackendError::Connect { servers: connection.servers.clone(), why })?;
        Ok((connection, client))
    }

    /// Begins without one: whoever needs the connection makes it, as often as that takes.
    pub(crate) fn begin(
        deployment: &Deployment,
        key: &KeyPair,
        purpose: Purpose,
    ) -> Result<(Self, Attempt), BackendError> {
        deployment.check()?;
        // A server chooses what its clients sign.
        let login_key = match &deployment.login {
            Login::Credentials(text) => Some(credentials::read(text)?.key),
            Login::Nkey(seed) => Some(credentials::key(seed)?),
            _ => None,
        };
        if login_key.is_some_and(|login| login.public() == key.public()) {
            return Err(BackendError::OwnKey);
        }
        let servers = deployment.servers()?;
        let (state, receiver) = watch::channel(State::Away(None));
        let inbox_prefix = inbox(key);
        let waiting = Mutex::new(Waiting { inbox_prefix: inbox_prefix.clone(), ..Waiting::default() });
        let (events, first) = broadcast::channel(EVENTS);
        let client = Mutex::new(Known::Maybe(None));
        let shared = Arc::new(Shared { events, state, client, waiting });
        let attempt = Attempt {
            login: login(deployment, &servers),
            key: key.clone(),
            deployment: deployment.clone(),
            servers,
            purpose,
            inbox_prefix,
            shared: shared.clone(),
        };
        let first = Mutex::new(Some(first));
        Ok((Self { shared, state: receiver, servers: deployment.shown(), first }, attempt))
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What happens to it: from the beginning for the first who asks, and from now on for others.
    pub(crate) fn events(&self) -> BusEvents {
        let first = self.first.lock().take();
        BusEvents::new(first.unwrap_or_else(|| self.shared.events.subscribe()))
    }

    /// The client, once there has been a connection.
    pub(crate) fn client(&self) -> Option<Client> {
        match &*self.shared.client.lock() {
            Known::Maybe(client) => client.clone(),
            Known::Closed => None,
        }
    }

    /// How it does, from now on.
    pub(crate) fn watch_state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Why there is no connection just now, if there is none.
    pub(crate) fn away(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Here => None,
            State::Away(why) => {
                let why = why.as_deref().unwrap_or("there is no connection yet");
                Some(format!("{}: {why}", self.servers))
            }
        }
    }

    /// The servers, as logs may name them.
    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // What tells of events belongs to the client, so it must not keep the client.
        *self.shared.client.lock() = Known::Closed;
    }
}

/// What all subjects begin with that answers come to: others cannot listen there, where permissions are given by user.
pub(crate) fn inbox(key: &KeyPair) -> String {
    format!("_INBOX_{}", key.peer_id())
}

/// What is needed to connect.
pub(crate) struct Attempt {
    login: Login,
    key: KeyPair,
    deployment: Deployment,
    servers: Vec<ServerAddr>,
    purpose: Purpose,
    inbox_prefix: String,
    shared: Arc<Shared>,
}

impl Attempt {
    async fn run(&self) -> Result<Client, String> {
        let options = self.options()?;
        let client = options.connect(&self.servers[..]).await.map_err(|error| reason(&error))?;
        if let Known::Maybe(known) = &mut *self.shared.client.lock() {
            *known = Some(client.clone());
        }
        Ok(client)
    }

    /// Goes on trying until there is a connection.
    pub(crate) async fn connect(&self) -> Client {
        let mut pause = PAUSE.0;
        loop {
            match self.run().await {
                Ok(client) => return client,
                Err(why) => {
                    let why = in_a_line(&why);
                    self.shared.state.send_replace(State::Away(Some(why.clone())));
                    // Nobody may listen.
                    let _ = self.shared.events.send(BusEvent::Failed(why));
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    fn options(&self) -> Result<ConnectOptions, String> {
        let by_key = |key: KeyPair, jwt: Option<String>| {
            ConnectOptions::with_auth_callback(move |nonce| {
                std::future::ready(credentials::prove(&key, jwt.as_deref(), &nonce))
            })
        };
        let wrong = |error: BackendError| error.to_string();
        let mut options = match &self.login {
            Login::Derived => by_key(self.key.login_key(), None),
            Login::Credentials(text) => {
                let Credentials { jwt, key } = credentials::read(text).map_err(wrong)?;
                by_key(key, Some(jwt))
            }
            Login::Nkey(seed) => by_key(credentials::key(seed).map_err(wrong)?, None),
            Login::User { user, password } => {
                ConnectOptions::with_user_and_password(user.clone(), password.to_string())
            }
            Login::Token(token) => ConnectOptions::with_token(token.to_string()),
        };
        let tls = &self.deployment.tls;
        if let Some(ca) = &tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        if !self.purpose.echo {
            options = options.no_echo();
        }
        // Otherwise whoever is on the way could take the greeting's word for it that none is spoken, or name other servers.
        let by_websocket = self.servers.iter().any(ServerAddr::is_websocket);
        let by_tls = self.servers.iter().any(ServerAddr::tls_required);
        if by_websocket {
            options = options.ignore_discovered_servers();
        } else if by_tls || *tls != TlsFiles::default() {
            options = options.require_tls(true);
        }
        let shared = self.shared.clone();
        Ok(options
            .name(format!("midge {}", self.key.peer_id()))
            .custom_inbox_prefix(&self.inbox_prefix)
            .connection_timeout(CONNECT)
            .ping_interval(PING)
            .max_reconnects(self.purpose.attempts)
            .reconnect_delay_callback(|attempts| match u32::try_from(attempts).unwrap_or(u32::MAX) {
                0 | 1 => Duration::ZERO,
                more => PAUSE.0.saturating_mul(1 << (more - 2).min(10)).min(PAUSE.1),
            })
            .client_capacity(self.purpose.outgoing)
            .subscription_capacity(self.purpose.incoming)
            .event_callback(move |event| {
                shared.take(event);
                std::future::ready(())
            }))
    }
}

/// Who one is: what is said, or else what the first address that says something does.
fn login(deployment: &Deployment, servers: &[ServerAddr]) -> Login {
    if deployment.login != Login::Derived {
        return deployment.login.clone();
    }
    let named = servers.iter().find(|server| server.has_user_pass());
    named.map_or(Login::Derived, |server| match (server.username(), server.password()) {
        (Some(user), Some(password)) => {
            Login::User { user: user.to_owned(), password: password.to_owned().into() }
        }
        (Some(token), None) => Login::Token(token.to_owned().into()),
        (None, _) => Login::Derived,
    })
}

/// What an error says, down to its cause.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
