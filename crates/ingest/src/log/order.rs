//! Which events are late: older than what has arrived before of the same.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tributary_convert::Key;
use tributary_model::{ClusterTime, Namespace};

use super::database::{number, stored};
use crate::check::{Order, Subject};

/// What is known of a collection.
struct Known {
    id: i64,
    /// The last change that has arrived of its documents.
    changed: Option<Order>,
    /// The last time that it was dropped or renamed away.
    ended: Option<Order>,
}

/// Records what an event is about and when it happened; answers whether it is late.
///
/// Only events of collections are told apart by their order: nothing depends on that of others.
pub(super) fn record(
    db: &Connection,
    subject: &Subject,
    order: &Order,
    event: u64,
) -> rusqlite::Result<bool> {
    match subject {
        Subject::Document(namespace, key) => {
            let known = known(db, namespace, event)?;
            changed(db, &known, *key, order, event)
        }
        Subject::Collection(namespace) => known(db, namespace, event).map(|_| false),
        Subject::Dropped(namespace) => {
            let known = known(db, namespace, event)?;
            ended(db, &known, order)
        }
        Subject::Renamed { from, to } => {
            let known_from = known(db, from, event)?;
            let known_to = known(db, to, event)?;
            let mut renamed =
                db.prepare_cached("UPDATE collection SET renamed = 1 WHERE id = ?1")?;
            renamed.execute([known_to.id])?;
            ended(db, &known_from, order)
        }
        Subject::DatabaseDropped(database) => {
            let mut is_late = false;
            for known in of_database(db, database)? {
                is_late |= ended(db, &known, order)?;
            }
            Ok(is_late)
        }
        Subject::Other => Ok(false),
    }
}

/// Records a change of a document.
fn changed(
    db: &Connection,
    collection: &Known,
    key: Key,
    order: &Order,
    event: u64,
) -> rusqlite::Result<bool> {
    if is_before(order, collection.ended.as_ref()) {
        return Ok(true);
    }
    let newest = db
        .prepare_cached("SELECT time, token FROM newest WHERE collection = ?1 AND key = ?2")?
        .query_row(params![collection.id, key.0], |row| order_at(row, 0))
        .optional()?
        .flatten();
    if is_before(order, newest.as_ref()) {
        return Ok(true);
    }
    db.prepare_cached(
        "INSERT INTO newest (collection, key, time, token, number) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE SET time = excluded.time, token = excluded.token, number = excluded.number",
    )?
    .execute(params![
        collection.id,
        key.0,
        stored(order.time.0),
        order.token,
        stored(event)
    ])?;
    if !is_before(order, collection.changed.as_ref()) {
        db.prepare_cached(
            "UPDATE collection SET changed_time = ?2, changed_token = ?3 WHERE id = ?1",
        )?
        .execute(params![collection.id, stored(order.time.0), order.token])?;
    }
    Ok(false)
}

/// Records the end of a collection. It is late where something has changed since: what came behind it and what
/// was before it cannot be told apart any more, and none of it is to be lost.
fn ended(db: &Connection, collection: &Known, order: &Order) -> rusqlite::Result<bool> {
    if !is_before(order, collection.ended.as_ref()) {
        db.prepare_cached("UPDATE collection SET ended_time = ?2, ended_token = ?3 WHERE id = ?1")?
            .execute(params![collection.id, stored(order.time.0), order.token])?;
    }
    Ok(is_before(order, collection.changed.as_ref()))
}

fn is_before(order: &Order, other: Option<&Order>) -> bool {
    other.is_some_and(|other| order.is_before(other))
}

const KNOWN: &str = "id, changed_time, changed_token, ended_time, ended_token";

fn known_at(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        id: row.get(0)?,
        changed: order_at(row, 1)?,
        ended: order_at(row, 3)?,
    })
}

/// The order whose time is in this column and whose token in the next.
fn order_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Order>> {
    let time: Option<i64> = row.get(column)?;
    let token = row.get(column + 1)?;
    Ok(time.map(|time| Order {
        time: ClusterTime(number(time)),
        token,
    }))
}

/// What is known of a collection, of which one event is that now.
fn known(db: &Connection, namespace: &Namespace, event: u64) -> rusqlite::Result<Known> {
    let names = [&namespace.database, &namespace.collection];
    let found = db
        .prepare_cached(&format!(
            "SELECT {KNOWN} FROM collection WHERE database = ?1 AND name = ?2"
        ))?
        .query_row(names, known_at)
        .optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    db.prepare_cached(&format!(
        "INSERT INTO collection (database, name, first) VALUES (?1, ?2, ?3) RETURNING {KNOWN}"
    ))?
    .query_row(
        params![namespace.database, namespace.collection, stored(event)],
        known_at,
    )
}

fn of_database(db: &Connection, database: &str) -> rusqlite::Result<Vec<Known>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {KNOWN} FROM collection WHERE database = ?1"
    ))?;
    let rows = query.query_map([database], known_at)?;
    rows.collect()
}
