//! How what goes to other servers is compressed.
//!
//! Words are nats-server 2.15's (`server/opts.go`, `parseCompression`, `validateAndNormalizeCompressionOption`).

use std::time::Duration;

use midge_conf::Value;

use super::Given;
use super::faults::Faults;

/// nats-server's default for `rtt_thresholds`.
const THRESHOLDS: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(100)];

/// How what goes to other servers is compressed, with S2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// As the other server wants it.
    Accept,
    /// The more, the farther away the other server is: up to these round-trip times as [`Compression::Uncompressed`],
    /// [`Compression::Fast`], [`Compression::Better`], and beyond as [`Compression::Best`]. Zero leaves one out.
    Auto(Vec<Duration>),
    /// As S2, but as it is. Only nearness makes it so.
    Uncompressed,
    /// For the least work.
    Fast,
    /// For some work.
    Better,
    /// For the fewest bytes.
    Best,
}

impl Compression {
    /// The more, the farther away, by nats-server's measures.
    #[must_use]
    pub fn auto() -> Self {
        Self::Auto(THRESHOLDS.into())
    }

    /// As it is called in an INFO.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Accept => "accept",
            Self::Auto(_) => "s2_auto",
            Self::Uncompressed => "s2_uncompressed",
            Self::Fast => "s2_fast",
            Self::Better => "s2_better",
            Self::Best => "s2_best",
        }
    }

    /// What is called so in an INFO.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "" | "off" | "not supported" => Self::Off,
            "accept" => Self::Accept,
            "s2_auto" => Self::auto(),
            "s2_uncompressed" => Self::Uncompressed,
            "s2_fast" => Self::Fast,
            "s2_better" => Self::Better,
            "s2_best" => Self::Best,
            _ => return None,
        })
    }
}

/// Reads a word, a truth value, or a block of `mode` and `rtt_thresholds`. `on` is what "on" stands for.
pub(super) fn compression(value: &Given<'_>, on: &Compression) -> Result<Compression, Faults> {
    match value {
        Given::Key(Value::Bool(is_on)) => Ok(if *is_on { on.clone() } else { Compression::Off }),
        Given::Key(Value::Text(text)) => word(text, on).map_err(Into::into),
        Given::Key(Value::Map(map)) => {
            let mut faults = Faults::default();
            let (mut mode, mut thresholds) = (None, None);
            for entry in map.iter() {
                let value = Given::Key(&entry.node.value);
                match entry.key.to_lowercase().as_str() {
                    "mode" => mode = faults.note(entry.node.span, compression(&value, on)),
                    "rtt_thresholds" | "thresholds" | "rtts" | "rtt" => {
                        thresholds = faults.note(entry.node.span, times(&value));
                    }
                    _ if entry.used => {}
                    _ => faults.add(entry.span, format!("unknown field '{}' in compression", entry.key)),
                }
            }
            let mode = match (mode, thresholds) {
                // Whoever says at what distances wants it by distance.
                (None | Some(Compression::Auto(_)), Some(thresholds)) => Compression::Auto(thresholds),
                (mode, _) => mode.unwrap_or_else(|| on.clone()),
            };
            faults.or(mode)
        }
        _ => Err(value.wrong("a word such as \"s2_fast\", a truth value, or a block").into()),
    }
}

fn word(text: &str, on: &Compression) -> Result<Compression, String> {
    let text = text.to_lowercase();
    match text.as_str() {
        "on" | "enabled" | "true" => return Ok(on.clone()),
        "disabled" | "false" => return Ok(Compression::Off),
        _ => {}
    }
    let short = format!("s2_{text}");
    Compression::named(&text)
        .or_else(|| Compression::named(&short))
        .filter(|mode| !text.is_empty() && *mode != Compression::Uncompressed)
        .ok_or_else(|| {
            format!("expected off, accept, s2_auto, s2_fast, s2_better or s2_best, but got '{text}'")
        })
}

fn times(value: &Given<'_>) -> Result<Vec<Duration>, Faults> {
    let Given::Key(Value::List(list)) = value else {
        return Err(value.wrong("a list of times such as [10ms, 50ms, 100ms]").into());
    };
    let mut faults = Faults::default();
    let times: Vec<Duration> =
        list.iter().filter_map(|node| faults.note(node.span, Given::Key(&node.value).duration())).collect();
    let used: Vec<_> = times.iter().filter(|time| !time.is_zero()).collect();
    let wrong = if !(1..=4).contains(&list.len()) {
        Some(format!("expected one to four round-trip times, but got {}", list.len()))
    } else if used.is_empty() || !used.is_sorted_by(|a, b| a < b) {
        Some("expected round-trip times that grow".to_owned())
    } else {
        None
    };
    if let (Some(why), Some(first)) = (&wrong, list.first()) {
        faults.add(first.span, why.clone());
    } else if let Some(why) = wrong {
        return Err(why.into());
    }
    faults.or(times)
}
