//! A byte stream that begins plainly and goes on as TLS, or begins with it.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::Tls;
use crate::carrier::{Carrier, TlsFacts};
use crate::options::HandshakeFirst;

/// The first byte of a handshake: the type of its record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;
/// Bytes that are read before it is known what they begin.
const PEEK: usize = 16;
/// Bytes of one thread's read buffer.
const SHARED_BYTES: usize = 64 * 1024;

/// Why there is no TLS with a peer.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// It did not finish in time.
    Timeout,
    /// It began with something else.
    NotTls,
    /// Its certificate is not one of those that it must be.
    NotPinned,
    /// TLS's own reasons.
    Tls(io::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("TLS handshake timeout"),
            Self::NotTls => f.write_str("first record does not look like a TLS handshake"),
            Self::NotPinned => f.write_str("certificate not pinned"),
            Self::Tls(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for HandshakeError {}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        Self::other(error)
    }
}

/// The stream. What is written before the peer has begun TLS goes out plainly, if anything may: that is how a
/// client gets the INFO that tells it to begin.
pub(crate) struct Upgrade<T> {
    tls: Arc<Tls>,
    carrier: Arc<Carrier>,
    state: State<T>,
    /// When the handshake must be over.
    deadline: Option<Pin<Box<Sleep>>>,
    /// When a peer that has not begun gets its INFO all the same.
    patience: Option<Pin<Box<Sleep>>>,
}

enum State<T> {
    /// Nothing has come yet. `open` says whether something may go out.
    Waiting {
        io: Begun<T>,
        open: bool,
    },
    Handshake(Box<Accept<Begun<T>>>),
    Tls(Box<TlsStream<Begun<T>>>),
    Plain(Begun<T>),
    Ended,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Upgrade<T> {
    pub(crate) fn new(io: T, tls: Arc<Tls>, carrier: Arc<Carrier>) -> Self {
        let after = |time: Duration| Box::pin(sleep(time));
        let patience = match tls.first {
            HandshakeFirst::Within(time) => Some(after(time)),
            HandshakeFirst::Never | HandshakeFirst::Always => None,
        };
        let open = tls.first == HandshakeFirst::Never;
        let deadline = Some(after(tls.timeout));
        let state = State::Waiting { io: Begun::new(io), open };
        Self { tls, carrier, state, deadline, patience }
    }

    /// Goes on as far as the first bytes or the handshake allow. Ready once bytes can be exchanged.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Tls(_) | State::Plain(_) => return Poll::Ready(Ok(())),
                State::Ended => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
                State::Waiting { io, open } => {
                    let mut bytes = [0; PEEK];
                    let mut buffer = ReadBuf::new(&mut bytes);
                    match Pin::new(&mut io.io).poll_read(cx, &mut buffer)? {
                        Poll::Ready(()) => {
                            let first = buffer.filled().to_vec();
                            self.begin(first)?;
                            // Whoever wants to write may be able to now.
                            cx.waker().wake_by_ref();
                        }
                        Poll::Pending => {
                            if let Some(patience) = &mut self.patience
                                && patience.as_mut().poll(cx).is_ready()
                            {
                                self.patience = None;
                                *open = true;
                                cx.waker().wake_by_ref();
                            }
                            return self.poll_deadline(cx);
                        }
                    }
                }
                State::Handshake(accept) => match Pin::new(accept).poll(cx) {
                    Poll::Ready(Ok(stream)) => {
                        self.finish(stream)?;
                        cx.waker().wake_by_ref();
                    }
                    Poll::Ready(Err(why)) => {
                        self.state = State::Ended;
                        return Poll::Ready(Err(HandshakeError::Tls(why).into()));
                    }
                    Poll::Pending => return self.poll_deadline(cx),
                },
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        self.deadline = None;
        match std::mem::replace(&mut self.state, State::Ended) {
            // Somebody who says nothing is not yet known to want TLS.
            State::Waiting { io, .. } if self.is_optional() => {
                self.state = State::Plain(io);
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(HandshakeError::Timeout.into())),
        }
    }

    fn is_optional(&self) -> bool {
        self.tls.optional && self.tls.first != HandshakeFirst::Always
    }

    /// Decides by the first bytes how to go on.
    fn begin(&mut self, first: Vec<u8>) -> Result<(), HandshakeError> {
        let State::Waiting { mut io, .. } = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        self.patience = None;
        let is_handshake = first.first() == Some(&HANDSHAKE);
        let has_ended = first.is_empty();
        io.ahead = first;
        if has_ended || (!is_handshake && self.is_optional()) {
            self.deadline = None;
            self.state = State::Plain(io);
        } else if is_handshake {
            let acceptor = TlsAcceptor::from(self.tls.config().clone());
            self.state = State::Handshake(Box::new(acceptor.accept(io)));
        } else {
            return Err(HandshakeError::NotTls);
        }
        Ok(())
    }

    /// Looks at what the handshake has shown.
    fn finish(&mut self, stream: TlsStream<Begun<T>>) -> Result<(), HandshakeError> {
        self.deadline = None;
        let facts = TlsFacts::of(stream.get_ref().1, self.tls.first != HandshakeFirst::Never);
        if !self.tls.is_pinned(&facts.peer) {
            self.state = State::Ended;
            return Err(HandshakeError::NotPinned);
        }
        // Only set here, and a stream has one handshake.
        let _ = self.carrier.tls.set(facts);
        self.state = State::Tls(Box::new(stream));
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Upgrade<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_begin(cx))?;
        match &mut this.state {
            State::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            State::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            State::Waiting { .. } | State::Handshake(_) | State::Ended => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Upgrade<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().state {
            State::Waiting { io, open: true } | State::Plain(io) => {
                Pin::new(&mut io.io).poll_write(cx, bytes)
            }
            State::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            // The reading side goes on, and wakes this task when it has.
            State::Waiting { .. } | State::Handshake(_) => Poll::Pending,
            State::Ended => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Waiting { io, .. } | State::Plain(io) => Pin::new(&mut io.io).poll_flush(cx),
            State::Tls(stream) => Pin::new(stream).poll_flush(cx),
            State::Handshake(_) | State::Ended => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Waiting { io, .. } | State::Plain(io) => Pin::new(&mut io.io).poll_shutdown(cx),
            State::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            // Dropping it ends it.
            State::Handshake(_) | State::Ended => Poll::Ready(Ok(())),
        }
    }
}

/// A stream that is read ahead: by what was looked at to see what the peer begins with, and then by as much as there is,
/// since rustls asks for little at a time.
pub(crate) struct Begun<T> {
    io: T,
    ahead: Vec<u8>,
    /// Bytes of that which have been handed on.
    used: usize,
}

thread_local! {
    /// What all streams of the thread are read into, one after the other.
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; SHARED_BYTES]);
}

impl<T> Begun<T> {
    const fn new(io: T) -> Self {
        Self { io, ahead: Vec::new(), used: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return SHARED.with_borrow_mut(|shared| {
                let mut room = ReadBuf::new(shared);
                ready!(Pin::new(&mut this.io).poll_read(cx, &mut room))?;
                let take = room.filled().len().min(buffer.remaining());
                let (now, later) = room.filled().split_at_checked(take).unwrap_or_default();
                buffer.put_slice(now);
                this.ahead = later.to_vec();
                Poll::Ready(Ok(()))
            });
        }
        let rest = this.ahead.get(this.used..).unwrap_or_default();
        let take = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(take);
        this.used += take.len();
        if this.used == this.ahead.len() {
            // An idle connection keeps nothing.
            (this.ahead, this.used) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_read_ahead_comes_in_order_and_takes_no_room_after_that() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        far.write_all(&sent).await.unwrap();
        drop(far);
        let mut begun = Begun::new(near);
        begun.ahead = b"first".to_vec();
        let (mut got, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let len = begun.read(&mut piece).await.unwrap();
            if len == 0 {
                break;
            }
            got.extend_from_slice(&piece[..len]);
        }
        assert_eq!((&got[..5], &got[5..]), (&b"first"[..], &sent[..]));
        assert_eq!((begun.ahead.capacity(), begun.used), (0, 0));
    }
}
