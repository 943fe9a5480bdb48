//! Triggers: how far each has got, what is to become of it, and what it has given up on.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};
use tributary_flow::{
    DeadLetter, FunctionRun, Progress, StartAt, TriggerLedger, TriggerRecord, TriggerState,
};
use tributary_model::Result;

use super::{Store, function_runs, moment, of_json, of_moment, to_json};
use crate::status::{DeadLetterStatus, LetterFilter, Letters};

/// A trigger as it is remembered, and its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remembered {
    /// Its name.
    pub(crate) name: String,
    /// What is remembered of it.
    pub(crate) record: TriggerRecord,
    /// Runs that succeeded.
    pub(crate) succeeded: u64,
    /// Runs that failed.
    pub(crate) failed: u64,
    /// Events that it has given up on.
    pub(crate) dead_letters: u64,
    /// When a run last ended.
    pub(crate) last_run_at: Option<DateTime<Utc>>,
    /// Why a run failed last, while none has succeeded since.
    pub(crate) last_error: Option<String>,
}

/// What is asked of a trigger by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// It is to wait.
    Pause,
    /// It is to go on.
    Resume,
    /// It is to begin there: at once, unless it is paused.
    Replay(StartAt),
}

const TRIGGER: &str = "SELECT revision, position, head, unfinished, passed_to, state, begin_at, name, \
     succeeded, failed, last_run_at, last_error, \
     (SELECT count(*) FROM dead_letter WHERE trigger = name) FROM trigger";

fn record_of(row: &Row<'_>) -> rusqlite::Result<TriggerRecord> {
    let position: Option<String> = row.get(1)?;
    let from: Option<String> = row.get(6)?;
    Ok(TriggerRecord {
        revision: row.get::<_, i64>(0)?.cast_unsigned(),
        position: position.map(|text| of_json(1, &text)).transpose()?,
        head: row.get(2)?,
        unfinished: of_json(3, &row.get::<_, String>(3)?)?,
        passed_to: row.get::<_, Option<i64>>(4)?.map(of_moment),
        state: of_json(5, &row.get::<_, String>(5)?)?,
        from: from.map(|text| of_json(6, &text)).transpose()?,
    })
}

fn remembered_of(row: &Row<'_>) -> rusqlite::Result<Remembered> {
    Ok(Remembered {
        record: record_of(row)?,
        name: row.get(7)?,
        succeeded: row.get::<_, i64>(8)?.cast_unsigned(),
        failed: row.get::<_, i64>(9)?.cast_unsigned(),
        last_run_at: row.get::<_, Option<i64>>(10)?.map(of_moment),
        last_error: row.get(11)?,
        dead_letters: row.get::<_, i64>(12)?.cast_unsigned(),
    })
}

fn find(db: &Transaction<'_>, name: &str) -> rusqlite::Result<Option<Remembered>> {
    let mut query = db.prepare_cached(&format!("{TRIGGER} WHERE name = ?1"))?;
    query.query_row([name], remembered_of).optional()
}

/// Has a trigger be remembered.
fn know(db: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO trigger (name) VALUES (?1)")?
        .execute([name])
        .map(|_| ())
}

/// Has who runs a trigger look at it again.
fn ask(db: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    know(db, name)?;
    db.prepare_cached("UPDATE trigger SET revision = revision + 1 WHERE name = ?1")?
        .execute([name])
        .map(|_| ())
}

/// Counts runs of a trigger. What failed is told until something has succeeded alone.
fn count(
    db: &Transaction<'_>,
    name: &str,
    succeeded: u64,
    failed: u64,
    error: Option<&str>,
) -> rusqlite::Result<()> {
    if succeeded == 0 && failed == 0 {
        return Ok(());
    }
    db.prepare_cached(
        "UPDATE trigger SET succeeded = succeeded + :succeeded, failed = failed + :failed, last_run_at = :now, \
         last_error = CASE WHEN :failed > 0 THEN coalesce(:error, last_error) END WHERE name = :name",
    )?
    .execute(named_params! {
        ":name": name,
        ":succeeded": succeeded.cast_signed(),
        ":failed": failed.cast_signed(),
        ":error": error,
        ":now": moment(Utc::now()),
    })
    .map(|_| ())
}

fn bury(db: &Transaction<'_>, letter: &DeadLetter) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO dead_letter (id, trigger, token, arguments, error, attempts, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING \
         ON CONFLICT (trigger, token) WHERE token <> '' DO UPDATE SET id = excluded.id, \
         arguments = excluded.arguments, error = excluded.error, attempts = attempts + excluded.attempts, \
         at = excluded.at, is_asked = 0",
    )?
    .execute(params![
        letter.id,
        letter.trigger,
        letter.token,
        letter.arguments.as_ref(),
        letter.error,
        letter.attempts,
        moment(letter.at)
    ])
    .map(|_| ())
}

const LETTER: &str =
    "SELECT id, trigger, token, error, attempts, at, is_asked, arguments FROM dead_letter";

fn letter_of(row: &Row<'_>) -> rusqlite::Result<DeadLetterStatus> {
    let token: String = row.get(2)?;
    Ok(DeadLetterStatus {
        id: row.get(0)?,
        trigger: row.get(1)?,
        token: (!token.is_empty()).then_some(token),
        error: row.get(3)?,
        attempts: row.get(4)?,
        at: of_moment(row.get(5)?),
        replaying: row.get(6)?,
    })
}

fn whole_letter_of(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get(0)?,
        trigger: row.get(1)?,
        token: row.get(2)?,
        arguments: row.get::<_, Vec<u8>>(7)?.into(),
        error: row.get(3)?,
        attempts: row.get(4)?,
        at: of_moment(row.get(5)?),
    })
}

/// Why something failed last.
fn error_of(runs: &[FunctionRun], dead: &[DeadLetter]) -> Option<String> {
    let of_run = |run: &FunctionRun| run.error.as_ref().map(|error| error.message.clone());
    let of_runs = runs.iter().rev().find_map(of_run);
    of_runs.or_else(|| dead.last().map(|letter| letter.error.clone()))
}

/// Does something to the dead letters that are meant, and has their triggers looked at again. Answers how
/// many there were, or where one is not there, which.
fn with_letters(
    db: &Transaction<'_>,
    letters: &Letters,
    statement: &str,
) -> rusqlite::Result<Result<usize, String>> {
    let (which, value) = match letters {
        Letters::These(ids) => ("id IN (SELECT value FROM json_each(?1))", to_json(ids)?),
        Letters::AllOf(trigger) => ("trigger = ?1", trigger.clone()),
    };
    if let Letters::These(ids) = letters {
        let mut is_there = db.prepare_cached("SELECT 1 FROM dead_letter WHERE id = ?1")?;
        for id in ids {
            if !is_there.exists([id])? {
                return Ok(Err(id.clone()));
            }
        }
    }
    let triggers: Vec<String> = db
        .prepare_cached(&format!(
            "SELECT DISTINCT trigger FROM dead_letter WHERE {which}"
        ))?
        .query_map([&value], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let changed = db
        .prepare_cached(&format!("{statement} WHERE {which}"))?
        .execute([&value])?;
    for trigger in triggers {
        ask(db, &trigger)?;
    }
    Ok(Ok(changed))
}

impl Store {
    /// All triggers that are remembered, by name.
    pub(crate) async fn triggers(&self) -> Result<Vec<Remembered>> {
        self.transact(|db| {
            let mut query = db.prepare_cached(&format!("{TRIGGER} ORDER BY name"))?;
            query.query_map([], remembered_of)?.collect()
        })
        .await
    }

    /// Asks something of a trigger by hand.
    pub(crate) async fn ask_trigger(&self, name: &str, what: Ask) -> Result<()> {
        let name = name.to_owned();
        self.transact(move |db| {
            ask(db, &name)?;
            let before = find(db, &name)?.map(|known| known.record.state);
            let state = match (what, before) {
                (Ask::Pause, _) | (Ask::Replay(_), Some(TriggerState::Paused)) => {
                    TriggerState::Paused
                }
                (Ask::Resume | Ask::Replay(_), _) => TriggerState::Running,
            };
            db.execute(
                "UPDATE trigger SET state = ?2 WHERE name = ?1",
                params![name, to_json(&state)?],
            )?;
            if let Ask::Replay(from) = what {
                db.execute(
                    "UPDATE trigger SET begin_at = ?2, begun_by = revision WHERE name = ?1",
                    params![name, to_json(&from)?],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Dead letters, the newest first.
    pub(crate) async fn dead_letters(&self, filter: LetterFilter) -> Result<Vec<DeadLetterStatus>> {
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!(
                "{LETTER} WHERE (?1 IS NULL OR trigger = ?1) AND (?2 IS NULL OR id < ?2) \
                 ORDER BY id DESC LIMIT ?3"
            ))?;
            let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
            let letters =
                query.query_map(params![filter.trigger, filter.before, limit], letter_of)?;
            letters.collect()
        })
        .await
    }

    /// One dead letter, and the arguments of its function, as the ledger has them.
    pub(crate) async fn dead_letter(
        &self,
        id: &str,
    ) -> Result<Option<(DeadLetterStatus, Vec<u8>)>> {
        let id = id.to_owned();
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!("{LETTER} WHERE id = ?1"))?;
            query
                .query_row([id], |row| Ok((letter_of(row)?, row.get(7)?)))
                .optional()
        })
        .await
    }

    /// Has dead letters be tried again; answers how many, or which one is not there.
    pub(crate) async fn ask_letters(&self, letters: Letters) -> Result<Result<usize, String>> {
        self.transact(move |db| with_letters(db, &letters, "UPDATE dead_letter SET is_asked = 1"))
            .await
    }

    /// Forgets dead letters; answers how many, or which one is not there.
    pub(crate) async fn discard_letters(&self, letters: Letters) -> Result<Result<usize, String>> {
        self.transact(move |db| with_letters(db, &letters, "DELETE FROM dead_letter"))
            .await
    }
}

#[async_trait]
impl TriggerLedger for Store {
    async fn load(&self, trigger: &str) -> Result<TriggerRecord> {
        let name = trigger.to_owned();
        let found = self.transact(move |db| find(db, &name)).await?;
        Ok(found.map(|known| known.record).unwrap_or_default())
    }

    async fn revisions(&self) -> Result<Vec<(String, u64)>> {
        self.transact(|db| {
            let mut query = db.prepare_cached("SELECT name, revision FROM trigger")?;
            let revisions = query.query_map([], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
            })?;
            revisions.collect()
        })
        .await
    }

    async fn advance(&self, trigger: &str, progress: Progress) -> Result<()> {
        let name = trigger.to_owned();
        self.transact(move |db| {
            know(db, &name)?;
            let position = progress.position.as_ref().map(to_json).transpose()?;
            // Who has not seen that it is to begin somewhere else is not where it is to be.
            db.prepare_cached(
                "UPDATE trigger SET position = :position, head = :head, unfinished = :unfinished, \
                 passed_to = :passed_to, begin_at = NULL WHERE name = :name AND begun_by <= :revision",
            )?
            .execute(named_params! {
                ":name": name,
                ":position": position,
                ":head": progress.head,
                ":unfinished": to_json(&progress.unfinished)?,
                ":passed_to": progress.passed_to.map(moment),
                ":revision": i64::try_from(progress.revision).unwrap_or(i64::MAX),
            })?;
            for letter in &progress.dead {
                bury(db, letter)?;
            }
            let error = error_of(&progress.runs, &progress.dead);
            let (succeeded, failed) = (progress.succeeded, progress.failed);
            count(db, &name, succeeded, failed, error.as_deref())?;
            function_runs::keep(db, &progress.runs)
        })
        .await
    }

    async fn set_state(
        &self,
        trigger: &str,
        revision: u64,
        state: TriggerState,
        from: Option<StartAt>,
    ) -> Result<()> {
        let name = trigger.to_owned();
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        self.transact(move |db| {
            know(db, &name)?;
            let paused = to_json(&TriggerState::Paused)?;
            db.prepare_cached(
                "UPDATE trigger SET state = ?2 WHERE name = ?1 AND state <> ?3 AND revision <= ?4",
            )?
            .execute(params![name, to_json(&state)?, paused, revision])?;
            if let Some(from) = from {
                db.prepare_cached(
                    "UPDATE trigger SET begin_at = ?2 WHERE name = ?1 AND begin_at IS NULL AND revision <= ?3",
                )?
                .execute(params![name, to_json(&from)?, revision])?;
            }
            Ok(())
        })
        .await
    }

    async fn to_replay(&self, trigger: &str) -> Result<Vec<DeadLetter>> {
        let name = trigger.to_owned();
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!(
                "{LETTER} WHERE trigger = ?1 AND is_asked = 1 ORDER BY id LIMIT 16"
            ))?;
            query.query_map([name], whole_letter_of)?.collect()
        })
        .await
    }

    async fn replayed(&self, letter: &str, error: Option<String>, run: FunctionRun) -> Result<()> {
        let id = letter.to_owned();
        self.transact(move |db| {
            let trigger: Option<String> = db
                .prepare_cached("SELECT trigger FROM dead_letter WHERE id = ?1")?
                .query_row([&id], |row| row.get(0))
                .optional()?;
            match &error {
                None => db
                    .prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?
                    .execute([&id])?,
                Some(error) => db
                    .prepare_cached(
                        "UPDATE dead_letter SET error = ?2, attempts = attempts + 1, is_asked = 0 \
                         WHERE id = ?1",
                    )?
                    .execute(params![id, error])?,
            };
            // It may have been discarded while it was tried, and ran all the same.
            let trigger = trigger.or_else(|| function_runs::trigger_of(&run).map(str::to_owned));
            if let Some(trigger) = trigger {
                let failed = u64::from(error.is_some());
                count(db, &trigger, 1 - failed, failed, error.as_deref())?;
            }
            function_runs::keep(db, std::slice::from_ref(&run))
        })
        .await
    }

    async fn record(&self, runs: Vec<FunctionRun>) -> Result<()> {
        self.transact(move |db| function_runs::keep(db, &runs))
            .await
    }
}
