//! Subjects found by hash alone: literal ones, and `prefix.*` under its prefix.
//!
//! The subjects themselves are with the connections that subscribed, and only there. Two that hash alike share an
//! entry; whoever finds them asks the connections (see `Conn::wants`), whose locks a delivery takes anyway.

use super::list::{SubList, SubRef};
use super::shared::{Contents, Shared};
use crate::rows::Rows;
use hashbrown::HashTable;

const BUCKETS: usize = 64;

/// A hash table in independently locked buckets. Whoever calls brings the hash.
#[derive(Debug)]
pub(crate) struct Exact {
    buckets: Box<[Shared<Bucket>]>,
}

/// Entries lie in rows, and the table holds their numbers: a hash table is up to half empty, and empty numbers
/// are smaller than empty entries.
#[derive(Debug, Default)]
struct Bucket {
    entries: Rows<Entry>,
    numbers: HashTable<u32>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    subs: SubList,
}

impl Contents for Bucket {
    fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

impl Bucket {
    fn find(&self, hash: u64) -> Option<u32> {
        self.numbers.find(hash, |number| hash_at(&self.entries, *number) == hash).copied()
    }

    fn add(&mut self, entry: Entry) {
        let (number, hash) = (self.entries.len() as u32, entry.hash);
        self.entries.push(entry);
        let entries = &self.entries;
        self.numbers.insert_unique(hash, number, |number| hash_at(entries, *number));
    }

    /// Takes an entry out; the last one gets its number.
    fn take(&mut self, number: u32) {
        if let Ok(entry) = self.numbers.find_entry(hash_at(&self.entries, number), |other| *other == number) {
            entry.remove();
        }
        let last = self.entries.len() as u32 - 1;
        let moved = hash_at(&self.entries, last);
        self.entries.swap_remove(number);
        if let Some(other) = self.numbers.find_mut(moved, |other| *other == last) {
            *other = number;
        }
        if self.entries.len() * 8 < self.numbers.capacity() {
            let entries = &self.entries;
            self.numbers.shrink_to_fit(|number| hash_at(entries, *number));
        }
    }
}

fn hash_at(entries: &Rows<Entry>, number: u32) -> u64 {
    entries.get(number).map_or(0, |entry| entry.hash)
}

impl Exact {
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Shared::default()).collect() }
    }

    fn bucket(&self, hash: u64) -> Option<&Shared<Bucket>> {
        self.buckets.get((hash >> 32) as usize % BUCKETS)
    }

    pub(crate) fn insert(&self, hash: u64, sub: SubRef) {
        let Some(bucket) = self.bucket(hash) else { return };
        bucket.change(|bucket| {
            let number = bucket.find(hash);
            if let Some(entry) = number.and_then(|number| bucket.entries.get_mut(number)) {
                return entry.subs.push(sub);
            }
            let mut subs = SubList::default();
            subs.push(sub);
            bucket.add(Entry { hash, subs });
        });
    }

    /// Removes a subscription; whether it was there.
    pub(crate) fn remove(&self, hash: u64, sub: SubRef) -> bool {
        let Some(bucket) = self.bucket(hash) else { return false };
        bucket.change(|bucket| {
            let Some(number) = bucket.find(hash) else { return false };
            let Some(entry) = bucket.entries.get_mut(number) else { return false };
            let removed = entry.subs.remove(sub);
            if entry.subs.is_empty() {
                bucket.take(number);
            }
            removed
        })
    }

    /// Appends the subscriptions on what has that hash, and perhaps others.
    pub(crate) fn collect(&self, hash: u64, found: &mut Vec<SubRef>) {
        let Some(bucket) = self.bucket(hash) else { return };
        bucket.read(|bucket| {
            let number = bucket.find(hash);
            if let Some(entry) = number.and_then(|number| bucket.entries.get(number)) {
                entry.subs.collect(found);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    /// Entries move when others go. A bad hash puts them beside each other, a worse one into one entry.
    #[test]
    fn what_stays_is_found_whatever_goes() {
        let hashes: [fn(u8) -> u64; 3] = [|n| u64::from(n) << 57 | u64::from(n), u64::from, |_| 5];
        for hash_of in hashes {
            let exact = Exact::new();
            let sub = |n: u8| SubRef { conn: u32::from(n), slot: 0, serial: u32::from(n), queue: 0 };
            for n in 0..200_u8 {
                exact.insert(hash_of(n), sub(n));
            }
            for gone in (0..200_u8).step_by(3).chain((1..200).step_by(3)) {
                assert!(exact.remove(hash_of(gone), sub(gone)));
                assert!(!exact.remove(hash_of(gone), sub(gone)));
            }
            for n in 0..200_u8 {
                let mut found = Vec::new();
                exact.collect(hash_of(n), &mut found);
                assert_eq!(found.contains(&sub(n)), n % 3 == 2, "{n}");
                assert!(found.iter().all(|sub| hash_of(sub.conn as u8) == hash_of(n)));
            }
        }
    }
}
