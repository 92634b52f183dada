//! WebSocket (RFC 6455), as an adapter around a byte stream: what is inside the messages is the same as without.
//!
//! HTTP is hyper's, frames are soketto's, compression is flate2's. What is refused, and how, is nats-server 2.15's
//! (`server/websocket.go`).

mod ask;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod request;
mod stream;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error};

pub(crate) use ask::ask;
pub(crate) use stream::WebSocket;

use self::stream::Manner;
use crate::carrier::{Carrier, TlsFacts};
use crate::drive::pipe;
use crate::server::Server;

/// Time in which a request must have come, where the options do not say. nats-server waits for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const MOST_HEAD: usize = 16 * 1024;

/// A WebSocket whose other side has been told that it is one.
pub(crate) type Socket = WebSocket<TokioIo<Upgraded>>;

/// A request that was answered with yes.
struct Promise {
    upgrade: OnUpgrade,
    manner: Manner,
    carrier: Arc<Carrier>,
    /// Whether a leafnode asked, and no client.
    leafnode: bool,
    /// The peer as log lines name it.
    peer: String,
}

/// A WebSocket, and whose it is.
pub(crate) struct Asked {
    pub(crate) socket: Socket,
    /// The peer as log lines name it.
    pub(crate) peer: String,
    pub(crate) carrier: Arc<Carrier>,
    /// Whether it is a leafnode's, and no client's.
    pub(crate) leafnode: bool,
}

impl Promise {
    /// The WebSocket, once the answer has been written.
    async fn socket(self) -> Option<Asked> {
        let upgraded = match self.upgrade.await {
            Ok(upgraded) => upgraded,
            Err(why) => {
                debug!("{} - websocket handshake error: {why}", self.peer);
                return None;
            }
        };
        let socket = WebSocket::new(TokioIo::new(upgraded), self.manner, self.carrier.clone());
        Some(Asked { socket, peer: self.peer, carrier: self.carrier, leafnode: self.leafnode })
    }
}

/// Speaks HTTP with whoever connected to the WebSocket port, and hands its WebSocket to `run`.
pub(crate) async fn serve<R>(server: Arc<Server>, stream: tokio::net::TcpStream, peer: SocketAddr, run: R)
where
    R: FnOnce(Asked),
{
    let setup = server.setup();
    let patience = setup.options.websocket.handshake_timeout.unwrap_or(PATIENCE);
    let Some(tls) = &setup.websocket_tls else {
        return speak(&server, stream, (peer, None), patience, run).await;
    };
    match timeout(patience, TlsAcceptor::from(tls.config().clone()).accept(stream)).await {
        Ok(Ok(stream)) => {
            let facts = TlsFacts::of(stream.get_ref().1, true);
            if !tls.is_pinned(&facts.peer) {
                return error!("{peer} - websocket: TLS handshake error: certificate not pinned");
            }
            speak(&server, stream, (peer, Some(facts)), patience, run).await;
        }
        Ok(Err(why)) => debug!("{peer} - websocket: TLS handshake error: {why}"),
        Err(_) => debug!("{peer} - websocket: TLS handshake timeout"),
    }
}

async fn speak<T, R>(
    server: &Arc<Server>,
    io: T,
    (peer, facts): (SocketAddr, Option<TlsFacts>),
    patience: Duration,
    run: R,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    R: FnOnce(Asked),
{
    let secure = facts.is_some();
    let facts = RefCell::new(facts);
    let promise: Rc<RefCell<Option<Promise>>> = Rc::default();
    let service = service_fn(|mut request| {
        let (response, made) = answer(server, &mut request, &peer.to_string(), Some(secure));
        if let Some(made) = made {
            if let Some(facts) = facts.borrow_mut().take() {
                // The carrier is new.
                let _ = made.carrier.tls.set(facts);
            }
            promise.borrow_mut().replace(made);
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(MOST_HEAD);
    let connection = http.serve_connection(TokioIo::new(io), service).with_upgrades();
    if let Err(why) = connection.await {
        debug!("{peer} - websocket: {why}");
    }
    let promise = promise.borrow_mut().take();
    if let Some(promise) = promise
        && let Some(asked) = promise.socket().await
    {
        run(asked);
    }
}

/// Whether a request becomes a WebSocket, and what is answered.
fn answer<B>(
    server: &Server,
    request: &mut Request<B>,
    peer: &str,
    secure: Option<bool>,
) -> (Response<Body>, Option<Promise>) {
    let setup = server.setup();
    match request::check(&setup.options.websocket, request, (secure, setup.options.leafnodes.port.is_some()))
    {
        Ok(accepted) => {
            let carrier = Arc::new(Carrier::websocket(accepted.cookies, accepted.forwarded_for));
            let peer = peer.to_owned();
            let upgrade = hyper::upgrade::on(request);
            (
                accepted.response,
                Some(Promise {
                    upgrade,
                    manner: accepted.manner,
                    carrier,
                    leafnode: accepted.leafnode,
                    peer,
                }),
            )
        }
        Err(refused) => {
            error!("{peer} - websocket handshake error: {refused}");
            (refused.response(), None)
        }
    }
}

impl Server {
    /// Answers a request on a route of the embedding program's own HTTP server, and talks to the client whose
    /// WebSocket it becomes until either ends it. Needs a tokio runtime with time enabled. `peer` names the client in
    /// logs and monitoring, best as `host:port`. What the `websocket` options say of origins, cookies, compression and
    /// authorization holds; what they say of ports and TLS is the embedding program's own affair.
    #[must_use]
    pub fn websocket<B>(self: &Arc<Self>, mut request: Request<B>, peer: &str) -> Response<Body> {
        // Requests seldom say so, and somebody else may speak TLS in front of this program.
        let secure = request.uri().scheme_str().map(|scheme| scheme == "https");
        let (response, promise) = answer(self, &mut request, peer, secure);
        if let Some(promise) = promise {
            let server = self.clone();
            tokio::spawn(async move {
                if let Some(Asked { socket, peer, carrier, leafnode }) = promise.socket().await {
                    pipe::drive_carried(server, socket, &peer, (carrier, leafnode)).await;
                }
            });
        }
        response
    }
}
