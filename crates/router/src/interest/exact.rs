//! Subjects found by hash alone: literal ones, and `prefix.*` under its prefix.

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;

use super::list::{SubList, SubRef};

const BUCKETS: usize = 64;

/// A hash table in independently locked buckets.
#[derive(Debug)]
pub(crate) struct Exact {
    buckets: Box<[RwLock<HashTable<Entry>>]>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Arc<[u8]>,
    subs: SubList,
}

impl Exact {
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| RwLock::new(HashTable::new())).collect() }
    }

    fn bucket(&self, hash: u64) -> Option<&RwLock<HashTable<Entry>>> {
        self.buckets.get((hash >> 32) as usize % BUCKETS)
    }

    /// Adds `sub` under `key`, and gives back the table's own copy of the key, so that equal subjects share one.
    pub(crate) fn insert(&self, hash: u64, key: Arc<[u8]>, sub: SubRef) -> Arc<[u8]> {
        let Some(bucket) = self.bucket(hash) else { return key };
        let mut table = bucket.write();
        let same = |entry: &Entry| entry.hash == hash && entry.key == key;
        if let Some(entry) = table.find_mut(hash, same) {
            entry.subs.push(sub);
            return entry.key.clone();
        }
        let entry = Entry { hash, key: key.clone(), subs: SubList::One(sub) };
        table.insert_unique(hash, entry, |entry| entry.hash);
        key
    }

    /// Removes `sub` from under `key`; whether it was there.
    pub(crate) fn remove(&self, hash: u64, key: &[u8], sub: SubRef) -> bool {
        let Some(bucket) = self.bucket(hash) else { return false };
        let mut table = bucket.write();
        let Ok(mut entry) = table.find_entry(hash, |entry| entry.hash == hash && *entry.key == *key) else {
            return false;
        };
        let removed = entry.get_mut().subs.remove(sub);
        if entry.get().subs.is_empty() {
            entry.remove();
            if table.len() * 8 < table.capacity() {
                table.shrink_to_fit(|entry| entry.hash);
            }
        }
        removed
    }

    /// Appends the subscriptions under the key that `is_key` recognises.
    pub(crate) fn collect(&self, hash: u64, is_key: impl Fn(&[u8]) -> bool, found: &mut Vec<SubRef>) {
        let Some(bucket) = self.bucket(hash) else { return };
        let table = bucket.read();
        if let Some(entry) = table.find(hash, |entry| entry.hash == hash && is_key(&entry.key)) {
            found.extend_from_slice(entry.subs.as_slice());
        }
    }
}
