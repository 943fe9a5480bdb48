//! Finds the programs of a PostgreSQL server, or installs them into the cache from the system's packages.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::sync::OnceCell;

use super::packaged;
use crate::{
    cache, env as names,
    error::{Context, Result, TestkitError},
    unprivileged,
};

const CACHED: &str = "postgresql";

/// Where Debian and its kin keep the programs of each major version.
const SYSTEM: &str = "/usr/lib/postgresql";

/// The package that depends on the server of the distribution's own version.
const META_PACKAGE: &str = "postgresql";

/// The programs of a PostgreSQL server that runs on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    pub(super) programs: PathBuf,
    /// Where the libraries are that the system does not have.
    pub(super) libraries: Option<OsString>,
}

impl Installation {
    /// The server of a major version.
    pub(crate) async fn of_version(major: String) -> Result<Self> {
        tokio::task::spawn_blocking(move || packaged::installed(&major))
            .await
            .context(|| "cannot look for PostgreSQL".to_owned())?
    }

    /// The machine's own server, or else one from the system's packages.
    pub(crate) async fn find() -> Result<Self> {
        static FOUND: OnceCell<Installation> = OnceCell::const_new();
        FOUND
            .get_or_try_init(|| async {
                tokio::task::spawn_blocking(find)
                    .await
                    .context(|| "cannot look for PostgreSQL".to_owned())?
            })
            .await
            .cloned()
    }

    fn of(programs: PathBuf) -> Self {
        Self {
            programs,
            libraries: None,
        }
    }

    /// One of the programs, as a command that does not run as root: PostgreSQL refuses to.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = unprivileged::command(self.programs.join(program));
        // The machine's own locale may not be installed, and messages are to be in English.
        command.env("LC_ALL", "C");
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Fails unless both programs that are needed run.
    pub(super) fn check(&self) -> Result<()> {
        ["initdb", "postgres"].iter().try_for_each(|program| {
            cache::run(self.command(program).arg("--version"))
                .map(drop)
                .context(|| format!("{} does not run", self.programs.join(program).display()))
        })
    }
}

fn find() -> Result<Installation> {
    if let Some(programs) = env::var_os(names::POSTGRES) {
        let given = Installation::of(programs.into());
        given.check().context(|| {
            format!(
                "{} is not the directory of initdb and postgres",
                names::POSTGRES
            )
        })?;
        return Ok(given);
    }
    let on_path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&on_path)
        .chain(versions(Path::new(SYSTEM)))
        .filter(|programs| programs.join("initdb").is_file())
        .map(Installation::of)
        .find(|installation| installation.check().is_ok());
    match found {
        Some(installation) => Ok(installation),
        None => installed(),
    }
}

/// The programs' directories below one such as [`SYSTEM`], the newest version first.
fn versions(directory: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = entries(directory)
        .filter_map(|path| {
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, programs)| programs).collect()
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// The installation in the cache, made if it is not there.
fn installed() -> Result<Installation> {
    let directory = cache::server_directory(CACHED, install).context(|| {
        format!(
            "there is no PostgreSQL server: {} is not set, none on PATH or below {SYSTEM} runs, and it cannot be \
             installed into the cache; install PostgreSQL (Debian: {META_PACKAGE}), or set {} to the directory of its \
             initdb and postgres",
            names::POSTGRES,
            names::POSTGRES
        )
    })?;
    let system = directory.join("usr/lib");
    let programs = versions(&system.join("postgresql"))
        .into_iter()
        .next()
        .ok_or_else(|| TestkitError::new(format!("there is no server in {}", system.display())))?;
    let libraries = [system, directory.join("lib")]
        .into_iter()
        .flat_map(|parent| entries(&parent).collect::<Vec<_>>())
        .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    let libraries = env::join_paths(libraries)
        .context(|| format!("no library path can name {}", directory.display()))?;
    let installation = Installation {
        programs,
        libraries: Some(libraries),
    };
    installation.check().context(|| {
        format!(
            "PostgreSQL in the cache does not run, perhaps because the system's libraries were replaced; remove {} and \
             try again",
            directory.display()
        )
    })?;
    Ok(installation)
}

/// Unpacks the server's package, and those of the libraries that the system does not have.
///
/// Nothing of the system changes, no service is started, and any user may do it. As apt does on its own, this takes
/// what the system's sources offer, signed; if the system's lists of packages are missing or stale, lists of its own.
fn install(directory: &Path) -> Result<()> {
    let download = directory.join("download");
    let archives = download.join("archives");
    fs::create_dir_all(&archives).context(|| format!("cannot create {}", archives.display()))?;
    let apt = Apt {
        state: None,
        directory: archives.clone(),
    };
    if apt.fetch().is_err() {
        let lists = download.join("lists");
        // apt creates it for its own directory only.
        let partial = lists.join("partial");
        fs::create_dir_all(&partial).context(|| format!("cannot create {}", partial.display()))?;
        let apt = Apt {
            state: Some(download.clone()),
            ..apt
        };
        // One source that is away need not be the one with the packages.
        let updated = cache::run(apt.command("apt-get").args(["--quiet", "update"]));
        if let Err(error) = apt.fetch() {
            updated?;
            return Err(error);
        }
    }
    for archive in entries(&archives).filter(|path| path.extension().is_some_and(|e| e == "deb")) {
        cache::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(archive)
                .arg(directory),
        )?;
    }
    fs::remove_dir_all(&download).context(|| format!("cannot remove {}", download.display()))
}

/// The system's package manager, asked for packages without installing them.
struct Apt {
    /// Where the lists of packages are, if not in the system's place.
    state: Option<PathBuf>,
    /// Where packages are downloaded to.
    directory: PathBuf,
}

impl Apt {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env("LC_ALL", "C");
        // As root, apt would take on a user who cannot write here.
        command.args(["-o", "APT::Sandbox::User=root"]);
        if let Some(state) = &self.state {
            for (option, path) in [("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")] {
                let value = format!("{option}={}", state.join(path).display());
                command.args(["-o", &value]);
            }
            // That of the system's lists, which only root may take.
            command.args(["-o", "Debug::NoLocking=true"]);
        }
        command
    }

    /// Downloads the server's package and those of the libraries that the system does not have.
    fn fetch(&self) -> Result<()> {
        let depends = self.lines(&["apt-cache", "depends", META_PACKAGE])?;
        let server = depends
            .iter()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| {
                name.strip_prefix("postgresql-")
                    .is_some_and(|version| version.parse::<u32>().is_ok())
            })
            .ok_or_else(|| {
                TestkitError::new(format!("the package {META_PACKAGE} names no server"))
            })?;
        let plan = self.lines(&[
            "apt-get",
            "--simulate",
            "--no-install-recommends",
            "--reinstall",
            "install",
            server,
        ])?;
        let packages = plan
            .iter()
            .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
            .filter(|name| *name == server || is_library(name));
        cache::run(
            self.command("apt-get")
                .args(["--quiet", "download"])
                .args(packages),
        )?;
        Ok(())
    }

    fn lines(&self, words: &[&str]) -> Result<Vec<String>> {
        let (program, arguments) = words.split_first().expect("a command has a name");
        let output = cache::run(self.command(program).args(arguments)).context(|| {
            "downloading it needs apt, the package manager of Debian and its kin".to_owned()
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// Whether a package is one of shared libraries that the server may load: not its scripts' Perl, and not the compiler
/// of expressions, which is larger than all the rest and is turned off.
fn is_library(package: &str) -> bool {
    package.starts_with("lib") && !package.ends_with("-perl") && !package.starts_with("libllvm")
}

#[cfg(test)]
mod tests {
    use super::{installed, is_library, versions};
    use crate::{postgres::Cluster, process::with_free_port};

    #[tokio::test]
    async fn a_server_runs_from_the_cache_also_where_the_system_has_one() {
        let installation = &installed().unwrap();
        let options = &Default::default();
        let server = with_free_port(|port| Cluster::start(installation, options, port))
            .await
            .unwrap();
        let program = format!("/proc/{}/exe", server.pid().unwrap());
        let program = std::fs::read_link(program).unwrap();
        assert!(program.starts_with(&installation.programs), "{program:?}");
    }

    #[test]
    fn the_newest_version_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["9", "15", "common", "16"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let expected = ["16/bin", "15/bin", "9/bin"].map(|name| directory.path().join(name));
        assert_eq!(versions(directory.path()), expected);
    }

    #[test]
    fn only_libraries_are_unpacked_beside_the_server() {
        let packages = ["libicu72", "libjson-perl", "libllvm14", "ssl-cert"];
        let libraries: Vec<_> = packages
            .into_iter()
            .filter(|name| is_library(name))
            .collect();
        assert_eq!(libraries, ["libicu72"]);
    }
}
