//! Files that are no part of a table any more, removed when their time has come.
//!
//! Each run lists the table's directory and remembers, in `_tributary/vacuum.json`, which data
//! files and deletion vectors it has found that the table does not consist of. What an earlier run
//! had found already, at least the retention ago, is removed. So a file stays for the whole
//! retention after the last version that it was part of, however old it is, and the log need not
//! be read for that; files that were never part of a version go the same way. A file is never
//! removed by the run that finds it. Those of the change data feed are no part of any version, and go
//! the same way: the feed reaches as far back as the retention.
//!
//! Only files with names as Tributary gives them are touched, and none while a load is unfinished.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tributary_flow::Failpoint;
use tributary_model::{Error, ErrorKind, Result};

use super::copy_on_write::FEED_DIRECTORY;
use crate::location::Location;

/// How long an unfinished load is waited for.
const LOAD: Duration = Duration::from_secs(3600);

/// What earlier runs have found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Found {
    /// When the last of them was, in milliseconds since 1970.
    ran: i64,
    /// Files that are no part of the table, by the run that was the first to see that.
    unused: Vec<Unused>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Unused {
    since: i64,
    names: Vec<String>,
}

/// Removes what has not been part of the table for as long as `retention`, unless less than `every`
/// has passed since the last run. `used` are the names of the objects that the table consists of.
/// Answers when it is due again.
///
/// Nothing that is written and is still to be committed may be older than the retention.
pub(crate) async fn run(
    table: &Location,
    used: &HashSet<String>,
    retention: Duration,
    every: Duration,
) -> Result<Duration> {
    let begun = Utc::now();
    let state = table.child("_tributary");
    let notes = state.child("vacuum.json");
    let found: Found = match notes.read().await? {
        // Damaged notes only make the files wait again.
        Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        None => Found::default(),
    };
    let ran = DateTime::from_timestamp_millis(found.ran).unwrap_or_default();
    let since = (begun - ran).to_std().unwrap_or_default();
    if let Some(wait) = every.checked_sub(since).filter(|wait| !wait.is_zero()) {
        return Ok(wait);
    }
    if state.child("plan.json").read().await?.is_some() {
        return Ok(LOAD.min(every));
    }

    let known: HashMap<&str, i64> = found
        .unused
        .iter()
        .flat_map(|run| run.names.iter().map(|name| (name.as_str(), run.since)))
        .collect();
    let now = begun.timestamp_millis();
    let expired = now.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
    let mut waiting: HashMap<i64, Vec<String>> = HashMap::new();
    let mut remove = Vec::new();
    let mut bytes = 0;
    let mut objects = table.root().list(Some(table.path()));
    loop {
        let object = match objects.try_next().await {
            Ok(Some(object)) => object,
            Ok(None) => break,
            // Removed while the list was read.
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(table.failed("cannot list", error)),
        };
        let Some(name) = own_name(&object, table) else {
            continue;
        };
        let written = object.last_modified.timestamp_millis();
        if used.contains(name) || written > now {
            continue;
        }
        match known.get(name) {
            Some(since) if *since <= expired && written <= expired => {
                bytes += object.size;
                remove.push(object.location);
            }
            known => {
                let since = known.copied().unwrap_or(now);
                waiting.entry(since).or_default().push(name.to_owned());
            }
        }
    }
    drop(objects);
    Failpoint::VacuumListed.hit();
    let files = remove.len();
    remove_all(table, remove).await?;
    remove_unfinished(table, retention).await?;
    let mut unused: Vec<Unused> = waiting
        .into_iter()
        .map(|(since, names)| Unused { since, names })
        .collect();
    unused.sort_by_key(|run| run.since);
    Failpoint::VacuumUnnoted.hit();
    let found = Found { ran: now, unused };
    // A plain struct always is JSON.
    notes
        .write(serde_json::to_vec(&found).unwrap_or_default())
        .await?;
    Failpoint::VacuumNoted.hit();
    if files > 0 {
        tracing::info!(table = %table, files, bytes, "files that are no part of the table were removed");
    }
    Ok(every)
}

/// The name of an object that stands in the table's directory itself and is named as data files
/// and deletion vectors are, or in that of the change data feed and is named as its files are.
fn own_name<'a>(object: &'a ObjectMeta, table: &Location) -> Option<&'a str> {
    let mut parts = object.location.prefix_match(table.path())?;
    let name = object.location.filename()?;
    let is_own = match (parts.next()?, parts.next(), parts.next()) {
        (_, None, _) => is_own(name),
        (directory, Some(_), None) => {
            directory.as_ref() == FEED_DIRECTORY
                && name.starts_with("cdc-")
                && name.ends_with(".parquet")
        }
        _ => false,
    };
    is_own.then_some(name)
}

fn is_own(name: &str) -> bool {
    let is = |start, end| name.starts_with(start) && name.ends_with(end);
    is("part-", ".parquet") || is("deletion_vector_", ".bin")
}

async fn remove_all(table: &Location, paths: Vec<Path>) -> Result<()> {
    let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
    let mut removed = table.root().delete_stream(paths);
    while let Some(result) = removed.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Failpoint::VacuumRemoved.hit(),
            Err(error) => return Err(table.failed("cannot remove a file", error)),
        }
    }
    Ok(())
}

/// Removes what processes that were killed have left of files that they were writing. Object
/// stores do not show that.
async fn remove_unfinished(table: &Location, retention: Duration) -> Result<()> {
    let Some(directory) = table.directory() else {
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Storage, "cannot remove an unfinished file")
            .on("table", table)
            .because(error)
    };
    let age = retention.max(LOAD);
    let mut entries = tokio::fs::read_dir(&directory).await.map_err(failed)?;
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((whole, _)) = name.split_once('#') else {
            continue;
        };
        let written = entry.metadata().await.and_then(|data| data.modified());
        let is_old = written.is_ok_and(|written| {
            SystemTime::now()
                .duration_since(written)
                .is_ok_and(|old| old >= age)
        });
        if is_own(whole) && is_old {
            tokio::fs::remove_file(entry.path()).await.map_err(failed)?;
        }
    }
    Ok(())
}
