//! Tables in docs/ that are made from the code.

use std::fmt::Write;
use std::fs;

use midge_server::options::{Reload, TLS_TABLE, UNSUPPORTED_FLAGS, UNSUPPORTED_KEYS, table};

use crate::sh::{Outcome, root};

const PATH: &str = "docs/options.md";

/// Writes the tables, or checks that they are what would be written.
pub(crate) fn run(check: bool) -> Outcome {
    let path = root().join(PATH);
    let text = options();
    if !check {
        return fs::write(&path, text).map_err(|error| format!("{PATH}: {error}"));
    }
    let found = fs::read_to_string(&path).map_err(|error| format!("{PATH}: {error}"))?;
    if found == text {
        Ok(())
    } else {
        Err(format!("{PATH} is not what the table of options says: run cargo xtask fix"))
    }
}

fn options() -> String {
    let mut text = String::from(
        "# Options\n\nMade from the table in `crates/server/src/options/table.rs` by `cargo xtask docs`. Flags take one or two dashes\n\
         and stand above the configuration file. A key with a dot stands in a block. *Live* options are those that a reload changes;\n\
         the others need a new start.\n\n\
         | key | flag | what it does | default | example | change |\n|---|---|---|---|---|---|\n",
    );
    for spec in table() {
        let code = |names: &[&str], dash: &str| {
            names.iter().map(|name| format!("`{dash}{name}`")).collect::<Vec<_>>().join(", ")
        };
        let change = if spec.reload == Reload::Live { "live" } else { "restart" };
        let example = if spec.keys.is_empty() { String::new() } else { format!("`{}`", spec.example) };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {example} | {change} |",
            code(spec.keys, ""),
            code(spec.flags, "-"),
            spec.doc,
            spec.default
        );
    }
    text.push_str(
        "\n## In a `tls` block\n\nThe certificate files are read again with every reload.\n\n\
         | key | what it does | default | example |\n|---|---|---|---|\n",
    );
    for spec in TLS_TABLE {
        let keys = spec.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| {keys} | {} | {} | `{}` |", spec.doc, spec.default, spec.example);
    }
    text.push_str("\n## Known to nats-server, refused by name here\n\n| key or flag | what it stands for |\n|---|---|\n");
    for (list, dash) in [(UNSUPPORTED_KEYS, ""), (UNSUPPORTED_FLAGS, "-")] {
        for later in list {
            let names: Vec<String> = later.names.iter().map(|name| format!("`{dash}{name}`")).collect();
            let _ = writeln!(text, "| {} | {} |", names.join(", "), later.what);
        }
    }
    text
}
