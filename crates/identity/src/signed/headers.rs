//! A signed message whose signature stands in its headers: the payload is what it would be without.
//!
//! | header | what it says |
//! |---|---|
//! | `Midge-Sender` | the sender's peer id |
//! | `Midge-Time` | when it was sent: nanoseconds since 1970, in decimal |
//! | `Midge-Nonce` | 16 random bytes in URL-safe base64 without padding |
//! | `Midge-Signature` | the signature in URL-safe base64 without padding |
//!
//! Signed is SHA-256 of these, each behind its length as four bytes, the most significant first: the context
//! `midge signed headers v1` and a zero byte; the channel; the subject for replies; each header but the signature, name
//! and value, in the order of their bytes; the payload. A header's value is taken without spaces around it. The order of
//! headers is not signed, since programs between may not keep it.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use super::{SignedError, UnixTime, Verified};
use crate::key::KeyPair;
use crate::peer_id::PeerId;

/// Who sent it.
pub const SENDER: &str = "Midge-Sender";
/// When.
pub const TIME: &str = "Midge-Time";
/// What makes it one of its kind.
pub const NONCE: &str = "Midge-Nonce";
/// The signature of it all.
pub const SIGNATURE: &str = "Midge-Signature";

/// Random bytes in each message.
pub const NONCE_BYTES: usize = 16;

const CONTEXT: &[u8] = b"midge signed headers v1\0";

/// What a message says, apart from how it is carried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'a> {
    /// The channel, which is its subject without what a configured prefix adds.
    pub channel: &'a str,
    /// Where replies go; empty for nowhere.
    pub reply: &'a str,
    /// Names and values of its headers, in any order.
    pub headers: &'a [(&'a str, &'a str)],
    /// The payload.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// Whether it says who sent it.
    fn claims(&self) -> bool {
        self.headers.iter().any(|(name, _)| [SENDER, TIME, NONCE].contains(name))
    }

    /// The one value of that header.
    fn only(&self, name: &str) -> Result<&str, SignedError> {
        let mut values = self.headers.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.trim_matches([' ', '\t'])),
            (None, _) if name == SIGNATURE && !self.claims() => Err(SignedError::Unsigned),
            (None, _) => Err(SignedError::Form("a header of the signature is missing")),
            (Some(_), Some(_)) => Err(SignedError::Form("a header of the signature stands there twice")),
        }
    }
}

/// The headers that `message` needs besides its own to be signed.
///
/// # Errors
/// It has one of them already.
pub fn sign(
    key: &KeyPair,
    message: &Message<'_>,
    time: UnixTime,
    random: [u8; NONCE_BYTES],
) -> Result<[(&'static str, String); 4], SignedError> {
    if message.headers.iter().any(|(name, _)| [SENDER, TIME, NONCE, SIGNATURE].contains(name)) {
        return Err(SignedError::Form("it is signed already"));
    }
    let (sender, time) = (key.peer_id().to_string(), time.nanos().to_string());
    let nonce = BASE64URL_NOPAD.encode(&random);
    let mut headers = message.headers.to_vec();
    headers.extend([(SENDER, sender.as_str()), (TIME, &time), (NONCE, &nonce)]);
    let signature = key.sign(&digest(&Message { headers: &headers, ..*message }));
    let signature = BASE64URL_NOPAD.encode(&signature);
    Ok([(SENDER, sender), (TIME, time), (NONCE, nonce), (SIGNATURE, signature)])
}

/// Who signed it: everything but its time and whether it has come before is checked.
pub(super) fn open(message: &Message<'_>) -> Result<Verified, SignedError> {
    let signature = message.only(SIGNATURE)?;
    let sender = PeerId::from_canonical(message.only(SENDER)?).map_err(SignedError::Sender)?;
    let said = message.only(TIME)?;
    let time = said.parse().map(UnixTime::from_nanos).map_err(|_| SignedError::Form("no such time"))?;
    if time.nanos().to_string() != said {
        return Err(SignedError::Form("no such time"));
    }
    let nonce = decode::<NONCE_BYTES>(message.only(NONCE)?).ok_or(SignedError::Form("no such nonce"))?;
    let signature = decode::<64>(signature).ok_or(SignedError::Form("no such signature"))?;
    sender.key().verify(&digest(message), &signature)?;
    let mark = Sha256::new().chain_update(sender.key().as_bytes()).chain_update(nonce);
    Ok(Verified { sender, time, mark: mark.finalize().into() })
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn digest(message: &Message<'_>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hasher.update((bytes.len() as u32).to_be_bytes());
        hasher.update(bytes);
    };
    put(CONTEXT);
    put(message.channel.as_bytes());
    put(message.reply.as_bytes());
    let trimmed = message.headers.iter().map(|(name, value)| (*name, value.trim_matches([' ', '\t'])));
    let mut headers: Vec<(&str, &str)> = trimmed.filter(|(name, _)| *name != SIGNATURE).collect();
    headers.sort_unstable();
    put(&(headers.len() as u32).to_be_bytes());
    for (name, value) in headers {
        put(name.as_bytes());
        put(value.as_bytes());
    }
    put(message.payload);
    hasher.finalize().into()
}
