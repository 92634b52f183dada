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

use self::report::{Round, Row};
use self::server::Kind;

/// How long to measure, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    rounds: usize,
    seconds: f64,
    /// Divides the numbers of connections and subscriptions.
    smaller: usize,
}

const FULL: Effort = Effort { rounds: 7, seconds: 1.5, smaller: 1 };
const QUICK: Effort = Effort { rounds: 1, seconds: 1.0, smaller: 5 };
/// Rounds of what hardly varies and takes long.
const MEMORY_ROUNDS: usize = 3;

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
    let against = sh::value(arguments, "--against");
    let kinds = kinds(against)?;
    // Servers inherit the limit.
    midge_testkit::process::many_files();
    let rows = measure_all(&kinds, effort, only)?;
    if rows.is_empty() {
        return Err("no workload has that name".to_owned());
    }
    print!("{}", report::table(&rows, &kinds));
    // Half a table, or figures of too few rounds, must not replace a whole one.
    if !quick && only.is_none() {
        report::write(&rows, &kinds)?;
    }
    let missed: Vec<&str> = rows.iter().filter(|row| !row.is_met()).map(|row| row.name).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("the goal is missed by {}", missed.join(", "))) }
}

/// midged, built, and the servers to compare with: those whose versions begin as `against` says, or all.
fn kinds(against: Option<&str>) -> Outcome<Vec<Kind>> {
    let peers = peers::fetch()?;
    sh::run(&mut cargo(&["build", "--quiet", "--release", "--package", "midged"]))?;
    let mut kinds = vec![Kind { name: "midged".to_owned(), program: root().join("target/release/midged") }];
    let wanted = |version: &str| {
        against.is_none_or(|against| against.split(',').any(|start| version.starts_with(start)))
    };
    for (version, program) in peers.servers.iter().rev().filter(|(version, _)| wanted(version)) {
        kinds.push(Kind { name: format!("nats-server {version}"), program: program.clone() });
    }
    if kinds.len() < 2 {
        return Err(format!("no nats-server {} is among the peers", against.unwrap_or_default()));
    }
    Ok(kinds)
}

fn measure_all(kinds: &[Kind], effort: Effort, only: Option<&str>) -> Outcome<Vec<Row>> {
    let wanted = |name: &str| only.is_none_or(|only| only.split(',').any(|only| only == name));
    let mut rows = Vec::new();
    for it in workload::TRAFFIC.iter().filter(|it| wanted(it.name)) {
        let row = Row::new(it.name, it.what, it.unit, it.goal);
        rows.push(measure(row, kinds, effort.rounds, |kind| load::traffic(kind, it, effort.seconds))?);
    }
    for it in workload::REQUESTS.iter().filter(|it| wanted(it.name)) {
        let row = Row::new(it.name, it.what, "ns/request", it.goal);
        rows.push(measure(row, kinds, effort.rounds, |kind| load::requests(kind, it, effort.seconds))?);
    }
    let rounds = effort.rounds.min(MEMORY_ROUNDS);
    for it in workload::MEMORY.iter().filter(|it| wanted(it.name)) {
        let row = Row::new(it.name, it.what, "bytes", it.goal);
        rows.push(measure(row, kinds, rounds, |kind| load::memory(kind, it, effort.smaller))?);
    }
    Ok(rows)
}

/// Fills a row with rounds of samples.
fn measure(
    mut row: Row,
    kinds: &[Kind],
    rounds: usize,
    sample: impl Fn(&Kind) -> Outcome<load::Sample>,
) -> Outcome<Row> {
    for number in 0..rounds {
        // A B C, then C B A: what drifts with time meets all alike.
        let mut samples = Vec::new();
        if number % 2 == 0 {
            for kind in kinds {
                samples.push(sample(kind)?);
            }
        } else {
            for kind in kinds.iter().rev() {
                samples.push(sample(kind)?);
            }
            samples.reverse();
        }
        let costs: Vec<String> = samples.iter().map(|sample| format!("{:.1}", sample.cost)).collect();
        let round = Round { samples };
        eprintln!(
            "{} round {}: {} {}, {:.3}",
            row.name,
            number + 1,
            costs.join(", "),
            row.unit,
            round.ratio()
        );
        row.rounds.push(round);
    }
    Ok(row)
}
