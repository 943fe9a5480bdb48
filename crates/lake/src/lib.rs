//! The lake adapter, and the only user of Delta, DataFusion and object stores: loading
//! collections into tables and files, keeping the tables current, and querying them.

mod delta;
mod error;
mod format;
mod index;
mod load;
mod location;
mod parquet_file;
mod sql;
mod stored_file;
mod sync;
mod upload;
mod verify;

pub use format::{Format, JsonMode};
pub use load::{FileSink, SinkOptions};
pub use location::Location;
pub use sql::{Lake, QueryOutput};
pub use sync::{SyncOptions, SyncSink, UpkeepOptions};
pub use verify::LakeTables;
