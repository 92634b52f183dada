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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use midge_wire::json::Info;

    use super::*;
    use crate::{Arrival, ClientSession, Entrance, Limits, Owner, Router, Settings, SubSnapshot, Tick};

    struct Nobody;

    impl Owner for Nobody {
        fn write(&self, bytes: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
            Ok(bytes.iter().map(|bytes| bytes.len()).sum())
        }

        fn wake(&self) {}
    }

    #[test]
    fn older_ones_lose_their_subscriptions_first() {
        let settings = Settings {
            info: Info::default(),
            limits: Limits::default(),
            entrance: Entrance::default(),
            seed: 1,
            max_ended: 0,
        };
        let router = Router::new(settings);
        let worker = router.worker();
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant, whichever")]
        let mut tick = Tick { worker: &mut worker.lock(), now: std::time::Instant::now() };
        let session =
            ClientSession::client(&router, Arrival::from("127.0.0.1:9"), Arc::new(Nobody), &mut tick);
        let one = ConnSnapshot::of(session.conn(), &router, SUBSCRIPTIONS_EACH);
        let sub =
            SubSnapshot { subject: b"a".into(), queue: Vec::new(), sid: b"1".into(), delivered: 0, max: 0 };
        let mut ended = EndedConns::new(200);
        for cid in 0..300 {
            ended.push(ConnSnapshot {
                cid,
                subscriptions: vec![sub.clone(); SUBSCRIPTIONS_EACH],
                ..one.clone()
            });
        }
        let kept: Vec<(u64, usize)> = ended.iter().map(|conn| (conn.cid, conn.subscriptions.len())).collect();
        let with = SUBSCRIPTIONS / SUBSCRIPTIONS_EACH;
        assert_eq!((kept.len(), kept[0], kept[200 - with - 1]), (200, (100, 0), (299 - with as u64, 0)));
        assert!(kept[200 - with..].iter().all(|(_, subs)| *subs == SUBSCRIPTIONS_EACH));
    }
}
