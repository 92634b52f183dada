//! TLS between peers: each shows a certificate with its key in it, and each looks at the other's.

use std::fmt;
use std::sync::{Arc, OnceLock};

use midge_identity::{KeyPair, PeerId};
use parking_lot::Mutex;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as TlsCertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, SignatureScheme,
};

use super::certificate::{self, CertificateError};
use crate::Admission;

/// What is spoken on a link: ours first, then what Bifrost speaks.
const ALPN: [&[u8]; 2] = [b"midge/1", b"bifrost"];

/// A peer's own half of every handshake.
pub(crate) struct Credentials {
    peer: PeerId,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What was found out about the other side of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is that peer, and may have a link.
    Peer(PeerId),
    /// It is another peer than was expected.
    Mismatch(PeerId),
    /// It is a peer that may have no link.
    NotAdmitted(PeerId),
    /// It has not proven to be anybody.
    Bad(CertificateError),
}

/// Where the verdict of one handshake is left: the library keeps only a text of what went wrong, and what it is told is
/// sent to the other side.
pub(crate) type Slot = Arc<OnceLock<Verdict>>;

/// Who may be at the other side.
#[derive(Clone)]
enum Wanted {
    Peer(PeerId),
    Admitted(Arc<dyn Admission>),
}

impl Credentials {
    pub(crate) fn new(key: &KeyPair, seed: Option<&[u8; 32]>) -> Result<Self, rcgen::Error> {
        let (certificate, own) = certificate::make(key, seed)?;
        let mut provider = ring::default_provider();
        // The fastest where there is hardware for it, which is nearly everywhere.
        provider.cipher_suites = vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        Ok(Self { peer: key.peer_id(), certificate, key: own, provider: Arc::new(provider) })
    }

    /// How a link to `peer` is begun, and where it will be said who was there.
    pub(crate) fn client(&self, peer: PeerId) -> Result<(QuicClientConfig, Slot), Error> {
        let (verifier, slot) = self.verifier(Wanted::Peer(peer));
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // The name that QUIC is given is nobody's.
        config.enable_sni = false;
        config.resumption = rustls::client::Resumption::disabled();
        let config =
            QuicClientConfig::try_from(config).map_err(|_| Error::General("no initial suite".to_owned()))?;
        Ok((config, slot))
    }

    /// How one that comes is answered, and where it will be said who it was.
    pub(crate) fn server(&self, admission: Arc<dyn Admission>) -> Result<(QuicServerConfig, Slot), Error> {
        let (verifier, slot) = self.verifier(Wanted::Admitted(admission));
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config =
            QuicServerConfig::try_from(config).map_err(|_| Error::General("no initial suite".to_owned()))?;
        Ok((config, slot))
    }

    fn verifier(&self, wanted: Wanted) -> (Arc<Verifier>, Slot) {
        let slot = Slot::default();
        let verifier = Verifier {
            wanted,
            ours: self.peer,
            provider: self.provider.clone(),
            claimed: Mutex::default(),
            slot: slot.clone(),
        };
        (Arc::new(verifier), slot)
    }
}

/// Looks at the other side's certificate.
struct Verifier {
    wanted: Wanted,
    ours: PeerId,
    provider: Arc<CryptoProvider>,
    /// Whose certificate was shown.
    claimed: Mutex<Option<PeerId>>,
    slot: Slot,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    fn verify(&self, certificate: &[u8], more: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let found = if more.is_empty() {
            certificate::read(certificate, now, &self.provider.signature_verification_algorithms)
        } else {
            Err(CertificateError::Form("there is more than one"))
        };
        match found {
            Ok(peer) => {
                *self.claimed.lock() = Some(peer);
                Ok(())
            }
            Err(why) => {
                // A handshake has one certificate of each side.
                let _ = self.slot.set(Verdict::Bad(why));
                Err(Error::InvalidCertificate(TlsCertificateError::BadEncoding))
            }
        }
    }

    /// What is to be made of a peer that has proven its key: anybody can show its certificate.
    fn judge(&self, peer: PeerId) -> Verdict {
        match &self.wanted {
            Wanted::Peer(wanted) if *wanted != peer => Verdict::Mismatch(peer),
            _ if peer == self.ours => Verdict::NotAdmitted(peer),
            Wanted::Admitted(admission) if !admission.admits(&peer) => Verdict::NotAdmitted(peer),
            _ => Verdict::Peer(peer),
        }
    }

    fn verify_handshake(
        &self,
        message: &[u8],
        certificate: &[u8],
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        // What it is worth was looked at before; here its key is needed.
        let spki = certificate::spki(certificate)
            .map_err(|_| Error::InvalidCertificate(TlsCertificateError::BadEncoding))?;
        let valid = verify_tls13_signature_with_raw_key(message, &spki, signature, algorithms)?;
        let verdict = self.claimed.lock().map(|peer| self.judge(peer));
        let is_peer = matches!(verdict, Some(Verdict::Peer(_)));
        if let Some(verdict) = verdict {
            let _ = self.slot.set(verdict);
        }
        // The other side is told this, and nothing of whom we wanted.
        let refused = || Error::InvalidCertificate(TlsCertificateError::ApplicationVerificationFailure);
        is_peer.then_some(valid).ok_or_else(refused)
    }
}

const ONLY_13: Error = Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(certificate, more, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(ONLY_13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_handshake(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(certificate, more, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(ONLY_13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_handshake(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
