use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use super::{World, refused, rows, run, value};

/// Long enough to tell that a statement waits.
const SILENCE: Duration = Duration::from_millis(300);

/// SQLSTATE, message and detail of an error.
async fn violation(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), ("XX000", "1023"));
    error.detail().unwrap().to_owned()
}

async fn two_tables() -> (World, Client, Client) {
    let world = World::start().await;
    let (one, other) = (world.connect().await, world.connect().await);
    run(
        &one,
        &[
            "CREATE TABLE t (a int)",
            "CREATE TABLE u (a int)",
            "INSERT INTO t VALUES (1)",
        ],
    )
    .await;
    (world, one, other)
}

#[tokio::test]
async fn transactions_that_read_what_the_other_wrote_violate_isolation() {
    let (world, one, other) = two_tables().await;
    run(&one, &["BEGIN", "SELECT count(*) FROM t"]).await;
    run(
        &other,
        &[
            "BEGIN",
            "SELECT count(*) FROM u",
            "INSERT INTO t VALUES (2)",
            "COMMIT",
        ],
    )
    .await;
    // The snapshot is of the transaction's first statement.
    assert_eq!(value(&one, "SELECT count(*) FROM t").await, "1");
    run(&one, &["INSERT INTO u VALUES (1)"]).await;
    let detail = violation(&one, "COMMIT").await;
    assert!(
        detail.contains("Serializable isolation violation on table - "),
        "{detail}"
    );
    assert_eq!(value(&one, "SELECT count(*) FROM u").await, "0");
    // Without the other's read there is an order in which both may have run.
    run(&one, &["BEGIN", "SELECT count(*) FROM t"]).await;
    run(&other, &["INSERT INTO t VALUES (3)"]).await;
    run(&one, &["INSERT INTO u VALUES (1)", "COMMIT"]).await;
    assert_eq!(value(&one, "SELECT count(*) FROM u").await, "1");
    world.finish().await;
}

#[tokio::test]
async fn writers_of_a_table_wait_for_each_other_and_the_second_may_be_too_late() {
    let (world, one, other) = two_tables().await;
    run(&one, &["BEGIN", "UPDATE t SET a = 2"]).await;
    // A reader does not wait.
    assert_eq!(value(&other, "SELECT a FROM t").await, "1");
    let late = other.batch_execute("UPDATE t SET a = 3");
    tokio::pin!(late);
    timeout(SILENCE, &mut late)
        .await
        .expect_err("the table is being written");
    run(&one, &["COMMIT"]).await;
    let error = late.await.expect_err("it has read the table before");
    assert_eq!(error.as_db_error().unwrap().message(), "1023");
    assert_eq!(value(&other, "SELECT a FROM t").await, "2");
    world.finish().await;
}

#[tokio::test]
async fn a_transaction_that_locks_first_is_not_too_late() {
    let (world, one, other) = two_tables().await;
    run(&one, &["BEGIN", "LOCK t", "UPDATE t SET a = 2"]).await;
    run(&other, &["BEGIN"]).await;
    let lock = other.batch_execute("LOCK TABLE t");
    tokio::pin!(lock);
    timeout(SILENCE, &mut lock)
        .await
        .expect_err("the table is locked");
    run(&one, &["COMMIT"]).await;
    lock.await.unwrap();
    let read = one.simple_query("SELECT a FROM t");
    tokio::pin!(read);
    timeout(SILENCE, &mut read)
        .await
        .expect_err("the table is locked for readers as well");
    run(&other, &["UPDATE t SET a = a + 1", "COMMIT"]).await;
    read.await.unwrap();
    assert_eq!(value(&one, "SELECT a FROM t").await, "3");
    let (code, _) = refused(&one, "LOCK t").await;
    assert_eq!(code, "25P01");
    world.finish().await;
}

#[tokio::test]
async fn the_statements_of_a_message_are_one_transaction() {
    let (world, one, other) = two_tables().await;
    refused(
        &one,
        "INSERT INTO t VALUES (2); INSERT INTO nowhere VALUES (1)",
    )
    .await;
    assert_eq!(value(&one, "SELECT count(*) FROM t").await, "1");
    run(
        &one,
        &["INSERT INTO t VALUES (2); INSERT INTO u VALUES (1)"],
    )
    .await;
    assert_eq!(
        rows(&other, "SELECT count(*) FROM t; SELECT count(*) FROM u").await,
        [["2"], ["1"]]
    );
    run(&one, &["DELETE FROM t; BEGIN; DELETE FROM u; ROLLBACK"]).await;
    assert_eq!(
        rows(&other, "SELECT count(*) FROM t; SELECT count(*) FROM u").await,
        [["2"], ["1"]]
    );
    world.finish().await;
}

#[tokio::test]
async fn truncating_commits_and_vacuum_wants_no_transaction() {
    let (world, one, other) = two_tables().await;
    run(
        &one,
        &[
            "BEGIN",
            "INSERT INTO u VALUES (1)",
            "TRUNCATE t",
            "ROLLBACK",
        ],
    )
    .await;
    assert_eq!(
        rows(&other, "SELECT count(*) FROM t; SELECT count(*) FROM u").await,
        [["0"], ["1"]]
    );
    run(
        &one,
        &[
            "VACUUM",
            "VACUUM FULL t TO 100 PERCENT",
            "ANALYZE t",
            "BEGIN",
        ],
    )
    .await;
    let (code, message) = refused(&one, "VACUUM t").await;
    assert_eq!(code, "25001");
    assert_eq!(message, "VACUUM cannot run inside a transaction block");
    run(&one, &["ROLLBACK"]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_refusal_fails_the_transaction() {
    let (world, one, _) = two_tables().await;
    run(&one, &["BEGIN", "INSERT INTO t VALUES (2)"]).await;
    refused(&one, "SET lock_timeout = 1").await;
    let (code, message) = refused(&one, "INSERT INTO t VALUES (3)").await;
    assert_eq!(code, "25P02");
    assert!(
        message.starts_with("current transaction is aborted"),
        "{message}"
    );
    run(&one, &["COMMIT"]).await;
    assert_eq!(value(&one, "SELECT count(*) FROM t").await, "1");
    world.finish().await;
}

#[tokio::test]
async fn rows_are_merged_as_redshift_does() {
    let (world, one, _) = two_tables().await;
    run(&one, &[
        "CREATE TABLE target (id int, text varchar(9))",
        "CREATE TEMP TABLE source (id int, text varchar(9))",
        "INSERT INTO target VALUES (1, 'old'), (2, 'old')",
        "INSERT INTO source VALUES (2, 'new'), (3, 'new')",
        "MERGE INTO target USING source s ON target.id = s.id WHEN MATCHED THEN UPDATE SET text = s.text WHEN NOT MATCHED \
         THEN INSERT (id, text) VALUES (s.id, s.text)",
    ])
    .await;
    let all = "SELECT id, text FROM target ORDER BY id";
    assert_eq!(
        rows(&one, all).await,
        [["1", "old"], ["2", "new"], ["3", "new"]]
    );
    run(&one, &["MERGE INTO target USING source ON target.id = source.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN \
                 INSERT VALUES (source.id, source.text)"])
    .await;
    assert_eq!(rows(&one, all).await, [["1", "old"]]);
    let insert = "WHEN NOT MATCHED THEN INSERT VALUES (source.id, source.text)";
    let merge = "MERGE INTO target USING source ON target.id = source.id";
    super::all_refused(&one, &[
        (&format!("{merge} WHEN MATCHED THEN DELETE"), "42601", "each once"),
        (&format!("{merge} {insert}"), "42601", "each once"),
        (&format!("{merge} {insert} WHEN MATCHED THEN DELETE"), "42601", "and then WHEN NOT MATCHED"),
        (&format!("{merge} WHEN MATCHED AND true THEN DELETE {insert}"), "0A000", "WHEN ... AND"),
        (&format!("{merge} WHEN MATCHED THEN UPDATE SET target.text = 'x' {insert}"), "42601", "without its table"),
        (&format!("{merge} REMOVE DUPLICATES"), "0A000", "REMOVE DUPLICATES"),
        (
            "MERGE INTO target USING (SELECT 1 AS id) source ON target.id = source.id WHEN MATCHED THEN DELETE WHEN NOT \
             MATCHED THEN INSERT (id) VALUES (source.id)",
            "0A000",
            "not a subquery",
        ),
        (
            "MERGE INTO target USING target ON true WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1, '')",
            "0A000",
            "different tables",
        ),
    ])
    .await;
    run(&one, &["INSERT INTO source VALUES (1, 'a'), (1, 'b')"]).await;
    let twice = format!("{merge} WHEN MATCHED THEN UPDATE SET text = source.text {insert}");
    let (code, message) = refused(&one, &twice).await;
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("XX000", "Found multiple matches to update the same tuple.")
    );
    world.finish().await;
}
