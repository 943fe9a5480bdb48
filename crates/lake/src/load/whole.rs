//! A copy as a whole: the loads of all its collections, also when it is begun again.
//!
//! What a load makes visible carries the copy's mark in the same step, so that a copy that was cut short
//! finds which of its collections are complete. A copy that nobody else has a name for is remembered in the
//! lake by `_tributary/copy-….json`, from its first commit until it has ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tributary_model::Result;
use xxhash_rust::xxh3::xxh3_128;

use super::state::{DIRECTORY, Fingerprint, to_json};
use crate::location::Location;

/// Which copy a load is a part of.
#[derive(Debug, Clone)]
pub struct WholeCopy(Known);

#[derive(Debug, Clone)]
enum Known {
    /// By a name.
    Named(String),
    /// By what the lake remembers.
    Remembered(Arc<Remembered>),
}

#[derive(Debug)]
struct Remembered {
    place: Location,
    overwrite: bool,
    record: OnceCell<Record>,
    written: OnceCell<()>,
}

/// What the lake remembers of a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    /// One that replaces is another one than one that does not.
    overwrite: bool,
}

impl WholeCopy {
    /// The copy that others know by this name, which no other copy has.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self(Known::Named(name.into()))
    }

    /// The copy into `lake` with these arguments: the one that was cut short, or a new one.
    #[must_use]
    pub fn with_arguments(lake: &Location, arguments: &str, overwrite: bool) -> Self {
        let name = format!("copy-{:032x}.json", xxh3_128(arguments.as_bytes()));
        Self(Known::Remembered(Arc::new(Remembered {
            place: lake.child(DIRECTORY).child(&name),
            overwrite,
            record: OnceCell::new(),
            written: OnceCell::new(),
        })))
    }

    /// Forgets it: it is complete, or is not to be gone on with.
    ///
    /// # Errors
    /// The lake cannot be written.
    pub async fn end(&self) -> Result<()> {
        match &self.0 {
            Known::Named(_) => Ok(()),
            Known::Remembered(copy) => copy.forget().await,
        }
    }

    /// What marks a load of it.
    pub(super) async fn mark(&self, load: &Fingerprint) -> Result<String> {
        let id = match &self.0 {
            Known::Named(name) => name,
            Known::Remembered(copy) => &copy.record().await?.id,
        };
        let text = [id.as_bytes(), &to_json(load)].join(&0);
        Ok(format!("{:032x}", xxh3_128(&text)))
    }

    /// Has what carries its marks from now on be known again.
    pub(super) async fn remember(&self) -> Result<()> {
        match &self.0 {
            Known::Named(_) => Ok(()),
            Known::Remembered(copy) => copy.remember().await,
        }
    }
}

impl Remembered {
    async fn record(&self) -> Result<&Record> {
        let found = async {
            let bytes = self.place.read().await?;
            let record: Option<Record> =
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(record) = record.filter(|record| record.overwrite == self.overwrite) {
                self.written.set(()).ok();
                return Ok(record);
            }
            Ok(Record {
                id: uuid::Uuid::now_v7().to_string(),
                overwrite: self.overwrite,
            })
        };
        self.record.get_or_try_init(|| found).await
    }

    async fn remember(&self) -> Result<()> {
        let record = self.record().await?;
        let write = || self.place.write(to_json(record));
        self.written.get_or_try_init(write).await.map(drop)
    }

    async fn forget(&self) -> Result<()> {
        self.place.remove(self.place.path()).await?;
        if let Some(directory) = self.place.directory()
            && let Some(directory) = directory.parent()
        {
            // Leaves what others have put there.
            let _ = tokio::fs::remove_dir(directory).await;
        }
        Ok(())
    }
}
