//! An S3 server, and one of Kinesis: moto, in a Python environment of its own.

use std::process::Command;

use crate::{
    env as names,
    error::{Context, Result, TestkitError},
    http,
    python::python_venv,
    service::Service,
};

/// Starts moto, whose streams of Kinesis lose records where two requests put some at the same moment: a record's
/// number is that of the last one and one more, and is taken without a lock.
const SERVER: &str = "\
import threading
from moto.kinesis.models import Shard

lock = threading.Lock()

def one_at_a_time(method):
    def locked(*arguments, **named):
        with lock:
            return method(*arguments, **named)
    return locked

Shard.put_record = one_at_a_time(Shard.put_record)
Shard.get_records = one_at_a_time(Shard.get_records)

from moto.server import main
main()
";

/// Everything moto's S3 needs and no other service's dependencies; all pinned, because moto itself pins nothing.
const REQUIREMENTS: &str = include_str!("../requirements/s3.txt");

/// An S3 server that keeps its objects in memory. It accepts any credentials.
#[derive(Debug)]
pub struct S3Server {
    service: Service,
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
        let service = Service::start("the S3 server", "/moto-api/", |port, _| {
            let mut command = Command::new(&python);
            command.args(["-c", SERVER, "-H", "127.0.0.1", "-p", &port.to_string()]);
            command
        })
        .await?;
        Ok(Self { service })
    }

    /// The server of `testkit run --s3`, or one of its own outside of it.
    ///
    /// # Errors
    /// As [`S3Server::start`].
    pub async fn shared() -> Result<Self> {
        match Service::shared(names::S3_ENDPOINT) {
            Some(service) => Ok(Self { service }),
            None => Self::start().await,
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        self.service.endpoint()
    }

    /// Process id, unless the server is shared.
    pub fn pid(&self) -> Option<u32> {
        self.service.pid()
    }

    /// Creates an empty bucket.
    ///
    /// # Errors
    /// The server refuses the name.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        let address = http::address_of(self.endpoint())?;
        match http::request(address, "PUT", &format!("/{name}"), &[]).await? {
            (200, _) => Ok(()),
            (_, response) => Err(TestkitError::new(format!(
                "cannot create the bucket {name}: {response}"
            ))),
        }
    }

    /// The names of the objects below a prefix, 1,000 at most.
    ///
    /// # Errors
    /// There is no such bucket.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let address = http::address_of(self.endpoint())?;
        let path = format!("/{bucket}?list-type=2&prefix={prefix}");
        match http::request(address, "GET", &path, &[]).await? {
            (200, listing) => {
                let keys = listing.split("<Key>").skip(1);
                let keys = keys.filter_map(|rest| rest.split("</Key>").next());
                Ok(keys.map(str::to_owned).collect())
            }
            (_, response) => Err(TestkitError::new(format!(
                "cannot list the bucket {bucket}: {response}"
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
