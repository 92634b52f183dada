//! What has come lately.

use std::collections::HashSet;

use super::{Rules, SignedError, UnixTime, Verified};

/// Marks of messages that are still fresh, in two sets by when they came: when two windows have gone by, the older one is
/// forgotten as a whole.
#[derive(Debug, Default)]
pub struct Replays {
    /// Which stretch of time, of two windows each, the newer set is for.
    stretch: i64,
    newer: HashSet<[u8; 32]>,
    older: HashSet<[u8; 32]>,
}

impl Replays {
    /// Whether the message has not come before. It has from now on.
    pub(super) fn admit(
        &mut self,
        verified: &Verified,
        now: UnixTime,
        rules: &Rules,
    ) -> Result<(), SignedError> {
        // A message may be a window older or newer than now, so it must be remembered for two.
        let width = i64::try_from(rules.window.as_nanos().saturating_mul(2)).unwrap_or(i64::MAX).max(1);
        let stretch = now.nanos().div_euclid(width);
        // A clock that was far ahead and has been set back begins anew.
        if stretch + 1 < self.stretch {
            *self = Self { stretch, ..Self::default() };
        }
        if stretch > self.stretch {
            let newer = std::mem::take(&mut self.newer);
            self.older = if stretch == self.stretch + 1 { newer } else { HashSet::new() };
            self.stretch = stretch;
        }
        if self.newer.contains(&verified.mark) || self.older.contains(&verified.mark) {
            return Err(SignedError::Replayed);
        }
        // To forget others would let them come again.
        if self.newer.len() + self.older.len() >= rules.max_remembered {
            return Err(SignedError::Overloaded);
        }
        self.newer.insert(verified.mark);
        Ok(())
    }
}
