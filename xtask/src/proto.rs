//! The messages in `proto/` as Rust, committed, so that nobody who builds midge needs a protobuf compiler.

use std::fs;
use std::path::Path;

use crate::sh::{Outcome, root};

/// Which file becomes which module.
const MODULES: &[(&str, &str)] = &[
    ("hash", "crates/identity/src/proto/hash.rs"),
    ("signed", "crates/identity/src/proto/signed.rs"),
    ("link", "crates/link/src/proto.rs"),
    ("rendezvous", "crates/backend/src/proto.rs"),
    ("nats", "crates/midge/src/bifrost/proto.rs"),
];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let check = arguments.iter().any(|argument| argument == "--check");
    let mut stale = Vec::new();
    for (name, path) in MODULES {
        let text = generate(name)?;
        let path = root().join(path);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
        } else {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("not what proto/ says: {}; run cargo xtask proto", stale.join(", ")))
}

fn generate(name: &str) -> Outcome<String> {
    let folder = root().join("proto");
    let fail = |error: &dyn std::fmt::Display| format!("proto/{name}.proto: {error}");
    let file = format!("{name}.proto");
    let set = protox::compile([&file], [&folder]).map_err(|error| fail(&error))?;
    let wanted: Vec<_> = set.file.into_iter().filter(|one| one.name() == file).collect();
    let mut config = prost_build::Config::new();
    let hash = if name == "signed" { "crate::proto::hash" } else { "::midge_identity::proto::hash" };
    config.extern_path(".hash", hash);
    if name == "hash" {
        config = prost_build::Config::new();
    }
    let requests = wanted.into_iter().map(|one| (prost_build::Module::from_protobuf_package_name(name), one));
    let modules = config.generate(requests.collect()).map_err(|error| fail(&error))?;
    let code: String = modules.into_values().collect();
    let head = format!("// Made from proto/{name}.proto by cargo xtask proto.\n");
    format(&format!("{head}{code}"), &folder)
}

/// As `cargo fmt` would have it.
fn format(code: &str, folder: &Path) -> Outcome<String> {
    let scratch = root().join("target/proto.rs");
    fs::write(&scratch, code).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let path = scratch.display().to_string();
    crate::sh::run(crate::sh::cmd("rustfmt", &["--edition", "2024", &path]).current_dir(folder))?;
    fs::read_to_string(&scratch).map_err(|error| format!("{path}: {error}"))
}
