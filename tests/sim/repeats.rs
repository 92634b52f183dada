//! The same seed is the same world, to the byte: what fails once fails again.

use std::time::Duration;

use midge::options::Options;
use tokio::time::{Instant, sleep};

use crate::world::{Dice, World, conditions, drain, run};

/// Everything that can be seen of a world.
async fn trace(seed: u64) -> String {
    let dice = Dice::new(seed);
    let mut world = World::new(dice.clone(), 4, Options::default());
    world.network.set(conditions(&dice));
    let (begin, mut seen) = (Instant::now(), String::new());
    let mut hears: Vec<_> = (0..4).map(|at| Some(world.subscribe(at, ">"))).collect();
    for number in 0..40 {
        let at = dice.below(4);
        match dice.below(10) {
            0 => world.cut(at, dice.below(4), true),
            1 => world.heal(),
            2 => {
                world.kill(at).await;
                world.begin(at);
                hears[at] = Some(world.subscribe(at, ">"));
            }
            _ => world.client(at).publish("say", format!("{at} {number}")).unwrap(),
        }
        sleep(Duration::from_millis(dice.roll() % 300)).await;
        for (by, hears) in hears.iter_mut().flatten().enumerate() {
            for message in drain(hears) {
                seen += &format!("{:?} {by} {:?}\n", begin.elapsed(), message.payload);
            }
        }
        seen += &format!("{:?}\n", world.network.counts());
    }
    seen
}

#[test]
fn a_world_is_the_same_each_time() {
    for seed in 1..4 {
        let first = run(trace(seed));
        assert!(first.lines().count() > 45, "something is heard: {first}");
        let again = run(trace(seed));
        if let Some((at, (one, other))) =
            first.lines().zip(again.lines()).enumerate().find(|(_, (one, other))| one != other)
        {
            panic!("seed {seed}, line {at}: '{one}' and '{other}'");
        }
    }
}
