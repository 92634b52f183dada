//! QUIC with peers' keys for identities.

pub(crate) mod certificate;
mod endpoint;
mod socket;
mod tls;

pub use certificate::CertificateError;
pub use endpoint::{DialError, EndpointError};
pub(crate) use endpoint::{Endpoint, Refused};
pub(crate) use tls::Credentials;
