//! TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, Version};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tributary_model::ErrorKind;
use tributary_orchestrator::config::Server;

use super::{Fixture, PATIENCE, server};
use crate::limits::Limits;
use crate::tests::fake::Fake;

/// A certificate of this machine with its key, in files.
struct Files {
    directory: TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let certificate = directory.path().join("certificate.pem");
        let key = directory.path().join("key.pem");
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        Self {
            directory,
            certificate,
            key,
        }
    }

    fn server(&self) -> Server {
        let tls = Some((self.certificate.clone(), self.key.clone()));
        Server { tls, ..server() }
    }

    fn client(&self) -> reqwest::ClientBuilder {
        let pem = std::fs::read(&self.certificate).unwrap();
        let certificate = Certificate::from_pem(&pem).unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE);
        client.tls_certs_only([certificate])
    }
}

#[tokio::test]
async fn with_a_certificate_it_is_served_by_https_alone() {
    let files = Files::new();
    let fixture = Fixture::with(files.server(), Limits::default()).await;
    let address = fixture.served.address();
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");
    let flows = format!("{address}/api/v1/flows");
    let newer = files.client().build().unwrap();
    let response = newer.get(&flows).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_2)
    );
    let older = files.client().http1_only().build().unwrap();
    let response = older.get(&flows).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_11)
    );
    let own = older.post(format!("{address}/api/v1/reload"));
    let own = own.header("origin", &address).send().await.unwrap();
    assert_eq!(own.status(), 200);

    let stranger = fixture.client.get(&flows).send().await;
    assert!(stranger.is_err(), "nobody vouches for the certificate");
    let answer = fixture
        .raw("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(!answer.contains("HTTP"), "{answer}");
}

#[tokio::test]
async fn http2_names_its_server_too() {
    let files = Files::new();
    let fixture = Fixture::with(files.server(), Limits::default()).await;
    let address = fixture.served.address().replace("127.0.0.1", "localhost");
    let client = files.client().build().unwrap();
    let response = client
        .get(format!("{address}/api/v1/flows"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_2)
    );
}

async fn fails(certificate: &Path, key: &Path, parts: &[&str]) {
    let tls = Some((certificate.to_owned(), key.to_owned()));
    let server = Server { tls, ..server() };
    let stop = CancellationToken::new();
    let served = crate::serve(&server, Fake::new(), crate::Outside::default(), stop).await;
    let error = served.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(!text.contains("PRIVATE"), "{text}");
}

#[tokio::test]
async fn a_certificate_or_key_that_cannot_be_used_is_an_error_that_says_why() {
    let files = Files::new();
    let none = files.directory.path().join("none.pem");
    let text = files.directory.path().join("text.pem");
    std::fs::write(&text, "no PEM").unwrap();
    let other = Files::new();
    let (certificate, key) = (&files.certificate, &files.key);
    fails(&none, key, &["none.pem", "No such file", "`server.tls`"]).await;
    fails(certificate, &none, &["none.pem", "No such file"]).await;
    fails(&text, key, &["text.pem", "no certificate", "PEM"]).await;
    fails(certificate, &text, &["text.pem", "no private key", "PEM"]).await;
    fails(
        certificate,
        &other.key,
        &["key.pem", "certificate.pem", "the key that"],
    )
    .await;
}

#[tokio::test]
async fn a_client_that_agrees_on_http2_and_says_nothing_more_is_let_go_of() {
    let files = Files::new();
    let limits = Limits {
        head: Duration::from_secs(3),
        ..Limits::default()
    };
    let fixture = Fixture::with(files.server(), limits).await;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address = fixture.served.address();
    let stream = TcpStream::connect(&address["https://".len()..]).await;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream.unwrap()).await.unwrap();
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said);
    let read = tokio::time::timeout(PATIENCE, read).await;
    let _cut_off = read.expect("the server closes");
}
