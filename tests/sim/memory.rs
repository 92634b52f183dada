//! However much is said to one who does not take it, what waits for it has a bound, and others are not held up.

use std::time::Duration;

use midge::link::mem::Conditions;
use midge::options::Options;
use tokio::time::sleep;

use crate::world::{World, drain, each_seed, settle};

const MAX_PENDING: usize = 256 * 1024;
const PAYLOAD: usize = 4096;

#[test]
fn what_waits_for_a_slow_peer_has_a_bound() {
    each_seed(60, |dice| async move {
        let mut options = Options::default();
        options.limits.max_pending = MAX_PENDING;
        options.limits.max_payload = 64 * 1024;
        let world = World::new(dice.clone(), 3, options);
        world.whole().await;
        let (mut slow, mut quick) = (world.subscribe(1, "much"), world.subscribe(2, "much"));
        world.heard_by(0, "much", 2).await;
        let narrow = Conditions { rate: Some(50_000), queue: 64 * 1024, ..Conditions::default() };
        world.network.set_between(World::place(0), World::place(1), narrow);
        let text = vec![b'x'; PAYLOAD];
        let mut heard = 0;
        let sent = 5_000;
        for number in 0..sent {
            world.client(0).publish("much", text.clone()).unwrap();
            for conn in world.node(0).server().router().connections() {
                assert!(conn.pending() <= MAX_PENDING + 2 * PAYLOAD, "{} bytes wait", conn.pending());
            }
            if number % 5 == 0 {
                sleep(Duration::from_millis(2)).await;
                heard += drain(&mut quick).len();
                drain(&mut slow);
            }
        }
        settle().await;
        heard += drain(&mut quick).len();
        assert_eq!(heard, sent, "the other hears everything");
        // Whatever became of the slow one, it is there again when it can be.
        world.network.set_between(World::place(0), World::place(1), Conditions::default());
        world.whole().await;
        world.heard_by(0, "much", 2).await;
    });
}
