//! How far a stream has got, in a file of this machine: the stream itself has no place for it.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tributary_model::{Error, ErrorKind, Position, Result};

/// A file that one process holds.
pub(super) struct Checkpoint {
    path: PathBuf,
    _lock: File,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    position: Position,
}

impl Checkpoint {
    /// Takes the file `<directory>/<name>.json`, which need not be there.
    ///
    /// # Errors
    /// `AlreadyExists`: another process has taken it. `Storage`: the directory cannot be written.
    pub(super) async fn take(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(format!("{name}.json"));
        on_disk(path.clone(), move || {
            let failed = |error| unwritable(&path, error);
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory).map_err(failed)?;
            }
            let lock = File::create(path.with_extension("lock")).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => Ok(Self { path, _lock: lock }),
                Err(TryLockError::WouldBlock) => Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "another process publishes to this stream",
                )
                .on("state", path.display())
                .remedy(
                    "stop it, or where both are to publish give each a directory of its own: --state, or `state` in the file",
                )),
                Err(TryLockError::Error(error)) => Err(failed(error)),
            }
        })
        .await
    }

    /// What was saved last; none where nothing has been.
    pub(super) async fn read(&self) -> Result<Option<Position>> {
        let path = self.path.clone();
        on_disk(path.clone(), move || {
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(unwritable(&path, error)),
            };
            let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| {
                Error::new(ErrorKind::InvalidData, "the position cannot be read")
                    .on("state", path.display())
                    .because(error)
                    .remedy("it was written by another version or damaged: remove it to go on from the present")
            })?;
            Ok(Some(saved.position))
        })
        .await
    }

    /// Makes a position durable.
    pub(super) async fn save(&self, position: &Position) -> Result<()> {
        let saved = Saved {
            position: position.clone(),
        };
        let path = self.path.clone();
        on_disk(path.clone(), move || {
            let bytes = serde_json::to_vec_pretty(&saved).map_err(|error| {
                Error::new(ErrorKind::Internal, "the position is no JSON").because(error)
            })?;
            replace(&path, &bytes).map_err(|error| unwritable(&path, error))
        })
        .await
    }
}

async fn on_disk<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| {
            Err(
                Error::new(ErrorKind::Internal, "a file was not written or read")
                    .on("state", path.display())
                    .because(panic),
            )
        })
}

/// Puts a file in the place of what is there, in one step that outlives a crash of the machine.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, "the position cannot be kept")
        .on("state", path.display())
        .because(error)
        .remedy("make the directory writable for this user, or choose another: --state, or `state` in the file")
}
