//! Other servers, at the ends of routes and leafnode connections.
//!
//! What is wanted behind them stands in the interest of the accounts, beside what clients want. A match gathers it by
//! server, so that each gets one copy of a message, whoever there wants it.

pub(crate) mod announced;
pub(crate) mod forward;
pub(crate) mod neighbours;
pub(crate) mod subs;

use std::sync::Arc;

use midge_wire::{encode, subject};

use self::subs::RemoteSubs;
use crate::account::Account;
use crate::conn::{Conn, Kind};
use crate::permissions::Permissions;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, RwLock};

/// What the subjects begin with by which loops of leafnodes are found.
pub(crate) const LOOPS: &[u8] = b"$LDS.";

/// Another server.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its id.
    pub(crate) id: Box<str>,
    /// The connections that its messages are spread over, where it takes those of one publisher on any of them.
    lanes: RwLock<Option<Arc<Lanes>>>,
}

/// The connections by which a server's messages go.
#[derive(Debug)]
pub(crate) struct Lanes(Box<[Option<Lane>]>);

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) conn: Arc<Conn>,
    /// The first publisher whose messages may go by it. The messages of those before have gone by another lane, and
    /// would not stay in order.
    pub(crate) since: u64,
}

impl Lanes {
    pub(crate) fn new(lanes: Vec<Option<Lane>>) -> Self {
        Self(lanes.into())
    }

    fn one(conn: Arc<Conn>) -> Self {
        Self::new(vec![Some(Lane { conn, since: 0 })])
    }

    /// The connection for what this publisher says.
    #[inline]
    pub(crate) fn pick(&self, publisher: u64) -> Option<&Arc<Conn>> {
        if let [Some(only)] = &*self.0 {
            return Some(&only.conn);
        }
        let own = self.0.get((publisher % self.0.len().max(1) as u64) as usize).and_then(Option::as_ref);
        let own = own.filter(|lane| publisher >= lane.since);
        // Else the one that has been there longest: most likely the one by which its messages have gone.
        own.or_else(|| self.0.iter().flatten().min_by_key(|lane| lane.since)).map(|lane| &lane.conn)
    }
}

impl Peer {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.into(), lanes: RwLock::default() }
    }

    pub(crate) fn set_lanes(&self, lanes: Option<Arc<Lanes>>) {
        *self.lanes.write() = lanes;
    }
}

/// Which accounts a connection to another server is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All but those that have a connection of their own.
    AllBut(Arc<[Box<str>]>),
    /// Of these, those whose names belong to one of so many connections.
    Slot(u32, u32, Arc<[Box<str>]>),
    /// This one.
    One(u32),
}

impl Scope {
    pub(crate) fn serves(&self, account: &Account) -> bool {
        let name = account.name();
        match self {
            Self::AllBut(dedicated) => !dedicated.iter().any(|other| **other == **name),
            Self::Slot(at, of, dedicated) => {
                slot_of(name, *of) == *at && !dedicated.iter().any(|other| **other == **name)
            }
            Self::One(index) => account.index() == *index,
        }
    }
}

/// Which of `of` pooled connections an account belongs to: FNV-1a, as nats-server's `computeRoutePoolIdx`.
pub(crate) fn slot_of(account: &str, of: u32) -> u32 {
    let hash = account
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    if of <= 1 { 0 } else { hash % of }
}

/// One connection to another server, as those see it who have something for it.
#[derive(Debug)]
pub(crate) struct Remote {
    /// Its place in the router's table.
    index: u32,
    pub(crate) conn: Arc<Conn>,
    /// What the server at its other end is to this one.
    kind: Kind,
    pub(crate) peer: Arc<Peer>,
    /// This connection alone.
    own: Arc<Lanes>,
    pub(crate) scope: Scope,
    pub(crate) manner: Manner,
    /// The number of the leafnode cluster behind it; zero for none.
    pub(crate) origin: u32,
    pub(crate) filter: Filter,
    pub(crate) subs: Mutex<RemoteSubs>,
    /// Bytes that what is wanted behind it takes elsewhere, roughly.
    burden: AtomicUsize,
    /// How it was made, if from this side.
    pub(crate) dialled: Option<Dialled>,
}

/// How one talks with a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Whether operations name their account.
    pub(crate) names_account: bool,
    /// Whether it knows what came from a leafnode's cluster.
    pub(crate) takes_origin: bool,
    /// Whether it names that cluster, and wants to have it named, where something is not wanted any more.
    pub(crate) names_origin: bool,
    /// Whether it does not want to hear of other leafnodes.
    pub(crate) isolated: bool,
}

/// What may cross a connection, of subjects. `None` is everything; the rules are those for publishing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// What the peer may be told that it is wanted here.
    pub(crate) told: Option<Arc<Permissions>>,
    /// What the peer may want.
    pub(crate) wanted: Option<Arc<Permissions>>,
    /// What may be sent to it.
    pub(crate) sent: Option<Arc<Permissions>>,
    /// What it may send.
    pub(crate) received: Option<Arc<Permissions>>,
}

fn allows(rules: Option<&Arc<Permissions>>, subject: &[u8]) -> bool {
    rules.is_none_or(|rules| rules.may_publish(subject))
}

/// How a connection was made from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    /// The other server is configured.
    Configured,
    /// Another one has told of it.
    Heard,
}

/// How a [`Remote`] is made.
pub(crate) struct NewRemote {
    pub(crate) conn: Arc<Conn>,
    pub(crate) kind: Kind,
    pub(crate) peer: Arc<Peer>,
    pub(crate) scope: Scope,
    pub(crate) manner: Manner,
    pub(crate) origin: u32,
    pub(crate) filter: Filter,
    pub(crate) seed: u64,
    pub(crate) dialled: Option<Dialled>,
}

impl Remote {
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// The connections by which messages go to the server behind this one.
    pub(crate) fn lanes(&self) -> Arc<Lanes> {
        let all = self.peer.lanes.read().clone();
        all.filter(|_| !matches!(self.scope, Scope::One(_))).unwrap_or_else(|| self.own.clone())
    }

    /// How operations for it are spelled.
    pub(crate) fn language(&self) -> encode::Peer {
        if self.kind() == Kind::Route { encode::Peer::Route } else { encode::Peer::Leaf }
    }

    /// Bytes that all takes that is wanted behind it, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.subs.lock().bytes() + self.burden.load(Ordering::Relaxed)
    }

    /// Whether it may be told that `subject` is wanted.
    pub(crate) fn may_tell(&self, subject: &[u8]) -> bool {
        allows(self.filter.told.as_ref(), subject) || self.finds_loops_by(subject)
    }

    /// Whether it may want `subject`. A leafnode may want what is more than it may have, and is not sent that.
    pub(crate) fn may_want(&self, subject: &[u8]) -> bool {
        allows(self.filter.wanted.as_ref(), subject)
            || self.kind != Kind::Route && subject::has_wildcard(subject)
            || self.finds_loops_by(subject)
    }

    /// Whether a subject is there only so that loops of leafnodes are found, whatever is permitted.
    fn finds_loops_by(&self, subject: &[u8]) -> bool {
        self.kind != Kind::Route && subject.starts_with(LOOPS)
    }

    /// Whether it may be sent messages on `name`.
    pub(crate) fn may_send(&self, name: &[u8]) -> bool {
        allows(self.filter.sent.as_ref(), name)
    }

    /// Whether it may send messages on `name`.
    pub(crate) fn may_receive(&self, name: &[u8]) -> bool {
        allows(self.filter.received.as_ref(), name)
    }

    /// Whether it may hear of what comes from the leafnodes of that cluster.
    pub(crate) fn may_hear_of(&self, origin: u32) -> bool {
        origin == 0 || self.kind != Kind::Spoke || origin != self.origin
    }
}

/// All connections to other servers, by place.
#[derive(Debug, Default)]
pub(crate) struct RemoteTable(RwLock<Slots>);

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Option<Arc<Remote>>>,
    free: Vec<u32>,
}

impl RemoteTable {
    pub(crate) fn add(&self, new: NewRemote) -> Arc<Remote> {
        let mut guard = self.0.write();
        let all = &mut *guard;
        let index = all.free.pop().unwrap_or_else(|| {
            all.slots.push(None);
            (all.slots.len() - 1) as u32
        });
        let remote = Arc::new(Remote {
            index,
            own: Arc::new(Lanes::one(new.conn.clone())),
            conn: new.conn,
            kind: new.kind,
            peer: new.peer,
            scope: new.scope,
            manner: new.manner,
            origin: new.origin,
            filter: new.filter,
            subs: Mutex::new(RemoteSubs::new(new.seed)),
            burden: AtomicUsize::new(0),
            dialled: new.dialled,
        });
        if let Some(slot) = all.slots.get_mut(index as usize) {
            *slot = Some(remote.clone());
        }
        remote
    }

    pub(crate) fn get(&self, index: u32) -> Option<Arc<Remote>> {
        self.0.read().slots.get(index as usize)?.clone()
    }

    /// How much is wanted behind all of them.
    pub(crate) fn subscriptions(&self) -> u32 {
        self.0.read().slots.iter().flatten().map(|remote| remote.subs.lock().len() as u32).sum()
    }

    /// Forgets a connection; whether it was there.
    pub(crate) fn remove(&self, remote: &Remote) -> bool {
        let mut all = self.0.write();
        let Some(slot) = all.slots.get_mut(remote.index as usize) else { return false };
        let is_it = slot.as_ref().is_some_and(|kept| std::ptr::eq(&**kept, remote));
        if is_it {
            *slot = None;
            all.free.push(remote.index);
        }
        is_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_belong_to_slots_as_in_the_original() {
        // Seen on the wire of 2.15.1.
        assert_eq!(["A", "B", "$G"].map(|name| slot_of(name, 3)), [0, 0, 2]);
        assert_eq!((slot_of("A", 1), slot_of("A", 0)), (0, 0));
    }
}
