//! While the links between two last, everything that one says is heard by the other, once.

use std::time::Duration;

use midge::options::Options;
use tokio::time::sleep;

use crate::world::{World, conditions, drain, each_seed, said, settle, size};

#[test]
fn nothing_is_lost_while_links_last() {
    each_seed(4, |dice| async move {
        let world = World::new(dice.clone(), size(&dice), Options::default());
        world.network.set(conditions(&dice));
        world.whole().await;
        let count = world.count();
        let mut hears: Vec<_> = (0..count).map(|at| world.subscribe(at, "say.*")).collect();
        for at in 0..count {
            world.heard_by(at, &format!("say.{at}"), count as u64).await;
        }
        settle().await;
        hears.iter_mut().for_each(|hears| drop(drain(hears)));
        let mut numbers = vec![0_u64; count];
        for _ in 0..40 {
            let at = dice.below(count);
            for _ in 0..dice.below(50) {
                numbers[at] += 1;
                let text = format!("{at} {}", numbers[at]);
                world.client(at).publish(&format!("say.{at}"), text).unwrap();
            }
            // What is lost and delayed on the way changes; short cuts are survived.
            match dice.below(6) {
                0 => world.network.set(conditions(&dice)),
                1 => {
                    let pair = (dice.below(count), dice.below(count));
                    world.cut(pair.0, pair.1, true);
                    sleep(Duration::from_millis(dice.roll() % 3000)).await;
                    world.cut(pair.0, pair.1, false);
                }
                _ => sleep(Duration::from_millis(dice.roll() % 100)).await,
            }
        }
        settle().await;
        settle().await;
        for (by, hears) in hears.iter_mut().enumerate() {
            let mut heard = vec![0; count];
            for message in drain(hears) {
                let (who, number) = said(&message);
                assert_eq!(number, heard[who] + 1, "{by} hears {who}");
                heard[who] = number;
            }
            assert_eq!(heard, numbers, "{by} has heard everything");
        }
    });
}
