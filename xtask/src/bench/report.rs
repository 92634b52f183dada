//! The table, and the samples behind it. Rows that were not measured this time stay as they were.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::is_judge;
use super::picture;
use super::server::Kind;
use super::syscalls::Calls;
use super::workload::{Compared, Figure, WORKLOADS};
use crate::sh::{self, Outcome, cmd, root};

/// System calls for a thousand messages: of each server, of each workload.
pub(crate) type Watched = BTreeMap<String, BTreeMap<String, Calls>>;

/// One figure's samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    name: String,
    #[serde(default)]
    place: Place,
    /// Ours first.
    servers: Vec<String>,
    /// The figure of each server in each round; none where it did not take part.
    rounds: Vec<Vec<Option<f64>>>,
    /// Of whatever there were many, so many each second.
    rates: Vec<Vec<Option<f64>>>,
}

/// What was measured, and on what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    commit: String,
    date: String,
    kernel: String,
    processor: String,
    processors: usize,
}

/// All that is on record.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    rows: Vec<Row>,
    calls: Watched,
}

impl Row {
    pub(crate) fn new(figure: &Figure, kinds: &[&Kind]) -> Self {
        Self {
            name: figure.name.to_owned(),
            place: Place::default(),
            servers: kinds.iter().map(|kind| kind.name.clone()).collect(),
            rounds: Vec::new(),
            rates: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figures: Vec<Option<f64>>, rates: Vec<Option<f64>>) {
        self.rounds.push(figures);
        self.rates.push(rates);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is about, if it is still measured.
    pub(crate) fn figure(&self) -> Option<&'static Figure> {
        WORKLOADS.iter().flat_map(|workload| workload.figures).find(|figure| figure.name == self.name)
    }

    pub(crate) fn is_met(&self) -> bool {
        self.figure().is_some_and(|figure| self.ratio() <= figure.must)
    }

    pub(crate) fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    /// What counts of each round.
    fn ratios(&self) -> impl Iterator<Item = f64> {
        let compared = self.figure().map_or(Compared::Cost, |figure| figure.compared);
        self.rounds.iter().map(move |round| {
            let ours = round.first().copied().flatten().unwrap_or(f64::NAN);
            let judges = round.iter().zip(&self.servers).filter(|(_, server)| is_judge(server));
            let theirs = judges.filter_map(|(figure, _)| *figure);
            match compared {
                Compared::Cost => ours / theirs.fold(f64::INFINITY, f64::min),
                Compared::Rate => theirs.fold(0.0, f64::max) / ours,
                Compared::Alone => ours,
            }
        })
    }

    /// The figure of the server of that name.
    fn of(&self, server: &str) -> Option<f64> {
        let at = self.servers.iter().position(|name| name == server)?;
        let figures: Vec<f64> =
            self.rounds.iter().filter_map(|round| round.get(at).copied().flatten()).collect();
        (!figures.is_empty()).then(|| median(figures.into_iter()))
    }

    /// A line about the round of that number.
    pub(crate) fn last_round(&self, number: usize) -> String {
        let figures = self.rounds.get(number).into_iter().flatten().zip(&self.servers);
        let told = figures.filter_map(|(figure, server)| Some(format!("{server} {}", shown((*figure)?))));
        let ratio = self.ratios().nth(number).unwrap_or(f64::NAN);
        format!("{} round {}: {}: {ratio:.3}", self.name, number + 1, told.collect::<Vec<_>>().join(", "))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// With as many digits as say something.
fn shown(figure: f64) -> String {
    if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.0}") }
}

/// The table in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut servers: Vec<&str> = Vec::new();
    for server in rows.iter().flat_map(|row| &row.servers) {
        if !servers.contains(&server.as_str()) {
            servers.push(server);
        }
    }
    let names = servers.iter().map(|server| format!(" {server} |")).collect::<String>();
    let mut text = format!("| | workload |{names} unit | ratio | lowest to highest | must | stretch |\n");
    text += &format!("|---|---|{}---|---|---|---|---|\n", "---|".repeat(servers.len()));
    for row in rows {
        let Some(figure) = row.figure() else { continue };
        let figures = servers.iter().map(|server| row.of(server).map_or(String::new(), shown));
        let figures = figures.map(|figure| format!(" {figure} |")).collect::<String>();
        let told = |goal: f64| if row.ratio() <= goal { "" } else { ", missed" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} |{figures} {} | **{:.2}** | {:.2} to {:.2} | ≤ {:.2}{} | ≤ {:.2}{} |",
            row.name,
            figure.what,
            figure.unit,
            row.ratio(),
            row.ratios().fold(f64::INFINITY, f64::min),
            row.ratios().fold(0.0, f64::max),
            figure.must,
            told(figure.must),
            figure.stretch,
            told(figure.stretch),
        );
    }
    text
}

/// System calls in Markdown.
fn calls(watched: &Watched) -> String {
    let mut text = "| | server | all | the most frequent |\n|---|---|---|---|\n".to_owned();
    let rows: Vec<&String> = watched.values().next().into_iter().flat_map(BTreeMap::keys).collect();
    for row in rows {
        for (server, workloads) in watched {
            let Some(calls) = workloads.get(row) else { continue };
            let mut each: Vec<(&String, &f64)> = calls.iter().collect();
            each.sort_by(|a, b| b.1.total_cmp(a.1));
            let most: Vec<String> =
                each.iter().take(4).map(|(name, count)| format!("{name} {}", shown(**count))).collect();
            let all = shown(calls.values().sum());
            let _ = writeln!(text, "| {row} | {server} | {all} | {} |", most.join(", "));
        }
    }
    text
}

/// Puts the rows in place of older ones, and writes table, picture and samples anew.
pub(crate) fn write(place: &Place, rows: Vec<Row>, watched: Option<Watched>) -> Outcome {
    let folder = root().join("docs/bench");
    let path = folder.join("samples.json");
    let fail = |path: &PathBuf, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut record = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| fail(&path, &error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Record::default(),
        Err(error) => return Err(fail(&path, &error)),
    };
    for row in rows {
        record.rows.retain(|old| old.name != row.name);
        record.rows.push(Row { place: place.clone(), ..row });
    }
    if let Some(watched) = watched {
        record.calls.extend(watched);
    }
    // In the order of the workloads, and without those that are measured no more.
    let order: Vec<&str> =
        WORKLOADS.iter().flat_map(|workload| workload.figures).map(|figure| figure.name).collect();
    let place_of = |row: &Row| order.iter().position(|name| *name == row.name);
    record.rows.retain(|row| place_of(row).is_some());
    record.rows.sort_by_key(place_of);
    let files = [
        ("README.md", text(&record)),
        ("ratios.svg", picture::of(&record.rows)),
        ("samples.json", serde_json::to_string(&record).map_err(|error| error.to_string())? + "\n"),
    ];
    fs::create_dir_all(&folder).map_err(|error| fail(&folder, &error))?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| fail(&path, &error))?;
    }
    Ok(())
}

/// The page.
fn text(record: &Record) -> String {
    let mut text = "# Measured\n\nMade by `cargo xtask bench`; how, and what the columns mean, says \
                    [method.md](method.md). Ratios are to the better of the nats-servers 2.15 and 2.9: less is \
                    better.\n\n"
        .to_owned();
    let mut places: Vec<(&Place, Vec<&str>)> = Vec::new();
    for row in &record.rows {
        match places.iter_mut().find(|(place, _)| **place == row.place) {
            Some((_, names)) => names.push(&row.name),
            None => places.push((&row.place, vec![&row.name])),
        }
    }
    let several = places.len() > 1;
    for (place, names) in places {
        let Place { commit, date, kernel, processor, processors } = place;
        let names = if several { format!(" ({})", names.join(", ")) } else { String::new() };
        let _ = writeln!(
            text,
            "* midged of commit {commit}, release build, on {processors} processors, {processor}; {kernel}; \
             {date}{names}"
        );
    }
    text += "* all other servers as Debian builds them\n\n![the ratios, with their goals](ratios.svg)\n\n";
    text += &table(&record.rows);
    if !record.calls.is_empty() {
        text += "\n## System calls for a thousand messages\n\n";
        text += &calls(&record.calls);
    }
    text
}

/// Where the bench runs, and what of. To be asked when midged is built: somebody may commit meanwhile.
pub(crate) fn here() -> Outcome<Place> {
    let date = sh::read(&mut cmd("date", &["-u", "+%Y-%m-%d"]))?.trim().to_owned();
    let kernel = sh::read(&mut cmd("uname", &["-sr"]))?.trim().to_owned();
    // With a mark where the tree is not what was committed.
    let describe = ["describe", "--always", "--dirty", "--exclude", "*"];
    let commit = sh::read(&mut cmd("git", &describe))?.trim().to_owned();
    let info = fs::read_to_string("/proc/cpuinfo").map_err(|error| format!("/proc/cpuinfo: {error}"))?;
    let models: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
        .collect();
    let processor = models.first().copied().unwrap_or("unknown").to_owned();
    Ok(Place { commit, date, kernel, processor, processors: models.len() })
}
