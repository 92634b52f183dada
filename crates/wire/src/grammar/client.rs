//! What a client says to a server.

use super::{Found, Grammar, Line, LineEnds, Shape, Strict, Words, parse_size, reply_and_sizes, spelled};
use crate::op::{ClientOp, Pub, Sub, Unsub};
use crate::{Limits, WireError};

/// The client's side of the client protocol.
#[derive(Debug, Clone, Copy)]
pub struct ClientGrammar;

/// The operations of [`ClientGrammar`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the operation of its name")]
pub enum ClientVerb {
    Pub,
    HPub,
    Sub,
    Unsub,
    Ping,
    Pong,
    Connect,
    Info,
    Ok,
    Err,
}

/// A `PUB` or `HPUB` whose payload is still to come; the fields are those of [`Pub`].
#[derive(Debug, Clone, Copy)]
pub struct PubHead<'a> {
    subject: &'a [u8],
    reply: &'a [u8],
    header_len: Option<usize>,
    header_digits: &'a [u8],
    size_digits: &'a [u8],
    plain: bool,
}

impl Grammar for ClientGrammar {
    type Verb = ClientVerb;
    type Head<'a> = PubHead<'a>;
    type Op<'a> = ClientOp<'a>;
    type Message<'a> = Pub<'a>;

    fn verb(head: &[u8]) -> Found<ClientVerb> {
        let Some(first) = head.first() else { return Found::Partial };
        match first.to_ascii_lowercase() {
            b'p' => match head.get(1).map(u8::to_ascii_lowercase) {
                None => Found::Partial,
                Some(b'u') => spelled(head, b"pub", ClientVerb::Pub),
                Some(b'i') => spelled(head, b"ping", ClientVerb::Ping),
                Some(_) => spelled(head, b"pong", ClientVerb::Pong),
            },
            b'h' => spelled(head, b"hpub", ClientVerb::HPub),
            b's' => spelled(head, b"sub", ClientVerb::Sub),
            b'u' => spelled(head, b"unsub", ClientVerb::Unsub),
            b'c' => spelled(head, b"connect", ClientVerb::Connect),
            b'i' => spelled(head, b"info", ClientVerb::Info),
            b'+' => spelled(head, b"+ok", ClientVerb::Ok),
            b'-' => spelled(head, b"-err", ClientVerb::Err),
            _ => Found::Unknown,
        }
    }

    fn shape(verb: ClientVerb) -> Shape {
        match verb {
            ClientVerb::Ping | ClientVerb::Pong | ClientVerb::Ok => Shape::Junk,
            ClientVerb::Connect | ClientVerb::Info => Shape::LooseArgs,
            ClientVerb::Pub | ClientVerb::HPub | ClientVerb::Sub | ClientVerb::Unsub | ClientVerb::Err => {
                Shape::Args
            }
        }
    }

    fn line<'a>(
        verb: ClientVerb,
        args: &'a [u8],
        limits: &Limits,
    ) -> Result<Line<PubHead<'a>, ClientOp<'a>>, WireError> {
        match verb {
            ClientVerb::Pub => publish(args, limits),
            ClientVerb::HPub => publish_with_headers(args, limits),
            ClientVerb::Sub => subscribe(args).map(|sub| Line::Op(ClientOp::Sub(sub))),
            ClientVerb::Unsub => unsubscribe(args).map(|unsub| Line::Op(ClientOp::Unsub(unsub))),
            ClientVerb::Ping => Ok(Line::Op(ClientOp::Ping)),
            ClientVerb::Pong => Ok(Line::Op(ClientOp::Pong)),
            ClientVerb::Ok => Ok(Line::Op(ClientOp::Ok)),
            ClientVerb::Err => Ok(Line::Op(ClientOp::Err(args))),
            ClientVerb::Info => Ok(Line::Op(ClientOp::Info(args))),
            ClientVerb::Connect => Ok(Line::Op(ClientOp::Connect(args))),
        }
    }

    #[inline(always)]
    fn message_at_once<'a>(input: &'a [u8], limits: &Limits) -> Option<(Pub<'a>, usize)> {
        let (name, headers) = if input.starts_with(b"PUB ") {
            (4, false)
        } else if input.starts_with(b"HPUB ") && limits.headers {
            (5, true)
        } else {
            return None;
        };
        let args = input.get(name..)?;
        let mut line = Strict(args);
        let subject = line.word()?;
        let onward = line.0;
        let (reply, sizes) = reply_and_sizes(&mut line, headers)?;
        let frame = line.0.get(..sizes.size + 2)?;
        if !sizes.fit(args.len() - line.0.len() - 2, limits) || !frame.ends_with(b"\r\n") {
            return None;
        }
        let onward = onward.get(..onward.len() - line.0.len() + frame.len())?;
        let header_len = headers.then_some(sizes.header_len);
        let (header_digits, size_digits) = (sizes.header_digits, sizes.size_digits);
        let used = name + subject.len() + 1 + onward.len();
        Some((Pub { subject, reply, header_len, header_digits, size_digits, frame, onward }, used))
    }

    fn message<'a>(head: PubHead<'a>, whole: &'a [u8], line: LineEnds) -> ClientOp<'a> {
        let onward =
            if head.plain && line.line == line.args + 2 { head.subject.len() + 1 } else { whole.len() };
        ClientOp::Pub(Pub {
            subject: head.subject,
            reply: head.reply,
            header_len: head.header_len,
            header_digits: head.header_digits,
            size_digits: head.size_digits,
            frame: whole.get(line.line..).unwrap_or_default(),
            onward: whole.get(onward..).unwrap_or_default(),
        })
    }
}

fn publish<'a>(args: &'a [u8], limits: &Limits) -> Result<Line<PubHead<'a>, ClientOp<'a>>, WireError> {
    const OP: &str = "PUB";
    let words = Words::<3>::split(args, false).ok_or(WireError::Arguments { op: OP })?;
    let (subject, reply, size_digits) = match *words.as_slice() {
        [subject, size] => (subject, &[][..], size),
        [subject, reply, size] => (subject, reply, size),
        _ => return Err(WireError::Arguments { op: OP }),
    };
    let size = parse_size(size_digits).ok_or(WireError::Size { op: OP })?;
    check_payload(size, limits)?;
    let head =
        PubHead { subject, reply, header_len: None, header_digits: &[], size_digits, plain: words.plain };
    Ok(Line::Message(head, size))
}

fn publish_with_headers<'a>(
    args: &'a [u8],
    limits: &Limits,
) -> Result<Line<PubHead<'a>, ClientOp<'a>>, WireError> {
    const OP: &str = "HPUB";
    if !limits.headers {
        return Err(WireError::HeadersNotNegotiated);
    }
    let words = Words::<4>::split(args, false).ok_or(WireError::Arguments { op: OP })?;
    let (subject, reply, header_digits, size_digits) = match *words.as_slice() {
        [subject, header, size] => (subject, &[][..], header, size),
        [subject, reply, header, size] => (subject, reply, header, size),
        _ => return Err(WireError::Arguments { op: OP }),
    };
    let header = parse_size(header_digits).ok_or(WireError::Size { op: OP })?;
    let size = parse_size(size_digits).ok_or(WireError::Size { op: OP })?;
    if header > size {
        return Err(WireError::HeaderSize { header, total: size });
    }
    check_payload(size, limits)?;
    let head =
        PubHead { subject, reply, header_len: Some(header), header_digits, size_digits, plain: words.plain };
    Ok(Line::Message(head, size))
}

fn check_payload(size: usize, limits: &Limits) -> Result<(), WireError> {
    if size > limits.max_payload {
        return Err(WireError::PayloadTooLarge { size, limit: limits.max_payload });
    }
    Ok(())
}

fn subscribe(args: &[u8]) -> Result<Sub<'_>, WireError> {
    let words = Words::<3>::split(args, true).ok_or(WireError::Arguments { op: "SUB" })?;
    match *words.as_slice() {
        [subject, sid] => Ok(Sub { subject, queue: &[], sid }),
        [subject, queue, sid] => Ok(Sub { subject, queue, sid }),
        _ => Err(WireError::Arguments { op: "SUB" }),
    }
}

fn unsubscribe(args: &[u8]) -> Result<Unsub<'_>, WireError> {
    let words = Words::<2>::split(args, true).ok_or(WireError::Arguments { op: "UNSUB" })?;
    match *words.as_slice() {
        [sid] => Ok(Unsub { sid, max: 0 }),
        [sid, max] => Ok(Unsub { sid, max: parse_size(max).unwrap_or(0) as u64 }),
        _ => Err(WireError::Arguments { op: "UNSUB" }),
    }
}
