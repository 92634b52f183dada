//! Signals: those that this process gets, and those that it sends to another.

use std::io;
use std::path::Path;

use midge::log::Log;
use midge::{Order as Act, Running};
use rustix::process::{Pid, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

/// What another process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Kill,
    Interrupt,
    Terminate,
    Reopen,
    Reload,
    LameDuck,
}

/// A signal and whom it is for.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) signal: Signal,
    /// A process number, with or without a `*` behind it, or a pid file; the only midged there is, if none is given.
    pub(crate) target: Option<String>,
}

/// Sends a signal.
pub(crate) fn send(order: &Order) -> Result<(), String> {
    let target = order.target.as_deref().unwrap_or_default();
    // A number is never a file's name, as in the original.
    let target = if target.trim_end_matches('*').parse::<u32>().is_err() && Path::new(target).is_file() {
        let text =
            std::fs::read_to_string(target).map_err(|error| format!("cannot read {target}: {error}"))?;
        text.trim().to_owned()
    } else {
        target.to_owned()
    };
    let (prefix, many) = target.strip_suffix('*').map_or((target.as_str(), false), |prefix| (prefix, true));
    if !prefix.is_empty() && prefix.parse::<i32>().is_err() {
        return Err(format!("invalid pid: {prefix}"));
    }
    let pids = match prefix.parse() {
        Ok(pid) if !many => vec![pid],
        _ => others().into_iter().filter(|pid| pid.to_string().starts_with(prefix)).collect(),
    };
    match pids.as_slice() {
        [] => Err("no midged processes running".to_owned()),
        [_, _, ..] if !many => {
            let list: Vec<String> = pids.iter().map(|pid| format!("\n{pid}")).collect();
            Err(format!("multiple midged processes running:{}", list.concat()))
        }
        pids => pids.iter().try_for_each(|pid| send_to(*pid, order.signal)),
    }
}

fn send_to(pid: i32, signal: Signal) -> Result<(), String> {
    use rustix::process::Signal as Unix;
    let unix = match signal {
        Signal::Kill => Unix::KILL,
        Signal::Interrupt => Unix::INT,
        Signal::Terminate => Unix::TERM,
        Signal::Reopen => Unix::USR1,
        Signal::Reload => Unix::HUP,
        Signal::LameDuck => Unix::USR2,
    };
    let target = Pid::from_raw(pid).ok_or_else(|| format!("invalid pid: {pid}"))?;
    kill_process(target, unix).map_err(|error| format!("signal {signal:?} {pid}: {error}"))
}

/// Other processes that run this program.
fn others() -> Vec<i32> {
    let own = std::process::id().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "midged")
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Signals that are being caught.
pub(crate) struct Caught {
    runtime: Runtime,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    reopen: tokio::signal::unix::Signal,
    lame_duck: tokio::signal::unix::Signal,
}

/// Begins to catch signals.
pub(crate) fn catch() -> io::Result<Caught> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let caught = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ]
    .map(signal);
    drop(inside);
    let [interrupt, terminate, hang_up, reopen, lame_duck] = caught;
    Ok(Caught {
        runtime,
        interrupt: interrupt?,
        terminate: terminate?,
        hang_up: hang_up?,
        reopen: reopen?,
        lame_duck: lame_duck?,
    })
}

/// Does what signals ask for, until the server has ended.
pub(crate) fn obey(mut caught: Caught, running: Running, log: &Log) {
    let act = running.orders();
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    // Somebody must wait for the end of a lame duck while signals are listened to.
    let waiter = std::thread::spawn(move || {
        running.wait();
        let _ = ended.send(());
    });
    caught.runtime.block_on(async {
        let mut end = std::pin::pin!(end);
        let mut leaving = false;
        loop {
            let trapped = |name: &str| info!("Trapped \"{name}\" signal");
            tokio::select! {
                _ = &mut end => break,
                _ = caught.interrupt.recv() => {
                    trapped("interrupt");
                    act(Act::Stop);
                }
                _ = caught.terminate.recv() => {
                    trapped("terminated");
                    // A graceful end has begun already.
                    if !leaving {
                        act(Act::Stop);
                    }
                }
                _ = caught.lame_duck.recv() => {
                    trapped("user defined signal 2");
                    leaving = true;
                    act(Act::LameDuck);
                }
                _ = caught.reopen.recv() => {
                    trapped("user defined signal 1");
                    reopen(log);
                }
                _ = caught.hang_up.recv() => {
                    trapped("hangup");
                    act(Act::Reload);
                }
            }
        }
    });
    let _ = waiter.join();
}

fn reopen(log: &Log) {
    match log.reopen() {
        Ok(true) => info!("File log re-opened"),
        Ok(false) => info!("File log re-open ignored, not a file logger"),
        Err(why) => error!("File log not re-opened, the old one is kept: {why}"),
    }
}
