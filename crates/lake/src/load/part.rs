//! Writing the files of one partition.

use std::sync::Arc;

use tokio::runtime::Handle;
use tributary_convert::{Decoder, Naming};
use tributary_flow::{DocumentBatch, Failpoint, Partition, PartitionTotals, PartitionWriter};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::Inner;
use super::state::Receipt;
use crate::format::jsonl::JsonlFile;
use crate::format::{Format, JsonMode};
use crate::parquet_file::{DataFile, FILE_BYTES, ParquetFile};

/// How much BSON is decoded before it goes into a file: large enough that most of a collection's
/// variety is seen before the first file is begun, and small enough that several fit into memory.
const BATCH_BYTES: u64 = 4 << 20;
/// The most rows decoded at once.
const BATCH_ROWS: usize = 64 << 10;

/// What the writers of all formats have in common.
struct Part {
    inner: Arc<Inner>,
    partition: u32,
    files: Vec<DataFile>,
    totals: PartitionTotals,
    begun: usize,
}

impl Part {
    fn new(inner: Arc<Inner>, partition: &Partition) -> Self {
        Self {
            inner,
            partition: partition.index,
            files: Vec::new(),
            totals: PartitionTotals::default(),
            begun: 0,
        }
    }

    fn next_name(&mut self, extension: &str) -> String {
        let name = format!(
            "part-{:05}-{}-c{:03}.{extension}",
            self.partition, self.inner.plan.load, self.begun
        );
        self.begun += 1;
        name
    }

    fn finish(self, schema: TableSchema) -> Result<PartitionTotals> {
        let Self {
            inner,
            partition,
            files,
            totals,
            ..
        } = self;
        let receipt = Receipt {
            load: inner.plan.load.clone(),
            partition,
            totals,
            schema,
            files,
        };
        Failpoint::PartitionWritten.hit();
        Handle::current().block_on(inner.places.state.write_receipt(&receipt))?;
        Failpoint::ReceiptWritten.hit();
        inner.record(receipt);
        Ok(totals)
    }

    fn abandon(self) {
        let data = &self.inner.places.data;
        for file in &self.files {
            let path = data.path().clone().join(file.name.as_str());
            // What cannot be removed now is removed when the load goes on or ends.
            let _ = Handle::current().block_on(data.remove(&path));
        }
    }
}

/// Writes documents as typed columns into Parquet files: a new file is begun when one is large
/// enough, and when the schema has changed.
pub(super) struct ParquetPart {
    part: Part,
    decoder: Decoder,
    /// Bytes decoded since the last batch.
    pending: u64,
    file: Option<ParquetFile>,
    /// The version of the shared schema that the decoder has learnt.
    version: u64,
    naming: Naming,
}

impl ParquetPart {
    pub(super) fn new(inner: Arc<Inner>, partition: &Partition) -> Self {
        let (schema, version) = {
            let progress = inner.progress();
            (progress.schema.clone(), progress.version)
        };
        let naming = if inner.format == Format::Delta {
            Naming::Physical
        } else {
            Naming::Logical
        };
        Self {
            part: Part::new(inner, partition),
            decoder: Decoder::new(&schema),
            pending: 0,
            file: None,
            version,
            naming,
        }
    }

    /// Writes the decoded rows, and shares what was learnt.
    fn flush(&mut self) -> Result<u64> {
        self.pending = 0;
        if self.decoder.rows() == 0 {
            return Ok(0);
        }
        let decoded = self.decoder.finish(self.naming).map_err(|e| {
            Error::new(ErrorKind::Internal, "decoded columns do not fit together").because(e)
        })?;
        if let Some(file) = &self.file
            && (!file.schema().has_layout_of(&decoded.schema) || file.size() >= FILE_BYTES)
        {
            self.close()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let name = self.part.next_name("zstd.parquet");
                let data = &self.part.inner.places.data;
                self.file.insert(ParquetFile::begin(
                    data,
                    name,
                    decoded.schema,
                    &decoded.batch,
                )?)
            }
        };
        file.write(&decoded.batch)?;
        self.exchange();
        Ok(decoded.rescued)
    }

    /// Shares what this decoder has learnt, and learns what others have.
    fn exchange(&mut self) {
        let own = self.decoder.schema();
        let mut progress = self.part.inner.progress();
        let joined = progress.schema.join(&own);
        if joined != progress.schema {
            progress.schema = joined;
            progress.version += 1;
        }
        if progress.version != self.version {
            self.version = progress.version;
            if progress.schema != own {
                self.decoder.learn(&progress.schema);
            }
        }
    }

    fn close(&mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            self.part.files.push(file.finish()?);
        }
        Ok(())
    }
}

impl PartitionWriter for ParquetPart {
    fn write(&mut self, batch: &DocumentBatch) -> Result<PartitionTotals> {
        let mut more = PartitionTotals::default();
        for document in batch.documents() {
            let document = document?;
            self.decoder.append(document).map_err(|e| {
                Error::new(ErrorKind::InvalidData, "a document is not BSON").because(e)
            })?;
            more.documents += 1;
            more.bytes += document.len() as u64;
            self.pending += document.len() as u64;
            if self.pending >= BATCH_BYTES || self.decoder.rows() >= BATCH_ROWS {
                more.rescued += self.flush()?;
            }
        }
        self.part.totals += more;
        Ok(more)
    }

    fn finish(mut self: Box<Self>) -> Result<PartitionTotals> {
        self.part.totals.rescued += self.flush()?;
        self.close()?;
        let schema = self.decoder.schema();
        self.part.finish(schema)
    }

    fn abandon(self: Box<Self>) {
        drop(self.file);
        self.part.abandon();
    }
}

/// Writes documents as JSON lines.
pub(super) struct JsonlPart {
    part: Part,
    mode: JsonMode,
    file: Option<JsonlFile>,
}

impl JsonlPart {
    pub(super) fn new(inner: Arc<Inner>, partition: &Partition, mode: JsonMode) -> Self {
        Self {
            part: Part::new(inner, partition),
            mode,
            file: None,
        }
    }

    fn close(&mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            self.part.files.push(file.finish()?);
        }
        Ok(())
    }
}

impl PartitionWriter for JsonlPart {
    fn write(&mut self, batch: &DocumentBatch) -> Result<PartitionTotals> {
        let mut more = PartitionTotals::default();
        for document in batch.documents() {
            let document = document?;
            if self
                .file
                .as_ref()
                .is_some_and(|file| file.size() >= FILE_BYTES)
            {
                self.close()?;
            }
            let file = match &mut self.file {
                Some(file) => file,
                None => {
                    let name = self.part.next_name(self.part.inner.format.extension());
                    self.file.insert(JsonlFile::begin(
                        &self.part.inner.places.data,
                        name,
                        self.mode,
                    )?)
                }
            };
            file.write(document)?;
            more.documents += 1;
            more.bytes += document.len() as u64;
        }
        self.part.totals += more;
        Ok(more)
    }

    fn finish(mut self: Box<Self>) -> Result<PartitionTotals> {
        self.close()?;
        self.part.finish(TableSchema::default())
    }

    fn abandon(self: Box<Self>) {
        drop(self.file);
        self.part.abandon();
    }
}
