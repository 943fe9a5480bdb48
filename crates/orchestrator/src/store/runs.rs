//! Runs, their steps, and the objects that they are for.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use tributary_model::{Error, ErrorKind, Result};
use uuid::Uuid;

use super::{Store, moment, now, of_json, of_moment, to_json};
use crate::config::Overlap;
use crate::engine::Moved;
use crate::objects::CreatedObject;
use crate::status::{Cause, Run, RunDetail, RunFilter, RunState, StepRun};

/// How many runs of a job may wait. Whoever asks for more has lost count.
const LONGEST_QUEUE: u64 = 1000;

/// A run that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The job.
    pub(crate) job: String,
    /// What is done while it runs.
    pub(crate) overlap: Overlap,
    /// Its steps, in an order in which they can run, with the words for what they do.
    pub(crate) steps: Vec<(String, &'static str)>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Enqueued {
    /// The run: queued, or skipped.
    pub(crate) run: Run,
    /// Runs that are to end for it.
    pub(crate) replaced: Vec<String>,
}

/// How many runs of a job ended in a state, of those that are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunCount {
    /// The job.
    pub(crate) job: String,
    /// The state.
    pub(crate) state: RunState,
    /// How many.
    pub(crate) runs: u64,
}

const RUN: &str = "SELECT id, job, state, cause, queued_at, started_at, ended_at, documents, bytes, error FROM run";

/// Those that ended last come first: a run can end before one that was asked for earlier.
const LAST_ENDED: &str = "ORDER BY ended_at DESC, id DESC";

fn run_of(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get(0)?,
        job: row.get(1)?,
        state: state_of(row, 2)?,
        cause: of_json(3, &row.get::<_, String>(3)?)?,
        queued_at: of_moment(row.get(4)?),
        started_at: row.get::<_, Option<i64>>(5)?.map(of_moment),
        ended_at: row.get::<_, Option<i64>>(6)?.map(of_moment),
        documents: row.get::<_, i64>(7)?.cast_unsigned(),
        bytes: row.get::<_, i64>(8)?.cast_unsigned(),
        error: row.get(9)?,
    })
}

fn state_of(row: &Row<'_>, column: usize) -> rusqlite::Result<RunState> {
    let name: String = row.get(column)?;
    RunState::of(&name).ok_or_else(|| {
        let error = format!("`{name}` is no state").into();
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
    })
}

fn count_of(row: &Row<'_>) -> rusqlite::Result<RunCount> {
    Ok(RunCount {
        job: row.get(0)?,
        state: state_of(row, 1)?,
        runs: row.get::<_, i64>(2)?.cast_unsigned(),
    })
}

fn step_of(row: &Row<'_>) -> rusqlite::Result<StepRun> {
    Ok(StepRun {
        name: row.get(0)?,
        work: row.get(1)?,
        state: state_of(row, 2)?,
        attempts: row.get(3)?,
        started_at: row.get::<_, Option<i64>>(4)?.map(of_moment),
        ended_at: row.get::<_, Option<i64>>(5)?.map(of_moment),
        documents: row.get::<_, i64>(6)?.cast_unsigned(),
        bytes: row.get::<_, i64>(7)?.cast_unsigned(),
        error: row.get(8)?,
        log: row.get(9)?,
    })
}

fn find(db: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<Run>> {
    let mut query = db.prepare_cached(&format!("{RUN} WHERE id = ?1"))?;
    query.query_row([id], run_of).optional()
}

/// The runs of a job that wait or run, the oldest first.
fn going_on(db: &Transaction<'_>, job: &str) -> rusqlite::Result<Vec<Run>> {
    let mut query = db.prepare_cached(&format!(
        "{RUN} WHERE job = ?1 AND state IN ('queued', 'running') ORDER BY id"
    ))?;
    query.query_map([job], run_of)?.collect()
}

/// The run of a job that waits, and is for objects.
pub(super) fn waiting_for_objects(
    db: &Transaction<'_>,
    job: &str,
) -> rusqlite::Result<Option<Run>> {
    Ok(going_on(db, job)?
        .into_iter()
        .find(|run| run.state == RunState::Queued && matches!(run.cause, Cause::Objects { .. })))
}

/// Counts more objects to those that a run is for.
pub(super) fn gather(db: &Transaction<'_>, mut run: Run, objects: u64) -> rusqlite::Result<Run> {
    if let Cause::Objects { count, .. } = &mut run.cause {
        *count += objects;
    }
    db.execute(
        "UPDATE run SET cause = ?2 WHERE id = ?1",
        params![run.id, to_json(&run.cause)?],
    )?;
    Ok(run)
}

/// Puts a run into the queue, or records why it is not.
pub(super) fn enqueue(
    db: &Transaction<'_>,
    request: &Request,
    cause: &Cause,
) -> rusqlite::Result<Enqueued> {
    let others = going_on(db, &request.job)?;
    let id = Uuid::now_v7().to_string();
    let mut cause = cause.clone();
    let mut replaced = Vec::new();
    let mut refused = None;
    // What was taken is told no more, so a run for objects is never left out.
    let may_be_refused = !matches!(cause, Cause::Objects { .. });
    match (request.overlap, others.first()) {
        (_, None) => {}
        (Overlap::Skip, Some(other)) if may_be_refused => {
            refused = Some(format!("the run {} had not ended", other.id));
        }
        (Overlap::Queue, Some(_)) if may_be_refused && others.len() as u64 >= LONGEST_QUEUE => {
            refused = Some(format!("{LONGEST_QUEUE} runs of the job waited already"));
        }
        (Overlap::Skip | Overlap::Queue, Some(_)) => {}
        (Overlap::Replace, Some(_)) => {
            for other in &others {
                let taken_over = take_over_objects(db, &other.id, &id)?;
                if let Cause::Objects { count, .. } = &mut cause {
                    *count += taken_over;
                }
                ask_to_end(db, other, "the run in its place")?;
                replaced.push(other.id.clone());
            }
        }
    }
    let now = now();
    let run = Run {
        id,
        job: request.job.clone(),
        state: match refused {
            Some(_) => RunState::Skipped,
            None => RunState::Queued,
        },
        cause,
        queued_at: now,
        started_at: None,
        ended_at: refused.is_some().then_some(now),
        documents: 0,
        bytes: 0,
        error: refused,
    };
    db.prepare_cached(
        "INSERT INTO run (id, job, state, cause, queued_at, ended_at, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        run.id,
        run.job,
        run.state.name(),
        to_json(&run.cause)?,
        moment(run.queued_at),
        run.ended_at.map(moment),
        run.error,
    ])?;
    add_steps(db, &run.id, &request.steps, run.state)?;
    Ok(Enqueued { run, replaced })
}

fn add_steps(
    db: &Transaction<'_>,
    run: &str,
    steps: &[(String, &'static str)],
    state: RunState,
) -> rusqlite::Result<()> {
    for (position, (name, work)) in (0_i64..).zip(steps) {
        db.prepare_cached(
            "INSERT INTO step (run, position, name, work, state) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![run, position, name, work, state.name()])?;
    }
    Ok(())
}

/// Gives the objects of one run to another that takes its place, and answers how many. Those of a run that
/// somebody has cancelled stay with it.
fn take_over_objects(db: &Transaction<'_>, from: &str, to: &str) -> rusqlite::Result<u64> {
    let taken_over = db.execute(
        "UPDATE object SET run = ?2 WHERE run = ?1 \
         AND (SELECT cancelled_by FROM run WHERE id = ?1) IS NULL",
        [from, to],
    )?;
    Ok(taken_over as u64)
}

/// Ends a run that waits, and asks one that runs to end.
fn ask_to_end(db: &Transaction<'_>, run: &Run, by: &str) -> rusqlite::Result<()> {
    if run.state == RunState::Running {
        db.execute(
            "UPDATE run SET cancelled_by = coalesce(cancelled_by, ?2) WHERE id = ?1",
            params![run.id, by],
        )?;
        return Ok(());
    }
    let error = format!("cancelled by {by}");
    end(
        db,
        &run.id,
        RunState::Cancelled,
        Some(&error),
        Moved::default(),
    )
}

fn end(
    db: &Transaction<'_>,
    id: &str,
    state: RunState,
    error: Option<&str>,
    moved: Moved,
) -> rusqlite::Result<()> {
    let now = moment(Utc::now());
    db.execute(
        "UPDATE run SET state = ?2, ended_at = ?3, error = ?4, documents = ?5, bytes = ?6 WHERE id = ?1",
        params![
            id,
            state.name(),
            now,
            error,
            moved.documents.cast_signed(),
            moved.bytes.cast_signed()
        ],
    )?;
    db.execute(
        "UPDATE step SET state = CASE state WHEN 'running' THEN ?2 ELSE 'skipped' END, ended_at = ?3 \
         WHERE run = ?1 AND state IN ('queued', 'running')",
        params![id, state.name(), now],
    )?;
    Ok(())
}

pub(super) fn forget(
    db: &Transaction<'_>,
    before: DateTime<Utc>,
    told_again: &[String],
) -> rusqlite::Result<Vec<RunCount>> {
    let mut query = db.prepare_cached(
        "SELECT job, state, count(*) FROM run WHERE ended_at < ?1 GROUP BY job, state",
    )?;
    let forgotten = query
        .query_map([moment(before)], count_of)?
        .collect::<rusqlite::Result<_>>()?;
    db.execute("DELETE FROM run WHERE ended_at < ?1", [moment(before)])?;
    db.execute(
        "DELETE FROM object WHERE taken_at < ?1 AND job NOT IN (SELECT value FROM json_each(?2))",
        params![moment(before), to_json(&told_again)?],
    )?;
    Ok(forgotten)
}

fn run_counts(db: &Transaction<'_>) -> rusqlite::Result<Vec<RunCount>> {
    let mut query = db.prepare_cached(
        "SELECT job, state, count(*) FROM run WHERE ended_at IS NOT NULL GROUP BY job, state",
    )?;
    let counts = query.query_map([], count_of)?;
    counts.collect()
}

impl Store {
    /// Asks for a run.
    pub(crate) async fn enqueue(&self, request: Request, cause: Cause) -> Result<Enqueued> {
        self.transact(move |db| enqueue(db, &request, &cause)).await
    }

    /// Begins the oldest run of each job that has none running.
    pub(crate) async fn begin_runs(&self) -> Result<Vec<Run>> {
        self.transact(|db| {
            let mut query = db.prepare_cached(&format!(
                "{RUN} WHERE id IN (SELECT min(id) FROM run WHERE state = 'queued' AND job NOT IN \
                 (SELECT job FROM run WHERE state = 'running') GROUP BY job) ORDER BY id"
            ))?;
            let mut runs: Vec<Run> = query.query_map([], run_of)?.collect::<Result<_, _>>()?;
            for run in &mut runs {
                run.state = RunState::Running;
                run.started_at = Some(now());
                db.execute(
                    "UPDATE run SET state = 'running', started_at = ?2 WHERE id = ?1",
                    params![run.id, run.started_at.map(moment)],
                )?;
            }
            Ok(runs)
        })
        .await
    }

    /// Begins one run, if it still waits and no other one of its job runs.
    pub(crate) async fn begin_run(&self, id: &str) -> Result<Option<Run>> {
        let id = id.to_owned();
        self.transact(move |db| {
            let changed = db.execute(
                "UPDATE run SET state = 'running', started_at = ?2 WHERE id = ?1 AND state = 'queued' \
                 AND job NOT IN (SELECT job FROM run WHERE state = 'running')",
                params![id, moment(Utc::now())],
            )?;
            if changed == 0 {
                return Ok(None);
            }
            find(db, &id)
        })
        .await
    }

    /// The runs of these jobs that wait, the oldest first.
    pub(crate) async fn waiting(&self, jobs: Vec<String>) -> Result<Vec<Run>> {
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!(
                "{RUN} WHERE state = 'queued' AND job IN (SELECT value FROM json_each(?1)) ORDER BY id"
            ))?;
            query.query_map([to_json(&jobs)?], run_of)?.collect()
        })
        .await
    }

    /// The runs that are recorded as running.
    pub(crate) async fn running(&self) -> Result<Vec<Run>> {
        self.transact(|db| {
            let mut query =
                db.prepare_cached(&format!("{RUN} WHERE state = 'running' ORDER BY id"))?;
            query.query_map([], run_of)?.collect()
        })
        .await
    }

    /// The runs that are to end, and who wants that.
    pub(crate) async fn to_be_cancelled(&self) -> Result<Vec<(String, String)>> {
        self.transact(|db| {
            let mut query = db.prepare_cached(
                "SELECT id, cancelled_by FROM run WHERE state = 'running' AND cancelled_by IS NOT NULL",
            )?;
            let runs = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            runs.collect()
        })
        .await
    }

    /// Asks a run to end.
    pub(crate) async fn cancel(&self, id: &str, by: &str) -> Result<Run> {
        let (wanted, by) = (id.to_owned(), by.to_owned());
        let run = self
            .transact(move |db| {
                let Some(run) = find(db, &wanted)? else {
                    return Ok(None);
                };
                if run.state.is_end() {
                    return Ok(Some((run, false)));
                }
                ask_to_end(db, &run, &by)?;
                Ok(find(db, &wanted)?.map(|run| (run, true)))
            })
            .await?;
        match run {
            None => Err(no_run(id)),
            Some((run, true)) => Ok(run),
            Some((run, false)) => Err(Error::new(
                ErrorKind::Conflict,
                format!("the run has {} already", run.state.name()),
            )
            .on("run", id)
            .remedy("there is nothing to cancel")),
        }
    }

    /// Ends a run, and asks for those that come behind it.
    pub(crate) async fn end_run(
        &self,
        id: &str,
        state: RunState,
        error: Option<String>,
        moved: Moved,
        behind: Vec<Request>,
    ) -> Result<(Run, Vec<Enqueued>)> {
        let wanted = id.to_owned();
        let ended = self
            .transact(move |db| {
                end(db, &wanted, state, error.as_deref(), moved)?;
                let Some(run) = find(db, &wanted)? else {
                    return Ok(None);
                };
                let cause = Cause::After {
                    job: run.job.clone(),
                    run: run.id.clone(),
                };
                let behind = behind
                    .iter()
                    .map(|request| enqueue(db, request, &cause))
                    .collect::<rusqlite::Result<_>>()?;
                Ok(Some((run, behind)))
            })
            .await?;
        ended.ok_or_else(|| no_run(id))
    }

    /// Ends a run that its job has no use for any more, having other steps. Another one takes its objects
    /// over: the one that waits for objects, or a new one.
    pub(crate) async fn begin_anew(
        &self,
        id: &str,
        moved: Moved,
        request: Request,
    ) -> Result<(Run, Option<Run>)> {
        let wanted = id.to_owned();
        let ended = self
            .transact(move |db| {
                let objects: u64 = db.query_row(
                    "SELECT count(*) FROM object WHERE run = ?1 \
                     AND (SELECT cancelled_by FROM run WHERE id = ?1) IS NULL",
                    [&wanted],
                    |row| row.get::<_, i64>(0).map(i64::cast_unsigned),
                )?;
                let error = "the steps of the job have become others since it began";
                let error = match objects {
                    0 => format!("{error}; run it again"),
                    _ => format!("{error}; another run is for its objects"),
                };
                end(db, &wanted, RunState::Failed, Some(&error), moved)?;
                let Some(run) = find(db, &wanted)? else {
                    return Ok(None);
                };
                if objects == 0 {
                    return Ok(Some((run, None)));
                }
                let other = match waiting_for_objects(db, &run.job)? {
                    Some(other) => gather(db, other, objects)?,
                    None => {
                        let first: CreatedObject = db.query_row(
                            "SELECT object FROM object WHERE run = ?1 ORDER BY rowid LIMIT 1",
                            [&wanted],
                            |row| of_json(0, &row.get::<_, String>(0)?),
                        )?;
                        let cause = Cause::Objects {
                            count: objects,
                            first: first.to_string(),
                        };
                        enqueue(db, &request, &cause)?.run
                    }
                };
                take_over_objects(db, &wanted, &other.id)?;
                Ok(Some((run, Some(other))))
            })
            .await?;
        ended.ok_or_else(|| no_run(id))
    }

    /// Gives a run that has not begun other steps.
    pub(crate) async fn set_steps(
        &self,
        run: &str,
        steps: Vec<(String, &'static str)>,
    ) -> Result<()> {
        let run = run.to_owned();
        self.transact(move |db| {
            db.execute("DELETE FROM step WHERE run = ?1", [&run])?;
            add_steps(db, &run, &steps, RunState::Queued)
        })
        .await
    }

    /// Records that a step is begun, and answers how often it has been.
    pub(crate) async fn begin_step(&self, run: &str, step: &str) -> Result<u32> {
        let (run, step) = (run.to_owned(), step.to_owned());
        self.transact(move |db| {
            db.query_row(
                "UPDATE step SET state = 'running', attempts = attempts + 1, \
                 started_at = coalesce(started_at, ?3) WHERE run = ?1 AND name = ?2 RETURNING attempts",
                params![run, step, moment(Utc::now())],
                |row| row.get(0),
            )
        })
        .await
    }

    /// Records how far a step has got, and what it told.
    pub(crate) async fn tell_step(
        &self,
        run: &str,
        step: &str,
        moved: Moved,
        log: String,
    ) -> Result<()> {
        let (run, step) = (run.to_owned(), step.to_owned());
        self.transact(move |db| {
            db.execute(
                "UPDATE step SET documents = ?3, bytes = ?4, log = ?5 WHERE run = ?1 AND name = ?2",
                params![
                    run,
                    step,
                    moved.documents.cast_signed(),
                    moved.bytes.cast_signed(),
                    log
                ],
            )
            .map(|_| ())
        })
        .await
    }

    /// Records that a step has failed and is tried again, or how it has ended.
    pub(crate) async fn end_step(
        &self,
        run: &str,
        step: &str,
        state: RunState,
        error: Option<String>,
    ) -> Result<()> {
        let (run, step) = (run.to_owned(), step.to_owned());
        self.transact(move |db| {
            let ended = state.is_end().then(|| moment(Utc::now()));
            db.execute(
                "UPDATE step SET state = ?3, error = ?4, ended_at = ?5 WHERE run = ?1 AND name = ?2",
                params![run, step, state.name(), error, ended],
            )
            .map(|_| ())
        })
        .await
    }

    /// Runs, the newest first.
    pub(crate) async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>> {
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!(
                "{RUN} WHERE (?1 IS NULL OR job = ?1) AND (?2 IS NULL OR state = ?2) \
                 AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4"
            ))?;
            let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
            let state = filter.state.map(RunState::name);
            let runs = query.query_map(params![filter.job, state, filter.before, limit], run_of)?;
            runs.collect()
        })
        .await
    }

    /// The last run of each of these jobs that has one.
    pub(crate) async fn last_runs(&self, jobs: Vec<String>) -> Result<Vec<Run>> {
        self.last_of(jobs, "ORDER BY id DESC").await
    }

    /// The last run of each of these jobs that succeeded or failed.
    pub(crate) async fn last_results(&self, jobs: Vec<String>) -> Result<Vec<Run>> {
        let ended = format!("AND state IN ('succeeded', 'failed') {LAST_ENDED}");
        self.last_of(jobs, &ended).await
    }

    /// The last run of each of these jobs that has failed since `since`, whatever came behind it, and the
    /// moment up to which that is known.
    pub(crate) async fn failed_since(
        &self,
        jobs: Vec<String>,
        since: DateTime<Utc>,
    ) -> Result<(Vec<Run>, DateTime<Utc>)> {
        self.transact(move |db| {
            // What ends from here on waits for this transaction, and ends later.
            let now = now();
            let mut query = db.prepare_cached(&format!(
                "{RUN} WHERE job = ?1 AND state IN ('succeeded', 'failed') {LAST_ENDED}"
            ))?;
            let mut failed = Vec::new();
            for job in jobs {
                for run in query.query_map([job], run_of)? {
                    let run = run?;
                    if run.ended_at < Some(since) {
                        break;
                    }
                    if run.state == RunState::Failed {
                        failed.push(run);
                        break;
                    }
                }
            }
            Ok((failed, now))
        })
        .await
    }

    async fn last_of(&self, jobs: Vec<String>, which: &str) -> Result<Vec<Run>> {
        let query = format!("{RUN} WHERE job = ?1 {which} LIMIT 1");
        self.transact(move |db| {
            let mut query = db.prepare_cached(&query)?;
            let mut runs = Vec::new();
            for job in jobs {
                runs.extend(query.query_row([job], run_of).optional()?);
            }
            Ok(runs)
        })
        .await
    }

    /// How many runs of each job ended how.
    pub(crate) async fn run_counts(&self) -> Result<Vec<RunCount>> {
        self.transact(run_counts).await
    }

    /// The same, on this thread.
    pub(crate) fn run_counts_here(&self) -> Result<Vec<RunCount>> {
        self.transact_here(run_counts)
    }

    /// One run with its steps.
    pub(crate) async fn run(&self, id: &str) -> Result<RunDetail> {
        let wanted = id.to_owned();
        let found = self
            .transact(move |db| {
                let Some(run) = find(db, &wanted)? else {
                    return Ok(None);
                };
                let mut query = db.prepare_cached(
                    "SELECT name, work, state, attempts, started_at, ended_at, documents, bytes, error, log \
                     FROM step WHERE run = ?1 ORDER BY position",
                )?;
                let steps = query
                    .query_map([&wanted], step_of)?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(Some(RunDetail { run, steps }))
            })
            .await?;
        found.ok_or_else(|| no_run(id))
    }
}

fn no_run(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such run")
        .on("run", id)
        .remedy("`tributary job history` lists those that are remembered")
}
