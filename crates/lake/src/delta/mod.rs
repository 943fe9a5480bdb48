//! Delta tables: their schema and statistics, and commits to their log.

pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod table;
