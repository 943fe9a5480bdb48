//! Files that a sink puts somewhere for its server to fetch.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tributary_model::Result;

/// A place for files on their way into a server.
#[async_trait]
pub trait FileStage: Send + Sync {
    /// Its address, as the server takes it: `s3://bucket/prefix`.
    fn address(&self) -> String;

    /// Begins a Parquet file with batches of `schema`, at `path` below the place.
    ///
    /// Called, as is all that the file is asked, on a thread that may block.
    ///
    /// # Errors
    /// The place cannot be written.
    fn begin(&self, path: &str, schema: SchemaRef) -> Result<Box<dyn StagedFile>>;

    /// Removes the files below `directory` that are at least as old as `age`.
    ///
    /// # Errors
    /// The place cannot be listed, or a file cannot be removed.
    async fn remove(&self, directory: &str, age: Duration) -> Result<()>;

    /// The keys with which the files are written, for a server that is to read with them.
    ///
    /// # Errors
    /// They cannot be had.
    async fn keys(&self) -> Result<StageKeys>;
}

/// A file that is being written.
pub trait StagedFile: Send {
    /// Appends rows.
    ///
    /// # Errors
    /// The place cannot be written.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// About how many bytes it has by now.
    fn size(&self) -> usize;

    /// Makes it visible, and answers its size in bytes.
    ///
    /// # Errors
    /// The place cannot be written.
    fn finish(self: Box<Self>) -> Result<u64>;
}

/// Keys of AWS. They never show in what is told.
#[derive(Clone)]
pub struct StageKeys {
    /// The id of the access key.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// The session token of temporary keys.
    pub token: Option<String>,
}
