//! What programs are told of the objects that their run is for.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;
use tributary_model::{Error, ErrorKind, Result};

use crate::objects::CreatedObject;

/// The longest text that is put into a variable: Linux starts no program with one of more than 128 KiB.
const LONGEST_VARIABLE: usize = 100_000;

/// The objects that a run is for. Those who ask for them find them in a file, until this is dropped.
pub(super) struct ObjectsOfRun {
    objects: Vec<CreatedObject>,
    file: PathBuf,
    /// What has been written to the file.
    text: OnceCell<String>,
}

impl ObjectsOfRun {
    /// Those of a run whose state is in `directory`.
    pub(super) fn new(directory: &Path, run: &str, objects: Vec<CreatedObject>) -> Self {
        Self {
            objects,
            file: directory.join("objects").join(format!("{run}.json")),
            text: OnceCell::new(),
        }
    }

    /// The variables for a program: the file, and what is in it where a variable has room for it.
    pub(super) async fn variables(&self) -> Result<Vec<(&'static str, String)>> {
        if self.objects.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.text.get_or_try_init(|| self.write()).await?;
        // The program runs in a directory of its own.
        let file = std::path::absolute(&self.file).map_err(|error| self.failed(error))?;
        let mut variables = vec![("TRIBUTARY_OBJECTS_FILE", file.display().to_string())];
        if text.len() <= LONGEST_VARIABLE {
            variables.push(("TRIBUTARY_OBJECTS", text.clone()));
        }
        Ok(variables)
    }

    async fn write(&self) -> Result<String> {
        let text = serde_json::to_string(&self.objects).map_err(|error| self.failed(error))?;
        let file = self.file.clone();
        let writing = tokio::task::spawn_blocking(move || {
            write(&file, text.as_bytes())?;
            Ok(text)
        });
        let written: io::Result<String> = writing.await.unwrap_or_else(|panic| Err(panic.into()));
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::new(
            ErrorKind::Storage,
            "cannot write down the objects that a run is for",
        )
        .on("file", self.file.display())
        .because(error)
        .remedy("see that the disk has room, and that the directory of the state can be written")
    }
}

impl Drop for ObjectsOfRun {
    fn drop(&mut self) {
        // Also what a process before has left. What stays is written anew when the run is gone on with.
        if !self.objects.is_empty() {
            std::fs::remove_file(&self.file).ok();
        }
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    File::create(path)?.write_all(text)
}
