//! What midged says of itself.

use std::io::Write;

use midge::Server;
use midge::options::{OptionSpec, table};
use tracing::info;

/// The version line.
pub(crate) fn version() -> String {
    format!(
        "midged: v{} (speaks the protocol of nats-server {})",
        env!("CARGO_PKG_VERSION"),
        midge::PROTOCOL_VERSION
    )
}

/// Prints to standard output.
pub(crate) fn say(text: &str) {
    // Whoever closed the other end does not want to know.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints to standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Logs who is starting.
pub(crate) fn log(server: &Server) {
    info!("Starting midged");
    info!("  Version:  {}", env!("CARGO_PKG_VERSION"));
    info!("  Protocol: nats-server {}", midge::PROTOCOL_VERSION);
    info!("  Name:     {}", server.name());
    info!("  ID:       {}", server.id());
    if let Some(config) = &server.options().config {
        info!("Using configuration file: {} ({})", config.path, config.digest);
    }
}

/// The help, made from the table of options.
pub(crate) fn help() -> String {
    let mut text = String::from("Usage: midged [options]\n\n");
    let fixed = [
        ("-c, --config <file>", "Configuration file."),
        ("-t", "Test the configuration file and exit."),
        (
            "-sl, --signal <signal>[=<pid>]",
            "Send a signal to a midged process (stop, quit, term, reopen, reload, ldm); <pid> is a process number or a pid file.",
        ),
        ("-h, --help", "Show this message."),
        ("-v, --version", "Show the version."),
    ];
    for (flags, doc) in fixed {
        text.push_str(&line(flags, doc, ""));
    }
    text.push('\n');
    for spec in table().filter(|spec| !spec.flags.is_empty()) {
        text.push_str(&line(&names(spec), spec.doc, spec.default));
    }
    text.push_str("\nFlags take one or two dashes, and their value behind a space or '='.");
    text
}

fn names(spec: &OptionSpec) -> String {
    let dashed: Vec<String> = spec
        .flags
        .iter()
        .map(|flag| if flag.len() > 3 { format!("--{flag}") } else { format!("-{flag}") })
        .collect();
    let value = if spec.is_switch() { String::new() } else { format!(" <{}>", spec.value) };
    format!("{}{value}", dashed.join(", "))
}

fn line(flags: &str, doc: &str, default: &str) -> String {
    let default = match default {
        "" | "none" | "false" => String::new(),
        default => format!(" (default: {default})"),
    };
    format!("    {flags:<38} {doc}{default}\n")
}
