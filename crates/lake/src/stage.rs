//! Files in S3 on their way into a warehouse that fetches them there.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use object_store::aws::AwsCredentialProvider;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tributary_flow::{FileStage, StageKeys, StagedFile};
use tributary_model::{Error, ErrorKind, Result};

use crate::location::Location;
use crate::parquet_file::write_batch;
use crate::upload::Upload;

/// A prefix of a bucket in S3.
pub struct S3Stage {
    place: Location,
    keys: AwsCredentialProvider,
}

impl S3Stage {
    /// The prefix `s3://bucket/prefix`. Credentials and endpoint come from AWS's usual environment
    /// variables.
    ///
    /// # Errors
    /// It is no place in S3, or the environment lacks what is needed.
    pub fn new(address: &str) -> Result<Self> {
        if !address.starts_with("s3://") {
            return Err(
                Error::new(ErrorKind::Usage, "files can be staged in S3 only")
                    .on("place", address)
                    .remedy("name a prefix of a bucket, s3://bucket/prefix"),
            );
        }
        let (place, keys) = Location::s3_with_keys(address)?;
        Ok(Self { place, keys })
    }

    fn below(&self, path: &str) -> Location {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.fold(self.place.clone(), |place, part| place.child(part))
    }
}

#[async_trait]
impl FileStage for S3Stage {
    fn address(&self) -> String {
        let bucket = self.place.root_address();
        match self.place.path().as_ref() {
            "" => bucket.to_owned(),
            path => format!("{bucket}/{path}"),
        }
    }

    fn begin(&self, path: &str, schema: SchemaRef) -> Result<Box<dyn StagedFile>> {
        let place = self.below(path);
        let upload = Upload::begin(&place, place.path())?;
        // What every reader of Parquet knows.
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let writer = ArrowWriter::try_new(upload, schema, Some(properties)).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot lay out a Parquet file").because(error)
        })?;
        Ok(Box::new(ParquetStage { writer }))
    }

    async fn remove(&self, directory: &str, age: Duration) -> Result<()> {
        let now = chrono::Utc::now();
        for object in self.below(directory).list().await? {
            let old = (now - object.last_modified).to_std().unwrap_or_default() >= age;
            if old {
                self.place.remove(&object.location).await?;
            }
        }
        Ok(())
    }

    async fn keys(&self) -> Result<StageKeys> {
        let keys = self.keys.get_credential().await;
        let keys = keys.map_err(|error| self.place.failed("there are no keys", error))?;
        Ok(StageKeys {
            id: keys.key_id.clone(),
            secret: keys.secret_key.clone(),
            token: keys.token.clone(),
        })
    }
}

/// A Parquet file on its way.
struct ParquetStage {
    writer: ArrowWriter<Upload>,
}

impl StagedFile for ParquetStage {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        write_batch(&mut self.writer, batch)
    }

    fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        if let Err(error) = self.writer.finish() {
            return Err(self.writer.inner_mut().explain(error));
        }
        self.writer.inner_mut().finish()
    }
}
