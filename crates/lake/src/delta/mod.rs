//! Delta tables: their definition and statistics, their log, and commits to it.

pub(crate) mod decisions;
pub(crate) mod definition;
pub(crate) mod deletion_vector;
pub(crate) mod follow;
pub(crate) mod gaps;
pub(crate) mod log;
pub(crate) mod manifest;
pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod table;
