//! Delta tables that follow collections: every batch of changes is one commit, whose cost is that
//! of the changes.
//!
//! A row that is replaced or deleted is marked in its file's deletion vector, and the new row is
//! appended; where a key's row is, the key index tells ([`places`]). A column that widens has its
//! files written again ([`widen`]).

mod places;
mod table;
pub(crate) mod widen;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tributary_flow::{ChangeSink, ChangeTable};
use tributary_model::{Namespace, Result};

use crate::delta::follow::LiveTable;
use crate::load::state::Lock;
use crate::location::Location;
use places::Places;
use table::FollowedTable;

/// How tables follow their collections.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// The directory of this machine that holds the key indexes: a cache, built anew where it is
    /// missing.
    pub index: PathBuf,
}

/// A lake whose tables follow collections.
#[derive(Debug, Clone)]
pub struct SyncSink {
    lake: Location,
    options: SyncOptions,
    /// The collections whose tables are not to be replaced any more; none where none ever was.
    replaced: Option<Arc<Mutex<HashSet<Namespace>>>>,
}

impl SyncSink {
    /// A sink for the tables below `lake`.
    #[must_use]
    pub fn new(lake: Location, options: SyncOptions) -> Self {
        Self {
            lake,
            options,
            replaced: None,
        }
    }

    /// The same, but every collection seems to have no table when it is opened first, so that it
    /// is loaded anew.
    #[must_use]
    pub fn replacing(self) -> Self {
        Self {
            replaced: Some(Arc::default()),
            ..self
        }
    }

    fn is_to_be_replaced(&self, collection: &Namespace) -> bool {
        self.replaced.as_ref().is_some_and(|replaced| {
            // Nothing that can panic runs while it is held.
            let mut replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner);
            replaced.insert(collection.clone())
        })
    }

    fn place(&self, collection: &Namespace) -> Location {
        self.lake
            .child(&collection.database)
            .child(&collection.collection)
    }

    async fn followed(&self, live: LiveTable, lock: Option<Lock>) -> Result<FollowedTable> {
        let places = Places::open(&self.options.index, &live).await?;
        let mut table = FollowedTable::new(live, places, lock);
        table.find_rows().await?;
        Ok(table)
    }
}

#[async_trait]
impl ChangeSink for SyncSink {
    async fn open(&self, collection: &Namespace) -> Result<Option<Box<dyn ChangeTable>>> {
        if self.is_to_be_replaced(collection) {
            return Ok(None);
        }
        let place = self.place(collection);
        let Some(live) = LiveTable::open(&place).await? else {
            return Ok(None);
        };
        let lock = Lock::of(&place)?;
        Ok(Some(Box::new(self.followed(live, lock).await?)))
    }
}
