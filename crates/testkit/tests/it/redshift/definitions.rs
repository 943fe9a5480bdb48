use super::{World, all_refused, refused, rows, run, value};

#[tokio::test]
async fn tables_take_attributes_and_show_them() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &[
        "CREATE SCHEMA s",
        "CREATE TABLE s.keyed (id char(24) NOT NULL ENCODE zstd DISTKEY SORTKEY PRIMARY KEY, n int ENCODE az64, doc super)",
        "CREATE TABLE s.plain (a smallint, b decimal(38,10), c varbyte(10) ENCODE lzo, d text, UNIQUE (a)) DISTSTYLE EVEN \
         INTERLEAVED SORTKEY (a, b)",
        "CREATE TABLE IF NOT EXISTS s.plain (other int)",
        "CREATE TABLE s.auto (a bool DEFAULT true, b real, c float, d date, e timestamptz DEFAULT sysdate) DISTSTYLE AUTO \
         SORTKEY AUTO",
    ])
    .await;
    assert_eq!(
        rows(
            &client,
            "SELECT \"table\", diststyle, sortkey1, sortkey_num FROM svv_table_info ORDER BY 1"
        )
        .await,
        [
            ["auto", "AUTO(ALL)", "AUTO(SORTKEY)", "0"],
            ["keyed", "KEY(id)", "id", "1"],
            ["plain", "EVEN", "a", "2"],
        ]
    );
    run(&client, &["SET search_path TO s"]).await;
    let definition = "SELECT \"column\", type, encoding, distkey, sortkey, \"notnull\" FROM pg_table_def WHERE tablename = ";
    assert_eq!(
        rows(&client, &format!("{definition} 'keyed' ORDER BY 1")).await,
        [
            ["doc", "super", "lzo", "f", "0", "f"],
            ["id", "character(24)", "zstd", "t", "1", "t"],
            ["n", "integer", "az64", "f", "0", "f"],
        ]
    );
    let columns = "SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale FROM \
                   svv_columns WHERE table_schema = 's' AND table_name = ";
    assert_eq!(
        rows(
            &client,
            &format!("{columns} 'plain' ORDER BY ordinal_position")
        )
        .await,
        [
            ["a", "smallint", "NULL", "16", "0"],
            ["b", "numeric", "NULL", "38", "10"],
            ["c", "binary varying", "10", "NULL", "NULL"],
            ["d", "character varying", "256", "NULL", "NULL"],
        ]
    );
    assert_eq!(
        rows(
            &client,
            &format!("{columns} 'auto' AND data_type IN ('real', 'double precision') ORDER BY ordinal_position")
        )
        .await,
        [
            ["b", "real", "NULL", "24", "NULL"],
            ["c", "double precision", "NULL", "53", "NULL"],
        ]
    );
    assert_eq!(
        rows(
            &client,
            "SELECT table_name, table_type FROM svv_tables WHERE table_schema = 's' ORDER BY 1"
        )
        .await,
        [
            ["auto", "BASE TABLE"],
            ["keyed", "BASE TABLE"],
            ["plain", "BASE TABLE"]
        ]
    );
    world.finish().await;
}

#[tokio::test]
async fn definitions_that_redshift_does_not_have_are_refused() {
    let world = World::start().await;
    let client = world.connect().await;
    let wide: Vec<_> = (0..=1600).map(|at| format!("c{at} int")).collect();
    let wide = format!("CREATE TABLE t ({})", wide.join(", "));
    let columns: Vec<_> = (0..=400).map(|at| format!("c{at}")).collect();
    let sorted = format!(
        "CREATE TABLE t ({} int) SORTKEY ({})",
        columns.join(" int, "),
        columns.join(", ")
    );
    all_refused(
        &client,
        &[
            (&wide, "54011", "tables can have at most 1600 columns"),
            (&sorted, "54011", "cannot have more than 400 sort columns"),
            (
                "CREATE TABLE t (a json)",
                "0A000",
                "unsupported type \"json\"",
            ),
            (
                "CREATE TABLE t (a jsonb)",
                "0A000",
                "unsupported type \"jsonb\"",
            ),
            (
                "CREATE TABLE t (a bytea)",
                "0A000",
                "unsupported type \"bytea\"",
            ),
            (
                "CREATE TABLE t (a uuid)",
                "0A000",
                "unsupported type \"uuid\"",
            ),
            (
                "CREATE TABLE t (a int[])",
                "0A000",
                "unsupported type \"int[]\"",
            ),
            (
                "CREATE TABLE t (a serial)",
                "0A000",
                "unsupported type \"serial\"",
            ),
            (
                "CREATE TABLE t (a interval)",
                "0A000",
                "unsupported type \"interval\"",
            ),
            (
                "CREATE TABLE t (a money)",
                "0A000",
                "unsupported type \"money\"",
            ),
            (
                "CREATE TABLE t (a varchar(65536))",
                "22023",
                "length for type varchar cannot exceed 65535",
            ),
            (
                "CREATE TABLE t (a varbyte(16777217))",
                "22023",
                "length for type varbyte cannot exceed 16777216",
            ),
            (
                "CREATE TABLE t (a super) SORTKEY (a)",
                "0A000",
                "cannot be a sort key",
            ),
            (
                "CREATE TABLE t (a super DISTKEY)",
                "0A000",
                "cannot be a distribution key",
            ),
            (
                "CREATE TABLE t (a int) DISTKEY (b)",
                "42703",
                "column \"b\" named in DISTKEY does not exist",
            ),
            (
                "CREATE TABLE t (a int) DISTSTYLE ALL DISTKEY (a)",
                "42P16",
                "cannot specify DISTKEY",
            ),
            (
                "CREATE TABLE t (a int) DISTSTYLE KEY",
                "42P16",
                "DISTSTYLE KEY requires a DISTKEY",
            ),
            (
                "CREATE TABLE t (a int, b int, PRIMARY KEY (c))",
                "42703",
                "column \"c\" in key does not exist",
            ),
            (
                "CREATE TABLE t (a int ENCODE gzip)",
                "22023",
                "invalid encoding type \"gzip\"",
            ),
            (
                "CREATE TABLE t (a varchar ENCODE az64)",
                "42P16",
                "for column of type varchar(256)",
            ),
            (
                "CREATE TABLE t (a int ENCODE text255)",
                "42P16",
                "invalid encoding type \"text255\"",
            ),
            (
                "CREATE TABLE t (a boolean ENCODE lzo)",
                "42P16",
                "invalid encoding type \"lzo\"",
            ),
            (
                "CREATE TABLE t (a int CHECK (a > 0))",
                "0A000",
                "CHECK constraints are not supported",
            ),
            (
                "CREATE TABLE t (a int DEFAULT gen_random_uuid())",
                "42883",
                "gen_random_uuid does not exist",
            ),
            (
                "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
                "0A000",
                "ON COMMIT is not supported",
            ),
            (
                "CREATE TABLE t (a int) WITH (fillfactor = 10)",
                "42601",
                "syntax error at or near \"with\"",
            ),
            ("CREATE UNIQUE INDEX i ON t (a)", "0A000", "CREATE INDEX"),
            ("CREATE TRIGGER x", "0A000", "CREATE TRIGGER"),
            ("CREATE TYPE x AS (a int)", "0A000", "CREATE TYPE"),
            ("CREATE DOMAIN x AS int", "0A000", "CREATE DOMAIN"),
            ("CREATE EXTENSION x", "0A000", "CREATE EXTENSION"),
            ("CREATE SEQUENCE x", "0A000", "CREATE SEQUENCE"),
            (
                "CREATE VIEW v AS SELECT 1",
                "0A000",
                "not supported by the stand-in",
            ),
        ],
    )
    .await;
    world.finish().await;
}

#[tokio::test]
async fn tables_are_altered_by_one_action_at_a_time() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &[
        "CREATE TABLE t (id varchar(8) NOT NULL, a varchar(8), b varchar(8) DEFAULT 'x', c varchar(8) ENCODE bytedict, n int, \
         PRIMARY KEY (id)) DISTKEY (n) SORTKEY (a)",
        "INSERT INTO t VALUES ('1', '12345678', 'x', 'y', 1)",
    ])
    .await;
    all_refused(
        &client,
        &[
            (
                "ALTER TABLE t ADD x int, ADD y int",
                "0A000",
                "one action only",
            ),
            (
                "ALTER TABLE t ADD x int NOT NULL",
                "0A000",
                "must have a non-null default expression",
            ),
            ("ALTER TABLE t ADD x jsonb", "0A000", "unsupported type"),
            (
                "ALTER TABLE t DROP COLUMN n",
                "0A000",
                "cannot drop distkey column",
            ),
            (
                "ALTER TABLE t DROP COLUMN a",
                "0A000",
                "cannot drop sortkey column",
            ),
            (
                "ALTER TABLE t DROP COLUMN id",
                "2BP01",
                "other objects depend on it",
            ),
            (
                "ALTER TABLE t ALTER COLUMN n TYPE bigint",
                "0A000",
                "target data type \"bigint\" is not supported",
            ),
            (
                "ALTER TABLE t ALTER COLUMN n TYPE varchar(9)",
                "0A000",
                "only the size of a VARCHAR column",
            ),
            (
                "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
                "0A000",
                "supports only TYPE varchar(n) and ENCODE",
            ),
            (
                "ALTER TABLE t ALTER COLUMN a DROP DEFAULT",
                "0A000",
                "supports only TYPE varchar(n) and ENCODE",
            ),
            (
                "ALTER TABLE t ALTER COLUMN id TYPE varchar(9)",
                "0A000",
                "UNIQUE, PRIMARY KEY",
            ),
            (
                "ALTER TABLE t ALTER COLUMN b TYPE varchar(9)",
                "0A000",
                "default value",
            ),
            (
                "ALTER TABLE t ALTER COLUMN c TYPE varchar(9)",
                "0A000",
                "encoding bytedict",
            ),
            (
                "ALTER TABLE t ALTER COLUMN a TYPE varchar(7)",
                "0A000",
                "maximum value size",
            ),
            (
                "ALTER TABLE t ALTER COLUMN n ENCODE text32k",
                "42P16",
                "invalid encoding type",
            ),
            (
                "ALTER TABLE t ALTER COLUMN z ENCODE raw",
                "42703",
                "column \"z\" does not exist",
            ),
            (
                "ALTER TABLE t ADD PRIMARY KEY (n)",
                "42P16",
                "a primary key needs NOT NULL",
            ),
            (
                "ALTER TABLE t DROP CONSTRAINT nothing",
                "42704",
                "does not exist",
            ),
            ("ALTER TABLE nowhere ADD x int", "42P01", "does not exist"),
        ],
    )
    .await;
    run(&client, &["BEGIN"]).await;
    let found = refused(&client, "ALTER TABLE t ALTER COLUMN a TYPE varchar(20)").await;
    let expected = "ALTER TABLE ALTER COLUMN cannot run inside a transaction block";
    assert_eq!(found, ("25001".to_owned(), expected.to_owned()));
    run(
        &client,
        &[
            "ROLLBACK",
            "ALTER TABLE t ALTER COLUMN a TYPE varchar(20)",
            "ALTER TABLE t ALTER COLUMN n ENCODE zstd, ALTER COLUMN a ENCODE lzo",
            "ALTER TABLE t ALTER SORTKEY NONE",
            "ALTER TABLE t ALTER DISTSTYLE ALL",
            "ALTER TABLE t DROP COLUMN n",
            "ALTER TABLE t DROP CONSTRAINT t_pkey",
            "ALTER TABLE t RENAME COLUMN c TO d",
            "ALTER TABLE t ADD COLUMN e varchar(4) DEFAULT 'ab' NOT NULL ENCODE zstd",
            "ALTER TABLE t RENAME TO u",
        ],
    )
    .await;
    assert_eq!(
        rows(&client, "SELECT * FROM u").await,
        [["1", "12345678", "x", "y", "ab"]]
    );
    run(&client, &["UPDATE u SET a = '12345678901234567890'"]).await;
    let (code, _) = refused(&client, "UPDATE u SET a = '123456789012345678901'").await;
    assert_eq!(code, "22001");
    let info = "SELECT diststyle, sortkey_num FROM svv_table_info WHERE \"table\" = 'u'";
    assert_eq!(rows(&client, info).await, [["ALL", "0"]]);
    world.finish().await;
}

#[tokio::test]
async fn names_are_folded_and_may_be_longer_than_postgresqls() {
    let world = World::start().await;
    let client = world.connect().await;
    let long = format!("{}{}", "a".repeat(100), "Ä".repeat(13));
    let kept = "a".repeat(127);
    run(
        &client,
        &[
            "CREATE SCHEMA \"Camel\"",
            &format!(
                "CREATE TABLE \"Camel\".\"{long}\" (\"ID\" int, \"{long}\" int, \"{kept}X\" int)"
            ),
            &format!("INSERT INTO camel.\"{long}\" VALUES (1, 2, 3)"),
        ],
    )
    .await;
    let columns = format!(
        "SELECT column_name FROM svv_columns WHERE table_schema = 'camel' AND table_name = '{long}' ORDER BY \
         ordinal_position"
    );
    assert_eq!(
        rows(&client, &columns).await,
        [["id"], [long.as_str()], [kept.as_str()]]
    );
    let sql = format!("SELECT \"{long}\", \"Id\", \"{kept}\" FROM CAMEL.\"{long}\"");
    let messages = client.simple_query(&sql).await.unwrap();
    let names = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(
            row.columns()
                .iter()
                .map(|column| column.name().to_owned())
                .collect::<Vec<_>>(),
        ),
        _ => None,
    });
    assert_eq!(names.unwrap(), [long.as_str(), "id", kept.as_str()]);
    assert_eq!(value(&client, &sql).await, "2");
    let (code, _) = refused(&client, "CREATE TABLE t (\"A\" int, a int)").await;
    assert_eq!(code, "42701");
    world.finish().await;
}

#[tokio::test]
async fn lengths_are_in_bytes_and_keys_are_not_enforced() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &[
        "CREATE TABLE t (a varchar(4), b char(2), c varbyte(2), id int PRIMARY KEY, UNIQUE (a))",
        "INSERT INTO t VALUES ('ää', 'x', from_hex('0102'), 1), ('ää', 'y', NULL, 1)",
    ])
    .await;
    all_refused(
        &client,
        &[
            (
                "INSERT INTO t (id, a) VALUES (1, 'äää')",
                "22001",
                "value too long for type character varying(4)",
            ),
            (
                "INSERT INTO t (id, a) VALUES (1, '12345')",
                "22001",
                "value too long for type character varying(4)",
            ),
            (
                "INSERT INTO t (id, b) VALUES (1, 'ä')",
                "22001",
                "value too long for type character(2)",
            ),
            (
                "INSERT INTO t (id, c) VALUES (1, from_hex('010203'))",
                "22001",
                "value too long for type binary varying(2)",
            ),
            (
                "INSERT INTO t (a) VALUES ('a')",
                "23502",
                "null value in column \"id\"",
            ),
        ],
    )
    .await;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "2");
    world.finish().await;
}
