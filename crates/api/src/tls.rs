//! The server's certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tributary_model::{Error, ErrorKind, Result};

/// The protocols, the preferred one first.
pub(crate) const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads a certificate, with those that lead to its authority, and its key.
///
/// # Errors
/// A file cannot be read or is not what it should be, or the key is another certificate's.
pub(crate) async fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let wrong = |message: &str, path: &Path, remedy: &str| {
        Error::new(ErrorKind::Usage, message)
            .on("file", path.display())
            .remedy(remedy)
    };
    let text = read(certificate, "cannot read the server's certificate").await?;
    let remedy = "it has to be a PEM file: the server's certificate, then those that signed it";
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            wrong("cannot read the server's certificate", certificate, remedy).because(error)
        })?;
    if chain.is_empty() {
        let message = "there is no certificate in the server's certificate file";
        return Err(wrong(message, certificate, remedy));
    }
    let text = read(key, "cannot read the key of the server's certificate").await?;
    // What a PEM parser says of a key might quote it.
    let parsed = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let message = "there is no private key in the key file of the server's certificate";
        wrong(message, key, "it has to be a PEM file, without a password")
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, "cannot set up TLS").because(error))?
        .with_no_client_auth()
        .with_single_cert(chain, parsed)
        .map_err(|error| {
            let message = "cannot use the server's certificate with its key";
            wrong(
                message,
                key,
                "name the key that the certificate was made for",
            )
            .on("certificate", certificate.display())
            .because(error)
        })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn read(path: &Path, failed: &str) -> Result<Vec<u8>> {
    tokio::fs::read(path).await.map_err(|error| {
        Error::new(ErrorKind::Usage, failed)
            .on("file", path.display())
            .because(error)
            .remedy("correct `server.tls` in the configuration, or let this user read the file")
    })
}
