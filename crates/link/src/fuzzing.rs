//! What fuzz targets look at that nobody else sees.

use std::time::Duration;

use midge_identity::PeerId;
use rustls::crypto::ring;
use rustls::pki_types::UnixTime;

use crate::quic::certificate;

/// Some time in 2026.
const NOW: Duration = Duration::from_secs(1_780_000_000);

/// Whose certificate that is, if it is one.
#[must_use]
pub fn peer_of(der: &[u8]) -> Option<PeerId> {
    let now = UnixTime::since_unix_epoch(NOW);
    certificate::read(der, now, &ring::default_provider().signature_verification_algorithms).ok()
}

/// Whether the key is found in it that signs handshakes.
#[must_use]
pub fn has_key(der: &[u8]) -> bool {
    certificate::spki(der).is_ok()
}
