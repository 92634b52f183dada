//! Random talks with clusters: the same, whoever their members are.

use std::path::PathBuf;

use midge_testkit::process::{Process, nats_servers, program};
use midge_testkit::raw::Raw;

use super::generate::Talk;
use super::replay::{Heard, replay_between};
use super::{LIMITS, difference, number};
use crate::servers::wait_for_interest;

/// Three servers that know each other, with a client on each by which it is known what has crossed.
struct Cluster {
    servers: Vec<Process>,
    watchers: Vec<Raw>,
    rounds: u64,
}

impl Cluster {
    fn start(programs: &[PathBuf]) -> Self {
        let mut servers: Vec<Process> = Vec::new();
        for (number, program) in programs.iter().enumerate() {
            let seed = servers
                .first()
                .map(|first| format!("routes: [\"nats-route://127.0.0.1:{}\"]", first.route_port()));
            // With more than one connection between two servers, what comes by one says nothing of the others.
            let config = format!(
                "server_name: n{number}\n{LIMITS}cluster {{ name: C, listen: \"127.0.0.1:-1\", pool_size: 1, {} }}",
                seed.unwrap_or_default()
            );
            servers.push(Process::with_config(program, &config));
        }
        let mut watchers: Vec<Raw> = servers.iter().map(|server| Raw::client(server.port())).collect();
        for (at, watcher) in watchers.iter_mut().enumerate() {
            watcher.send(format!("SUB watch.all 1\r\nSUB watch.{at} 2\r\n").as_bytes());
            watcher.sync();
        }
        for here in &servers {
            for there in 0..servers.len() {
                wait_for_interest(&mut Raw::client(here.port()), &format!("watch.{there}"));
            }
        }
        // What was sent to find out may still be on its way: whoever does not listen to it any more cannot hear it.
        for watcher in &mut watchers {
            watcher.send(b"UNSUB 2\r\n");
            watcher.sync();
        }
        Self { servers, watchers, rounds: 0 }
    }

    /// Waits until each server has taken in what each other has sent so far.
    fn settle(&mut self) {
        self.rounds += 1;
        let round = format!("{:09}", self.rounds);
        for watcher in &mut self.watchers {
            watcher.send(format!("PUB watch.all 9\r\n{round}\r\n").as_bytes());
        }
        for watcher in &mut self.watchers {
            for _ in 0..self.servers.len() {
                assert_eq!(watcher.expect_message(), round.as_bytes());
            }
        }
    }

    fn replay(&mut self, talk: &Talk) -> Heard {
        let ports: Vec<u16> = self.servers.iter().map(Process::port).collect();
        replay_between(talk, &|number| Raw::connect(ports[number % ports.len()]), &mut || self.settle())
    }
}

#[test]
fn clusters_answer_alike_whoever_is_in_them() {
    let (ours, theirs) = (program("MIDGED"), nats_servers().pop().unwrap());
    let (m, s) = (|| ours.clone(), || theirs.clone());
    let mut stock = Cluster::start(&[s(), s(), s()]);
    let mixed = [[s(), m(), s()], [m(), s(), m()], [m(), m(), m()]];
    let mut mixed: Vec<Cluster> = mixed.iter().map(|programs| Cluster::start(programs)).collect();
    let first = number("MIDGE_SEED").unwrap_or(1);
    let count = number("MIDGE_SESSIONS").unwrap_or(1000).div_ceil(5);
    let mut frames = 0;
    for seed in first..first + count {
        let talk = Talk::between_servers(seed);
        let from_them = stock.replay(&talk);
        frames += from_them.count();
        for (number, cluster) in mixed.iter_mut().enumerate() {
            let from_us = cluster.replay(&talk);
            assert!(
                from_us.same(&from_them, false),
                "cluster {number}: seed {seed} differs; again: cargo xtask interop --seed {seed}\n\n{talk}\n{}",
                difference(&from_us, &from_them)
            );
        }
    }
    // A generator that says nothing worth answering would always pass.
    assert!(frames as u64 > count * 15, "only {frames} frames in {count} talks");
}
