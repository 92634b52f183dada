//! Instructions per message of the core, counted by callgrind: the same number on every run and however busy the machine
//! is, so that five percent more are found where a clock would find nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sh::{self, Outcome, cargo, cmd, root};

/// How much more than what is recorded is too much.
const TOLERANCE: f64 = 1.05;

/// What is recorded.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    /// The compiler that the figures were made with: another one makes other code.
    rustc: String,
    /// Instructions per message, by workload.
    instructions: BTreeMap<String, f64>,
}

/// Counts, and compares with what is recorded; or records, which is for changes that are meant.
pub(crate) fn run(record: bool) -> Outcome {
    let counted = count()?;
    let path = root().join("docs/bench/instructions.json");
    if record {
        let rustc = sh::read(&mut cmd("rustc", &["--version"]))?.trim().to_owned();
        let text = serde_json::to_string_pretty(&Recorded { rustc, instructions: counted });
        let text = text.map_err(|error| error.to_string())?;
        return fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()));
    }
    compare(&counted, &path)
}

fn compare(counted: &BTreeMap<String, f64>, path: &Path) -> Outcome {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| fail(&error))?;
    let recorded: Recorded = serde_json::from_str(&text).map_err(|error| fail(&error))?;
    let mut wrong = Vec::new();
    for (name, now) in counted {
        let before = recorded.instructions.get(name).copied();
        let before_text = before.map_or_else(|| "not recorded".to_owned(), |before| format!("{before:.1}"));
        println!("{now:>8.1}  {before_text:>12}  {name}");
        match before {
            None => wrong.push(format!("'{name}' is not recorded")),
            Some(before) if *now > before * TOLERANCE => {
                wrong.push(format!("'{name}' takes {now:.1} instructions a message instead of {before:.1}"));
            }
            Some(_) => {}
        }
    }
    wrong.extend(recorded.instructions.keys().filter(|name| !counted.contains_key(*name)).map(|name| {
        format!("'{name}' is recorded, and no workload of crates/router/benches/icount.rs any more")
    }));
    if wrong.is_empty() {
        return Ok(());
    }
    let rustc = sh::read(&mut cmd("rustc", &["--version"]))?;
    Err(format!(
        "{}\nThe figures in {} are of {}; this is {}. If the change is meant, record it by \
         `cargo xtask bench --icount --record`.",
        wrong.join("\n"),
        path.display(),
        recorded.rustc,
        rustc.trim()
    ))
}

/// Instructions per message of each workload.
fn count() -> Outcome<BTreeMap<String, f64>> {
    sh::read(&mut cmd("valgrind", &["--version"])).map_err(|_| {
        "valgrind, which counts instructions, is not there: install it (Debian's package valgrind)".to_owned()
    })?;
    let program = build()?;
    let folder = root().join("target/icount");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = sh::read(&mut cmd(&program.display().to_string(), &[]))?;
    names.lines().map(|name| Ok((name.to_owned(), count_one(&program, name, &folder)?))).collect()
}

fn build() -> Outcome<PathBuf> {
    let arguments =
        ["build", "--quiet", "--profile", "bench", "--package", "midge-router", "--bench", "icount"];
    let told = sh::read(&mut cargo(&[&arguments[..], &["--message-format", "json"]].concat()))?;
    let mut executables = told.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executables.next_back().ok_or_else(|| "cargo does not say what it has built".to_owned())
}

fn count_one(program: &Path, name: &str, folder: &Path) -> Outcome<f64> {
    let mut valgrind = cmd("valgrind", &["--tool=callgrind", "--collect-atstart=no"]);
    valgrind
        .arg("--toggle-collect=icount::measured")
        .arg(format!("--callgrind-out-file={}", folder.join("callgrind.out").display()))
        .arg(program)
        .arg(name);
    let output = valgrind.output().map_err(|error| format!("cannot run valgrind: {error}"))?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let messages = said.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    let collected = told.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
    let instructions = collected.and_then(|word| word.parse::<f64>().ok()).filter(|count| *count > 0.0);
    match (messages, instructions) {
        (Some(messages), Some(instructions)) if output.status.success() => {
            Ok((instructions / messages * 10.0).round() / 10.0)
        }
        _ => Err(format!("'{name}' could not be counted: {}\n{said}{told}", output.status)),
    }
}
