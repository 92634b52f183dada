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

/// The subscriptions with one subject. Most subjects have one, so one needs no allocation: not even a word more than it
/// takes, since there may be millions.
#[derive(Debug, Default)]
pub(crate) enum SubList {
    #[default]
    Empty,
    One(Plain),
    Many(Box<Many>),
}

/// A subscription without a queue group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain {
    conn: u32,
    slot: u32,
    serial: u32,
}

impl Plain {
    const fn sub(self) -> SubRef {
        let Self { conn, slot, serial } = self;
        SubRef { conn, slot, serial, queue: 0 }
    }
}

/// A longer list, or one with a queue group.
#[derive(Debug, Default)]
pub(crate) struct Many {
    all: Vec<SubRef>,
    /// The place of each entry by its serial, once looking for one would take long: thousands may leave at the same
    /// time. Empty before that.
    places: HashMap<u32, u32, FixedState>,
}

impl Many {
    fn push(&mut self, sub: SubRef) {
        self.all.push(sub);
        if !self.places.is_empty() {
            self.places.insert(sub.serial, self.all.len() as u32 - 1);
        } else if self.all.len() > INDEXED {
            // The server counts serials itself, so the seed may be fixed.
            self.places = self.all.iter().zip(0..).map(|(sub, place)| (sub.serial, place)).collect();
        }
    }

    fn find(&self, sub: SubRef) -> Option<usize> {
        if self.places.is_empty() {
            return self.all.iter().position(|other| *other == sub);
        }
        let place = *self.places.get(&sub.serial)? as usize;
        (self.all.get(place) == Some(&sub)).then_some(place)
    }

    fn remove(&mut self, sub: SubRef) -> bool {
        let Some(place) = self.find(sub) else { return false };
        self.all.swap_remove(place);
        if !self.places.is_empty() {
            self.places.remove(&sub.serial);
            if let Some(moved) = self.all.get(place) {
                self.places.insert(moved.serial, place as u32);
            }
            // Half as many, so that one who comes and goes does not make it anew each time.
            if self.all.len() < INDEXED / 2 {
                self.places = HashMap::default();
            }
        }
        if self.all.len() * 4 < self.all.capacity() {
            self.all.shrink_to_fit();
            self.places.shrink_to_fit();
        }
        true
    }
}

/// Marks the place of a connection to another server: it is among those, and not among the clients.
const REMOTE: u32 = 1 << 31;

impl SubRef {
    /// Something that is wanted behind another server, whose connection has that place.
    pub(crate) const fn behind(remote: u32, slot: u32, serial: u32, queue: u32) -> Self {
        Self { conn: remote | REMOTE, slot, serial, queue }
    }

    /// The place of the connection to another server, if this is behind one.
    pub(crate) const fn remote(self) -> Option<u32> {
        if self.conn & REMOTE > 0 { Some(self.conn & !REMOTE) } else { None }
    }
}

impl SubList {
    pub(crate) fn push(&mut self, sub: SubRef) {
        let SubRef { conn, slot, serial, queue } = sub;
        match self {
            Self::Empty if queue == 0 => *self = Self::One(Plain { conn, slot, serial }),
            Self::Empty => *self = Self::Many(Box::new(Many { all: vec![sub], ..Many::default() })),
            Self::One(first) => {
                *self = Self::Many(Box::new(Many { all: vec![first.sub(), sub], ..Many::default() }));
            }
            Self::Many(many) => many.push(sub),
        }
    }

    /// Removes `sub`; whether it was there.
    pub(crate) fn remove(&mut self, sub: SubRef) -> bool {
        match self {
            Self::One(only) if only.sub() == sub => *self = Self::Empty,
            Self::Many(many) => {
                if !many.remove(sub) {
                    return false;
                }
                match many.all.as_slice() {
                    [] => *self = Self::Empty,
                    [SubRef { conn, slot, serial, queue: 0 }] => {
                        *self = Self::One(Plain { conn: *conn, slot: *slot, serial: *serial });
                    }
                    _ => {}
                }
            }
            _ => return false,
        }
        true
    }

    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Appends all of them.
    pub(crate) fn collect(&self, found: &mut Vec<SubRef>) {
        match self {
            Self::Empty => {}
            Self::One(only) => found.push(only.sub()),
            Self::Many(many) => found.extend_from_slice(&many.all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(serial: u32) -> SubRef {
        SubRef { conn: serial % 7, slot: serial / 7, serial, queue: u32::from(serial % 3 == 1) }
    }

    fn all(list: &SubList) -> Vec<SubRef> {
        let mut found = Vec::new();
        list.collect(&mut found);
        found
    }

    #[test]
    fn a_list_is_small() {
        assert_eq!(size_of::<SubList>(), 16);
    }

    #[test]
    fn a_list_holds_what_was_pushed_and_not_removed_at_any_size() {
        let mut list = SubList::default();
        let most = INDEXED as u32 * 4;
        for serial in 0..most {
            list.push(sub(serial));
            assert_eq!(all(&list).len(), serial as usize + 1);
            assert!(!list.is_empty());
        }
        assert!(matches!(&list, SubList::Many(many) if many.places.len() == most as usize));
        assert!(!list.remove(sub(most)) && !list.remove(SubRef { slot: 9999, ..sub(3) }));
        // First those in the middle, then the first, then the last.
        let (a, b) = (most / 3, most / 2);
        let order = (a..b).chain(0..a).chain((b..most).rev());
        let mut left: Vec<u32> = (0..most).collect();
        for serial in order {
            assert!(list.remove(sub(serial)) && !list.remove(sub(serial)), "{serial}");
            left.retain(|kept| *kept != serial);
            let mut have = all(&list);
            have.sort_unstable_by_key(|sub| sub.serial);
            assert_eq!(have, left.iter().map(|serial| sub(*serial)).collect::<Vec<_>>());
        }
        assert!(list.is_empty());
    }
}
