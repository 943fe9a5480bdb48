//! The command line of Tributary: arguments, wiring, progress and exit codes.

mod alert;
mod check;
mod cli;
mod console;
mod copy;
mod demo;
mod engine;
mod functions;
mod health;
mod job;
mod lines;
mod metrics;
mod run;
mod schema;
mod sql;
mod sync;
mod telemetry;
mod trigger;
mod verify;
mod warehouse;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};

/// Everything went as asked, or was stopped on request.
const DONE: u8 = 0;
/// Something failed; nothing is lost.
const FAILED: u8 = 1;
/// The command line or a configuration is wrong.
const WRONG_USAGE: u8 = 2;

/// Runs the command that the process was given.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    console::set_up_logs(&cli.logs);
    match execute(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            console::report(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage => WRONG_USAGE,
        ErrorKind::Interrupted => DONE,
        _ => FAILED,
    }
}

fn execute(command: Command) -> Result<u8> {
    // Both TLS implementations may be linked in; the process uses this one.
    // An error means that it was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match command {
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "tributary",
                &mut std::io::stdout(),
            );
            return Ok(DONE);
        }
        Command::Man { directory } => {
            clap_mangen::generate_to(Cli::command(), &directory).map_err(|error| {
                Error::new(ErrorKind::Storage, "cannot write the manual pages")
                    .on("directory", directory.display())
                    .because(error)
            })?;
            return Ok(DONE);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot start the runtime").because(error)
        })?;
    let result = runtime.block_on(async {
        let stop = stop_on_signal();
        match command {
            Command::Copy(arguments) => copy::run(*arguments, stop).await,
            Command::Sync(arguments) => sync::run(*arguments, stop).await,
            Command::Verify(arguments) => verify::run(*arguments, stop).await,
            Command::Schema(command) => schema::run(command, stop).await,
            Command::Sql(arguments) => sql::run(arguments, stop).await,
            Command::Run(arguments) => run::run(arguments, stop).await,
            Command::Job(command) => job::run(command, stop).await,
            Command::Trigger(command) => trigger::run(command).await,
            Command::Function(command) => functions::command::run(command, stop).await,
            Command::Alert(command) => alert::run(command, stop).await,
            Command::Check(arguments) => check::run(*arguments, stop).await,
            Command::Health { url } => health::run(&url, stop).await,
            Command::DemoData(arguments) => demo::run(arguments, stop).await,
            // Handled above: they need no runtime.
            Command::Completions { .. } | Command::Man { .. } => Ok(DONE),
        }
    });
    // What the driver still does in the background, such as closing cursors, ends with the process:
    // it panics where its other tasks are dropped before.
    std::mem::forget(runtime);
    result
}

/// A token that the first Ctrl-C or SIGTERM cancels. The second one ends the process at once.
fn stop_on_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return;
        };
        for asked in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked > 0 {
                std::process::exit(130);
            }
            cancelled.cancel();
        }
    });
    stop
}

/// The address that an argument gives: itself, or in the environment variable it names.
fn address(text: &str) -> Result<String> {
    let Some(name) = text.strip_prefix("env:") else {
        return Ok(text.to_owned());
    };
    std::env::var(name).map_err(|error| {
        Error::new(ErrorKind::Usage, "the environment variable cannot be used")
            .on("variable", name)
            .because(error)
    })
}

/// Whether an address is one of a MongoDB.
fn is_mongodb(address: &str) -> bool {
    address.starts_with("mongodb://") || address.starts_with("mongodb+srv://")
}

/// The MongoDB address that an argument gives.
fn mongodb_uri(text: &str) -> Result<String> {
    let uri = address(text)?;
    if is_mongodb(&uri) {
        return Ok(uri);
    }
    Err(Error::new(ErrorKind::Usage, "not a MongoDB address")
        .on("argument", text)
        .remedy("write it as mongodb://host:port/database or mongodb+srv://host/database"))
}

/// An observer shared by tasks.
type SharedObserver = Arc<dyn tributary_flow::Observer>;
