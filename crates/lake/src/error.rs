//! Errors of object stores and tables as the one error of Tributary.

use std::error::Error as StdError;
use std::io;

use deltalake::DeltaTableError;
use object_store::Error as StoreError;
use tributary_model::{Error, ErrorKind};

pub(crate) const CREDENTIALS: &str = "check the credentials in the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION for s3://, \
                           AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY for az://";
const DISK_FULL: &str =
    "free some space and start again with the same arguments: finished partitions are kept";

/// The error of something that was being done to `place`.
pub(crate) fn store_failed(what: &str, place: &str, error: StoreError) -> Error {
    let text = chain(&error);
    let missing_container = text.contains("NoSuchBucket") || text.contains("ContainerNotFound");
    let (kind, remedy) = match &error {
        _ if missing_container => (
            ErrorKind::NotFound,
            Some("create the bucket or container first, or correct its name"),
        ),
        StoreError::NotFound { .. } => (ErrorKind::NotFound, None),
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
            (ErrorKind::Conflict, None)
        }
        StoreError::PermissionDenied { .. } => (ErrorKind::Forbidden, Some(CREDENTIALS)),
        StoreError::Unauthenticated { .. } => (ErrorKind::Unauthenticated, Some(CREDENTIALS)),
        _ => match io_kind(&error) {
            Some(
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge,
            ) => (ErrorKind::Storage, Some(DISK_FULL)),
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => (
                ErrorKind::Storage,
                Some("make the directory writable for this user, or choose another target"),
            ),
            Some(_) => (ErrorKind::Storage, None),
            None if text.contains("403") || text.contains("InvalidAccessKeyId") => {
                (ErrorKind::Forbidden, Some(CREDENTIALS))
            }
            None => (
                ErrorKind::Unreachable,
                Some("check the endpoint and the network; what was done is kept"),
            ),
        },
    };
    let mut told = Error::new(kind, what).on("target", place).because(text);
    if let Some(remedy) = remedy {
        told = told.remedy(remedy);
    }
    told
}

/// The error of something that was being done to the table at `place`.
pub(crate) fn table_failed(what: &str, place: &str, error: DeltaTableError) -> Error {
    match error {
        DeltaTableError::ObjectStore { source } => store_failed(what, place, source),
        DeltaTableError::NotATable(_) => {
            Error::new(ErrorKind::NotFound, "no such table").on("table", place)
        }
        error => {
            // What reads the log hides the store's error in its own, and says so in its text alone.
            let text = chain(&error);
            let is_the_stores = OF_THE_STORE.iter().any(|words| text.contains(words));
            let kind = match is_the_stores {
                true => ErrorKind::Unreachable,
                false => ErrorKind::InvalidData,
            };
            Error::new(kind, what).on("table", place).because(error)
        }
    }
}

/// How errors begin that the reader of the log has had with the store.
const OF_THE_STORE: &[&str] = &["Error interacting with object store", "Reqwest Error"];

/// The first input or output error among an error's causes.
fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

/// An error and its causes on one line, without what one repeats of another, and cut where a
/// server's answer is long.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    const LONGEST: usize = 600;
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}
