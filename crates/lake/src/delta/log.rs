//! A table's log as commits: one object a version, created only where there is none.
//!
//! That creation is the only lock there is: whoever creates the next version has seen all before
//! it. Nothing is ever rebased onto another writer's version without looking at it.

use deltalake::kernel::{Action, Add, Remove, Transaction};
use serde_json::{Map, Value, json};
use tributary_flow::Failpoint;
use tributary_model::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::location::Location;

/// The key of a commit's id in its `commitInfo`.
const COMMIT_ID: &str = "txnId";

/// What a commit is told to be for: the first action of its version.
#[derive(Debug, Clone)]
pub(crate) struct CommitInfo {
    /// Delta's word for what was done, such as `WRITE`.
    pub(crate) operation: &'static str,
    /// Its parameters.
    pub(crate) parameters: Value,
    /// Whether nothing of the table had to be read for it.
    pub(crate) is_blind_append: bool,
    /// What Tributary itself wants to know of it again.
    pub(crate) own: Option<Value>,
}

impl CommitInfo {
    fn to_line(&self, id: Uuid) -> Value {
        let mut info = json!({
            "timestamp": chrono::Utc::now().timestamp_millis(),
            "operation": self.operation,
            "operationParameters": self.parameters,
            "isBlindAppend": self.is_blind_append,
            "engineInfo": concat!("tributary/", env!("CARGO_PKG_VERSION")),
            COMMIT_ID: id.to_string(),
        });
        if let Some(own) = &self.own {
            info[OWN] = own.clone();
        }
        json!({ "commitInfo": info })
    }
}

/// The key of Tributary's own part of a `commitInfo`.
const OWN: &str = "tributary";

/// One version of a log.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    pub(crate) info: Map<String, Value>,
    pub(crate) adds: Vec<Add>,
    pub(crate) removes: Vec<Remove>,
    pub(crate) transactions: Vec<Transaction>,
    /// Whether it changes the table's schema, properties or protocol.
    pub(crate) redefines: bool,
}

impl Commit {
    /// Tributary's own part of the commit's information.
    pub(crate) fn own(&self) -> Option<&Value> {
        self.info.get(OWN)
    }

    fn is(&self, id: Uuid) -> bool {
        self.info.get(COMMIT_ID).and_then(Value::as_str) == Some(&id.to_string())
    }
}

fn place_of(table: &Location, version: u64) -> Location {
    table
        .child("_delta_log")
        .child(&format!("{version:020}.json"))
}

/// Reads one version; none where there is no such version, or not any more.
pub(crate) async fn read(table: &Location, version: u64) -> Result<Option<Commit>> {
    let place = place_of(table, version);
    let Some(bytes) = place.read().await? else {
        return Ok(None);
    };
    parse(&bytes).map(Some).map_err(|error| {
        Error::new(ErrorKind::InvalidData, "cannot read the table's log")
            .on("file", &place)
            .because(error)
    })
}

fn parse(bytes: &[u8]) -> Result<Commit, serde_json::Error> {
    let mut commit = Commit::default();
    for line in serde_json::Deserializer::from_slice(bytes).into_iter::<Map<String, Value>>() {
        // Actions of kinds that are not known are to be passed over.
        for (kind, action) in line? {
            match kind.as_str() {
                "commitInfo" => commit.info = serde_json::from_value(action)?,
                "add" => commit.adds.push(serde_json::from_value(action)?),
                "remove" => commit.removes.push(serde_json::from_value(action)?),
                "txn" => commit.transactions.push(serde_json::from_value(action)?),
                "metaData" | "protocol" => commit.redefines = true,
                _ => {}
            }
        }
    }
    Ok(commit)
}

/// Commits `actions` as `version`, and answers its size in bytes; none where another writer has
/// committed that version.
pub(crate) async fn put(
    table: &Location,
    version: u64,
    info: &CommitInfo,
    actions: &[Action],
) -> Result<Option<u64>> {
    let id = Uuid::new_v4();
    let mut lines = info.to_line(id).to_string().into_bytes();
    lines.push(b'\n');
    for action in actions {
        // The parts of an action have text keys only.
        serde_json::to_writer(&mut lines, action).map_err(|error| {
            Error::new(ErrorKind::Internal, "an action is not JSON").because(error)
        })?;
        lines.push(b'\n');
    }
    let size = lines.len() as u64;
    Failpoint::CommitBefore.hit();
    let created = place_of(table, version).create(lines).await;
    Failpoint::CommitAfter.hit();
    let there = match created {
        Ok(true) => return Ok(Some(size)),
        // A request whose first try succeeded without an answer finds its own object.
        Ok(false) => read(table, version).await?,
        Err(error) => match read(table, version).await {
            Ok(Some(there)) => Some(there),
            _ => return Err(error),
        },
    };
    Ok(there.is_some_and(|commit| commit.is(id)).then_some(size))
}
