//! What a peer is called: its public key, in the form that libp2p gives it.
//!
//! A peer id is the *identity* multihash of a key's protobuf (libp2p specs, `peer-ids/peer-ids.md`), so the key can be
//! read off it. It is printed in base58 (`12D3Koo…`); the CIDv1 form is read, too.

use std::fmt;
use std::str::FromStr;

use crate::key::{KeyError, PublicKey};
use crate::protobuf;

/// The multihash function *identity*, and how many bytes it holds.
const IDENTITY: [u8; 2] = [0x00, 0x24];
/// CIDv1 and the codec `libp2p-key`.
const CID: [u8; 2] = [0x01, 0x72];
/// Most letters of a peer id's text: CIDv1 in base 2 is the longest, with a letter for each bit.
const MOST_TEXT: usize = 1 + 8 * 40;

/// A peer's id. Orders as its text does, by which peers agree who of two begins: ids are equally long and begin alike,
/// and base58's letters are in the order of what they stand for, so the bytes are in the order of the texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(PublicKey);

/// Why something is no peer id.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// The text is neither base58 nor a CIDv1.
    #[error("not a peer id: it begins with 12D3Koo and has 52 letters and digits")]
    Text,
    /// It is the hash of a key instead of the key, as ids of RSA keys are.
    #[error("a peer id that holds no key: only those of Ed25519 keys are used")]
    Hashed,
    /// The CID is of something else.
    #[error("a CID of something else than a key")]
    Codec,
    /// The key in it is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl PeerId {
    pub(crate) const fn of(key: PublicKey) -> Self {
        Self(key)
    }

    /// The peer's public key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.0
    }

    /// The id as a multihash: 38 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        for (to, from) in bytes.iter_mut().zip(IDENTITY.into_iter().chain(protobuf::public(&self.0))) {
            *to = from;
        }
        bytes
    }

    /// The id that those bytes are.
    ///
    /// # Errors
    /// They are none, or not of an Ed25519 key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
        let key = bytes.strip_prefix(&IDENTITY).ok_or(PeerIdError::Hashed)?;
        Ok(Self(protobuf::read_public(key)?))
    }

    /// The id that this text is, if it is spelled as ids are printed.
    ///
    /// # Errors
    /// It is none, or in another spelling.
    pub fn from_canonical(text: &str) -> Result<Self, PeerIdError> {
        let id: Self = text.parse()?;
        if id.to_string() == text { Ok(id) } else { Err(PeerIdError::Text) }
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        if text.len() > MOST_TEXT || !text.is_ascii() {
            return Err(PeerIdError::Text);
        }
        if text.starts_with("12D3Koo") || text.starts_with("Qm") || text.starts_with('1') {
            return Self::from_bytes(&bs58::decode(text).into_vec().map_err(|_| PeerIdError::Text)?);
        }
        let (_, bytes) = multibase::decode(text).map_err(|_| PeerIdError::Text)?;
        Self::from_bytes(bytes.strip_prefix(&CID).ok_or(PeerIdError::Codec)?)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&bs58::encode(self.to_bytes()).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}
