//! Real servers and faults for tests.
//!
//! A test asks for what it needs: [`Mongod`], [`ReplicaSet`], [`Postgres`], [`S3Server`], [`AzuriteServer`], a stand-in
//! for Amazon [`Redshift`], or a
//! [`FaultProxy`] or [`HttpProxy`] in front of any of them. Servers listen on 127.0.0.1 only, are installed into a cache on first use, and end with the
//! value that represents them, with the process that started them, or with `testkit run`, whichever comes first.
//!
//! A test that only needs *a* server calls `shared()`, and gives its databases, buckets and containers a
//! [`unique_name`]: under `testkit run` all tests then use one server.

#![allow(
    clippy::expect_used,
    reason = "every expect states the invariant that makes it unreachable, and a test that meets one should stop"
)]

mod azurite;
mod cache;
mod error;
mod http;
mod http_proxy;
mod http_receiver;
mod mongod;
mod postgres;
mod process;
mod proxy;
mod python;
mod redshift;
mod replica_set;
mod s3;
mod service;
mod smtp;
mod tls;
mod unprivileged;
mod uri;

pub use azurite::AzuriteServer;
pub use error::{Result, TestkitError};
pub use http_proxy::{Fault, HttpProxy, Request};
pub use http_receiver::{HttpReceiver, ReceivedRequest};
pub use mongod::{Mongod, MongodBuilder, SharedMongod};
pub use postgres::{Postgres, PostgresBuilder, SharedPostgres};
pub use process::{halt, run_in_group, send_signal, spawn, unique_name};
pub use proxy::{FaultProxy, Mode};
pub use python::python_venv;
pub use redshift::{Redshift, RedshiftBuilder};
pub use replica_set::ReplicaSet;
pub use rustix::process::Signal;
pub use s3::S3Server;
pub use smtp::{ReceivedMail, SmtpReceiver};
pub use tls::Tls;

/// Names of the variables by which `testkit run` tells tests about the servers it started.
pub mod env {
    /// Connection string of the shared mongod.
    pub const MONGODB_URI: &str = "TRIBUTARY_TEST_MONGODB_URI";
    /// Endpoint of the shared S3 server, such as `http://127.0.0.1:12345`.
    pub const S3_ENDPOINT: &str = "TRIBUTARY_TEST_S3_ENDPOINT";
    /// Endpoint of the shared Azure Blob server, such as `http://127.0.0.1:12345/devstoreaccount1`.
    pub const AZURE_ENDPOINT: &str = "TRIBUTARY_TEST_AZURE_ENDPOINT";
    /// Connection string of the shared PostgreSQL server's superuser.
    pub const POSTGRES_URI: &str = "TRIBUTARY_TEST_POSTGRES_URI";
    /// Path of the mongod executable to use instead of the one on `PATH` or in the cache.
    pub const MONGOD: &str = "TRIBUTARY_MONGOD";
    /// Directory of the initdb and postgres to use instead of those on `PATH`, of the system or in the cache.
    pub const POSTGRES: &str = "TRIBUTARY_POSTGRES";
}
