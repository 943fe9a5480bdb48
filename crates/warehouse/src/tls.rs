//! TLS as libpq has it: `sslmode` and `sslrootcert` of an address.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;
use tributary_model::{Error, ErrorKind, Result};
use url::Url;

/// What an address asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Whether the connection is encrypted.
    pub(crate) mode: SslMode,
    check: Check,
    /// A file of certificates to trust, instead of the system's.
    roots: Option<String>,
}

/// How the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    /// That somebody trusted has signed it.
    Authority,
    /// That, and that it is for the host of the address.
    Full,
}

impl Tls {
    /// Takes what is said of TLS out of an address, which tells the rest.
    pub(crate) fn take(address: &mut Url) -> Result<Self> {
        let (mut mode, mut roots) = (None, None);
        let mut rest = Vec::new();
        for (name, value) in address.query_pairs() {
            match name.as_ref() {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => roots = Some(value.into_owned()),
                _ => rest.push((name.into_owned(), value.into_owned())),
            }
        }
        address.set_query(None);
        if !rest.is_empty() {
            address.query_pairs_mut().extend_pairs(rest);
        }
        // As in libpq, a certificate that is given is also checked.
        let unchecked = match roots {
            Some(_) => Check::Authority,
            None => Check::Nothing,
        };
        let (mode, check) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Check::Nothing),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Check::Nothing),
            Some("require") => (SslMode::Require, unchecked),
            Some("verify-ca") => (SslMode::Require, Check::Authority),
            Some("verify-full") => (SslMode::Require, Check::Full),
            Some(other) => {
                return Err(Error::new(ErrorKind::Usage, "unknown sslmode")
                    .on("sslmode", other)
                    .remedy("use disable, prefer, require, verify-ca or verify-full"));
            }
        };
        Ok(Self { mode, check, roots })
    }

    /// What makes connections so.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |error: rustls::Error| {
            Error::new(ErrorKind::Internal, "cannot prepare TLS").because(error)
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let authority = match self.check {
            Check::Nothing => None,
            Check::Authority | Check::Full => Some(self.authority(&provider)?),
        };
        let verifier: Arc<dyn ServerCertVerifier> = match (self.check, authority) {
            (Check::Full, Some(authority)) => authority,
            (_, authority) => Arc::new(Lenient {
                authority,
                provider,
            }),
        };
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    /// What checks that somebody trusted has signed a certificate for its host.
    fn authority(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let roots = Arc::new(self.trusted()?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Usage, "there is no certificate to trust").because(error)
            })
    }

    fn trusted(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        match self.roots.as_deref() {
            Some(file) if file != "system" => {
                let failed = |why: String| {
                    Error::new(ErrorKind::Usage, "cannot read the certificates to trust")
                        .on("sslrootcert", file)
                        .because(why)
                };
                let found = CertificateDer::pem_file_iter(Path::new(file))
                    .map_err(|error| failed(error.to_string()))?;
                for certificate in found {
                    let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                    store
                        .add(certificate)
                        .map_err(|error| failed(error.to_string()))?;
                }
            }
            _ => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
            }
        }
        Ok(store)
    }
}

/// Checks who has signed a certificate, and not for which host; or nothing at all, and then the
/// connection is encrypted, and the server may be another.
#[derive(Debug)]
struct Lenient {
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = &self.authority else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_libpq_takes_them_to_say() {
        for (query, mode, check) in [
            ("", SslMode::Prefer, Check::Nothing),
            ("?sslmode=disable", SslMode::Disable, Check::Nothing),
            ("?sslmode=require", SslMode::Require, Check::Nothing),
            (
                "?sslmode=require&sslrootcert=ca.pem",
                SslMode::Require,
                Check::Authority,
            ),
            ("?sslmode=verify-ca", SslMode::Require, Check::Authority),
            (
                "?sslmode=verify-full&sslrootcert=system",
                SslMode::Require,
                Check::Full,
            ),
        ] {
            let mut address = Url::parse(&format!("postgres://host/db{query}")).unwrap();
            let tls = Tls::take(&mut address).unwrap();
            assert_eq!((tls.mode, tls.check), (mode, check), "{query}");
            assert_eq!(address.as_str(), "postgres://host/db");
        }
        let mut address = Url::parse("postgres://h/db?sslmode=disable&options=-c%20a").unwrap();
        Tls::take(&mut address).unwrap();
        assert_eq!(address.query(), Some("options=-c+a"));
        let mut wrong = Url::parse("postgres://h/db?sslmode=on").unwrap();
        assert!(Tls::take(&mut wrong).is_err());
    }
}
