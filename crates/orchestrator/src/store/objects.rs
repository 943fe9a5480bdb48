//! The objects that runs are for: each is taken once.

use chrono::Utc;
use rusqlite::params;
use tributary_model::Result;

use super::runs::{Enqueued, Request, enqueue, going_on};
use super::{Store, moment, of_json, to_json};
use crate::objects::CreatedObject;
use crate::status::{Cause, RunState};

impl Store {
    /// Asks for a run for these objects, all but those that were there before. They join a run that has
    /// not begun.
    pub(crate) async fn enqueue_for(
        &self,
        request: Request,
        objects: Vec<CreatedObject>,
    ) -> Result<Option<Enqueued>> {
        self.transact(move |db| {
            let mut known = db.prepare_cached("SELECT 1 FROM object WHERE job = ?1 AND id = ?2")?;
            let mut new = Vec::new();
            for object in objects {
                let is_new = !known.exists(params![request.job, object.id])?;
                if is_new && !new.iter().any(|other: &CreatedObject| other.id == object.id) {
                    new.push(object);
                }
            }
            let Some(first) = new.first() else {
                return Ok(None);
            };
            let waiting = going_on(db, &request.job)?.into_iter().find(|run| {
                run.state == RunState::Queued && matches!(run.cause, Cause::Objects { .. })
            });
            let enqueued = match waiting {
                Some(mut run) => {
                    if let Cause::Objects { count, .. } = &mut run.cause {
                        *count += new.len() as u64;
                    }
                    db.execute(
                        "UPDATE run SET cause = ?2 WHERE id = ?1",
                        params![run.id, to_json(&run.cause)?],
                    )?;
                    Enqueued {
                        run,
                        replaced: Vec::new(),
                    }
                }
                None => {
                    let cause = Cause::Objects {
                        count: new.len() as u64,
                        first: first.to_string(),
                    };
                    enqueue(db, &request, &cause)?
                }
            };
            for object in &new {
                db.prepare_cached(
                    "INSERT INTO object (job, id, run, object, taken_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    request.job,
                    object.id,
                    enqueued.run.id,
                    to_json(object)?,
                    moment(Utc::now())
                ])?;
            }
            Ok(Some(enqueued))
        })
        .await
    }

    /// The objects that a run is for, in the order in which they came.
    pub(crate) async fn objects(&self, run: &str) -> Result<Vec<CreatedObject>> {
        let run = run.to_owned();
        self.transact(move |db| {
            let mut query =
                db.prepare_cached("SELECT object FROM object WHERE run = ?1 ORDER BY rowid")?;
            let objects = query.query_map([run], |row| of_json(0, &row.get::<_, String>(0)?))?;
            objects.collect()
        })
        .await
    }
}
