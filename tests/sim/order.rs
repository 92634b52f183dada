//! Messages of one publisher arrive in their order and none of them twice, whatever happens in between.

use std::collections::HashMap;
use std::time::Duration;

use midge::options::Options;
use tokio::time::sleep;

use crate::world::{World, conditions, drain, each_seed, said, size};

#[test]
fn nothing_comes_twice_or_out_of_order() {
    each_seed(4, |dice| async move {
        let mut world = World::new(dice.clone(), size(&dice).min(6), Options::default());
        world.network.set(conditions(&dice));
        world.whole().await;
        let mut hears: Vec<_> = (0..world.count()).map(|at| Some(world.subscribe(at, "say.*"))).collect();
        let mut numbers = vec![0_u64; world.count()];
        let mut last: HashMap<(usize, usize), u64> = HashMap::new();
        for _ in 0..60 {
            match dice.below(14) {
                0 | 1 => world.cut(dice.below(world.count()), dice.below(world.count()), true),
                2 => world.heal(),
                3 => {
                    let at = dice.below(world.count());
                    world.kill(at).await;
                    hears[at] = None;
                    world.begin(at);
                    hears[at] = Some(world.subscribe(at, "say.*"));
                    // Whoever begins anew has heard nothing yet.
                    last.retain(|(_, by), _| *by != at);
                }
                4 => world.network.set(conditions(&dice)),
                _ => {
                    let at = dice.below(world.count());
                    for _ in 0..dice.below(30) {
                        numbers[at] += 1;
                        world
                            .client(at)
                            .publish(&format!("say.{at}"), format!("{at} {}", numbers[at]))
                            .unwrap();
                    }
                }
            }
            sleep(Duration::from_millis(dice.roll() % 400)).await;
            for (by, hears) in hears.iter_mut().enumerate() {
                for message in hears.as_mut().map(drain).unwrap_or_default() {
                    let (who, number) = said(&message);
                    let before = last.insert((who, by), number).unwrap_or(0);
                    assert!(number > before, "{by} hears {who}: {number} after {before}");
                }
            }
        }
        let heard: u64 = last.values().sum();
        assert!(heard > 0, "nobody heard anything");
    });
}
