//! One mongod process with its data directory.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bson::{Bson, Document, doc};
use mongodb::{
    Client,
    options::{ClientOptions, ServerAddress, TlsOptions},
};
use rustix::process::Signal;
use tokio::net::TcpStream;

use super::{MongodBuilder, REPLICA_SET};
use crate::{
    error::{Context, Result, TestkitError},
    process::{Process, Scratch, loopback},
    tls::Tls,
};

/// A member starts in about a second; a machine with two busy cores may need many.
const START: Duration = Duration::from_secs(90);

/// State of a member as its `hello` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Primary,
    Secondary,
    /// Running, but not yet, or no longer, of use.
    Other,
}

#[derive(Debug)]
pub(crate) struct Member {
    // Declared before the directory, so that the process is gone before its files are.
    process: Option<Process>,
    scratch: Scratch,
    executable: PathBuf,
    arguments: Vec<String>,
    port: u16,
    tls: Option<Tls>,
}

impl Member {
    /// Starts a process and waits until it answers.
    pub(crate) async fn start(
        executable: &Path,
        builder: &MongodBuilder,
        port: u16,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let data = scratch.path().join("data");
        fs::create_dir(&data).context(|| format!("cannot create {}", data.display()))?;
        let mut arguments: Vec<String> = [
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
            "--replSet",
            REPLICA_SET,
            "--setParameter",
            "diagnosticDataCollectionEnabled=false",
            // The least it accepts: deriving keys in an unoptimised client is slow.
            "--setParameter",
            "scramSHA256IterationCount=5000",
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(["--port".to_owned(), port.to_string()]);
        if !builder.arguments.iter().any(|a| a == "--oplogSize") {
            // Tests write little; the default is a share of the whole disk.
            arguments.extend(["--oplogSize", "512"].map(str::to_owned));
        }
        arguments.extend([
            "--wiredTigerCacheSizeGB".to_owned(),
            builder.cache_gib.to_string(),
        ]);
        arguments.extend(["--dbpath".to_owned(), data.display().to_string()]);
        if builder.auth {
            let path = scratch.path().join("keyfile");
            fs::write(&path, hex::encode(rand::random::<[u8; 32]>()))
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
                .context(|| format!("cannot write {}", path.display()))?;
            arguments.extend(["--keyFile".to_owned(), path.display().to_string()]);
        }
        let tls = builder
            .tls
            .then(|| Tls::generate(scratch.path()))
            .transpose()?;
        if let Some(tls) = &tls {
            arguments.extend(tls_arguments(tls));
        }
        arguments.extend(builder.arguments.iter().cloned());
        let mut member = Self {
            process: None,
            scratch,
            executable: executable.to_owned(),
            arguments,
            port,
            tls,
        };
        member.restart()?;
        member
            .wait_for(&[State::Primary, State::Secondary, State::Other])
            .await?;
        Ok(member)
    }

    /// Starts the process, after killing it if it runs.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments);
        let log = self.scratch.path().join("mongod.log");
        self.process = Some(Process::start("mongod", command, &log, Signal::KILL)?);
        Ok(())
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
        // Not Scratch's own directory, which also holds secrets and the log.
        self.arguments
            .iter()
            .position(|argument| argument == "--dbpath")
            .and_then(|at| self.arguments.get(at + 1))
            .map(Path::new)
            .expect("every member is started with --dbpath")
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Makes a replica set of `members`, of which this is the first.
    pub(crate) async fn initiate(&self, members: &[SocketAddr]) -> Result<()> {
        let members: Vec<Bson> = members
            .iter()
            .zip(0_i32..)
            .map(|(address, id)| Bson::from(doc! { "_id": id, "host": address.to_string() }))
            .collect();
        // Defaults are made for networks between data centres: ten seconds until a dead primary is replaced.
        let settings = doc! { "electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500 };
        let config =
            doc! { "_id": REPLICA_SET, "version": 1, "members": members, "settings": settings };
        self.command(doc! { "replSetInitiate": config })
            .await
            .context(|| "cannot initiate the replica set".to_owned())?;
        Ok(())
    }

    /// Runs a command on `admin` of this very member, without authentication.
    pub(crate) async fn command(&self, command: Document) -> Result<Document> {
        run(self.client_options(), command).await
    }

    /// What this member is now; `None` if it does not answer.
    pub(crate) async fn state(&self) -> Option<State> {
        state(self.port, &self.client_options()).await
    }

    pub(crate) async fn wait_for(&mut self, wanted: &[State]) -> Result<()> {
        let what = match wanted {
            [State::Primary] => "primary",
            _ => "ready",
        };
        let (port, options) = (self.port, &self.client_options());
        let process = self
            .process
            .as_mut()
            .ok_or_else(|| TestkitError::new(format!("mongod on port {port} has been killed")))?;
        process
            .wait_until(what, START, || async move {
                state(port, options)
                    .await
                    .filter(|state| wanted.contains(state))
                    .map(drop)
            })
            .await
    }

    fn client_options(&self) -> ClientOptions {
        let host = ServerAddress::Tcp {
            host: "127.0.0.1".to_owned(),
            port: Some(self.port),
        };
        let tls = self.tls.as_ref().map(|tls| {
            TlsOptions::builder()
                .ca_file_path(tls.ca_file().to_owned())
                .build()
                .into()
        });
        ClientOptions::builder()
            .hosts(vec![host])
            .direct_connection(true)
            .server_selection_timeout(Duration::from_secs(5))
            .connect_timeout(Duration::from_secs(5))
            .tls(tls)
            .build()
    }
}

fn tls_arguments(tls: &Tls) -> [String; 7] {
    [
        "--tlsMode".to_owned(),
        "requireTLS".to_owned(),
        "--tlsCertificateKeyFile".to_owned(),
        tls.server_certificate_key_file().display().to_string(),
        "--tlsCAFile".to_owned(),
        tls.ca_file().display().to_string(),
        "--tlsAllowConnectionsWithoutCertificates".to_owned(),
    ]
}

async fn run(options: ClientOptions, command: Document) -> Result<Document> {
    let name = command.keys().next().cloned().unwrap_or_default();
    let what = || format!("{name} failed");
    let client = Client::with_options(options).context(what)?;
    client
        .database("admin")
        .run_command(command)
        .await
        .context(what)
}

async fn state(port: u16, options: &ClientOptions) -> Option<State> {
    // A client that finds nobody listening waits half a second before it looks again.
    TcpStream::connect(loopback(port)).await.ok()?;
    let hello = run(options.clone(), doc! { "hello": 1 }).await.ok()?;
    let is = |name| hello.get_bool(name).unwrap_or(false);
    Some(if is("isWritablePrimary") {
        State::Primary
    } else if is("secondary") {
        State::Secondary
    } else {
        State::Other
    })
}
