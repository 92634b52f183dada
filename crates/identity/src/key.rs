//! An Ed25519 key, whole or its public half.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::nkey::{self, NkeyKind, NkeySeedError, PublicNkey};
use crate::peer_id::PeerId;

/// Bytes of a seed, of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What the key is salted with that logs a peer in to other people's NATS servers.
const LOGIN_SALT: &[u8] = b"midge nats login key v1";
const LOGIN_INFO: &[u8] = b"ed25519 seed";

/// Why bytes are no key, or are none that is used here.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There are more or fewer bytes than a key has.
    #[error("{found} bytes, where an Ed25519 key has {KEY_BYTES}")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// They are no point of the curve.
    #[error("not an Ed25519 public key")]
    NoPoint,
    /// It is one of the keys for which anybody can make signatures.
    #[error("a weak key, for which anybody can make signatures")]
    Weak,
    /// It is a key of another kind (libp2p's numbers: 0 is RSA, 2 secp256k1, 3 ECDSA).
    #[error("a key of kind {0}, where only Ed25519 is used")]
    Kind(u64),
    /// The public half that stands beside a seed is another's.
    #[error("the public key does not belong to the seed")]
    Halves,
    /// What surrounds the key is not as it should be.
    #[error("not a key: {0}")]
    Form(&'static str),
}

/// Why a signature is none.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It has not 64 bytes.
    #[error("a signature of {0} bytes, where there should be {SIGNATURE_BYTES}")]
    Length(usize),
    /// It is another's, or of something else.
    #[error("the signature is not that key's signature of that")]
    Mismatch,
}

/// The public half of a key. Never one for which anybody could sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key of those 32 bytes.
    ///
    /// # Errors
    /// There are not 32 of them, they are no key, or a weak one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: &[u8; KEY_BYTES] =
            bytes.try_into().map_err(|_| KeyError::Length { found: bytes.len() })?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NoPoint)?;
        if key.is_weak() { Err(KeyError::Weak) } else { Ok(Self(*bytes)) }
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// What the peer with this key is called.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        PeerId::of(*self)
    }

    /// The key in NATS's text form, as a key of that kind.
    #[must_use]
    pub fn nkey(&self, kind: NkeyKind) -> PublicNkey {
        PublicNkey::of(*self, kind)
    }

    /// Whether `signature` is this key's signature of `message`, by the strict rules (RFC 8032 without the
    /// signatures of which there are several for one message).
    ///
    /// # Errors
    /// It is not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature =
            Signature::from_slice(signature).map_err(|_| SignatureError::Length(signature.len()))?;
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError::Mismatch)?;
        key.verify_strict(message, &signature).map_err(|_| SignatureError::Mismatch)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.peer_id())
    }
}

/// A whole key: who has it is the peer. Its memory is cleared when it is dropped, and it is never printed.
///
/// The key signs what its owner says to other peers. It does not log in anywhere where somebody else chooses what is
/// signed: a NATS server could have it sign another peer's certificate (see [`KeyPair::login_key`] and
/// [`crate::challenge::sign`]).
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// The key of that seed: 32 random bytes make a new one.
    ///
    /// # Errors
    /// Its public half is weak, which no random seed has ever given.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        PublicKey::from_bytes(key.verifying_key().as_bytes())?;
        Ok(Self(key))
    }

    /// The key of an nkey seed (`S…`) and what it is a key of.
    ///
    /// # Errors
    /// The text is no seed.
    pub fn from_nkey_seed(text: &str) -> Result<(Self, NkeyKind), NkeySeedError> {
        let (seed, kind) = nkey::parse_seed(text)?;
        Ok((Self::from_seed(&seed).map_err(|_| NkeySeedError::Text)?, kind))
    }

    /// The key of a seed and the public half that was stored beside it, which has to belong to it.
    pub(crate) fn from_halves(seed: &[u8; KEY_BYTES], public: &[u8]) -> Result<Self, KeyError> {
        let pair = Self::from_seed(seed)?;
        if pair.public().as_bytes() == public { Ok(pair) } else { Err(KeyError::Halves) }
    }

    /// The seed that makes this key. Whoever has it is the peer.
    #[must_use]
    pub fn seed(&self) -> &[u8; KEY_BYTES] {
        self.0.as_bytes()
    }

    /// The seed in NATS's text form (`S…`), as one of that kind.
    #[must_use]
    pub fn nkey_seed(&self, kind: NkeyKind) -> Zeroizing<String> {
        nkey::seed_text(self.seed(), kind)
    }

    /// Both halves in NATS's text form (`P…`).
    #[must_use]
    pub fn nkey_private(&self) -> Zeroizing<String> {
        nkey::private_text(self.seed(), self.public().as_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// What the peer with this key is called.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.public().peer_id()
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }

    /// The key that logs this peer in to NATS servers that are somebody else's. It is made from this one (HKDF with
    /// SHA-256, RFC 5869), so there is nothing more to keep, and says nothing about it: whatever it is made to sign,
    /// the peer's own key has not signed it.
    #[must_use]
    pub fn login_key(&self) -> Self {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        self.derive(LOGIN_SALT, LOGIN_INFO, &mut seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// Fills `secret` with what only this key's owner can make, another one for each `salt`.
    pub fn derive(&self, salt: &[u8], info: &[u8], secret: &mut [u8; KEY_BYTES]) {
        // Only lengths above 8160 bytes are refused.
        let _ = Hkdf::<Sha256>::new(Some(salt), self.seed()).expand(info, secret);
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.peer_id())
    }
}
