//! The objects that runs are for: each is taken once.

use chrono::Utc;
use rusqlite::params;
use tributary_model::Result;

use super::runs::{Enqueued, Request, enqueue, gather, waiting_for_objects};
use super::{Store, moment, of_json, to_json};
use crate::objects::CreatedObject;
use crate::status::Cause;

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
            let enqueued = match waiting_for_objects(db, &request.job)? {
                Some(run) => Enqueued {
                    run: gather(db, run, new.len() as u64)?,
                    replaced: Vec::new(),
                },
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
