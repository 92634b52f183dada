//! The table, and the samples behind it.

use std::fmt::Write;
use std::fs;

use serde::Serialize;
use serde_json::json;

use super::load::Sample;
use super::server::Kind;
use crate::sh::{self, Outcome, cmd, root};

/// Two runs, one after the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Pair {
    pub(crate) ours: Sample,
    pub(crate) theirs: Sample,
}

impl Pair {
    pub(crate) fn ratio(&self) -> f64 {
        self.ours.cost / self.theirs.cost
    }
}

/// One workload's runs.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// The ratio that must not be exceeded.
    pub(crate) goal: f64,
    pub(crate) pairs: Vec<Pair>,
}

impl Row {
    pub(crate) const fn new(name: &'static str, what: &'static str, unit: &'static str, goal: f64) -> Self {
        Self { name, what, unit, goal, pairs: Vec::new() }
    }

    pub(crate) fn is_met(&self) -> bool {
        self.ratio() <= self.goal
    }

    fn ratio(&self) -> f64 {
        median(self.pairs.iter().map(Pair::ratio))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | workload | midged | nats-server | unit | ratio | lowest to highest | goal |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let ratios = || row.pairs.iter().map(Pair::ratio);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {} | **{:.2}** | {:.2} to {:.2} | ≤ {:.2}{} |",
            row.name,
            row.what,
            median(row.pairs.iter().map(|pair| pair.ours.cost)),
            median(row.pairs.iter().map(|pair| pair.theirs.cost)),
            row.unit,
            row.ratio(),
            ratios().fold(f64::INFINITY, f64::min),
            ratios().fold(0.0, f64::max),
            row.goal,
            if row.is_met() { "" } else { ", missed" }
        );
    }
    text
}

/// Writes the table with what it was measured on, and the samples.
pub(crate) fn write(rows: &[Row], kinds: &[Kind; 2]) -> Outcome {
    let [ours, theirs] = kinds;
    let date = sh::read(&mut cmd("date", &["-u", "+%Y-%m-%d"]))?;
    let kernel = sh::read(&mut cmd("uname", &["-sr"]))?;
    let commit = sh::read(&mut cmd("git", &["rev-parse", "--short", "HEAD"]))?;
    let info = fs::read_to_string("/proc/cpuinfo").map_err(|error| format!("/proc/cpuinfo: {error}"))?;
    let models: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
        .collect();
    let model = models.first().copied().unwrap_or("unknown");
    let pairs = rows.iter().map(|row| row.pairs.len()).max().unwrap_or(0);
    let text = format!(
        "# Measured\n\nMade by `cargo xtask bench`; how, says [method.md](method.md).\n\n\
         * {} of commit {}, release build, against {}, both as they come, without a configuration\n\
         * {} processors, {model}; {}\n* {}, up to {pairs} pairs of runs for each row\n\n{}",
        ours.name,
        commit.trim(),
        theirs.name,
        models.len(),
        kernel.trim(),
        date.trim(),
        table(rows)
    );
    let folder = root().join("docs/bench");
    let fail = |error: std::io::Error| format!("docs/bench: {error}");
    fs::create_dir_all(&folder).map_err(fail)?;
    fs::write(folder.join("README.md"), text).map_err(fail)?;
    let samples = json!({ "peer": theirs.name, "commit": commit.trim(), "kernel": kernel.trim(), "processor": model, "rows": rows });
    let samples = serde_json::to_string_pretty(&samples).map_err(|error| error.to_string())?;
    fs::write(folder.join("samples.json"), samples + "\n").map_err(fail)
}
