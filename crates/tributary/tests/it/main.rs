//! The command line against real servers, in one binary.

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
