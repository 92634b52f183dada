//! Log lines as nats-server writes them, so that tools that read those read these.
//!
//! Everything in this crate is logged by `tracing`. A daemon installs a [`Log`]; a program that embeds the
//! server installs whatever it likes.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use parking_lot::RwLock;

use jiff::Zoned;
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::options::LogOptions;
use crate::syslog::{Syslog, Target};

/// Writes log lines to a file, a syslog or standard error.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: RwLock<LogOptions>,
    sink: std::sync::Mutex<Sink>,
}

#[derive(Debug)]
enum Sink {
    Terminal { color: bool },
    Syslog(Syslog),
    File { file: File, path: PathBuf, size: u64 },
}

impl Log {
    /// A log with these options.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(options: &LogOptions) -> io::Result<Self> {
        let sink = std::sync::Mutex::new(sink(options)?);
        Ok(Self(Arc::new(Inner { options: RwLock::new(options.clone()), sink })))
    }

    /// Takes up other options.
    ///
    /// # Errors
    /// The new file cannot be written, or the new syslog cannot be reached; everything stays as it was.
    pub fn change(&self, options: &LogOptions) -> io::Result<()> {
        let place =
            |options: &LogOptions| (options.file.clone(), options.remote_syslog.clone(), options.syslog);
        let moves = place(&self.0.options.read()) != place(options);
        if moves {
            let new = sink(options)?;
            *self.0.sink.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
        *self.0.options.write() = options.clone();
        // What is enabled is remembered at each place that logs.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Begins the file anew under its name, which somebody has moved away. Whether there is a file.
    ///
    /// # Errors
    /// The file cannot be written; the old one is kept.
    pub fn reopen(&self) -> io::Result<bool> {
        let mut sink = self.0.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let Sink::File { path, .. } = &*sink else { return Ok(false) };
        *sink = open(path)?;
        Ok(true)
    }

    /// Writes a last line and gives it back, for a program that cannot go on.
    pub fn fatal(&self, message: &str) {
        self.0.line(None, message);
    }
}

fn sink(options: &LogOptions) -> io::Result<Sink> {
    let target = match (&options.file, &options.remote_syslog) {
        (Some(path), _) => return open(path),
        (None, Some(url)) => Target::parse(url),
        (None, None) if options.syslog => Some(Target::Local),
        (None, None) => return Ok(Sink::Terminal { color: io::stderr().is_terminal() }),
    };
    let target =
        target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "remote_syslog is no address"))?;
    Ok(Sink::Syslog(Syslog::open(target)?))
}

fn open(path: &Path) -> io::Result<Sink> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok(Sink::File { file, path: path.to_owned(), size })
}

impl Inner {
    fn level(&self) -> Level {
        let options = self.options.read();
        match (options.trace, options.debug) {
            (true, _) => Level::TRACE,
            (false, true) => Level::DEBUG,
            (false, false) => Level::INFO,
        }
    }

    fn now(&self) -> Zoned {
        let zone = if self.options.read().utc { TimeZone::UTC } else { TimeZone::system() };
        Zoned::now().with_time_zone(zone)
    }

    /// Writes a line. One without a level is the last.
    fn line(&self, level: Option<Level>, message: &str) {
        let label = level.map_or("FTL", label);
        let (time, size_limit) = {
            let options = self.options.read();
            (options.time, options.size_limit)
        };
        let mut line = format!("[{}] ", std::process::id());
        if time {
            let _ = write!(line, "{} ", self.now().strftime("%Y/%m/%d %H:%M:%S%.6f"));
        }
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *sink {
            Sink::Syslog(syslog) => return syslog.write(level.unwrap_or(Level::ERROR), message),
            Sink::Terminal { color: true } => {
                let _ = write!(line, "[{}{label}\u{1b}[0m] ", color(label));
            }
            _ => {
                let _ = write!(line, "[{label}] ");
            }
        }
        line.push_str(message);
        line.push('\n');
        sink.write(line.as_bytes());
        if let Sink::File { path, size, .. } = &*sink
            && size_limit > 0
            && *size > size_limit
        {
            let path = path.clone();
            self.put_aside(&path, &mut sink);
        }
    }

    /// Puts a full file aside under a name with the time, and begins a new one.
    fn put_aside(&self, path: &Path, sink: &mut Sink) {
        let now = self.now();
        let backup = format!("{}.{}", path.display(), now.strftime("%Y.%m.%d.%H.%M.%S.%9f"));
        if std::fs::rename(path, &backup).is_err() {
            return;
        }
        if let Ok(new) = open(path) {
            *sink = new;
            let line = format!("[{}] [INF] Rotated log, backup saved as \"{backup}\"\n", std::process::id());
            sink.write(line.as_bytes());
        }
        let max_files = self.options.read().max_files;
        if max_files > 0 {
            prune(path, max_files.saturating_sub(1));
        }
    }
}

/// Removes the oldest files that were put aside.
fn prune(path: &Path, keep: usize) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let prefix = format!("{}.", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut backups: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix(&prefix)
                .is_some_and(|time| time.len() == 29 && time.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        })
        .collect();
    backups.sort();
    let surplus = backups.len().saturating_sub(keep);
    for old in backups.iter().take(surplus) {
        // It may have been removed by somebody else.
        let _ = std::fs::remove_file(old);
    }
}

impl Sink {
    /// Nobody can be told that a log line could not be written.
    fn write(&mut self, line: &[u8]) {
        match self {
            // Its lines are written whole.
            Self::Syslog(_) => {}
            Self::Terminal { .. } => {
                let _ = io::stderr().write_all(line);
            }
            Self::File { file, size, .. } => {
                if file.write_all(line).is_ok() {
                    *size += line.len() as u64;
                }
            }
        }
    }
}

/// nats-server's colors.
fn color(label: &str) -> &'static str {
    match label {
        "INF" => "\u{1b}[32m",
        "DBG" => "\u{1b}[36m",
        "WRN" => "\u{1b}[0;93m",
        "ERR" | "FTL" => "\u{1b}[31m",
        _ => "\u{1b}[33m",
    }
}

fn label(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries below have to say is for their developers.
        *metadata.level() <= self.0.level() && metadata.target().starts_with("midge")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.0.level()))
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.line(Some(*event.metadata().level()), &message.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("midge-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn options(path: &Path) -> LogOptions {
        LogOptions { file: Some(path.to_owned()), ..Options::default().log }
    }

    #[test]
    fn lines_look_like_the_originals() {
        let folder = folder("shape");
        let path = folder.join("log");
        let log = Log::open(&options(&path)).unwrap();
        tracing::subscriber::with_default(log, || {
            tracing::info!("Server is ready");
            tracing::debug!("not asked for");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let pid = "0".repeat(std::process::id().to_string().len());
        assert_eq!(shape, format!("[{pid}] 0000/00/00 00:00:00.000000 [INF] Server is ready\n"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn full_files_are_put_aside_and_old_ones_removed() {
        let folder = folder("rotate");
        let path = folder.join("log");
        let log = Log::open(&LogOptions { size_limit: 100, max_files: 3, ..options(&path) }).unwrap();
        for n in 0..20 {
            log.0.line(Some(Level::INFO), &format!("line {n} {}", "x".repeat(80)));
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
        assert!(std::fs::read_to_string(&path).unwrap().contains("Rotated log, backup saved as"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_moved_file_is_begun_anew() {
        let folder = folder("reopen");
        let path = folder.join("log");
        let log = Log::open(&options(&path)).unwrap();
        log.fatal("one");
        std::fs::rename(&path, folder.join("old")).unwrap();
        assert!(log.reopen().unwrap());
        log.fatal("two");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("[FTL] two\n"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
