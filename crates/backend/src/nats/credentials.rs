//! Keys that log in to somebody else's servers.

use async_nats::{Auth, AuthError};
use data_encoding::BASE64URL_NOPAD;
use midge_identity::{KeyPair, NkeyKind, challenge};

use crate::error::BackendError;

/// What a credentials file holds.
pub(crate) struct Credentials {
    pub(crate) jwt: String,
    pub(crate) key: KeyPair,
}

/// Reads the text of a credentials file, as nsc writes it: a JWT and a seed, each between lines of dashes.
pub(crate) fn read(text: &str) -> Result<Credentials, BackendError> {
    let missing = |what: &str| BackendError::Credentials(format!("there is no {what} in the file"));
    let mut bodies = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"));
    let jwt = bodies.find(|line| line.starts_with("eyJ")).ok_or_else(|| missing("JWT"))?;
    let seed = bodies.find(|line| line.starts_with("SU")).ok_or_else(|| missing("seed of a user"))?;
    Ok(Credentials { jwt: jwt.to_owned(), key: key(seed)? })
}

/// The key of a seed.
pub(crate) fn key(seed: &str) -> Result<KeyPair, BackendError> {
    let read = KeyPair::from_nkey_seed(seed).map(|(key, _)| key);
    read.map_err(|error| BackendError::Credentials(error.to_string()))
}

/// The proof of a key, for a server that wants one: with the JWT that speaks of the key, or by the key itself.
///
/// # Errors
/// What the server wants to have signed is not what servers make up.
pub(crate) fn prove(key: &KeyPair, jwt: Option<&str>, nonce: &[u8]) -> Result<Auth, AuthError> {
    let mut auth = Auth::new();
    if nonce.is_empty() {
        return Ok(auth);
    }
    let nonce = std::str::from_utf8(nonce).map_err(AuthError::new)?;
    let signature = challenge::sign(key, nonce).map_err(AuthError::new)?;
    match jwt {
        Some(jwt) => auth.jwt = Some(jwt.to_owned()),
        None => auth.nkey = Some(key.public().nkey(NkeyKind::User).to_string()),
    }
    auth.signature = Some(BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(AuthError::new)?);
    Ok(auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_has_two_parts() {
        let seed = KeyPair::from_seed(&[1; 32]).unwrap().nkey_seed(NkeyKind::User);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0eX.a.b\n------END NATS USER JWT------\n\n***** IMPORTANT *****\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            *seed
        );
        let read = read(&text).unwrap();
        assert_eq!((read.jwt.as_str(), read.key.seed()), ("eyJ0eX.a.b", &[1; 32]));
        for (bad, want) in [("", "no JWT"), ("eyJ0", "no seed"), ("eyJ0\nSUsecret", "")] {
            let Err(error) = super::read(bad) else { panic!("{bad} is read") };
            let error = error.to_string();
            assert!(error.contains(want) && !error.contains("secret"), "{error}");
        }
    }
}
