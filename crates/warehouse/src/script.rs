//! Scripts: statements that are run in one transaction.

mod split;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::{DbError, Severity};
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};

use crate::client::{Pool, Server};
use split::{Statement, statements};

/// How long a statement that is to be cancelled is waited for.
const CANCELLED: Duration = Duration::from_secs(10);

/// Runs the statements of a script, one after the other, in one transaction of the warehouse at an address,
/// and answers how many there were. When `stop` is cancelled, so is the statement that runs, and nothing of
/// the script has been done. What a server does outside of transactions, such as Redshift's `TRUNCATE`,
/// which ends the transaction, it does here as well.
///
/// # Errors
/// The script begins or ends transactions itself. A statement fails: the error names its line, and nothing
/// of the script has been done. [`Interrupted`](ErrorKind::Interrupted) where it was stopped, and also where
/// it was cut off while it was committed: the error says then that it is not known whether it has been done.
pub async fn run_script(address: &str, script: &str, stop: &CancellationToken) -> Result<u64> {
    let server = Server::of(address).unwrap_or(Server::Postgres);
    let pool = Pool::new(server, address)?;
    let statements = statements(script);
    if let Some(statement) = statements.iter().find(|s| s.controls_transaction()) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("`{}` cannot stand in a script", statement.first_word()),
        )
        .on("line", statement.line)
        .because("a script is one transaction, from its first statement to its last")
        .remedy("leave it out, or make a step of its own of what is to be committed before"));
    }
    let connected = tokio::select! {
        () = stop.cancelled() => return Err(stopped()),
        connected = pool.get() => connected,
    };
    let mut client = connected?;
    let cancel = client.cancel_token();
    let commits = AtomicBool::new(false);
    let work = run(&pool, &mut client, &statements, &commits, stop);
    tokio::pin!(work);
    tokio::select! {
        ended = &mut work => ended,
        () = stop.cancelled() => {
            // Where that cannot be asked, the end of the connection does the same.
            let _ = tokio::time::timeout(CANCELLED, pool.cancel(cancel)).await;
            // A transaction whose connection ends is rolled back by the server.
            let ended = tokio::time::timeout(CANCELLED, work).await;
            ended.unwrap_or_else(|_| Err(match commits.load(Ordering::Relaxed) {
                true => cut_off(&pool),
                false => stopped(),
            }))
        }
    }
}

fn stopped() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the script was stopped, and nothing of it has been done",
    )
}

/// Nobody knows what has become of the script.
fn cut_off(pool: &Pool) -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the server did not answer to the commit of the script: it is not known whether the script has been done",
    )
    .on("server", pool.place())
    .remedy("look whether what it does is there, and run it again where it is not")
}

/// Whether the server has told that it did not commit; what ends the session tells nothing.
fn is_undone(error: &DbError) -> bool {
    let code = error.code().code();
    let is_error = match error.parsed_severity() {
        Some(severity) => severity == Severity::Error,
        // Servers that do not tell it apart from its translation.
        None => error.severity() == "ERROR",
    };
    // Trouble with the connection, and a statement whose end is not known.
    is_error && !code.starts_with("08") && code != "40003"
}

async fn run(
    pool: &Pool,
    client: &mut Client,
    statements: &[Statement<'_>],
    commits: &AtomicBool,
    stop: &CancellationToken,
) -> Result<u64> {
    let transaction = pool.begin(client).await?;
    for statement in statements {
        if stop.is_cancelled() {
            break;
        }
        if let Err(error) = transaction.batch_execute(statement.text).await {
            let failed = match stop.is_cancelled() {
                true => stopped(),
                false => statement_failed(pool, statement, error),
            };
            // What has failed cannot be committed, whatever comes of this.
            let _ = transaction.rollback().await;
            return Err(failed);
        }
    }
    if stop.is_cancelled() {
        let _ = transaction.rollback().await;
        return Err(stopped());
    }
    commits.store(true, Ordering::Relaxed);
    let committed = transaction.commit().await;
    committed.map_err(|error| match error.as_db_error() {
        Some(told) if is_undone(told) => pool.failed(
            "cannot commit the script, and nothing of it has been done",
            error,
        ),
        _ => cut_off(pool).because(error),
    })?;
    Ok(statements.len() as u64)
}

fn statement_failed(pool: &Pool, statement: &Statement<'_>, error: tokio_postgres::Error) -> Error {
    let position = error.as_db_error().and_then(|db| match db.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(position)) => Some(*position as usize),
        _ => None,
    });
    // The server counts characters, from 1 on.
    let before = statement
        .text
        .chars()
        .take(position.unwrap_or(1).saturating_sub(1));
    let line = statement.line + before.filter(|c| *c == '\n').count();
    let is_told = error.as_db_error().is_some();
    let failed = pool
        .failed(
            "a statement of the script failed, and nothing of the script has been done",
            error,
        )
        .on("line", line);
    match failed.kind() {
        ErrorKind::InvalidData if is_told => failed.remedy("correct the script"),
        ErrorKind::Forbidden => {
            failed.remedy("grant the user of the address what the statement needs")
        }
        _ => failed,
    }
}
