//! The subscriptions of one connection.

use std::fmt;

use hashbrown::HashTable;
use midge_wire::subject::SEPARATOR;

use crate::rows::Rows;
use crate::texts::{Text, Texts};

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
    subject: Text,
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

/// A subscription that its connection has no more, to be taken out of the interest, too.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) subject: Box<[u8]>,
    pub(crate) sid: Sid,
    pub(crate) slot: u32,
    pub(crate) serial: u32,
    pub(crate) queue: u32,
}

/// A connection's subscriptions, by place and by sid. Lives under the connection's lock.
#[derive(Debug, Default)]
pub(crate) struct SubTable {
    slots: Rows<Option<Subscription>>,
    /// What delivering to them does not need. A connection without subscriptions has none of it.
    names: Option<Box<Names>>,
}

/// What subscriptions are called.
#[derive(Debug, Default)]
struct Names {
    subjects: Texts,
    by_sid: HashTable<u32>,
    /// Places of subscriptions that have gone.
    free: Vec<u32>,
}

impl SubTable {
    pub(crate) fn len(&self) -> usize {
        self.names.as_ref().map_or(0, |names| names.by_sid.len())
    }

    pub(crate) fn find(&self, sid: &[u8]) -> Option<u32> {
        self.names.as_ref()?.by_sid.find(hash_sid(sid), |slot| sid_at(&self.slots, *slot) == sid).copied()
    }

    /// Adds a subscription whose sid is not in use; its place.
    pub(crate) fn insert(&mut self, subject: &[u8], sid: Sid, serial: u32, queue: u32) -> u32 {
        let Self { slots, names } = self;
        let Names { subjects, by_sid, free } = &mut **names.get_or_insert_default();
        let hash = hash_sid(sid.bytes());
        let subject = subjects.add(subject);
        let sub = Some(Subscription { subject, sid, serial, queue, delivered: 0, max: 0 });
        let slot = match free.pop() {
            Some(slot) => {
                if let Some(free) = slots.get_mut(slot) {
                    *free = sub;
                }
                slot
            }
            None => {
                slots.push(sub);
                (slots.len() - 1) as u32
            }
        };
        by_sid.insert_unique(hash, slot, |slot| hash_sid(sid_at(slots, *slot)));
        slot
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32, serial: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(slot)?.as_mut().filter(|sub| sub.serial == serial)
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Whether a subscription that was found by a hash is there, and its subject is `name` or the `prefix.*` of it.
    pub(crate) fn wants(&self, name: &[u8], slot: u32, serial: u32) -> bool {
        self.subject(slot, serial).is_some_and(|subject| is_for(subject, name))
    }

    fn subject(&self, slot: u32, serial: u32) -> Option<&[u8]> {
        let sub = self.slots.get(slot)?.as_ref().filter(|sub| sub.serial == serial)?;
        Some(self.names.as_ref()?.subjects.get(sub.subject))
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Ended> {
        let Self { slots, names } = self;
        let Names { subjects, by_sid, free } = &mut **names.as_mut()?;
        if let Ok(entry) = by_sid.find_entry(hash_sid(sid_at(slots, slot)), |s| *s == slot) {
            entry.remove();
        }
        let sub = slots.get_mut(slot)?.take()?;
        let ended = ended(subjects, slot, &sub);
        subjects.forget(sub.subject);
        free.push(slot);
        if by_sid.is_empty() {
            *self = Self::default();
        } else if subjects.is_wasteful() {
            move_subjects(slots, subjects);
        }
        Some(ended)
    }

    /// Removes those that `gone` says so of, by their subjects.
    pub(crate) fn remove_if(&mut self, gone: impl Fn(&[u8], &Subscription) -> bool) -> Vec<Ended> {
        let Some(names) = &self.names else { return Vec::new() };
        let all = self.slots.iter().zip(0..).filter_map(|(sub, slot)| Some((sub.as_ref()?, slot)));
        let found = all.filter(|(sub, _)| gone(names.subjects.get(sub.subject), sub));
        let slots: Vec<u32> = found.map(|(_, slot)| slot).collect();
        slots.into_iter().filter_map(|slot| self.remove(slot)).collect()
    }

    /// Removes all.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Ended> + use<> {
        let Self { slots, names } = std::mem::take(self);
        let subjects = names.map(|names| names.subjects).unwrap_or_default();
        slots.into_iter().zip(0..).filter_map(move |(sub, slot)| Some(ended(&subjects, slot, &sub?)))
    }

    /// All, each with its subject.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Subscription)> {
        self.names.iter().flat_map(move |names| {
            self.slots.iter().flatten().map(move |sub| (names.subjects.get(sub.subject), sub))
        })
    }
}

/// Leaves behind what nobody needs any more. So many have gone since the last time that each of them paid for a part of
/// it.
#[cold]
fn move_subjects(slots: &mut Rows<Option<Subscription>>, subjects: &mut Texts) {
    let mut fresh = Texts::default();
    for sub in slots.iter_mut().flatten() {
        sub.subject = fresh.add(subjects.get(sub.subject));
    }
    *subjects = fresh;
}

/// Whether a subscription on `subject` that was found by the hash of `name` is meant: it is that, or the `prefix.*` of it.
pub(crate) fn is_for(subject: &[u8], name: &[u8]) -> bool {
    subject == name || is_star_of(subject, name)
}

/// Whether `subject` is all of `name` but for the last token, and a `*`.
fn is_star_of(subject: &[u8], name: &[u8]) -> bool {
    let rest = subject.strip_suffix(b"*").and_then(|parent| name.strip_prefix(parent));
    subject.ends_with(b".*") && rest.is_some_and(|last| !last.is_empty() && !last.contains(&SEPARATOR))
}

fn ended(subjects: &Texts, slot: u32, sub: &Subscription) -> Ended {
    let subject = subjects.get(sub.subject).into();
    Ended { subject, sid: sub.sid.clone(), slot, serial: sub.serial, queue: sub.queue }
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
    use midge_wire::subject;
    use proptest::prelude::*;

    use super::*;

    /// A subscription on its own sid.
    fn add(table: &mut SubTable, sid: &[u8], serial: u32) -> u32 {
        table.insert(sid, Sid::new(sid), serial, 0)
    }

    #[test]
    fn a_subscription_is_small() {
        assert_eq!((size_of::<Sid>(), size_of::<Option<Subscription>>()), (16, 48));
    }

    #[test]
    fn a_slot_used_again_is_another_subscription() {
        let mut table = SubTable::default();
        let long = [b'x'; 40];
        let a = add(&mut table, b"1", 1);
        let b = add(&mut table, &long, 2);
        assert_eq!((table.find(b"1"), table.find(&long), table.find(b"2")), (Some(a), Some(b), None));
        assert!(table.remove(a).is_some());
        let c = add(&mut table, b"3", 3);
        assert_eq!(a, c);
        assert!(table.get_mut(a, 1).is_none() && table.subject(a, 1).is_none());
        assert!(table.get_mut(c, 3).is_some());
        assert!(table.wants(b"3", c, 3) && !table.wants(b"3", c, 1) && !table.wants(b"4", c, 3));
        assert!(!table.wants(b"3", 9, 3), "nobody is there");
        let star = table.insert(b"a.*", Sid::new(b"4"), 4, 0);
        assert!(table.wants(b"a.b", star, 4) && !table.wants(b"b.b", star, 4));
        assert_eq!(table.drain().count(), 3);
        assert_eq!(table.len(), 0);
    }

    proptest! {
        #[test]
        fn a_star_is_of_what_it_matches(parent in "[a*]{1,2}(\\.[a*]{1,2}){0,2}", name in "[a*]{0,2}(\\.[a*]{0,2}){0,3}") {
            let star = format!("{parent}.*");
            // A name with an empty token is wanted by nobody, and not looked for.
            prop_assume!(!subject::has_wildcard(parent.as_bytes()) && name.split('.').all(|token| !token.is_empty()));
            let (star, name) = (star.as_bytes(), name.as_bytes());
            prop_assert_eq!(is_star_of(star, name), subject::matches(star, name));
        }
    }

    #[test]
    fn only_a_last_token_that_is_a_star_is_one() {
        for (subject, name, is_it) in [
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a.", false),
            ("a.*", "a", false),
            ("a*", "ab", false),
            ("*", "a", false),
        ] {
            assert_eq!(is_star_of(subject.as_bytes(), name.as_bytes()), is_it, "{subject} {name}");
        }
    }

    #[test]
    fn subjects_stay_what_they_are_whoever_leaves() {
        let mut table = SubTable::default();
        let subject = |n: u32| format!("{n}.{}", "x".repeat(n as usize % 90)).into_bytes();
        let mut kept = Vec::new();
        for n in 0..3000_u32 {
            let slot = table.insert(&subject(n), Sid::new(n.to_string().as_bytes()), n, 0);
            kept.push((slot, n));
            if n % 5 > 0 {
                let (slot, gone) = kept.swap_remove(n as usize * 7 % kept.len());
                assert_eq!(*table.remove(slot).unwrap().subject, subject(gone));
            }
        }
        assert_eq!((table.len(), table.iter().count()), (kept.len(), kept.len()));
        assert!(kept.len() > 500 && !table.names.as_ref().unwrap().subjects.is_wasteful());
        for (slot, n) in kept {
            assert_eq!(table.subject(slot, n), Some(subject(n).as_slice()));
        }
        let even = table.remove_if(|subject, _| subject.len() % 2 == 0);
        assert!(!even.is_empty() && even.iter().all(|ended| ended.subject.len() % 2 == 0));
        assert!(table.iter().all(|(subject, _)| subject.len() % 2 == 1));
    }
}
