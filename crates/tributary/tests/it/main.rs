//! The command line against real servers, in one binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod check;
mod commands;
mod copy;
mod formats;
mod readers;
mod resume;
mod sql;
mod storage;
mod support;
mod sync;
mod sync_faults;
mod verify;
