//! Tests, by layer.

use std::process::Command;

use crate::interop;
use crate::sh::{self, Outcome, cargo, root};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments.first().map_or("all", String::as_str) {
        "unit" => unit(),
        "doc" => sh::run(&mut cargo(&["test", "--doc", "--workspace", "--quiet"])),
        "model" => model(),
        "interop" => interop::all(),
        "all" => {
            unit()?;
            sh::run(&mut cargo(&["test", "--doc", "--workspace", "--quiet"]))?;
            model()?;
            interop::all()
        }
        other => Err(format!("no layer is called '{other}': use unit, doc, model, interop or all")),
    }
}

/// Everything that needs nothing but this repository.
fn unit() -> Outcome {
    sh::run(&mut cargo(&["build", "--quiet", "--package", "midged"]))?;
    tests(&["--workspace", "--exclude", "midge-tests", "--lib", "--bins", "--examples", "--tests"])
}

/// The router with a model's locks and atomics, in many orders of events. Built apart: everything is another crate then.
fn model() -> Outcome {
    let mut tests = cargo(&["test", "--quiet", "--package", "midge-router", "--test", "router"]);
    sh::run(tests.env("RUSTFLAGS", "--cfg shuttle").env("CARGO_TARGET_DIR", root().join("target/model")))
}

/// Runs tests.
fn tests(selection: &[&str]) -> Outcome {
    sh::run(&mut runner(selection))
}

/// nextest where it is installed, which is quicker, or else cargo's own runner.
pub(crate) fn runner(selection: &[&str]) -> Command {
    let has_nextest = sh::read(&mut cargo(&["nextest", "--version"])).is_ok();
    let runner: &[&str] = if has_nextest { &["nextest", "run"] } else { &["test"] };
    cargo(&[runner, &["--no-fail-fast"], selection].concat())
}
