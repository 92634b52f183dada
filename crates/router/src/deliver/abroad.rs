//! Messages for other servers: one copy for each, whoever wants it there.

use super::parcel::{Parcel, Room};
use super::{Delivery, Train};
use crate::conn::{Kind, Sent};
use crate::interest::{Away, Bundle, Group, MatchSet};
use crate::remote::forward::{forwards, rank};
use crate::worker::Worker;
use midge_wire::Queues;

/// Which queue groups a message is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Groups<'a> {
    /// All of them: a client published it.
    All,
    /// These: another server has chosen one member of each of the others.
    Listed(Queues<'a>),
    /// These, and nobody who is in no group.
    Alone(Queues<'a>),
}

impl Groups<'_> {
    /// Whether a message is for those who are in no group, too.
    pub(super) const fn has_others(self) -> bool {
        !matches!(self, Self::Alone(_))
    }

    pub(super) fn contain(self, group: &Group) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) | Self::Alone(names) => names.iter().any(|name| *name == *group.name),
        }
    }
}

/// The queue groups of which a member behind one server was chosen.
#[derive(Clone, Copy, Default)]
pub(super) struct Listed<'a> {
    /// Servers and groups, by their places in the set.
    chosen: &'a [(u32, u32)],
    bundle: u32,
    groups: &'a [Group],
}

impl<'a> Listed<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.names().next().is_none()
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'a [u8]> {
        let its = self.chosen.iter().filter(move |(bundle, _)| *bundle == self.bundle);
        its.filter_map(move |(_, group)| self.groups.get(*group as usize)).map(|group| &*group.name)
    }
}

impl Delivery<'_> {
    /// Whether messages may go to the server behind `bundle` at all: not back to where they came from.
    fn may_go_to(&self, bundle: &Bundle) -> bool {
        self.source.peer.is_none_or(|peer| !bundle.is_to(peer)) && bundle.may_hear_of(self.source.origin.0)
    }

    /// Whether messages go there for those who are in no queue group.
    fn goes_to(&self, bundle: &Bundle) -> bool {
        bundle.wants(self.source.origin.0)
            && forwards(self.source.kind, bundle.kind())
            && self.may_go_to(bundle)
    }

    /// Hands messages to the other servers where somebody wants them who is in no queue group.
    pub(super) fn send_abroad(&self, train: &Train<'_>, set: &MatchSet, worker: &mut Worker) -> Sent {
        let mut sent = Sent::default();
        for bundle in &set.bundles {
            if self.goes_to(bundle) {
                sent += self.forward_all(bundle, train, set, worker);
            }
        }
        sent
    }

    /// Hands messages to another server, once each.
    #[inline(never)]
    fn forward_all(&self, bundle: &Bundle, train: &Train<'_>, set: &MatchSet, worker: &mut Worker) -> Sent {
        let mut handed = Sent::default();
        let Some(conn) = bundle.lane(self.from.cid()) else { return handed };
        let mut guard = conn.lock();
        let state = &mut *guard;
        if !state.has_room_for(train.most(set)) || state.trace || !self.source.origin.1.is_empty() {
            drop(guard);
            for message in train.iter() {
                let mut parcel = Parcel::new(message, set);
                parcel.origin = self.source.origin.1;
                self.forward(bundle, Listed::default(), &mut parcel, worker);
                handed += parcel.sent;
            }
            return handed;
        }
        let before = state.out.pending();
        let mut room = Room { out: &mut state.out, pool: worker.pool() };
        for message in train.iter() {
            let with_headers = state.headers && message.header_len.unwrap_or(0) > 0;
            handed.add(Parcel::new(message, set).append_routed(
                bundle,
                Listed::default(),
                with_headers,
                &mut room,
            ));
        }
        state.sent += handed;
        let pending = state.out.pending();
        let fresh = state.out.mark_dirty();
        drop(guard);
        worker.note(conn, before, pending, fresh);
        handed
    }

    /// Hands the message to another server, for those there who want it and one member of each of these groups;
    /// whether it took it.
    fn forward(
        &self,
        bundle: &Bundle,
        groups: Listed<'_>,
        parcel: &mut Parcel<'_>,
        worker: &mut Worker,
    ) -> bool {
        let Some(conn) = bundle.lane(self.from.cid()) else { return false };
        let mut guard = conn.lock();
        let state = &mut *guard;
        let crowded = state.is_crowded();
        if !state.is_open() || (crowded && self.skip_crowded && self.from.kind() == Kind::Client) {
            return false;
        }
        let with_headers = state.headers && parcel.message.header_len.unwrap_or(0) > 0;
        let before = state.out.pending();
        let mut room = Room { out: &mut state.out, pool: worker.pool() };
        let bytes = parcel.append_routed(bundle, groups, with_headers, &mut room);
        state.sent.add(bytes);
        if state.replies.is_some() && !parcel.message.reply.is_empty() {
            self.note_reply(parcel.message.reply, state);
        }
        if state.out.pending() > state.max_pending {
            drop(guard);
            conn.cut_off(worker);
            return false;
        }
        let pending = state.out.pending();
        let fresh = state.out.mark_dirty();
        let trace = state.trace;
        drop(guard);
        worker.note(conn, before, pending, fresh);
        if crowded {
            self.crowd(conn, worker);
        }
        if trace {
            parcel.show_routed(bundle, groups, with_headers, conn);
        }
        parcel.sent.add(bytes);
        true
    }

    /// The rest of [`Delivery::run`] where other servers have a part in it.
    #[inline(never)]
    pub(super) fn run_abroad(&self, groups: Groups<'_>, parcel: &mut Parcel<'_>, worker: &mut Worker) {
        let set = parcel.set;
        // Which server has which groups' members that were chosen. Kept by the worker, so that it costs no allocation.
        let mut chosen = std::mem::take(&mut worker.chosen);
        chosen.clear();
        for (at, group) in set.groups.iter().enumerate().filter(|(_, group)| groups.contain(group)) {
            if let Some(bundle) = self.choose(group, parcel, worker) {
                chosen.push((bundle, at as u32));
            }
        }
        for (at, bundle) in set.bundles.iter().enumerate() {
            let listed = Listed { chosen: &chosen, bundle: at as u32, groups: &set.groups };
            if (groups.has_others() && self.goes_to(bundle)) || !listed.is_empty() {
                self.forward(bundle, listed, parcel, worker);
            }
        }
        worker.chosen = chosen;
    }

    /// Finds one member for the message: hands it over if that is here, and tells which server it is behind otherwise.
    fn choose(&self, group: &Group, parcel: &mut Parcel<'_>, worker: &mut Worker) -> Option<u32> {
        let (source, bundles) = (self.source, &parcel.set.bundles);
        let at_rank = |away: &Away, wanted: u8| {
            let bundle = bundles.get(away.bundle as usize)?;
            // Who is behind a leafnode comes last, whose leafnode ever it is.
            let its =
                rank(source.kind, bundle.kind())? + u8::from(away.origin > 0 && bundle.kind() == Kind::Route);
            let same = away.origin > 0 && away.origin == source.origin.0;
            let goes_round =
                source.kind == Kind::Route && bundle.kind() == Kind::Route && !bundle.is_below(source.peer);
            (its == wanted && !same && !goes_round && self.may_go_to(bundle)).then_some(away.weight as usize)
        };
        let weight = |rank| group.away.iter().filter_map(|away| at_rank(away, rank)).sum::<usize>();
        let mut here = group.members.len();
        for rank in 0..=3 {
            let there = weight(rank);
            let mut pick = worker.random_below((here + there).max(1));
            if pick < here {
                if self.offer_one(group, pick, parcel, worker) {
                    return None;
                }
                pick = worker.random_below(there.max(1));
            } else {
                pick -= here;
            }
            // Members here are asked once: they have just said that they do not take it.
            here = 0;
            for away in &group.away {
                let Some(weight) = at_rank(away, rank) else { continue };
                if pick < weight {
                    return Some(away.bundle);
                }
                pick -= weight;
            }
        }
        None
    }
}
