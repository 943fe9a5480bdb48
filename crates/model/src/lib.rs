//! What flows through Tributary: names of collections, changes and positions, table schemas, errors; and patterns
//! of hosts.
//!
//! This crate does no I/O and knows no driver, file format or runtime. Everything else is
//! built on its words.

pub mod change;
pub mod decisions;
pub mod error;
pub mod host;
pub mod namespace;
pub mod schema;
pub mod schema_change;
pub mod widen;

pub use change::{ClusterTime, Gap, GapRemedy, Operation, Position};
pub use decisions::{Decision, Decisions, DescribedTable, OnSchemaChange, SchemaDecision};
pub use error::{Error, ErrorKind, Result};
pub use namespace::Namespace;
pub use schema::{Column, ColumnType, DecimalShape, TableSchema};
pub use schema_change::SchemaChange;
