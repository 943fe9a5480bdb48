use std::path::Path;
use std::sync::mpsc;

use bson::doc;
use tempfile::TempDir;

use super::*;

/// An event of the document `id`, of a kilobyte and more.
fn event(id: i32) -> CheckedEvent {
    let event = doc! {
        "_id": { "_data": format!("8200000005000000012B{id:08X}") },
        "operationType": "insert",
        "clusterTime": bson::Timestamp { time: 5, increment: 1 },
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": id },
        "fullDocument": { "_id": id, "text": "x".repeat(1024) },
    };
    crate::check(bson::serialize_to_vec(&event).unwrap().into()).unwrap()
}

fn writer(directory: &Path) -> (Writer, watch::Receiver<State>) {
    let file = directory.join("events.db");
    let connection = database::open(&file, present()).unwrap().unwrap();
    let state = database::state(&connection).unwrap();
    let (told, reached) = watch::channel(state);
    (Writer::new(connection, file, Arc::default(), told), reached)
}

/// Appends so many events.
fn append(writer: &mut Writer, ids: std::ops::Range<i32>) {
    let (done, _) = oneshot::channel();
    let events = ids.map(event).collect();
    writer.append(vec![Append { events, done }]);
}

/// Has all events be from long ago.
fn age(writer: &Writer) {
    writer
        .connection
        .execute("UPDATE event SET received = 0", [])
        .unwrap();
}

fn count(connection: &Connection) -> i64 {
    connection
        .query_row("SELECT count(*) FROM event", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn what_removed_events_took_is_given_back() {
    let directory = TempDir::new().unwrap();
    let (mut writer, _told) = writer(directory.path());
    append(&mut writer, 0..5000);
    age(&writer);
    let size = |writer: &Writer| {
        writer
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        std::fs::metadata(&writer.file).unwrap().len()
    };
    let full = size(&writer);
    assert!(full > 5 << 20, "{full}");
    while writer.retain(0) {}
    assert_eq!(count(&writer.connection), 0);
    let empty = size(&writer);
    assert!(empty < 1 << 20, "{empty} of {full}");
}

#[test]
fn what_a_version_before_has_left_is_given_back_too() {
    let directory = TempDir::new().unwrap();
    let (mut writer, _told) = writer(directory.path());
    append(&mut writer, 0..20_000);
    writer.connection.execute("DELETE FROM event", []).unwrap();
    let free = |writer: &Writer| -> usize {
        let count = writer
            .connection
            .pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
        count.unwrap().try_into().unwrap()
    };
    let before = free(&writer);
    assert!(before > FREED_AT_ONCE);
    assert!(writer.retain(0));
    assert_eq!(free(&writer), before - FREED_AT_ONCE);
    while writer.retain(0) {}
    assert_eq!(free(&writer), 0);
}

#[test]
fn appends_do_not_wait_until_all_that_is_old_is_removed() {
    let directory = TempDir::new().unwrap();
    let (mut writer, _told) = writer(directory.path());
    append(&mut writer, 0..5000);
    age(&writer);
    let (appends, waiting) = mpsc::channel();
    let (done, mut answer) = oneshot::channel();
    let events = vec![event(5000)];
    appends.send(Append { events, done }).unwrap();
    drop(appends);
    // One turn appends it; the next finds that nobody sends any more.
    writer.run(&waiting);
    let appended = answer.try_recv().unwrap().unwrap();
    assert_eq!(appended.accepted, 1);
    let connection = Connection::open(directory.path().join("events.db")).unwrap();
    assert_eq!(count(&connection), 4001);
}

#[test]
fn no_less_is_removed_than_has_been_appended() {
    let directory = TempDir::new().unwrap();
    let (mut writer, _told) = writer(directory.path());
    append(&mut writer, 0..5000);
    age(&writer);
    assert!(writer.retain(2500));
    assert_eq!(count(&writer.connection), 2000);
}
