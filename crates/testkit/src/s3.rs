//! An S3 server: moto, in a Python environment of its own.

use std::{env, process::Command, time::Duration};

use crate::{
    env as names,
    error::{Context, Result, TestkitError},
    http,
    process::{Process, Scratch, loopback, with_free_port},
    python::python_venv,
};

/// Everything moto's S3 needs and no other service's dependencies; all pinned, because moto itself pins nothing.
const REQUIREMENTS: &str = include_str!("../requirements/s3.txt");

/// An S3 server that keeps its objects in memory. It accepts any credentials.
#[derive(Debug)]
pub struct S3Server {
    endpoint: String,
    process: Option<(Process, Scratch)>,
}

impl S3Server {
    /// Starts a server of its own, installing it first if need be.
    ///
    /// # Errors
    /// Python is missing, or the server does not answer in time.
    pub async fn start() -> Result<Self> {
        let python = tokio::task::spawn_blocking(|| {
            let requirements: Vec<&str> = REQUIREMENTS.lines().collect();
            python_venv("s3", &requirements)
        })
        .await
        .context(|| "cannot install the S3 server".to_owned())??;
        let python = &python;
        with_free_port(|port| async move {
            let scratch = Scratch::new()?;
            let mut command = Command::new(python);
            command.args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ]);
            let mut process =
                Process::start("the S3 server", command, &scratch.path().join("s3.log"))?;
            process
                .wait_until("answering", Duration::from_secs(60), || async {
                    let (status, _) = http::request(loopback(port), "GET", "/moto-api/", &[])
                        .await
                        .ok()?;
                    (status == 200).then_some(())
                })
                .await?;
            Ok(Self {
                endpoint: format!("http://127.0.0.1:{port}"),
                process: Some((process, scratch)),
            })
        })
        .await
    }

    /// The server of `testkit run --s3`, or one of its own outside of it.
    ///
    /// # Errors
    /// As [`S3Server::start`].
    pub async fn shared() -> Result<Self> {
        match env::var(names::S3_ENDPOINT) {
            Ok(endpoint) => Ok(Self {
                endpoint,
                process: None,
            }),
            Err(_) => Self::start().await,
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Process id, unless the server is shared.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|(process, _)| process.pid())
    }

    /// Creates an empty bucket.
    ///
    /// # Errors
    /// The server refuses the name.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        let address = http::address_of(&self.endpoint)?;
        match http::request(address, "PUT", &format!("/{name}"), &[]).await? {
            (200, _) => Ok(()),
            (_, response) => Err(TestkitError::new(format!(
                "cannot create the bucket {name}: {response}"
            ))),
        }
    }

    /// The environment variables with which an S3 client reaches this server.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", "testkit"),
            ("AWS_SECRET_ACCESS_KEY", "testkit"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ALLOW_HTTP", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}
