//! One message to everybody who wants it.

mod abroad;
mod parcel;
mod train;

use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use midge_wire::Pub;

pub(crate) use self::abroad::Groups;
use self::parcel::{Parcel, Room};
pub(crate) use self::train::Train;
use crate::conn::{Conn, ConnState, Kind, Sent};
use crate::interest::{Group, MatchSet, Target};
use crate::remote::Peer;
use crate::sync::MutexGuard;
use crate::worker::{Expired, Worker};

/// What a publisher's messages have in common.
pub(crate) struct Delivery<'a> {
    pub(crate) from: &'a Arc<Conn>,
    /// Whether the publisher's own subscriptions count.
    pub(crate) echo: bool,
    /// Whether crowded receivers are passed over instead of holding the publisher back.
    pub(crate) skip_crowded: bool,
    pub(crate) now: Instant,
    pub(crate) source: Source<'a>,
}

/// Where messages came from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) kind: Kind,
    /// The server, if they came from one.
    pub(crate) peer: Option<&'a Peer>,
    /// The cluster of the leafnode that they came from: its number, and its name. Zero for none.
    pub(crate) origin: (u32, &'a [u8]),
}

impl Source<'_> {
    /// Somebody who is no server.
    pub(crate) const fn here(kind: Kind) -> Self {
        Self { kind, peer: None, origin: (0, &[]) }
    }
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
        // Another server has said which groups a message is for, and then it is in no train.
        if self.source.peer.is_none() {
            for group in &set.groups {
                sent += self.share_out(group, train, set, worker);
            }
        }
        sent += self.send_abroad(train, set, worker);
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
        let chosen: ArrayVec<u32, { train::LENGTH }> =
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
    ) -> Option<ArrayVec<Share<'g>, { train::LENGTH }>> {
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

    /// Hands a message to every plain target, to one member of each queue group that it is for, and once to every
    /// other server where somebody wants it or is that member; how often that was.
    pub(crate) fn run(
        &self,
        message: &Pub<'_>,
        groups: Groups<'_>,
        set: &MatchSet,
        worker: &mut Worker,
    ) -> Sent {
        let mut parcel = Parcel::new(message, set);
        if matches!(groups, Groups::Listed(_)) {
            parcel.show_as_stored();
        }
        parcel.origin = self.source.origin.1;
        if groups.has_others() {
            for target in &set.plain {
                self.offer(target, &mut parcel, worker);
            }
        }
        if set.bundles.is_empty() {
            for group in set.groups.iter().filter(|group| groups.contain(group)) {
                let first = worker.random_below(group.members.len());
                self.offer_one(group, first, &mut parcel, worker);
            }
            return parcel.sent;
        }
        self.run_abroad(groups, &mut parcel, worker);
        parcel.sent
    }

    /// Hands the message to one member: the `first`, or else the next that takes it. Whether one did.
    #[inline(never)]
    fn offer_one(&self, group: &Group, first: usize, parcel: &mut Parcel<'_>, worker: &mut Worker) -> bool {
        let (front, back) = group.members.split_at_checked(first).unwrap_or_default();
        back.iter().chain(front).any(|target| self.offer(target, parcel, worker))
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
    pub(super) fn note_reply(&self, reply: &[u8], state: &mut ConnState) {
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

/// Takes a subscription that has had its last message out of its connection. The interest table follows when the
/// connection is unlocked (see [`Worker::expired`]).
#[cold]
fn expire(target: &Target, state: &mut ConnState, worker: &mut Worker) {
    let Some(ended) = state.subs.remove(target.slot) else { return };
    worker.expired.push(Expired { account: state.grant.account.clone(), conn: target.conn.index(), ended });
}
