//! Up to when the moments of schedules have been dealt with.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Transaction, params};
use tributary_model::Result;

use super::runs::{Enqueued, Request, enqueue};
use super::{Store, moment, now, of_moment, to_json};
use crate::status::Cause;

impl Store {
    /// Up to when the moments of a job's pattern have been dealt with: from now on, for a new one.
    pub(crate) async fn passed_to(&self, job: &str, pattern: &str) -> Result<DateTime<Utc>> {
        let (job, pattern) = (job.to_owned(), pattern.to_owned());
        self.transact(move |db| {
            let known: Option<i64> = db
                .query_row(
                    "SELECT passed_to FROM schedule WHERE job = ?1 AND pattern = ?2",
                    [&job, &pattern],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(known) = known {
                return Ok(of_moment(known));
            }
            let now = now();
            pass(db, &job, &pattern, now)?;
            Ok(now)
        })
        .await
    }

    /// Forgets how far the schedules of all other jobs have got: one that comes again begins anew.
    pub(crate) async fn keep_schedules(&self, jobs: Vec<String>) -> Result<()> {
        self.transact(move |db| {
            db.execute(
                "DELETE FROM schedule WHERE job NOT IN (SELECT value FROM json_each(?1))",
                [to_json(&jobs)?],
            )
            .map(|_| ())
        })
        .await
    }

    /// Asks for the runs of these moments, and records that all up to `to` have been dealt with.
    pub(crate) async fn pass(
        &self,
        request: Request,
        pattern: String,
        due: Vec<Cause>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Enqueued>> {
        self.transact(move |db| {
            pass(db, &request.job, &pattern, to)?;
            due.iter()
                .map(|cause| enqueue(db, &request, cause))
                .collect()
        })
        .await
    }
}

fn pass(db: &Transaction<'_>, job: &str, pattern: &str, to: DateTime<Utc>) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO schedule (job, pattern, passed_to) VALUES (?1, ?2, ?3) ON CONFLICT (job) \
         DO UPDATE SET pattern = excluded.pattern, passed_to = excluded.passed_to",
        params![job, pattern, moment(to)],
    )
    .map(|_| ())
}
