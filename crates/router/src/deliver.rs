//! One message to everybody who wants it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use midge_wire::{Pub, encode};

use crate::account::Account;
use crate::conn::{Conn, ConnState, Direction, Kind};
use crate::interest::{MatchSet, SubRef, Target};
use crate::outbox::{Outbox, Pool};
use crate::reason::CloseReason;
use crate::worker::{Expired, Worker};

/// Frames from this size on are copied once for all receivers instead of once for each.
const SHARE_BYTES: usize = 16 * 1024;

/// A message and what its publisher said about delivering it.
pub(crate) struct Delivery<'a> {
    pub(crate) from: &'a Arc<Conn>,
    pub(crate) account: &'a Account,
    pub(crate) message: &'a Pub<'a>,
    /// Whether the publisher's own subscriptions count.
    pub(crate) echo: bool,
    /// Whether crowded receivers are passed over instead of holding the publisher back.
    pub(crate) skip_crowded: bool,
    pub(crate) now: Instant,
}

/// What has been sent of the message so far.
struct Sent<'a> {
    set: &'a MatchSet,
    /// The frame, once it has been copied for several receivers.
    shared: Option<Bytes>,
    msgs: u64,
    bytes: u64,
}

/// Where one receiver's bytes go, and what more room for them is made of.
struct Room<'a> {
    out: &'a mut Outbox,
    pool: &'a mut Pool,
}

/// What became of one target.
enum Outcome {
    /// The message waits in its outbox.
    Taken(Taken),
    /// It did not want it, or is gone.
    Passed,
    /// The message was one too many: it has been closed.
    Overflow,
}

/// What a trace shows of a message on its way out.
struct Traced {
    /// The line, without its end.
    line: Vec<u8>,
    /// Bytes of headers that were left out.
    stripped: usize,
    /// The sid, where this was the subscription's last message.
    ended: Option<Vec<u8>>,
}

struct Taken {
    /// Bytes that wait there now, and those that this message added.
    pending: usize,
    added: usize,
    /// Headers and payload.
    bytes: usize,
    /// Whether nobody had noted it for writing yet.
    fresh: bool,
    crowded: bool,
    /// What is to be shown, where somebody wants to see it.
    traced: Option<Box<Traced>>,
}

impl Delivery<'_> {
    /// Hands the message to every plain target and to one member of each queue group; to how many.
    pub(crate) fn run(&self, set: &MatchSet, worker: &mut Worker) -> u64 {
        let mut sent = Sent { set, shared: None, msgs: 0, bytes: 0 };
        for target in &set.plain {
            self.offer(target, &mut sent, worker);
        }
        for group in &set.groups {
            let first = worker.random_below(group.members.len());
            let (front, back) = group.members.split_at_checked(first).unwrap_or_default();
            for target in back.iter().chain(front) {
                if self.offer(target, &mut sent, worker) {
                    break;
                }
            }
        }
        worker.sent(self.account.index(), sent.msgs, sent.bytes);
        sent.msgs
    }

    /// Whether `target` took the message.
    #[inline]
    fn offer(&self, target: &Target, sent: &mut Sent<'_>, worker: &mut Worker) -> bool {
        let conn = &target.conn;
        if !self.echo && conn.cid() == self.from.cid() {
            return false;
        }
        match self.hand_over(target, sent, worker) {
            Outcome::Passed => false,
            Outcome::Overflow => {
                worker.counters.slow_pending += 1;
                worker.slow(self.account.index());
                if let Some(owner) = conn.owner() {
                    owner.wake();
                }
                false
            }
            Outcome::Taken(taken) => {
                worker.note(conn, taken.pending, taken.fresh, taken.added);
                if taken.crowded && self.from.kind() == Kind::Client {
                    worker.crowded = Some(conn.clone());
                }
                if let (Some(traced), Some(owner)) = (taken.traced, conn.owner()) {
                    owner.trace(Direction::Out, "", &traced.line);
                    owner.trace(
                        Direction::Out,
                        "MSG_PAYLOAD",
                        self.message.body().get(traced.stripped..).unwrap_or_default(),
                    );
                    if let Some(sid) = traced.ended {
                        owner.trace(Direction::Within, "DELSUB", &sid);
                    }
                }
                sent.msgs += 1;
                sent.bytes += taken.bytes as u64;
                true
            }
        }
    }

    #[inline]
    fn hand_over(&self, target: &Target, sent: &mut Sent<'_>, worker: &mut Worker) -> Outcome {
        let mut guard = target.conn.lock();
        let state = &mut *guard;
        if !state.is_open() {
            return Outcome::Passed;
        }
        let crowded = state.is_crowded();
        if crowded && self.skip_crowded && self.from.kind() == Kind::Client {
            return Outcome::Passed;
        }
        let Some(sub) = state.subs.get_mut(target.slot, target.serial) else { return Outcome::Passed };
        sub.delivered += 1;
        let ends = sub.max > 0 && sub.delivered >= sub.max;
        let before = state.out.pending();
        let with_headers = state.headers && self.message.header_len.unwrap_or(0) > 0;
        let mut waiting = 0;
        let bytes = match &mut state.mailbox {
            Some(mailbox) => {
                let bytes = mailbox.push(self.message, sub.sid.bytes(), self.from);
                waiting = mailbox.bytes();
                bytes
            }
            None => {
                let mut room = Room { out: &mut state.out, pool: worker.pool() };
                self.append(sub.sid.bytes(), with_headers, &mut room, sent)
            }
        };
        let traced = state.trace.then(|| self.traced(sub.sid.bytes(), with_headers, ends, sent.set));
        state.sent.msgs += 1;
        state.sent.bytes += bytes as u64;
        if ends {
            expire(target, state, worker);
        }
        if state.replies.is_some() && !self.message.reply.is_empty() {
            self.note_reply(state);
        }
        let pending = state.out.pending();
        if pending.max(waiting) > state.max_pending {
            state.close(CloseReason::SlowConsumerPendingBytes);
            return Outcome::Overflow;
        }
        let fresh = state.out.mark_dirty();
        Outcome::Taken(Taken { pending, added: pending - before, bytes, fresh, crowded, traced })
    }

    /// Remembers that the receiver may answer this request, if it may not publish there anyway.
    fn note_reply(&self, state: &mut ConnState) {
        let (Some(permissions), Some(replies)) = (&state.grant.permissions, &mut state.replies) else {
            return;
        };
        let reply = self.message.reply;
        // A request that is repeated while it may still be answered gets no further answers (as in the original).
        if let Some(rules) = permissions.rules().responses
            && !permissions.may_publish(reply)
            && !replies.take(reply, rules, self.now)
        {
            replies.note(reply, rules, self.now);
        }
    }

    /// Appends the message as one subscription sees it; how many bytes of headers and payload that is.
    #[inline]
    fn append(&self, sid: &[u8], with_headers: bool, room: &mut Room<'_>, sent: &mut Sent<'_>) -> usize {
        let Room { out, pool } = room;
        let message = self.message;
        let header_len = message.header_len.unwrap_or(0);
        let stripped = if with_headers { 0 } else { header_len };
        let frame = message.frame.get(stripped..).unwrap_or_default();
        let line = if with_headers { sent.set.line_with_headers() } else { sent.set.line() };
        let as_it_came = !message.onward.is_empty() && (message.header_len.is_none() || with_headers);
        let head = line.len() + sid.len() + message.reply.len() + 48;
        if frame.len() >= SHARE_BYTES && (sent.set.plain.len() > 1 || sent.shared.is_some()) {
            out.append(head, pool, |room| self.write_head(room, line, sid, with_headers));
            let shared = sent.shared.get_or_insert_with(|| Bytes::copy_from_slice(message.frame));
            out.share(shared.slice(stripped.min(shared.len())..), pool);
        } else if as_it_came {
            let len = line.len() + sid.len() + 1 + message.onward.len();
            out.append(len, pool, |room| {
                room.extend_from_slice(line);
                room.extend_from_slice(sid);
                room.push(b' ');
                room.extend_from_slice(message.onward);
            });
        } else {
            out.append(head + frame.len(), pool, |room| {
                self.write_head(room, line, sid, with_headers);
                room.extend_from_slice(frame);
            });
        }
        frame.len().saturating_sub(2)
    }

    /// The line before the frame, line end included.
    fn write_head(&self, room: &mut Vec<u8>, line: &[u8], sid: &[u8], with_headers: bool) {
        let message = self.message;
        encode::parts(room, &[line, sid, b" "]);
        if !message.reply.is_empty() {
            encode::parts(room, &[message.reply, b" "]);
        }
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

    /// What a trace shows.
    fn traced(&self, sid: &[u8], with_headers: bool, ends: bool, set: &MatchSet) -> Box<Traced> {
        let mut line = Vec::new();
        let start = if with_headers { set.line_with_headers() } else { set.line() };
        self.write_head(&mut line, start, sid, with_headers);
        line.truncate(line.len() - 2);
        let stripped = if with_headers { 0 } else { self.message.header_len.unwrap_or(0) };
        Box::new(Traced { line, stripped, ended: ends.then(|| sid.to_vec()) })
    }
}

/// Takes a subscription that has had its last message out of its connection. The interest table follows when the
/// connection is unlocked (see [`Worker::expired`]).
fn expire(target: &Target, state: &mut ConnState, worker: &mut Worker) {
    let Some(sub) = state.subs.remove(target.slot) else { return };
    let at = SubRef { conn: target.conn.index(), slot: target.slot, serial: sub.serial, queue: sub.queue };
    worker.expired.push(Expired { account: state.grant.account.clone(), at, sub });
}
