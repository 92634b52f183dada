//! Keys in text files: the blocks that libp2p's programs write (`LIBP2P PRIVATE KEY`), and the usual ones (PKCS#8,
//! RFC 8410), which openssl reads; and OpenSSH's line for a public key.

use data_encoding::BASE64;
use pem_rfc7468::LineEnding;
use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, KeyError, KeyPair, PublicKey};
use crate::nkey::PublicNkey;
use crate::peer_id::PeerId;
use crate::protobuf;

const LIBP2P_PRIVATE: &str = "LIBP2P PRIVATE KEY";
const LIBP2P_PUBLIC: &str = "LIBP2P PUBLIC KEY";
const PKCS8: &str = "PRIVATE KEY";
const SPKI: &str = "PUBLIC KEY";

/// DER before the seed of a PKCS#8 private key without its public half, and before a public key (RFC 8410).
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// The same for version 2, where the public half follows the seed (openssl does not write it, RFC 5958 allows it).
const PKCS8_V2_HEAD: [u8; 16] = [0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const PKCS8_V2_PUBLIC: [u8; 3] = [0x81, 0x21, 0];

/// Most bytes of a key's text.
pub const MOST_TEXT: usize = 16 * 1024;
/// Most bytes in a block that could be a key's.
const MOST_BLOCK: usize = 256;

/// Why a text holds no key.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// It is empty, or far too long.
    #[error("{0} bytes, which no key's text has")]
    Length(usize),
    /// It is no form that is known.
    #[error("neither a PEM block nor an nkey seed")]
    Form,
    /// There is a PEM block, which is not as it should be.
    #[error("not a whole PEM block: {0}")]
    Block(String),
    /// The block is of another kind.
    #[error("a block of kind '{0}', where there should be '{LIBP2P_PRIVATE}' or '{PKCS8}'")]
    Label(String),
    /// It is a public key, where a whole one is needed.
    #[error("this is a public key: the private one is needed")]
    Public,
    /// It is a private key, where the public half is asked for.
    #[error("this is a private key, which must stay secret")]
    Private,
    /// What stands in it is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A whole key as libp2p's programs write it.
#[must_use]
pub fn private(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(block(LIBP2P_PRIVATE, &protobuf::private(key)))
}

/// A public key as libp2p's programs write it.
#[must_use]
pub fn public(key: &PublicKey) -> String {
    block(LIBP2P_PUBLIC, &protobuf::public(key))
}

/// A whole key as PKCS#8.
#[must_use]
pub fn pkcs8(key: &KeyPair) -> Zeroizing<String> {
    let der = Zeroizing::new([&PKCS8_HEAD[..], key.seed()].concat());
    Zeroizing::new(block(PKCS8, &der))
}

/// A public key as others than libp2p write it (SubjectPublicKeyInfo).
#[must_use]
pub fn spki(key: &PublicKey) -> String {
    block(SPKI, &[&SPKI_HEAD[..], key.as_bytes()].concat())
}

/// A public key as a line of OpenSSH's `authorized_keys`, without a comment.
#[must_use]
pub fn openssh(key: &PublicKey) -> String {
    const KIND: &[u8] = b"ssh-ed25519";
    let piece = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
    let blob = [piece(KIND), piece(key.as_bytes())].concat();
    format!("ssh-ed25519 {}", BASE64.encode(&blob))
}

/// The key that a text holds: in one of the two PEM forms, or as an nkey seed of any kind.
///
/// # Errors
/// It holds none, and why.
pub fn read_private(text: &str) -> Result<KeyPair, KeyTextError> {
    let text = bounded(text)?;
    if text.starts_with('S') && !text.contains(char::is_whitespace) {
        return KeyPair::from_nkey_seed(text).map(|(key, _)| key).map_err(|_| KeyTextError::Form);
    }
    if read_public(text).is_ok() {
        return Err(KeyTextError::Public);
    }
    let mut buffer = Zeroizing::new([0; MOST_BLOCK]);
    let (label, der) = open(text, &mut *buffer)?;
    match label {
        LIBP2P_PRIVATE => Ok(protobuf::read_private(der)?),
        PKCS8 => Ok(from_pkcs8(der)?),
        _ => Err(KeyTextError::Label(label.to_owned())),
    }
}

/// The public key that a text holds: a PEM block, an OpenSSH line, a peer id or an nkey.
///
/// # Errors
/// It holds none, and why.
pub fn read_public(text: &str) -> Result<PublicKey, KeyTextError> {
    let text = bounded(text)?;
    if let Some(rest) = text.strip_prefix("ssh-ed25519 ") {
        return from_openssh(rest.split_whitespace().next().unwrap_or_default());
    }
    if !text.starts_with("-----") {
        let peer = text.parse::<PeerId>().ok().map(|peer| *peer.key());
        let nkey = text.parse::<PublicNkey>().ok().map(|nkey| *nkey.key());
        return peer.or(nkey).ok_or(KeyTextError::Form);
    }
    let mut buffer = Zeroizing::new([0; MOST_BLOCK]);
    let (label, der) = open(text, &mut *buffer)?;
    match label {
        LIBP2P_PUBLIC => Ok(protobuf::read_public(der)?),
        SPKI => {
            let key = der.strip_prefix(&SPKI_HEAD).ok_or(KeyError::Form("not an Ed25519 key"))?;
            Ok(PublicKey::from_bytes(key)?)
        }
        LIBP2P_PRIVATE | PKCS8 => Err(KeyTextError::Private),
        _ => Err(KeyTextError::Label(label.to_owned())),
    }
}

fn bounded(text: &str) -> Result<&str, KeyTextError> {
    let trimmed = text.trim();
    if trimmed.is_empty() || text.len() > MOST_TEXT {
        return Err(KeyTextError::Length(text.len()));
    }
    Ok(trimmed)
}

fn block(label: &str, der: &[u8]) -> String {
    // Only a label that is none, or gigabytes, are refused.
    pem_rfc7468::encode_string(label, LineEnding::LF, der).unwrap_or_default()
}

fn open<'a>(text: &'a str, buffer: &'a mut [u8]) -> Result<(&'a str, &'a [u8]), KeyTextError> {
    if !text.contains("-----BEGIN ") {
        return Err(KeyTextError::Form);
    }
    pem_rfc7468::decode(text.as_bytes(), buffer).map_err(|error| KeyTextError::Block(error.to_string()))
}

fn from_pkcs8(der: &[u8]) -> Result<KeyPair, KeyError> {
    const WRONG: KeyError = KeyError::Form("not the PKCS#8 of an Ed25519 key");
    if let Some(seed) = der.strip_prefix(&PKCS8_HEAD) {
        return KeyPair::from_seed(seed.try_into().map_err(|_| WRONG)?);
    }
    let rest = der.strip_prefix(&PKCS8_V2_HEAD).ok_or(WRONG)?;
    let (seed, rest) = rest.split_first_chunk::<KEY_BYTES>().ok_or(WRONG)?;
    KeyPair::from_halves(seed, rest.strip_prefix(&PKCS8_V2_PUBLIC).ok_or(WRONG)?)
}

fn from_openssh(blob: &str) -> Result<PublicKey, KeyTextError> {
    const HEAD: &[u8] = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20";
    let bytes = BASE64.decode(blob.as_bytes()).map_err(|_| KeyTextError::Form)?;
    Ok(PublicKey::from_bytes(bytes.strip_prefix(HEAD).ok_or(KeyTextError::Form)?)?)
}
