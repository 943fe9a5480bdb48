//! An Azure Blob server: Azurite's blob service.

use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use crate::{
    cache, env as names,
    error::{Context, Result, TestkitError},
    http,
    service::Service,
};

/// The last version that runs on Node.js 20.
const PACKAGE: &str = "azurite@3.35.0";
const ENTRY: &str = "node_modules/azurite/dist/src/blob/main.js";

/// The account that every Azurite has, with its published key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An Azure Blob server with one account that keeps its blobs in memory.
#[derive(Debug)]
pub struct AzuriteServer {
    service: Service,
    endpoint: String,
}

impl AzuriteServer {
    /// Starts a server of its own, installing it first if need be.
    ///
    /// # Errors
    /// Node.js is missing, or the server does not answer in time.
    pub async fn start() -> Result<Self> {
        let directory = tokio::task::spawn_blocking(install)
            .await
            .context(|| "cannot install the Azure Blob server".to_owned())??;
        let service = Service::start("the Azure Blob server", "/", |port, scratch| {
            let mut command = Command::new("node");
            command.arg(directory.join(ENTRY)).args([
                "--silent",
                "--inMemoryPersistence",
                "--skipApiVersionCheck",
                "--disableTelemetry",
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &port.to_string(),
            ]);
            command.current_dir(scratch);
            command
        })
        .await?;
        Ok(Self {
            endpoint: format!("{}/{ACCOUNT}", service.endpoint()),
            service,
        })
    }

    /// The server of `testkit run --azure`, or one of its own outside of it.
    ///
    /// # Errors
    /// As [`AzuriteServer::start`].
    pub async fn shared() -> Result<Self> {
        match Service::shared(names::AZURE_ENDPOINT) {
            Some(service) => Ok(Self {
                endpoint: service.endpoint().to_owned(),
                service,
            }),
            None => Self::start().await,
        }
    }

    /// `http://127.0.0.1:PORT/ACCOUNT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Process id, unless the server is shared.
    pub fn pid(&self) -> Option<u32> {
        self.service.pid()
    }

    /// Creates an empty container.
    ///
    /// # Errors
    /// The server refuses the name.
    pub async fn create_container(&self, name: &str) -> Result<()> {
        let address = http::address_of(&self.endpoint)?;
        let date = chrono::Utc::now()
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string();
        let version = "2021-12-02";
        // Shared Key: the verb, eleven standard headers (all empty), the x-ms headers, the resource and its query.
        // The account appears twice because this server has it in the path.
        let signed = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        );
        let key = STANDARD.decode(KEY).expect("the published key is Base64");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        let authorization = format!("SharedKey {ACCOUNT}:{}", STANDARD.encode(tag));
        let headers = [
            ("x-ms-date", date.as_str()),
            ("x-ms-version", version),
            ("authorization", &authorization),
        ];
        let path = format!("/{ACCOUNT}/{name}?restype=container");
        match http::request(address, "PUT", &path, &headers).await? {
            (201, _) => Ok(()),
            (_, response) => Err(TestkitError::new(format!(
                "cannot create the container {name}: {response}"
            ))),
        }
    }

    /// The environment variables with which `object_store`, and what is built on it, reaches this server.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY),
            ("AZURE_STORAGE_ENDPOINT", self.endpoint()),
            ("AZURE_ALLOW_HTTP", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

fn install() -> Result<std::path::PathBuf> {
    cache::directory(&PACKAGE.replace('@', "-"), |path| {
        cache::npm_install(path, PACKAGE)
            .context(|| "the Azure Blob server cannot be installed".to_owned())
    })
}
