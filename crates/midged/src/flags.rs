//! The command line, as Go's `flag` package reads it for nats-server: one dash or two, a value behind a space or
//! `=`, switches that may be turned off by `=false`, and no flag after the first word that is none.

use midge::options::{LoadError, OptionSpec, Options, apply_flag, flag, load_file};

use crate::banner;
use crate::signals::{Order, Signal};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print something and end.
    Say(String),
    /// Say where nats-server says it that a configuration is fine, and end.
    Checked(String),
    /// Tell another process something and end.
    Signal(Order),
    /// Run a server.
    Run(Box<Ready>),
}

/// Options to run with.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) options: Options,
    /// What should be said when there is a log.
    pub(crate) warnings: Vec<String>,
}

/// The command line, read but not obeyed.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    set: Vec<(&'static OptionSpec, String, String)>,
    config: Option<String>,
    test: bool,
    signal: Option<String>,
    help: bool,
    version: bool,
}

/// Reads the command line.
pub(crate) fn parse(arguments: &[String]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else {
            return parsed.word(argument);
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() {
            // Two dashes end the flags.
            return rest.next().map_or(Ok(parsed), |word| Parsed::default().word(word));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let mut needed = || {
            value
                .clone()
                .or_else(|| rest.next().cloned())
                .ok_or_else(|| format!("flag needs an argument: -{name}"))
        };
        match name {
            "c" | "config" => parsed.config = Some(needed()?),
            "sl" | "signal" => parsed.signal = Some(needed()?),
            "t" => parsed.test = true,
            "h" | "help" => parsed.help = true,
            "v" | "version" => parsed.version = true,
            _ => {
                let spec = flag(name).map_err(|error| error.to_string())?;
                let value =
                    if spec.is_switch() { value.unwrap_or_else(|| "true".to_owned()) } else { needed()? };
                parsed.set.push((spec, name.to_owned(), value));
            }
        }
    }
    Ok(parsed)
}

impl Parsed {
    /// A word that is no flag.
    fn word(mut self, word: &str) -> Result<Self, String> {
        match word.to_lowercase().as_str() {
            "version" => self.version = true,
            "help" => self.help = true,
            _ => return Err(format!("unrecognized command: \"{word}\"")),
        }
        Ok(self)
    }

    /// What to do: flags stand above the configuration file.
    pub(crate) fn decide(self, reader: Reader) -> Result<Command, String> {
        if self.version {
            return Ok(Command::Say(banner::version()));
        }
        if self.help {
            return Ok(Command::Say(banner::help()));
        }
        if let Some(signal) = &self.signal {
            return Ok(Command::Signal(order(signal)?));
        }
        let mut options = Options::default();
        // A wrong flag is told before a wrong file.
        for (spec, name, value) in &self.set {
            apply_flag(&mut options, spec, name, value).map_err(|error| error.to_string())?;
        }
        let mut options = Options::default();
        match &self.config {
            Some(path) => load_file(&mut options, path).map_err(|why| explain(why, reader))?,
            None if self.test => {
                return Err(
                    "must specify [-c, --config] option to check configuration file syntax".to_owned()
                );
            }
            None => {}
        }
        if self.test {
            options.check().map_err(|error| error.to_string())?;
            let config = options.config.map(|config| format!("{} is valid ({})", config.path, config.digest));
            return Ok(Command::Checked(format!(
                "midged: configuration file {}",
                config.unwrap_or_default()
            )));
        }
        for (spec, name, value) in &self.set {
            apply_flag(&mut options, spec, name, value).map_err(|error| error.to_string())?;
        }
        options.check().map_err(|error| error.to_string())?;
        let mut warnings = Vec::new();
        if self.config.is_some() && options.has_plain_passwords() {
            warnings.push("Plaintext passwords detected, use nkeys or bcrypt".to_owned());
        }
        Ok(Command::Run(Box::new(Ready { options, warnings })))
    }
}

/// Who reads what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Whoever starts the program, and may read the configuration.
    Starter,
    /// Whoever reads the log, who need not see lines with passwords.
    Anybody,
}

/// Places stand at the beginning of a line, where editors find them.
fn explain(error: LoadError, reader: Reader) -> String {
    match error {
        LoadError::Config(errors) => match reader {
            Reader::Starter => format!("the configuration is wrong\n{errors}"),
            Reader::Anybody => format!("the configuration is wrong\n{errors:#}"),
        },
        other => other.to_string(),
    }
}

fn order(text: &str) -> Result<Order, String> {
    let (signal, target) =
        text.split_once('=').map_or((text, None), |(signal, target)| (signal, Some(target)));
    let signal = match signal {
        "stop" => Signal::Kill,
        "quit" => Signal::Interrupt,
        "term" => Signal::Terminate,
        "reopen" => Signal::Reopen,
        "ldm" => Signal::LameDuck,
        "reload" => Signal::Reload,
        other => {
            return Err(format!("unknown signal \"{other}\": use stop, quit, term, reopen, reload or ldm"));
        }
    };
    Ok(Order { signal, target: target.filter(|target| !target.is_empty()).map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)?.decide(Reader::Starter)
    }

    #[track_caller]
    fn options(line: &str) -> Options {
        match decide(line) {
            Ok(Command::Run(ready)) => ready.options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_are_gos() {
        for line in ["-p 5", "--p 5", "-port 5", "--port=5", "-port=5"] {
            assert_eq!(options(line).listen.port, 5, "{line}");
        }
        assert_eq!(options("-p -1").listen.port, 0);
        let logging = options("-DV -T=false").log;
        assert!(logging.debug && logging.trace && !logging.time);
        assert!(!options("-D=false").log.debug);
        assert_eq!(options("-sd=/x -a h -P /p").listen.host, "h");
        assert_eq!(options("-p 5 -p 6").listen.port, 6);
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, want) in [
            ("-p", "flag needs an argument: -p"),
            ("-p x", "invalid value \"x\" for flag -p: expected a whole number, but got 'x'"),
            ("--jetstream", "flag -jetstream is not supported yet: JetStream"),
            ("--nope", "flag provided but not defined: -nope"),
            ("run", "unrecognized command: \"run\""),
            ("-t", "must specify [-c, --config] option to check configuration file syntax"),
            ("--signal nap", "unknown signal \"nap\": use stop, quit, term, reopen, reload or ldm"),
            ("-user a", "authorization.user and authorization.password go together: set both"),
            (
                "-c /no/such/file",
                "error opening config file: /no/such/file: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(decide(line).unwrap_err(), want, "{line}");
        }
    }

    #[test]
    fn words_and_switches_that_print() {
        for line in ["-v", "--version", "version", "-p 1 version"] {
            assert!(
                matches!(decide(line), Ok(Command::Say(text)) if text.starts_with("midged: v")),
                "{line}"
            );
        }
        assert!(matches!(decide("help"), Ok(Command::Say(text)) if text.contains("--store_dir <dir>")));
    }

    #[test]
    fn signals_have_a_target_or_find_it() {
        let Ok(Command::Signal(order)) = decide("--signal ldm=42") else { panic!("no signal") };
        assert_eq!((order.signal, order.target.as_deref()), (Signal::LameDuck, Some("42")));
        assert!(matches!(decide("-sl quit"), Ok(Command::Signal(Order { target: None, .. }))));
    }
}
