//! The table, and the samples behind it.

use std::fmt::Write;
use std::fs;

use serde::Serialize;
use serde_json::json;

use super::load::Sample;
use super::server::Kind;
use super::workload::Goal;
use crate::sh::{self, Outcome, cmd, root};

/// One run of each server, one after the other: ours first.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) samples: Vec<Sample>,
}

impl Round {
    /// Our cost by that of the best of the others.
    pub(crate) fn ratio(&self) -> f64 {
        let mut costs = self.samples.iter().map(|sample| sample.cost);
        let ours = costs.next().unwrap_or(f64::NAN);
        ours / costs.fold(f64::INFINITY, f64::min)
    }
}

/// One workload's runs.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    #[serde(skip)]
    pub(crate) goal: Goal,
    pub(crate) rounds: Vec<Round>,
}

impl Row {
    pub(crate) const fn new(name: &'static str, what: &'static str, unit: &'static str, goal: Goal) -> Self {
        Self { name, what, unit, goal, rounds: Vec::new() }
    }

    pub(crate) fn is_met(&self) -> bool {
        self.ratio() <= self.goal.must
    }

    fn ratio(&self) -> f64 {
        median(self.rounds.iter().map(Round::ratio))
    }

    /// What the server of that number took.
    fn cost(&self, server: usize) -> f64 {
        median(self.rounds.iter().filter_map(|round| round.samples.get(server)).map(|sample| sample.cost))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table in Markdown.
pub(crate) fn table(rows: &[Row], kinds: &[Kind]) -> String {
    let names = kinds.iter().map(|kind| format!(" {} |", kind.name)).collect::<String>();
    let mut text = format!("| | workload |{names} unit | ratio | lowest to highest | must | stretch |\n");
    text += &format!("|---|---|{}---|---|---|---|---|\n", "---|".repeat(kinds.len()));
    for row in rows {
        let ratios = || row.rounds.iter().map(Round::ratio);
        let costs = (0..kinds.len()).map(|server| format!(" {:.0} |", row.cost(server))).collect::<String>();
        let told = |goal: f64| if row.ratio() <= goal { "" } else { ", missed" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} |{costs} {} | **{:.2}** | {:.2} to {:.2} | ≤ {:.2}{} | ≤ {:.2}{} |",
            row.name,
            row.what,
            row.unit,
            row.ratio(),
            ratios().fold(f64::INFINITY, f64::min),
            ratios().fold(0.0, f64::max),
            row.goal.must,
            told(row.goal.must),
            row.goal.stretch,
            told(row.goal.stretch),
        );
    }
    text
}

/// Writes the table with what it was measured on, and the samples.
pub(crate) fn write(rows: &[Row], kinds: &[Kind]) -> Outcome {
    let date = sh::read(&mut cmd("date", &["-u", "+%Y-%m-%d"]))?;
    let kernel = sh::read(&mut cmd("uname", &["-sr"]))?;
    let commit = sh::read(&mut cmd("git", &["rev-parse", "--short", "HEAD"]))?;
    let info = fs::read_to_string("/proc/cpuinfo").map_err(|error| format!("/proc/cpuinfo: {error}"))?;
    let models: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
        .collect();
    let model = models.first().copied().unwrap_or("unknown");
    let rounds = rows.iter().map(|row| row.rounds.len()).max().unwrap_or(0);
    let text = format!(
        "# Measured\n\nMade by `cargo xtask bench`; how, says [method.md](method.md).\n\n\
         * midged of commit {}, release build, and nats-servers as Debian builds them\n\
         * {} processors, {model}; {}\n* {}, up to {rounds} rounds for each row\n\n{}",
        commit.trim(),
        models.len(),
        kernel.trim(),
        date.trim(),
        table(rows, kinds)
    );
    let folder = root().join("docs/bench");
    let fail = |error: std::io::Error| format!("docs/bench: {error}");
    fs::create_dir_all(&folder).map_err(fail)?;
    fs::write(folder.join("README.md"), text).map_err(fail)?;
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    let samples = json!({
        "servers": names, "commit": commit.trim(), "kernel": kernel.trim(), "processor": model, "rows": rows,
    });
    let samples = serde_json::to_string_pretty(&samples).map_err(|error| error.to_string())?;
    fs::write(folder.join("samples.json"), samples + "\n").map_err(fail)
}
