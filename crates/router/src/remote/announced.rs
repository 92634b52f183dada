//! What one account's own interest amounts to: what other servers are told of it.
//!
//! A subject is told of once, however many want it here, and a queue group with the number of its members. The lock is
//! held while the servers are told, so that each hears of changes in the order in which they were made.

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
use crate::sync::Mutex;

/// Subjects, and queue groups on them, that somebody here wants.
#[derive(Debug)]
pub(crate) struct Announced {
    wanted: Mutex<HashTable<Wanted>>,
    hasher: SeedableRandomState,
}

#[derive(Debug)]
struct Wanted {
    /// `subject`, or `subject queue`: neither has a blank in it.
    key: Box<[u8]>,
    members: u32,
}

impl Wanted {
    /// The subject, and the queue group; empty for none.
    fn words(&self) -> (&[u8], &[u8]) {
        match self.key.iter().position(|byte| *byte == b' ') {
            Some(at) => (self.key.get(..at).unwrap_or_default(), self.key.get(at + 1..).unwrap_or_default()),
            None => (&self.key, &[]),
        }
    }
}

/// A change in what somebody here wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// One more wants it.
    Up,
    /// One fewer does.
    Down,
}

impl Announced {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            wanted: Mutex::default(),
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
        }
    }

    /// Counts one subscription more or less, and tells those servers that must know. Their connections are to be woken
    /// afterwards.
    pub(crate) fn count(
        &self,
        account: &Account,
        (subject, queue): (&[u8], &[u8]),
        step: Step,
        servers: &[Arc<Remote>],
    ) -> Vec<Arc<Conn>> {
        let mut guard = self.wanted.lock();
        let Some(members) = self.step(&mut guard, subject, queue, step) else { return Vec::new() };
        let changed = match step {
            Step::Up => !queue.is_empty() || members == 1,
            Step::Down => !queue.is_empty() || members == 0,
        };
        if !changed {
            return Vec::new();
        }
        let mut told = Vec::new();
        let mut line = Vec::new();
        let concerned = |server: &&Arc<Remote>| {
            announces(Kind::Client, server.kind()) && server.scope.serves(account) && server.may_tell(subject)
        };
        for server in servers.iter().filter(concerned) {
            line.clear();
            put(&mut line, server, account, (subject, queue), members);
            if server.conn.put(&line) {
                told.push(server.conn.clone());
            }
        }
        told
    }

    /// Counts; how many want it now.
    fn step(&self, all: &mut HashTable<Wanted>, subject: &[u8], queue: &[u8], step: Step) -> Option<u32> {
        let hash = self.hash(subject, queue);
        let is_it = |wanted: &Wanted| wanted.words() == (subject, queue);
        match (all.find_entry(hash, is_it), step) {
            (Ok(mut entry), Step::Up) => {
                entry.get_mut().members += 1;
                Some(entry.get().members)
            }
            (Ok(mut entry), Step::Down) => {
                entry.get_mut().members -= 1;
                let left = entry.get().members;
                if left == 0 {
                    entry.remove();
                    if all.len() * 8 < all.capacity() {
                        all.shrink_to_fit(|wanted| self.hash_of(wanted));
                    }
                }
                Some(left)
            }
            (Err(_), Step::Up) => {
                let key: &[&[u8]] = if queue.is_empty() { &[subject] } else { &[subject, b" ", queue] };
                let wanted = Wanted { key: key.concat().into(), members: 1 };
                all.insert_unique(hash, wanted, |wanted| self.hash_of(wanted));
                Some(1)
            }
            (Err(_), Step::Down) => None,
        }
    }

    /// Tells a server of everything; whether there was anything to tell.
    pub(crate) fn tell_all(&self, account: &Account, server: &Remote) -> bool {
        let guard = self.wanted.lock();
        let mut lines = Vec::new();
        for wanted in &*guard {
            let (subject, queue) = wanted.words();
            if server.may_tell(subject) {
                put(&mut lines, server, account, (subject, queue), wanted.members);
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

/// Appends what a server is told of something that so many want.
fn put(
    line: &mut Vec<u8>,
    server: &Remote,
    account: &Account,
    (subject, queue): (&[u8], &[u8]),
    members: u32,
) {
    let account = if server.names_account { account.name().as_bytes() } else { &[] };
    let interest = Interest { origin: &[], account, subject, queue, weight: members };
    if members > 0 {
        encode::wanted(line, server.language(), &interest);
    } else {
        encode::unwanted(line, server.language(), &interest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_counts_once_and_a_group_by_its_members() {
        let announced = Announced::new(1);
        let mut all = announced.wanted.lock();
        let mut step = |subject: &str, queue: &str, step| {
            announced.step(&mut all, subject.as_bytes(), queue.as_bytes(), step)
        };
        assert_eq!(step("a", "", Step::Down), None, "nobody wanted it");
        assert_eq!([step("a", "", Step::Up), step("a", "", Step::Up)], [Some(1), Some(2)]);
        assert_eq!([step("a", "q", Step::Up), step("aq", "", Step::Up)], [Some(1), Some(1)]);
        assert_eq!([step("a", "", Step::Down), step("a", "", Step::Down)], [Some(1), Some(0)]);
        assert_eq!([step("a", "q", Step::Down), step("aq", "", Step::Down)], [Some(0), Some(0)]);
        for n in 0..10_000 {
            step(&n.to_string(), "", Step::Up);
        }
        for n in 0..10_000 {
            assert_eq!(step(&n.to_string(), "", Step::Down), Some(0));
        }
        assert!(all.is_empty() && all.capacity() < 100);
    }
}
