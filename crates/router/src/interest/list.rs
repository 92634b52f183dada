//! Who subscribed: lists of references, most of them small.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// One subscription, as the interest table knows it. The rest of it lives with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubRef {
    /// The connection's place in the router's table.
    pub(crate) conn: u32,
    /// The subscription's place among the connection's.
    pub(crate) slot: u32,
    /// What tells this subscription from an earlier one in the same slot.
    pub(crate) serial: u32,
    /// The queue group's number; zero for none.
    pub(crate) queue: u32,
}

/// From this many entries on, a list knows where each of its entries is.
const INDEXED: usize = 256;

/// The subscriptions with one subject. Most subjects have one, so one needs no allocation.
#[derive(Debug, Default)]
pub(crate) enum SubList {
    #[default]
    Empty,
    One(SubRef),
    Many(Vec<SubRef>),
    /// So many that looking for one would take long: thousands may leave at the same time.
    Indexed(Box<Indexed>),
}

/// A list with the place of each entry, by its serial.
#[derive(Debug)]
pub(crate) struct Indexed {
    all: Vec<SubRef>,
    places: HashMap<u32, u32, FixedState>,
}

impl Indexed {
    fn new(all: Vec<SubRef>) -> Self {
        // The server counts serials itself, so the seed may be fixed.
        let places = all.iter().zip(0..).map(|(sub, place)| (sub.serial, place)).collect();
        Self { all, places }
    }

    fn push(&mut self, sub: SubRef) {
        self.places.insert(sub.serial, self.all.len() as u32);
        self.all.push(sub);
    }

    fn remove(&mut self, sub: SubRef) -> bool {
        let Some(place) = self.places.get(&sub.serial).map(|place| *place as usize) else { return false };
        if self.all.get(place) != Some(&sub) {
            return false;
        }
        self.places.remove(&sub.serial);
        self.all.swap_remove(place);
        if let Some(moved) = self.all.get(place) {
            self.places.insert(moved.serial, place as u32);
        }
        if self.all.len() * 4 < self.all.capacity() {
            self.all.shrink_to_fit();
            self.places.shrink_to_fit();
        }
        true
    }
}

impl SubList {
    pub(crate) fn push(&mut self, sub: SubRef) {
        match self {
            Self::Empty => *self = Self::One(sub),
            Self::One(first) => *self = Self::Many(vec![*first, sub]),
            Self::Many(all) if all.len() < INDEXED => all.push(sub),
            Self::Many(all) => {
                let mut indexed = Indexed::new(std::mem::take(all));
                indexed.push(sub);
                *self = Self::Indexed(Box::new(indexed));
            }
            Self::Indexed(indexed) => indexed.push(sub),
        }
    }

    /// Removes `sub`; whether it was there.
    pub(crate) fn remove(&mut self, sub: SubRef) -> bool {
        match self {
            Self::One(only) if *only == sub => *self = Self::Empty,
            Self::Many(all) => {
                let Some(at) = all.iter().position(|s| *s == sub) else { return false };
                all.swap_remove(at);
                match all.as_slice() {
                    [] => *self = Self::Empty,
                    [last] => *self = Self::One(*last),
                    _ if all.len() * 4 < all.capacity() => all.shrink_to_fit(),
                    _ => {}
                }
            }
            Self::Indexed(indexed) => {
                if !indexed.remove(sub) {
                    return false;
                }
                // Half as many, so that one who comes and goes does not turn it back and forth.
                if indexed.all.len() < INDEXED / 2 {
                    *self = Self::Many(std::mem::take(&mut indexed.all));
                }
            }
            _ => return false,
        }
        true
    }

    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(crate) fn as_slice(&self) -> &[SubRef] {
        match self {
            Self::Empty => &[],
            Self::One(sub) => std::slice::from_ref(sub),
            Self::Many(all) => all,
            Self::Indexed(indexed) => &indexed.all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(serial: u32) -> SubRef {
        SubRef { conn: serial % 7, slot: serial / 7, serial, queue: 0 }
    }

    #[test]
    fn a_list_holds_what_was_pushed_and_not_removed_at_any_size() {
        let mut list = SubList::default();
        let most = INDEXED as u32 * 4;
        for serial in 0..most {
            list.push(sub(serial));
            assert_eq!(list.as_slice().len(), serial as usize + 1);
        }
        assert!(matches!(list, SubList::Indexed(_)));
        assert!(!list.remove(sub(most)) && !list.remove(SubRef { slot: 9999, ..sub(3) }));
        // First those in the middle, then the first, then the last.
        let (a, b) = (most / 3, most / 2);
        let order = (a..b).chain(0..a).chain((b..most).rev());
        let mut left: Vec<u32> = (0..most).collect();
        for serial in order {
            assert!(list.remove(sub(serial)) && !list.remove(sub(serial)), "{serial}");
            left.retain(|kept| *kept != serial);
            let mut have: Vec<u32> = list.as_slice().iter().map(|sub| sub.serial).collect();
            have.sort_unstable();
            assert_eq!(have, left);
        }
        assert!(list.is_empty());
    }
}
