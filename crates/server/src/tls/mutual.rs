//! TLS between servers: both show a certificate, and the handshake comes before everything else.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{HandshakeError, TlsError, config, is_pinned};
use crate::options::TlsOptions;

/// TLS between servers, made from options and files.
#[derive(Debug)]
pub(crate) struct MutualTls {
    server: Arc<ServerConfig>,
    client: ClientTls,
}

/// TLS with a server that is dialled, made from options and files.
#[derive(Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    timeout: Duration,
    pinned: Vec<[u8; 32]>,
}

impl MutualTls {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should, or nobody says whose certificates are good.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let options = &TlsOptions { verify: true, ..options.clone() };
        Ok(Self { server: Arc::new(config::server(options)?), client: ClientTls::new(options)? })
    }

    /// The handshake with a server that has come.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let accept = TlsAcceptor::from(self.server.clone()).accept(stream);
        self.client.finish(timeout(self.client.timeout, accept).await.map(|done| done.map(TlsStream::from)))
    }

    /// The handshake with a server that was dialled, which must be called so.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        self.client.connect(host, stream).await
    }
}

impl ClientTls {
    /// Reads the files that the options name. Without authorities, the system's are good.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        Ok(Self {
            config: Arc::new(config::client(options)?),
            timeout: options.timeout,
            pinned: options.pinned.clone(),
        })
    }

    /// The handshake with a server that must be called so.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|why| HandshakeError::Tls(std::io::Error::other(why)))?;
        let connect = TlsConnector::from(self.config.clone()).connect(name, stream);
        self.finish(timeout(self.timeout, connect).await.map(|done| done.map(TlsStream::from)))
    }

    fn finish(
        &self,
        done: Result<std::io::Result<TlsStream<TcpStream>>, tokio::time::error::Elapsed>,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let stream = done.map_err(|_| HandshakeError::Timeout)?.map_err(HandshakeError::Tls)?;
        let shown: &[CertificateDer<'_>] = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if is_pinned(&self.pinned, shown) { Ok(stream) } else { Err(HandshakeError::NotPinned) }
    }
}
