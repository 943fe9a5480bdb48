//! Failures of reading, each with what can be done about it.

use tokio_postgres::error::SqlState;
use tributary_flow::AttachedName;
use tributary_model::{Error, ErrorKind};

use super::column::{Column, Unreadable};
use crate::client::Pool;

/// What a statement that reads has failed with. What a table that is loaded would have to be told
/// does not help here.
pub(super) fn failed(what: &str, pool: &Pool, error: tokio_postgres::Error) -> Error {
    let code = error.code().map(SqlState::code).unwrap_or_default();
    let remedy = match code {
        "42501" => "grant the user USAGE on the schema and SELECT on the table",
        "42P01" | "42703" | "42804" => {
            "the table has been changed since the query began: run it again"
        }
        "55P03" => "another session holds a lock on the table: run the query again when it is done",
        "53300" => "raise the server's max_connections, or attach fewer tables in one query",
        "25006" => "a view or a function writes, but an attached database is only read",
        "57014" => {
            "the server's statement_timeout is too short for the query, or somebody cancelled it"
        }
        _ => return pool.failed(what, error),
    };
    pool.failed(what, error).remedy(remedy)
}

/// What is told of a value that its column cannot hold.
pub(super) fn unreadable(
    place: &str,
    table: &AttachedName,
    column: &Column,
    why: Unreadable,
) -> Error {
    Error::new(ErrorKind::InvalidData, "a value cannot be read")
        .on("server", place)
        .on("table", table)
        .on("column", &column.name)
        .because(why.0)
        .remedy(
            "leave its rows out by a condition, or attach a view that makes text or null of such values",
        )
}
