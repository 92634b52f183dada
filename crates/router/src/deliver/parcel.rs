//! One message, as its receivers get it.

use bytes::Bytes;
use midge_wire::Pub;
use midge_wire::encode::{self, Peer as Language};

use super::abroad::Listed;
use crate::conn::{Conn, Direction, Sent};
use crate::interest::{Bundle, MatchSet};
use crate::outbox::{Outbox, Pool};
use crate::subs::Sid;

/// Frames from this size on are copied once for all receivers instead of once for each.
pub(super) const SHARE_BYTES: usize = 16 * 1024;

/// A message on its way.
pub(super) struct Parcel<'a> {
    pub(super) message: &'a Pub<'a>,
    pub(super) set: &'a MatchSet,
    /// Whether what is behind the subject can be sent as it came.
    as_it_came: bool,
    /// What clients see in place of subject and reply subject, if something else than servers.
    shown: Option<(&'a [u8], &'a [u8])>,
    /// The cluster of the leafnode that it came from; empty for none.
    pub(super) origin: &'a [u8],
    /// The frame, once it has been copied for several receivers.
    shared: Option<Bytes>,
    /// How often it has been handed over.
    pub(super) sent: Sent,
}

/// Where one receiver's bytes go, and what more room for them is made of.
pub(super) struct Room<'a> {
    pub(super) out: &'a mut Outbox,
    pub(super) pool: &'a mut Pool,
}

/// What a trace shows of a message on its way out.
pub(super) struct Traced {
    /// The line, without its end.
    line: Vec<u8>,
    /// Bytes of headers that were left out.
    stripped: usize,
    /// The sid, where this was the subscription's last message.
    ended: Option<Vec<u8>>,
}

impl<'a> Parcel<'a> {
    #[inline(always)]
    pub(super) fn new(message: &'a Pub<'a>, set: &'a MatchSet) -> Self {
        let shares = message.frame.len() >= SHARE_BYTES && set.is_for_several();
        let as_it_came = !message.onward.is_empty() && !shares;
        Self { message, set, as_it_came, shown: None, origin: &[], shared: None, sent: Sent::default() }
    }

    /// Sees to it that clients get what a stream holds as it was published. Between servers it travels on the subject
    /// where it is to be delivered, and its own subject stands behind the place for acknowledging it:
    /// `$JS.ACK.….@subject`.
    #[cold]
    pub(super) fn show_as_stored(&mut self) {
        let reply = self.message.reply;
        if !reply.starts_with(b"$JS.ACK.") {
            return;
        }
        // What precedes the mark has nine tokens at least, and they may hold one themselves.
        let behind_tokens = reply.iter().enumerate().filter(|(_, byte)| **byte == b'.').nth(7);
        let mark = behind_tokens
            .and_then(|(start, _)| Some(start + reply.get(start..)?.iter().position(|byte| *byte == b'@')?));
        if let Some((place, subject)) = mark.and_then(|mark| reply.split_at_checked(mark)) {
            self.shown = Some((subject.get(1..).unwrap_or_default(), place));
            self.as_it_came = false;
        }
    }

    /// The beginning of a line for another server, and the subject with a blank.
    fn routed_start(&self, bundle: &Bundle, with_headers: bool) -> [&[u8]; 6] {
        let origin = if bundle.takes_origin() { self.origin } else { &[] };
        let name: &[u8] = match bundle.language() {
            Language::Route if !origin.is_empty() => b"LMSG ",
            _ if with_headers => b"HMSG ",
            Language::Route => b"RMSG ",
            Language::Leaf => b"LMSG ",
        };
        let account = if bundle.names_account() { self.set.account_name() } else { &[] };
        let blank = |word: &[u8]| -> &[u8] { if word.is_empty() { b"" } else { b" " } };
        [name, origin, blank(origin), account, blank(account), self.set.routed_line()]
    }

    /// Appends the message for another server, and for one member of each of these groups there; how many bytes of
    /// headers and payload that is.
    #[inline(always)]
    pub(super) fn append_routed(
        &mut self,
        bundle: &Bundle,
        groups: Listed<'_>,
        with_headers: bool,
        room: &mut Room<'_>,
    ) -> usize {
        let message = self.message;
        let stripped = !with_headers && message.header_len.is_some();
        if !self.as_it_came || stripped || !groups.is_empty() || !self.origin.is_empty() {
            return self.append_routed_apart(bundle, groups, with_headers, room);
        }
        let start = self.routed_start(bundle, with_headers);
        let len = start.iter().map(|piece| piece.len()).sum::<usize>() + message.onward.len();
        room.out.append(len, room.pool, |room| {
            start.iter().for_each(|piece| room.extend_from_slice(piece));
            room.extend_from_slice(message.onward);
        });
        message.frame.len().saturating_sub(2)
    }

    /// The same, where the line must be written anew or the frame is shared with other receivers.
    #[inline(never)]
    pub(super) fn append_routed_apart(
        &mut self,
        bundle: &Bundle,
        groups: Listed<'_>,
        with_headers: bool,
        room: &mut Room<'_>,
    ) -> usize {
        let Room { out, pool } = room;
        let stripped = if with_headers { 0 } else { self.message.header_len.unwrap_or(0) };
        let frame = self.message.frame.get(stripped..).unwrap_or_default();
        let words = self.routed_start(bundle, with_headers).iter().map(|piece| piece.len()).sum::<usize>();
        let names = groups.names().map(|name| name.len() + 1).sum::<usize>();
        let head = words + self.message.reply.len() + names + 48;
        if frame.len() >= SHARE_BYTES && self.set.is_for_several() {
            out.append(head, pool, |room| self.write_routed_head(room, bundle, groups, with_headers));
            let shared = self.shared.get_or_insert_with(|| Bytes::copy_from_slice(self.message.frame));
            out.share(shared.slice(stripped.min(shared.len())..), pool);
        } else {
            out.append(head + frame.len(), pool, |room| {
                self.write_routed_head(room, bundle, groups, with_headers);
                room.extend_from_slice(frame);
            });
        }
        frame.len().saturating_sub(2)
    }

    /// The line before the frame for another server, line end included.
    pub(super) fn write_routed_head(
        &self,
        line: &mut Vec<u8>,
        bundle: &Bundle,
        groups: Listed<'_>,
        with_headers: bool,
    ) {
        let message = self.message;
        encode::parts(line, &self.routed_start(bundle, with_headers));
        if !groups.is_empty() {
            line.extend_from_slice(if message.reply.is_empty() { b"| " } else { b"+ " });
        }
        if !message.reply.is_empty() {
            encode::parts(line, &[message.reply, b" "]);
        }
        groups.names().for_each(|name| encode::parts(line, &[name, b" "]));
        if bundle.takes_origin() && !self.origin.is_empty() && !(with_headers && message.header_len.is_some())
        {
            // Such a line has a size of headers in any case.
            line.extend_from_slice(b"0 ");
        }
        self.write_sizes(line, with_headers);
    }

    /// Shows a message on its way to another server to whoever wants to see it.
    #[cold]
    pub(super) fn show_routed(&self, bundle: &Bundle, groups: Listed<'_>, with_headers: bool, conn: &Conn) {
        let Some(owner) = conn.owner() else { return };
        let mut line = Vec::new();
        self.write_routed_head(&mut line, bundle, groups, with_headers);
        owner.trace(Direction::Out, "", line.trim_ascii_end());
        owner.trace(Direction::Out, "MSG_PAYLOAD", self.message.body());
    }

    /// Appends the message as one subscription sees it; how many bytes of headers and payload that is.
    #[inline(always)]
    pub(super) fn append(&mut self, sid: &Sid, with_headers: bool, room: &mut Room<'_>) -> usize {
        let message = self.message;
        let line = match (message.header_len.is_some(), with_headers) {
            _ if !self.as_it_came => return self.append_apart(sid.bytes(), with_headers, room),
            (true, false) => return self.append_apart(sid.bytes(), false, room),
            (true, true) => self.set.line_with_headers(),
            (false, _) => self.set.line(),
        };
        room.out.append(line.len() + sid.room() + message.onward.len(), room.pool, |room| {
            room.extend_from_slice(line);
            sid.put(room);
            room.extend_from_slice(message.onward);
        });
        message.frame.len().saturating_sub(2)
    }

    /// The same, where the line must be written anew or the frame is shared with other receivers.
    #[inline(never)]
    pub(super) fn append_apart(&mut self, sid: &[u8], with_headers: bool, room: &mut Room<'_>) -> usize {
        let Room { out, pool } = room;
        let message = self.message;
        let stripped = if with_headers { 0 } else { message.header_len.unwrap_or(0) };
        let frame = message.frame.get(stripped..).unwrap_or_default();
        let line = if with_headers { self.set.line_with_headers() } else { self.set.line() };
        let shown = self.shown.map_or(0, |(subject, _)| subject.len());
        let head = line.len() + shown + sid.len() + message.reply.len() + 48;
        if frame.len() >= SHARE_BYTES && self.set.is_for_several() {
            out.append(head, pool, |room| self.write_head(room, line, sid, with_headers));
            let shared = self.shared.get_or_insert_with(|| Bytes::copy_from_slice(message.frame));
            out.share(shared.slice(stripped.min(shared.len())..), pool);
        } else {
            out.append(head + frame.len(), pool, |room| {
                self.write_head(room, line, sid, with_headers);
                room.extend_from_slice(frame);
            });
        }
        frame.len().saturating_sub(2)
    }

    /// The line before the frame, line end included.
    pub(super) fn write_head(&self, room: &mut Vec<u8>, line: &[u8], sid: &[u8], with_headers: bool) {
        let reply = match self.shown {
            Some((subject, reply)) => {
                let name: &[u8] = if with_headers { b"HMSG " } else { b"MSG " };
                encode::parts(room, &[name, subject, b" ", sid, b" "]);
                reply
            }
            None => {
                encode::parts(room, &[line, sid, b" "]);
                self.message.reply
            }
        };
        if !reply.is_empty() {
            encode::parts(room, &[reply, b" "]);
        }
        self.write_sizes(room, with_headers);
    }

    /// The end of the line before the frame.
    pub(super) fn write_sizes(&self, room: &mut Vec<u8>, with_headers: bool) {
        let message = self.message;
        match message.header_len {
            Some(_) if with_headers => {
                encode::parts(room, &[message.header_digits, b" ", message.size_digits]);
            }
            Some(stripped) if stripped > 0 => {
                encode::decimal(room, (message.body().len().saturating_sub(stripped)) as u64);
            }
            _ => room.extend_from_slice(message.size_digits),
        }
        room.extend_from_slice(b"\r\n");
    }

    /// Shows a message on its way out to whoever wants to see it.
    #[cold]
    pub(super) fn show(&self, traced: &Traced, conn: &Conn) {
        let Some(owner) = conn.owner() else { return };
        owner.trace(Direction::Out, "", &traced.line);
        let body = self.message.body().get(traced.stripped..).unwrap_or_default();
        owner.trace(Direction::Out, "MSG_PAYLOAD", body);
        if let Some(sid) = &traced.ended {
            owner.trace(Direction::Within, "DELSUB", sid);
        }
    }

    /// What a trace shows.
    #[cold]
    pub(super) fn traced(&self, sid: &[u8], with_headers: bool, ends: bool) -> Box<Traced> {
        let mut line = Vec::new();
        let start = if with_headers { self.set.line_with_headers() } else { self.set.line() };
        self.write_head(&mut line, start, sid, with_headers);
        line.truncate(line.len() - 2);
        let stripped = if with_headers { 0 } else { self.message.header_len.unwrap_or(0) };
        Box::new(Traced { line, stripped, ended: ends.then(|| sid.to_vec()) })
    }
}
