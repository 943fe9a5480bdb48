//! What is remembered beside the files: how far they reach, and which ones come next.

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
    /// How often it was written: a batch that is pending counts as the next.
    batch: u64,
    /// Whose it is.
    writer: Uuid,
}

impl Counted {
    pub(super) fn first(position: &Position, database: Option<String>) -> Self {
        Self {
            position: position.clone(),
            database,
            moment: Moment::default(),
            batch: 0,
            writer: Uuid::new_v4(),
        }
    }

    /// The same, in the hands of another writer.
    pub(super) fn taken_over(self) -> Self {
        Self {
            writer: Uuid::new_v4(),
            ..self
        }
    }

    /// Further on, with no file in between.
    pub(super) fn moved(self, position: &Position) -> Self {
        Self {
            position: position.clone(),
            batch: self.batch + 1,
            writer: Uuid::new_v4(),
            ..self
        }
    }
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
            batch: before.batch + 1,
            files,
            writer: Uuid::new_v4(),
        }
    }

    /// Whether it comes behind `counted`, and is not part of it.
    pub(super) fn follows(&self, counted: &Counted) -> bool {
        self.batch == counted.batch + 1
    }

    /// How far the files reach with these.
    pub(super) fn counted(&self, before: &Counted) -> Counted {
        Counted {
            position: self.position.clone(),
            database: before.database.clone(),
            moment: self.moment,
            batch: self.batch,
            writer: self.writer,
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
        self.counted.replace(&counted).await?;
        Ok(counted)
    }

    /// Says which files come next.
    pub(super) async fn announce(&mut self, pending: &Pending) -> Result<()> {
        self.pending.replace(pending).await
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

    /// Puts `value` in the place of what was last read or written, unless somebody else has.
    async fn replace(&mut self, value: &impl Serialize) -> Result<()> {
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
        if let Some(version) = replaced {
            self.version = Some(version);
            self.attempts.clear();
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::AlreadyExists,
            "another process writes changes to this target",
        )
        .on("target", &self.place)
        .remedy("let one process write there, and give each other one a target of its own"))
    }
}
