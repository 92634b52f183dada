//! From operations to bytes: plain functions that append to a buffer.
//!
//! They allocate only by growing the buffer that they are given.

/// `PING` with its line end.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG` with its line end.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK` with its line end.
pub const OK: &[u8] = b"+OK\r\n";

/// Appends `-ERR '<text>'`.
pub fn err(out: &mut Vec<u8>, text: &str) {
    parts(out, &[b"-ERR '", text.as_bytes(), b"'\r\n"]);
}

/// Appends `INFO <json>` as a nats-server does, with a blank before the line's end.
pub fn info(out: &mut Vec<u8>, json: &[u8]) {
    parts(out, &[b"INFO ", json, b" \r\n"]);
}

/// Appends `CONNECT <json>`.
pub fn connect(out: &mut Vec<u8>, json: &[u8]) {
    parts(out, &[b"CONNECT ", json, b"\r\n"]);
}

/// Appends `SUB <subject> [queue] <sid>`.
pub fn sub(out: &mut Vec<u8>, sub: &crate::Sub<'_>) {
    parts(out, &[b"SUB ", sub.subject, b" "]);
    optional(out, sub.queue);
    parts(out, &[sub.sid, b"\r\n"]);
}

/// Appends `UNSUB <sid> [max]`; no maximum where it is zero.
pub fn unsub(out: &mut Vec<u8>, unsub: &crate::Unsub<'_>) {
    parts(out, &[b"UNSUB ", unsub.sid]);
    if unsub.max > 0 {
        out.push(b' ');
        decimal(out, unsub.max);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `PUB` or, where `headers` is not empty, `HPUB`.
pub fn publish(out: &mut Vec<u8>, subject: &[u8], reply: &[u8], headers: &[u8], payload: &[u8]) {
    let size = (headers.len() + payload.len()) as u64;
    parts(out, &[if headers.is_empty() { b"PUB ".as_slice() } else { b"HPUB " }, subject, b" "]);
    optional(out, reply);
    if !headers.is_empty() {
        decimal(out, headers.len() as u64);
        out.push(b' ');
    }
    decimal(out, size);
    parts(out, &[b"\r\n", headers, payload, b"\r\n"]);
}

/// Appends `MSG` or, where `headers` is not empty, `HMSG`.
pub fn msg(out: &mut Vec<u8>, to: MsgTo<'_>, headers: &[u8], payload: &[u8]) {
    let size = (headers.len() + payload.len()) as u64;
    parts(
        out,
        &[if headers.is_empty() { b"MSG ".as_slice() } else { b"HMSG " }, to.subject, b" ", to.sid, b" "],
    );
    optional(out, to.reply);
    if !headers.is_empty() {
        decimal(out, headers.len() as u64);
        out.push(b' ');
    }
    decimal(out, size);
    parts(out, &[b"\r\n", headers, payload, b"\r\n"]);
}

/// Where a message goes: the words of a `MSG` line that are no sizes.
#[derive(Debug, Clone, Copy)]
pub struct MsgTo<'a> {
    /// The subject that the message was published on.
    pub subject: &'a [u8],
    /// The subscription that it is for.
    pub sid: &'a [u8],
    /// The reply subject; empty for none.
    pub reply: &'a [u8],
}

/// Appends a number in decimal.
pub fn decimal(out: &mut Vec<u8>, n: u64) {
    let mut digits = [0_u8; 20];
    let mut rest = n;
    let mut len = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
        len += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - len..).unwrap_or_default());
}

/// Appends several pieces after reserving room for all of them at once.
#[inline]
pub fn parts(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    out.reserve(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

fn optional(out: &mut Vec<u8>, word: &[u8]) {
    if !word.is_empty() {
        parts(out, &[word, b" "]);
    }
}
