//! Channels on which everybody can prove who said what.
//!
//! A channel is a subject. What is sent on it is signed by the sender's key, as a record that Bifrost's nodes read or by
//! headers that leave the payload as it is; what is received is checked, whichever of the two it is (see
//! [`midge_identity::signed`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use midge_identity::signed::{Clock, HashType, Receiver, Rules, SignedError, UnixTime, headers, record};
use midge_identity::{KeyPair, PeerId};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tracing::debug;

use crate::bus::{Bus, Message, Messages, is_subject};
use crate::error::BusError;

/// How messages are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a record, which is what Bifrost's nodes send and read.
    Record(HashType),
    /// By headers: the payload stays as it is, for those who do not look at signatures.
    Headers,
}

/// What becomes of messages that are not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unsigned {
    /// They are left out and counted.
    #[default]
    Reject,
    /// They are handed on, marked: they have no sender.
    Mark,
}

/// How a channel is used.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// How messages are signed.
    pub form: Form,
    /// What becomes of those that are not.
    pub unsigned: Unsigned,
    /// What else is asked of messages.
    pub rules: Rules,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self { form: Form::Headers, unsigned: Unsigned::Reject, rules: Rules::default() }
    }
}

/// A channel, for one who sends and receives on it. Messages come from when it was opened.
#[derive(Debug)]
pub struct Channel {
    bus: Arc<dyn Bus>,
    messages: Messages,
    seal: Seal,
    received: Received,
    rejected: AtomicU64,
}

/// Signs messages for a channel.
#[derive(Debug)]
pub struct Seal {
    key: KeyPair,
    name: String,
    form: Form,
    clock: Mutex<Clock>,
}

/// Checks messages that have come on a channel.
#[derive(Debug)]
pub struct Received {
    name: String,
    unsigned: Unsigned,
    receiver: Receiver,
}

/// What has come on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMessage {
    /// Who sent it. Said only after the signature was checked: nobody of whom that is not known.
    pub sender: Option<PeerId>,
    /// When it was sent by the sender's clock; of unsigned messages nothing is known.
    pub time: Option<UnixTime>,
    /// The payload.
    pub payload: Bytes,
}

/// Why there is no such channel.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// A channel's name is a subject without wildcards: a message is for one channel.
    #[error("'{0}' is no name of a channel: it must be a subject without wildcards")]
    Name(String),
    /// It cannot be subscribed to, or a message cannot be published.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Messages are not hashed by SHA-1 any more: it is only read, where that is asked for.
    #[error("messages are not signed with SHA-1: choose SHA-256 or BLAKE3")]
    Sha1,
    /// The message cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignedError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl Channel {
    /// Opens the channel of that name, for the owner of that key.
    ///
    /// # Errors
    /// The name is none, or the bus does not let it be subscribed to.
    pub async fn open(
        bus: &Arc<dyn Bus>,
        key: &KeyPair,
        name: &str,
        options: ChannelOptions,
    ) -> Result<Self, ChannelError> {
        Ok(Self {
            seal: Seal::new(key, name, options.form)?,
            messages: bus.subscribe(name, None).await?,
            bus: bus.clone(),
            received: Received::new(name, options.unsigned, options.rules),
            rejected: AtomicU64::new(0),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.seal.name
    }

    /// Sends, signed.
    ///
    /// # Errors
    /// The bus does not take it.
    pub async fn send(&self, payload: &[u8]) -> Result<(), ChannelError> {
        Ok(self.bus.publish(self.seal.seal(payload)?).await?)
    }

    /// The next message that is believed, or marked as not signed; `None` once the bus has ended.
    pub async fn next(&mut self) -> Option<ChannelMessage> {
        loop {
            let message = self.messages.next().await?;
            match self.received.look(&message) {
                Ok(message) => return Some(message),
                Err(why) => {
                    self.rejected.fetch_add(1, Ordering::Relaxed);
                    // Never what it says.
                    debug!("Channel {}: a message is left out: {why}", self.name());
                }
            }
        }
    }

    /// How many messages were left out so far.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }
}

impl Seal {
    /// For the owner of that key, on the channel of that name.
    ///
    /// # Errors
    /// The name is none, or the form is one that is only read.
    pub fn new(key: &KeyPair, name: &str, form: Form) -> Result<Self, ChannelError> {
        if !is_subject(name) {
            return Err(ChannelError::Name(name.to_owned()));
        }
        if form == Form::Record(HashType::Sha1) {
            return Err(ChannelError::Sha1);
        }
        Ok(Self { key: key.clone(), name: name.to_owned(), form, clock: Mutex::default() })
    }

    /// The message that says this, signed.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn seal(&self, payload: &[u8]) -> Result<Message, ChannelError> {
        let time = self.clock.lock().time(&self.name, now());
        Ok(match self.form {
            Form::Record(hash) => {
                Message::new(&self.name, record::seal(&self.key, &self.name, payload, time, hash))
            }
            Form::Headers => {
                let said = headers::Message { channel: &self.name, payload, ..headers::Message::default() };
                let signed = headers::sign(&self.key, &said, time, random()?)?;
                let headers = signed.map(|(name, value)| (name.to_owned(), value)).to_vec();
                Message { headers, ..Message::new(&self.name, payload.to_vec()) }
            }
        })
    }
}

impl Received {
    /// For the channel of that name.
    #[must_use]
    pub fn new(name: &str, unsigned: Unsigned, rules: Rules) -> Self {
        Self { name: name.to_owned(), unsigned, receiver: Receiver::new(rules) }
    }

    /// What a message says, and who said it.
    ///
    /// # Errors
    /// It is not believed, and why.
    pub fn look(&mut self, message: &Message) -> Result<ChannelMessage, SignedError> {
        let headers: Vec<(&str, &str)> =
            message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let said = headers::Message {
            channel: &self.name,
            reply: &message.reply,
            headers: &headers,
            payload: &message.payload,
        };
        let opened = match self.receiver.open_headers(&said, now()) {
            Err(SignedError::Unsigned) => self.receiver.open_record(&message.payload, &self.name, now()),
            other => other.map(|verified| (message.payload.clone(), verified)),
        };
        match opened {
            Ok((payload, verified)) => {
                Ok(ChannelMessage { sender: Some(verified.sender), time: Some(verified.time), payload })
            }
            Err(SignedError::Unsigned) if self.unsigned == Unsigned::Mark => {
                Ok(ChannelMessage { sender: None, time: None, payload: message.payload.clone() })
            }
            Err(why) => Err(why),
        }
    }
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixTime::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn random() -> Result<[u8; headers::NONCE_BYTES], ChannelError> {
    let mut random = [0; headers::NONCE_BYTES];
    SystemRandom::new().fill(&mut random).map_err(|_| ChannelError::Random)?;
    Ok(random)
}
