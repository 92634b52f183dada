//! What is wanted in one account, as other servers are told of it.
//!
//! A subject is told of once, however many want it, and a queue group with the number of its members. Not every server
//! is told the same: what routes want is the business of leafnodes, and not of other routes. So it is kept apart who
//! wants what, and each server is told the sum of what concerns it. The lock is held while servers are told, so that
//! each hears of changes in the order in which they were made.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use midge_wire::{Interest, encode};

use super::Remote;
use super::forward::announces;
use crate::account::Account;
use crate::conn::{Conn, Kind};
use crate::router::Router;
use crate::sync::Mutex;

/// Subjects, and queue groups on them, that somebody wants.
#[derive(Debug)]
pub(crate) struct Announced {
    wanted: Mutex<HashTable<Wanted>>,
    hasher: SeedableRandomState,
}

#[derive(Debug)]
struct Wanted {
    /// `subject`, or `subject queue`: neither has a blank in it.
    key: Box<[u8]>,
    /// Subscriptions of clients and local peers.
    here: u32,
    /// What is wanted behind other servers. Most things are not, and then it is a pointer.
    #[expect(clippy::box_collection, reason = "nearly always there is none")]
    elsewhere: Option<Box<Vec<Elsewhere>>>,
}

/// Something that is wanted behind another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The connection's place.
    pub(crate) remote: u32,
    pub(crate) kind: Kind,
    /// The number of the leafnode cluster that wants it; zero for none.
    pub(crate) origin: u32,
    /// Whether a leafnode wants it, of this server or another.
    pub(crate) from_leaf: bool,
    /// How many do; zero where nobody does any more.
    pub(crate) weight: u32,
}

/// A change in what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// One more here wants it.
    Up,
    /// One fewer does.
    Down,
    /// So many do behind another server.
    There(Elsewhere),
}

impl Wanted {
    /// The subject, and the queue group; empty for none.
    fn words(&self) -> (&[u8], &[u8]) {
        let end = self.key.iter().position(|byte| *byte == b' ').unwrap_or(self.key.len());
        (self.key.get(..end).unwrap_or_default(), self.key.get(end + 1..).unwrap_or_default())
    }

    fn is_gone(&self) -> bool {
        self.here == 0 && self.elsewhere.is_none()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Up => self.here += 1,
            Step::Down => self.here = self.here.saturating_sub(1),
            Step::There(there) => {
                let all = self.elsewhere.get_or_insert_default();
                all.retain(|other| (other.remote, other.origin) != (there.remote, there.origin));
                if there.weight > 0 {
                    all.push(there);
                }
                if all.is_empty() {
                    self.elsewhere = None;
                }
            }
        }
    }

    /// How many of those want it whom `server` is told of, by the leafnode clusters that are told apart.
    fn concerning(&self, server: &Remote, sums: &mut Vec<(u32, u32)>) {
        sums.clear();
        sums.push((0, self.here));
        for there in self.elsewhere.iter().flat_map(|all| all.iter()) {
            let concerned = there.remote != server.index()
                && announces(there.kind, server.kind())
                && server.may_hear_of(there.origin)
                && !(server.manner.isolated && there.from_leaf);
            if !concerned {
                continue;
            }
            let apart = server.kind() == Kind::Route && server.manner.takes_origin;
            let origin = if apart { there.origin } else { 0 };
            match sums.iter_mut().find(|(of, _)| *of == origin) {
                Some((_, sum)) => *sum += there.weight,
                None => sums.push((origin, there.weight)),
            }
        }
    }
}

impl Announced {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            wanted: Mutex::default(),
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
        }
    }

    /// Takes up a change, and tells those servers that must know. Their connections are to be woken afterwards.
    pub(crate) fn take(
        &self,
        router: &Router,
        account: &Account,
        (subject, queue): (&[u8], &[u8]),
        step: Step,
    ) -> Vec<Arc<Conn>> {
        let mut guard = self.wanted.lock();
        // Looked up under the lock: whoever is added after that is told of this, too, by `tell_all`.
        let servers = router.told();
        let all = &mut *guard;
        let hash = self.hash(subject, queue);
        let known = all.find(hash, |wanted| wanted.words() == (subject, queue)).is_some();
        if !known {
            if step == Step::Down || matches!(step, Step::There(there) if there.weight == 0) {
                return Vec::new();
            }
            let key: &[&[u8]] = if queue.is_empty() { &[subject] } else { &[subject, b" ", queue] };
            let wanted = Wanted { key: key.concat().into(), here: 0, elsewhere: None };
            all.insert_unique(hash, wanted, |wanted| self.hash_of(wanted));
        }
        let Some(wanted) = all.find_mut(hash, |wanted| wanted.words() == (subject, queue)) else {
            return Vec::new();
        };
        let told = tell_change(router, account, wanted, step, &servers);
        if wanted.is_gone() {
            if let Ok(entry) = all.find_entry(hash, |wanted| wanted.words() == (subject, queue)) {
                entry.remove();
            }
            if all.len() * 8 < all.capacity() {
                all.shrink_to_fit(|wanted| self.hash_of(wanted));
            }
        }
        told
    }

    /// Tells a server of everything; whether there was anything to tell.
    pub(crate) fn tell_all(&self, router: &Router, account: &Account, server: &Remote) -> bool {
        let guard = self.wanted.lock();
        let (mut lines, mut sums) = (Vec::new(), Vec::new());
        for wanted in &*guard {
            let what = wanted.words();
            if server.may_tell(what.0) {
                wanted.concerning(server, &mut sums);
                for (origin, sum) in sums.iter().filter(|(_, sum)| *sum > 0) {
                    put(&mut lines, (router, server, account), what, *origin, *sum);
                }
            }
        }
        !lines.is_empty() && server.conn.put_interest(lines)
    }

    fn hash(&self, subject: &[u8], queue: &[u8]) -> u64 {
        self.hasher.hash_one((subject, queue))
    }

    fn hash_of(&self, wanted: &Wanted) -> u64 {
        let (subject, queue) = wanted.words();
        self.hash(subject, queue)
    }
}

/// Changes something, and tells those servers for which it is another sum than before.
fn tell_change(
    router: &Router,
    account: &Account,
    wanted: &mut Wanted,
    step: Step,
    servers: &[Arc<Remote>],
) -> Vec<Arc<Conn>> {
    let plain = wanted.words().1.is_empty();
    // The usual change: one of many comes or goes, and nobody need know.
    if plain && (matches!(step, Step::Up) && wanted.here > 0 || matches!(step, Step::Down) && wanted.here > 1)
    {
        wanted.take(step);
        return Vec::new();
    }
    let concerned: Vec<&Arc<Remote>> = servers
        .iter()
        .filter(|server| server.scope.serves(account) && server.may_tell(wanted.words().0))
        .collect();
    let sums = |wanted: &Wanted| -> Vec<Vec<(u32, u32)>> {
        let one = |server: &&Arc<Remote>| {
            let mut sums = Vec::new();
            wanted.concerning(server, &mut sums);
            sums
        };
        concerned.iter().map(one).collect()
    };
    let before = sums(wanted);
    wanted.take(step);
    let after = sums(wanted);
    let (mut told, mut lines) = (Vec::new(), Vec::new());
    for (server, (before, after)) in concerned.iter().zip(before.iter().zip(&after)) {
        lines.clear();
        let what = wanted.words();
        let of = |sums: &[(u32, u32)], origin| {
            sums.iter().find(|(of, _)| *of == origin).map_or(0, |(_, sum)| *sum)
        };
        let gone = before.iter().filter(|(origin, _)| of(after, *origin) == 0);
        for (origin, _) in
            after.iter().chain(gone.filter(|(origin, _)| !after.iter().any(|(of, _)| of == origin)))
        {
            let (was, is) = (of(before, *origin), of(after, *origin));
            if if plain { (was > 0) != (is > 0) } else { was != is } {
                put(&mut lines, (router, server, account), what, *origin, is);
            }
        }
        if !lines.is_empty() && server.conn.put(&lines) {
            told.push(server.conn.clone());
        }
    }
    told
}

/// Appends what a server is told of something that so many want.
fn put(
    line: &mut Vec<u8>,
    (router, server, account): (&Router, &Remote, &Account),
    (subject, queue): (&[u8], &[u8]),
    origin: u32,
    members: u32,
) {
    let account = if server.manner.names_account { account.name().as_bytes() } else { &[] };
    let origin = router.origin_name(origin);
    let of_leaf = !origin.is_empty();
    let interest = Interest { origin: &origin, of_leaf, account, subject, queue, weight: members };
    if members > 0 {
        encode::wanted(line, server.language(), &interest);
    } else if origin.is_empty() || server.manner.names_origin {
        encode::unwanted(line, server.language(), &interest);
    } else {
        encode::unwanted_of_leaf(line, &interest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(remote: u32, origin: u32, weight: u32) -> Step {
        Step::There(Elsewhere { remote, kind: Kind::Spoke, origin, from_leaf: true, weight })
    }

    #[test]
    fn it_is_wanted_as_long_as_somebody_wants_it() {
        let mut wanted = Wanted { key: Box::from(&b"a q"[..]), here: 0, elsewhere: None };
        assert_eq!(wanted.words(), (&b"a"[..], &b"q"[..]));
        for step in [Step::Up, there(1, 0, 2), there(1, 5, 1), there(1, 0, 3), Step::Down, there(1, 5, 0)] {
            wanted.take(step);
            assert!(!wanted.is_gone(), "{step:?}");
        }
        assert_eq!(wanted.elsewhere.as_ref().map(|all| all.len()), Some(1));
        wanted.take(there(1, 0, 0));
        assert!(wanted.is_gone());
    }
}
