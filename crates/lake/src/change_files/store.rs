//! Small objects as a whole: durable when they are written, on disk as in an object store.

use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use object_store::{
    Error as StoreError, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use tributary_model::{Error, ErrorKind, Result};

use crate::location::Location;

/// What an object holds, and its version.
pub(super) async fn read(place: &Location) -> Result<Option<(Vec<u8>, UpdateVersion)>> {
    let found = match place.root().get(place.path()).await {
        Ok(found) => found,
        Err(StoreError::NotFound { path, source }) => {
            let text = source.to_string();
            if text.contains("NoSuchBucket") || text.contains("ContainerNotFound") {
                return Err(place.failed("cannot read", StoreError::NotFound { path, source }));
            }
            return Ok(None);
        }
        Err(error) => return Err(place.failed("cannot read", error)),
    };
    let version = UpdateVersion {
        e_tag: found.meta.e_tag.clone(),
        version: found.meta.version.clone(),
    };
    let bytes = found
        .bytes()
        .await
        .map_err(|error| place.failed("cannot read", error))?;
    Ok(Some((bytes.to_vec(), version)))
}

/// Whether there is an object.
pub(super) async fn exists(place: &Location) -> Result<bool> {
    match place.root().head(place.path()).await {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(place.failed("cannot read", error)),
    }
}

/// Whether there is anything below a place.
pub(super) async fn holds_any(place: &Location) -> Result<bool> {
    let mut found = place.root().list(Some(place.path()));
    match found.try_next().await {
        Ok(first) => Ok(first.is_some()),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(place.failed("cannot list", error)),
    }
}

/// Writes an object, in the place of one that is there.
pub(super) async fn write(place: &Location, bytes: Vec<u8>) -> Result<()> {
    if let Some(path) = place.directory() {
        return on_disk(place, move || write_file(&path, &bytes)).await;
    }
    place.write(bytes).await
}

/// Writes an object in the place of the given version of it, or where there is none; none where there is another
/// than that. On disk versions are not looked at: there a lock keeps others away.
pub(super) async fn replace(
    place: &Location,
    bytes: Vec<u8>,
    version: Option<UpdateVersion>,
) -> Result<Option<UpdateVersion>> {
    if place.is_local() {
        write(place, bytes).await?;
        return Ok(Some(UpdateVersion {
            e_tag: None,
            version: None,
        }));
    }
    let options = PutOptions {
        mode: version.map_or(PutMode::Create, PutMode::Update),
        ..PutOptions::default()
    };
    let payload = PutPayload::from(bytes);
    match place.root().put_opts(place.path(), payload, options).await {
        Ok(put) => Ok(Some(put.into())),
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(None),
        Err(error) => Err(place.failed("cannot write", error)),
    }
}

/// Removes an object, and what was left of writing it; what is gone already is no error.
pub(super) async fn remove(place: &Location) -> Result<()> {
    let Some(path) = place.directory() else {
        return place.remove(place.path()).await;
    };
    on_disk(place, move || {
        for path in [unfinished(&path), path] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != IoErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

async fn on_disk(
    place: &Location,
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|panic| {
        Error::new(ErrorKind::Internal, "a file was not written").because(panic)
    })?;
    done.map_err(|error| {
        Error::new(ErrorKind::Storage, "the target cannot be written")
            .on("target", place)
            .because(error)
            .remedy("make the directory writable for this user and free some space, or choose another target")
    })
}

/// Writes a file that is there as a whole or not at all, and outlives a crash of the machine.
fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let parent = path.parent().ok_or(IoErrorKind::InvalidFilename)?;
    create_directory(parent)?;
    let unfinished = unfinished(path);
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    File::open(parent)?.sync_all()
}

/// Creates a directory with those above it, each of which is durable in the one above.
fn create_directory(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().ok_or(IoErrorKind::InvalidFilename)?;
    create_directory(parent)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != IoErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

/// Where a file is before it has its name, hidden from those who read the directory.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.unfinished"))
}
