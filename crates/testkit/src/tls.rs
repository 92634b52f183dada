//! A certificate authority for one test.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};

use crate::process::Folder;

/// An authority with a certificate for this machine, in files as servers read them.
#[derive(Debug)]
pub struct Authority {
    folder: Folder,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    /// The file with the certificate.
    pub certificate: String,
    /// The file with the key.
    pub key: String,
}

impl Authority {
    /// A new authority. Nobody else knows it.
    ///
    /// # Panics
    /// The system has no randomness, or the files cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "midge test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder: Folder::new("tls"), issuer };
        let _ = authority.folder.file("ca.pem", &authority.issuer.pem());
        authority
    }

    /// The file with the authority's own certificate.
    #[must_use]
    pub fn file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// A certificate for `localhost` and 127.0.0.1.
    ///
    /// # Panics
    /// The files cannot be written.
    #[must_use]
    pub fn server(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name, params)
    }

    /// A certificate for 127.0.0.1 and localhost, for a server that is another one's client, too.
    ///
    /// # Panics
    /// The files cannot be written.
    #[must_use]
    pub fn member(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, params)
    }

    /// A certificate for a client: its common name, and names beside that.
    ///
    /// # Panics
    /// The files cannot be written.
    #[must_use]
    pub fn client(&self, name: &str, common_name: &str, alternative: &[SanType]) -> Identity {
        self.issue(name, client(common_name, alternative))
    }

    /// A certificate for a client that has expired.
    ///
    /// # Panics
    /// The files cannot be written.
    #[must_use]
    pub fn expired_client(&self, name: &str, common_name: &str) -> Identity {
        let mut params = client(common_name, &[]);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.issue(name, params)
    }

    fn issue(&self, name: &str, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: self.folder.file(&format!("{name}.pem"), &certificate.pem()),
            key: self.folder.file(&format!("{name}-key.pem"), &key.serialize_pem()),
        }
    }

    /// What a client speaks that trusts this authority, and shows a certificate if it has one.
    ///
    /// # Panics
    /// A file cannot be read.
    #[must_use]
    pub fn trusting(&self, identity: Option<&Identity>, versions: &[ProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: Vec<_> = rustls::ALL_VERSIONS
            .iter()
            .copied()
            .filter(|version| versions.is_empty() || versions.contains(&version.version))
            .collect();
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match identity {
            Some(identity) => {
                let chain = CertificateDer::pem_file_iter(&identity.certificate).unwrap();
                let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&identity.key).unwrap())
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Arc::new(config)
    }
}

fn client(common_name: &str, alternative: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = alternative.to_vec();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
