//! What is remembered beside the files: how far they reach, and which ones come next.

use std::time::SystemTime;

use object_store::UpdateVersion;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tributary_model::{Error, ErrorKind, Position, Result};
use uuid::Uuid;

use super::plan::{FileName, Moment};
use super::store;
use crate::location::Location;

/// Beside the directories of databases, none of which can have a dot in its name.
const DIRECTORY: &str = "_changes.state";
const COUNTED: &str = "position.json";
const PENDING: &str = "pending.json";

/// How many withdrawn batches are remembered: far more than may have files that come late.
const MOST_WITHDRAWN: usize = 1000;

/// How far the files reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counted {
    /// Everything up to here is in files.
    pub(super) position: Position,
    /// The database that is watched; none for all of them.
    pub(super) database: Option<String>,
    /// How the next file is called.
    pub(super) moment: Moment,
    /// The last batch that is settled: its files count, or it is withdrawn. The one that is pending, or comes
    /// next, has the number behind it.
    batch: u64,
    /// Batches up to that whose files do not count, however late one of them comes.
    #[serde(default)]
    withdrawn: Vec<u64>,
    /// Whose it is.
    writer: Uuid,
}

impl Counted {
    pub(super) fn first(position: &Position, database: Option<String>) -> Self {
        Self {
            position: position.clone(),
            database,
            moment: Moment::default(),
            batch: first_batch(),
            withdrawn: Vec::new(),
            writer: Uuid::new_v4(),
        }
    }

    /// The number of the batch that comes next.
    pub(super) fn next_batch(&self) -> u64 {
        self.batch + 1
    }

    /// The same, in the hands of another writer.
    fn taken_over(self) -> Self {
        Self {
            writer: Uuid::new_v4(),
            ..self
        }
    }

    /// Whether the files of a batch will never count.
    pub(super) fn has_withdrawn(&self, pending: &Pending) -> bool {
        self.withdrawn.contains(&pending.batch)
    }

    /// Further on, with no file in between.
    pub(super) fn moved(self, position: &Position) -> Self {
        Self {
            position: position.clone(),
            writer: Uuid::new_v4(),
            ..self
        }
    }
}

/// The number that is before those of all batches: milliseconds since 1970, so that a place whose state was removed
/// goes on behind the batches that it had.
fn first_batch() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or_default()
    })
}

/// The files that come next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pending {
    /// What they reach.
    position: Position,
    moment: Moment,
    batch: u64,
    pub(super) files: Vec<FileName>,
    /// Tells it from one of the same number that another writer has planned.
    writer: Uuid,
}

impl Pending {
    pub(super) fn new(
        before: &Counted,
        position: &Position,
        moment: Moment,
        files: Vec<FileName>,
    ) -> Self {
        Self {
            position: position.clone(),
            moment,
            batch: before.next_batch(),
            files,
            writer: Uuid::new_v4(),
        }
    }

    /// What is pending when everything is settled.
    pub(super) fn none(counted: &Counted) -> Self {
        Self {
            position: counted.position.clone(),
            moment: counted.moment,
            batch: counted.batch,
            files: Vec::new(),
            writer: Uuid::new_v4(),
        }
    }

    /// Whether it is still to be settled.
    pub(super) fn follows(&self, counted: &Counted) -> bool {
        self.batch == counted.next_batch()
    }

    /// Whether more has been settled since than `counted` says.
    pub(super) fn is_beyond(&self, counted: &Counted) -> bool {
        self.batch > counted.next_batch()
    }

    /// How far the files reach with these.
    pub(super) fn counted(&self, before: &Counted) -> Counted {
        Counted {
            position: self.position.clone(),
            database: before.database.clone(),
            moment: self.moment,
            batch: self.batch,
            withdrawn: before.withdrawn.clone(),
            writer: self.writer,
        }
    }

    /// The same as before, without these for good.
    pub(super) fn withdrawn(&self, mut before: Counted) -> Counted {
        before.withdrawn.push(self.batch);
        let too_many = before.withdrawn.len().saturating_sub(MOST_WITHDRAWN);
        before.withdrawn.drain(..too_many);
        Counted {
            batch: self.batch,
            writer: Uuid::new_v4(),
            ..before
        }
    }
}

/// The two objects, as they were when they were last read or written.
pub(super) struct StateFiles {
    place: Location,
    counted: StateFile,
    pending: StateFile,
}

struct StateFile {
    place: Location,
    version: Option<UpdateVersion>,
    /// What was to be put there since, and of which it is not known whether it was.
    attempts: Vec<Vec<u8>>,
}

impl StateFiles {
    pub(super) fn new(place: &Location) -> Self {
        let place = place.child(DIRECTORY);
        let file = |name| StateFile {
            place: place.child(name),
            version: None,
            attempts: Vec::new(),
        };
        Self {
            counted: file(COUNTED),
            pending: file(PENDING),
            place,
        }
    }

    /// Their directory.
    pub(super) fn place(&self) -> &Location {
        &self.place
    }

    pub(super) async fn read_counted(&mut self) -> Result<Option<Counted>> {
        self.counted.read().await
    }

    pub(super) async fn read_pending(&mut self) -> Result<Option<Pending>> {
        self.pending.read().await
    }

    /// Makes it count.
    pub(super) async fn count(&mut self, counted: Counted) -> Result<Counted> {
        match self.counted.replace(&counted).await? {
            true => Ok(counted),
            false => Err(self.counted.taken()),
        }
    }

    /// Takes what counts into the hands of another writer, and leaves it where it has been replaced since it was read.
    pub(super) async fn take_over(&mut self, counted: Counted) -> Result<Option<Counted>> {
        let counted = counted.taken_over();
        let is_taken = self.counted.replace(&counted).await?;
        Ok(is_taken.then_some(counted))
    }

    /// The error where somebody else has taken over.
    pub(super) fn overtaken(&self) -> Error {
        self.counted.taken()
    }

    /// Says which files come next.
    pub(super) async fn announce(&mut self, pending: &Pending) -> Result<()> {
        match self.pending.replace(pending).await? {
            true => Ok(()),
            false => Err(self.pending.taken()),
        }
    }

    /// Says that none come until others are announced, and leaves it where somebody else has announced some; whether
    /// it was said.
    pub(super) async fn announce_none(&mut self, counted: &Counted) -> Result<bool> {
        self.pending.replace(&Pending::none(counted)).await
    }
}

impl StateFile {
    async fn read<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.version = None;
        self.attempts.clear();
        let Some((bytes, version)) = store::read(&self.place).await? else {
            return Ok(None);
        };
        self.version = Some(version);
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(
                ErrorKind::InvalidData,
                "what is remembered of the changes cannot be read",
            )
            .on("file", &self.place)
            .because(error)
            .remedy(
                "it was written by another version or damaged: choose another target to begin anew",
            )
        })?;
        Ok(Some(value))
    }

    /// Puts `value` in the place of what was last read or written, unless somebody else has; whether it did.
    async fn replace(&mut self, value: &impl Serialize) -> Result<bool> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| {
            Error::new(ErrorKind::Internal, "the position is no JSON").because(error)
        })?;
        // Until there is an answer.
        self.attempts.push(bytes.clone());
        let mut replaced = store::replace(&self.place, bytes.clone(), self.version.clone()).await?;
        if replaced.is_none()
            && let Some((found, version)) = store::read(&self.place).await?
            && self.attempts.contains(&found)
        {
            // The answer to a request was lost: what is there is its own, as no two writers write the same.
            replaced = match found == bytes {
                true => Some(version),
                false => store::replace(&self.place, bytes, Some(version)).await?,
            };
        }
        let is_replaced = replaced.is_some();
        if is_replaced {
            self.version = replaced;
            self.attempts.clear();
        }
        Ok(is_replaced)
    }

    /// The error where somebody else has put something there.
    fn taken(&self) -> Error {
        Error::new(
            ErrorKind::AlreadyExists,
            "another process writes changes to this target",
        )
        .on("target", &self.place)
        .remedy("let one process write there, and give each other one a target of its own")
    }
}
