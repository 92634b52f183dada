//! Random talks with midged and with nats-server, and what both answer, compared.
//!
//! A talk is up to three connections that say valid and broken things, cut into pieces at random places. Every
//! step ends with a PING or with the end of the connection, so that it is done on both servers before the next
//! begins. What one connection is told must then be the same, frame by frame; only which member of a queue group
//! gets a message is free, so those messages are compared over all members.

mod generate;
mod replay;

use midge_testkit::process::{Process, program};

use self::generate::Talk;
use self::replay::{Heard, replay};

/// Limits low enough to be run into.
const CONFIG: &str = "max_payload: 1024\nmax_control_line: 512\nmax_subscriptions: 8\n";

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, but is '{text}'")))
}

#[test]
fn random_talks_are_answered_as_nats_server_does() {
    let (ours, theirs) = (program("MIDGED"), program("NATS_SERVER"));
    let (ours, theirs) = (Process::with_config(&ours, CONFIG), Process::with_config(&theirs, CONFIG));
    let first = number("MIDGE_SEED").unwrap_or(1);
    let count = number("MIDGE_SESSIONS").unwrap_or(1000);
    let mut frames = 0;
    for seed in first..first + count {
        let talk = Talk::generate(seed);
        let (from_us, from_them) = (replay(&talk, ours.port()), replay(&talk, theirs.port()));
        frames += from_them.count();
        assert!(
            from_us == from_them,
            "seed {seed} differs; again: cargo xtask interop --seed {seed}\n\n{talk}\n{}",
            difference(&from_us, &from_them)
        );
    }
    // A generator that says nothing worth answering would always pass.
    assert!(frames as u64 > count * 5, "only {frames} frames in {count} talks");
}

/// The connections that differ, side by side.
fn difference(ours: &Heard, theirs: &Heard) -> String {
    let mut text = String::new();
    for (number, (ours, theirs)) in ours.connections.iter().zip(&theirs.connections).enumerate() {
        if ours == theirs {
            continue;
        }
        let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        text += &format!(
            "connection {number}, from frame {at}:\n  midged:      {:?}\n  nats-server: {:?}\n",
            ours.get(at..),
            theirs.get(at..)
        );
    }
    if ours.queued != theirs.queued {
        text +=
            &format!("queue groups:\n  midged:      {:?}\n  nats-server: {:?}\n", ours.queued, theirs.queued);
    }
    text
}
