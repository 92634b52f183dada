//! From options and files to rustls's configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::options::{CertificateFiles, TlsOptions};

/// Why TLS cannot be spoken.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate to show.
    #[error("a tls block needs a certificate: set cert_file and key_file")]
    NoCertificate,
    /// Clients must show a certificate and nobody says whose are good.
    #[error("tls.verify needs to know whose certificates are good: set ca_file")]
    NoAuthority,
    /// A file cannot be read, or holds something else.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The options do not go together.
    #[error("tls: {0}")]
    Rules(#[from] rustls::Error),
}

fn file(what: &'static str, path: &Path, why: impl ToString) -> TlsError {
    TlsError::File { what, path: path.to_owned(), why: why.to_string() }
}

/// What a server speaks by these options.
pub(super) fn server(options: &TlsOptions) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider(options));
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions(options))?;
    let builder = if options.verify {
        let path = options.ca_file.as_deref().ok_or(TlsError::NoAuthority)?;
        let roots = Arc::new(authorities(path)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let verifier = verifier.build().map_err(|why| file("certificate authorities", path, why))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let keys = options
        .certificates
        .iter()
        .map(|files| certified(files, &provider))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(keys)));
    // A ticket costs a message in every handshake and serves clients that come back often, which NATS clients do not.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// What a server speaks that connects to another one: it shows a certificate if it has one.
pub(super) fn client(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(provider(options));
    let roots = match (options.ca_file.as_deref(), options.verify) {
        (Some(path), _) => authorities(path)?,
        (None, true) => return Err(TlsError::NoAuthority),
        (None, false) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(options))?
        .with_root_certificates(roots);
    match options.certificates.first() {
        Some(files) => {
            let key = SingleCertAndKey::from(certified(files, &provider)?);
            Ok(builder.with_client_cert_resolver(Arc::new(key)))
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

fn versions(options: &TlsOptions) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    if options.min_version == ProtocolVersion::TLSv1_3 { &NEWEST } else { &BOTH }
}

fn provider(options: &TlsOptions) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !options.cipher_suites.is_empty() {
        provider.cipher_suites.clone_from(&options.cipher_suites);
    }
    provider
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain("certificate authorities", path)? {
        roots.add(certificate).map_err(|why| file("certificate authorities", path, why))?;
    }
    Ok(roots)
}

fn chain(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|why| file(what, path, why))?;
    if certificates.is_empty() {
        return Err(file(what, path, "there is no certificate in this file"));
    }
    Ok(certificates)
}

/// When the first certificate of a file ends.
pub(super) fn end_of(path: &Path) -> Option<Timestamp> {
    let chain = chain("certificate", path).ok()?;
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

fn certified(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = chain("certificate", &files.certificate)?;
    // The error may quote what it could not read, so only its kind is told.
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|why| match why {
        rustls::pki_types::pem::Error::Io(why) => file("private key", &files.key, why),
        _ => file("private key", &files.key, "there is no private key in this file that can be read"),
    })?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|why| {
        file(
            "private key",
            &files.key,
            format!("it does not serve with {}: {why}", files.certificate.display()),
        )
    })?;
    Ok(Arc::new(key))
}

/// Several certificates, of which a client is shown the first that it can use.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let can_use = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |key: &&Arc<CertifiedKey>| {
            let certificate =
                key.end_entity_cert().ok().and_then(|der| ParsedCertificate::try_from(der).ok());
            match (&name, certificate) {
                (Some(name), Some(certificate)) => verify_server_name(&certificate, name).is_ok(),
                _ => false,
            }
        };
        let usable = || self.0.iter().filter(can_use);
        usable().find(is_for).or_else(|| usable().next()).or_else(|| self.0.first()).cloned()
    }
}
