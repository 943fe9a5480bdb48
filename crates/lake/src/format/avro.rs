//! Avro object container files, compressed with deflate: the codec that every reader has.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::errors::AvroError;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer, WriterBuilder};

/// An object container file being written.
pub(crate) struct AvroFile<W: Write> {
    writer: Writer<W, AvroOcfFormat>,
}

impl<W: Write> AvroFile<W> {
    pub(crate) fn begin(out: W, schema: &SchemaRef) -> Result<Self, AvroError> {
        let schema = schema.as_ref().clone();
        let writer = WriterBuilder::new(schema)
            .with_compression(Some(CompressionCodec::Deflate))
            .build::<W, AvroOcfFormat>(out)?;
        Ok(Self { writer })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), AvroError> {
        self.writer.write(batch)
    }

    pub(crate) fn finish(mut self) -> Result<W, AvroError> {
        self.writer.finish()?;
        Ok(self.writer.into_inner())
    }
}
