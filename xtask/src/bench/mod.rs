//! What messages, connections and subscriptions cost a server: midged beside a real nats-server.
//!
//! The figure is the processor time of the server's process, by the kernel's account, divided by the messages
//! that it delivered. Servers take turns (A B B A …) on the same machine, one alive at a time, under the same
//! offered rate; what counts is the ratio of each pair.

mod icount;
mod load;
mod report;
mod server;
mod workload;

use crate::peers;
use crate::sh::{self, Outcome, cargo, root};

use self::report::{Pair, Row};
use self::server::Kind;
use self::workload::{Memory, Traffic};

/// How long to measure, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pairs: usize,
    seconds: f64,
    /// Divides the numbers of connections and subscriptions.
    smaller: usize,
}

const FULL: Effort = Effort { pairs: 7, seconds: 3.0, smaller: 1 };
const QUICK: Effort = Effort { pairs: 3, seconds: 1.0, smaller: 5 };

/// Whether the core takes no more instructions than before.
pub(crate) fn instructions() -> Outcome {
    icount::run(false)
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--icount") {
        return icount::run(has("--record"));
    }
    let quick = has("--quick");
    let effort = if quick { QUICK } else { FULL };
    let only = sh::value(arguments, "--only");
    let wanted = |name: &str| only.is_none_or(|only| only.split(',').any(|only| only == name));
    let peers = peers::fetch()?;
    let against = sh::value(arguments, "--against");
    let (version, program) = match against {
        None => peers.newest()?.clone(),
        Some(against) => peers
            .servers
            .iter()
            .find(|(found, _)| found.starts_with(against))
            .cloned()
            .ok_or_else(|| format!("no nats-server {against} is among the peers"))?,
    };
    sh::run(&mut cargo(&["build", "--quiet", "--release", "--package", "midged"]))?;
    let kinds = [
        Kind { name: "midged".to_owned(), program: root().join("target/release/midged") },
        Kind { name: format!("nats-server {version}"), program },
    ];
    // Servers inherit the limit.
    midge_testkit::process::many_files();
    let mut rows = Vec::new();
    for traffic in workload::TRAFFIC.iter().filter(|traffic| wanted(traffic.name)) {
        rows.push(measure_traffic(traffic, &kinds, effort)?);
    }
    for memory in workload::MEMORY.iter().filter(|memory| wanted(memory.name)) {
        rows.push(measure_memory(memory, &kinds, effort)?);
    }
    if rows.is_empty() {
        return Err("no workload has that name".to_owned());
    }
    print!("{}", report::table(&rows));
    // Half a table, or figures of too few pairs, must not replace a whole one.
    if !quick && only.is_none() && against.is_none() {
        report::write(&rows, &kinds)?;
    }
    let missed: Vec<&str> = rows.iter().filter(|row| !row.is_met()).map(|row| row.name).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("the goal is missed by {}", missed.join(", "))) }
}

fn measure_traffic(traffic: &'static Traffic, kinds: &[Kind; 2], effort: Effort) -> Outcome<Row> {
    let row = Row::new(traffic.name, traffic.what, traffic.unit, traffic.goal);
    measure(row, kinds, effort.pairs, |kind| load::traffic(kind, traffic, effort.seconds))
}

fn measure_memory(memory: &'static Memory, kinds: &[Kind; 2], effort: Effort) -> Outcome<Row> {
    let row = Row::new(memory.name, memory.what, "bytes", memory.goal);
    measure(row, kinds, effort.pairs.min(3), |kind| load::memory(kind, memory, effort.smaller))
}

/// Fills a row with pairs of samples.
fn measure(
    mut row: Row,
    kinds: &[Kind; 2],
    pairs: usize,
    sample: impl Fn(&Kind) -> Outcome<load::Sample>,
) -> Outcome<Row> {
    let [ours, theirs] = kinds;
    for number in 0..pairs {
        // A B, then B A: what drifts with time meets both alike.
        let pair = if number % 2 == 0 {
            let ours = sample(ours)?;
            Pair { ours, theirs: sample(theirs)? }
        } else {
            let theirs = sample(theirs)?;
            Pair { ours: sample(ours)?, theirs }
        };
        eprintln!(
            "{} pair {}: {:.1} and {:.1} {}, {:.3}",
            row.name,
            number + 1,
            pair.ours.cost,
            pair.theirs.cost,
            row.unit,
            pair.ratio()
        );
        row.pairs.push(pair);
    }
    Ok(row)
}
