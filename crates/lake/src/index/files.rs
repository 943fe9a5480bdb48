//! The files of an index: whose they are, and whether the store can read them.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use tributary_model::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_128;

use super::Unusable;

/// Checks what the store reads without looking at its checksums: damage there can make it ask for
/// all memory, which ends the process.
pub(super) fn check_files(data: &Path) -> Result<(), Unusable> {
    let damaged = || Unusable::Discard("it is damaged: the list of its files".to_owned());
    let failed = |error: io::Error| Unusable::from(fjall::Error::from(error));
    let Ok(keyspaces) = std::fs::read_dir(data.join("keyspaces")) else {
        return Err(damaged());
    };
    for keyspace in keyspaces {
        let keyspace = keyspace.map_err(failed)?.path();
        // Without it the key space was still being made, and the store removes it.
        let Ok(current) = std::fs::read(keyspace.join("current")) else {
            continue;
        };
        // Which of the lists of files counts, and its checksum.
        let (number, rest) = current.split_first_chunk::<8>().ok_or_else(damaged)?;
        let checksum = rest.first_chunk::<16>().ok_or_else(damaged)?;
        let list = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
        let list = std::fs::read(list).map_err(failed)?;
        if xxh3_128(&list) != u128::from_le_bytes(*checksum) {
            return Err(damaged());
        }
        let Ok(tables) = std::fs::read_dir(keyspace.join("tables")) else {
            continue;
        };
        for table in tables {
            let table = table.map_err(failed)?.path();
            if !has_contents(&table).map_err(failed)? {
                // One that was being written when the process ended, and is in no list; or the
                // store misses it.
                std::fs::remove_file(&table).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Whether a file of the store ends with a table of contents that is whole.
fn has_contents(path: &Path) -> io::Result<bool> {
    /// `SFA!`, a version, a type of checksum, checksum, start and length.
    const TRAILER: usize = 4 + 1 + 1 + 16 + 8 + 8;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length < TRAILER as u64 {
        return Ok(false);
    }
    let end = length - TRAILER as u64;
    file.seek(SeekFrom::Start(end))?;
    let mut trailer = [0; TRAILER];
    file.read_exact(&mut trailer)?;
    let Some(checksum) = trailer[6..].first_chunk::<16>() else {
        return Ok(false);
    };
    let Some(start) = trailer[22..].first_chunk::<8>() else {
        return Ok(false);
    };
    let start = u64::from_le_bytes(*start);
    // The contents are few sections: what is larger is none.
    if start > end || end - start > 1 << 20 {
        return Ok(false);
    }
    let mut contents = vec![0; (end - start) as usize];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut contents)?;
    Ok(xxh3_128(&contents) == u128::from_le_bytes(*checksum))
}

/// Makes the directory this process's own.
pub(super) fn lock(directory: &Path) -> Result<File> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::Storage, "cannot open the index of keys")
            .on("index", directory.display())
            .because(error)
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Conflict,
            "another process has the index of keys open",
        )
        .on("index", directory.display())
        .remedy("stop the other tributary that follows the same collection")),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
