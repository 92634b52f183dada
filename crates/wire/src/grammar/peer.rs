//! What routes and leafnode connections share: the arguments of interest and of messages.

use super::{Found, Line, LineEnds, Shape, Strict, parse_size, reply_and_sizes, spelled};
use crate::op::{Interest, PeerOp, Pub, Queues, Routed};
use crate::{Limits, WireError};

/// The operations of other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the operation of its name; the one with a sign has it in words")]
pub enum PeerVerb {
    RSubPlus,
    RSubMinus,
    RMsg,
    LSubPlus,
    LSubMinus,
    LMsg,
    HMsg,
    Ping,
    Pong,
    Connect,
    Info,
    Ok,
    Err,
}

/// A message whose payload is still to come; the fields are those of [`Routed`].
#[derive(Debug, Clone, Copy)]
pub struct RoutedHead<'a> {
    origin: &'a [u8],
    account: &'a [u8],
    subject: &'a [u8],
    reply: &'a [u8],
    queues: Queues<'a>,
    header_len: Option<usize>,
    header_digits: &'a [u8],
    size_digits: &'a [u8],
}

/// Which of the leading words and sizes an operation has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) op: &'static str,
    pub(super) origin: bool,
    pub(super) account: bool,
    /// Whether a message's line has a header size, too.
    pub(super) headers: bool,
}

/// The words of a line, from both ends.
struct Rest<'a>(&'a [u8]);

const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

impl<'a> Rest<'a> {
    fn first(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|byte| !is_blank(*byte))?;
        let rest = self.0.get(start..)?;
        let end = rest.iter().position(|byte| is_blank(*byte)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        Some(word)
    }

    fn last(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().rposition(|byte| !is_blank(*byte))? + 1;
        let rest = self.0.get(..end)?;
        let start = rest.iter().rposition(|byte| is_blank(*byte)).map_or(0, |at| at + 1);
        let (rest, word) = rest.split_at_checked(start)?;
        self.0 = rest;
        Some(word)
    }

    fn first_if(&mut self, has: bool) -> Option<&'a [u8]> {
        if has { self.first() } else { Some(&[]) }
    }
}

/// Finds the operation's name that `head` begins with, among those of routes and leafnode connections.
pub(super) fn verb(head: &[u8]) -> Found<PeerVerb> {
    let Some(first) = head.first() else { return Found::Partial };
    match first.to_ascii_lowercase() {
        b'l' => match head.get(1).map(u8::to_ascii_lowercase) {
            None => Found::Partial,
            Some(b'm') => spelled(head, b"lmsg", PeerVerb::LMsg),
            Some(_) => signed(head, b"ls", PeerVerb::LSubPlus, PeerVerb::LSubMinus),
        },
        b'r' => match head.get(1).map(u8::to_ascii_lowercase) {
            None => Found::Partial,
            Some(b'm') => spelled(head, b"rmsg", PeerVerb::RMsg),
            Some(_) => signed(head, b"rs", PeerVerb::RSubPlus, PeerVerb::RSubMinus),
        },
        b'c' => spelled(head, b"connect", PeerVerb::Connect),
        b'i' => spelled(head, b"info", PeerVerb::Info),
        b'h' => spelled(head, b"hmsg", PeerVerb::HMsg),
        b'p' => match head.get(1).map(u8::to_ascii_lowercase) {
            None => Found::Partial,
            Some(b'i') => spelled(head, b"ping", PeerVerb::Ping),
            Some(_) => spelled(head, b"pong", PeerVerb::Pong),
        },
        b'+' => spelled(head, b"+ok", PeerVerb::Ok),
        b'-' => spelled(head, b"-err", PeerVerb::Err),
        _ => Found::Unknown,
    }
}

/// A name that ends with a plus or a minus.
fn signed(head: &[u8], name: &[u8], plus: PeerVerb, minus: PeerVerb) -> Found<PeerVerb> {
    match (spelled(head, name, plus), head.get(name.len())) {
        (Found::Verb(..), None) => Found::Partial,
        (Found::Verb(..), Some(b'+')) => Found::Verb(plus, name.len() + 1),
        (Found::Verb(..), Some(b'-')) => Found::Verb(minus, name.len() + 1),
        (Found::Verb(..), Some(_)) => Found::Unknown,
        (other, _) => other,
    }
}

/// What follows the name of an operation.
pub(super) const fn shape(verb: PeerVerb) -> Shape {
    match verb {
        PeerVerb::Ping | PeerVerb::Pong | PeerVerb::Ok => Shape::Junk,
        PeerVerb::Connect | PeerVerb::Info => Shape::LooseArgs,
        _ => Shape::Args,
    }
}

/// `[origin] [account] subject [queue weight]`; without the weight where `wanted` is not so.
pub(super) fn interest<'a>(args: &'a [u8], form: Form, wanted: bool) -> Result<Interest<'a>, WireError> {
    let fault = WireError::Arguments { op: form.op };
    let mut rest = Rest(args);
    let mut leading = || Some((rest.first_if(form.origin)?, rest.first_if(form.account)?, rest.first()?));
    let (origin, account, subject) = leading().ok_or(fault)?;
    let queue = rest.first().unwrap_or_default();
    let weight = match rest.first() {
        Some(digits) if wanted && !queue.is_empty() => {
            parse_size(digits).ok_or(WireError::Size { op: form.op })? as u32
        }
        None if queue.is_empty() || !wanted => 0,
        _ => return Err(fault),
    };
    if rest.first().is_some() {
        return Err(fault);
    }
    Ok(Interest { origin, of_leaf: false, account, subject, queue, weight })
}

/// `[origin] [account] subject [reply | + reply queue… | \| queue…] [header-size] size`.
pub(super) fn message<'a>(
    args: &'a [u8],
    form: Form,
    limits: &Limits,
) -> Result<Line<RoutedHead<'a>, PeerOp<'a>>, WireError> {
    let op = form.op;
    let fault = || WireError::Arguments { op };
    let mut rest = Rest(args);
    let mut leading = || Some((rest.first_if(form.origin)?, rest.first_if(form.account)?, rest.first()?));
    let (origin, account, subject) = leading().ok_or_else(fault)?;
    let size_digits = rest.last().ok_or_else(fault)?;
    let size = parse_size(size_digits).ok_or(WireError::Size { op })?;
    let header_digits = if form.headers { rest.last().ok_or_else(fault)? } else { &[] };
    let header = if form.headers { parse_size(header_digits).ok_or(WireError::Size { op })? } else { 0 };
    if header > size {
        return Err(WireError::HeaderSize { header, total: size });
    }
    if size > limits.max_payload {
        return Err(WireError::PayloadTooLarge { size, limit: limits.max_payload });
    }
    // One word alone is a reply, even if it looks like a mark.
    let (reply, queues) = match rest.first() {
        None => (&[][..], &[][..]),
        Some(reply) if rest.0.iter().all(|byte| is_blank(*byte)) => (reply, &[][..]),
        Some(b"+") => (rest.first().ok_or_else(fault)?, rest.0.trim_ascii()),
        Some(b"|") => (&[][..], rest.0.trim_ascii()),
        Some(_) => return Err(fault()),
    };
    let (queues, header_len) = (Queues(queues), (header > 0).then_some(header));
    let head = RoutedHead { origin, account, subject, reply, queues, header_len, header_digits, size_digits };
    Ok(Line::Message(head, size))
}

/// A message, now that all of it is there.
pub(super) fn whole<'a>(head: RoutedHead<'a>, whole: &'a [u8], line: LineEnds) -> PeerOp<'a> {
    PeerOp::Msg(Routed {
        origin: head.origin,
        account: head.account,
        queues: head.queues,
        message: Pub {
            subject: head.subject,
            reply: head.reply,
            header_len: head.header_len,
            header_digits: head.header_digits,
            size_digits: head.size_digits,
            frame: whole.get(line.line..).unwrap_or_default(),
            onward: &[],
        },
    })
}

/// A message that is there whole, for no queue group, and spaced as servers do, without its origin: what follows the
/// operation's name, and its length.
#[inline(always)]
pub(super) fn at_once<'a>(
    args: &'a [u8],
    (account, headers): (bool, bool),
    limits: &Limits,
) -> Option<(Routed<'a>, usize)> {
    let mut line = Strict(args);
    let account = if account { line.word()? } else { &[] };
    let subject = line.word()?;
    let onward = line.0;
    let (reply, sizes) = reply_and_sizes(&mut line, headers)?;
    let frame = line.0.get(..sizes.size + 2)?;
    if !sizes.fit(args.len() - line.0.len() - 2, limits) || !frame.ends_with(b"\r\n") {
        return None;
    }
    // Without headers it is another operation that goes on.
    if headers && sizes.header_len == 0 {
        return None;
    }
    let onward = onward.get(..onward.len() - line.0.len() + frame.len())?;
    let message = Pub {
        subject,
        reply,
        header_len: headers.then_some(sizes.header_len),
        header_digits: sizes.header_digits,
        size_digits: sizes.size_digits,
        frame,
        onward,
    };
    let used = args.len() - line.0.len() + frame.len();
    Some((Routed { origin: &[], account, queues: Queues::default(), message }, used))
}

/// An operation that has the same form everywhere.
pub(super) fn plain<'a>(verb: PeerVerb, args: &'a [u8]) -> PeerOp<'a> {
    match verb {
        PeerVerb::Connect => PeerOp::Connect(args),
        PeerVerb::Info => PeerOp::Info(args),
        PeerVerb::Ping => PeerOp::Ping,
        PeerVerb::Pong => PeerOp::Pong,
        PeerVerb::Err => PeerOp::Err(args),
        _ => PeerOp::Ok,
    }
}
