//! A value for an option, from a flag or a key.

use std::time::Duration;

use midge_conf::Value;

use super::Address;

/// A value for an option, as it was given.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// On the command line.
    Flag(&'a str),
    /// In a configuration file.
    Key(&'a Value),
}

impl Given<'_> {
    pub(super) fn wrong(&self, expected: &str) -> String {
        match self {
            Self::Flag(text) => format!("expected {expected}, but got '{text}'"),
            Self::Key(value) => format!("expected {expected}, but got {}", value.kind()),
        }
    }

    /// A truth value.
    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Key(Value::Bool(truth)) => Ok(*truth),
            // What Go's strconv.ParseBool takes.
            Self::Flag("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Self::Flag("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// A whole number.
    pub(super) fn int(&self) -> Result<i64, String> {
        match self {
            Self::Key(Value::Int(number)) => Ok(*number),
            Self::Flag(text) => text.parse().map_err(|_| self.wrong("a whole number")),
            Self::Key(_) => Err(self.wrong("a whole number")),
        }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn within(&self, least: i64, most: i64) -> Result<i64, String> {
        let number = self.int()?;
        if (least..=most).contains(&number) {
            return Ok(number);
        }
        Err(format!("expected a number from {least} to {most}, but got {number}"))
    }

    /// A number of things, or of bytes, that is not negative.
    pub(super) fn size(&self) -> Result<usize, String> {
        Ok(self.within(0, i64::MAX)? as usize)
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<String, String> {
        match self {
            Self::Key(Value::Text(text)) => Ok(text.clone()),
            Self::Flag(text) => Ok((*text).to_owned()),
            Self::Key(_) => Err(self.wrong("a text (put quotes around it)")),
        }
    }

    /// A time like `1m30s`; in a file, a bare number is seconds.
    pub(super) fn duration(&self) -> Result<Duration, String> {
        match self {
            Self::Key(Value::Int(seconds)) => u64::try_from(*seconds)
                .map(Duration::from_secs)
                .map_err(|_| self.wrong("a time that is not negative")),
            Self::Key(Value::Text(text)) => parse_duration(text),
            Self::Flag(text) => parse_duration(text),
            Self::Key(_) => Err(self.wrong("a time like \"2s\" or \"1m30s\"")),
        }
    }

    /// Seconds, whole or not, or a time like `2s`.
    pub(super) fn seconds(&self) -> Result<Duration, String> {
        match self {
            Self::Key(Value::Float(seconds)) => {
                Duration::try_from_secs_f64(*seconds).map_err(|_| self.wrong("a time that is not negative"))
            }
            _ => self.duration(),
        }
    }

    /// A port; -1 asks for any that is free, which is zero here, and zero for the default.
    pub(super) fn port(&self, default: u16) -> Result<u16, String> {
        match self.within(-1, 65_535)? {
            -1 => Ok(0),
            0 => Ok(default),
            port => Ok(port as u16),
        }
    }

    /// A port, or a host and a port.
    pub(super) fn address(&self, default: u16) -> Result<Address, String> {
        let text = match self {
            Self::Key(Value::Int(_)) => return Ok(Address { host: None, port: self.port(default)? }),
            _ => self.text()?,
        };
        let (host, port) = split_host_port(&text).ok_or_else(|| {
            format!("expected a port, or an address like \"127.0.0.1:4222\", but got '{text}'")
        })?;
        let port = port.parse::<i64>().map_err(|_| format!("'{port}' is no port"))?;
        let port = Given::Key(&Value::Int(port)).port(default)?;
        Ok(Address { host: (!host.is_empty()).then(|| host.to_owned()), port })
    }
}

/// Splits `host:port`, `[host]:port` and `:port`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => Some((inner.strip_suffix(']')?, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

/// Reads a time as Go's `time.ParseDuration` does: numbers, with a fraction or not, each with a unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time like \"2s\", \"1m30s\" or \"100ms\", but got '{text}'");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        total += number * nanos;
        rest = behind;
    }
    // i64::MAX nanoseconds is what Go can hold.
    if total > i64::MAX as f64 {
        return Err(format!("'{text}' is too long a time"));
    }
    Ok(Duration::from_nanos(total.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("2s", 2000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("100ms", 100), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "2x", "-1s", "1..2s", "99999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_a_port() {
        let address = |text: &str| Given::Key(&Value::Text(text.into())).address(4222);
        assert_eq!(address("h:1"), Ok(Address { host: Some("h".into()), port: 1 }));
        assert_eq!(address("[::1]:-1"), Ok(Address { host: Some("::1".into()), port: 0 }));
        assert_eq!(address(":0"), Ok(Address { host: None, port: 4222 }));
        assert_eq!(Given::Key(&Value::Int(9)).address(1), Ok(Address { host: None, port: 9 }));
        for text in ["h", "h:x", "::1:4222", "h:70000"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
