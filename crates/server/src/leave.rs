//! Lame duck mode: clients are sent elsewhere, a few at a time, so that the servers that they go to are not
//! overrun.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use midge_router::{CloseReason, Kind};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::info;

use crate::listen::Order;
use crate::server::Server;

/// Most time between two closed connections.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Sends clients elsewhere until all have been closed, or somebody orders an immediate stop.
pub(crate) async fn slowly(server: &Server, inbox: &mut mpsc::Receiver<Order>) {
    info!("Entering lame duck mode, stop accepting new clients");
    if server.router().clients() == 0 {
        return;
    }
    server.announce_leave();
    let plan = server.setup().options.lame_duck;
    if stopped_within(inbox, plan.grace).await {
        return;
    }
    info!("Closing existing clients");
    let mut clients: Vec<_> =
        server.router().connections().into_iter().filter(|conn| conn.kind() == Kind::Client).collect();
    // Any order will do, as long as it is not that in which they came: neighbours often belong together.
    let dice = RandomState::new();
    clients.sort_by_cached_key(|conn| dice.hash_one(conn.cid()));
    let (pause, batch) = pace(plan.duration.saturating_sub(plan.grace), clients.len());
    for group in clients.chunks(batch) {
        for conn in group {
            conn.close(CloseReason::ServerShutdown);
        }
        // Between half of the pause and all of it.
        let part = dice.hash_one(group.len() + group.first().map_or(0, |conn| conn.cid() as usize)) % 512;
        if stopped_within(inbox, pause / 1024 * (512 + part as u32)).await {
            return;
        }
    }
}

/// The time between two groups, and how many clients are in one.
fn pace(duration: Duration, clients: usize) -> (Duration, usize) {
    let duration = if duration.is_zero() { LONGEST_PAUSE } else { duration };
    // Below a millisecond, a pause is mostly the clock's error: then there are several to a group.
    let groups = clients.clamp(1, duration.as_millis().max(1) as usize);
    ((duration / groups as u32).min(LONGEST_PAUSE), clients.div_ceil(groups).max(1))
}

/// Waits; whether an order to stop came meanwhile.
async fn stopped_within(inbox: &mut mpsc::Receiver<Order>, time: Duration) -> bool {
    let stop = async { while !matches!(inbox.recv().await, Some(Order::Stop) | None) {} };
    timeout(time, stop).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_one_by_one_or_in_groups() {
        let minutes = Duration::from_secs(110);
        assert_eq!(pace(minutes, 10), (LONGEST_PAUSE, 1));
        assert_eq!(pace(minutes, 1100), (Duration::from_millis(100), 1));
        assert_eq!(pace(Duration::from_millis(10), 1000), (Duration::from_millis(1), 100));
        assert_eq!(pace(Duration::ZERO, 0), (LONGEST_PAUSE, 1));
    }
}
