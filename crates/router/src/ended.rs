//! The connections that ended last, for monitoring.

use std::collections::VecDeque;

use crate::snapshot::ConnSnapshot;

/// Subscriptions that are remembered of each connection, and of all together.
pub(crate) const SUBSCRIPTIONS_EACH: usize = 32;
const SUBSCRIPTIONS: usize = 4096;

/// Ended connections, oldest first. The older ones have lost their subscriptions, which take much more room than all
/// the rest.
#[derive(Debug)]
pub(crate) struct EndedConns {
    most: usize,
    list: VecDeque<ConnSnapshot>,
    subscriptions: usize,
    /// How many of the oldest have lost theirs.
    bare: usize,
}

impl EndedConns {
    /// Room for so many.
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, list: VecDeque::new(), subscriptions: 0, bare: 0 }
    }

    pub(crate) fn push(&mut self, mut ended: ConnSnapshot) {
        ended.subscriptions.shrink_to_fit();
        self.subscriptions += ended.subscriptions.len();
        self.list.push_back(ended);
        while self.list.len() > self.most {
            let oldest = self.list.pop_front();
            self.subscriptions -= oldest.map_or(0, |oldest| oldest.subscriptions.len());
            self.bare = self.bare.saturating_sub(1);
        }
        while self.subscriptions > SUBSCRIPTIONS
            && let Some(oldest) = self.list.get_mut(self.bare)
        {
            self.subscriptions -= std::mem::take(&mut oldest.subscriptions).len();
            self.bare += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConnSnapshot> {
        self.list.iter()
    }
}
