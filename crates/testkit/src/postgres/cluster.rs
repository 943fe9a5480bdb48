//! One database cluster: a data directory and the server process on it.

use std::{
    error::Error,
    fs, io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use tokio_postgres::{Client, Config, NoTls};

use super::{Installation, PostgresBuilder, SUPERUSER};
use crate::{
    cache,
    error::{Context, Result, TestkitError},
    process::{Process, Scratch, loopback},
    tls::Tls,
    unprivileged,
};

/// A server starts in less than a second, and recovers in a few; a machine with two busy cores may need many.
const START: Duration = Duration::from_secs(90);

/// Settings of every server: little memory, no waiting for the disk, which outlives the process, and what initdb would
/// take from the machine.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "shared_buffers=16MB",
    "max_wal_size=256MB",
    "fsync=off",
    "full_page_writes=off",
    "jit=off",
    "timezone=GMT",
    "log_timezone=GMT",
    // In the data directory, so that it goes with it.
    "dynamic_shared_memory_type=mmap",
];

/// Over TCP only with TLS; over the socket in the server's own directory, which testkit itself uses, without.
const TLS_ONLY: &str = "\
local all all scram-sha-256
hostssl all all 127.0.0.1/32 scram-sha-256
";

#[derive(Debug)]
pub(crate) struct Cluster {
    // Declared before the directory, so that the process is gone before its files are.
    process: Option<Process>,
    scratch: Scratch,
    installation: Installation,
    arguments: Vec<String>,
    data: PathBuf,
    port: u16,
    password: String,
    tls: Option<Tls>,
}

impl Cluster {
    /// Makes a data directory, starts a server on it and waits until it answers.
    pub(crate) async fn start(
        installation: &Installation,
        builder: &PostgresBuilder,
        port: u16,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let data = scratch.path().join("data");
        let tls = builder
            .tls
            .then(|| Tls::generate(scratch.path()))
            .transpose()?;
        let password = hex::encode(rand::random::<[u8; 16]>());
        initialise(installation, scratch.path(), &data, &password).await?;

        let mut settings: Vec<String> = SETTINGS.map(str::to_owned).into();
        if let Some(tls) = &tls {
            let file = tls.server_certificate_key_file().display();
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={file}"));
            settings.push(format!("ssl_key_file={file}"));
            let rules = data.join("pg_hba.conf");
            fs::write(&rules, TLS_ONLY).context(|| format!("cannot write {}", rules.display()))?;
        }
        settings.extend(
            builder
                .parameters
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        let mut arguments = vec![
            "-D".to_owned(),
            data.display().to_string(),
            "-p".to_owned(),
            port.to_string(),
            "-k".to_owned(),
            scratch.path().display().to_string(),
        ];
        for setting in settings {
            arguments.extend(["-c".to_owned(), setting]);
        }
        let mut cluster = Self {
            process: None,
            scratch,
            installation: installation.clone(),
            arguments,
            data,
            port,
            password,
            tls,
        };
        cluster.restart().await?;
        Ok(cluster)
    }

    /// Starts the server, after killing it if it runs, and waits until it answers.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut command = self.installation.command("postgres");
        command.args(&self.arguments);
        let log = self.scratch.path().join("postgres.log");
        // Its "immediate" shutdown: no checkpoint, but also no process and no shared memory that stays behind.
        let mut process = Process::start("postgres", command, &log, Signal::QUIT)?;
        let config = &self.config("postgres");
        process
            .wait_until("answering", START, || async move {
                connect(config).await.ok().map(drop)
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Its "fast" shutdown: transactions are rolled back and connections told.
    pub(crate) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.end_with(Signal::INT);
        }
        self.process = None;
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    pub(crate) fn data_directory(&self) -> &Path {
        &self.data
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// How the superuser reaches a database: over the server's socket.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(self.scratch.path())
            .port(self.port)
            .user(SUPERUSER)
            .password(&self.password)
            .dbname(database);
        config
    }

    /// Sets the length beyond which the processes that serve clients, now and from now on, cannot make a file grow.
    pub(crate) async fn limit_file_size(&self, limit: &str) -> Result<()> {
        let postmaster = self
            .pid()
            .ok_or_else(|| TestkitError::new("the server has been stopped"))?;
        // First, because the processes of connections to come inherit its limit.
        self.limit_file_size_of(&postmaster.to_string(), limit)?;
        let client = connect(&self.config("postgres")).await?;
        let backends = client
            .query(
                "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'client backend'",
                &[],
            )
            .await
            .map_err(cause)
            .context(|| "cannot list the server's processes".to_owned())?;
        for backend in backends {
            let pid: String = backend.get(0);
            let limited = self.limit_file_size_of(&pid, limit);
            // One whose client has left meanwhile needs no limit.
            if Path::new("/proc").join(&pid).exists() {
                limited?;
            }
        }
        Ok(())
    }

    fn limit_file_size_of(&self, pid: &str, limit: &str) -> Result<()> {
        // By the server's own user, who may do it to its processes also where root may not.
        let mut command = unprivileged::command("prlimit");
        command
            .args(["--pid", pid])
            .arg(format!("--fsize={limit}:"));
        cache::run(&mut command).map(drop)
    }
}

/// Makes a data directory whose superuser has `password`.
async fn initialise(
    installation: &Installation,
    scratch: &Path,
    data: &Path,
    password: &str,
) -> Result<()> {
    let file = scratch.join("password");
    write_secret(&file, password).context(|| format!("cannot write {}", file.display()))?;
    unprivileged::give(scratch)?;
    let mut command = installation.command("initdb");
    command
        .arg("--pgdata")
        .arg(data)
        .args(["--username", SUPERUSER])
        .arg("--pwfile")
        .arg(&file)
        .args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            // In MB: sixteen times as small as usual, as are the tests' data.
            "--wal-segsize=1",
        ]);
    tokio::task::spawn_blocking(move || cache::run(&mut command))
        .await
        .context(|| "cannot make a data directory".to_owned())??;
    fs::remove_file(&file).context(|| format!("cannot remove {}", file.display()))
}

fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    io::Write::write_all(&mut file, secret.as_bytes())
}

/// A client, whose connection ends with it.
pub(crate) async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(cause)
        .context(|| "cannot connect to PostgreSQL".to_owned())?;
    // What ends it, the client's next request reports.
    tokio::spawn(connection);
    Ok(client)
}

/// What an error of the client is about; its own text is no more than "db error".
pub(crate) fn cause(error: tokio_postgres::Error) -> Box<dyn Error + Send + Sync> {
    let text = error.to_string();
    error.into_source().unwrap_or_else(|| text.into())
}
