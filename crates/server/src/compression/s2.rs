//! The S2 stream format: chunks of compressed or plain bytes, each with a checksum.
//!
//! It is Snappy's framing format with an identifier of its own and blocks that only S2 can read
//! (<https://github.com/klauspost/compress/tree/master/s2#format-extensions>). nats-server begins anew at each flush, so
//! an identifier may come at any place between chunks.

use std::io;

use minlz::crc::crc;
use minlz::s2;

/// The chunk that a stream begins with.
const IDENTIFIER: &[u8; 10] = b"\xff\x06\x00\x00S2sTwO";
/// What an older compressor calls itself, whose blocks can be read, too.
const SNAPPY: &[u8; 6] = b"sNaPpY";
const COMPRESSED: u8 = 0;
const PLAIN: u8 = 1;
/// Most bytes of a block, by the format.
const MOST_BLOCK: usize = 4 << 20;
/// Most bytes that a block may take, with its checksum: whoever compresses takes it plain if it would grow.
const MOST_CHUNK: usize = MOST_BLOCK + 4;
/// Bytes that become one block here.
const BLOCK: usize = 64 * 1024;

/// How hard it is tried to make bytes fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Plain,
    Fast,
    Better,
    Best,
}

/// Writes a stream.
#[derive(Debug)]
pub(super) struct Packer {
    pub(super) level: Level,
    begun: bool,
}

impl Packer {
    pub(super) const fn new(level: Level) -> Self {
        Self { level, begun: false }
    }

    /// Appends the first of these bytes to a stream; how many those were.
    pub(super) fn pack(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        if !self.begun {
            out.extend_from_slice(IDENTIFIER);
            self.begun = true;
        }
        let block = bytes.get(..BLOCK).unwrap_or(bytes);
        let packed = match self.level {
            Level::Plain => None,
            Level::Fast => Some(s2::encode(block)),
            Level::Better => Some(s2::encode_better(block)),
            Level::Best => Some(s2::encode_best(block)),
        };
        let packed = packed.filter(|packed| packed.len() < block.len());
        let (kind, body) = match &packed {
            Some(packed) => (COMPRESSED, packed.as_slice()),
            None => (PLAIN, block),
        };
        let [a, b, c, _] = (body.len() as u32 + 4).to_le_bytes();
        out.extend_from_slice(&[kind, a, b, c]);
        out.extend_from_slice(&crc(block).to_le_bytes());
        out.extend_from_slice(body);
        block.len()
    }

    /// Appends all of these bytes.
    pub(super) fn pack_all(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let taken = self.pack(bytes, out);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }
}

/// Reads a stream.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    /// What has come and is no whole chunk yet.
    raw: Vec<u8>,
    /// Bytes of them that have been used.
    at: usize,
    /// Bytes to come that nobody needs.
    skip: usize,
    begun: bool,
}

impl Unpacker {
    /// Goes on with what came before it was clear that it is a stream.
    pub(super) fn new(raw: Vec<u8>) -> Self {
        Self { raw, ..Self::default() }
    }

    /// Where more of it belongs.
    pub(super) const fn input(&mut self) -> &mut Vec<u8> {
        &mut self.raw
    }

    /// The next bytes, if a whole chunk of them is there.
    ///
    /// # Errors
    /// This is no S2 stream.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let skipped = self.skip.min(self.raw.len() - self.at);
            self.at += skipped;
            self.skip -= skipped;
            let rest = self.raw.get(self.at..).unwrap_or_default();
            let Some((&[kind, a, b, c], rest)) = rest.split_first_chunk() else { break };
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            match kind {
                0xff if len != 6 => return Err(wrong("its identifier is broken")),
                COMPRESSED | PLAIN if !self.begun => {
                    return Err(wrong("it does not begin with its identifier"));
                }
                COMPRESSED | PLAIN if !(4..=MOST_CHUNK).contains(&len) => {
                    return Err(wrong("a chunk has no size that it may have"));
                }
                0x02..0x80 => return Err(wrong("there is a chunk that nobody knows")),
                // These may be left out.
                0x80..0xff => {
                    self.at += 4;
                    self.skip = len;
                    continue;
                }
                _ => {}
            }
            let Some(chunk) = rest.get(..len) else { break };
            self.at += 4 + len;
            if kind == 0xff {
                if chunk != &IDENTIFIER[4..] && chunk != SNAPPY {
                    return Err(wrong("its identifier is another format's"));
                }
                self.begun = true;
                continue;
            }
            return block(kind, chunk).map(Some);
        }
        // Nothing stays of what was used, and an idle stream keeps no buffer.
        if self.at == self.raw.len() {
            self.raw = Vec::new();
        } else {
            self.raw.drain(..self.at);
        }
        self.at = 0;
        Ok(None)
    }
}

/// What a chunk stands for.
fn block(kind: u8, chunk: &[u8]) -> io::Result<Vec<u8>> {
    let Some((sum, body)) = chunk.split_first_chunk() else { return Err(wrong("a chunk is too short")) };
    let plain = if kind == PLAIN {
        body.to_vec()
    } else {
        let (len, _) = s2::decode_len(body).map_err(|_| wrong("a block has no length"))?;
        if len > MOST_BLOCK {
            return Err(wrong("a block is too long"));
        }
        let mut plain = vec![0; len];
        s2::decode_into(&mut plain, body).map_err(|_| wrong("a block is broken"))?;
        plain
    };
    if crc(&plain) != u32::from_le_bytes(*sum) {
        return Err(wrong("a checksum is wrong"));
    }
    Ok(plain)
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no S2 stream: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(level: Level, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Packer::new(level).pack_all(bytes, &mut out);
        out
    }

    fn unpacked(stream: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let (mut unpacker, mut all) = (Unpacker::default(), Vec::new());
        for piece in stream.chunks(piece) {
            unpacker.input().extend_from_slice(piece);
            while let Some(bytes) = unpacker.next()? {
                all.extend(bytes);
            }
        }
        assert!(unpacker.raw.is_empty(), "nothing is kept");
        Ok(all)
    }

    fn text() -> Vec<u8> {
        (0..40_000_u32).flat_map(|n| n.to_string().into_bytes()).collect()
    }

    #[test]
    fn what_is_packed_comes_back_in_any_pieces() {
        let text = text();
        for level in [Level::Plain, Level::Fast, Level::Better, Level::Best] {
            let stream = packed(level, &text);
            assert_eq!(stream.len() < text.len(), level != Level::Plain, "{level:?}");
            for piece in [1, 7, 1000, stream.len()] {
                assert!(unpacked(&stream, piece).unwrap() == text, "{level:?} by {piece}");
            }
        }
    }

    #[test]
    fn a_stream_may_begin_anew_and_have_what_nobody_needs() {
        let mut stream = packed(Level::Fast, b"one ");
        stream.extend([0xfe, 3, 0, 0, 9, 9, 9]);
        stream.extend(packed(Level::Plain, b"two"));
        for piece in [1, 5, 100] {
            assert_eq!(unpacked(&stream, piece).unwrap(), b"one two");
        }
    }

    /// Ten times "midge and nats, ", put together by hand from the format's description.
    #[test]
    fn a_block_is_read_as_the_format_says() {
        let mut stream = IDENTIFIER.to_vec();
        let bytes = b"midge and nats, ".repeat(10);
        // A literal of 16 bytes, and copies of 64, 64 and 16 from 16 back.
        let mut block = vec![0xa0, 0x01, 15 << 2];
        block.extend_from_slice(b"midge and nats, ");
        block.extend_from_slice(&[(63 << 2) | 2, 16, 0, (63 << 2) | 2, 16, 0, (15 << 2) | 2, 16, 0]);
        let len = (block.len() + 4) as u8;
        stream.extend([COMPRESSED, len, 0, 0]);
        stream.extend(crc(&bytes).to_le_bytes());
        stream.extend(block);
        assert_eq!(unpacked(&stream, 1000).unwrap(), bytes);
    }

    #[test]
    fn what_is_broken_is_named() {
        let good = packed(Level::Fast, &text()[..1000]);
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            bad
        };
        let mut long = IDENTIFIER.to_vec();
        // A block that says it is of 8 MiB.
        long.extend([COMPRESSED, 9, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x04, 0]);
        for (stream, why) in [
            (good[10..].to_vec(), "it does not begin with its identifier"),
            (with(4, b'X'), "its identifier is another format's"),
            (with(1, 7), "its identifier is broken"),
            (with(10, 0x33), "there is a chunk that nobody knows"),
            (with(13, 0xff), "a chunk has no size that it may have"),
            (with(14, !good[14]), "a checksum is wrong"),
            (long, "a block is too long"),
            ([&IDENTIFIER[..], &[COMPRESSED, 6, 0, 0, 0, 0, 0, 0, 9, 0xff]].concat(), "a block is broken"),
        ] {
            let error = unpacked(&stream, 100_000).unwrap_err().to_string();
            assert_eq!(error, format!("this is no S2 stream: {why}"));
        }
    }
}
