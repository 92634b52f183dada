//! One message to everybody who wants it.

use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use bytes::Bytes;
use midge_wire::{Pub, encode};

use crate::conn::{Conn, ConnState, Direction, Kind, Sent};
use crate::interest::{Group, MatchSet, Target};
use crate::outbox::{Outbox, Pool};
use crate::subs::Sid;
use crate::sync::MutexGuard;
use crate::worker::{Expired, Worker};

/// Frames from this size on are copied once for all receivers instead of once for each.
const SHARE_BYTES: usize = 16 * 1024;

/// Most messages that are handed over together: as many as a `u32` has bits.
const LENGTH: usize = u32::BITS as usize;
/// Bytes of a line behind the subject, at most, if there is no reply subject.
const HEAD: usize = 300;

/// What a publisher's messages have in common.
pub(crate) struct Delivery<'a> {
    pub(crate) from: &'a Arc<Conn>,
    /// Whether the publisher's own subscriptions count.
    pub(crate) echo: bool,
    /// Whether crowded receivers are passed over instead of holding the publisher back.
    pub(crate) skip_crowded: bool,
    pub(crate) now: Instant,
}

/// A message on its way.
struct Parcel<'a> {
    message: &'a Pub<'a>,
    set: &'a MatchSet,
    /// Whether what is behind the subject can be sent as it came.
    as_it_came: bool,
    /// The frame, once it has been copied for several receivers.
    shared: Option<Bytes>,
    /// How often it has been handed over.
    sent: Sent,
}

/// Where one receiver's bytes go, and what more room for them is made of.
struct Room<'a> {
    out: &'a mut Outbox,
    pool: &'a mut Pool,
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

/// What one member of a queue group gets of a train.
struct Share<'g> {
    target: &'g Target,
    state: MutexGuard<'g, ConnState>,
    /// The messages: one bit for each of the train.
    bits: u32,
}

impl Delivery<'_> {
    /// Hands messages on one subject to the receivers of a set in which each is another connection (see
    /// [`MatchSet::is_one_each`]); how often that was. The caller counts (see [`Worker::sent`]).
    ///
    /// Receiver by receiver and not message by message: each is locked once, and what it keeps is brought into the
    /// processor's cache once. Nobody can tell, because nobody gets two copies of a message.
    pub(crate) fn run_all(&self, train: &Train<'_>, set: &MatchSet, worker: &mut Worker) -> Sent {
        let mut sent = Sent::default();
        if train.is_empty() {
            return sent;
        }
        let most = train.most(set);
        for target in &set.plain {
            let mut state = target.conn.lock();
            sent += if self.takes_all(target, &mut state, most) {
                load(target, state, train.iter(), set, worker)
            } else {
                drop(state);
                self.offer_each(target, train, set, worker)
            };
        }
        for group in &set.groups {
            sent += self.share_out(group, train, set, worker);
        }
        sent
    }

    /// Whether `target` takes that many bytes of messages, and nothing can happen to it meanwhile.
    #[inline(always)]
    fn takes_all(&self, target: &Target, state: &mut ConnState, most: usize) -> bool {
        (self.echo || target.conn.cid() != self.from.cid())
            && state.has_room_for(most)
            && state.mailbox.is_none()
            && !state.trace
            && state.subs.get_mut(target.slot, target.serial).is_some_and(|sub| sub.max == 0)
    }

    /// Hands each message to one member, any of them, and to another one where that does not take it.
    #[inline(never)]
    fn share_out(&self, group: &Group, train: &Train<'_>, set: &MatchSet, worker: &mut Worker) -> Sent {
        let mut sent = Sent::default();
        let chosen: ArrayVec<u32, LENGTH> =
            train.iter().map(|_| worker.random_below(group.members.len()) as u32).collect();
        if let Some(shares) = self.shares(group, &chosen, train.most(set)) {
            for Share { target, state, bits } in shares {
                let its = train.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, its)| its);
                sent += load(target, state, its, set, worker);
            }
            return sent;
        }
        for (message, first) in train.iter().zip(chosen) {
            let mut parcel = Parcel::new(message, set);
            self.offer_one(group, first as usize, &mut parcel, worker);
            sent += parcel.sent;
        }
        sent
    }

    /// The chosen members, locked; `None` if one of them may not take its share. What another one would get instead
    /// could then come after later messages, which that one has already.
    fn shares<'g>(
        &self,
        group: &'g Group,
        chosen: &[u32],
        most: usize,
    ) -> Option<ArrayVec<Share<'g>, LENGTH>> {
        let mut shares = ArrayVec::new();
        let mut done = 0_u32;
        for (at, member) in chosen.iter().enumerate() {
            if done >> at & 1 == 1 {
                continue;
            }
            let bits =
                chosen.iter().enumerate().fold(0, |bits, (at, it)| bits | u32::from(it == member) << at);
            done |= bits;
            let target = group.members.get(*member as usize)?;
            // Not waited for: others may hold that lock and wait for one that is held here.
            let mut state = target.conn.try_lock()?;
            if !self.takes_all(target, &mut state, most) {
                return None;
            }
            shares.push(Share { target, state, bits });
        }
        Some(shares)
    }

    /// Hands the messages to `target` one by one, as anything may happen after each; how many it took.
    #[cold]
    fn offer_each(&self, target: &Target, train: &Train<'_>, set: &MatchSet, worker: &mut Worker) -> Sent {
        let mut handed = Sent::default();
        for message in train.iter() {
            let mut parcel = Parcel::new(message, set);
            self.offer(target, &mut parcel, worker);
            handed += parcel.sent;
        }
        handed
    }

    /// Hands a message to every plain target and to one member of each queue group; how often that was.
    pub(crate) fn run(&self, message: &Pub<'_>, set: &MatchSet, worker: &mut Worker) -> Sent {
        let mut parcel = Parcel::new(message, set);
        for target in &set.plain {
            self.offer(target, &mut parcel, worker);
        }
        for group in &set.groups {
            let first = worker.random_below(group.members.len());
            self.offer_one(group, first, &mut parcel, worker);
        }
        parcel.sent
    }

    /// Hands the message to one member: the `first`, or else the next that takes it.
    #[inline(never)]
    fn offer_one(&self, group: &Group, first: usize, parcel: &mut Parcel<'_>, worker: &mut Worker) {
        let (front, back) = group.members.split_at_checked(first).unwrap_or_default();
        for target in back.iter().chain(front) {
            if self.offer(target, parcel, worker) {
                break;
            }
        }
    }

    /// Hands the message to `target`; whether it took it.
    #[inline(always)]
    fn offer(&self, target: &Target, parcel: &mut Parcel<'_>, worker: &mut Worker) -> bool {
        let conn = &target.conn;
        if !self.echo && conn.cid() == self.from.cid() {
            return false;
        }
        let mut guard = conn.lock();
        let state = &mut *guard;
        let crowded = state.is_crowded();
        if !state.is_open() || (crowded && self.skip_crowded && self.from.kind() == Kind::Client) {
            return false;
        }
        let Some(sub) = state.subs.get_mut(target.slot, target.serial) else { return false };
        let ends = sub.count();
        let with_headers = state.headers && parcel.message.header_len.unwrap_or(0) > 0;
        let before = state.out.pending();
        let mut room = Room { out: &mut state.out, pool: worker.pool() };
        let bytes = match &mut state.mailbox {
            None => parcel.append(&sub.sid, with_headers, &mut room),
            Some(mailbox) => mailbox.push(parcel.message, sub.sid.bytes(), self.from),
        };
        state.sent.add(bytes);
        let traced = state.trace.then(|| parcel.traced(sub.sid.bytes(), with_headers, ends));
        if ends {
            expire(target, state, worker);
        }
        if state.replies.is_some() && !parcel.message.reply.is_empty() {
            self.note_reply(parcel.message.reply, state);
        }
        if state.waiting() > state.max_pending {
            drop(guard);
            conn.cut_off(worker);
            return false;
        }
        let pending = state.out.pending();
        let fresh = state.out.mark_dirty();
        drop(guard);
        worker.note(conn, before, pending, fresh);
        if crowded {
            self.crowd(conn, worker);
        }
        if let Some(traced) = traced {
            parcel.show(&traced, conn);
        }
        parcel.sent.add(bytes);
        true
    }

    /// The publisher should wait for this receiver.
    #[cold]
    fn crowd(&self, conn: &Arc<Conn>, worker: &mut Worker) {
        if self.from.kind() == Kind::Client {
            worker.crowded = Some(conn.clone());
        }
    }

    /// Remembers that the receiver may answer this request, if it may not publish there anyway.
    #[cold]
    fn note_reply(&self, reply: &[u8], state: &mut ConnState) {
        let (Some(permissions), Some(replies)) = (&state.grant.permissions, &mut state.replies) else {
            return;
        };
        // A request that is repeated while it may still be answered gets no further answers (as in the original).
        if let Some(rules) = permissions.rules().responses
            && !permissions.may_publish(reply)
            && !replies.take(reply, rules, self.now)
        {
            replies.note(reply, rules, self.now);
        }
    }
}

/// Appends messages for a receiver that takes them all (see [`Delivery::takes_all`]); how many there were.
#[inline(always)]
fn load<'m>(
    target: &Target,
    mut guard: MutexGuard<'_, ConnState>,
    messages: impl Iterator<Item = &'m Pub<'m>>,
    set: &MatchSet,
    worker: &mut Worker,
) -> Sent {
    let mut handed = Sent::default();
    let state = &mut *guard;
    let Some(sub) = state.subs.get_mut(target.slot, target.serial) else { return handed };
    let before = state.out.pending();
    let mut room = Room { out: &mut state.out, pool: worker.pool() };
    for message in messages {
        let with_headers = state.headers && message.header_len.unwrap_or(0) > 0;
        handed.add(Parcel::new(message, set).append(&sub.sid, with_headers, &mut room));
    }
    sub.delivered += handed.msgs;
    state.sent += handed;
    let pending = state.out.pending();
    let fresh = state.out.mark_dirty();
    drop(guard);
    worker.note(&target.conn, before, pending, fresh);
    handed
}

/// Messages on one subject, none of them large, that one publisher sent without asking for replies.
#[derive(Debug, Default)]
pub(crate) struct Train<'a> {
    messages: ArrayVec<Pub<'a>, LENGTH>,
    bytes: usize,
}

impl<'a> Train<'a> {
    /// Whether a message may be part of one.
    #[inline]
    pub(crate) const fn takes(message: &Pub<'_>) -> bool {
        message.reply.is_empty() && message.frame.len() < SHARE_BYTES
    }

    #[inline]
    pub(crate) fn push(&mut self, message: Pub<'a>) {
        self.bytes += message.frame.len();
        self.messages.push(message);
    }

    /// Whether it should be handed over. A receiver is looked at once for all of it, so all of it must be little
    /// beside the `max_pending` bytes that may wait there.
    #[inline]
    pub(crate) fn is_full(&self, set: &MatchSet, max_pending: usize) -> bool {
        self.messages.is_full() || self.most(set) >= max_pending / 8
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn iter<'t>(&'t self) -> std::slice::Iter<'t, Pub<'a>> {
        self.messages.iter()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// More bytes than they take in an outbox.
    const fn most(&self, set: &MatchSet) -> usize {
        self.bytes + self.messages.len() * (set.line_with_headers().len() + HEAD)
    }
}

impl<'a> Parcel<'a> {
    #[inline(always)]
    fn new(message: &'a Pub<'a>, set: &'a MatchSet) -> Self {
        let shares = message.frame.len() >= SHARE_BYTES && set.is_for_several();
        let as_it_came = !message.onward.is_empty() && !shares;
        Self { message, set, as_it_came, shared: None, sent: Sent::default() }
    }

    /// Appends the message as one subscription sees it; how many bytes of headers and payload that is.
    #[inline(always)]
    fn append(&mut self, sid: &Sid, with_headers: bool, room: &mut Room<'_>) -> usize {
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
    fn append_apart(&mut self, sid: &[u8], with_headers: bool, room: &mut Room<'_>) -> usize {
        let Room { out, pool } = room;
        let message = self.message;
        let stripped = if with_headers { 0 } else { message.header_len.unwrap_or(0) };
        let frame = message.frame.get(stripped..).unwrap_or_default();
        let line = if with_headers { self.set.line_with_headers() } else { self.set.line() };
        let head = line.len() + sid.len() + message.reply.len() + 48;
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

    /// Shows a message on its way out to whoever wants to see it.
    #[cold]
    fn show(&self, traced: &Traced, conn: &Conn) {
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
    fn traced(&self, sid: &[u8], with_headers: bool, ends: bool) -> Box<Traced> {
        let mut line = Vec::new();
        let start = if with_headers { self.set.line_with_headers() } else { self.set.line() };
        self.write_head(&mut line, start, sid, with_headers);
        line.truncate(line.len() - 2);
        let stripped = if with_headers { 0 } else { self.message.header_len.unwrap_or(0) };
        Box::new(Traced { line, stripped, ended: ends.then(|| sid.to_vec()) })
    }
}

/// Takes a subscription that has had its last message out of its connection. The interest table follows when the
/// connection is unlocked (see [`Worker::expired`]).
#[cold]
fn expire(target: &Target, state: &mut ConnState, worker: &mut Worker) {
    let Some(ended) = state.subs.remove(target.slot) else { return };
    worker.expired.push(Expired { account: state.grant.account.clone(), conn: target.conn.index(), ended });
}
