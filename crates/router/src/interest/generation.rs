//! Hashed generations: how a cached match knows that it is out of date.
//!
//! One counter for a whole table would make every new subscription spoil every cached match. Here a change of
//! interest bumps one of many counters, chosen by the hash of what changed, and a cached match remembers the
//! values of the four counters that could concern it: the subject itself, `parent.*`, wildcards below the same
//! first token, and wildcards in the first token.
//!
//! Order matters. A reader takes the [`Stamp`] *before* it looks at the table; a writer changes the table and
//! *then* bumps, both before it answers the subscriber. A target that has gone in the meantime is caught when it
//! is locked for delivery.

use crate::sync::atomic::{AtomicU32, Ordering};

/// The model's counters are large.
const SLOTS: usize = if cfg!(shuttle) { 1 << 6 } else { 1 << 14 };

/// The counters, shared by all accounts of a router.
#[derive(Debug)]
pub(crate) struct Generations(Box<[AtomicU32; SLOTS]>);

/// The counters that concern one subject and their values at one time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stamp {
    slots: [Slot; 4],
    values: [u32; 4],
}

impl Generations {
    pub(crate) fn new() -> Self {
        Self(Box::new([const { AtomicU32::new(0) }; SLOTS]))
    }

    /// Tells that what hashes to `hash` has changed.
    pub(crate) fn bump(&self, hash: u64) {
        self.counter(Slot::of(hash)).fetch_add(1, Ordering::Release);
    }

    pub(crate) fn stamp(&self, hashes: [u64; 4]) -> Stamp {
        let slots = hashes.map(Slot::of);
        Stamp { slots, values: slots.map(|slot| self.value(slot)) }
    }

    #[inline]
    pub(crate) fn is_current(&self, stamp: &Stamp) -> bool {
        stamp.slots.map(|slot| self.value(slot)) == stamp.values
    }

    #[inline]
    fn value(&self, slot: Slot) -> u32 {
        self.counter(slot).load(Ordering::Acquire)
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a slot is below their number, whatever it holds")]
    fn counter(&self, slot: Slot) -> &AtomicU32 {
        &self.0[usize::from(slot.0) % SLOTS]
    }
}

/// Which counter.
#[derive(Debug, Clone, Copy, Default)]
struct Slot(u16);

impl Slot {
    /// The counter for a hash: its upper bits, which foldhash mixes best.
    const fn of(hash: u64) -> Self {
        Self((hash >> 48) as u16)
    }
}
