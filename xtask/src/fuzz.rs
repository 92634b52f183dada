//! Coverage-guided fuzzing of everything that reads what strangers send.
//!
//! The targets are libFuzzer programs in `crates/*/fuzz`. What the compiler must add for coverage it can add
//! without a nightly toolchain, so nothing needs to be installed but a C++ compiler.

use std::fs;
use std::path::PathBuf;

use crate::sh::{self, Outcome, cargo, cmd, root};

/// Crates with targets, and the targets.
const TARGETS: [(&str, &[&str]); 7] = [
    ("wire", &["client", "server", "route", "leaf", "connect", "subject"]),
    ("conf", &["conf"]),
    ("identity", &["nkey", "keys", "signed"]),
    ("link", &["peer-certificate", "establish"]),
    ("backend", &["dial", "accept"]),
    ("router", &["session", "servers"]),
    ("server", &["websocket", "upgrade", "certificate", "compression"]),
];

/// What counts the edges of the code, and tells code under fuzzing from other code.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

const DEFAULT_SECONDS: &str = "60";
/// Time for each target when everything is verified: enough to see that it runs and to catch what is obvious.
const GLANCE: &str = "3";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let seconds = sh::value(arguments, "--seconds").unwrap_or(DEFAULT_SECONDS);
    let name = arguments.first().filter(|first| !first.starts_with("--")).map(String::as_str);
    let known = |name: &str| TARGETS.iter().any(|(_, targets)| targets.contains(&name));
    if let Some(name) = name.filter(|name| !known(name)) {
        let names: Vec<&str> = TARGETS.iter().flat_map(|(_, targets)| targets.iter().copied()).collect();
        return Err(format!("no target is called '{name}': there are {}", names.join(", ")));
    }
    fuzz(name, seconds)
}

/// A glance at every target.
pub(crate) fn glance() -> Outcome {
    fuzz(None, GLANCE)
}

fn fuzz(only: Option<&str>, seconds: &str) -> Outcome {
    let triple = host()?;
    for (name, targets) in TARGETS {
        let wanted = |target: &&&str| only.is_none_or(|only| only == **target);
        let targets: Vec<&str> = targets.iter().filter(wanted).copied().collect();
        if targets.is_empty() {
            continue;
        }
        let programs = build(name, &triple)?;
        for target in targets {
            one(name, target, &programs.join(target), seconds)?;
        }
    }
    Ok(())
}

/// The triple of this machine. With it named, build scripts are built without the flags.
fn host() -> Outcome<String> {
    let text = sh::read(&mut cmd("rustc", &["-vV"]))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc names no host".to_owned())
}

/// Builds a crate's targets; the folder of the programs.
fn build(name: &str, triple: &str) -> Outcome<PathBuf> {
    let target_dir = root().join("target/fuzz/build");
    let manifest = format!("crates/{name}/fuzz/Cargo.toml");
    let mut command = cargo(&[
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--target",
        triple,
        "--manifest-path",
        &manifest,
    ]);
    sh::run(command.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &target_dir))?;
    Ok(target_dir.join(triple).join("release"))
}

fn one(name: &str, target: &str, program: &std::path::Path, seconds: &str) -> Outcome {
    let corpus = root().join("target/fuzz/corpus").join(target);
    let found = root().join("target/fuzz/found").join(target);
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let seeds = root().join("crates").join(name).join("fuzz/seeds").join(target);
    let mut command = cmd(&program.display().to_string(), &[&corpus.display().to_string()]);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    command.arg(format!("-max_total_time={seconds}"));
    command.args(["-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
    command.arg(format!("-artifact_prefix={}/", found.display()));
    eprintln!("$ {target} of midge-{name}, {seconds} s");
    let output = command.output().map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{target} fails; the input is in {}\n{said}", found.display()));
    }
    let tried = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    eprintln!("  {} inputs", tried.unwrap_or("?").trim());
    Ok(())
}
