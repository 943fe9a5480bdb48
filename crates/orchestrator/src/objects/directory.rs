//! Files that appear in a directory.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};

use super::{BackOff, CreatedObject, Takes, is_wanted, slept};

/// How often all is looked at: events get lost, and network file systems have none.
const SCAN: Duration = Duration::from_secs(30);
/// A file that is being written changes more often than this.
const SETTLED: Duration = Duration::from_millis(200);
/// With more events than this it is simpler to look at all.
const MANY: usize = 10_000;

/// Size and time of a file: with others it is another object.
type State = (u64, SystemTime);

/// Tells `into` each file once its size and time have not changed for `gather`.
pub(super) async fn watch(
    root: &Path,
    matching: Option<&glob::Pattern>,
    gather: Duration,
    into: &dyn Takes,
    stop: &CancellationToken,
) -> Result<()> {
    let settled = gather.max(SETTLED);
    let events = Arc::new(Events::default());
    let _watcher = listen(root, &events)?;
    let mut told: HashMap<PathBuf, State> = HashMap::new();
    let mut pending: HashMap<PathBuf, (State, Instant)> = HashMap::new();
    let mut back_off = BackOff::default();
    let mut next_scan = Instant::now();
    loop {
        let changed = events.take();
        let paths = match changed {
            Some(paths) if Instant::now() < next_scan => {
                paths.into_iter().chain(pending.keys().cloned()).collect()
            }
            _ => {
                next_scan = Instant::now() + SCAN;
                HashSet::from([root.to_owned()])
            }
        };
        let is_scan = paths.contains(root);
        let found = look(root, paths.clone()).await?;
        if is_scan {
            told.retain(|path, _| found.contains_key(path));
        }
        // What was looked at and is not there any more is forgotten.
        pending.retain(|path, _| found.contains_key(path));
        let now = Instant::now();
        for (path, state) in found {
            if told.get(&path) == Some(&state) {
                pending.remove(&path);
            } else if pending.get(&path).is_none_or(|(seen, _)| *seen != state) {
                pending.insert(path, (state, now));
            }
        }
        let complete: Vec<(PathBuf, State)> = pending
            .iter()
            .filter(|(_, (_, since))| now - *since >= settled)
            .map(|(path, (state, _))| (path.clone(), *state))
            .collect();
        let objects: Vec<CreatedObject> = complete
            .iter()
            .map(|(path, state)| object(root, path, *state))
            .filter(|object| is_wanted(matching, &object.key))
            .collect();
        let taken = match objects.is_empty() {
            true => Ok(()),
            false => into.take(objects).await,
        };
        match taken {
            Ok(()) => {
                back_off.reset();
                for (path, state) in complete {
                    pending.remove(&path);
                    told.insert(path, state);
                }
            }
            Err(error) => {
                let wait = back_off.after("created files are not taken", &error);
                if !slept(wait, stop).await {
                    return Ok(());
                }
            }
        }
        let wait = match pending.is_empty() {
            true => next_scan.saturating_duration_since(Instant::now()),
            false => settled / 2,
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
            () = events.some.notified(), if pending.is_empty() => {}
        }
    }
}

fn object(root: &Path, path: &Path, (size, time): State) -> CreatedObject {
    let at = DateTime::<Utc>::from(time);
    let key = path.strip_prefix(root).unwrap_or(path).to_string_lossy();
    CreatedObject {
        id: format!(
            "{}@{}.{:09}+{size}",
            path.display(),
            at.timestamp(),
            at.timestamp_subsec_nanos()
        ),
        bucket: None,
        key: key.into_owned(),
        size: Some(size),
        at,
    }
}

/// The paths that something has happened to.
#[derive(Debug, Default)]
struct Events {
    paths: Mutex<HashSet<PathBuf>>,
    some: Notify,
}

impl Events {
    fn add(&self, event: notify::Event) {
        let is_read = match event.kind {
            EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
            _ => false,
        };
        if is_read {
            return;
        }
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if paths.len() <= MANY {
            paths.extend(event.paths);
        }
        drop(paths);
        self.some.notify_one();
    }

    /// `None` when there were too many.
    fn take(&self) -> Option<HashSet<PathBuf>> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = std::mem::take(&mut *paths);
        (paths.len() <= MANY).then_some(paths)
    }
}

/// Without events, files are found by looking.
fn listen(root: &Path, events: &Arc<Events>) -> Result<Option<notify::RecommendedWatcher>> {
    std::fs::read_dir(root).map_err(|error| unreadable(root, error))?;
    let sent = Arc::clone(events);
    let handler = move |event: notify::Result<notify::Event>| {
        if let Ok(event) = event {
            sent.add(event);
        }
    };
    let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(root, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    Ok(watcher
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                directory = %root.display(),
                "the directory cannot be watched; it is looked at every 30 seconds"
            );
        })
        .ok())
}

fn unreadable(root: &Path, error: io::Error) -> Error {
    let (kind, message, remedy) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => (
            ErrorKind::NotFound,
            "there is no directory to watch",
            "create the directory, or name another one",
        ),
        io::ErrorKind::PermissionDenied => (
            ErrorKind::Forbidden,
            "the directory may not be read",
            "let the user that Tributary runs as read it and all below it",
        ),
        _ => (
            ErrorKind::Storage,
            "cannot read the directory that is watched",
            "check the file system that it is on",
        ),
    };
    Error::new(kind, message)
        .on("directory", root.display())
        .because(error)
        .remedy(remedy)
}

/// The files among `paths` and below them.
async fn look(root: &Path, paths: HashSet<PathBuf>) -> Result<HashMap<PathBuf, State>> {
    let root = root.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        let mut found = HashMap::new();
        for path in paths {
            if path == root {
                let entries = std::fs::read_dir(&root).map_err(|e| unreadable(&root, e))?;
                for entry in entries.flatten() {
                    add(&entry.path(), &mut found);
                }
            } else if is_visible(&root, &path) {
                add(&path, &mut found);
            }
        }
        Ok(found)
    });
    looking.await.map_err(|error| {
        Error::new(ErrorKind::Internal, "looking at a directory failed").because(error)
    })?
}

/// What vanishes meanwhile is not there.
fn add(path: &Path, found: &mut HashMap<PathBuf, State>) {
    let name = path.file_name().map(|name| name.to_string_lossy());
    if name.is_none_or(|name| is_passed_over(&name)) {
        return;
    }
    let Ok(itself) = std::fs::symlink_metadata(path) else {
        return;
    };
    if itself.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            add(&entry.path(), found);
        }
        return;
    }
    // Links to directories are not followed: they may lead in circles.
    if let Ok(file) = std::fs::metadata(path)
        && file.is_file()
        && let Ok(time) = file.modified()
    {
        found.insert(path.to_owned(), (file.len(), time));
    }
}

/// Whether no directory above it is passed over.
fn is_visible(root: &Path, path: &Path) -> bool {
    path.strip_prefix(root).is_ok_and(|below| {
        below
            .components()
            .all(|part| !is_passed_over(&part.as_os_str().to_string_lossy()))
    })
}

/// Names that programs give to what is not complete, or not for others.
fn is_passed_over(name: &str) -> bool {
    name.starts_with('.')
        || [".tmp", ".part", ".crc"]
            .iter()
            .any(|end| name.ends_with(end))
}
