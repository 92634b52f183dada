//! All that must hold.

use crate::sh::{self, Outcome, cargo};
use crate::{bench, docs, fuzz, interop, proto, sim, test, tidy};

pub(crate) fn run_step(name: &str, step: impl FnOnce() -> Outcome) -> Outcome {
    eprintln!("\n== {name}");
    step().map_err(|why| format!("{name}: {why}"))
}

pub(crate) fn run() -> Outcome {
    run_step("format", || sh::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    run_step("tidy", tidy::run)?;
    run_step("documentation tables", || docs::run(true))?;
    run_step("messages", || proto::run(&["--check".to_owned()]))?;
    run_step("clippy", || {
        sh::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
    })?;
    run_step("rustdoc", || {
        let mut command = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
        sh::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    run_step("tests of each crate", || test::run(&["unit".to_owned()]))?;
    run_step("examples in the documentation", || test::run(&["doc".to_owned()]))?;
    run_step("models of how threads meet", || test::run(&["model".to_owned()]))?;
    run_step("simulations", sim::all)?;
    run_step("instructions per message", bench::instructions)?;
    run_step("a glance at the fuzz targets", fuzz::glance)?;
    run_step("interop", interop::all)?;
    eprintln!("\nverify: everything holds");
    Ok(())
}
