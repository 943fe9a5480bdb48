//! Raw BSON documents into Arrow columns, with a schema that grows while reading.
//!
//! Each field of a document has a slot in a document column; a slot's values widen in
//! place when a value of another type arrives, so nothing is read twice and nothing is sampled.

mod column;
mod document;
mod rescue;
pub(crate) mod scalar;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::error::ArrowError;
use tributary_model::{ColumnType, TableSchema};

use crate::arrow_schema::{Naming, table_schema};
use crate::raw::MalformedBson;
use column::Column;
use document::DocumentColumn;
use rescue::Rescuer;

/// Rows decoded since the last [`Decoder::finish`], as one record batch.
#[derive(Debug)]
pub struct DecodedBatch {
    /// The columns as laid out by `schema`, and `_rescued_data` last.
    pub batch: RecordBatch,
    /// The settled schema that the columns were written under.
    pub schema: TableSchema,
    /// How many values went to `_rescued_data`.
    pub rescued: u64,
}

/// Decodes documents into columns. Keeps its schema, and the order in which fields are expected,
/// from batch to batch.
#[derive(Debug)]
pub struct Decoder {
    root: DocumentColumn,
    rescuer: Rescuer,
    /// What was known from the beginning, of a schema that is kept.
    kept: TableSchema,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(&TableSchema::default())
    }
}

impl Decoder {
    /// A decoder that starts from what is known of the collection already.
    #[must_use]
    pub fn new(schema: &TableSchema) -> Self {
        Self {
            root: DocumentColumn::from_columns(&schema.columns, column::Place::Root),
            rescuer: Rescuer::default(),
            kept: TableSchema::default(),
        }
    }

    /// A decoder whose columns stay those of `schema`, of the types they have: what they do not hold
    /// goes to `_rescued_data`.
    #[must_use]
    pub fn keeping(schema: &TableSchema) -> Self {
        Self {
            rescuer: Rescuer::keeping_schema(),
            kept: schema.clone(),
            ..Self::new(&schema.settled())
        }
    }

    /// Where values did not fit the schema that is kept, as JSON Pointers with `*` for the places in
    /// arrays, and the types that they have: since the last call, and of a limited number of paths.
    pub fn take_misfits(&mut self) -> BTreeMap<String, ColumnType> {
        self.rescuer.take_misfits()
    }

    /// Appends one document as a row.
    ///
    /// # Errors
    /// The document's bytes are not BSON. The decoder is then not to be used again.
    #[inline]
    pub fn append(&mut self, document: &[u8]) -> Result<(), MalformedBson> {
        self.root.append(document, &mut self.rescuer)?;
        self.rescuer.end_row();
        Ok(())
    }

    /// How many rows have been appended since the last [`finish`](Self::finish).
    #[must_use]
    pub fn rows(&self) -> usize {
        self.root.rows()
    }

    /// All that is known of the collection's schema: that of every document appended so far and
    /// the one started from.
    #[must_use]
    pub fn schema(&self) -> TableSchema {
        let own = TableSchema {
            columns: self.root.schema(),
        };
        if self.rescuer.keeps_schema {
            // Also the columns that have no type yet, and those that are text for want of one.
            return self.kept.join(&own);
        }
        own
    }

    /// Takes over what has been learnt elsewhere, so that the batches to come are written under
    /// the joined schema. Only between batches, when no row is pending.
    pub fn learn(&mut self, schema: &TableSchema) {
        debug_assert_eq!(self.rows(), 0, "a schema is learnt between batches");
        let known = self.schema();
        let joined = known.join(schema);
        if joined != known {
            self.root = DocumentColumn::from_columns(&joined.columns, column::Place::Root);
        }
    }

    /// The rows since the last call as a record batch. The decoder goes on with the same schema.
    ///
    /// # Errors
    /// The columns do not make a record batch: a bug.
    pub fn finish(&mut self, naming: Naming) -> Result<DecodedBatch, ArrowError> {
        let rows = self.root.rows();
        let schema = self.schema().settled();
        let mut columns: Vec<ArrayRef> = self.root.finish_children(naming);
        let (rescued_rows, rescued) = self.rescuer.finish(rows);
        columns.push(Arc::new(StringArray::from(rescued_rows)));
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(table_schema(&schema, naming), columns, &options)?;
        Ok(DecodedBatch {
            batch,
            schema,
            rescued,
        })
    }
}

/// One column decoded from single values: what [`crate::recast`] needs.
#[derive(Debug)]
pub(crate) struct ValueDecoder {
    column: Column,
    rescuer: Rescuer,
}

impl ValueDecoder {
    pub(crate) fn new(column_type: &tributary_model::ColumnType) -> Self {
        Self {
            column: Column::from_type(column_type, column::Place::Nested { depth: 1 }),
            rescuer: Rescuer::default(),
        }
    }

    pub(crate) fn append(&mut self, kind: u8, value: &[u8]) -> Result<(), MalformedBson> {
        let element = crate::raw::RawElement {
            kind,
            name: b"",
            value,
        };
        self.column
            .append(&element, rescue::At::Field, &mut self.rescuer)?;
        self.rescuer.end_row();
        Ok(())
    }

    pub(crate) fn append_null(&mut self) {
        self.column.append_nulls(1);
    }

    /// The array, and its type as settled.
    pub(crate) fn finish(&mut self) -> (tributary_model::ColumnType, ArrayRef) {
        let settled = self.column.column_type().settled();
        (settled, self.column.finish(Naming::Logical))
    }
}
