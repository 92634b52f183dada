//! What can be put right by itself.

use crate::docs;
use crate::sh::{Outcome, cargo};

pub(crate) fn run() -> Outcome {
    crate::sh::run(&mut cargo(&["fmt", "--all"]))?;
    docs::run(false)
}
