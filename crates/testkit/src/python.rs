//! Python environments: for the S3 server, for independent readers in tests, and for the benchmarks' peers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ring::digest;

use crate::{
    cache,
    error::{Context, Result, TestkitError},
};

/// Path of the `python` of a virtual environment that has `requirements` installed.
///
/// The environment is created on first use and kept in the cache under `name` and the hash of the requirements, which
/// are lines of a pip requirements file; pin them (`package==1.2.3`). This blocks for as long as pip needs.
///
/// # Errors
/// `python3` with its `venv` module is missing, or pip cannot install a requirement.
pub fn python_venv(name: &str, requirements: &[&str]) -> Result<PathBuf> {
    let text = requirements.join("\n") + "\n";
    let hash = hex::encode(digest::digest(&digest::SHA256, text.as_bytes()));
    let directory = cache::directory(&format!("venv/{name}-{}", &hash[..12]), |path| {
        create(path, &text).context(|| format!("cannot create the Python environment {name:?}"))
    })?;
    let python = directory.join("bin/python");
    if Command::new(&python)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        Ok(python)
    } else {
        Err(TestkitError::new(format!(
            "{} does not run, perhaps because the system's python3 was replaced; remove {} and try again",
            python.display(),
            directory.display()
        )))
    }
}

fn create(path: &Path, requirements: &str) -> Result<()> {
    cache::run(Command::new("python3").args(["-m", "venv"]).arg(path)).context(|| {
        "python3 with the venv module is needed (Debian: python3 and python3-venv)".to_owned()
    })?;
    let file = path.join("requirements.txt");
    fs::write(&file, requirements).context(|| format!("cannot write {}", file.display()))?;
    cache::run(
        Command::new(path.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
            ])
            .arg(&file),
    )?;
    Ok(())
}
