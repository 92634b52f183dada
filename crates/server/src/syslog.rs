//! Log lines for the system's log, or for one elsewhere.

use std::io;
use std::time::{Duration, Instant};

use syslog::{Facility, Formatter3164, Logger, LoggerBackend};
use tracing::Level;

/// Which syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// This system's.
    Local,
    /// By datagrams to `host:port`.
    Udp(String),
    /// By a connection to `host:port`.
    Tcp(String),
    /// By a socket in the file system.
    Unix(String),
}

impl Target {
    /// Reads `udp://host:port`, `tcp://host:port`, `unix:///path` and `unixgram:///path`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (scheme, place) = url.split_once("://")?;
        let with_port = |place: &str| {
            let (host, port) = place.rsplit_once(':')?;
            (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| place.to_owned())
        };
        match scheme {
            "udp" => with_port(place).map(Self::Udp),
            "tcp" => with_port(place).map(Self::Tcp),
            "unix" | "unixgram" if place.starts_with('/') => Some(Self::Unix(place.to_owned())),
            _ => None,
        }
    }
}

/// Time between two attempts to reach a syslog that is gone.
const PAUSE: Duration = Duration::from_secs(1);

/// An open syslog.
pub(crate) struct Syslog {
    logger: Logger<LoggerBackend, Formatter3164>,
    target: Target,
    /// When it was last tried to reach it anew.
    tried: Option<Instant>,
}

impl std::fmt::Debug for Syslog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Syslog")
    }
}

impl Syslog {
    pub(crate) fn open(target: Target) -> io::Result<Self> {
        let logger = Self::connect(&target)?;
        Ok(Self { logger, target, tried: None })
    }

    fn connect(target: &Target) -> io::Result<Logger<LoggerBackend, Formatter3164>> {
        let format = Formatter3164 {
            // nats-server's: the kernel's for one elsewhere, a daemon's for the system's own.
            facility: if *target == Target::Local { Facility::LOG_DAEMON } else { Facility::LOG_KERN },
            hostname: (*target != Target::Local).then(hostname),
            process: "midged".to_owned(),
            pid: std::process::id(),
        };
        let logger = match target {
            Target::Local => syslog::unix(format),
            Target::Udp(to) if to.starts_with('[') => syslog::udp(format, "[::]:0", to.as_str()),
            Target::Udp(to) => syslog::udp(format, "0.0.0.0:0", to.as_str()),
            Target::Tcp(to) => syslog::tcp(format, to.as_str()),
            Target::Unix(path) => syslog::unix_custom(format, path),
        };
        logger.map_err(|why| io::Error::other(why.to_string()))
    }

    /// Writes a line. A syslog that is gone is looked for again; one that stays away cannot be told of.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        if self.try_write(level, text).is_ok() {
            return;
        }
        if self.tried.is_some_and(|tried| tried.elapsed() < PAUSE) {
            return;
        }
        self.tried = Some(Instant::now());
        if let Ok(logger) = Self::connect(&self.target) {
            self.logger = logger;
            let _ = self.try_write(level, text);
        }
    }

    fn try_write(&mut self, level: Level, text: &str) -> syslog::Result<()> {
        // A stream has no other end of a line.
        let end = if matches!(self.target, Target::Tcp(_)) { "\n" } else { "" };
        let text = format_args!("{text}{end}").to_string();
        match level {
            Level::ERROR => self.logger.err(text),
            Level::WARN => self.logger.warning(text),
            Level::INFO | Level::TRACE => self.logger.notice(text),
            Level::DEBUG => self.logger.debug(text),
        }
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "-".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn targets_are_urls() {
        assert_eq!(Target::parse("udp://h:514"), Some(Target::Udp("h:514".into())));
        assert_eq!(Target::parse("tcp://[::1]:601"), Some(Target::Tcp("[::1]:601".into())));
        assert_eq!(Target::parse("unixgram:///dev/log"), Some(Target::Unix("/dev/log".into())));
        for bad in ["", "h:514", "udp://h", "udp://:514", "udp://h:x", "http://h:1", "unix://relative"] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_arrive_with_their_level() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut log = Syslog::open(Target::Udp(receiver.local_addr().unwrap().to_string())).unwrap();
        let mut buffer = [0; 500];
        for (level, priority) in
            [(Level::ERROR, "<3>"), (Level::WARN, "<4>"), (Level::INFO, "<5>"), (Level::DEBUG, "<7>")]
        {
            log.write(level, "it happened");
            let len = receiver.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            assert!(
                text.starts_with(priority) && text.contains("midged[") && text.contains("it happened"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_syslog_that_comes_back_is_found_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut log = Syslog::open(Target::Tcp(listener.local_addr().unwrap().to_string())).unwrap();
        let (first, _) = listener.accept().unwrap();
        log.write(Level::INFO, "one");
        log.write(Level::INFO, "two");
        let mut lines = BufReader::new(&first).lines();
        for end in ["]: one", "]: two"] {
            assert!(lines.next().unwrap().unwrap().ends_with(end));
        }
        drop(first);
        listener.set_nonblocking(true).unwrap();
        // The first line after the end may still be taken, and lost.
        let second = loop {
            log.tried = None;
            log.write(Level::INFO, "again");
            if let Ok((second, _)) = listener.accept() {
                break second;
            }
        };
        second.set_nonblocking(false).unwrap();
        let line = BufReader::new(second).lines().next().unwrap().unwrap();
        assert!(line.ends_with("]: again"), "{line}");
    }
}
