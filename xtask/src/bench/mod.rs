//! What messages, connections and subscriptions cost a server: midged beside real nats-servers, and beside brokers that
//! do some of the same.
//!
//! Servers take turns (A B B A …) on the same machine, one alive at a time, under the same offered load; what counts is
//! the ratio within each round.

mod brokers;
mod crowd;
mod dialect;
mod icount;
mod latency;
mod links;
mod memory;
mod picture;
mod report;
mod request;
mod server;
mod storm;
mod syscalls;
mod traffic;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use self::dialect::Dialect;
use self::report::{Row, Watched};
use self::server::Kind;
use self::workload::{Rounds, WORKLOADS, Workload};
use crate::peers;
use crate::sh::{self, Outcome, cargo, root};

/// Whether both judges are among these servers: a ratio to one of them is another ratio.
fn has_judges<'s>(servers: impl Iterator<Item = &'s str> + Clone) -> bool {
    JUDGES.iter().all(|judge| servers.clone().any(|server| server.starts_with(judge)))
}

/// How long to measure, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    rounds: usize,
    seconds: f64,
    /// Divides the numbers of connections and subscriptions.
    smaller: usize,
}

const FULL: Effort = Effort { rounds: 7, seconds: 1.2, smaller: 1 };
const QUICK: Effort = Effort { rounds: 1, seconds: 0.6, smaller: 5 };
/// Rounds of what hardly varies and takes long.
const FEW: usize = 3;
/// Those who are no judges take part in every so many rounds.
const SELDOM: usize = 3;
/// What ours is called.
const MIDGED: &str = "midged";
/// Whom ratios are to: the better of them.
const JUDGES: [&str; 2] = ["nats-server 2.15.", "nats-server 2.9."];

/// What one run found.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// One for each of the workload's rows.
    figures: Vec<f64>,
    /// Of whatever there were many, so many each second.
    rate: f64,
}

/// What that part of all times is below, in nanoseconds.
fn part(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_nanos() as f64)
}

/// Whether ratios are to the server of that name.
fn is_judge(server: &str) -> bool {
    JUDGES.iter().any(|judge| server.starts_with(judge))
}

/// Whether the core takes no more instructions than before.
pub(crate) fn instructions() -> Outcome {
    icount::run(false)
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--icount") {
        return icount::run(has("--record"));
    }
    if has("--links") {
        return links::run();
    }
    if has("--report") {
        return report::write(&report::here()?, Vec::new(), None);
    }
    let quick = has("--quick");
    let effort = if quick { QUICK } else { FULL };
    let only = sh::value(arguments, "--only");
    let kinds = kinds(sh::value(arguments, "--against"), quick)?;
    // Servers inherit the limit.
    midge_testkit::process::many_files();
    // Figures of too few rounds or servers must not replace better ones.
    let records = !quick && has_judges(kinds.iter().map(|kind| kind.name.as_str()));
    let place = report::here()?;
    let wanted = |name: &str| only.is_none_or(|only| only.split(',').any(|only| only == name));
    let mut rows = Vec::new();
    for workload in WORKLOADS.iter().filter(|it| it.figures.iter().any(|figure| wanted(figure.name))) {
        let measured = measure(workload, &kinds, &effort)?;
        if records {
            report::write(&place, measured.clone(), None)?;
        }
        rows.extend(measured);
    }
    let calls = wanted("calls") && records;
    if calls {
        report::write(&place, Vec::new(), Some(watch(&kinds)?))?;
    }
    if rows.is_empty() && !calls {
        return Err("no workload has that name".to_owned());
    }
    print!("{}", report::table(&rows));
    let missed: Vec<&str> = rows.iter().filter(|row| !row.is_met()).map(Row::name).collect();
    let missed = missed.join(", ");
    if !records {
        eprintln!("nothing is recorded: that takes all rounds, and both judges ({})", JUDGES.join("x, "));
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("the goal is missed by {missed}")) }
}

/// midged, built, and the servers to compare with: those whose names hold a part of `against`, or all; the judges
/// where it must be quick.
fn kinds(against: Option<&str>, quick: bool) -> Outcome<Vec<Kind>> {
    let peers = peers::fetch()?;
    sh::run(&mut cargo(&["build", "--quiet", "--release", "--package", "midged"]))?;
    let nats = |name: String, program| Kind { name, program, libraries: None, dialect: Dialect::Nats };
    let mut others: Vec<Kind> = Vec::new();
    for (version, program) in peers.servers.iter().rev() {
        others.push(nats(format!("nats-server {version}"), program.clone()));
    }
    if !quick || against.is_some() {
        others.extend(brokers::fetch()?);
    }
    others.retain(|kind| match against {
        Some(against) => against.split(',').any(|part| kind.name.contains(part)),
        None => is_judge(&kind.name) || !quick,
    });
    if others.is_empty() {
        return Err(format!("no server is called {}", against.unwrap_or_default()));
    }
    let ours = nats(MIDGED.to_owned(), root().join("target/release/midged"));
    Ok([ours].into_iter().chain(others).collect())
}

/// The rows of a workload, filled with rounds of samples.
fn measure(workload: &Workload, kinds: &[Kind], effort: &Effort) -> Outcome<Vec<Row>> {
    let takes_part = |kind: &&Kind| workload.brokers || kind.dialect == Dialect::Nats;
    let kinds: Vec<&Kind> = kinds.iter().filter(takes_part).collect();
    let mut rows: Vec<Row> = workload.figures.iter().map(|figure| Row::new(figure, &kinds)).collect();
    let rounds = match workload.rounds {
        Rounds::All => effort.rounds,
        Rounds::Few => effort.rounds.min(FEW),
        Rounds::One => 1,
    };
    for number in 0..rounds {
        let mut samples: Vec<Option<Sample>> = vec![None; kinds.len()];
        // A B C, then C B A: what drifts with time meets all alike.
        let turns: Vec<usize> = match number % 2 {
            0 => (0..kinds.len()).collect(),
            _ => (0..kinds.len()).rev().collect(),
        };
        for turn in turns {
            let (Some(kind), Some(sample)) = (kinds.get(turn), samples.get_mut(turn)) else { continue };
            if turn == 0 || is_judge(&kind.name) || number % SELDOM == 0 {
                let name = workload.figures.first().map_or("", |figure| figure.name);
                let found = workload.job.run(kind, effort);
                *sample = Some(found.map_err(|why| format!("{name}, {}: {why}", kind.name))?);
            }
        }
        for (at, row) in rows.iter_mut().enumerate() {
            let figure = |sample: &Option<Sample>| sample.as_ref()?.figures.get(at).copied();
            row.add(
                samples.iter().map(figure).collect(),
                samples.iter().map(|it| it.as_ref().map(|it| it.rate)).collect(),
            );
            eprintln!("{}", row.last_round(number));
        }
    }
    Ok(rows)
}

/// System calls of midged and of the newest nats-server.
fn watch(kinds: &[Kind]) -> Outcome<Watched> {
    let mut watched = BTreeMap::new();
    for kind in kinds.iter().filter(|kind| kind.dialect == Dialect::Nats).take(2) {
        let mut calls = BTreeMap::new();
        for (name, traffic) in
            [("W1", workload::NOBODY), ("W3", workload::ONE_TO_ONE), ("W5b", workload::ONE_TO_HUNDRED)]
        {
            eprintln!("system calls of {}, {name}", kind.name);
            calls.insert(name.to_owned(), syscalls::of_traffic(kind, &traffic)?);
        }
        for (name, requests) in [("W9", workload::SERIAL), ("W10", workload::PARALLEL)] {
            eprintln!("system calls of {}, {name}", kind.name);
            calls.insert(name.to_owned(), syscalls::of_requests(kind, &requests)?);
        }
        watched.insert(kind.name.clone(), calls);
    }
    Ok(watched)
}
