//! Servers that refuse to run as root: when this process is root's, they run as `nobody`.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use rustix::process::geteuid;

use crate::error::{Context, Result, TestkitError};

/// The user and the group `nobody` of Linux.
const NOBODY: u32 = 65_534;

/// A command that does not run as root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // This process's own may be closed to that user.
    command.current_dir("/");
    command
}

/// Gives a directory and the files in it to the user that [`command`] runs as.
pub(crate) fn give(directory: &Path) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    if !is_reachable(directory) {
        return Err(TestkitError::new(format!(
            "a server that must not run as root cannot reach {}: set TMPDIR to a directory that all users can reach",
            directory.display()
        )));
    }
    let own = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY));
    own(directory)
        .and_then(|()| fs::read_dir(directory)?.try_for_each(|entry| own(entry?.path().as_path())))
        .context(|| format!("cannot give {} to another user", directory.display()))
}

/// Whether the user that [`command`] runs as can reach what is in the directory above `path`.
pub(crate) fn is_reachable(path: &Path) -> bool {
    !geteuid().is_root()
        || path.ancestors().skip(1).all(|above| {
            // What is not there yet will be made reachable.
            fs::metadata(above).map_or(true, |data| data.permissions().mode() & 0o001 != 0)
        })
}
