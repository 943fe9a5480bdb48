//! Certificates for servers that require TLS.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::error::{Context, Result};

/// A certificate authority, and the server's and a client's certificate signed by it.
#[derive(Debug)]
pub struct Tls {
    ca: PathBuf,
    server: PathBuf,
    client: PathBuf,
}

impl Tls {
    pub(crate) fn generate(directory: &Path) -> Result<Self> {
        let files = Self {
            ca: directory.join("ca.pem"),
            server: directory.join("server.pem"),
            client: directory.join("client.pem"),
        };
        files
            .write()
            .context(|| format!("cannot make certificates in {}", directory.display()))?;
        Ok(files)
    }

    fn write(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut params = CertificateParams::new([])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Tributary test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(&self.ca, ca.pem())?;
        for (path, name) in [(&self.server, "server"), (&self.client, "client")] {
            let mut params =
                CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
            params
                .distinguished_name
                .push(DnType::OrganizationName, "Tributary");
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, name);
            params.distinguished_name.push(DnType::CommonName, name);
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyEncipherment,
            ];
            // The members of a replica set are each other's clients.
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &ca)?;
            fs::write(path, certificate.pem() + &key.serialize_pem())?;
            // Some servers refuse a key that others can read.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    }

    /// The authority's certificate, PEM: what a client needs (`tlsCAFile`, `sslrootcert`).
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The server's certificate and key, PEM.
    pub fn server_certificate_key_file(&self) -> &Path {
        &self.server
    }

    /// A client's certificate and key, PEM (`tlsCertificateKeyFile`). The servers do not ask for one.
    pub fn client_certificate_key_file(&self) -> &Path {
        &self.client
    }
}
