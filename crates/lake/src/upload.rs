//! Files written from threads that block, into any object store.

use std::io;

use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};
use tokio::runtime::Handle;
use tributary_flow::Failpoint;
use tributary_model::{Error, ErrorKind, Result};

use crate::location::Location;

/// The size of one part of an upload: S3 wants at least 5 MiB, and files end long before its limit
/// of 10,000 parts.
const PART: usize = 5 << 20;
/// Parts on their way at once.
const IN_FLIGHT: usize = 2;

/// A file that appears as a whole when it is finished.
///
/// `write` blocks while too much is on its way, so it is called on a blocking thread only.
pub(crate) struct Upload {
    parts: Option<WriteMultipart>,
    runtime: Handle,
    place: Location,
    path: Path,
    written: u64,
    failure: Option<object_store::Error>,
}

impl Upload {
    /// Begins to write the file `path` in the store of `place`.
    pub(crate) fn begin(place: &Location, path: &Path) -> Result<Self> {
        let runtime = Handle::current();
        let upload = runtime
            .block_on(place.root().put_multipart(path))
            .map_err(|e| place.failed("cannot write a file", e))?;
        let parts = WriteMultipart::new_with_chunk_size(upload, PART);
        Ok(Self {
            parts: Some(parts),
            runtime,
            place: place.clone(),
            path: path.clone(),
            written: 0,
            failure: None,
        })
    }

    /// Makes the file durable and visible under its name; answers its size.
    pub(crate) fn finish(&mut self) -> Result<u64> {
        let parts = self
            .parts
            .take()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "an upload ended twice"))?;
        Failpoint::UploadUnfinished.hit();
        self.runtime
            .block_on(parts.finish())
            .map_err(|e| self.place.failed("cannot write a file", e))?;
        if self.place.is_local() {
            self.sync()?;
        }
        Ok(self.written)
    }

    /// Sees to it that the file outlives a crash of the machine, as an object store does by itself.
    fn sync(&self) -> Result<()> {
        let path = format!("/{}", self.path);
        std::fs::File::open(&path)
            .and_then(|file| file.sync_data())
            .map_err(|error| {
                Error::new(ErrorKind::Storage, "cannot write a file")
                    .on("file", path)
                    .because(error)
            })
    }

    /// The error of a failed `write`: the store's own, where there is one.
    pub(crate) fn explain(
        &mut self,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        match self.failure.take() {
            Some(failure) => self.place.failed("cannot write a file", failure),
            None => Error::new(ErrorKind::Internal, "cannot encode a file")
                .on("target", &self.place)
                .because(error),
        }
    }
}

impl io::Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let parts = self.parts.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        if let Err(error) = self.runtime.block_on(parts.wait_for_capacity(IN_FLIGHT)) {
            let text = error.to_string();
            self.failure = Some(error);
            return Err(io::Error::other(text));
        }
        parts.write(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            // An unfinished upload is no file. What a store keeps of it is removed as far as it
            // can be reached; nothing depends on it.
            let abort = async move {
                let _ = parts.abort().await;
            };
            self.runtime.spawn(abort);
        }
    }
}
