//! How a client proves that it has the private half of its nkey: it signs what the server made up for it.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::Signature;

use crate::nkey::PublicNkey;

/// Random bytes in a nonce, as many as nats-server takes.
pub const NONCE_BYTES: usize = 11;

/// Why a proof is none.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// There is no signature.
    #[error("signature missing")]
    Missing,
    /// The signature is neither URL-safe base64 without padding nor standard base64 with it.
    #[error("signature not valid base64")]
    Encoding,
    /// The signature has not 64 bytes.
    #[error("signature of the wrong length")]
    Length,
    /// The signature is another's, or of something else.
    #[error("signature not verified")]
    Mismatch,
}

/// The text that a client is given to sign. A server takes new random bytes for each connection.
#[must_use]
pub fn nonce(random: [u8; NONCE_BYTES]) -> String {
    BASE64URL_NOPAD.encode(&random)
}

/// Whether `signature` is the key's signature of `nonce`, both as they stand in INFO and CONNECT.
///
/// # Errors
/// It is not, and why.
pub fn verify(key: &PublicNkey, nonce: &str, signature: &str) -> Result<(), ChallengeError> {
    if signature.is_empty() {
        return Err(ChallengeError::Missing);
    }
    let text = signature.as_bytes();
    let bytes = BASE64URL_NOPAD.decode(text).or_else(|_| BASE64.decode(text));
    let bytes = bytes.map_err(|_| ChallengeError::Encoding)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| ChallengeError::Length)?;
    key.key().verify_strict(nonce.as_bytes(), &signature).map_err(|_| ChallengeError::Mismatch)
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::*;

    #[test]
    fn both_encodings_are_taken_and_nothing_else() {
        let user = KeyPair::new_user();
        let key: PublicNkey = user.public_key().parse().unwrap();
        let nonce = nonce([1; NONCE_BYTES]);
        assert_eq!(nonce.len(), 15);
        let signature = user.sign(nonce.as_bytes()).unwrap();
        for text in [BASE64URL_NOPAD.encode(&signature), BASE64.encode(&signature)] {
            assert_eq!(verify(&key, &nonce, &text), Ok(()));
        }
        for (text, why) in [
            (String::new(), ChallengeError::Missing),
            ("?".to_owned(), ChallengeError::Encoding),
            (data_encoding::BASE64URL.encode(&signature).replace('=', "=="), ChallengeError::Encoding),
            (BASE64.encode(&signature[..63]), ChallengeError::Length),
            (BASE64.encode(&[0; 64]), ChallengeError::Mismatch),
        ] {
            assert_eq!(verify(&key, &nonce, &text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_signature_serves_one_key_and_one_nonce() {
        let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
        let nonce_of = |n| nonce([n; NONCE_BYTES]);
        let signature = BASE64.encode(&user.sign(nonce_of(1).as_bytes()).unwrap());
        let key: PublicNkey = user.public_key().parse().unwrap();
        let stranger: PublicNkey = other.public_key().parse().unwrap();
        assert_eq!(verify(&key, &nonce_of(1), &signature), Ok(()));
        assert_eq!(verify(&key, &nonce_of(2), &signature), Err(ChallengeError::Mismatch), "a replay");
        assert_eq!(
            verify(&stranger, &nonce_of(1), &signature),
            Err(ChallengeError::Mismatch),
            "another's key"
        );
    }
}
