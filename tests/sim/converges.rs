//! Once the network is whole again, every node knows what is wanted on every other, and nothing that is not any more.

use std::collections::BTreeMap;
use std::time::Duration;

use midge::client::Subscription;
use midge::options::Options;
use tokio::time::sleep;

use crate::world::{World, conditions, each_seed, size};

const SUBJECTS: usize = 4;

#[test]
fn interest_becomes_right_whatever_has_happened() {
    each_seed(4, |dice| async move {
        let mut world = World::new(dice.clone(), size(&dice).min(8), Options::default());
        world.network.set(conditions(&dice));
        // By node and subject.
        let mut wanted: BTreeMap<(usize, usize), Subscription> = BTreeMap::new();
        for _ in 0..50 {
            let (at, subject) = (dice.below(world.count()), dice.below(SUBJECTS));
            match dice.below(12) {
                0 | 1 => world.cut(at, dice.below(world.count()), true),
                2 => world.cut(at, dice.below(world.count()), false),
                3 => world.network.set(conditions(&dice)),
                4 => {
                    world.kill(at).await;
                    wanted.retain(|(node, _), _| *node != at);
                    if dice.once_in(2) {
                        // Long enough for others to notice, or not.
                        sleep(Duration::from_secs(dice.roll() % 60)).await;
                    }
                    world.begin(at);
                }
                5..8 => drop(wanted.remove(&(at, subject))),
                _ => drop(wanted.insert((at, subject), world.subscribe(at, &format!("want.{subject}")))),
            }
            sleep(Duration::from_millis(dice.roll() % 1000)).await;
        }
        world.heal();
        world.whole().await;
        for subject in 0..SUBJECTS {
            let receivers = wanted.keys().filter(|(_, of)| *of == subject).count();
            for at in 0..world.count() {
                world.heard_by(at, &format!("want.{subject}"), receivers as u64).await;
            }
        }
    });
}
