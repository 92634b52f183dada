//! Nkeys: Ed25519 keys in a text form with a letter in front that says whose it is (NATS's `nkeys` specification:
//! base32 without padding of a prefix, the key, and a CRC-16).

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use nkeys::KeyPairType;
use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, KeyError, PublicKey};

/// What stands before the two halves of a private key (`P…`).
const PRIVATE: u8 = 15 << 3;
/// Length of a public key's text, of a seed's.
const PUBLIC_LEN: usize = 56;
const SEED_LEN: usize = 58;

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NkeyKind {
    /// `U…`
    User,
    /// `A…`
    Account,
    /// `N…`
    Server,
    /// `O…`
    Operator,
    /// `C…`
    Cluster,
}

impl NkeyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::User, Self::Account, Self::Server, Self::Operator, Self::Cluster];

    const fn prefix(self) -> u8 {
        match self {
            Self::User => 20 << 3,
            Self::Account => 0,
            Self::Server => 13 << 3,
            Self::Operator => 14 << 3,
            Self::Cluster => 2 << 3,
        }
    }

    fn of(prefix: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.prefix() == prefix)
    }

    const fn library(self) -> KeyPairType {
        match self {
            Self::User => KeyPairType::User,
            Self::Account => KeyPairType::Account,
            Self::Server => KeyPairType::Server,
            Self::Operator => KeyPairType::Operator,
            Self::Cluster => KeyPairType::Cluster,
        }
    }
}

/// A public key in NATS's text form, such as `UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicNkey {
    kind: NkeyKind,
    key: PublicKey,
    text: Box<str>,
}

/// Why a text is no public nkey.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NkeyError {
    /// Letters, length or checksum are wrong.
    #[error("not an nkey: letters, length or checksum are wrong")]
    Text,
    /// It is a secret (`S…`), which stands where everybody can read it.
    #[error("this is a seed, which must stay secret: use the public key")]
    Seed,
    /// It is a key of something that this program does not know.
    #[error("an nkey of an unknown kind")]
    Kind,
    /// The key is one of those for which anybody can make signatures.
    #[error("a weak key, for which anybody can make signatures")]
    Weak,
}

/// Why a text is no seed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NkeySeedError {
    /// Letters, length or checksum are wrong.
    #[error("not an nkey seed: letters, length or checksum are wrong")]
    Text,
    /// It is a seed of something that this program does not know.
    #[error("an nkey seed of an unknown kind")]
    Kind,
    /// It is a public key, from which no seed can be had.
    #[error("this is a public key: the seed that begins with S is needed")]
    Public,
}

impl PublicNkey {
    pub(crate) fn of(key: PublicKey, kind: NkeyKind) -> Self {
        let text = encode(&[kind.prefix()], key.as_bytes()).as_str().into();
        Self { kind, key, text }
    }

    /// Whose key it is.
    #[must_use]
    pub const fn kind(&self) -> NkeyKind {
        self.kind
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.text
    }

    /// The key without the text around it.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The bytes of the key.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.key.as_bytes()
    }
}

impl FromStr for PublicNkey {
    type Err = NkeyError;

    fn from_str(text: &str) -> Result<Self, NkeyError> {
        if text.starts_with('S') {
            return Err(NkeyError::Seed);
        }
        // The library slices what it decodes without asking whether it is long enough, and takes an unknown letter for
        // an operator's.
        if text.len() != PUBLIC_LEN || !text.is_ascii() {
            return Err(NkeyError::Text);
        }
        let (prefix, bytes) = nkeys::from_public_key(text).map_err(|_| NkeyError::Text)?;
        let kind = NkeyKind::of(prefix).ok_or(NkeyError::Kind)?;
        let key = PublicKey::from_bytes(&bytes).map_err(|error| match error {
            KeyError::Weak => NkeyError::Weak,
            _ => NkeyError::Text,
        })?;
        let nkey = Self::of(key, kind);
        // Base32 has spare bits at its end: only one spelling of them is the key's.
        if nkey.as_str() == text { Ok(nkey) } else { Err(NkeyError::Text) }
    }
}

impl fmt::Display for PublicNkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublicNkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicNkey({})", self.text)
    }
}

/// The seed that a text (`S…`) is, and what it is a seed of.
pub(crate) fn parse_seed(text: &str) -> Result<(Zeroizing<[u8; KEY_BYTES]>, NkeyKind), NkeySeedError> {
    if text.parse::<PublicNkey>().is_ok() {
        return Err(NkeySeedError::Public);
    }
    if text.len() != SEED_LEN || !text.is_ascii() || !text.starts_with('S') {
        return Err(NkeySeedError::Text);
    }
    let (prefix, seed) = nkeys::decode_seed(text).map_err(|_| NkeySeedError::Text)?;
    let seed = Zeroizing::new(seed);
    let kind = NkeyKind::of(prefix).ok_or(NkeySeedError::Kind)?;
    if *seed_text(&seed, kind) == text { Ok((seed, kind)) } else { Err(NkeySeedError::Text) }
}

pub(crate) fn seed_text(seed: &[u8; KEY_BYTES], kind: NkeyKind) -> Zeroizing<String> {
    let pair = nkeys::KeyPair::new_from_raw(kind.library(), *seed);
    // A seed makes a key whatever its bytes are, and the key has it.
    Zeroizing::new(pair.and_then(|pair| pair.seed()).unwrap_or_default())
}

pub(crate) fn private_text(seed: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    let mut halves = Zeroizing::new([0; 2 * KEY_BYTES]);
    let (first, second) = halves.split_at_mut(KEY_BYTES);
    first.copy_from_slice(seed);
    second.copy_from_slice(public);
    encode(&[PRIVATE], &*halves)
}

/// The text of a prefix and a key. Cleared when dropped, for those that are secret.
fn encode(prefix: &[u8], key: &[u8]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + key.len() + 2));
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(key);
    let sum = crc16(&bytes).to_le_bytes();
    bytes.extend_from_slice(&sum);
    Zeroizing::new(BASE32_NOPAD.encode(&bytes))
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum: u16, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::*;

    #[test]
    fn keys_have_a_kind() {
        for (pair, kind) in [
            (KeyPair::new_user(), NkeyKind::User),
            (KeyPair::new_account(), NkeyKind::Account),
            (KeyPair::new_server(), NkeyKind::Server),
            (KeyPair::new_operator(), NkeyKind::Operator),
            (KeyPair::new_cluster(), NkeyKind::Cluster),
        ] {
            let key: PublicNkey = pair.public_key().parse().unwrap();
            assert_eq!((key.kind(), key.as_str()), (kind, pair.public_key().as_str()));
            assert_eq!(key.to_string().parse(), Ok(key));
            let (ours, of) = crate::KeyPair::from_nkey_seed(&pair.seed().unwrap()).unwrap();
            assert_eq!((of, &*ours.nkey_seed(kind)), (kind, &pair.seed().unwrap()));
            assert_eq!(ours.public().nkey(kind).as_str(), pair.public_key());
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let user = KeyPair::new_user();
        let text = user.public_key();
        assert_eq!(user.seed().unwrap().parse::<PublicNkey>(), Err(NkeyError::Seed));
        let mut flipped = text.clone().into_bytes();
        flipped[20] = if flipped[20] == b'A' { b'B' } else { b'A' };
        for bad in
            ["", "U", &text[..55], &format!("{text}A"), &String::from_utf8(flipped).unwrap(), "U\u{e4}"]
        {
            assert_eq!(bad.parse::<PublicNkey>(), Err(NkeyError::Text), "{bad}");
        }
        assert_eq!(KeyPair::new_module().public_key().parse::<PublicNkey>(), Err(NkeyError::Kind));
        assert_eq!(encode(&[NkeyKind::User.prefix()], &[0; 32]).parse::<PublicNkey>(), Err(NkeyError::Weak));
    }

    #[test]
    fn what_is_no_seed_is_refused() {
        let user = KeyPair::new_user();
        let parse = |text: &str| crate::KeyPair::from_nkey_seed(text).map(|_| ());
        assert_eq!(parse(&user.public_key()), Err(NkeySeedError::Public));
        assert_eq!(parse(&KeyPair::new_module().seed().unwrap()), Err(NkeySeedError::Kind));
        let seed = user.seed().unwrap();
        for (at, letter) in seed.char_indices() {
            let other = if letter == 'A' { "B" } else { "A" };
            let flipped = format!("{}{other}{}", &seed[..at], &seed[at + 1..]);
            assert!(parse(&flipped).is_err(), "{flipped}");
            assert_eq!(parse(&seed[..at]), Err(NkeySeedError::Text));
        }
    }
}
