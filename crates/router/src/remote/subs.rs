//! What is wanted behind another server.

use std::hash::BuildHasher;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;

use crate::rows::Rows;
use crate::subs::is_for;
use crate::texts::{Text, Texts};

/// One thing that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    /// The account's place.
    pub(crate) account: u32,
    pub(crate) subject: &'a [u8],
    /// The queue group's number; zero for none.
    pub(crate) queue: u32,
    /// The number of the leafnode cluster that wants it; zero where no leafnode does.
    pub(crate) origin: u32,
}

/// The same, as it is kept.
#[derive(Debug)]
struct Kept {
    subject: Text,
    account: u32,
    queue: u32,
    origin: u32,
    /// Members of the queue group behind the peer.
    weight: u32,
    serial: u32,
}

/// What a match needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) weight: u32,
    pub(crate) origin: u32,
}

/// What has gone.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) account: u32,
    pub(crate) subject: Box<[u8]>,
    pub(crate) queue: u32,
    pub(crate) origin: u32,
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

/// How something came to be wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was not wanted before, and has this place.
    New(u32),
    /// So many members wanted it before.
    Weight(u32),
}

/// Most leafnode clusters that are remembered.
const MOST_ORIGINS: usize = 256;

/// What is wanted behind one connection to another server: a set, with weights.
#[derive(Debug)]
pub(crate) struct RemoteSubs {
    slots: Rows<Option<Kept>>,
    subjects: Texts,
    by_key: HashTable<u32>,
    free: Vec<u32>,
    /// The leafnode clusters that wanted something, for peers that do not say which of them no longer does.
    origins: Vec<u32>,
    /// The peer chooses what is hashed.
    hasher: SeedableRandomState,
}

impl RemoteSubs {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            slots: Rows::default(),
            subjects: Texts::default(),
            by_key: HashTable::new(),
            free: Vec::new(),
            origins: Vec::new(),
            hasher: SeedableRandomState::with_seed(seed, foldhash::SharedSeed::global_fixed()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Bytes that all of it takes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.subjects.len() + self.slots.len() * (size_of::<Option<Kept>>() + size_of::<u32>())
    }

    /// Notes that something is wanted, with this serial if it was not before.
    pub(crate) fn want(&mut self, wanted: Wanted<'_>, weight: u32, serial: u32) -> Change {
        if let Some(slot) = self.find(wanted)
            && let Some(kept) = self.slots.get_mut(slot).and_then(Option::as_mut)
        {
            return Change::Weight(std::mem::replace(&mut kept.weight, weight));
        }
        let hash = hash(&self.hasher, wanted);
        let Wanted { account, subject, queue, origin } = wanted;
        if origin > 0 && self.origins.len() < MOST_ORIGINS && !self.origins.contains(&origin) {
            self.origins.push(origin);
        }
        let kept = Some(Kept { subject: self.subjects.add(subject), account, queue, origin, weight, serial });
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = kept;
                }
                slot
            }
            None => {
                self.slots.push(kept);
                (self.slots.len() - 1) as u32
            }
        };
        let Self { slots, subjects, by_key, hasher, .. } = self;
        by_key.insert_unique(hash, slot, |slot| {
            wanted_at(slots, subjects, *slot).map_or(0, |it| crate::remote::subs::hash(hasher, it))
        });
        Change::New(slot)
    }

    /// Forgets something; what it was, if it was wanted.
    pub(crate) fn forget(&mut self, wanted: Wanted<'_>) -> Option<Gone> {
        let slot = self.find(wanted)?;
        if let Ok(entry) = self.by_key.find_entry(hash(&self.hasher, wanted), |other| *other == slot) {
            entry.remove();
        }
        let kept = self.slots.get_mut(slot)?.take()?;
        let gone = gone(&self.subjects, slot, &kept);
        self.subjects.forget(kept.subject);
        self.free.push(slot);
        if self.by_key.is_empty() {
            *self = Self { hasher: self.hasher.clone(), ..Self::new(0) };
        } else if self.subjects.is_wasteful() {
            let mut fresh = Texts::default();
            for kept in self.slots.iter_mut().flatten() {
                kept.subject = fresh.add(self.subjects.get(kept.subject));
            }
            self.subjects = fresh;
        }
        Some(gone)
    }

    /// Forgets something that a leafnode wanted, whichever did; what it was, if it was wanted.
    pub(crate) fn forget_of_a_leaf(&mut self, wanted: Wanted<'_>) -> Option<Gone> {
        let of = |origin| Wanted { origin, ..wanted };
        let origin = self.origins.iter().copied().find(|origin| self.find(of(*origin)).is_some())?;
        self.forget(of(origin))
    }

    /// Forgets everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Gone> + use<> {
        let all = std::mem::replace(self, Self { hasher: self.hasher.clone(), ..Self::new(0) });
        let Self { slots, subjects, .. } = all;
        slots.into_iter().zip(0..).filter_map(move |(kept, slot)| Some(gone(&subjects, slot, &kept?)))
    }

    /// What is known of something that was found in the interest; `None` where it is not there any more. One that was
    /// found by a hash must be asked whether it is for `name`.
    pub(crate) fn facts(&self, slot: u32, serial: u32, hashed_for: Option<&[u8]>) -> Option<Facts> {
        let kept = self.slots.get(slot)?.as_ref().filter(|kept| kept.serial == serial)?;
        if hashed_for.is_some_and(|name| !is_for(self.subjects.get(kept.subject), name)) {
            return None;
        }
        Some(Facts { weight: kept.weight, origin: kept.origin })
    }

    /// All of it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Wanted<'_>> {
        self.slots.iter().flatten().map(|kept| {
            let Kept { account, queue, origin, .. } = *kept;
            Wanted { account, subject: self.subjects.get(kept.subject), queue, origin }
        })
    }

    fn find(&self, wanted: Wanted<'_>) -> Option<u32> {
        let Self { slots, subjects, .. } = self;
        let is_it = |slot: &u32| wanted_at(slots, subjects, *slot) == Some(wanted);
        self.by_key.find(hash(&self.hasher, wanted), is_it).copied()
    }
}

fn wanted_at<'s>(slots: &Rows<Option<Kept>>, subjects: &'s Texts, slot: u32) -> Option<Wanted<'s>> {
    let kept = slots.get(slot)?.as_ref()?;
    let Kept { account, queue, origin, .. } = *kept;
    Some(Wanted { account, subject: subjects.get(kept.subject), queue, origin })
}

fn gone(subjects: &Texts, slot: u32, kept: &Kept) -> Gone {
    let Kept { account, queue, origin, serial, .. } = *kept;
    Gone { account, subject: subjects.get(kept.subject).into(), queue, origin, slot, serial }
}

fn hash(hasher: &SeedableRandomState, wanted: Wanted<'_>) -> u64 {
    hasher.hash_one((wanted.account, wanted.queue, wanted.origin, wanted.subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(account: u32, subject: &str, queue: u32, origin: u32) -> Wanted<'_> {
        Wanted { account, subject: subject.as_bytes(), queue, origin }
    }

    #[test]
    fn it_is_a_set_with_weights() {
        let mut subs = RemoteSubs::new(1);
        let a = wanted(0, "a", 0, 0);
        assert_eq!(subs.want(a, 0, 1), Change::New(0));
        assert_eq!(subs.want(a, 0, 2), Change::Weight(0), "once is enough");
        for (at, other) in
            [wanted(1, "a", 0, 0), wanted(0, "a", 1, 0), wanted(0, "a", 0, 1), wanted(0, "b", 0, 0)]
                .into_iter()
                .enumerate()
        {
            assert_eq!(subs.want(other, 3, 10 + at as u32), Change::New(at as u32 + 1), "{other:?}");
        }
        assert_eq!(subs.want(wanted(0, "a", 1, 0), 5, 9), Change::Weight(3));
        assert_eq!(subs.facts(2, 11, Some(b"a")), Some(Facts { weight: 5, origin: 0 }));
        assert_eq!(subs.facts(2, 11, Some(b"b")), None, "it shares a hash");
        assert_eq!(subs.facts(2, 12, None), None, "it is another one");
        assert!(subs.forget(a).is_some_and(|gone| *gone.subject == *b"a" && gone.serial == 1));
        assert!(subs.forget(a).is_none());
        assert_eq!((subs.len(), subs.drain().count(), subs.len()), (4, 4, 0));
    }

    #[test]
    fn places_and_texts_are_used_again() {
        let mut subs = RemoteSubs::new(7);
        let mut most = 0;
        for n in 0..5000_u32 {
            subs.want(wanted(0, &format!("subject.{n}"), 0, 0), 0, n);
            if n >= 100 {
                assert!(subs.forget(wanted(0, &format!("subject.{}", n - 100), 0, 0)).is_some());
            }
            most = most.max(subs.bytes());
        }
        assert_eq!((subs.len(), subs.iter().count()), (100, 100));
        assert!(most < 100_000, "{most}");
    }
}
