//! What a server says to a client.

use super::{Found, Grammar, Line, LineEnds, Shape, Words, parse_size, spelled};
use crate::op::{Msg, ServerOp};
use crate::{Limits, WireError};

/// The server's side of the client protocol.
#[derive(Debug, Clone, Copy)]
pub struct ServerGrammar;

/// The operations of [`ServerGrammar`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the operation of its name")]
pub enum ServerVerb {
    Info,
    Msg,
    HMsg,
    Ping,
    Pong,
    Ok,
    Err,
}

/// A `MSG` or `HMSG` whose payload is still to come; the fields are those of [`Msg`].
#[derive(Debug, Clone, Copy)]
pub struct MsgHead<'a> {
    subject: &'a [u8],
    sid: &'a [u8],
    reply: &'a [u8],
    header_len: Option<usize>,
    size_digits: &'a [u8],
}

impl Grammar for ServerGrammar {
    type Verb = ServerVerb;
    type Head<'a> = MsgHead<'a>;
    type Op<'a> = ServerOp<'a>;
    type Message<'a> = Msg<'a>;

    fn verb(head: &[u8]) -> Found<ServerVerb> {
        let Some(first) = head.first() else { return Found::Partial };
        match first.to_ascii_lowercase() {
            b'm' => spelled(head, b"msg", ServerVerb::Msg),
            b'h' => spelled(head, b"hmsg", ServerVerb::HMsg),
            b'i' => spelled(head, b"info", ServerVerb::Info),
            b'p' => match head.get(1).map(u8::to_ascii_lowercase) {
                None => Found::Partial,
                Some(b'i') => spelled(head, b"ping", ServerVerb::Ping),
                Some(_) => spelled(head, b"pong", ServerVerb::Pong),
            },
            b'+' => spelled(head, b"+ok", ServerVerb::Ok),
            b'-' => spelled(head, b"-err", ServerVerb::Err),
            _ => Found::Unknown,
        }
    }

    fn shape(verb: ServerVerb) -> Shape {
        match verb {
            ServerVerb::Ping | ServerVerb::Pong | ServerVerb::Ok => Shape::Junk,
            ServerVerb::Info => Shape::LooseArgs,
            ServerVerb::Msg | ServerVerb::HMsg | ServerVerb::Err => Shape::Args,
        }
    }

    fn line<'a>(
        verb: ServerVerb,
        args: &'a [u8],
        limits: &Limits,
    ) -> Result<Line<MsgHead<'a>, ServerOp<'a>>, WireError> {
        match verb {
            ServerVerb::Msg => message(args, limits),
            ServerVerb::HMsg => message_with_headers(args, limits),
            ServerVerb::Info => Ok(Line::Op(ServerOp::Info(args))),
            ServerVerb::Ping => Ok(Line::Op(ServerOp::Ping)),
            ServerVerb::Pong => Ok(Line::Op(ServerOp::Pong)),
            ServerVerb::Ok => Ok(Line::Op(ServerOp::Ok)),
            ServerVerb::Err => Ok(Line::Op(ServerOp::Err(args))),
        }
    }

    fn message<'a>(head: MsgHead<'a>, whole: &'a [u8], line: LineEnds) -> ServerOp<'a> {
        ServerOp::Msg(Msg {
            subject: head.subject,
            sid: head.sid,
            reply: head.reply,
            header_len: head.header_len,
            size_digits: head.size_digits,
            frame: whole.get(line.line..).unwrap_or_default(),
        })
    }
}

fn message<'a>(args: &'a [u8], limits: &Limits) -> Result<Line<MsgHead<'a>, ServerOp<'a>>, WireError> {
    const OP: &str = "MSG";
    let words = Words::<4>::split(args, false).ok_or(WireError::Arguments { op: OP })?;
    let (subject, sid, reply, size_digits) = match *words.as_slice() {
        [subject, sid, size] => (subject, sid, &[][..], size),
        [subject, sid, reply, size] => (subject, sid, reply, size),
        _ => return Err(WireError::Arguments { op: OP }),
    };
    let size = parse_size(size_digits).ok_or(WireError::Size { op: OP })?;
    check_payload(size, limits)?;
    Ok(Line::Message(MsgHead { subject, sid, reply, header_len: None, size_digits }, size))
}

fn message_with_headers<'a>(
    args: &'a [u8],
    limits: &Limits,
) -> Result<Line<MsgHead<'a>, ServerOp<'a>>, WireError> {
    const OP: &str = "HMSG";
    let words = Words::<5>::split(args, false).ok_or(WireError::Arguments { op: OP })?;
    let (subject, sid, reply, header_digits, size_digits) = match *words.as_slice() {
        [subject, sid, header, size] => (subject, sid, &[][..], header, size),
        [subject, sid, reply, header, size] => (subject, sid, reply, header, size),
        _ => return Err(WireError::Arguments { op: OP }),
    };
    let header = parse_size(header_digits).ok_or(WireError::Size { op: OP })?;
    let size = parse_size(size_digits).ok_or(WireError::Size { op: OP })?;
    if header > size {
        return Err(WireError::HeaderSize { header, total: size });
    }
    check_payload(size, limits)?;
    Ok(Line::Message(MsgHead { subject, sid, reply, header_len: Some(header), size_digits }, size))
}

fn check_payload(size: usize, limits: &Limits) -> Result<(), WireError> {
    if size > limits.max_payload {
        return Err(WireError::PayloadTooLarge { size, limit: limits.max_payload });
    }
    Ok(())
}
