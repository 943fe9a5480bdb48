//! What an interrupted load needs to go on: small files beside its data.
//!
//! `_tributary/plan.json` names the load and its partitions; `_tributary/part-N.json` is written
//! once the files of partition `N` are durable. Readers of tables pass over names that begin with
//! an underscore.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tributary_flow::{Failpoint, Partition, PartitionTotals};
use tributary_model::{Error, ErrorKind, Position, Result, TableSchema};

use crate::location::Location;
use crate::parquet_file::DataFile;

pub(super) const DIRECTORY: &str = "_tributary";
const PLAN: &str = "plan.json";

/// What must be the same for an interrupted load to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    pub(super) source: String,
    pub(super) namespace: String,
    pub(super) uuid: Option<String>,
    pub(super) format: String,
}

/// A load and its partitions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The load's id, part of the names of all its files.
    pub(super) load: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) partitions: Vec<Partition>,
    /// Where the source stood before any of it was read, where its changes are to be followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<Position>,
    /// Whether the table that follows then has its rows deleted by writing files again.
    #[serde(default)]
    pub(super) copy_on_write: bool,
    /// Whether the table has a symlink manifest then.
    #[serde(default)]
    pub(super) symlink_manifest: bool,
}

/// A finished partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// The load it belongs to: one left behind by another load counts for nothing.
    pub(super) load: String,
    pub(super) partition: u32,
    pub(super) totals: PartitionTotals,
    /// All that was learnt of the schema, beyond what the files needed.
    pub(super) schema: TableSchema,
    pub(super) files: Vec<DataFile>,
}

/// The state files of one load.
#[derive(Debug, Clone)]
pub(super) struct StateFiles {
    directory: Location,
}

impl StateFiles {
    pub(super) fn new(data: &Location) -> Self {
        Self {
            directory: data.child(DIRECTORY),
        }
    }

    pub(super) fn directory(&self) -> &Location {
        &self.directory
    }

    pub(super) async fn read_plan(&self) -> Result<Option<Plan>> {
        match self.directory.child(PLAN).read().await? {
            Some(bytes) => Ok(Some(self.parse(&bytes)?)),
            None => Ok(None),
        }
    }

    pub(super) async fn write_plan(&self, plan: &Plan) -> Result<()> {
        if self.directory.child(PLAN).create(to_json(plan)).await? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::AlreadyExists,
            "another copy into this target has begun",
        )
        .on("target", &self.directory)
        .remedy("wait until it has ended, or stop it"))
    }

    pub(super) async fn write_receipt(&self, receipt: &Receipt) -> Result<()> {
        self.directory
            .child(&format!("part-{:05}.json", receipt.partition))
            .write(to_json(receipt))
            .await
    }

    pub(super) async fn read_receipts(&self, load: &str) -> Result<HashMap<u32, Receipt>> {
        let mut receipts = HashMap::new();
        for object in self.directory.list().await? {
            let Some(name) = object
                .location
                .filename()
                .filter(|name| name.starts_with("part-"))
            else {
                continue;
            };
            if let Some(bytes) = self.directory.child(name).read().await? {
                let receipt: Receipt = self.parse(&bytes)?;
                if receipt.load == load {
                    receipts.insert(receipt.partition, receipt);
                }
            }
        }
        Ok(receipts)
    }

    /// Removes all of it, the plan last: while there is a plan, what is left is known for what it
    /// is.
    pub(super) async fn remove(&self) -> Result<()> {
        let plan = self.directory.child(PLAN);
        for object in self.directory.list().await? {
            if object.location != *plan.path() {
                self.directory.remove(&object.location).await?;
            }
        }
        Failpoint::ReceiptsRemoved.hit();
        self.directory.remove(plan.path()).await?;
        if self.directory.is_local() {
            // Also what an unfinished write of a state file has left.
            self.directory.remove_all().await?;
        }
        Ok(())
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::new(
                ErrorKind::InvalidData,
                "the state of an interrupted copy cannot be read",
            )
            .on("target", &self.directory)
            .because(error)
            .remedy(
                "it was written by another version or damaged: remove that directory to begin anew",
            )
        })
    }
}

/// A file that one process holds, gone when it is let go.
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Keeps other processes of this machine from loading into `table`. Object stores know no such
    /// lock; there one process only creates the plan.
    pub(crate) fn of(table: &Location) -> Result<Option<Self>> {
        table
            .directory()
            .map(|directory| Self::take(&directory))
            .transpose()
    }

    // The file stands beside the directory, which is renamed and removed.
    fn take(data: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Storage, "the target cannot be written")
                .on("target", data.display())
                .because(error)
                .remedy("make the directory writable for this user, or choose another target")
        };
        let (Some(parent), Some(name)) = (data.parent(), data.file_name()) else {
            return Err(failed(std::io::ErrorKind::InvalidFilename.into()));
        };
        std::fs::create_dir_all(parent).map_err(failed)?;
        let name = name.to_string_lossy();
        let path = parent.join(format!(".{}.lock", name.trim_start_matches('.')));
        loop {
            let file = File::create(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        "another copy into this target is running",
                    )
                    .on("target", data.display())
                    .remedy("wait until it has ended, or stop it"));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // The holder before may have removed the file between its opening and its locking.
            let held = file.metadata().map_err(failed)?;
            if std::fs::metadata(&path).is_ok_and(|there| there.ino() == held.ino()) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock file that cannot be removed locks nobody out.
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Plain structs with text keys always are JSON.
    serde_json::to_vec_pretty(value).unwrap_or_default()
}
