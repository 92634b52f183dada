//! The way to a hub: its greeting may come before TLS begins.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use midge_router::LeafDial;
use midge_wire::json::PeerInfo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Outcome;
use crate::drive::pipe::Stream;
use crate::options::{Compression, HandshakeFirst, ServerUrl, TlsOptions};
use crate::tls::ClientTls;
use crate::websocket;

/// Most bytes of a greeting.
const MOST_GREETING: usize = 64 * 1024;
/// Time in which a hub must greet (nats-server's `DEFAULT_LEAFNODE_INFO_WAIT`).
const PATIENCE: Duration = Duration::from_secs(1);

/// A hub that was dialled.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) url: ServerUrl,
    /// The name that its certificate must have.
    pub(crate) tls_name: String,
    pub(crate) dial: LeafDial,
    /// This server's account.
    pub(crate) account: Arc<midge_router::Account>,
    /// How TLS is spoken with it, if not as anybody does.
    pub(crate) tls: Option<TlsOptions>,
    /// How what goes to it is compressed.
    pub(crate) compression: Compression,
    pub(crate) done: oneshot::Sender<Outcome>,
}

/// A byte stream of which the beginning has been read already.
pub(crate) struct Greeted<T> {
    first: Vec<u8>,
    used: usize,
    io: T,
}

/// The stream to a hub, by which its greeting comes first.
pub(crate) type HubStream = Greeted<Box<dyn Stream>>;

/// Takes the hub's greeting, and begins TLS if it or the options want that.
///
/// # Errors
/// The hub does not greet, or there is no TLS with it.
pub(crate) async fn open(hub: &Hub, mut stream: TcpStream) -> io::Result<HubStream> {
    let tls = |options: &TlsOptions| ClientTls::new(options).map_err(io::Error::other);
    if hub.url.is_websocket() {
        let (address, path) = (hub.url.address(), format!("{}/leafnode", hub.url.path));
        let io: Box<dyn Stream> = if hub.url.scheme == "wss" || hub.tls.is_some() {
            let options = hub.tls.clone().unwrap_or_default();
            let io = tls(&options)?.connect(&hub.tls_name, stream).await?;
            Box::new(websocket::ask(io, &address, &path).await?)
        } else {
            Box::new(websocket::ask(stream, &address, &path).await?)
        };
        return Ok(Greeted { first: Vec::new(), used: 0, io });
    }
    let first = hub.tls.as_ref().filter(|tls| tls.first != HandshakeFirst::Never);
    if let Some(options) = first {
        let io: Box<dyn Stream> = Box::new(tls(options)?.connect(&hub.tls_name, stream).await?);
        return Ok(Greeted { first: Vec::new(), used: 0, io });
    }
    let greeting = timeout(PATIENCE, greeting(&mut stream)).await;
    let greeting = greeting.map_err(|_| io::Error::other("it does not greet"))??;
    let body = greeting.strip_prefix(b"INFO ").unwrap_or_default();
    let wants = PeerInfo::from_json(body.trim_ascii()).is_ok_and(|info| info.tls_required);
    if !wants && hub.tls.is_none() && hub.url.scheme != "tls" {
        return Ok(Greeted { first: greeting, used: 0, io: Box::new(stream) });
    }
    let options = hub.tls.clone().unwrap_or_default();
    let io = tls(&options)?.connect(&hub.tls_name, stream).await?;
    Ok(Greeted { first: greeting, used: 0, io: Box::new(io) })
}

/// A line, byte by byte: what follows it may be TLS's.
async fn greeting(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() > MOST_GREETING {
            return Err(io::Error::other("its greeting has no end"));
        }
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}

impl<T: AsyncRead + Unpin> AsyncRead for Greeted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.first.get(self.used..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let take = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..take).unwrap_or_default());
        self.used += take;
        if self.used == self.first.len() {
            (self.first, self.used) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Greeted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
