//! Where servers and tools are kept between runs, and how two processes install the same thing only once.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    error::{Context, Result, TestkitError},
    unprivileged,
};

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

/// The same for servers that do not run as root: where the cache of root is closed to others, the system's.
fn root_for_servers() -> Result<PathBuf> {
    let root = root()?;
    Ok(if unprivileged::is_reachable(&root.join("name")) {
        root
    } else {
        PathBuf::from("/var/cache/tributary")
    })
}

/// The cached directory `name`, filled by `fill` if it is not there yet.
///
/// `fill` runs in the final place, because Python environments cannot be moved, while a lock keeps other processes out.
pub(crate) fn directory(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    fill_once(root()?.join(name), fill)
}

/// The same for what a server needs that does not run as root.
pub(crate) fn server_directory(
    name: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    fill_once(root_for_servers()?.join(name), fill)
}

fn fill_once(path: PathBuf, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
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

/// Installs a package, such as `name@1.2.3`, and what it needs into `directory/node_modules`, without running a script
/// of any of them.
pub(crate) fn npm_install(directory: &Path, package: &str) -> Result<()> {
    let mut command = Command::new("npm");
    command
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--omit=dev",
            "--prefix",
        ])
        .arg(directory)
        .arg(package);
    run(&mut command)
        .map(drop)
        .context(|| format!("{package} needs Node.js and npm (Debian: nodejs and npm)"))
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
