//! TLS, as an adapter around a byte stream.

mod config;
mod mutual;
mod upgrade;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use config::TlsError;
pub(crate) use mutual::{ClientTls, MutualTls};
pub(crate) use upgrade::{HandshakeError, Upgrade};

use crate::options::{HandshakeFirst, TlsOptions};

/// TLS for one listener, made from its options and files.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    pub(crate) timeout: Duration,
    pub(crate) first: HandshakeFirst,
    /// Whether clients may do without.
    pub(crate) optional: bool,
    pub(crate) verify: bool,
    pinned: Vec<[u8; 32]>,
    rate: Rate,
    /// When the first certificate ends.
    pub(crate) ends: Option<Timestamp>,
}

impl Tls {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should.
    pub(crate) fn new(options: &TlsOptions, optional: bool) -> Result<Arc<Self>, TlsError> {
        let ends = options.certificates.first().and_then(|files| config::end_of(&files.certificate));
        Ok(Arc::new(Self {
            ends,
            config: Arc::new(config::server(options)?),
            timeout: options.timeout,
            first: options.first,
            optional,
            verify: options.verify,
            pinned: options.pinned.clone(),
            rate: Rate { most: options.rate_limit, window: Mutex::new((Instant::now(), 0)) },
        }))
    }

    /// Rules for a listener that is never spoken to without TLS, such as HTTPS. `ask` keeps the question for a
    /// certificate.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub(crate) fn plain_server(options: &TlsOptions, ask: bool) -> Result<Arc<ServerConfig>, TlsError> {
        let options = TlsOptions { verify: options.verify && ask, ..options.clone() };
        Ok(Arc::new(config::server(&options)?))
    }

    pub(crate) const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether one more handshake may begin now; counts it.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        self.rate.admits(now)
    }

    /// Whether the peer's certificate is one of those that it must be.
    pub(crate) fn is_pinned(&self, peer: &[CertificateDer<'_>]) -> bool {
        is_pinned(&self.pinned, peer)
    }
}

/// Whether the peer's certificate is one of those that it must be, if it must be one.
fn is_pinned(pinned: &[[u8; 32]], peer: &[CertificateDer<'_>]) -> bool {
    if pinned.is_empty() {
        return true;
    }
    let Some(certificate) = peer.first() else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let digest = Sha256::digest(certificate.public_key().raw);
    pinned.iter().any(|pin| pin[..] == digest[..])
}

/// Handshakes in the current second.
#[derive(Debug)]
struct Rate {
    most: u64,
    window: Mutex<(Instant, u64)>,
}

impl Rate {
    fn admits(&self, now: Instant) -> bool {
        if self.most == 0 {
            return true;
        }
        let mut window = self.window.lock();
        if now.saturating_duration_since(window.0) >= Duration::from_secs(1) {
            *window = (now, 0);
        }
        window.1 += 1;
        window.1 <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_counted_by_the_second() {
        let now = Instant::now();
        let rate = Rate { most: 2, window: Mutex::new((now, 0)) };
        assert!(rate.admits(now) && rate.admits(now) && !rate.admits(now));
        assert!(rate.admits(now + Duration::from_secs(1)));
    }
}
