//! Rows gathered to batches of bounded size.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::column::{Column, Unreadable, Values};

/// How many bytes of values make a batch: enough that what a batch costs by itself does not count, and
/// few enough that several of them are in memory at once.
const BATCH_BYTES: usize = 4 << 20;
/// How many rows make a batch, as the query's engine has it.
const BATCH_ROWS: usize = 8192;

/// A batch that grows.
pub(super) struct Batch {
    schema: SchemaRef,
    values: Vec<Values>,
    rows: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn new(schema: SchemaRef, columns: &[Column]) -> Self {
        Self {
            schema,
            values: columns
                .iter()
                .map(|column| Values::new(column.read))
                .collect(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Appends a value of a row; none is null.
    pub(super) fn append<V: AsRef<[u8]>>(
        &mut self,
        column: usize,
        value: Option<V>,
        append: impl FnOnce(&mut Values, V) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let values = &mut self.values[column];
        match value {
            None => values.append_null(),
            Some(value) => {
                self.bytes += value.as_ref().len();
                append(values, value)?;
            }
        }
        Ok(())
    }

    /// Ends a row.
    pub(super) fn end_row(&mut self) {
        self.rows += 1;
        // What every value takes beside its bytes.
        self.bytes += self.values.len();
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// What has been gathered, if anything, and room for more.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let columns = self.values.iter_mut().map(Values::finish).collect();
        // A batch without columns has rows as well.
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map(Some)
    }
}
