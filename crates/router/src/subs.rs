//! The subscriptions of one connection.

use std::fmt;

use hashbrown::HashTable;

use crate::rows::Rows;
use crate::subject::Subject;

/// Bytes that are kept in place: of a sid and at least one blank behind it.
const INLINE: usize = 14;

/// A client's own name for a subscription. Nearly always a short number, so it is kept in place.
#[derive(Clone)]
pub(crate) enum Sid {
    Inline(u8, [u8; INLINE]),
    /// Boxed twice, so that it takes no more room than a short one.
    Heap(Box<Box<[u8]>>),
}

impl Sid {
    pub(crate) fn new(sid: &[u8]) -> Self {
        let mut bytes = [b' '; INLINE];
        match bytes.get_mut(..sid.len()) {
            Some(start) if sid.len() < INLINE => {
                start.copy_from_slice(sid);
                Self::Inline(sid.len() as u8, bytes)
            }
            _ => Self::Heap(Box::new(sid.into())),
        }
    }

    /// Appends the sid and a blank, for which there is room for [`Sid::room`] bytes.
    #[inline]
    pub(crate) fn put(&self, room: &mut Vec<u8>) {
        match self {
            Self::Inline(len, bytes) => {
                // Copying a fixed number of bytes is a move or two; the right number would be a call.
                let end = room.len() + usize::from(*len) + 1;
                room.extend_from_slice(bytes);
                room.truncate(end);
            }
            Self::Heap(bytes) => {
                room.extend_from_slice(bytes);
                room.push(b' ');
            }
        }
    }

    /// Bytes that [`Sid::put`] may need for a moment.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        match self {
            Self::Inline(..) => INLINE,
            Self::Heap(bytes) => bytes.len() + 1,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) subject: Subject,
    pub(crate) sid: Sid,
    pub(crate) serial: u32,
    /// The queue group's number; zero for none.
    pub(crate) queue: u32,
    /// Messages delivered so far.
    pub(crate) delivered: u64,
    /// Deliveries after which it ends; zero for never.
    pub(crate) max: u64,
}

impl Subscription {
    /// Counts a message; whether it was the last one that was asked for.
    #[inline]
    pub(crate) const fn count(&mut self) -> bool {
        self.delivered += 1;
        self.max > 0 && self.delivered >= self.max
    }
}

/// A connection's subscriptions, by place and by sid. Lives under the connection's lock.
#[derive(Debug, Default)]
pub(crate) struct SubTable {
    slots: Rows<Option<Subscription>>,
    free: Vec<u32>,
    by_sid: HashTable<u32>,
}

impl SubTable {
    pub(crate) fn len(&self) -> usize {
        self.by_sid.len()
    }

    pub(crate) fn find(&self, sid: &[u8]) -> Option<u32> {
        self.by_sid.find(hash_sid(sid), |slot| self.sid(*slot) == sid).copied()
    }

    /// Adds a subscription whose sid is not in use; its place.
    pub(crate) fn insert(&mut self, sub: Subscription) -> u32 {
        let hash = hash_sid(sub.sid.bytes());
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(free) = self.slots.get_mut(slot) {
                    *free = Some(sub);
                }
                slot
            }
            None => {
                self.slots.push(Some(sub));
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.by_sid.insert_unique(hash, slot, |slot| hash_sid(sid_at(slots, *slot)));
        slot
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32, serial: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(slot)?.as_mut().filter(|sub| sub.serial == serial)
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Subscription> {
        let hash = hash_sid(self.sid(slot));
        if let Ok(entry) = self.by_sid.find_entry(hash, |s| *s == slot) {
            entry.remove();
        }
        let sub = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        if self.by_sid.is_empty() {
            *self = Self::default();
        }
        Some(sub)
    }

    /// Removes those that `gone` says so of; each with its place.
    pub(crate) fn remove_if(&mut self, gone: impl Fn(&Subscription) -> bool) -> Vec<(u32, Subscription)> {
        let found = self.slots.iter().zip(0..).filter(|(sub, _)| sub.as_ref().is_some_and(&gone));
        let slots: Vec<u32> = found.map(|(_, slot)| slot).collect();
        slots.into_iter().filter_map(|slot| Some((slot, self.remove(slot)?))).collect()
    }

    /// Removes all; each with its place.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u32, Subscription)> + use<> {
        let all = std::mem::take(self);
        all.slots.into_iter().enumerate().filter_map(|(slot, sub)| Some((slot as u32, sub?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.slots.iter().flatten()
    }

    fn sid(&self, slot: u32) -> &[u8] {
        sid_at(&self.slots, slot)
    }
}

fn sid_at(slots: &Rows<Option<Subscription>>, slot: u32) -> &[u8] {
    slots.get(slot).and_then(Option::as_ref).map_or(&[], |sub| sub.sid.bytes())
}

/// Only the connection itself chooses its sids and only it suffers from collisions, so the seed is fixed.
fn hash_sid(sid: &[u8]) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::default().hash_one(sid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(sid: &[u8], serial: u32) -> Subscription {
        Subscription { subject: b"a"[..].into(), sid: Sid::new(sid), serial, queue: 0, delivered: 0, max: 0 }
    }

    #[test]
    fn a_subscription_is_small() {
        assert_eq!((size_of::<Sid>(), size_of::<Option<Subscription>>()), (16, 48));
    }

    #[test]
    fn a_slot_used_again_is_another_subscription() {
        let mut table = SubTable::default();
        let long = [b'x'; 40];
        let a = table.insert(sub(b"1", 1));
        let b = table.insert(sub(&long, 2));
        assert_eq!((table.find(b"1"), table.find(&long), table.find(b"2")), (Some(a), Some(b), None));
        assert!(table.remove(a).is_some());
        let c = table.insert(sub(b"3", 3));
        assert_eq!(a, c);
        assert!(table.get_mut(a, 1).is_none());
        assert!(table.get_mut(c, 3).is_some());
        assert_eq!(table.drain().count(), 2);
        assert_eq!(table.len(), 0);
    }
}
