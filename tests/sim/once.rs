//! A message for a queue group goes to exactly one of its members, wherever they are.

use std::collections::HashSet;
use std::time::Duration;

use midge::options::Options;
use tokio::time::sleep;

use crate::world::{World, conditions, drain, each_seed, said, settle, size};

#[test]
fn a_queue_group_gets_each_message_once() {
    each_seed(4, |dice| async move {
        let world = World::new(dice.clone(), size(&dice), Options::default());
        world.network.set(conditions(&dice));
        world.whole().await;
        let count = world.count();
        let members: Vec<usize> = (0..1 + dice.below(5)).map(|_| dice.below(count)).collect();
        let join = |at: &usize| world.client(*at).queue_subscribe("work", "workers").unwrap();
        let mut workers: Vec<_> = members.iter().map(join).collect();
        for at in 0..count {
            world.heard_by(at, "work", 1).await;
        }
        settle().await;
        workers.iter_mut().for_each(|worker| drop(drain(worker)));
        let mut number = 0;
        for _ in 0..30 {
            let at = dice.below(count);
            for _ in 0..dice.below(20) {
                number += 1;
                world.client(at).publish("work", format!("{at} {number}")).unwrap();
            }
            sleep(Duration::from_millis(dice.roll() % 50)).await;
        }
        settle().await;
        let mut done = HashSet::new();
        for message in workers.iter_mut().flat_map(drain) {
            let (who, number) = said(&message);
            assert!(done.insert(number), "{number} of {who} was done twice");
        }
        assert_eq!(done.len(), number as usize, "everything was done");
    });
}
