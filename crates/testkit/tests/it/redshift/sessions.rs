use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int32Array, StringArray, TimestampMicrosecondArray,
};
use tokio_postgres::error::SqlState;

use super::{ROLE, World, all_refused, connect, refused, rows, run, value};
use crate::eventually;

#[tokio::test]
async fn a_table_is_made_loaded_followed_and_altered() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &[
        "CREATE SCHEMA IF NOT EXISTS \"Tributary\"",
        "CREATE SCHEMA IF NOT EXISTS \"db\"",
        "CREATE TABLE IF NOT EXISTS \"tributary\".\"ledger\" (\"table_schema\" varchar(127) NOT NULL, \"sequence\" \
         bigint NOT NULL, \"columns\" varchar(65535) NOT NULL, \"updated_at\" timestamptz NOT NULL DEFAULT getdate()) \
         DISTSTYLE ALL SORTKEY (\"table_schema\")",
        "INSERT INTO \"tributary\".\"ledger\" (\"table_schema\", \"sequence\", \"columns\") VALUES ('db', 1, '[]'), ('x', 2, '')",
        "DELETE FROM \"tributary\".\"ledger\" WHERE \"table_schema\" = 'x'",
        "BEGIN",
        "LOCK \"tributary\".\"ledger\"",
        "CREATE TABLE \"db\".\"t\" (\"_id\" char(24) NOT NULL ENCODE zstd, \"n\" integer ENCODE az64, \"at\" timestamptz, \
         \"doc\" super ENCODE zstd, \"_rescued_data\" super ENCODE zstd, PRIMARY KEY (\"_id\")) DISTSTYLE KEY DISTKEY \
         (\"_id\") COMPOUND SORTKEY (\"_id\")",
        "COMMENT ON TABLE \"db\".\"t\" IS 'it''s'",
        "CREATE TEMP TABLE \"tributary_stage\" (\"_id\" varchar(24), \"n\" integer, \"at\" timestamp, \"doc\" \
         varbyte(1048576), \"_rescued_data\" super, \"tributary_gone\" boolean)",
    ])
    .await;
    let id = |byte: &str| byte.repeat(24);
    let columns: [(&str, ArrayRef); 6] = [
        ("_id", Arc::new(StringArray::from(vec![id("a"), id("b")]))),
        ("n", Arc::new(Int32Array::from(vec![Some(1), None]))),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from(vec![1_500_000, 0]).with_timezone("UTC")),
        ),
        (
            "doc",
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(br#"{"a": [1, null]}"#),
                None,
            ])),
        ),
        (
            "_rescued_data",
            Arc::new(StringArray::from(vec![None::<&str>, None])),
        ),
        (
            "tributary_gone",
            Arc::new(BooleanArray::from(vec![false, true])),
        ),
    ];
    world.put("load/part-0.parquet", &columns).await;
    let copy = format!(
        "COPY \"tributary_stage\" FROM 's3://{}/load/' IAM_ROLE '{ROLE}' FORMAT AS PARQUET SERIALIZETOJSON",
        world.bucket
    );
    run(&client, &[
        &copy,
        "DELETE FROM \"db\".\"t\" USING \"tributary_stage\" WHERE \"db\".\"t\".\"_id\" = \"tributary_stage\".\"_id\"",
        "INSERT INTO \"db\".\"t\" (\"_id\",\"n\",\"at\",\"doc\",\"_rescued_data\") SELECT \"_id\",\"n\",\"at\" AT TIME \
         ZONE 'UTC', JSON_PARSE(\"doc\"), \"_rescued_data\" FROM \"tributary_stage\" WHERE NOT \"tributary_gone\"",
        "DROP TABLE \"tributary_stage\"",
        "ALTER TABLE \"db\".\"t\" ADD COLUMN \"new\" bigint ENCODE az64",
        "UPDATE \"db\".\"t\" SET \"new\" = \"n\"",
        "ALTER TABLE \"db\".\"t\" DROP COLUMN \"n\"",
        "ALTER TABLE \"db\".\"t\" RENAME COLUMN \"new\" TO \"n\"",
        "ALTER TABLE \"db\".\"t\" ADD COLUMN \"text\" varchar(16)",
        "COMMIT",
        "ALTER TABLE \"db\".\"t\" ALTER COLUMN \"text\" TYPE varchar(4096)",
        "UPDATE db.t SET text = repeat('ä', 2048)",
    ])
    .await;
    let behind = world.behind().await;
    let found = rows(
        &behind,
        "SELECT _id, at, doc, n, octet_length(text) FROM db.t",
    )
    .await;
    assert_eq!(
        found,
        [[
            &id("a"),
            "1970-01-01 00:00:01.5+00",
            "{\"a\": [1, null]}",
            "1",
            "4096"
        ]]
    );
    let columns = "SELECT column_name, data_type, character_maximum_length, is_nullable FROM svv_columns WHERE \
                   table_schema = 'db' AND table_name = 't' ORDER BY ordinal_position";
    assert_eq!(
        rows(&client, columns).await,
        [
            ["_id", "character", "24", "NO"],
            ["at", "timestamp with time zone", "NULL", "YES"],
            ["doc", "super", "NULL", "YES"],
            ["_rescued_data", "super", "NULL", "YES"],
            ["n", "bigint", "NULL", "YES"],
            ["text", "character varying", "4096", "YES"],
        ]
    );
    let ledger = "SELECT \"sequence\" FROM \"tributary\".\"ledger\" WHERE \"table_schema\" = 'db' ORDER BY 1";
    assert_eq!(value(&client, ledger).await, "1");
    assert!(world.redshift.statements().contains(&copy));
    world.finish().await;
}

#[tokio::test]
async fn statements_that_redshift_does_not_have_are_refused() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &["CREATE TABLE t (a int, b varchar(9), c super)"]).await;
    all_refused(
        &client,
        &[
            (
                "SET lock_timeout = '1s'",
                "42704",
                "unrecognized configuration parameter \"lock_timeout\"",
            ),
            (
                "SHOW idle_in_transaction_session_timeout",
                "42704",
                "unrecognized configuration parameter",
            ),
            (
                "SET enable_case_sensitive_identifier TO true",
                "0A000",
                "not supported by the stand-in",
            ),
            (
                "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
                "0A000",
                "ON CONFLICT is not supported",
            ),
            (
                "INSERT INTO t VALUES (1) RETURNING a",
                "0A000",
                "RETURNING is not supported",
            ),
            (
                "UPDATE t SET a = 1 RETURNING a",
                "0A000",
                "RETURNING is not supported",
            ),
            (
                "DELETE FROM t RETURNING a",
                "0A000",
                "RETURNING is not supported",
            ),
            (
                "SELECT * FROM t FOR UPDATE",
                "0A000",
                "SELECT FOR UPDATE is not supported",
            ),
            (
                "SELECT * FROM t FOR SHARE",
                "0A000",
                "SELECT FOR SHARE is not supported",
            ),
            (
                "SELECT DISTINCT ON (a) a FROM t",
                "0A000",
                "DISTINCT ON is not supported",
            ),
            (
                "SELECT * FROM t, LATERAL (SELECT t.a) x",
                "0A000",
                "LATERAL is not supported",
            ),
            (
                "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
                "0A000",
                "changes data in WITH",
            ),
            (
                "SELECT pg_advisory_lock(1)",
                "42883",
                "function pg_advisory_lock does not exist",
            ),
            (
                "SELECT pg_catalog.pg_try_advisory_xact_lock(1)",
                "42883",
                "does not exist",
            ),
            (
                "SELECT to_regclass('t')",
                "42883",
                "function to_regclass does not exist",
            ),
            ("SELECT jsonb_typeof(c) FROM t", "42883", "does not exist"),
            (
                "SELECT c ->> 'a' FROM t",
                "0A000",
                "operator ->> is not supported",
            ),
            ("SELECT ARRAY[1]", "0A000", "array"),
            (
                "SELECT a::uuid FROM t",
                "0A000",
                "type \"uuid\" is not supported",
            ),
            (
                "SELECT CAST(b AS json) FROM t",
                "0A000",
                "type \"json\" is not supported",
            ),
            (
                "SELECT * FROM t, generate_series(1, 3)",
                "0A000",
                "not supported on Redshift tables",
            ),
            (
                "INSERT INTO t SELECT generate_series(1, 3)",
                "0A000",
                "not supported on Redshift tables",
            ),
            ("SAVEPOINT s", "0A000", "SAVEPOINT is not supported"),
            ("LISTEN x", "0A000", "\"LISTEN\" not supported"),
            ("DO $$BEGIN END$$", "0A000", "\"DO\" not supported"),
            ("CHOOSE 1", "42601", "syntax error at or near \"choose\""),
            ("SELECT FROM WHERE", "42601", "syntax error"),
            ("SELECT 'a", "42601", "unterminated quoted string"),
            (
                "SELECT * FROM nowhere",
                "42P01",
                "relation \"nowhere\" does not exist",
            ),
        ],
    )
    .await;
    assert_eq!(
        value(&client, "SELECT count(*) FROM generate_series(1, 3)").await,
        "3"
    );
    world.finish().await;
}

#[tokio::test]
async fn functions_and_parameters_are_redshifts() {
    let world = World::start().await;
    let client = world.connect().await;
    assert!(
        value(&client, "SELECT version()")
            .await
            .contains("Redshift")
    );
    for (sql, expected) in [
        ("SELECT to_hex(from_hex('00ff'))", "00ff"),
        ("SELECT to_hex(255)", "ff"),
        ("SELECT len('äb')", "2"),
        ("SELECT chr(65)", "A"),
        ("SELECT json_serialize(json_parse('[1,null]'))", "[1, null]"),
        ("SELECT json_typeof(json_parse('{}'))", "object"),
        ("SELECT getdate() <= sysdate", "t"),
        ("SELECT '\\'", "\\"),
        ("SHOW timezone", "UTC"),
        ("SHOW query_group", "default"),
        ("SET query_group TO 'x'; SHOW query_group", "x"),
        (
            "SET statement_timeout = 60000; SHOW statement_timeout",
            "1min",
        ),
        ("SHOW enable_case_sensitive_identifier", "off"),
    ] {
        assert_eq!(value(&client, sql).await, expected, "{sql}");
    }
    let nested = |depth: usize| {
        format!(
            "SELECT len(json_serialize(json_parse('{}{}')))",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert_eq!(value(&client, &nested(1000)).await, "2000");
    let quoted = |bytes: usize| {
        format!(
            "SELECT json_typeof(json_parse('[\"{}\"]'))",
            "x".repeat(bytes)
        )
    };
    assert_eq!(value(&client, &quoted(65_535)).await, "array");
    all_refused(
        &client,
        &[
            ("SELECT json_parse('{')", "XX000", "JSON parsing error"),
            (
                &nested(1001),
                "XX000",
                "Nesting depth exceeds the limit of 1000",
            ),
            (
                &quoted(65_536),
                "XX000",
                "exceeds the max size of 65535 bytes",
            ),
            (
                &format!("SELECT json_parse('[{}]')", " ".repeat(1_048_575)),
                "XX000",
                "exceeds the limit of 1048576",
            ),
        ],
    )
    .await;
    world.finish().await;
}

#[tokio::test]
async fn queries_may_be_prepared() {
    let world = World::start().await;
    let mut client = world.connect().await;
    run(
        &client,
        &[
            "CREATE TABLE t (a int, b varchar(9))",
            "INSERT INTO t VALUES (1, 'one'), (2, 'two')",
        ],
    )
    .await;
    let statement = client
        .prepare("SELECT \"B\" FROM t WHERE a = $1")
        .await
        .unwrap();
    for (a, b) in [(1_i32, "one"), (2, "two")] {
        let found: String = client.query_one(&statement, &[&a]).await.unwrap().get(0);
        assert_eq!(found, b);
    }
    let error = client
        .query("INSERT INTO t VALUES (3, '')", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    let error = client
        .query("SELECT nothing FROM t", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
    // What is read by a prepared statement counts as read.
    let transaction = client.transaction().await.unwrap();
    transaction.query(&statement, &[&1_i32]).await.unwrap();
    let other = world.connect().await;
    run(&other, &["UPDATE t SET b = 'x'"]).await;
    let error = transaction
        .batch_execute("INSERT INTO t VALUES (3, '')")
        .await;
    error.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "1023");
    world.finish().await;
}

#[tokio::test]
async fn statements_fail_and_connections_are_cut_as_told() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &["CREATE TABLE t (a int)"]).await;
    world.redshift.fail("insert into T", "XX000", "disk full");
    let insert = "INSERT INTO t VALUES (1)";
    assert_eq!(
        refused(&client, insert).await,
        ("XX000".to_owned(), "disk full".to_owned())
    );
    run(&client, &[insert]).await;

    for (cut_after, expected) in [(false, "1"), (true, "2")] {
        let cut = world.connect().await;
        run(&cut, &["BEGIN", "INSERT INTO t VALUES (2)"]).await;
        if cut_after {
            world.redshift.cut_after("COMMIT");
        } else {
            world.redshift.cut_before("COMMIT");
        }
        let error = cut.batch_execute("COMMIT").await.unwrap_err();
        assert!(error.as_db_error().is_none(), "{error}");
        eventually("the client is told", || cut.is_closed()).await;
        assert_eq!(value(&client, "SELECT count(*) FROM t").await, expected);
    }
    world.redshift.cut_after("INTO t");
    world
        .connect()
        .await
        .batch_execute(insert)
        .await
        .unwrap_err();
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "3");
    world.redshift.cut_before("SELECT");
    world.redshift.heal();
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "3");
    assert_eq!(
        world.redshift.statements().last().unwrap(),
        "SELECT count(*) FROM t"
    );
    world.finish().await;
}

#[tokio::test]
async fn users_are_postgresqls_and_statements_can_be_cancelled() {
    let world = World::start().await;
    let client = world.connect().await;
    let user = tributary_testkit::unique_name("reader");
    let behind = world.behind().await;
    run(
        &behind,
        &[&format!("CREATE ROLE {user} LOGIN PASSWORD 'pass'")],
    )
    .await;
    drop(behind);
    connect(&world.redshift.uri_as(&user, "wrong"))
        .await
        .expect_err("the password is wrong");
    let limited = connect(&world.redshift.uri_as(&user, "pass"))
        .await
        .unwrap();
    run(
        &client,
        &[
            "CREATE SCHEMA s",
            "CREATE TABLE s.t (a varchar(3))",
            "INSERT INTO s.t VALUES ('a')",
        ],
    )
    .await;
    assert_eq!(refused(&limited, "SELECT * FROM s.t").await.0, "42501");
    run(
        &client,
        &[
            &format!("GRANT USAGE ON SCHEMA s TO {user}"),
            &format!("GRANT SELECT, INSERT ON s.t TO {user}"),
        ],
    )
    .await;
    run(&limited, &["INSERT INTO s.t VALUES ('b')"]).await;
    assert_eq!(
        rows(&limited, "SELECT a FROM s.t ORDER BY a").await,
        [["a"], ["b"]]
    );
    assert_eq!(refused(&limited, "DELETE FROM s.t").await.0, "42501");

    run(&client, &["BEGIN", "LOCK s.t"]).await;
    let token = limited.cancel_token();
    let waiting = limited.batch_execute("INSERT INTO s.t VALUES ('c')");
    tokio::pin!(waiting);
    // The request is of no effect until the statement has begun, so it is made until it is.
    let error = loop {
        tokio::select! {
            ended = &mut waiting => break ended.expect_err("the table is locked"),
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {
                token.cancel_query(tokio_postgres::NoTls).await.unwrap();
            }
        }
    };
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    run(&client, &["ROLLBACK", "DROP SCHEMA s CASCADE"]).await;
    let behind = world.behind().await;
    run(&behind, &[&format!("DROP ROLE {user}")]).await;
    drop(behind);
    world.finish().await;
}
