//! Where a peer can be reached, as text.

use std::fmt;
use std::str::FromStr;

use midge_identity::{PeerId, PeerIdError};

/// An address in some network, such as `udp://example.org:4222`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: String,
    rest: String,
}

/// Why a text is no address.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not say in which network.
    #[error("'{0}' does not say in which network, as udp://HOST:PORT does")]
    NoScheme(String),
    /// There is no peer before the address.
    #[error("'{0}' does not say which peer, as ID@udp://HOST:PORT does")]
    NoPeer(String),
    /// The peer is none.
    #[error("'{text}': {why}")]
    Peer {
        /// What stands there.
        text: String,
        /// Why it is none.
        why: PeerIdError,
    },
}

impl Address {
    /// The network.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Where in that network; what it means is the network's.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse = || AddressError::NoScheme(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(refuse)?;
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase());
        if !is_scheme || (!rest.is_empty() && !rest.starts_with("//")) {
            return Err(refuse());
        }
        let rest = rest.strip_prefix("//").unwrap_or_default().to_owned();
        Ok(Self { scheme: scheme.to_owned(), rest })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rest.is_empty() {
            write!(f, "{}:", self.scheme)
        } else {
            write!(f, "{}://{}", self.scheme, self.rest)
        }
    }
}

/// A peer and one of its addresses, such as `12D3Koo…@udp://example.org:4222`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub address: Address,
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (peer, address) = text.split_once('@').ok_or_else(|| AddressError::NoPeer(text.to_owned()))?;
        let peer = peer.parse().map_err(|why| AddressError::Peer { text: peer.to_owned(), why })?;
        Ok(Self { peer, address: address.parse()? })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.peer, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB";

    #[test]
    fn addresses_are_printed_as_they_are_read() {
        for text in ["udp://127.0.0.1:4222", "udp://[::1]:1", "mem://7", "nats:"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
            let whole = format!("{PEER}@{text}");
            assert_eq!(whole.parse::<PeerAddress>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        for bad in ["", "127.0.0.1:4222", "UDP://x", "udp", "udp:x", "://x"] {
            assert_eq!(bad.parse::<Address>(), Err(AddressError::NoScheme(bad.to_owned())));
        }
        assert_eq!("udp://a:1".parse::<PeerAddress>(), Err(AddressError::NoPeer("udp://a:1".to_owned())));
        let error = "nobody@udp://a:1".parse::<PeerAddress>().unwrap_err().to_string();
        assert!(error.starts_with("'nobody': not a peer id"), "{error}");
        assert!(matches!(format!("{PEER}@x").parse::<PeerAddress>(), Err(AddressError::NoScheme(_))));
    }
}
