//! Simulations of whole meshes (`tests/sim`).

use crate::sh::{self, Outcome};
use crate::test;

/// Worlds in a run of everything.
const WORLDS: &str = "500";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let seed = sh::value(arguments, "--seed");
    // One that is named is run alone.
    let count = sh::value(arguments, "--count").unwrap_or(if seed.is_some() { "1" } else { WORLDS });
    worlds(seed.unwrap_or("1"), count)
}

/// As many as are run when everything is verified.
pub(crate) fn all() -> Outcome {
    worlds("1", WORLDS)
}

fn worlds(seed: &str, count: &str) -> Outcome {
    let mut runner = test::runner(&["--package", "midge-tests", "--test", "sim"]);
    sh::run(runner.env("MIDGE_SEED", seed).env("MIDGE_WORLDS", count))
}
