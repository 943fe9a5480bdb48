//! Alerts, and the messages about them that are to be sent.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Transaction, params};
use tributary_model::Result;

use super::{Store, moment, now, of_json, of_moment, to_json};
use crate::deliver::{AlertState, Message};
use crate::status::AlertStatus;

/// Something that is the case now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raised {
    /// By which rule.
    pub(crate) rule: String,
    /// What it is about.
    pub(crate) subject: String,
    /// In one line.
    pub(crate) summary: String,
    /// In more of them.
    pub(crate) detail: Option<String>,
}

/// Who is told by a rule, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    /// The receivers.
    pub(crate) receivers: Vec<String>,
    /// How often it is told again.
    pub(crate) repeat: Option<std::time::Duration>,
}

/// A message that is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// Its id.
    pub(crate) id: i64,
    /// To whom.
    pub(crate) receiver: String,
    /// How often that has failed.
    pub(crate) attempts: u32,
    /// What.
    pub(crate) message: Message,
}

/// An alert as it is remembered.
struct Known {
    id: i64,
    told_at: DateTime<Utc>,
    since: DateTime<Utc>,
    raised: Raised,
}

/// The first message for each receiver, where it is due: one that cannot be sent has those behind it wait, for
/// what has recovered has fired before.
const DUE: &str =
    "message WHERE id IN (SELECT min(id) FROM message GROUP BY receiver) AND next_at <= ?1";

fn firing(db: &Transaction<'_>) -> rusqlite::Result<Vec<Known>> {
    let mut query = db.prepare_cached(
        "SELECT id, rule, subject, summary, detail, since, told_at FROM alert WHERE recovered_at IS NULL",
    )?;
    let known = query.query_map([], |row| {
        Ok(Known {
            id: row.get(0)?,
            raised: Raised {
                rule: row.get(1)?,
                subject: row.get(2)?,
                summary: row.get(3)?,
                detail: row.get(4)?,
            },
            since: of_moment(row.get(5)?),
            told_at: of_moment(row.get(6)?),
        })
    })?;
    known.collect()
}

fn send(
    db: &Transaction<'_>,
    alert: i64,
    telling: &Telling,
    message: &Message,
) -> rusqlite::Result<()> {
    let content = to_json(message)?;
    for receiver in &telling.receivers {
        db.prepare_cached(
            "INSERT INTO message (alert, receiver, content, next_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![alert, receiver, content, moment(Utc::now())])?;
    }
    Ok(())
}

fn message(state: AlertState, raised: &Raised, since: DateTime<Utc>, host: &str) -> Message {
    Message {
        state,
        rule: raised.rule.clone(),
        subject: raised.subject.clone(),
        summary: raised.summary.clone(),
        detail: raised.detail.clone(),
        since,
        host: host.to_owned(),
    }
}

fn status(db: &Transaction<'_>, only: Option<i64>) -> rusqlite::Result<Vec<AlertStatus>> {
    let mut untold: HashMap<i64, Vec<String>> = HashMap::new();
    let mut query = db.prepare_cached("SELECT alert, receiver, error FROM message ORDER BY id")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (receiver, error): (String, Option<String>) = (row.get(1)?, row.get(2)?);
        let line = match error {
            Some(error) => format!("{receiver}: {error}"),
            None => receiver,
        };
        untold.entry(row.get(0)?).or_default().push(line);
    }
    let mut query = db.prepare_cached(
        "SELECT id, rule, subject, summary, since, recovered_at FROM alert \
         WHERE ?1 IS NULL OR id = ?1 ORDER BY recovered_at IS NOT NULL, id DESC LIMIT 1000",
    )?;
    let alerts = query.query_map([only], |row| {
        Ok(AlertStatus {
            untold: untold.remove(&row.get(0)?).unwrap_or_default(),
            rule: row.get(1)?,
            subject: row.get(2)?,
            summary: row.get(3)?,
            since: of_moment(row.get(4)?),
            recovered_at: row.get::<_, Option<i64>>(5)?.map(of_moment),
        })
    })?;
    alerts.collect()
}

pub(super) fn forget(db: &Transaction<'_>, before: DateTime<Utc>) -> rusqlite::Result<()> {
    db.execute(
        "DELETE FROM alert WHERE recovered_at < ?1",
        [moment(before)],
    )
    .map(|_| ())
}

impl Store {
    /// Takes over what is the case now: what is new is told, what is over too, what lasts again when it is
    /// time. Answers the alerts that have changed.
    pub(crate) async fn raise(
        &self,
        raised: Vec<Raised>,
        tellings: HashMap<String, Telling>,
        host: String,
    ) -> Result<Vec<AlertStatus>> {
        self.transact(move |db| {
            let now = now();
            let known = firing(db)?;
            let mut changed = Vec::new();
            for raised in &raised {
                let Some(telling) = tellings.get(&raised.rule) else {
                    continue;
                };
                let is_known = |known: &&Known| {
                    known.raised.rule == raised.rule && known.raised.subject == raised.subject
                };
                match known.iter().find(is_known) {
                    None => {
                        db.execute(
                            "INSERT INTO alert (rule, subject, summary, detail, since, told_at) \
                             VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                            params![
                                raised.rule,
                                raised.subject,
                                raised.summary,
                                raised.detail,
                                moment(now)
                            ],
                        )?;
                        let id = db.last_insert_rowid();
                        let message = message(AlertState::Firing, raised, now, &host);
                        send(db, id, telling, &message)?;
                        changed.push(id);
                    }
                    Some(known) => {
                        let waited = (now - known.told_at).to_std().unwrap_or_default();
                        if telling.repeat.is_some_and(|repeat| waited >= repeat) {
                            db.execute(
                                "UPDATE alert SET told_at = ?2, summary = ?3, detail = ?4 WHERE id = ?1",
                                params![known.id, moment(now), raised.summary, raised.detail],
                            )?;
                            let message = message(AlertState::Firing, raised, known.since, &host);
                            send(db, known.id, telling, &message)?;
                            changed.push(known.id);
                        }
                    }
                }
            }
            for known in known {
                let lasts = raised.iter().any(|raised| {
                    raised.rule == known.raised.rule && raised.subject == known.raised.subject
                });
                if lasts {
                    continue;
                }
                db.execute(
                    "UPDATE alert SET recovered_at = ?2 WHERE id = ?1",
                    params![known.id, moment(now)],
                )?;
                // A rule that is gone tells nobody that it is.
                if let Some(telling) = tellings.get(&known.raised.rule) {
                    let message = message(AlertState::Recovered, &known.raised, known.since, &host);
                    send(db, known.id, telling, &message)?;
                }
                changed.push(known.id);
            }
            let mut alerts = Vec::new();
            for id in changed {
                alerts.extend(status(db, Some(id))?);
            }
            Ok(alerts)
        })
        .await
    }

    /// What was told, and is not over.
    pub(crate) async fn firing_alerts(&self) -> Result<Vec<Raised>> {
        self.transact(|db| {
            let known = firing(db)?.into_iter();
            Ok(known.map(|known| known.raised).collect())
        })
        .await
    }

    /// The receivers that a message is due for.
    pub(crate) async fn due_receivers(&self) -> Result<Vec<String>> {
        self.transact(|db| {
            let mut query = db.prepare_cached(&format!("SELECT receiver FROM {DUE}"))?;
            let receivers = query.query_map([moment(Utc::now())], |row| row.get(0))?;
            receivers.collect()
        })
        .await
    }

    /// The next message for a receiver, where one is due.
    pub(crate) async fn due_message(&self, receiver: &str) -> Result<Option<Outgoing>> {
        let receiver = receiver.to_owned();
        self.transact(move |db| {
            let mut query = db.prepare_cached(&format!(
                "SELECT id, receiver, attempts, content FROM {DUE} AND receiver = ?2"
            ))?;
            let due = query.query_row(params![moment(Utc::now()), receiver], |row| {
                Ok(Outgoing {
                    id: row.get(0)?,
                    receiver: row.get(1)?,
                    attempts: row.get(2)?,
                    message: of_json(3, &row.get::<_, String>(3)?)?,
                })
            });
            due.optional()
        })
        .await
    }

    /// Records that a message was sent, or is not to be.
    pub(crate) async fn message_is_done(&self, id: i64) -> Result<()> {
        self.transact(move |db| {
            db.execute("DELETE FROM message WHERE id = ?1", [id])
                .map(|_| ())
        })
        .await
    }

    /// Records that a message could not be sent.
    pub(crate) async fn message_failed(
        &self,
        id: i64,
        error: String,
        next_at: DateTime<Utc>,
    ) -> Result<()> {
        self.transact(move |db| {
            db.execute(
                "UPDATE message SET attempts = attempts + 1, error = ?2, next_at = ?3 WHERE id = ?1",
                params![id, error, moment(next_at)],
            )
            .map(|_| ())
        })
        .await
    }

    /// All alerts that are remembered: those that fire first, then the newest.
    pub(crate) async fn alerts(&self) -> Result<Vec<AlertStatus>> {
        self.transact(|db| status(db, None)).await
    }
}
