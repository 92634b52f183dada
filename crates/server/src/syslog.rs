//! Log lines for the system's log, or for one elsewhere.

use std::io;

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

/// An open syslog.
pub(crate) struct Syslog(Logger<LoggerBackend, Formatter3164>);

impl std::fmt::Debug for Syslog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Syslog")
    }
}

impl Syslog {
    pub(crate) fn open(target: &Target) -> io::Result<Self> {
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
        logger.map(Self).map_err(|why| io::Error::other(why.to_string()))
    }

    /// Writes a line; a syslog that does not take it cannot be told of.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        let _ = match level {
            Level::ERROR => self.0.err(text),
            Level::WARN => self.0.warning(text),
            Level::INFO | Level::TRACE => self.0.notice(text),
            Level::DEBUG => self.0.debug(text),
        };
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "-".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

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
        let mut log = Syslog::open(&Target::Udp(receiver.local_addr().unwrap().to_string())).unwrap();
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
}
