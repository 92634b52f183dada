//! Who somebody is, by key.
//!
//! **What it is.** [`PublicNkey`] is a public key in NATS's text form; [`challenge`] is how its owner proves to a
//! server that it has the private half.
//!
//! **What it will never do.** Read a file, the environment or a clock; print a secret; check "softly": every check
//! says what is wrong, and has tests that it refuses.
//!
//! ```
//! use midge_identity::{PublicNkey, challenge};
//!
//! let user = nkeys::KeyPair::new_user();
//! let nonce = challenge::nonce([7; 11]);
//! let signature = data_encoding::BASE64URL_NOPAD.encode(&user.sign(nonce.as_bytes()).unwrap());
//! let key: PublicNkey = user.public_key().parse().unwrap();
//! assert!(challenge::verify(&key, &nonce, &signature).is_ok());
//! assert!(challenge::verify(&key, &challenge::nonce([8; 11]), &signature).is_err());
//! ```
//!
//! **Why it is shaped this way.** One key gets many names in a mesh of peers. What turns one into another belongs in
//! one place that nobody else has to understand.

pub mod challenge;
mod nkey;

pub use nkey::{NkeyError, NkeyKind, PublicNkey};
