//! `midged`: a NATS-compatible server with nats-server's flags and configuration.

mod banner;
mod flags;
mod signals;

use std::process::ExitCode;

use midge::log::Log;
use midge::options::Options;
use midge::{OptionsSource, Server};

use crate::flags::{Command, Reader, Ready};

/// Gives back to the system what a storm of clients took (docs/decisions/0005-allocator.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Ends the process where something of ours is not what we take it for: whoever watches it starts it again, and nothing goes on
/// in half a state. The client library that talks to somebody else's deployment takes that one's word for lengths; a server
/// that lies ends its task, which is begun anew, and not the daemon.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        if !info.location().is_some_and(|location| location.file().contains("/async-nats-")) {
            std::process::abort();
        }
    }));
}

fn main() -> ExitCode {
    abort_on_panic();
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match flags::parse(&arguments).and_then(|parsed| parsed.decide(Reader::Starter)) {
        Ok(Command::Say(text)) => {
            banner::say(&text);
            ExitCode::SUCCESS
        }
        Ok(Command::Checked(text)) => {
            banner::complain(&text);
            ExitCode::SUCCESS
        }
        Ok(Command::Signal(order)) => match signals::send(&order) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        },
        Ok(Command::Run(ready)) => run(*ready, &arguments),
        Err(why) => fail(&why),
    }
}

/// A connection is a file: as many as the system grants, as Go's runtime does for nats-server.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(why) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("The limit of open files stays as it is: {why}");
    }
}

fn fail(why: &str) -> ExitCode {
    banner::complain(&format!("midged: {why}"));
    ExitCode::FAILURE
}

/// The command line, which is read again for a reload: its flags stand above the configuration file then, too.
struct CommandLine {
    arguments: Vec<String>,
    log: Log,
}

impl OptionsSource for CommandLine {
    fn read(&self) -> Result<Options, String> {
        match flags::parse(&self.arguments).and_then(|parsed| parsed.decide(Reader::Anybody))? {
            Command::Run(ready) => Ok(ready.options),
            _ => Err("the command line does not run a server".to_owned()),
        }
    }

    fn taken(&self, options: &Options) {
        if let Err(why) = self.log.change(&options.log) {
            tracing::error!("The log stays as it was: {why}");
        }
    }
}

fn run(Ready { options, warnings }: Ready, arguments: &[String]) -> ExitCode {
    let log = match Log::open(&options.log) {
        Ok(log) => log,
        Err(error) => {
            let path = options.log.file.as_deref().unwrap_or_else(|| "standard error".as_ref());
            return fail(&format!("cannot open log file {}: {error}", path.display()));
        }
    };
    if tracing::subscriber::set_global_default(log.clone()).is_err() {
        return fail("cannot install the log");
    }
    raise_file_limit();
    // Signals are caught from here on: one that comes during the start is not lost.
    let caught = match signals::catch() {
        Ok(caught) => caught,
        Err(error) => return fail(&format!("cannot catch signals: {error}")),
    };
    let server = match Server::new(options) {
        Ok(server) => server,
        Err(why) => return fail(&why.to_string()),
    };
    banner::log(&server);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if server.options().config.is_some() {
        server.on_reload(CommandLine { arguments: arguments.to_vec(), log: log.clone() });
    }
    match server.start() {
        Ok(running) => {
            signals::obey(caught, running, &log);
            ExitCode::SUCCESS
        }
        Err(why) => {
            log.fatal(&why.to_string());
            ExitCode::FAILURE
        }
    }
}
