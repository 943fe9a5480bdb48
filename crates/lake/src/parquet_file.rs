//! Parquet files as the lake has them, and what is known of each when it is closed.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use tributary_model::schema::ColumnType;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use crate::delta::stats;
use crate::location::Location;
use crate::upload::Upload;

/// The size at which a file is closed and the next begun.
pub(crate) const FILE_BYTES: usize = 256 << 20;
/// The memory that a row group may take while it is written. Encoded it is smaller: dictionaries
/// are held as they are, and buffers grow ahead.
const ROW_GROUP_MEMORY: usize = 24 << 20;
/// The most rows of a row group: readers plan with about a million.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Readers need no more of a value to skip by it.
const STATISTICS_BYTES: usize = 64;

/// A file that is part of a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DataFile {
    /// Its name below the table.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Rows.
    pub(crate) rows: u64,
    /// The settled schema that it was written under.
    pub(crate) schema: TableSchema,
    /// Statistics as Delta's log has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<String>,
}

/// A Parquet file being written.
pub(crate) struct ParquetFile {
    name: String,
    schema: TableSchema,
    writer: ArrowWriter<Upload>,
    rows: u64,
    /// Some double was NaN, which Parquet's least and greatest values leave out.
    has_nan: bool,
}

impl ParquetFile {
    /// Begins the file `name` below `table`, for batches laid out as `first` is.
    pub(crate) fn begin(
        table: &Location,
        name: String,
        schema: TableSchema,
        first: &RecordBatch,
    ) -> Result<Self> {
        let path: Path = table.path().clone().join(name.as_str());
        let upload = Upload::begin(table, &path)?;
        let writer = ArrowWriter::try_new(upload, first.schema(), Some(properties(&schema)))
            .map_err(|e| {
                Error::new(ErrorKind::Internal, "cannot lay out a Parquet file").because(e)
            })?;
        Ok(Self {
            name,
            schema,
            writer,
            rows: 0,
            has_nan: false,
        })
    }

    pub(crate) fn schema(&self) -> &TableSchema {
        &self.schema
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.has_nan = self.has_nan || batch.columns().iter().any(has_nan);
        write_batch(&mut self.writer, batch)?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// About how large the file is by now.
    pub(crate) fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    pub(crate) fn finish(mut self) -> Result<DataFile> {
        let metadata: ParquetMetaData = match self.writer.finish() {
            Ok(metadata) => metadata,
            Err(error) => return Err(self.writer.inner_mut().explain(error)),
        };
        let size = self.writer.inner_mut().finish()?;
        let stats = stats::of_file(&metadata, self.rows, self.has_nan);
        Ok(DataFile {
            name: self.name,
            size,
            rows: self.rows,
            schema: self.schema,
            stats: Some(stats),
        })
    }
}

/// Appends rows to a file, and closes its row group where that has got large.
pub(crate) fn write_batch(writer: &mut ArrowWriter<Upload>, batch: &RecordBatch) -> Result<()> {
    let written = writer.write(batch).and_then(|()| {
        if writer.memory_size() >= ROW_GROUP_MEMORY {
            writer.flush()
        } else {
            Ok(())
        }
    });
    written.map_err(|error| writer.inner_mut().explain(error))
}

fn properties(schema: &TableSchema) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("tributary version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_column_index_truncate_length(Some(STATISTICS_BYTES))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "tributary.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        )]));
    // A dictionary of values that are all different is built only to be thrown away.
    for (column, name) in schema
        .columns
        .iter()
        .zip(tributary_convert::arrow_schema::column_names(
            &schema.columns,
            true,
        ))
    {
        let unique = column.field == "_id"
            || matches!(
                column.column_type,
                ColumnType::ObjectId | ColumnType::Double { .. } | ColumnType::Decimal(_)
            );
        if unique && !column.column_type.is_nested() {
            properties =
                properties.set_column_dictionary_enabled(ColumnPath::new(vec![name]), false);
        }
    }
    properties.build()
}

fn has_nan(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .any(|v| v.is_nan()),
        DataType::Struct(_) => array.as_struct().columns().iter().any(has_nan),
        // Items of lists have no statistics.
        _ => false,
    }
}
