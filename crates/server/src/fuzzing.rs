//! Doors for the fuzz targets, compiled for them alone.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Runtime;

use crate::Server;
use crate::auth::user_of;
use crate::carrier::Carrier;
use crate::compression::{Compressed, Side};
use crate::options::{Compression, ConnectionType};
use crate::websocket::fuzz as websocket;

/// Bytes of output that are looked at: a small message may become a large one.
const MOST: usize = 1 << 20;

/// Input in pieces; output goes nowhere.
#[derive(Debug)]
pub struct Pieces<'a> {
    input: &'a [u8],
    piece: usize,
    /// Whether the next piece must be waited for.
    waits: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.waits = !this.waits;
        if this.waits {
            return Poll::Pending;
        }
        let (now, rest) = this.input.split_at(this.input.len().min(this.piece).min(buffer.remaining()));
        buffer.put_slice(now);
        this.input = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len().min(self.piece)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is in a WebSocket client's frames that come in pieces, read so many bytes at once, and what is wrong with
/// them. The lowest bits of `manner` say what both agreed on.
#[must_use]
pub fn unframed(manner: u8, input: &[u8], piece: usize, at_once: usize) -> (Vec<u8>, Option<String>) {
    read(websocket::socket(Pieces { input, piece, waits: false }, manner), at_once)
}

/// What another server says, in pieces, once compression has been agreed on, read so many bytes at once, and what is wrong
/// with it.
#[must_use]
pub fn uncompressed(input: &[u8], piece: usize, at_once: usize) -> (Vec<u8>, Option<String>) {
    let carrier = Arc::new(Carrier::new(ConnectionType::Standard));
    let io = Pieces { input, piece, waits: false };
    read(Compressed::new(io, Compression::Fast, Side::IsAskedByLeafnode, carrier), at_once)
}

/// All that there is to read, and how that ended.
fn read(mut io: impl AsyncRead + Unpin, at_once: usize) -> (Vec<u8>, Option<String>) {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut all, mut buffer) = (Vec::new(), vec![0; at_once]);
    while all.len() < MOST {
        let mut read = ReadBuf::new(&mut buffer);
        match Pin::new(&mut io).poll_read(&mut cx, &mut read) {
            Poll::Ready(Ok(())) if read.filled().is_empty() => return (all, None),
            Poll::Ready(Ok(())) => all.extend_from_slice(read.filled()),
            Poll::Ready(Err(why)) => return (all, Some(why.to_string())),
            // The next call finds more.
            Poll::Pending => {}
        }
    }
    all.truncate(MOST);
    (all, None)
}

/// What somebody hears who says this on the WebSocket port.
///
/// # Panics
/// There can be no server.
#[must_use]
pub fn upgraded(input: &[u8]) -> Vec<u8> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    });
    runtime.block_on(async {
        let server = Server::new(websocket::options()).expect("a server");
        let (mut client, io) = tokio::io::duplex(64 * 1024);
        let said = async {
            let _ = client.write_all(input).await;
            let _ = client.shutdown().await;
            let mut heard = Vec::new();
            let _ = client.read_to_end(&mut heard).await;
            heard
        };
        tokio::join!(said, websocket::answer(&server, io)).0
    })
}

/// Looks for a user in a certificate, and for one who is called as the certificate reads.
pub fn certificate(der: &[u8]) {
    let name = String::from_utf8_lossy(der);
    let _ = user_of(&CertificateDer::from(der), [&*name, "CN=alice,O=example", "alice"].into_iter());
}
