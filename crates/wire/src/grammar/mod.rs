//! What differs between the languages of clients, servers, routes and leafnodes.
//!
//! The decoder walks bytes; a [`Grammar`] says which words it may meet, what follows each, and what to make of
//! the arguments. A further role is one more file here.

pub(crate) mod client;
pub(crate) mod leaf;
pub(crate) mod peer;
pub(crate) mod route;
pub(crate) mod server;

use crate::{Limits, WireError};

/// The language of one kind of peer.
pub trait Grammar {
    /// The operations' names.
    type Verb: Copy + std::fmt::Debug;
    /// What is known of a message when its control line has been read and its payload has not.
    type Head<'a>: Copy;
    /// A whole operation, borrowing from the input.
    type Op<'a>;
    /// A whole message: the operation that matters.
    type Message<'a>;

    /// Finds the operation's name that `head` begins with. `head` is never empty.
    fn verb(head: &[u8]) -> Found<Self::Verb>;

    /// What follows the name of `verb`.
    fn shape(verb: Self::Verb) -> Shape;

    /// Reads the arguments of a control line. For a verb of [`Shape::Junk`] the arguments are empty.
    ///
    /// # Errors
    /// Whatever is wrong with the arguments, or beyond the limits.
    fn line<'a>(
        verb: Self::Verb,
        args: &'a [u8],
        limits: &Limits,
    ) -> Result<Line<Self::Head<'a>, Self::Op<'a>>, WireError>;

    /// Reads a message that is there whole and written as nearly all are, in one pass; it, and its length. What this
    /// leaves alone, the general way reads; what this reads, the general way would read as the same.
    #[inline]
    fn message_at_once<'a>(_input: &'a [u8], _limits: &Limits) -> Option<(Self::Message<'a>, usize)> {
        None
    }

    /// Joins what the control line said with the whole message: arguments, line end, payload and closing CR LF.
    fn message<'a>(head: Self::Head<'a>, whole: &'a [u8], line: LineEnds) -> Self::Op<'a>;
}

/// Where a message's control line ends, counted from the first byte of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineEnds {
    /// Behind the last byte of the arguments.
    pub args: usize,
    /// Behind the line's end, where headers and payload begin.
    pub line: usize,
}

/// The outcome of looking for an operation's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<V> {
    /// The input begins with this name, which is so many bytes long.
    Verb(V, usize),
    /// All of the input is the beginning of some name.
    Partial,
    /// No name begins like this.
    Unknown,
}

/// What may follow an operation's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// At least one blank, then arguments up to the line's end.
    Args,
    /// Blanks or none, then arguments up to the line's end (`CONNECT{…}` is taken).
    LooseArgs,
    /// Anything up to the line's end, which is ignored (`PINGxyz` is a PING).
    Junk,
}

/// What a control line amounts to.
#[derive(Debug)]
pub enum Line<H, O> {
    /// A whole operation.
    Op(O),
    /// A message whose headers and payload are so many bytes, not counting the closing CR LF.
    Message(H, usize),
}

/// Whether `head` begins with `name` (which is in lower case), whatever the case, or may yet.
pub(crate) fn spelled<V>(head: &[u8], name: &[u8], verb: V) -> Found<V> {
    let seen = head.len().min(name.len());
    match (head.get(..seen), name.get(..seen)) {
        (Some(h), Some(n)) if h.eq_ignore_ascii_case(n) => {
            if seen == name.len() {
                Found::Verb(verb, seen)
            } else {
                Found::Partial
            }
        }
        _ => Found::Unknown,
    }
}

/// A decimal number of one to nine digits, as `parseSize` in nats-server's `server/util.go` takes it.
pub(crate) fn parse_size(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut n = 0_usize;
    for &b in digits {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n = n * 10 + usize::from(d);
    }
    Some(n)
}

/// Reads the words of a line that has one blank between any two of them, and ends in CR LF.
#[derive(Clone, Copy)]
pub(crate) struct Strict<'a>(pub(crate) &'a [u8]);

impl<'a> Strict<'a> {
    /// A word, and the blank behind it.
    #[inline(always)]
    pub(crate) fn word(&mut self) -> Option<&'a [u8]> {
        let len = blank(self.0)?;
        let (word, rest) = self.0.split_at_checked(len)?;
        let (blank, rest) = rest.split_first()?;
        self.0 = rest;
        (len > 0 && *blank == b' ').then_some(word)
    }

    /// A number of one to nine digits, with those digits. What follows it is still there.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Option<(usize, &'a [u8])> {
        let (mut n, mut len) = (0_usize, 0);
        while let Some(digit) = self.0.get(len).map(|b| b.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
            n = n * 10 + usize::from(digit);
            len += 1;
            if len > 9 {
                return None;
            }
        }
        let (digits, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        (len > 0).then_some((n, digits))
    }

    /// What must come next.
    #[inline(always)]
    pub(crate) fn skip<const N: usize>(&mut self, what: &[u8; N]) -> Option<()> {
        let (found, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        (found == what).then_some(())
    }
}

/// The sizes at the end of a message's line. Those of headers are zero and empty where the line has none.
#[derive(Clone, Copy)]
pub(crate) struct Sizes<'a> {
    pub(crate) header_len: usize,
    pub(crate) header_digits: &'a [u8],
    pub(crate) size: usize,
    pub(crate) size_digits: &'a [u8],
}

impl Sizes<'_> {
    /// Whether a message of these sizes, whose line has so many bytes of arguments, is within the limits.
    #[inline(always)]
    pub(crate) const fn fit(&self, args: usize, limits: &Limits) -> bool {
        self.size <= limits.max_payload && args <= limits.max_control_line && self.header_len <= self.size
    }
}

/// What stands between a message's subject and the end of its line, that included.
#[inline(always)]
pub(crate) fn reply_and_sizes<'a>(line: &mut Strict<'a>, headers: bool) -> Option<(&'a [u8], Sizes<'a>)> {
    let before = *line;
    if let Some(sizes) = sizes_at_once(line, headers) {
        return Some((&[], sizes));
    }
    *line = before;
    let reply = line.word()?;
    Some((reply, sizes_at_once(line, headers)?))
}

#[inline(always)]
fn sizes_at_once<'a>(line: &mut Strict<'a>, headers: bool) -> Option<Sizes<'a>> {
    let (mut header_len, mut header_digits) = (0, &[][..]);
    if headers {
        (header_len, header_digits) = line.number()?;
        line.skip(b" ")?;
    }
    let (size, size_digits) = line.number()?;
    line.skip(b"\r\n")?;
    Some(Sizes { header_len, header_digits, size, size_digits })
}

/// Where the first blank or control character stands.
#[inline(always)]
fn blank(bytes: &[u8]) -> Option<usize> {
    const LOWEST: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut at = 0;
    // Eight bytes at a time. Below the first byte that is found, the subtraction borrows nothing, so that one is right.
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let eight = u64::from_le_bytes(*chunk);
        let found = eight.wrapping_sub(LOWEST * (b' ' as u64 + 1)) & !eight & HIGHEST;
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|b| *b <= b' ').map(|found| at + found)
}

/// The words of a control line, at most `N`; one more than `N` is an error.
pub(crate) struct Words<'a, const N: usize> {
    words: [&'a [u8]; N],
    len: usize,
    /// Whether exactly one blank stands between the words and nothing around them, as clients write it.
    pub(crate) plain: bool,
}

impl<'a, const N: usize> Words<'a, N> {
    /// Splits at blanks and tabs, and at stray line-end bytes too where `line_ends` says so: the original splits
    /// SUB and UNSUB that way, PUB and HPUB not.
    pub(crate) fn split(args: &'a [u8], line_ends: bool) -> Option<Self> {
        let mut split = Self { words: [&[]; N], len: 0, plain: true };
        let mut start = None;
        for (i, &b) in args.iter().enumerate() {
            let blank = b == b' ' || b == b'\t' || (line_ends && (b == b'\r' || b == b'\n'));
            match (blank, start) {
                (true, Some(from)) => {
                    split.push(args.get(from..i)?)?;
                    split.plain &= b == b' ';
                    start = None;
                }
                (true, None) => split.plain = false,
                (false, None) => start = Some(i),
                _ => {}
            }
        }
        match start {
            Some(from) => split.push(args.get(from..)?)?,
            None => split.plain = false,
        }
        Some(split)
    }

    fn push(&mut self, word: &'a [u8]) -> Option<()> {
        *self.words.get_mut(self.len)? = word;
        self.len += 1;
        Some(())
    }

    /// The words found.
    pub(crate) fn as_slice(&self) -> &[&'a [u8]] {
        self.words.get(..self.len).unwrap_or_default()
    }
}
