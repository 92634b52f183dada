//! Who somebody is, by key.
//!
//! **What it is.** One Ed25519 key and all its names: a [`KeyPair`] is a peer; its [`PeerId`] is what others call it; as
//! a [`PublicNkey`] NATS knows it, as a user, a server or an account. [`pem`] and [`protobuf`] are how keys are kept,
//! [`challenge`] is how an owner proves to a server that the private half is there, [`signed`] how messages prove who
//! sent them.
//!
//! **What it will never do.** Read a file, the environment or a clock; print a secret; check "softly": every check
//! says what is wrong, and has tests that it refuses.
//!
//! ```
//! use midge_identity::{KeyPair, NkeyKind, challenge};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let seed = std::array::from_fn(|n| n as u8);
//! let peer = KeyPair::from_seed(&seed)?;
//! assert_eq!(peer.peer_id().to_string(), "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB");
//! assert!(peer.public().nkey(NkeyKind::Server).as_str().starts_with("NAB2CB576PHBBPQ5"));
//!
//! // Servers that are somebody else's get to know another key.
//! let login = peer.login_key();
//! let nonce = challenge::nonce([7; 11]);
//! let proof = challenge::sign(&login, &nonce)?;
//! assert!(challenge::verify(&login.public().nkey(NkeyKind::User), &nonce, &proof).is_ok());
//! assert!(challenge::verify(&peer.public().nkey(NkeyKind::User), &nonce, &proof).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! **Why it is shaped this way.** One key gets many names in a mesh of peers. What turns one into another belongs in
//! one place that nobody else has to understand.

pub mod challenge;
mod key;
mod nkey;
mod peer_id;
pub mod pem;
pub mod proto;
pub mod protobuf;
pub mod signed;

pub use key::{KEY_BYTES, KeyError, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError};
pub use nkey::{NkeyError, NkeyKind, NkeySeedError, PublicNkey};
pub use peer_id::{PeerId, PeerIdError};
