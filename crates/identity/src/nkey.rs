//! Public nkeys: an Ed25519 key with a letter in front that says whose it is (NATS's `nkeys` specification).

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use nkeys::{KeyPair, KeyPairType};

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

/// A public key in NATS's text form, such as `UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicNkey {
    kind: NkeyKind,
    key: VerifyingKey,
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

impl PublicNkey {
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
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    pub(crate) const fn key(&self) -> &VerifyingKey {
        &self.key
    }
}

impl FromStr for PublicNkey {
    type Err = NkeyError;

    fn from_str(text: &str) -> Result<Self, NkeyError> {
        if text.starts_with('S') {
            return Err(NkeyError::Seed);
        }
        // The library slices what it decodes without asking whether it is long enough.
        if text.len() != 56 || !text.is_ascii() {
            return Err(NkeyError::Text);
        }
        let (_, bytes) = nkeys::from_public_key(text).map_err(|_| NkeyError::Text)?;
        let pair = KeyPair::from_public_key(text).map_err(|_| NkeyError::Text)?;
        let kind = match pair.key_pair_type() {
            KeyPairType::User => NkeyKind::User,
            KeyPairType::Account => NkeyKind::Account,
            KeyPairType::Server => NkeyKind::Server,
            KeyPairType::Operator => NkeyKind::Operator,
            KeyPairType::Cluster => NkeyKind::Cluster,
            _ => return Err(NkeyError::Kind),
        };
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| NkeyError::Text)?;
        if key.is_weak() {
            return Err(NkeyError::Weak);
        }
        Ok(Self { kind, key, text: text.into() })
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

#[cfg(test)]
mod tests {
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
        let module = KeyPair::new_module().public_key();
        assert!(matches!(module.parse::<PublicNkey>(), Err(NkeyError::Kind | NkeyError::Text)));
    }
}
