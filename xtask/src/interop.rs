//! midged against real clients and beside real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::peers::{self, Peers};
use crate::sh::{self, Outcome, cargo, cmd, root};
use crate::test;

/// Sessions of the differential tester in a run of everything.
const SESSIONS: &str = "1000";
/// The parts of async-nats's suite that need nothing but a server.
const SUITE: [&str; 7] = [
    "client_tests",
    "subject_validation_test",
    "server_pool_tests",
    "service_tests",
    "nkey_tests",
    "tls_tests",
    "websocket_test",
];
/// What the other parts need and these do not.
const UNUSED: [&str; 2] = ["criterion", "num"];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    match sh::value(arguments, "--suite") {
        Some("async-nats") => {
            let peers = peers::fetch()?;
            let server = match sh::value(arguments, "--server") {
                Some(path) => PathBuf::from(path),
                None => midged()?,
            };
            async_nats(&peers, &server)
        }
        Some(other) => Err(format!("no suite is called '{other}': use async-nats")),
        None if arguments.is_empty() => all(),
        None => differential(arguments),
    }
}

/// Everything: stock clients, transcripts, the differential tester, bad input, and async-nats's suite.
pub(crate) fn all() -> Outcome {
    let peers = peers::fetch()?;
    let midged = midged()?;
    tests(&peers, &midged, &[], SESSIONS, None)?;
    async_nats(&peers, &midged)
}

fn differential(arguments: &[String]) -> Outcome {
    let mut peers = peers::fetch()?;
    if let Some(version) = sh::value(arguments, "--against") {
        peers.servers.retain(|(found, _)| found.starts_with(version));
    }
    let sessions = sh::value(arguments, "--sessions").unwrap_or("1");
    tests(&peers, &midged()?, &["differential"], sessions, sh::value(arguments, "--seed"))
}

fn midged() -> Outcome<PathBuf> {
    sh::run(&mut cargo(&["build", "--quiet", "--package", "midged"]))?;
    Ok(root().join("target/debug/midged"))
}

fn tests(peers: &Peers, midged: &Path, filter: &[&str], sessions: &str, seed: Option<&str>) -> Outcome {
    let (version, server) = peers.newest()?;
    let mut runner = test::runner(&[&["--package", "midge-tests", "--test", "interop"], filter].concat());
    sh::run(&mut cargo(&["build", "--quiet", "--package", "midge-cli"]))?;
    runner.env("MIDGED", midged).env("NATS_SERVER", server).env("NATS_SERVER_VERSION", version);
    // Clusters are tried with all of them, oldest first.
    let all: Vec<String> = peers.servers.iter().map(|(_, path)| path.display().to_string()).collect();
    runner.env("NATS_SERVERS", all.join(":"));
    runner.env("PEER_CHROMIUM", &peers.chromium).env("PEER_GO", &peers.go);
    runner.env("PEER_PYTHON", &peers.python).env("PEER_NODE", &peers.node).env("MIDGE_SESSIONS", sessions);
    if let Some(seed) = seed {
        runner.env("MIDGE_SEED", seed);
    }
    sh::run(&mut runner)
}

#[derive(Deserialize)]
struct Differences {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// A case that is known to end otherwise than with nats-server.
#[derive(Deserialize)]
struct Difference {
    suite: String,
    case: String,
    why: String,
    until: String,
    /// Whether it asks a machine on the internet, so that it may pass or fail.
    #[serde(default)]
    outside: bool,
}

fn differences(suite: &str) -> Outcome<BTreeMap<String, Difference>> {
    let path = root().join("tests/interop/differences.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let all: Differences = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let ours = all.difference.into_iter().filter(|difference| difference.suite == suite);
    Ok(ours.map(|one| (one.case.clone(), one)).collect())
}

/// Runs async-nats's own tests, as its published crate holds them, with `server` as the `nats-server` on the path.
fn async_nats(peers: &Peers, server: &Path) -> Outcome {
    let home = suite_folder()?;
    let bin = root().join("target/interop/bin");
    fs::create_dir_all(&bin).map_err(|error| format!("{}: {error}", bin.display()))?;
    let link = bin.join("nats-server");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(server, &link).map_err(|error| format!("{}: {error}", link.display()))?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());

    let mut results = BTreeMap::new();
    for name in SUITE {
        let mut command = cargo(&[
            "test",
            "--quiet",
            "--no-fail-fast",
            "--test",
            name,
            "--",
            "--format=pretty",
            "--test-threads=4",
        ]);
        command
            .current_dir(&home)
            .env("CARGO_TARGET_DIR", root().join("target/interop/build"))
            .env("PATH", &path);
        command.env("RUST_BACKTRACE", "0");
        results.extend(outcomes(name, &mut command)?);
    }
    let listed = differences("async-nats")?;
    let failed: BTreeSet<&String> =
        results.iter().filter(|(_, passed)| !**passed).map(|(case, _)| case).collect();
    let mut faults = Vec::new();
    for case in &failed {
        if !listed.contains_key(*case) {
            faults.push(format!("{case} fails and is not listed"));
        }
    }
    for (case, Difference { why, until, outside, .. }) in &listed {
        match results.get(case) {
            Some(true) if !outside => {
                faults.push(format!("{case} passes but is listed: {why} (until {until})"))
            }
            None => faults.push(format!("{case} is listed but does not exist")),
            Some(_) => {}
        }
    }
    let (version, _) = peers.newest()?;
    eprintln!(
        "async-nats {}: {} cases, {} pass, {} listed as different from nats-server {version}",
        peers::async_nats_version()?,
        results.len(),
        results.len() - failed.len(),
        listed.len()
    );
    if faults.is_empty() { Ok(()) } else { Err(format!("\n  {}", faults.join("\n  "))) }
}

/// Which cases passed. What they print is shown only when the runner itself fails.
fn outcomes(name: &str, command: &mut Command) -> Outcome<Vec<(String, bool)>> {
    eprintln!("$ async-nats: {name}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let mut results = Vec::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let case = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
        match case {
            Some((case, "ok")) => results.push((format!("{name}::{case}"), true)),
            Some((case, "FAILED")) => {
                eprintln!("  {name}::{case} fails");
                results.push((format!("{name}::{case}"), false));
            }
            _ => {}
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if results.is_empty() {
        return Err(format!("{name} of async-nats did not run: {status}"));
    }
    Ok(results)
}

/// A copy of the published crate whose manifest names our helper crate, which its tests expect.
fn suite_folder() -> Outcome<PathBuf> {
    let text = sh::read(&mut cargo(&["metadata", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let found = packages.iter().find(|package| package["name"] == "async-nats");
    let manifest =
        found.and_then(|package| package["manifest_path"].as_str()).ok_or("cargo knows no async-nats")?;
    let source = Path::new(manifest).parent().ok_or("async-nats has no folder")?;
    let home = root().join("target/interop/async-nats");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(root().join("target/interop")).map_err(|error| error.to_string())?;
    sh::read(&mut cmd("cp", &["-r", &source.display().to_string(), &home.display().to_string()]))?;
    let path = home.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    fs::write(&path, suite_manifest(&text)?).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(home)
}

fn suite_manifest(text: &str) -> Outcome<String> {
    let mut manifest: toml::Table =
        text.parse().map_err(|error| format!("async-nats's manifest: {error}"))?;
    manifest.remove("example");
    manifest.remove("bench");
    manifest.insert("workspace".to_owned(), toml::Table::new().into());
    if let Some(tests) = manifest.get_mut("test").and_then(toml::Value::as_array_mut) {
        tests.retain(|test| {
            test.get("name").and_then(toml::Value::as_str).is_some_and(|name| SUITE.contains(&name))
        });
    }
    let dev = manifest.get_mut("dev-dependencies").and_then(toml::Value::as_table_mut);
    let dev = dev.ok_or("async-nats's manifest has no dev-dependencies")?;
    dev.retain(|name, _| !UNUSED.contains(&name));
    // Its default TLS needs a library of the system's, for a page that no test here can fetch.
    if let Some(reqwest) = dev.get_mut("reqwest").and_then(toml::Value::as_table_mut) {
        reqwest.insert("default-features".to_owned(), false.into());
    }
    let mut helper = toml::Table::new();
    helper.insert("path".to_owned(), root().join("tests/interop/nats-server").display().to_string().into());
    dev.insert("nats-server".to_owned(), helper.into());
    toml::to_string(&manifest).map_err(|error| error.to_string())
}
