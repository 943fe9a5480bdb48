//! Where servers and tools are kept between runs, and how two processes install the same thing only once.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::error::{Context, Result, TestkitError};

/// Written last into an installed directory: one without it was left behind by an installation that did not finish.
const COMPLETE: &str = ".complete";

/// `${XDG_CACHE_HOME:-$HOME/.cache}/tributary`.
pub(crate) fn root() -> Result<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("tributary"))
        .ok_or_else(|| {
            TestkitError::new("no cache directory: set HOME or XDG_CACHE_HOME to an absolute path")
        })
}

/// The cached directory `name`, filled by `fill` if it is not there yet.
///
/// `fill` runs in the final place, because Python environments cannot be moved, while a lock keeps other processes out.
pub(crate) fn directory(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = root()?.join(name);
    if path.join(COMPLETE).exists() {
        return Ok(path);
    }
    let _lock = lock(&path)?;
    if path.join(COMPLETE).exists() {
        return Ok(path);
    }
    if path.exists() {
        fs::remove_dir_all(&path)
            .context(|| format!("cannot remove the unfinished {}", path.display()))?;
    }
    fs::create_dir_all(&path).context(|| format!("cannot create {}", path.display()))?;
    fill(&path)?;
    fs::write(path.join(COMPLETE), "")
        .context(|| format!("cannot write into {}", path.display()))?;
    Ok(path)
}

/// Waits for, and holds, the installation lock of `path` until the returned file is dropped.
fn lock(path: &Path) -> Result<File> {
    let lock = path.with_added_extension("lock");
    let parent = lock
        .parent()
        .expect("a path below the cache root has a parent");
    fs::create_dir_all(parent).context(|| format!("cannot create {}", parent.display()))?;
    let file = File::create(&lock).context(|| format!("cannot create {}", lock.display()))?;
    file.lock()
        .context(|| format!("cannot lock {}", lock.display()))?;
    Ok(file)
}

/// Runs a command to its end; an error carries the command line and the end of what it printed.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let output = command.output().context(|| format!("cannot run {shown}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(TestkitError::new(format!(
        "{shown} failed ({}):\n{}",
        output.status,
        last_lines(&printed, 20)
    )))
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
