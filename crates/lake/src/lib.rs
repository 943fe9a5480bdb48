//! The lake adapter, and the only user of Delta, DataFusion and object stores: loading
//! collections into tables and files, keeping the tables current, querying them, and writing changes as files.

mod attached;
mod bucket;
mod change_files;
mod delta;
mod error;
mod external;
mod feed;
mod format;
mod index;
mod load;
mod location;
mod parquet_file;
mod result_table;
mod schemas;
mod sql;
mod stage;
mod stored_file;
mod sync;
mod upload;
mod verify;

pub use bucket::{AccessLogs, Bucket, BucketSettings, Encryption, Setting, Versioning};
pub use change_files::{ChangeFiles, ChangeFilesOptions};
pub use external::{ExternalEngine, ExternalTable, external_tables};
pub use feed::LakeFeed;
pub use format::{Format, JsonMode};
pub use load::{FileSink, SinkOptions, WholeCopy};
pub use location::Location;
pub use result_table::WrittenResult;
pub use schemas::LakeSchemas;
pub use sql::{Lake, QueryOutput};
pub use stage::S3Stage;
pub use sync::{HISTORY_SUFFIX, SyncOptions, SyncSink, UpkeepOptions};
pub use verify::LakeTables;
