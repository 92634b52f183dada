//! What happens to links, for whoever has use for them.

use std::collections::VecDeque;
use std::sync::Arc;

use midge_identity::PeerId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::link::{Ended, Link};

/// Something that happened to a link, or did not come to be one.
#[derive(Debug, Clone)]
pub enum LinkEvent {
    /// There is a link to a peer to which there was none.
    Up(Link),
    /// Another link to the peer has taken the place of the one before.
    Moved {
        /// The one that is used now.
        link: Link,
        /// The number of the one before.
        before: u64,
        /// Why that one is not used any more.
        why: Ended,
    },
    /// The other side of a link has another address now.
    Roamed {
        /// The link.
        link: Link,
        /// Where the other side was.
        from: String,
    },
    /// There is no link to a peer any more.
    Down {
        /// The one that there was.
        link: Link,
        /// Why it has ended.
        why: Ended,
    },
    /// Somebody wanted a link and got none.
    Refused {
        /// Where from.
        address: String,
        /// Who it was, if that was proven.
        peer: Option<PeerId>,
        /// Why not.
        why: String,
    },
    /// A peer that is wanted could not be reached at an address.
    Unreachable {
        /// Who.
        peer: PeerId,
        /// Where.
        address: String,
        /// How often in a row by now.
        attempts: u32,
        /// Why.
        why: String,
    },
}

impl LinkEvent {
    /// Whether nothing goes wrong if it is not told.
    const fn is_remark(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unreachable { .. } | Self::Roamed { .. })
    }
}

/// Most events that wait before strangers' are not kept any more; each link makes a few of the others.
const MOST_REMARKS: usize = 1024;

/// Events in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<LinkEvent>,
    /// Whether nobody takes any, or none will come.
    over: bool,
}

impl Queue {
    pub(super) fn push(&self, event: LinkEvent) {
        let mut state = self.waiting.lock();
        if state.over || (event.is_remark() && state.events.len() >= MOST_REMARKS) {
            return;
        }
        state.events.push_back(event);
        drop(state);
        self.arrived.notify_one();
    }

    pub(super) fn end(&self) {
        self.waiting.lock().over = true;
        self.arrived.notify_one();
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().events.len()
    }
}

/// What happens to links, in order. While nobody takes events no further links are taken up.
#[derive(Debug)]
pub struct LinkEvents(pub(super) Arc<Queue>);

impl LinkEvents {
    /// The next one; `None` once the table is closed and all have been taken.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        loop {
            {
                let mut state = self.0.waiting.lock();
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if state.over {
                    return None;
                }
            }
            self.0.arrived.notified().await;
        }
    }
}

impl Drop for LinkEvents {
    fn drop(&mut self) {
        let mut state = self.0.waiting.lock();
        state.over = true;
        state.events.clear();
    }
}
