//! How a client proves that it has the private half of its nkey: it signs what the server made up for it.

use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::key::{KeyPair, SignatureError};
use crate::nkey::PublicNkey;

/// Random bytes in a nonce, as many as nats-server takes.
pub const NONCE_BYTES: usize = 11;
/// Most letters of a nonce that is signed. Servers make 15.
const MOST_NONCE: usize = 24;
/// Letters that a nonce must not have: so many bytes has a SHA-1 hash, which a signed message may be the signature of.
const HASH_BYTES: usize = 20;

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
    key.key().verify(nonce.as_bytes(), &bytes).map_err(|error| match error {
        SignatureError::Length(_) => ChallengeError::Length,
        SignatureError::Mismatch => ChallengeError::Mismatch,
    })
}

/// The signature of what a server gave a client to sign, as it stands in a CONNECT.
///
/// A server may send any text as a nonce, and so have a client sign what looks like another peer's certificate or like
/// a message of a signed channel. So only what has the shape of a server's nonce is signed, whichever key it is; and a
/// peer's own key is not for that at all (see [`KeyPair::login_key`]).
///
/// # Errors
/// The text has another shape than a nonce.
pub fn sign(key: &KeyPair, nonce: &str) -> Result<String, NonceError> {
    let is_url_safe = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if nonce.is_empty() || nonce.len() > MOST_NONCE || nonce.len() == HASH_BYTES {
        return Err(NonceError::Length(nonce.len()));
    }
    if !nonce.as_bytes().iter().all(is_url_safe) {
        return Err(NonceError::Letters);
    }
    Ok(BASE64URL_NOPAD.encode(&key.sign(nonce.as_bytes())))
}

/// Why a text is not signed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// It is not as long as what servers make up.
    #[error("the server's nonce has {0} letters, and no server that means well makes such a one: not signed")]
    Length(usize),
    /// It has other letters.
    #[error("the server's nonce has letters beside A-Z a-z 0-9 - and _: not signed")]
    Letters,
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
    fn what_is_no_nonce_is_not_signed() {
        let key = crate::KeyPair::from_seed(&[7; 32]).unwrap();
        let public = key.public().nkey(crate::NkeyKind::User);
        let nonce = nonce([1; NONCE_BYTES]);
        assert_eq!(verify(&public, &nonce, &sign(&key, &nonce).unwrap()), Ok(()));
        for (bad, why) in [
            ("", NonceError::Length(0)),
            (&"a".repeat(20), NonceError::Length(20)),
            (&"a".repeat(25), NonceError::Length(25)),
            ("libp2p-tls-handshake:", NonceError::Letters),
            ("midge nats\0", NonceError::Letters),
            ("\u{e4}bcdefghijklm", NonceError::Letters),
        ] {
            assert_eq!(sign(&key, bad), Err(why), "{bad}");
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
