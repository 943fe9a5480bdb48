//! Runs of functions, of which so many are kept.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use tributary_flow::{FunctionRun, RunError};
use tributary_model::Result;

use super::{Store, moment, of_json, of_moment, to_json};
use crate::status::{
    ConsoleLine, FunctionError, FunctionRunDetail, FunctionRunFilter, FunctionRunStatus,
};

/// How many runs of a function are kept.
const MOST_RUNS: i64 = 10_000;

/// The trigger that a run was for.
pub(super) fn trigger_of(run: &FunctionRun) -> Option<&str> {
    run.cause.strip_prefix("trigger ")
}

/// Keeps runs, and lets go of the oldest of their functions where there are too many.
pub(super) fn keep(db: &Transaction<'_>, runs: &[FunctionRun]) -> rusqlite::Result<()> {
    let mut functions = BTreeSet::new();
    for run in runs {
        let duration = i64::try_from(run.duration.as_micros()).unwrap_or(i64::MAX);
        let added = db
            .prepare_cached(
                "INSERT OR IGNORE INTO function_run (id, app, function, cause, trigger, subject, attempt, \
                 started_at, duration, error, console) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                run.id,
                run.app,
                run.function,
                run.cause,
                trigger_of(run),
                run.subject,
                run.attempt,
                moment(run.started_at),
                duration,
                run.error.as_ref().map(to_json).transpose()?,
                to_json(&run.console)?,
            ])?;
        if added > 0 {
            db.prepare_cached(
                "INSERT INTO function_runs (app, function, kept) VALUES (?1, ?2, 1) \
                 ON CONFLICT (app, function) DO UPDATE SET kept = kept + 1",
            )?
            .execute([&run.app, &run.function])?;
            functions.insert((&run.app, &run.function));
        }
    }
    for (app, function) in functions {
        let kept: i64 = db
            .prepare_cached("SELECT kept FROM function_runs WHERE app = ?1 AND function = ?2")?
            .query_row([app, function], |row| row.get(0))?;
        if kept > MOST_RUNS {
            db.prepare_cached(
                "DELETE FROM function_run WHERE id IN (SELECT id FROM function_run \
                 WHERE app = ?1 AND function = ?2 ORDER BY id LIMIT ?3)",
            )?
            .execute(params![app, function, kept - MOST_RUNS])?;
            db.prepare_cached(
                "UPDATE function_runs SET kept = ?3 WHERE app = ?1 AND function = ?2",
            )?
            .execute(params![app, function, MOST_RUNS])?;
        }
    }
    Ok(())
}

pub(super) fn forget(db: &Transaction<'_>, before: DateTime<Utc>) -> rusqlite::Result<()> {
    let gone = db.execute(
        "DELETE FROM function_run WHERE started_at < ?1",
        [moment(before)],
    )?;
    if gone > 0 {
        db.execute_batch(
            "DELETE FROM function_runs; INSERT INTO function_runs (app, function, kept) \
             SELECT app, function, count(*) FROM function_run GROUP BY app, function;",
        )?;
    }
    Ok(())
}

const RUN: &str = "SELECT id, app, function, cause, subject, attempt, started_at, duration, error, console \
     FROM function_run";

fn run_of(row: &Row<'_>) -> rusqlite::Result<FunctionRunStatus> {
    let error: Option<String> = row.get(8)?;
    let error: Option<RunError> = error.map(|text| of_json(8, &text)).transpose()?;
    Ok(FunctionRunStatus {
        id: row.get(0)?,
        app: row.get(1)?,
        function: row.get(2)?,
        cause: row.get(3)?,
        subject: row.get(4)?,
        attempt: row.get(5)?,
        started_at: of_moment(row.get(6)?),
        seconds: row.get::<_, i64>(7)? as f64 / 1e6,
        error: error.map(|error| FunctionError {
            message: error.message,
            file: error.file,
            line: error.line,
            stack: error.stack,
        }),
    })
}

fn detail_of(row: &Row<'_>) -> rusqlite::Result<FunctionRunDetail> {
    let console: Vec<(String, String)> = of_json(9, &row.get::<_, String>(9)?)?;
    Ok(FunctionRunDetail {
        run: run_of(row)?,
        console: console
            .into_iter()
            .map(|(level, text)| ConsoleLine { level, text })
            .collect(),
    })
}

impl Store {
    /// Runs of functions, the newest first.
    pub(crate) async fn function_runs(
        &self,
        filter: FunctionRunFilter,
    ) -> Result<Vec<FunctionRunStatus>> {
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!(
                "{RUN} WHERE (?1 IS NULL OR app = ?1) AND (?2 IS NULL OR function = ?2) \
                 AND (?3 IS NULL OR trigger = ?3) AND (NOT ?4 OR error IS NOT NULL) \
                 AND (?5 IS NULL OR id < ?5) ORDER BY id DESC LIMIT ?6"
            ))?;
            let FunctionRunFilter {
                app,
                function,
                trigger,
                failed,
                before,
                limit,
            } = filter;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let runs = query.query_map(
                params![app, function, trigger, failed, before, limit],
                run_of,
            )?;
            runs.collect()
        })
        .await
    }

    /// One run of a function, and what it wrote.
    pub(crate) async fn function_run(&self, id: &str) -> Result<Option<FunctionRunDetail>> {
        let id = id.to_owned();
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!("{RUN} WHERE id = ?1"))?;
            query.query_row([id], detail_of).optional()
        })
        .await
    }
}
