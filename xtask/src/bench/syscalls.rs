//! System calls for a thousand messages: a count that no other load on the machine changes much.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;

use super::request::{Parties, Requests};
use super::server::{Kind, Server, Setup};
use super::traffic::{Running, Traffic};
use crate::sh::{Outcome, cmd};

/// Seconds of load, slowed down as the server is by being watched.
const SECONDS: f64 = 1.0;

/// Calls by their names, for a thousand messages.
pub(crate) type Calls = BTreeMap<String, f64>;

pub(crate) fn of_traffic(kind: &Kind, traffic: &Traffic) -> Outcome<Calls> {
    let mut running = Running::start(kind, traffic)?;
    running.pass(0.2)?;
    let (counted, calls) = watch(running.server.pid(), || running.pass(SECONDS))?;
    Ok(for_a_thousand(&calls, counted.messages))
}

pub(crate) fn of_requests(kind: &Kind, requests: &Requests) -> Outcome<Calls> {
    let server = Server::start(kind, Setup::Plain(""))?;
    let mut parties = Parties::new(&server, requests)?;
    let mut run = |seconds| parties.run(seconds).map_err(|error| format!("a request: {error}"));
    run(0.2)?;
    let (times, calls) = watch(server.pid(), || run(SECONDS))?;
    Ok(for_a_thousand(&calls, times.len() as u64))
}

fn for_a_thousand(calls: &BTreeMap<String, u64>, messages: u64) -> Calls {
    let each = |(name, count): (&String, &u64)| (name.clone(), *count as f64 * 1000.0 / messages as f64);
    calls.iter().map(each).collect()
}

/// Has strace count what a process asks of the kernel while something is done.
fn watch<T>(pid: u32, act: impl FnOnce() -> Outcome<T>) -> Outcome<(T, BTreeMap<String, u64>)> {
    let needs = |why: String| format!("strace is needed, and allowed to watch (Debian: strace): {why}");
    let mut strace = cmd("strace", &["-f", "-c", "-U", "calls,name", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| needs(error.to_string()))?;
    let mut said = BufReader::new(strace.stderr.take().ok_or("strace says nothing")?);
    let mut line = String::new();
    said.read_line(&mut line).map_err(|error| error.to_string())?;
    if !line.contains("attached") {
        return Err(needs(line));
    }
    let done = act();
    let stop = cmd("kill", &["-INT", &strace.id().to_string()]).status();
    stop.map_err(|error| error.to_string())?;
    // Not waiting for the end would leave the pipe, and strace with it.
    let reader = thread::spawn(move || {
        let mut text = String::new();
        said.read_to_string(&mut text).map(|_| text)
    });
    strace.wait().map_err(|error| error.to_string())?;
    let text = reader.join().map_err(|_| "reading from strace")?.map_err(|error| error.to_string())?;
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(Ok(count)), Some(name)) = (words.next().map(str::parse), words.next())
            && name != "total"
        {
            calls.insert(name.to_owned(), count);
        }
    }
    Ok((done?, calls))
}
