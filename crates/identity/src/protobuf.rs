//! Keys as libp2p's protobuf messages (libp2p specs, `peer-ids/peer-ids.md`): a type, here always 1 for Ed25519, and
//! the bytes. There is one spelling only, so they are compared and not parsed.

use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, KeyError, KeyPair, PublicKey};

const PUBLIC: [u8; 4] = [0x08, 0x01, 0x12, 0x20];
/// Of a private key: seed and public half; in the old form, the public half once more.
const PRIVATE: [u8; 4] = [0x08, 0x01, 0x12, 0x40];
const OLD_PRIVATE: [u8; 4] = [0x08, 0x01, 0x12, 0x60];

/// A public key's message.
#[must_use]
pub fn public(key: &PublicKey) -> [u8; 36] {
    let mut bytes = [0; 36];
    for (to, from) in bytes.iter_mut().zip(PUBLIC.iter().chain(key.as_bytes())) {
        *to = *from;
    }
    bytes
}

/// The public key of that message.
///
/// # Errors
/// It is none, or not of an Ed25519 key.
pub fn read_public(bytes: &[u8]) -> Result<PublicKey, KeyError> {
    PublicKey::from_bytes(bytes.strip_prefix(&PUBLIC).ok_or_else(|| what_else(bytes))?)
}

/// A whole key's message: seed and public half.
#[must_use]
pub fn private(key: &KeyPair) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([&PRIVATE[..], key.seed(), key.public().as_bytes()].concat())
}

/// The key of that message, which may be of the old form. Whatever stands in it must belong together.
///
/// # Errors
/// It is none, not of an Ed25519 key, or its halves do not belong together.
pub fn read_private(bytes: &[u8]) -> Result<KeyPair, KeyError> {
    let (rest, halves) = match (bytes.strip_prefix(&PRIVATE), bytes.strip_prefix(&OLD_PRIVATE)) {
        (Some(rest), _) => (rest, 2),
        (_, Some(rest)) => (rest, 3),
        (None, None) => return Err(what_else(bytes)),
    };
    let pieces = rest.chunks_exact(KEY_BYTES);
    if pieces.len() != halves || !pieces.remainder().is_empty() {
        return Err(KeyError::Length { found: rest.len() });
    }
    let mut pieces = pieces;
    let Some(seed) = pieces.next().and_then(|seed| <&[u8; KEY_BYTES]>::try_from(seed).ok()) else {
        return Err(KeyError::Length { found: rest.len() });
    };
    let mut last = None;
    for public in pieces {
        last = Some(KeyPair::from_halves(seed, public)?);
    }
    last.ok_or(KeyError::Halves)
}

/// What a message is that is not an Ed25519 key's.
fn what_else(bytes: &[u8]) -> KeyError {
    match bytes {
        [0x08, kind, 0x12, ..] if *kind != 1 => KeyError::Kind(u64::from(*kind)),
        _ => KeyError::Form("not the protobuf of an Ed25519 key"),
    }
}
