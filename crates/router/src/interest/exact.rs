//! Subjects found by hash alone: literal ones, and `prefix.*` under its prefix.

use super::list::{SubList, SubRef};
use super::shared::{Contents, Shared};
use crate::rows::Rows;
use crate::subject::Subject;
use hashbrown::HashTable;

const BUCKETS: usize = 64;

/// A hash table in independently locked buckets. Whoever calls brings the hash of the key, and the way to hash the
/// keys that are there already.
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
    key: Subject,
    subs: SubList,
}

impl Contents for Bucket {
    fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

impl Bucket {
    fn find(&self, hash: u64, is_key: impl Fn(&[u8]) -> bool) -> Option<u32> {
        self.numbers.find(hash, |number| self.key(*number).is_some_and(&is_key)).copied()
    }

    fn key(&self, number: u32) -> Option<&[u8]> {
        self.entries.get(number).map(|entry| &*entry.key)
    }

    fn add(&mut self, hash: u64, entry: Entry, hash_of: impl Fn(&[u8]) -> u64) {
        let number = self.entries.len() as u32;
        self.entries.push(entry);
        let entries = &self.entries;
        self.numbers.insert_unique(hash, number, |number| hash_at(entries, *number, &hash_of));
    }

    /// Takes an entry out; the last one gets its number.
    fn take(&mut self, hash: u64, number: u32, hash_of: impl Fn(&[u8]) -> u64) {
        if let Ok(entry) = self.numbers.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        let last = self.entries.len() as u32 - 1;
        let moved = hash_at(&self.entries, last, &hash_of);
        self.entries.swap_remove(number);
        if let Some(other) = self.numbers.find_mut(moved, |other| *other == last) {
            *other = number;
        }
        if self.entries.len() * 8 < self.numbers.capacity() {
            let entries = &self.entries;
            self.numbers.shrink_to_fit(|number| hash_at(entries, *number, &hash_of));
        }
    }
}

fn hash_at(entries: &Rows<Entry>, number: u32, hash_of: impl Fn(&[u8]) -> u64) -> u64 {
    entries.get(number).map_or(0, |entry| hash_of(&entry.key))
}

impl Exact {
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Shared::default()).collect() }
    }

    fn bucket(&self, hash: u64) -> Option<&Shared<Bucket>> {
        self.buckets.get((hash >> 32) as usize % BUCKETS)
    }

    /// Adds `sub` under `key`, and gives back the table's own copy of the key, so that equal subjects share one.
    pub(crate) fn insert(
        &self,
        hash: u64,
        key: Subject,
        sub: SubRef,
        hash_of: impl Fn(&[u8]) -> u64,
    ) -> Subject {
        let Some(bucket) = self.bucket(hash) else { return key };
        bucket.change(|bucket| {
            let number = bucket.find(hash, |known| *known == *key);
            if let Some(entry) = number.and_then(|number| bucket.entries.get_mut(number)) {
                entry.subs.push(sub);
                return entry.key.clone();
            }
            bucket.add(hash, Entry { key: key.clone(), subs: SubList::One(sub) }, hash_of);
            key
        })
    }

    /// Removes `sub` from under `key`; whether it was there.
    pub(crate) fn remove(&self, hash: u64, key: &[u8], sub: SubRef, hash_of: impl Fn(&[u8]) -> u64) -> bool {
        let Some(bucket) = self.bucket(hash) else { return false };
        bucket.change(|bucket| {
            let Some(number) = bucket.find(hash, |known| known == key) else { return false };
            let Some(entry) = bucket.entries.get_mut(number) else { return false };
            let removed = entry.subs.remove(sub);
            if entry.subs.is_empty() {
                bucket.take(hash, number, hash_of);
            }
            removed
        })
    }

    /// Appends the subscriptions under the key that `is_key` recognises.
    pub(crate) fn collect(&self, hash: u64, is_key: impl Fn(&[u8]) -> bool, found: &mut Vec<SubRef>) {
        let Some(bucket) = self.bucket(hash) else { return };
        bucket.read(|bucket| {
            let number = bucket.find(hash, is_key);
            if let Some(entry) = number.and_then(|number| bucket.entries.get(number)) {
                found.extend_from_slice(entry.subs.as_slice());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    /// Entries move when others go; a bad hash puts them all beside each other.
    #[test]
    fn what_stays_is_found_whatever_goes() {
        for hash_of in [|key: &[u8]| u64::from(key[0]) << 57 | u64::from(key[0]), |_: &[u8]| 5] {
            let exact = Exact::new();
            let sub = |n: u8| SubRef { conn: u32::from(n), slot: 0, serial: 0, queue: 0 };
            for n in 0..200_u8 {
                exact.insert(hash_of(&[n]), Subject::from(&[n][..]), sub(n), hash_of);
            }
            for gone in (0..200_u8).step_by(3).chain((1..200).step_by(3)) {
                assert!(exact.remove(hash_of(&[gone]), &[gone], sub(gone), hash_of));
                assert!(!exact.remove(hash_of(&[gone]), &[gone], sub(gone), hash_of));
            }
            for n in 0..200_u8 {
                let mut found = Vec::new();
                exact.collect(hash_of(&[n]), |key| key == [n], &mut found);
                assert_eq!(found.len(), usize::from(n % 3 == 2), "{n}");
            }
        }
    }
}
