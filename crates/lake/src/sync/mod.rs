//! Delta tables that follow collections: every batch of changes is one commit, whose cost is that
//! of the changes.
//!
//! A row that is replaced or deleted is marked in its file's deletion vector, and the new row is
//! appended; where a key's row is, the key index tells ([`places`]). In tables for readers that know
//! no deletion vectors its file is written again without it ([`copy_on_write`]). A column that widens
//! has its files written again ([`widen`]). What piles up by all that is put in order beside it
//! ([`upkeep`]): small files and deleted rows ([`compact`]), the log, and files that are no part of
//! the table any more ([`vacuum`]).

mod compact;
mod copy_on_write;
mod history;
mod places;
mod rewrite;
mod table;
#[cfg(test)]
mod tests;
mod upkeep;
pub(crate) mod vacuum;
pub(crate) mod widen;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tributary_flow::{ChangeSink, ChangeTable};
use tributary_model::{Error, ErrorKind, Namespace, OnSchemaChange, Result};

use crate::delta::follow::LiveTable;
use crate::load::state::Lock;
use crate::location::Location;
use crate::schemas;
use copy_on_write::is_switched;
use history::{HistoryTable, is_history};
use places::Places;
pub(crate) use places::keys_of_batch;
use table::FollowedTable;
pub use upkeep::UpkeepOptions;
pub(crate) use upkeep::checkpoint;
use upkeep::{Joining, Upkeep};

/// What the name of the table of every version ends in.
pub const HISTORY_SUFFIX: &str = "__history";

/// How tables follow their collections.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// The directory of this machine that holds the key indexes: a cache, built anew where it is
    /// missing.
    pub index: PathBuf,
    /// How long files that are no part of a table any more are kept, for those who read its changes
    /// or earlier versions. Its commits are kept at least as long.
    pub retention: Duration,
    /// When a table is put in order.
    pub upkeep: UpkeepOptions,
    /// Keep every version of every document in a second table.
    pub history: bool,
    /// What is done when documents come that have another schema than their table.
    pub on_schema_change: OnSchemaChange,
    /// Tables that are there are made to have no deletion vectors any more: rows are deleted by
    /// writing their files again.
    pub copy_on_write: bool,
    /// Tables keep a symlink manifest, for engines that read their files and not their log: only
    /// together with `copy_on_write`.
    pub symlink_manifest: bool,
}

impl SyncOptions {
    /// Files are kept for seven days, tables evolve, and there is no history.
    #[must_use]
    pub fn new(index: PathBuf) -> Self {
        Self {
            index,
            retention: Duration::from_secs(7 * 24 * 3600),
            upkeep: UpkeepOptions::default(),
            history: false,
            on_schema_change: OnSchemaChange::default(),
            copy_on_write: false,
            symlink_manifest: false,
        }
    }
}

/// A lake whose tables follow collections.
#[derive(Debug, Clone)]
pub struct SyncSink {
    lake: Location,
    options: Arc<SyncOptions>,
    /// What keeps tables from being put in order all at once.
    slots: Arc<Semaphore>,
    /// The collections whose tables are not to be replaced any more; none where none ever was.
    replaced: Option<Arc<Mutex<HashSet<Namespace>>>>,
}

impl SyncSink {
    /// A sink for the tables below `lake`.
    #[must_use]
    pub fn new(lake: Location, options: SyncOptions) -> Self {
        Self {
            lake,
            slots: Arc::new(Semaphore::new(options.upkeep.at_once)),
            options: Arc::new(options),
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
        schemas::place_of(&self.lake, collection)
    }

    async fn followed(
        &self,
        collection: &Namespace,
        mut live: LiveTable,
        lock: Option<Lock>,
    ) -> Result<FollowedTable> {
        // Vectors are gone at the end only, and until then no manifest can be right.
        let is_to_be_switched = self.options.copy_on_write && !is_switched(&live);
        if !is_to_be_switched {
            live.follow_manifest().await?;
        }
        let places = Places::open(&self.options.index, &live).await?;
        let history = if self.options.history {
            let name = format!("{}{HISTORY_SUFFIX}", collection.collection);
            let place = self.lake.child(&collection.database).child(&name);
            let (options, slots) = (Arc::clone(&self.options), Arc::clone(&self.slots));
            Some(HistoryTable::open(&place, live.position(), options, slots).await?)
        } else {
            None
        };
        let (options, slots) = (Arc::clone(&self.options), Arc::clone(&self.slots));
        let upkeep = Upkeep::open(&live, options, slots, Joining::Any).await;
        let policy = self.options.on_schema_change;
        let mut table = FollowedTable::new(live, places, upkeep, history, policy, lock);
        table.find_rows().await?;
        if self.options.copy_on_write {
            table.copy_on_write().await?;
        }
        table.keep_manifest(self.options.symlink_manifest).await?;
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
        let lock = Lock::of(&place)?;
        let Some(live) = LiveTable::open(&place).await? else {
            return Ok(None);
        };
        if is_history(&live) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the target holds the history of another collection",
            )
            .on("table", &place)
            .remedy("sync the collection of that name into another lake"));
        }
        Ok(Some(Box::new(self.followed(collection, live, lock).await?)))
    }

    async fn tables(&self) -> Result<Vec<Namespace>> {
        schemas::tables_below(&self.lake).await
    }

    async fn may_go_on(&self, collection: &Namespace) -> Result<bool> {
        schemas::is_decided(&self.place(collection)).await
    }
}
