//! The command line against real servers, in one binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod check;
mod check_bucket;
mod commands;
mod converge;
mod copy;
mod external;
mod failpoints;
mod formats;
mod health;
mod ingest;
mod metrics;
mod pipeline;
mod publish;
mod readers;
mod redshift;
mod resume;
mod run;
mod running;
mod schema;
mod sql;
mod sql_attached;
mod storage;
mod support;
mod sync;
mod sync_faults;
mod sync_lifecycle;
mod sync_lost;
mod telemetry;
mod verify;
mod warehouse;
mod warehouse_schema;
