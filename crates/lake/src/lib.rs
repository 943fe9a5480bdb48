//! The lake adapter, and the only user of Delta, DataFusion and object stores: loading
//! collections into tables and files, and querying the tables.

mod delta;
mod error;
mod format;
mod load;
mod location;
mod parquet_file;
mod sql;
mod upload;

pub use format::{Format, JsonMode};
pub use load::{FileSink, SinkOptions};
pub use location::Location;
pub use sql::{Lake, QueryOutput};
