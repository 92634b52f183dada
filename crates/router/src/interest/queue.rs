//! Numbers for the names of queue groups.

use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashMap;

use crate::sync::Mutex;

/// Gives every queue group's name in use a number. A name is forgotten with its last subscription, so that
/// clients that make up names cannot fill the memory.
#[derive(Debug)]
pub(crate) struct QueueNames(Mutex<Names>);

#[derive(Debug)]
struct Names {
    numbers: HashMap<Arc<[u8]>, u32, SeedableRandomState>,
    /// The name and its number of users, at number minus one.
    names: Vec<(Arc<[u8]>, u32)>,
    free: Vec<u32>,
}

impl QueueNames {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        let numbers = HashMap::with_hasher(hasher);
        Self(Mutex::new(Names { numbers, names: Vec::new(), free: Vec::new() }))
    }

    /// The number for one more user of `name`; zero for the empty name.
    pub(crate) fn acquire(&self, name: &[u8]) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let mut guard = self.0.lock();
        let all = &mut *guard;
        if let Some(number) = all.numbers.get(name).copied() {
            if let Some((_, users)) = all.names.get_mut(number as usize - 1) {
                *users += 1;
            }
            return number;
        }
        let name: Arc<[u8]> = name.into();
        let number = match all.free.pop() {
            Some(number) => {
                if let Some(entry) = all.names.get_mut(number as usize - 1) {
                    *entry = (name.clone(), 1);
                }
                number
            }
            None => {
                all.names.push((name.clone(), 1));
                all.names.len() as u32
            }
        };
        all.numbers.insert(name, number);
        number
    }

    /// One user of this number less.
    pub(crate) fn release(&self, number: u32) {
        if number == 0 {
            return;
        }
        let mut guard = self.0.lock();
        let all = &mut *guard;
        let Some((name, users)) = all.names.get_mut(number as usize - 1) else { return };
        *users = users.saturating_sub(1);
        if *users == 0 {
            all.numbers.remove(name);
            *name = Arc::default();
            all.free.push(number);
        }
    }

    /// The name behind a number; empty for zero.
    pub(crate) fn name(&self, number: u32) -> Arc<[u8]> {
        if number == 0 {
            return Arc::default();
        }
        let names = self.0.lock();
        let entry = (number as usize).checked_sub(1).and_then(|at| names.names.get(at));
        entry.map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use_keep_their_number_and_others_are_forgotten() {
        let names = QueueNames::new(1);
        let a = names.acquire(b"a");
        assert_eq!(names.acquire(b"a"), a);
        let b = names.acquire(b"b");
        assert_ne!(a, b);
        assert_eq!((names.acquire(b""), &*names.name(a), &*names.name(0)), (0, &b"a"[..], &b""[..]));
        names.release(a);
        assert_eq!(names.acquire(b"a"), a);
        names.release(a);
        names.release(a);
        assert_eq!(names.acquire(b"c"), a, "the number of a forgotten name is used again");
        assert_eq!(&*names.name(b), b"b");
    }
}
