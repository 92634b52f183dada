//! The configuration of Bifrost's NATS module, for those who have one: `docs/bifrost.md` says what of it is what here.

/// Messages as they are on the wire, made from `proto/`.
pub mod proto;

use midge_backend::channel::Form;
use midge_identity::signed::HashType;
use midge_server::mesh::{CLIENT_PROTOCOL, ROUTER_PROTOCOL};
use midge_server::options::{MESH_CLUSTER, Options};

pub use proto::{Config, NatsConnType};

/// Why a configuration cannot be used.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The hash has no name.
    #[error("publish_hash_type {0} is none: 1 is SHA-256, 3 is BLAKE3")]
    Hash(i32),
    /// The hash is one that is only read any more.
    #[error("publish_hash_type is SHA-1, which can be forged: choose SHA-256 or BLAKE3")]
    Sha1,
}

impl Config {
    /// What it says, over `options`, and how its channels are signed.
    ///
    /// # Errors
    /// It says something that cannot be.
    pub fn apply(&self, options: &mut Options) -> Result<Form, ConfigError> {
        let hash = match HashType::try_from(self.publish_hash_type) {
            Ok(HashType::Unknown | HashType::Sha256) => HashType::Sha256,
            Ok(HashType::Blake3) => HashType::Blake3,
            Ok(HashType::Sha1) => return Err(ConfigError::Sha1),
            Err(_) => return Err(ConfigError::Hash(self.publish_hash_type)),
        };
        let name = if self.cluster_name.is_empty() { MESH_CLUSTER } else { &self.cluster_name };
        options.cluster.name = Some(name.to_owned());
        options.log.trace |= self.log_trace || self.log_trace_verbose;
        options.log.debug |= self.log_debug || options.log.trace;
        Ok(Form::Record(hash))
    }
}

/// What a stream of that protocol is.
#[must_use]
pub fn protocol_to_stream_type(protocol: &str) -> NatsConnType {
    match protocol {
        ROUTER_PROTOCOL => NatsConnType::Router,
        CLIENT_PROTOCOL => NatsConnType::Client,
        _ => NatsConnType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_configuration_is_what_bifrost_wrote() {
        // cluster_name "c", publish_hash_type BLAKE3, log_trace.
        let config = Config::decode(&b"\x0a\x01c\x10\x03\x20\x01"[..]).unwrap();
        let mut options = Options::default();
        assert_eq!(config.apply(&mut options), Ok(Form::Record(HashType::Blake3)));
        assert_eq!(
            (options.cluster.name.as_deref(), options.log.trace, options.log.debug),
            (Some("c"), true, true)
        );
        let mut options = Options::default();
        assert_eq!(Config::default().apply(&mut options), Ok(Form::Record(HashType::Sha256)));
        assert_eq!(options.cluster.name.as_deref(), Some("nats.io/2/router"));
        let sha1 = Config { publish_hash_type: 2, ..Config::default() };
        assert_eq!(sha1.apply(&mut Options::default()), Err(ConfigError::Sha1));
        let nothing = Config { publish_hash_type: 9, ..Config::default() };
        assert_eq!(nothing.apply(&mut Options::default()), Err(ConfigError::Hash(9)));
        assert_eq!(protocol_to_stream_type("nats.io/2/client"), NatsConnType::Client);
        assert_eq!(protocol_to_stream_type("x"), NatsConnType::Unknown);
    }
}
