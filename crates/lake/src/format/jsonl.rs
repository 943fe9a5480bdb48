//! JSON lines: each document as it is, in Extended JSON, on a line of its own.

use std::io::Write as _;

use object_store::path::Path;
use tributary_convert::extjson::{self, Mode};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use crate::format::JsonMode;
use crate::location::Location;
use crate::parquet_file::DataFile;
use crate::upload::Upload;

/// A file of JSON lines being written.
pub(crate) struct JsonlFile {
    name: String,
    mode: Mode,
    upload: Upload,
    line: Vec<u8>,
    size: usize,
    rows: u64,
}

impl JsonlFile {
    pub(crate) fn begin(table: &Location, name: String, mode: JsonMode) -> Result<Self> {
        let path: Path = table.path().clone().join(name.as_str());
        let mode = match mode {
            JsonMode::Canonical => Mode::Canonical,
            JsonMode::Relaxed => Mode::Relaxed,
        };
        Ok(Self {
            name,
            mode,
            upload: Upload::begin(table, &path)?,
            line: Vec::new(),
            size: 0,
            rows: 0,
        })
    }

    pub(crate) fn write(&mut self, document: &[u8]) -> Result<()> {
        self.line.clear();
        extjson::write_document(&mut self.line, document, self.mode)
            .map_err(|e| Error::new(ErrorKind::InvalidData, "a document is not BSON").because(e))?;
        self.line.push(b'\n');
        if let Err(error) = self.upload.write_all(&self.line) {
            return Err(self.upload.explain(error));
        }
        self.size += self.line.len();
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn finish(mut self) -> Result<DataFile> {
        let size = self.upload.finish()?;
        Ok(DataFile {
            name: self.name,
            size,
            rows: self.rows,
            schema: TableSchema::default(),
            stats: None,
        })
    }
}
