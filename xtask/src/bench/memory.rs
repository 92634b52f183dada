//! What connections and subscriptions take.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use super::server::{Kind, Server, Setup};
use super::{Effort, Sample};
use crate::sh::Outcome;

/// Subscriptions that are sent at once.
const SUBS_AT_ONCE: usize = 1000;

/// Resident bytes of each connection: how much memory grows from the first tenth of them to all.
pub(crate) fn connections(kind: &Kind, setup: Setup, count: usize, effort: &Effort) -> Outcome<Sample> {
    let server = Server::start(kind, setup)?;
    let count = count / effort.smaller;
    let start = Instant::now();
    let mut held = Vec::new();
    while held.len() < count / 10 {
        held.push(server.client(&[])?);
    }
    let before = server.settled_memory()?;
    while held.len() < count {
        held.push(server.client(&[])?);
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let grown = server.settled_memory()?.saturating_sub(before);
    Ok(Sample { figures: vec![grown as f64 / (count - count / 10) as f64], rate })
}

/// Resident bytes of each of many literal subscriptions, and the processor time to take it.
pub(crate) fn subscriptions(
    kind: &Kind,
    connections: usize,
    each: usize,
    effort: &Effort,
) -> Outcome<Sample> {
    let server = Server::start(kind, Setup::Plain(""))?;
    let each = each / effort.smaller;
    // What the first connection costs belongs to the server.
    let _first = server.client(&[])?;
    let (before, spent) = (server.settled_memory()?, server.cpu()?);
    let start = Instant::now();
    let mut held = Vec::new();
    for connection in 0..connections {
        let mut client = server.client(&[])?;
        let mut text = String::new();
        for n in 0..each {
            // Writing to a String cannot fail.
            let _ = write!(text, "SUB bench.{connection}.{n} {n}\r\n");
            if (n + 1) % SUBS_AT_ONCE == 0 || n + 1 == each {
                client.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
                text.clear();
            }
        }
        server.sync(&mut *client).map_err(|error| format!("subscriptions: {error}"))?;
        held.push(client);
    }
    let all = (connections * each) as f64;
    let rate = all / start.elapsed().as_secs_f64();
    let spent = (server.cpu()? - spent) as f64 / all;
    let grown = server.settled_memory()?.saturating_sub(before);
    Ok(Sample { figures: vec![grown as f64 / all, spent], rate })
}

/// Resident bytes of a server that nobody has connected to.
pub(crate) fn fresh(kind: &Kind, _: &Effort) -> Outcome<Sample> {
    let server = Server::start(kind, Setup::Plain(""))?;
    Ok(Sample { figures: vec![server.settled_memory()? as f64], rate: 0.0 })
}
