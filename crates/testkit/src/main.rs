//! `testkit`: starts servers around a command, and makes Python environments.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program prints"
)]

use std::{
    env, fs,
    io::IsTerminal,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus},
};

use clap::{Args, Parser};
use tokio::signal::unix::{SignalKind, signal};
use tributary_testkit::{
    AzuriteServer, Mongod, Postgres, S3Server, Signal, TestkitError, env as names, python_venv,
    send_signal, spawn,
};

/// Where the command finds a server, and where one may be given.
const MONGODB_URI: &str = "MONGODB_URI";
const POSTGRES_URI: &str = "POSTGRES_URI";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(
    name = "testkit",
    about = "Servers and tools for tests, benchmarks and demonstrations",
    version
)]
enum Cli {
    /// Run a command with servers that start before it and end after it
    Run(Run),
    /// Create a Python environment in the cache, unless it is there, and print the path of its python
    Venv(Venv),
}

#[derive(Args)]
struct Run {
    /// A mongod; the command finds it in MONGODB_URI. If MONGODB_URI is set already, that server is used
    #[arg(long)]
    mongod: bool,
    /// A PostgreSQL server; the command finds its superuser in POSTGRES_URI. If POSTGRES_URI is set already, that server
    /// is used
    #[arg(long)]
    postgres: bool,
    /// An S3 server
    #[arg(long)]
    s3: bool,
    /// An Azure Blob server
    #[arg(long)]
    azure: bool,
    /// The command and its arguments, after --
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct Venv {
    /// Name of the environment; it is made anew when the requirements change
    name: String,
    /// A pip requirements file
    #[arg(short, long, value_name = "FILE")]
    requirements: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Run(args) => run(args).await,
        Cli::Venv(args) => venv(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("testkit: {error}");
        ExitCode::FAILURE
    })
}

fn venv(args: &Venv) -> Result<ExitCode, Failure> {
    let path = args.requirements.display();
    let text = fs::read_to_string(&args.requirements)
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    let lines: Vec<&str> = text.lines().collect();
    println!("{}", python_venv(&args.name, &lines)?.display());
    Ok(ExitCode::SUCCESS)
}

async fn run(args: Run) -> Result<ExitCode, Failure> {
    // Taken before anything starts: the default action would leave the servers' directories behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let servers = tokio::select! {
        servers = Servers::start(&args) => servers?,
        _ = interrupt.recv() => return Ok(exit_code_of_signal(Signal::INT)),
        _ = terminate.recv() => return Ok(exit_code_of_signal(Signal::TERM)),
    };

    let mut words = args.command.iter();
    let program = words.next().ok_or("there is no command to run")?;
    let mut command = Command::new(program);
    command.args(words).envs(servers.variables());
    let mut child =
        spawn(command, Signal::TERM).map_err(|error| format!("cannot run {program}: {error}"))?;

    // A terminal sends Ctrl-C to the command as well, and some commands take a second one for "at once".
    let forward_interrupt = !std::io::stdin().is_terminal();
    let mut ended = signal(SignalKind::child())?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        tokio::select! {
            _ = ended.recv() => {}
            _ = interrupt.recv() => if forward_interrupt { send_signal(&child, Signal::INT)?; },
            _ = terminate.recv() => send_signal(&child, Signal::TERM)?,
        }
    };
    drop(servers);
    Ok(exit_code(status))
}

/// The servers asked for, and how the command finds them.
struct Servers {
    _mongod: Option<Mongod>,
    mongodb_uri: Option<String>,
    _postgres: Option<Postgres>,
    postgres_uri: Option<String>,
    s3: Option<S3Server>,
    azure: Option<AzuriteServer>,
}

impl Servers {
    async fn start(args: &Run) -> Result<Self, TestkitError> {
        let given =
            |wanted: bool, name: &str| env::var(name).ok().filter(|uri| wanted && !uri.is_empty());
        let mongodb_uri = given(args.mongod, MONGODB_URI);
        let postgres_uri = given(args.postgres, POSTGRES_URI);
        let (mongod, postgres, s3, azure) = tokio::try_join!(
            when(args.mongod && mongodb_uri.is_none(), Mongod::start()),
            when(args.postgres && postgres_uri.is_none(), Postgres::start()),
            when(args.s3, S3Server::start()),
            when(args.azure, AzuriteServer::start()),
        )?;
        let mongodb_uri = mongodb_uri.or_else(|| mongod.as_ref().map(Mongod::uri));
        let postgres_uri = postgres_uri.or_else(|| postgres.as_ref().map(Postgres::uri));
        if let Some(uri) = &mongodb_uri {
            eprintln!("testkit: mongod is {}", without_password(uri, MONGODB_URI));
        }
        if let Some(uri) = &postgres_uri {
            eprintln!(
                "testkit: PostgreSQL is {}",
                without_password(uri, POSTGRES_URI)
            );
        }
        if let Some(s3) = &s3 {
            eprintln!("testkit: S3 is {}", s3.endpoint());
        }
        if let Some(azure) = &azure {
            eprintln!("testkit: Azure Blob is {}", azure.endpoint());
        }
        Ok(Self {
            _mongod: mongod,
            mongodb_uri,
            _postgres: postgres,
            postgres_uri,
            s3,
            azure,
        })
    }

    fn variables(&self) -> Vec<(&'static str, &str)> {
        let mongodb = self.mongodb_uri.as_deref();
        let postgres = self.postgres_uri.as_deref();
        [
            (MONGODB_URI, mongodb),
            (names::MONGODB_URI, mongodb),
            (POSTGRES_URI, postgres),
            (names::POSTGRES_URI, postgres),
            (names::S3_ENDPOINT, self.s3.as_ref().map(S3Server::endpoint)),
            (
                names::AZURE_ENDPOINT,
                self.azure.as_ref().map(AzuriteServer::endpoint),
            ),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

async fn when<T>(
    wanted: bool,
    start: impl Future<Output = Result<T, TestkitError>>,
) -> Result<Option<T>, TestkitError> {
    if wanted {
        start.await.map(Some)
    } else {
        Ok(None)
    }
}

fn without_password(uri: &str, variable: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return format!("given by {variable}");
    };
    let (address, options) = rest.split_once('?').unwrap_or((rest, ""));
    let address = match address.rsplit_once('@') {
        Some((user, hosts)) => {
            format!("{}:***@{hosts}", user.split(':').next().unwrap_or_default())
        }
        None => address.to_owned(),
    };
    // Some options are passwords as well.
    let options = match options {
        "" => String::new(),
        _ if options.to_lowercase().contains("password") => "?***".to_owned(),
        _ => format!("?{options}"),
    };
    format!("{scheme}://{address}{options}")
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

fn exit_code_of_signal(signal: Signal) -> ExitCode {
    u8::try_from(128 + signal.as_raw()).map_or(ExitCode::FAILURE, ExitCode::from)
}
