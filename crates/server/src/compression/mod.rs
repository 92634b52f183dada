//! Compression between servers: agreeing on it, and speaking S2 once it is agreed on.
//!
//! Who was connected to says in its first INFO whether it would; who connected answers with an INFO of its own, and then
//! both directions are S2. The first thing in it is the first INFO once more (nats-server's `server/route.go` and
//! `server/leafnode.go`, since 2.10). [`Compressed`] does all of this beneath the session, which sees one INFO and one
//! stream of bytes whatever was agreed on.

mod s2;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use midge_wire::json::PeerInfo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::s2::{Level, Packer, Unpacker};
use crate::carrier::Carrier;
use crate::options::Compression;

/// Bytes that are read at once while it is S2, or not yet clear.
const CHUNK: usize = 32 * 1024;
/// Most bytes of a line that is looked at.
const MOST_LINE: usize = 64 * 1024;

/// This side of a connection.
#[derive(Debug)]
pub(crate) enum Side {
    /// It connected. What it says then, but for compression.
    Asks(Box<PeerInfo>),
    /// It was connected to, by another server of the cluster.
    IsAskedByRoute,
    /// It was connected to, by a leafnode.
    IsAskedByLeafnode,
}

impl Side {
    const fn what(&self) -> &'static str {
        match self {
            Self::IsAskedByLeafnode => "leafnode",
            Self::IsAskedByRoute | Self::Asks(_) => "route",
        }
    }
}

/// A byte stream to another server that becomes S2 if both want that.
pub(crate) struct Compressed<T> {
    io: T,
    mode: Compression,
    phase: Phase,
    /// What the reader is given before anything else.
    ready: Vec<u8>,
    /// Bytes of that which have been read.
    used: usize,
    /// What is on its way to the carrier before anything else.
    out: Vec<u8>,
    /// Bytes of that which have left.
    sent: usize,
    carrier: Arc<Carrier>,
}

enum Phase {
    /// Nothing is agreed on.
    Open {
        side: Side,
        raw: Vec<u8>,
        greeting: Vec<u8>,
    },
    /// Nothing is compressed.
    Plain,
    S2 {
        packer: Packer,
        unpacker: Unpacker,
        far: Option<Far>,
    },
}

/// What waits for how far away the other server is.
struct Far {
    thresholds: Vec<Duration>,
    asked: Instant,
}

/// What becomes of a line of the other server.
enum Fate {
    /// The session gets it, and the next one is looked at.
    Pass,
    /// The session gets it and all that follow.
    Plain,
    /// It is done with; the session gets all that follow.
    Drop,
    /// It is done with, and all that follow are S2.
    Agreed(Compression),
}

impl<T> Compressed<T> {
    /// What is agreed on is left with `carrier`.
    pub(crate) fn new(io: T, mode: Compression, side: Side, carrier: Arc<Carrier>) -> Self {
        let phase = if mode == Compression::Off {
            Phase::Plain
        } else {
            Phase::Open { side, raw: Vec::new(), greeting: Vec::new() }
        };
        Self { io, mode, phase, ready: Vec::new(), used: 0, out: Vec::new(), sent: 0, carrier }
    }

    /// Looks at the lines that are there.
    fn look(&mut self) -> io::Result<()> {
        while let Phase::Open { side, raw, greeting } = &mut self.phase {
            let end = raw.iter().position(|byte| *byte == b'\n');
            let (end, fate) = match end {
                Some(end) => (end + 1, fate(&self.mode, side, raw.get(..=end).unwrap_or_default())),
                // The session knows what is to be said of that.
                None if raw.len() > MOST_LINE => (0, Ok(Fate::Plain)),
                None => return Ok(()),
            };
            match fate {
                Ok(Fate::Pass) => self.ready.extend(raw.drain(..end)),
                Ok(Fate::Plain) => {
                    self.ready.append(raw);
                    self.phase = Phase::Plain;
                }
                Ok(Fate::Drop) => {
                    raw.drain(..end);
                    self.ready.append(raw);
                    self.phase = Phase::Plain;
                }
                Ok(Fate::Agreed(theirs)) => {
                    raw.drain(..end);
                    let unpacker = Unpacker::new(std::mem::take(raw));
                    let ours = chosen(&self.mode, &theirs);
                    let mut packer = Packer::new(level(&ours));
                    if let Side::Asks(info) = side {
                        let info =
                            PeerInfo { compression: ours.name().to_owned(), ..std::mem::take(&mut **info) };
                        self.out.extend([b"INFO ", info.to_json().as_slice(), b" \r\n"].concat());
                    } else {
                        packer.pack_all(greeting, &mut self.out);
                    }
                    let far = if let Compression::Auto(thresholds) = &self.mode {
                        Some(Far { thresholds: thresholds.clone(), asked: Instant::now() })
                    } else {
                        let _ = self.carrier.compression.set(ours.name());
                        None
                    };
                    self.phase = Phase::S2 { packer, unpacker, far };
                }
                Err(unknown) => {
                    let why = format!("unsupported {} compression mode {unknown:?}", side.what());
                    self.out.extend_from_slice(format!("-ERR '{why}'\r\n").as_bytes());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
        }
        Ok(())
    }
}

/// What becomes of a line, or the word in it that stands for no way to compress.
fn fate(mode: &Compression, side: &Side, line: &[u8]) -> Result<Fate, String> {
    let Some(body) = word(line, b"INFO") else {
        let goes_on = matches!(side, Side::IsAskedByRoute) && word(line, b"CONNECT").is_some();
        return Ok(if goes_on { Fate::Pass } else { Fate::Plain });
    };
    let Ok(info) = PeerInfo::from_json(body.trim_ascii()) else { return Ok(Fate::Plain) };
    let theirs = Compression::named(&info.compression).ok_or(info.compression)?;
    Ok(match (side, theirs) {
        (_, theirs) if agrees(mode, &theirs) => Fate::Agreed(theirs),
        // A leafnode's has nothing else to say.
        (Side::IsAskedByLeafnode, _) => Fate::Drop,
        _ => Fate::Plain,
    })
}

/// What follows a word at a line's beginning.
fn word<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = line.split_at_checked(word.len())?;
    first.eq_ignore_ascii_case(word).then_some(rest)
}

/// Whether one of them wants it and the other would.
fn agrees(ours: &Compression, theirs: &Compression) -> bool {
    let would = |mode: &Compression| *mode != Compression::Off;
    would(ours) && would(theirs) && !(*ours == Compression::Accept && *theirs == Compression::Accept)
}

/// What this side does.
fn chosen(ours: &Compression, theirs: &Compression) -> Compression {
    match (ours, theirs) {
        (Compression::Accept, Compression::Auto(_)) => Compression::Fast,
        (Compression::Accept, theirs) => theirs.clone(),
        (ours, _) => ours.clone(),
    }
}

const fn level(mode: &Compression) -> Level {
    match mode {
        Compression::Fast => Level::Fast,
        Compression::Better => Level::Better,
        Compression::Best => Level::Best,
        // By distance: plain until that is known.
        _ => Level::Plain,
    }
}

/// What is done at such a distance (nats-server's `selectS2AutoModeBasedOnRTT`).
fn by_distance(thresholds: &[Duration], rtt: Duration) -> Compression {
    let modes = [Compression::Uncompressed, Compression::Fast, Compression::Better, Compression::Best];
    let near =
        thresholds.iter().zip(&modes).find(|(threshold, _)| !threshold.is_zero() && rtt <= **threshold);
    near.map_or(Compression::Best, |(_, mode)| mode.clone())
}

impl<T: AsyncWrite + Unpin> Compressed<T> {
    /// Hands on what goes before anything else.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        (self.out, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Hands on what was put there by the way; whoever writes next waits for the rest.
    fn push(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.out.is_empty()
            && let Poll::Ready(outcome) = self.poll_out(cx)
        {
            outcome?;
            if let Poll::Ready(outcome) = Pin::new(&mut self.io).poll_flush(cx) {
                outcome?;
            }
        }
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Compressed<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.push(cx)?;
        loop {
            let rest = this.ready.get(this.used..).unwrap_or_default();
            if !rest.is_empty() {
                let take = rest.len().min(buffer.remaining());
                buffer.put_slice(rest.get(..take).unwrap_or_default());
                this.used += take;
                if this.used == this.ready.len() {
                    (this.ready, this.used) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            match &mut this.phase {
                Phase::Plain => return Pin::new(&mut this.io).poll_read(cx, buffer),
                Phase::Open { raw, .. } => {
                    if ready!(read_some(&mut this.io, raw, cx))? == 0 {
                        // What there was is for the session to judge.
                        this.ready.append(raw);
                        this.phase = Phase::Plain;
                        continue;
                    }
                    let outcome = this.look();
                    this.push(cx)?;
                    outcome?;
                }
                Phase::S2 { packer, unpacker, far } => {
                    if let Some(bytes) = unpacker.next()? {
                        if let Some(Far { thresholds, asked }) = far.take() {
                            let mode = by_distance(&thresholds, asked.elapsed());
                            packer.level = level(&mode);
                            let _ = this.carrier.compression.set(mode.name());
                        }
                        this.ready = bytes;
                    } else if ready!(read_some(&mut this.io, unpacker.input(), cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

/// Appends what there is to read; how many bytes it was.
fn read_some<T: AsyncRead + Unpin>(
    io: &mut T,
    into: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    into.reserve(CHUNK);
    let mut buffer = [0; CHUNK];
    let mut buffer = ReadBuf::new(&mut buffer);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    into.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Compressed<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        match &mut this.phase {
            Phase::Open { greeting, .. } => {
                let taken = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
                // All that is said before anything is agreed on is the greeting.
                if greeting.len() < MOST_LINE {
                    greeting.extend_from_slice(bytes.get(..taken).unwrap_or_default());
                }
                Poll::Ready(Ok(taken))
            }
            Phase::Plain => Pin::new(&mut this.io).poll_write(cx, bytes),
            Phase::S2 { packer, .. } => {
                let taken = packer.pack(bytes, &mut this.out);
                if let Poll::Ready(outcome) = this.poll_out(cx) {
                    outcome?;
                }
                Poll::Ready(Ok(taken))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
