//! The work of flows and of steps of `tributary.yaml`, by what the commands of the same names do.
//!
//! Nothing is written to standard output or error here: observers and [`Tell`] hear it.

pub(crate) mod arguments;
mod schemas;
mod told;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tributary_flow::{Observer, SyncReport, Verified};
use tributary_model::{DescribedTable, Error, ErrorKind, Namespace, Result};
use tributary_orchestrator::config::{Copy, Flow, Plan, Query, Script, Sync, Verify, Work};
use tributary_orchestrator::engine::{Engine, Moved, Tell};

use crate::cli::SyncArguments;
use crate::ingest::Logs;
use crate::{SharedObserver, address, console, copy, sql, sync, verify, warehouse};
use told::Told;

/// How many rows a query without a table to put them into tells.
const ROWS_TOLD: usize = 100;

/// Moves data as the commands do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipes {
    logs: Arc<Logs>,
}

impl Pipes {
    /// With the logs of events that are pushed.
    pub(crate) fn new(logs: Arc<Logs>) -> Self {
        Self { logs }
    }
}

#[async_trait]
impl Engine for Pipes {
    async fn prepare(&self, plan: &Plan) -> Result<()> {
        // They are in use when the triggers of the plan are.
        self.logs.prepare(plan).await
    }

    async fn follow(
        &self,
        flow: &Flow,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut arguments = arguments::sync(&flow.route, &flow.options, false)?;
        arguments.source.log = self.logs.of(&flow.route.from)?;
        let failure = match first_failure(&arguments, observer, &stop).await {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(failure) if !stop.is_cancelled() => failure,
            _ => return Ok(()),
        };
        // It ends by itself when there is nothing to follow, or nothing any more.
        Err(failure.unwrap_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is nothing to follow")
                .on("source", &flow.route.from.name)
                .remedy("check the source's database, and the collections of the flow")
        }))
    }

    async fn work(
        &self,
        work: &Work,
        tell: Arc<dyn Tell>,
        stop: CancellationToken,
    ) -> Result<Moved> {
        // What is computed between two pauses, such as the plan of a query, holds up nobody on a thread of
        // its own.
        let (work, runtime) = (work.clone(), tokio::runtime::Handle::current());
        let logs = Arc::clone(&self.logs);
        let stop = stop.child_token();
        // Who does not wait for it any more wants it no more.
        let _guard = stop.clone().drop_guard();
        let done =
            tokio::task::spawn_blocking(move || runtime.block_on(done(work, &logs, tell, stop)));
        done.await.unwrap_or_else(|panic| {
            Err(Error::new(ErrorKind::Internal, "a step ended abnormally").because(panic))
        })
    }

    async fn tables(&self, flow: &Flow) -> Result<Vec<DescribedTable>> {
        schemas::tables(flow).await
    }

    async fn approve(&self, flow: &Flow, table: &Namespace) -> Result<()> {
        schemas::approve(flow, table).await
    }
}

async fn done(
    work: Work,
    logs: &Logs,
    tell: Arc<dyn Tell>,
    stop: CancellationToken,
) -> Result<Moved> {
    let moved = match &work {
        Work::Copy(work) => load(work, tell, &stop).await?,
        Work::Sync(work) => catch_up(work, logs, tell, &stop).await?,
        Work::Verify(work) => compare(work, tell, &stop).await?,
        // These are done as a whole, or not at all.
        Work::Query(work) => {
            return tokio::select! {
                () = stop.cancelled() => Err(stopped()),
                done = query(work, &*tell) => done,
            };
        }
        Work::Script(work) => return run_script(work, &*tell, &stop).await,
        Work::Command(_) => {
            return Err(Error::new(
                ErrorKind::Internal,
                "a program is not run by what moves data",
            ));
        }
    };
    match stop.is_cancelled() {
        true => Err(stopped()),
        false => Ok(moved),
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted, "it was stopped before its end")
}

/// Syncs, and answers the first failure of a collection: on its way into the lake before a warehouse, where
/// there is one, or into where it goes.
async fn first_failure(
    arguments: &SyncArguments,
    observer: SharedObserver,
    stop: &CancellationToken,
) -> Result<Option<Error>> {
    let staged: Arc<Mutex<Option<Error>>> = Arc::default();
    let told = {
        let staged = Arc::clone(&staged);
        move |report: &SyncReport| {
            *staged.lock().unwrap_or_else(PoisonError::into_inner) = failure_of(report);
        }
    };
    // One that fails as a whole stops what it works with, which is not to stop anything else.
    let report = sync::work(arguments, observer, &told, &stop.child_token()).await?;
    let staged = staged.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(first_of(staged.into_iter().chain(failure_of(&report))))
}

/// The first failure of a collection.
fn failure_of(report: &SyncReport) -> Option<Error> {
    let collections = report.collections.iter();
    let failures = collections.filter_map(|collection| collection.failure.clone());
    first_of(failures.filter(|error| error.kind() != ErrorKind::Interrupted))
}

/// The first of failures; one that waits for an approval only where there is no other, which trying again
/// may mend.
fn first_of(failures: impl Iterator<Item = Error>) -> Option<Error> {
    failures.min_by_key(|error| error.kind() == ErrorKind::SchemaChanged)
}

async fn catch_up(
    work: &Sync,
    logs: &Logs,
    tell: Arc<dyn Tell>,
    stop: &CancellationToken,
) -> Result<Moved> {
    let mut arguments = arguments::sync(&work.route, &work.options, true)?;
    arguments.source.log = logs.of(&work.route.from)?;
    let told = Arc::new(Told::new(tell));
    match first_failure(&arguments, told.clone(), stop).await? {
        Some(error) => Err(error),
        None => Ok(told.moved()),
    }
}

async fn load(work: &Copy, tell: Arc<dyn Tell>, stop: &CancellationToken) -> Result<Moved> {
    let mut arguments = arguments::copy(work)?;
    arguments.name = tell.step();
    let told = Arc::new(Told::new(tell));
    let failure = if warehouse::is_address(&arguments.target) {
        let report = warehouse::copy(&arguments, told.clone(), &stop.child_token()).await?;
        failure_of(&report)
    } else {
        let (report, copy) =
            copy::into_files(&arguments, &arguments.target, told.clone(), stop).await?;
        copy::conclude(&copy, copy::failures(&report), arguments.overwrite).await?;
        let results = report.collections.into_iter();
        let mut failures = results.filter_map(|outcome| outcome.result.err());
        failures.find(|error| error.kind() != ErrorKind::Interrupted)
    };
    match failure {
        Some(error) => Err(error),
        None => Ok(told.moved()),
    }
}

async fn compare(work: &Verify, tell: Arc<dyn Tell>, stop: &CancellationToken) -> Result<Moved> {
    let arguments = arguments::verify(work)?;
    let told = Arc::new(Told::without_counting(Arc::clone(&tell)));
    let report = verify::work(&arguments, told, stop).await?;
    let (mut failure, mut differing) = (None, Vec::new());
    for collection in report.collections {
        let name = collection.namespace.to_string();
        match collection.result {
            Ok(verified) => {
                for line in verify::explain(&name, &verified) {
                    tell.tell(&line);
                }
                if verified.agrees() {
                    let rows = console::group(verified.rows);
                    tell.tell(&format!("{name}: agrees, {rows} rows"));
                } else {
                    differing.push(format!("{name} ({})", numbers(&verified)));
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    if differing.is_empty() {
        return Ok(Moved::default());
    }
    Err(Error::new(
        ErrorKind::InvalidData,
        "tables differ from their collections",
    )
    .on("tables", differing.join(", "))
    .remedy("see what was told of each; loading a table anew puts it right"))
}

/// How many rows of a table differ, and in what way.
fn numbers(verified: &Verified) -> String {
    let sorts = [
        (verified.missing.count, "missing"),
        (verified.extra.count, "extra"),
        (verified.different.count, "different"),
        (verified.unsettled.count, "perhaps not yet the same"),
        (verified.ranges_left, "more ranges"),
    ];
    let told = sorts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told
        .map(|(count, what)| format!("{} {what}", console::group(*count)))
        .collect();
    match told.is_empty() {
        true => "cannot be told".to_owned(),
        false => told.join(", "),
    }
}

async fn query(work: &Query, tell: &dyn Tell) -> Result<Moved> {
    let attached = work.attach.iter();
    let attached: Vec<(&str, &str)> = attached
        .map(|end| (end.name.as_str(), arguments::address(end)))
        .collect();
    let lake = sql::open(arguments::address(&work.lake), &attached).await?;
    let Some((database, name)) = &work.into else {
        let (table, rows) = lake.glance(&work.query, ROWS_TOLD).await?;
        for line in table.lines() {
            tell.tell(line);
        }
        tell.tell(&format!("{} rows", console::group(rows)));
        return Ok(Moved::default());
    };
    let written = lake.query_into(&work.query, database, name).await?;
    let moved = Moved {
        documents: written.rows,
        bytes: written.bytes,
    };
    tell.moved(moved);
    let rows = console::group(written.rows);
    tell.tell(&format!("{database}.{name}: {rows} rows"));
    Ok(moved)
}

async fn run_script(work: &Script, tell: &dyn Tell, stop: &CancellationToken) -> Result<Moved> {
    let at = address(arguments::address(&work.warehouse))?;
    let statements = tributary_warehouse::run_script(&at, &work.script, stop).await?;
    tell.tell(&format!("{} statements", console::group(statements)));
    Ok(Moved::default())
}
