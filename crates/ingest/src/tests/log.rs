use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::doc;
use rusqlite::Connection;
use tributary_model::{ErrorKind, Namespace};

use super::{Fixture, checked, event};
use crate::log::StoredEvent;
use crate::{Appended, EventLog, LogOptions};

const PATIENCE: Duration = Duration::from_secs(60);

/// All that a log holds.
async fn all(log: &Arc<EventLog>) -> Vec<StoredEvent> {
    let (mut after, _) = log.window();
    let mut events = Vec::new();
    loop {
        let page = log.read(after).await.unwrap();
        events.extend(page.events);
        after = page.through;
        if page.is_last {
            return events;
        }
    }
}

async fn until(log: &EventLog, what: &str, is_so: impl Fn((u64, u64)) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so(log.window()) {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_appended_is_there_in_its_order_after_another_start() {
    let fixture = Fixture::new();
    let events = [
        event("insert", 2, 9),
        event("insert", 1, 5),
        event("delete", 2, 10),
    ];
    let taken = Appended {
        accepted: 3,
        duplicates: 0,
    };
    assert_eq!(fixture.append(&events).await, taken);
    let position = fixture.log.present();
    let fixture = fixture.reopen();
    let stored = all(&fixture.log).await;
    let documents: Vec<_> = stored.iter().map(|event| event.document.clone()).collect();
    let expected: Vec<_> = events.iter().map(super::bytes).collect();
    assert_eq!(documents, expected);
    assert_eq!(fixture.log.present(), position);
    // One number is free between any two.
    assert!(
        stored
            .windows(2)
            .all(|pair| pair[0].number + 2 <= pair[1].number)
    );
}

#[tokio::test]
async fn an_event_is_appended_once() {
    let fixture = Fixture::new();
    let first = event("insert", 1, 5);
    assert_eq!(
        fixture
            .append(&[first.clone(), first.clone(), event("insert", 2, 5)])
            .await,
        Appended {
            accepted: 2,
            duplicates: 1
        }
    );
    let fixture = fixture.reopen();
    assert_eq!(
        fixture.append(std::slice::from_ref(&first)).await,
        Appended {
            accepted: 0,
            duplicates: 1
        }
    );
    assert_eq!(all(&fixture.log).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_side_by_side_share_what_they_wait_for() {
    let fixture = Fixture::new();
    let appends = (0..500).map(|id| {
        let log = Arc::clone(&fixture.log);
        tokio::spawn(async move { log.append(vec![checked(&event("insert", id, 5))]).await })
    });
    for append in appends.collect::<Vec<_>>() {
        assert_eq!(append.await.unwrap().unwrap().accepted, 1);
    }
    let stored = all(&fixture.log).await;
    assert_eq!(stored.len(), 500);
    assert!(
        stored
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number)
    );
    // Each told its readers of what was durable by then; together they were fewer commits than appends.
    let commits: i64 = Connection::open(fixture.directory.path().join("events.db"))
        .unwrap()
        .query_row("SELECT count(DISTINCT received) FROM event", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(commits < 500, "{commits}");
}

#[tokio::test]
async fn a_log_is_open_once() {
    let fixture = Fixture::new();
    let again = EventLog::open(fixture.directory.path(), "atlas", LogOptions::default());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
}

fn copy(from: &Path, to: &Path, wal: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join("events.db"), to.join("events.db")).unwrap();
    let bytes = std::fs::read(from.join("events.db-wal")).unwrap();
    std::fs::write(to.join("events.db-wal"), wal(bytes)).unwrap();
}

/// A machine that ends while the journal is written leaves a part of it.
#[tokio::test]
async fn of_a_journal_that_is_cut_what_was_whole_is_kept() {
    let fixture = Fixture::new();
    for id in 0..30 {
        fixture
            .append(&[event("insert", id, 5), event("insert", 1000 + id, 5)])
            .await;
    }
    let from = fixture.directory.path();
    let wal = std::fs::metadata(from.join("events.db-wal")).unwrap().len();
    let mut found = Vec::new();
    for part in 0..=10_u64 {
        let to = fixture.directory.path().join(format!("cut{part}"));
        let length = usize::try_from(wal * part / 10).unwrap();
        let torn = |mut bytes: Vec<u8>| {
            bytes.truncate(length);
            bytes
        };
        copy(from, &to, torn);
        let Ok(log) = EventLog::open(&to, "atlas", LogOptions::default()) else {
            panic!("cut at {part} tenths, the log does not open");
        };
        let stored = all(&Arc::new(log)).await;
        // A request is there whole or not at all, and so is all that came before it.
        assert_eq!(stored.len() % 2, 0);
        for (i, event) in stored.iter().enumerate() {
            let document: bson::Document = bson::deserialize_from_slice(&event.document).unwrap();
            let id = document
                .get_document("documentKey")
                .unwrap()
                .get_i32("_id")
                .unwrap();
            assert_eq!(id % 1000, i32::try_from(i / 2).unwrap());
        }
        found.push(stored.len());
    }
    assert!(found.is_sorted(), "{found:?}");
    assert_eq!((found[0], found[10]), (0, 60), "{found:?}");
}

#[tokio::test]
async fn a_damaged_event_is_noticed() {
    let fixture = Fixture::new();
    fixture.append(&[event("insert", 1, 5)]).await;
    Connection::open(fixture.directory.path().join("events.db"))
        .unwrap()
        .execute("UPDATE event SET document = zeroblob(length(document))", [])
        .unwrap();
    let (after, _) = fixture.log.window();
    let error = fixture.log.read(after).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn what_is_old_is_removed_and_that_is_told() {
    let fixture = Fixture::with(LogOptions {
        // Longer than a busy machine stops between what is appended and what reads it.
        retention: Duration::from_secs(10),
        largest: None,
    });
    let before = fixture.log.present();
    fixture
        .append(&[event("insert", 1, 5), event("insert", 2, 5)])
        .await;
    let stored = all(&fixture.log).await;
    let both = stored[1].number;
    let behind = fixture.log.behind(both);
    until(&fixture.log, "both are removed", |(removed, _)| {
        removed == both
    })
    .await;
    // Who had read all of it lacks nothing.
    fixture.log.number_of(&behind).unwrap();
    let error = fixture.log.number_of(&before).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryLost);
    let error = fixture.log.read(stored[0].number).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryLost);
    // A table that begins now says what it lacks.
    let orders = Namespace::new("shop", "orders");
    let beginning = fixture.log.beginning(&orders).await.unwrap();
    assert_eq!(beginning.position, behind);
    assert_eq!(beginning.lacking.map(|from| from.0), Some(stored[0].number));
    // Forgotten, they are no duplicates.
    assert_eq!(fixture.append(&[event("insert", 1, 5)]).await.accepted, 1);
    let counted: i64 = Connection::open(fixture.directory.path().join("events.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM newest", [], |row| row.get(0))
        .unwrap();
    assert!(counted <= 1, "{counted}");
}

#[tokio::test]
async fn a_log_is_no_larger_than_it_may_be() {
    let size = |id| super::bytes(&event("insert", id, 5)).len() as u64;
    let fixture = Fixture::with(LogOptions {
        largest: Some(size(0) * 10),
        ..LogOptions::default()
    });
    for id in 0..50 {
        fixture.append(&[event("insert", id, 5)]).await;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        // More may be removed between the two.
        let (removed, _) = fixture.log.window();
        let page = fixture.log.read(removed).await;
        if page.is_ok_and(|page| page.events.len() == 10) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "it stays larger, or gets smaller"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_position_of_another_log_is_told_apart() {
    let (one, other) = (Fixture::new(), Fixture::new());
    one.append(&[event("insert", 1, 5)]).await;
    let error = other.log.number_of(&one.log.present()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OtherSource);
    // A moment to come is as good as the present, but no event has been there yet.
    let mut future = one.log.present();
    future.cluster_time.0 += 5;
    let present = one.log.number_of(&one.log.present()).unwrap();
    assert_eq!(one.log.number_of(&future).unwrap(), present);
    future.resume_token = Some("0".repeat(16));
    let error = one.log.number_of(&future).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OtherSource);
}

#[tokio::test]
async fn a_table_begins_before_the_first_event_of_its_collection() {
    let fixture = Fixture::new();
    fixture.append(&[event("insert", 1, 5)]).await;
    let mut other = event("insert", 2, 5);
    other.insert("ns", doc! { "db": "shop", "coll": "customers" });
    fixture.append(&[other, event("insert", 3, 5)]).await;
    let customers = Namespace::new("shop", "customers");
    let beginning = fixture.log.beginning(&customers).await.unwrap();
    assert_eq!(beginning.lacking, None);
    let after = fixture.log.number_of(&beginning.position).unwrap();
    assert_eq!(fixture.log.read(after).await.unwrap().events.len(), 2);
    let unknown = fixture.log.beginning(&Namespace::new("shop", "x")).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}

/// So that the position of a table without changes is not forgotten.
#[tokio::test]
async fn the_end_of_a_log_goes_with_the_clock() {
    let fixture = Fixture::with(LogOptions {
        retention: Duration::from_secs(2),
        largest: None,
    });
    let (_, begun) = fixture.log.window();
    until(&fixture.log, "the end has moved", |(_, last)| last > begun).await;
    let (removed, moved) = fixture.log.window();
    assert_eq!(removed, begun);
    // It has no event, and what has read to there has read everything.
    let page = fixture.log.read(begun).await.unwrap();
    assert!(page.events.is_empty() && page.is_last && page.through >= moved);
    let fixture = fixture.reopen();
    fixture.append(&[event("insert", 1, 5)]).await;
    assert!(all(&fixture.log).await[0].number > moved);
}

#[test]
fn a_disk_without_room_is_told_from_one_that_fails() {
    let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    assert!(crate::log::is_full(&failure(rusqlite::ffi::SQLITE_FULL)));
    assert!(!crate::log::is_full(&failure(rusqlite::ffi::SQLITE_IOERR)));
}
