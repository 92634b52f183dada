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

/// Which kind of connection another server is at the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A server of the same cluster.
    Route,
    /// A leafnode, or its hub.
    Leaf,
}

/// Appends `RS+` or, for a leafnode's interest and on a leafnode connection, `LS+`.
pub fn wanted(out: &mut Vec<u8>, peer: Peer, interest: &crate::Interest<'_>) {
    leading(out, peer, interest, b"S+ ");
    if !interest.queue.is_empty() {
        parts(out, &[b" ", interest.queue, b" "]);
        decimal(out, u64::from(interest.weight));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `RS-` or, for a leafnode's interest and on a leafnode connection, `LS-`.
pub fn unwanted(out: &mut Vec<u8>, peer: Peer, interest: &crate::Interest<'_>) {
    leading(out, peer, interest, b"S- ");
    if !interest.queue.is_empty() {
        parts(out, &[b" ", interest.queue]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `LS-` for a route that wants no name of the leafnode's cluster there (nats-server before 2.10.23).
pub fn unwanted_of_leaf(out: &mut Vec<u8>, interest: &crate::Interest<'_>) {
    out.extend_from_slice(b"LS- ");
    optional(out, interest.account);
    out.extend_from_slice(interest.subject);
    if !interest.queue.is_empty() {
        parts(out, &[b" ", interest.queue]);
    }
    out.extend_from_slice(b"\r\n");
}

fn leading(out: &mut Vec<u8>, peer: Peer, interest: &crate::Interest<'_>, name: &[u8]) {
    let from_leaf = peer == Peer::Leaf || !interest.origin.is_empty();
    parts(out, &[if from_leaf { b"L" } else { b"R" }, name]);
    optional(out, interest.origin);
    optional(out, interest.account);
    out.extend_from_slice(interest.subject);
}

/// Where a message for another server goes: the words of its line that are no sizes. Empty ones are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoutedTo<'a> {
    /// The cluster of the leafnode that published it, on a route.
    pub origin: &'a [u8],
    /// The account, on a route that serves several.
    pub account: &'a [u8],
    /// The subject that the message was published on.
    pub subject: &'a [u8],
    /// The reply subject.
    pub reply: &'a [u8],
    /// The queue groups of which one member each shall get it.
    pub queues: &'a [&'a [u8]],
}

/// Appends `RMSG`, `LMSG` or `HMSG`.
pub fn routed(out: &mut Vec<u8>, peer: Peer, to: RoutedTo<'_>, headers: &[u8], payload: &[u8]) {
    let from_leaf = peer == Peer::Route && !to.origin.is_empty();
    let name: &[u8] = match peer {
        _ if from_leaf => b"LMSG ",
        _ if !headers.is_empty() => b"HMSG ",
        Peer::Route => b"RMSG ",
        Peer::Leaf => b"LMSG ",
    };
    out.extend_from_slice(name);
    optional(out, to.origin);
    optional(out, to.account);
    parts(out, &[to.subject, b" "]);
    if !to.queues.is_empty() {
        out.extend_from_slice(if to.reply.is_empty() { b"| " } else { b"+ " });
    }
    optional(out, to.reply);
    to.queues.iter().for_each(|queue| optional(out, queue));
    if from_leaf || !headers.is_empty() {
        decimal(out, headers.len() as u64);
        out.push(b' ');
    }
    decimal(out, (headers.len() + payload.len()) as u64);
    parts(out, &[b"\r\n", headers, payload, b"\r\n"]);
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
