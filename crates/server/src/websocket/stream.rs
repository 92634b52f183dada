//! Frames around a byte stream.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use midge_router::CloseReason;
use soketto::Parsing;
use soketto::base::{Codec, Header, OpCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::carrier::Carrier;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Messages up to this many bytes are not worth compressing (nats-server's `wsCompressThreshold`).
const WORTH: usize = 64;
/// What every compressed message ends with, and what is therefore left out (RFC 7692, section 7.2.1).
const DEFLATE_END: [u8; 4] = [0, 0, 0xff, 0xff];
/// Bytes of answers to control frames that may wait before no more is read.
const MOST_WAITING: usize = 64 * 1024;
/// Chunks that are read in one turn while nothing comes of them.
const MOST_CHUNKS: usize = 4;
/// Most bytes in a control frame (RFC 6455, section 5.5).
const MOST_CONTROL: usize = 125;

/// How a peer wants its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// Whether messages may be compressed.
    pub(super) compresses: bool,
    /// Whether the peer masks what it sends, as it must unless both agreed on otherwise.
    pub(super) masked: bool,
    /// Whether what is sent is masked: it is by those who asked for the WebSocket.
    pub(super) masks: bool,
    /// Most bytes in a frame; `None` for any.
    pub(super) most_frame: Option<usize>,
    /// Whether a compressed message may be cut into frames.
    pub(super) fragments: bool,
}

/// A byte stream inside WebSocket messages. Where one ends does not matter.
pub(crate) struct WebSocket<T> {
    io: T,
    manner: Manner,
    carrier: Arc<Carrier>,
    codec: Codec,
    /// Bytes that were read and not used. Empty, and without memory, while nothing comes.
    raw: Vec<u8>,
    /// Bytes of `raw` that have been used.
    used: usize,
    frame: Frame,
    message: Message,
    /// What is being taken apart, while a compressed message comes.
    inflate: Option<Box<Decompress>>,
    /// Whole frames that are on their way out.
    out: Vec<u8>,
    sent: usize,
    /// How to say goodbye in the end, if that is settled already.
    farewell: Option<Vec<u8>>,
    said_goodbye: bool,
    /// What the peer did wrong behind what was handed on last.
    broke: Option<io::Error>,
}

/// Where in a frame the next byte is.
enum Frame {
    /// In its header.
    Header,
    /// In its payload, of which so much is left, and how far the mask has turned.
    Payload { header: Header, left: usize, turn: usize },
    /// Behind a compressed message's last byte, of whose end so much has been taken apart.
    Tail { fed: usize },
    /// There is none any more.
    Ended,
}

/// Where in a message the next frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// Before it.
    None,
    Plain,
    Compressed,
}

impl<T> WebSocket<T> {
    pub(super) fn new(io: T, manner: Manner, carrier: Arc<Carrier>) -> Self {
        let mut codec = Codec::new();
        // Payloads go on as they come, so that a size alone costs nothing.
        codec.set_max_data_size(usize::MAX);
        if manner.compresses {
            codec.add_reserved_bits((true, false, false));
        }
        Self {
            io,
            manner,
            carrier,
            codec,
            raw: Vec::new(),
            used: 0,
            frame: Frame::Header,
            message: Message::None,
            inflate: None,
            out: Vec::new(),
            sent: 0,
            farewell: None,
            said_goodbye: false,
            broke: None,
        }
    }

    fn rest(&self) -> &[u8] {
        self.raw.get(self.used..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used >= self.raw.len() {
            self.raw = Vec::new();
            self.used = 0;
        }
    }

    /// Notes that the peer broke the rules: it is told so in the end, and why.
    fn broken(&mut self, why: &str) -> io::Error {
        self.farewell.get_or_insert_with(|| goodbye(1002, why));
        io::Error::new(io::ErrorKind::InvalidData, format!("websocket: {why}"))
    }

    fn control(&mut self, code: OpCode, body: &[u8]) {
        // What has left makes room, even if the rest never does.
        if self.sent > MOST_WAITING {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        let mut header = Header::new(code);
        header.set_fin(true);
        self.put(header, body);
    }

    /// Takes one whole header apart; whether there was one.
    fn header(&mut self) -> io::Result<bool> {
        let header = match self.codec.decode_header(self.rest()) {
            Ok(Parsing::Done { value, offset }) => {
                self.consume(offset);
                value
            }
            Ok(Parsing::NeedMore(_)) => return Ok(false),
            Err(why) => return Err(self.broken(&why.to_string())),
        };
        if self.manner.masked && !header.is_masked() {
            return Err(self.broken("mask bit missing"));
        }
        match header.opcode() {
            OpCode::Continue if self.message == Message::None => {
                return Err(self.broken("invalid continuation frame"));
            }
            OpCode::Text | OpCode::Binary if self.message != Message::None => {
                return Err(
                    self.broken("new message started before final frame for previous message was received")
                );
            }
            OpCode::Text | OpCode::Binary if header.is_rsv1() => {
                self.message = Message::Compressed;
                self.inflate = Some(Box::new(Decompress::new(false)));
            }
            OpCode::Text | OpCode::Binary => self.message = Message::Plain,
            _ if header.is_rsv1() => return Err(self.broken("control frame must not be compressed")),
            _ => {}
        }
        let left = header.payload_len();
        self.frame = Frame::Payload { header, left, turn: 0 };
        Ok(true)
    }

    /// Answers a control frame, once all of it is there; whether it was.
    fn answer(&mut self, header: &Header) -> io::Result<bool> {
        let len = header.payload_len();
        let Some(body) = self.rest().get(..len) else { return Ok(false) };
        let mut body = body.to_vec();
        Codec::apply_mask(header, &mut body);
        self.consume(len);
        self.frame = Frame::Header;
        match header.opcode() {
            OpCode::Ping => self.control(OpCode::Pong, &body),
            OpCode::Close => {
                self.frame = Frame::Ended;
                self.closed(&body)?;
            }
            _ => {}
        }
        Ok(true)
    }

    /// Remembers how the peer said goodbye: it is answered so once everything else has been said.
    fn closed(&mut self, body: &[u8]) -> io::Result<()> {
        let answer = match body {
            [] => Vec::new(),
            [_] => return Err(self.broken("close frame payload cannot be 1 byte")),
            [high, low, why @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(self.broken(&format!("invalid close status code {code}")));
                }
                match std::str::from_utf8(why) {
                    Ok(why) => goodbye(code, why),
                    Err(_) => goodbye(1007, "invalid utf8 body in close frame"),
                }
            }
        };
        self.farewell.get_or_insert(answer);
        Ok(())
    }

    /// Hands on as much of the frame's payload as there is and as fits.
    fn payload(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let Frame::Payload { header, left, turn } = &mut self.frame else { return Ok(()) };
        let have = self.raw.get(self.used..).unwrap_or_default();
        let most = if self.message == Message::Compressed { CHUNK } else { buffer.remaining() };
        let take = have.len().min(*left).min(most);
        let mut piece = have.get(..take).unwrap_or_default().to_vec();
        if header.is_masked() {
            let mut turned = Header::new(OpCode::Binary);
            turned.set_masked(true).set_mask(header.mask().rotate_left(*turn as u32 % 4 * 8));
            Codec::apply_mask(&turned, &mut piece);
        }
        let used = match &mut self.inflate {
            Some(inflate) => match inflated(inflate, &piece, buffer) {
                Ok(used) => used,
                Err(why) => return Err(self.broken(&why)),
            },
            None => {
                buffer.put_slice(&piece);
                take
            }
        };
        *left -= used;
        *turn += used;
        let (ended, last) = (*left == 0, header.is_fin());
        self.consume(used);
        if ended {
            self.end_frame(last);
        }
        Ok(())
    }

    /// Goes on behind a frame.
    fn end_frame(&mut self, last: bool) {
        self.frame = match (last, &self.inflate) {
            (true, Some(_)) => Frame::Tail { fed: 0 },
            _ => Frame::Header,
        };
        if last {
            self.message = Message::None;
        }
    }

    /// Takes the end of a compressed message apart, which is never sent, and hands on what was held back until then.
    fn tail(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let (Frame::Tail { fed }, Some(inflate)) = (&mut self.frame, &mut self.inflate) else {
            return Ok(());
        };
        match inflated(inflate, DEFLATE_END.get(*fed..).unwrap_or_default(), buffer) {
            Ok(used) => *fed += used,
            Err(why) => return Err(self.broken(&why)),
        }
        // With room to spare, there is no more.
        if *fed == DEFLATE_END.len() && buffer.remaining() > 0 {
            self.inflate = None;
            self.frame = Frame::Header;
        }
        Ok(())
    }
}

/// Takes compressed bytes apart, as far as there is room; how many were used.
fn inflated(inflate: &mut Decompress, bytes: &[u8], buffer: &mut ReadBuf<'_>) -> Result<usize, String> {
    let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
    let room = buffer.initialize_unfilled();
    let status = inflate.decompress(bytes, room, FlushDecompress::None).map_err(|why| why.to_string())?;
    let (used, made) = (inflate.total_in() - in_before, inflate.total_out() - out_before);
    buffer.advance(made as usize);
    // A final block ends the stream, but not the message: what follows is another.
    if status == Status::StreamEnd {
        inflate.reset(false);
    }
    Ok(used as usize)
}

impl<T: AsyncRead + AsyncWrite + Unpin> WebSocket<T> {
    /// Reads some more; none at the stream's end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.raw.drain(..self.used);
        self.used = 0;
        self.raw.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_payload(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let mut chunks = 0;
        loop {
            // Answers to control frames go out at once, and a peer that takes none is not listened to.
            if let Poll::Ready(Err(why)) = self.poll_out(cx) {
                return Poll::Ready(Err(why));
            }
            if self.out.len() - self.sent > MOST_WAITING {
                return Poll::Pending;
            }
            let went_on = match &self.frame {
                Frame::Ended => return Poll::Ready(Ok(())),
                Frame::Header => self.header()?,
                Frame::Payload { header, .. } if header.opcode().is_control() => {
                    let header = header.clone();
                    self.answer(&header)?
                }
                Frame::Payload { left: 0, header, .. } => {
                    let last = header.is_fin();
                    self.end_frame(last);
                    true
                }
                Frame::Tail { .. } => {
                    self.tail(buffer)?;
                    true
                }
                Frame::Payload { .. } => {
                    self.payload(buffer)?;
                    !self.rest().is_empty() || !matches!(self.frame, Frame::Payload { .. })
                }
            };
            if buffer.filled().len() > before && (buffer.remaining() == 0 || self.rest().is_empty()) {
                return Poll::Ready(Ok(()));
            }
            if !went_on {
                // What is there goes on now: the rest of the next header may take its time.
                if buffer.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                // Others get their turn before a peer that sends nothing but control frames goes on.
                if chunks == MOST_CHUNKS {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                chunks += 1;
                if ready!(self.poll_more(cx))? == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Writes frames that are on their way.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        self.out = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Some(why) = this.broke.take() {
            return Poll::Ready(Err(why));
        }
        match this.poll_payload(cx, buffer) {
            // What came before the mistake counts.
            Poll::Ready(Err(why)) if buffer.filled().len() > before => {
                this.broke = Some(why);
                Poll::Ready(Ok(()))
            }
            result => result,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        this.frame_up(bytes)?;
        if let Poll::Ready(Err(why)) = this.poll_out(cx) {
            return Poll::Ready(Err(why));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_goodbye {
            this.said_goodbye = true;
            let reason = this.carrier.ended.get().copied().unwrap_or(CloseReason::ClientClosed);
            let farewell = this.farewell.take().unwrap_or_else(|| goodbye(code(reason), reason.text()));
            this.control(OpCode::Close, &farewell);
        }
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<T> WebSocket<T> {
    /// Puts bytes into frames: one message, or several where frames must be small.
    fn frame_up(&mut self, bytes: &[u8]) -> io::Result<()> {
        let most = self.manner.most_frame.unwrap_or(usize::MAX);
        if !self.manner.compresses || bytes.len() <= WORTH {
            for piece in bytes.chunks(most) {
                self.data(OpCode::Binary, piece, (true, false));
            }
            return Ok(());
        }
        let packed = deflated(bytes)?;
        let most = if self.manner.fragments { most } else { usize::MAX };
        let count = packed.len().div_ceil(most);
        for (number, piece) in packed.chunks(most).enumerate() {
            let code = if number == 0 { OpCode::Binary } else { OpCode::Continue };
            self.data(code, piece, (number + 1 == count, number == 0));
        }
        Ok(())
    }

    fn data(&mut self, code: OpCode, piece: &[u8], (last, compressed): (bool, bool)) {
        let mut header = Header::new(code);
        header.set_fin(last).set_rsv1(compressed);
        self.put(header, piece);
    }

    /// Puts a frame on its way.
    fn put(&mut self, mut header: Header, body: &[u8]) {
        header.set_payload_len(body.len());
        if self.manner.masks {
            header.set_masked(true).set_mask(RandomState::new().hash_one(body.len()) as u32);
        }
        self.out.extend_from_slice(self.codec.encode_header(&header));
        let start = self.out.len();
        self.out.extend_from_slice(body);
        if self.manner.masks {
            Codec::apply_mask(&header, self.out.get_mut(start..).unwrap_or_default());
        }
    }
}

thread_local! {
    /// What compresses the thread's messages, one after the other: it is large, and forgets each.
    static DEFLATE: std::cell::RefCell<Compress> = std::cell::RefCell::new(Compress::new(Compression::fast(), false));
}

fn deflated(bytes: &[u8]) -> io::Result<Vec<u8>> {
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        let mut packed = Vec::with_capacity(bytes.len() / 2 + 64);
        loop {
            let used = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
            let rest = bytes.get(used..).unwrap_or_default();
            packed.reserve(1024);
            deflate.compress_vec(rest, &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
            let all = usize::try_from(deflate.total_in()).is_ok_and(|used| used >= bytes.len());
            if all && packed.len() < packed.capacity() {
                break;
            }
        }
        let end = packed.len().saturating_sub(DEFLATE_END.len());
        if packed.get(end..) == Some(&DEFLATE_END[..]) {
            packed.truncate(end);
        }
        Ok(packed)
    })
}

/// The body of a goodbye.
fn goodbye(code: u16, why: &str) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    let end =
        why.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MOST_CONTROL - 2).last();
    body.extend_from_slice(why.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes());
    body
}

/// The status of a goodbye (RFC 6455, section 7.4.1), as nats-server chooses it.
const fn code(reason: CloseReason) -> u16 {
    match reason {
        CloseReason::ClientClosed => 1000,
        CloseReason::AuthenticationTimeout
        | CloseReason::AuthenticationViolation
        | CloseReason::MaxAccountConnectionsExceeded
        | CloseReason::MaxConnectionsExceeded
        | CloseReason::MaxControlLineExceeded
        | CloseReason::MaxSubscriptionsExceeded
        | CloseReason::SlowConsumerPendingBytes
        | CloseReason::SlowConsumerWriteDeadline => 1008,
        CloseReason::ParseError | CloseReason::ProtocolViolation | CloseReason::BadClientProtocolVersion => {
            1002
        }
        CloseReason::MaxPayloadExceeded => 1009,
        CloseReason::StaleConnection
        | CloseReason::ServerShutdown
        | CloseReason::ReadError
        | CloseReason::WriteError => 1001,
        _ => 1011,
    }
}

#[cfg(test)]
mod tests;
