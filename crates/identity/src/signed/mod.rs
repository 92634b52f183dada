//! Messages of which can be proven who sent them, on channels that anybody may carry.
//!
//! There are two forms. A **record** ([`record`]) is a message of its own: what Bifrost v0.12.5 sends, byte for byte. The
//! **headers** form ([`headers`]) leaves the payload as it is, so that programs that know nothing of it can read it.
//!
//! What is received is checked by one set of rules, whatever the form: the signature holds; it is for this channel; it is
//! fresh; and it has not come before ([`Receiver`]).

pub mod headers;
pub mod record;

mod replays;

use std::collections::HashMap;
use std::time::Duration;

pub use replays::Replays;

use crate::key::{KeyError, SignatureError};
use crate::peer_id::{PeerId, PeerIdError};
pub use crate::proto::hash::HashType;

/// How far a sender's times may be ahead of its clock.
const MOST_AHEAD: Duration = Duration::from_secs(10);

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

/// A moment: nanoseconds since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(i64);

impl UnixTime {
    /// So many nanoseconds after the beginning of 1970.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the beginning of 1970.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// So many seconds and nanoseconds; `None` where that is beyond the year 2262, or the nanoseconds are a second or
    /// more.
    #[must_use]
    pub fn from_parts(seconds: i64, nanos: i32) -> Option<Self> {
        let nanos = u32::try_from(nanos).ok().filter(|nanos| i128::from(*nanos) < SECOND)?;
        i64::try_from(i128::from(seconds) * SECOND + i128::from(nanos)).ok().map(Self)
    }

    /// Whole seconds, and the nanoseconds beyond them.
    #[must_use]
    pub fn parts(self) -> (i64, i32) {
        let second = SECOND as i64;
        (self.0.div_euclid(second), self.0.rem_euclid(second) as i32)
    }

    /// How far apart the two are.
    #[must_use]
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// This moment, or the one after `other` if that is not earlier; but not much later than this one: a clock that was set
    /// back counts.
    fn after(self, other: Self) -> Self {
        if self.0 > other.0 || self.distance(other) > MOST_AHEAD {
            self
        } else {
            Self(other.0.saturating_add(1))
        }
    }
}

/// Why a message is not believed.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// It is not signed.
    #[error("not signed")]
    Unsigned,
    /// It is longer than what is taken.
    #[error("{size} bytes, where at most {most} are taken")]
    TooLong {
        /// Its bytes.
        size: usize,
        /// Most that are taken.
        most: usize,
    },
    /// It is not what a signed message looks like.
    #[error("not a signed message: {0}")]
    Form(&'static str),
    /// Who sent it is not said as ids are printed.
    #[error("the sender: {0}")]
    Sender(PeerIdError),
    /// A key is said beside the sender, and it is another's.
    #[error("the key beside the signature is not the sender's")]
    OtherKey,
    /// It was hashed in a way that is not accepted.
    #[error("hashed in a way that is not accepted ({0})")]
    Hash(i32),
    /// The signature is another's, or of something else.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is for another channel than the one it came on.
    #[error("for channel '{said}', and came on '{came}'")]
    Channel {
        /// The channel that it is for.
        said: String,
        /// The one it came on.
        came: String,
    },
    /// It does not say when it was sent.
    #[error("without a time")]
    Timeless,
    /// It is too old, or of the future.
    #[error("sent {0:?} from now, by its own clock")]
    Stale(Duration),
    /// It has come before.
    #[error("it has come before")]
    Replayed,
    /// So much has come lately that it cannot be remembered whether this has.
    #[error("more messages than can be remembered for as long as they are fresh")]
    Overloaded,
}

impl From<KeyError> for SignedError {
    fn from(error: KeyError) -> Self {
        Self::Sender(PeerIdError::Key(error))
    }
}

/// A message that is believed: everything in it was signed by `sender`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who signed it.
    pub sender: PeerId,
    /// When, by the sender's clock.
    pub time: UnixTime,
    /// What by, to tell it from others: one for each message and sender.
    pub(crate) mark: [u8; 32],
}

/// What a receiver asks of messages.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Most bytes of a record.
    pub max_record: usize,
    /// How far a message's time may be from now, before or after.
    pub window: Duration,
    /// Whether a hash by SHA-1 is enough. It can be forged at some expense.
    pub sha1: bool,
    /// Most messages that are remembered for as long as they are fresh.
    pub max_remembered: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_record: 8 * 1024 * 1024,
            window: Duration::from_secs(60),
            sha1: false,
            max_remembered: 1 << 18,
        }
    }
}

/// Whoever receives on signed channels: the rules, and what has come lately.
#[derive(Debug, Default)]
pub struct Receiver {
    rules: Rules,
    replays: Replays,
}

impl Receiver {
    /// By those rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, replays: Replays::default() }
    }

    /// Checks a record that came on `channel`; gives back its payload and who sent it.
    ///
    /// # Errors
    /// It is not believed, and why.
    pub fn open_record(
        &mut self,
        record: &[u8],
        channel: &str,
        now: UnixTime,
    ) -> Result<(bytes::Bytes, Verified), SignedError> {
        let opened = record::open(record, channel, &self.rules)?;
        self.admit(&opened.1, now)?;
        Ok(opened)
    }

    /// Checks a message whose signature is in its headers.
    ///
    /// # Errors
    /// It is not believed, and why.
    pub fn open_headers(
        &mut self,
        message: &headers::Message<'_>,
        now: UnixTime,
    ) -> Result<Verified, SignedError> {
        let verified = headers::open(message)?;
        self.admit(&verified, now)?;
        Ok(verified)
    }

    /// Whether it is fresh and new. Remembers it only then, so that nothing that is refused takes memory.
    fn admit(&mut self, verified: &Verified, now: UnixTime) -> Result<(), SignedError> {
        let distance = verified.time.distance(now);
        if distance > self.rules.window {
            return Err(SignedError::Stale(distance));
        }
        self.replays.admit(verified, now, &self.rules)
    }
}

/// Whoever sends on signed channels: sees to it that no two messages on a channel have the same time.
#[derive(Debug, Default)]
pub struct Clock {
    last: HashMap<Box<str>, UnixTime>,
    /// The latest of those that were forgotten.
    forgotten: Option<UnixTime>,
}

/// Channels whose last times are remembered.
const MOST_CHANNELS: usize = 4096;

impl Clock {
    /// The time for a message on `channel`: now, or a nanosecond after the last one.
    pub fn time(&mut self, channel: &str, now: UnixTime) -> UnixTime {
        if let Some(last) = self.last.get_mut(channel) {
            *last = now.after(*last);
            return *last;
        }
        if self.last.len() >= MOST_CHANNELS {
            self.forgotten = self.last.drain().map(|(_, last)| last).chain(self.forgotten).max();
        }
        let time = self.forgotten.map_or(now, |forgotten| now.after(forgotten));
        self.last.insert(channel.into(), time);
        time
    }
}
