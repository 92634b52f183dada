//! Who subscribed: small lists of references.

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

/// The subscriptions with one subject. Most subjects have one, so one needs no allocation.
#[derive(Debug, Default)]
pub(crate) enum SubList {
    #[default]
    Empty,
    One(SubRef),
    Many(Vec<SubRef>),
}

impl SubList {
    pub(crate) fn push(&mut self, sub: SubRef) {
        match self {
            Self::Empty => *self = Self::One(sub),
            Self::One(first) => *self = Self::Many(vec![*first, sub]),
            Self::Many(all) => all.push(sub),
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
        }
    }
}
