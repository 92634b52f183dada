//! Brokers of other protocols, as Debian builds them: found below target/peers, or fetched there.

use std::path::Path;

use super::dialect::Dialect;
use super::server::Kind;
use crate::peers;
use crate::sh::{Outcome, cmd, root};

/// The packages with what they need that not every Debian system has.
const PACKAGES: [&str; 9] = [
    "mosquitto",
    "libmosquitto1",
    "libcjson1",
    "libdlt2",
    "libwrap0",
    "redis-tools",
    "redis-server",
    "libjemalloc2",
    "liblzf1",
];

const MOSQUITTO: &str = "usr/sbin/mosquitto";
const REDIS: &str = "usr/bin/redis-server";

/// Mosquitto and Redis, whichever versions Debian's bookworm has now.
pub(crate) fn fetch() -> Outcome<Vec<Kind>> {
    let home = root().join("target/peers/brokers");
    let unpacked = home.join("root");
    if ![MOSQUITTO, REDIS].iter().all(|program| unpacked.join(program).exists()) {
        peers::download(&home, "bookworm", &PACKAGES)?;
    }
    let libraries = unpacked.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let kind = |name: &str, program: &str, dialect, version: &str| Kind {
        name: format!("{name} {version}"),
        program: unpacked.join(program),
        libraries: Some(libraries.clone()),
        dialect,
    };
    let mosquitto = asked(&unpacked.join(MOSQUITTO), "-h", &libraries)?;
    let mosquitto = mosquitto.split_whitespace().nth(2).unwrap_or("?").to_owned();
    // The server's own name is a link to this program, which tells by its name what it is to be.
    let redis = asked(&unpacked.join(REDIS), "--version", &libraries)?;
    let redis = redis.split_once("v=").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("?").to_owned();
    Ok(vec![
        kind("Mosquitto", MOSQUITTO, Dialect::Mqtt, &mosquitto),
        kind("Redis", REDIS, Dialect::Resp, &redis),
    ])
}

/// What a program says of itself, whether or not it calls that a success.
fn asked(program: &Path, flag: &str, libraries: &Path) -> Outcome<String> {
    let mut command = cmd(&program.display().to_string(), &[flag]);
    command.env("LD_LIBRARY_PATH", libraries);
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.is_empty() {
        return Err(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr)));
    }
    Ok(said)
}
