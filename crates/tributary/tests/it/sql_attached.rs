//! Joining the lake's tables with those of an attached PostgreSQL or Redshift.

use std::time::{Duration, Instant};

use bson::doc;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tributary_testkit::{Postgres, SharedPostgres};

use crate::support::{Fixture, LIMIT, Run, command, run, run_command};

/// A lake with a few orders, and a database beside it.
struct Shop {
    fixture: Fixture,
    server: SharedPostgres,
    uri: String,
}

impl Shop {
    async fn new(name: &str) -> Self {
        let fixture = Fixture::new(name).await;
        let order = |id: i32, customer: i32, total: f64| doc! { "_id": id, "customer": customer, "total": total, "byName": format!("Customer {customer}") };
        let orders = vec![
            order(1, 1, 10.5),
            order(2, 2, 1.0),
            order(3, 1, 2.25),
            order(4, 9, 100.0),
        ];
        fixture.insert("orders", orders).await;
        fixture.copy(&[]).ok();
        let server = Postgres::shared().await.expect("a PostgreSQL");
        let database = fixture.name.clone();
        server.create_database(&database).await.expect("a database");
        Self {
            uri: server.uri_for(&database),
            fixture,
            server,
        }
    }

    async fn client(&self) -> Client {
        let client = self.server.client(&self.fixture.name).await;
        client.expect("a client")
    }

    async fn execute(&self, statements: &str) {
        let client = self.client().await;
        client.batch_execute(statements).await.expect("executed");
    }

    async fn number(&self, query: &str) -> i64 {
        let client = self.client().await;
        client.query_one(query, &[]).await.expect("a row").get(0)
    }

    /// The same database as one of a Redshift: its own views are there, and what it has that PostgreSQL
    /// has not.
    async fn as_redshift(&self) -> String {
        self.execute(
            "CREATE DOMAIN super AS jsonb; CREATE DOMAIN varbyte AS bytea; \
             CREATE VIEW svv_tables AS SELECT * FROM information_schema.tables; \
             CREATE VIEW svv_columns AS SELECT table_schema, table_name, column_name, \
             coalesce(domain_name, data_type) AS data_type, numeric_precision, numeric_scale, \
             ordinal_position FROM information_schema.columns; \
             CREATE FUNCTION json_serialize(super) RETURNS text LANGUAGE sql \
             AS 'SELECT $1::text'; \
             CREATE FUNCTION from_varbyte(varbyte, text) RETURNS text LANGUAGE sql \
             AS 'SELECT encode($1, $2)'",
        )
        .await;
        self.uri.replacen("postgresql://", "redshift://", 1)
    }

    fn query_of(&self, uri: &str, arguments: &[&str]) -> Run {
        let (lake, attach) = (self.fixture.lake(), format!("pg={uri}"));
        run(&[&["sql", "--lake", &lake, "--attach", &attach], arguments].concat())
    }

    fn query(&self, query: &str) -> Run {
        self.query_of(&self.uri, &[query])
    }

    fn rows_of(&self, uri: &str, query: &str) -> Vec<Value> {
        let answered = self.query_of(uri, &["--output", "json", query]).ok();
        let lines = answered.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    fn rows(&self, query: &str) -> Vec<Value> {
        self.rows_of(&self.uri, query)
    }

    /// The statement that a query asks the server for.
    fn statement(&self, query: &str) -> String {
        let plan = self.rows(&format!("EXPLAIN {query}"));
        let physical = plan[1]["plan"].as_str().expect("a plan");
        let (_, statement) = physical.split_once("statement=").expect("a statement");
        statement.lines().next().unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lake_tables_join_those_of_a_database() {
    let shop = Shop::new("attached_join").await;
    shop.execute(
        "CREATE TABLE customers (id int PRIMARY KEY, name text, active boolean); \
         INSERT INTO customers VALUES (1, 'Ada', true), (2, 'Bob', false), (3, 'Cleo', NULL); \
         CREATE VIEW active AS SELECT * FROM customers WHERE active; \
         CREATE TABLE \"Odd\" (\"Id\" int, \"select\" text, \"it's \"\"quoted\"\"\" int); \
         INSERT INTO \"Odd\" VALUES (1, 'x', 7); \
         CREATE SCHEMA \"Über\"; CREATE TABLE \"Über\".\"a.b\" AS SELECT 5 AS n",
    )
    .await;
    let redshift = shop.as_redshift().await;
    let lake = &shop.fixture.name;
    for uri in [&shop.uri, &redshift] {
        let joined = format!(
            "SELECT c.name, count(*) AS n, sum(o.total) AS total \
             FROM {lake}.orders o JOIN pg.public.customers c ON c.id = o.customer \
             GROUP BY c.name ORDER BY c.name"
        );
        assert_eq!(
            shop.rows_of(uri, &joined),
            [
                json!({ "name": "Ada", "n": 2, "total": 12.75 }),
                json!({ "name": "Bob", "n": 1, "total": 1.0 })
            ]
        );
        // In the other direction, through a view, and of the database alone.
        let left = format!(
            "SELECT c.id, o._id AS \"order\" FROM pg.public.active c \
             LEFT JOIN {lake}.orders o ON o.customer = c.id AND o.total > 5"
        );
        assert_eq!(shop.rows_of(uri, &left), [json!({ "id": 1, "order": 1 })]);
        let both = "SELECT count(*) AS n, count(a.active) AS active \
                    FROM pg.public.customers a CROSS JOIN pg.public.customers b";
        assert_eq!(shop.rows_of(uri, both), [json!({ "n": 9, "active": 6 })]);
        // Names that need quotes in the database, and those that are not in lower case.
        let odd = "SELECT Id, \"select\", \"it's \"\"quoted\"\"\" AS q FROM pg.public.Odd \
                   WHERE \"it's \"\"quoted\"\"\" = 7 AND \"select\" = 'x'";
        assert_eq!(
            shop.rows_of(uri, odd),
            [json!({ "Id": 1, "select": "x", "q": 7 })]
        );
        assert_eq!(
            shop.rows_of(uri, "SELECT n FROM pg.Über.\"a.b\""),
            [json!({ "n": 5 })]
        );
        let tables = shop.rows_of(uri, "SHOW TABLES");
        for (database, table) in [
            (lake.as_str(), "orders"),
            ("pg.public", "customers"),
            ("pg.public", "Odd"),
            ("pg.Über", "a.b"),
        ] {
            let line = json!({ "database": database, "collection": table });
            assert!(tables.contains(&line), "{tables:?}");
        }
        let columns = shop.rows_of(
            uri,
            "SELECT column_name, data_type FROM information_schema.columns \
             WHERE table_catalog = 'pg' AND table_name = 'customers' ORDER BY ordinal_position",
        );
        assert_eq!(columns.len(), 3, "{columns:?}");
        assert_eq!(
            columns[2],
            json!({ "column_name": "active", "data_type": "Boolean" })
        );
    }
    // Two at once, and the address from the environment.
    let mut two = command(&[
        "sql",
        "--lake",
        &shop.fixture.lake(),
        "--attach",
        "pg=env:TRIBUTARY_TEST_ATTACHED",
        "--attach",
        &format!("wh={redshift}"),
        "--output",
        "json",
        "SELECT count(*) AS n FROM pg.public.customers a JOIN wh.public.customers b ON a.id = b.id",
    ]);
    two.env("TRIBUTARY_TEST_ATTACHED", &shop.uri);
    assert_eq!(run_command(two).ok().stdout, "{\"n\":3}\n");
}

/// A type, values of it, and what of them is compared, in PostgreSQL and in the query, where `@` is the
/// column.
type Case = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
);

/// The values as texts; where they have another there and here, as the number that they stand for.
const CASES: &[Case] = &[
    (
        "boolean",
        &["true", "false"],
        "@::text",
        "CAST(@ AS VARCHAR)",
    ),
    (
        "smallint",
        &["-32768", "0", "32767"],
        "@::text",
        "CAST(@ AS VARCHAR)",
    ),
    (
        "integer",
        &["-2147483648", "2147483647"],
        "@::text",
        "CAST(@ AS VARCHAR)",
    ),
    (
        "bigint",
        &["-9223372036854775808", "9223372036854775807"],
        "@::text",
        "CAST(@ AS VARCHAR)",
    ),
    (
        "numeric(12,3)",
        &["0", "-0.001", "999999999.999", "10000", "-10000.5", "0.1"],
        "@::text",
        "CAST(@ AS VARCHAR)",
    ),
    (
        "numeric(38,0)",
        &[
            "99999999999999999999999999999999999999",
            "-99999999999999999999999999999999999999",
            "0",
            "100000000",
        ],
        "@::text",
        "CAST(@ AS VARCHAR)",
    ),
    (
        "numeric(38,38)",
        &[
            "0.99999999999999999999999999999999999999",
            "-0.00000000000000000000000000000000000001",
        ],
        "@::text",
        "CAST(@ AS VARCHAR)",
    ),
    (
        "numeric",
        &[
            "0.10",
            "NaN",
            "123456789012345678901234567890123456789012345.5",
        ],
        "@::text",
        "@",
    ),
    (
        "numeric(50,2)",
        &["1.5", "-99999999999999999999999999999999999999999.25"],
        "@::text",
        "@",
    ),
    (
        "text",
        &["", "é\u{1F600}", "a'b\\c\"d\n\t", "NULL", "\\N"],
        "@",
        "@",
    ),
    ("varchar(20)", &["", "abc  "], "@", "@"),
    // The blanks that fill it up are part of what every client reads.
    ("char(5)", &["", "abc"], "rpad(@, 5)", "@"),
    ("name", &["some_name"], "@::text", "@"),
    (
        "bytea",
        &["", "\\x00ff", "\\x5c78"],
        "encode(@, 'hex')",
        "encode(@, 'hex')",
    ),
    (
        "uuid",
        &[
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "00000000-0000-0000-0000-000000000000",
        ],
        "@::text",
        "@",
    ),
    (
        "date",
        &[
            "1970-01-01",
            "1969-12-31",
            "0001-01-01",
            "4713-01-01 BC",
            "99999-12-31",
            "2000-02-29",
        ],
        "(@ - date '1970-01-01')::text",
        "CAST(CAST(@ AS INT) AS VARCHAR)",
    ),
    (
        "timestamp",
        &[
            "1970-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "0001-01-01 00:00:00",
            "4713-01-01 12:00:00.000001 BC",
            "200000-12-31 23:59:59.999999",
        ],
        "(extract(epoch FROM @) * 1000000)::bigint::text",
        "CAST(CAST(@ AS BIGINT) AS VARCHAR)",
    ),
    (
        "timestamptz",
        &[
            "2024-06-30 23:59:59.5+02",
            "0044-03-15 12:00:00+00 BC",
            "1900-01-01 00:00:00-11:30",
        ],
        "(extract(epoch FROM @) * 1000000)::bigint::text",
        "CAST(CAST(@ AS BIGINT) AS VARCHAR)",
    ),
    (
        "json",
        &["{\"a\" : [1, null]}", "null", "\"text\""],
        "@::text",
        "@",
    ),
    (
        "jsonb",
        &["{\"a\": [1, null]}", "null", "\"text\""],
        "@::text",
        "@",
    ),
    (
        "time",
        &["00:00:00", "24:00:00", "12:34:56.000001"],
        "@::text",
        "@",
    ),
    ("interval", &["1 year -3 days 04:05:06.5"], "@::text", "@"),
    (
        "integer[]",
        &["{}", "{1,NULL,3}", "{{1,2},{3,4}}"],
        "@::text",
        "@",
    ),
    ("bytea[]", &["{\"\\\\x00ff\"}"], "@::text", "@"),
    ("inet", &["10.0.0.1/8"], "@::text", "@"),
    ("mood", &["fine", "so so"], "@::text", "@"),
    ("cents", &["12"], "@::text", "CAST(@ AS VARCHAR)"),
    ("share", &["0.125"], "@::text", "CAST(@ AS VARCHAR)"),
];

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_are_what_other_clients_read() {
    let shop = Shop::new("attached_types").await;
    let client = shop.client().await;
    shop.execute(
        "CREATE TYPE mood AS ENUM ('fine', 'so so'); CREATE DOMAIN cents AS bigint; \
         CREATE DOMAIN share AS numeric(6,3); SET TimeZone = 'UTC'",
    )
    .await;
    let redshift = shop.as_redshift().await;
    let each = |part: &dyn Fn(usize, &Case) -> String| -> String {
        let parts = CASES.iter().enumerate().map(|(i, case)| part(i, case));
        parts.collect::<Vec<_>>().join(", ")
    };
    let create = each(&|i, (data_type, ..)| format!("c{i} {data_type}"));
    let create = format!("CREATE TABLE v (n int PRIMARY KEY, {create})");
    client.batch_execute(&create).await.expect("a table");
    // A row more than any has values, so that each has a null.
    let rows = CASES.iter().map(|(_, values, ..)| values.len()).max();
    let rows = rows.expect("cases") + 1;
    for row in 0..rows {
        let values = each(&|_, (_, values, ..)| match values.get(row) {
            Some(value) => format!("$q${value}$q$"),
            None => "NULL".to_owned(),
        });
        let insert = format!("INSERT INTO v VALUES ({row}, {values})");
        client.batch_execute(&insert).await.expect("a row");
    }
    let there = each(&|i, (_, _, there, _)| there.replace('@', &format!("c{i}")));
    let here =
        each(&|i, (_, _, _, here)| format!("{} AS c{i}", here.replace('@', &format!("c{i}"))));
    let expected = format!("SELECT {there} FROM v ORDER BY n");
    let expected = client.query(&expected, &[]).await.expect("rows");
    let query = format!("SELECT {here} FROM pg.public.v ORDER BY n");
    for uri in [&shop.uri, &redshift] {
        let read = shop.rows_of(uri, &query);
        assert_eq!((read.len(), expected.len()), (rows, rows));
        for (read, expected) in read.iter().zip(&expected) {
            for (i, (data_type, ..)) in CASES.iter().enumerate() {
                let expected: Option<String> = expected.get(i);
                let read = read.get(format!("c{i}")).and_then(Value::as_str);
                assert_eq!(read, expected.as_deref(), "{data_type} from {uri}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floating_point_numbers_keep_every_bit() {
    let shop = Shop::new("attached_floats").await;
    shop.execute(
        "CREATE TABLE f (n serial, d double precision, r real); \
         INSERT INTO f (d, r) VALUES (0.1, 0.1), ('-0', '-0'), (1e300, 3.4028235e38), (5e-324, 1e-45), \
         ('NaN', 'NaN'), ('Infinity', 'Infinity'), ('-Infinity', '-Infinity'), \
         (1.7976931348623157e308, 16777217), (0.30000000000000004, NULL)",
    )
    .await;
    let redshift = shop.as_redshift().await;
    let client = shop.client().await;
    let expected = client.query("SELECT d, r FROM f ORDER BY n", &[]).await;
    let expected: Vec<(u64, Option<u32>)> = expected
        .expect("rows")
        .iter()
        .map(|row| {
            let real: Option<f32> = row.get(1);
            (row.get::<_, f64>(0).to_bits(), real.map(f32::to_bits))
        })
        .collect();
    let query =
        "SELECT CAST(d AS VARCHAR) AS d, CAST(r AS VARCHAR) AS r FROM pg.public.f ORDER BY n";
    for uri in [&shop.uri, &redshift] {
        let read: Vec<(u64, Option<u32>)> = shop
            .rows_of(uri, query)
            .iter()
            .map(|row| {
                let double: f64 = row["d"].as_str().expect("text").parse().expect("a number");
                let real = row.get("r").and_then(Value::as_str);
                let real = real.map(|text| text.parse::<f32>().expect("a number").to_bits());
                (double.to_bits(), real)
            })
            .collect();
        assert_eq!(read, expected, "{uri}");
        // The greatest of all, whatever its bits are.
        assert_eq!(
            shop.rows_of(uri, "SELECT count(*) AS n FROM pg.public.f WHERE d > 1e308"),
            [json!({ "n": 3 })]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_only_redshift_has_are_read_as_json_and_bytes() {
    let shop = Shop::new("attached_super").await;
    let redshift = shop.as_redshift().await;
    shop.execute(
        "CREATE TABLE r (n int, doc super, bytes varbyte); \
         INSERT INTO r VALUES (1, '{\"a\": 1}', '\\x00ff'), (2, 'null', ''), (3, NULL, NULL)",
    )
    .await;
    let query = "SELECT n, doc, encode(bytes, 'hex') AS bytes FROM pg.public.r ORDER BY n";
    assert_eq!(
        shop.rows_of(&redshift, query),
        [
            json!({ "n": 1, "doc": "{\"a\": 1}", "bytes": "00ff" }),
            json!({ "n": 2, "doc": "null", "bytes": "" }),
            json!({ "n": 3 })
        ]
    );
    let nulls = "SELECT n FROM pg.public.r WHERE doc IS NULL";
    assert_eq!(shop.rows_of(&redshift, nulls), [json!({ "n": 3 })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_no_column_holds_are_told_and_never_changed() {
    let shop = Shop::new("attached_unfit").await;
    shop.execute(
        "CREATE TABLE v (n int, day date, at timestamp, moment timestamptz, m numeric(5,1)); \
         INSERT INTO v VALUES (1, 'infinity', NULL, NULL, NULL), (2, NULL, '-infinity', NULL, NULL), \
         (3, NULL, NULL, 'infinity', NULL), (4, NULL, NULL, NULL, 'NaN'), \
         (5, '2024-01-01', '2024-01-01', '2024-01-01', 1.5)",
    )
    .await;
    let redshift = shop.as_redshift().await;
    for uri in [&shop.uri, &redshift] {
        for (column, value) in [
            ("day", "infinity is no date"),
            ("at", "-infinity is no timestamp"),
            ("moment", "infinity is no timestamp"),
            ("m", "NaN is no decimal"),
        ] {
            let query = format!("SELECT {column} FROM pg.public.v");
            let named = format!("column {column}");
            shop.query_of(uri, &[&query])
                .fails(1, &["a value cannot be read", "public.v", &named, value]);
            // It does no harm in a column or a row that is not read.
            let others = format!("SELECT n, {column} FROM pg.public.v WHERE n = 5");
            shop.query_of(uri, &[&others]).ok();
        }
        let finite = "SELECT n FROM pg.public.v WHERE day < DATE '9999-12-31'";
        assert_eq!(shop.rows_of(uri, finite), [json!({ "n": 5 })]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_columns_are_asked_of_the_server() {
    let shop = Shop::new("attached_pushed").await;
    shop.execute(
        "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE p (id bigint PRIMARY KEY, t text, folded text COLLATE folded, c char(5), \
         m numeric(9,2), d double precision, b boolean, day date, at timestamptz, u uuid); \
         INSERT INTO p SELECT g, 'name ' || g % 10, CASE g % 2 WHEN 0 THEN 'Ab' ELSE 'ab' END, 'x', \
         g / 4.0, CASE WHEN g = 1 THEN '-0' ELSE g / 8.0 - 1 END, g % 3 = 0, \
         date '2024-01-01' + g, timestamptz '2024-01-01 00:00:00+00' + g * interval '1 hour', \
         ('00000000-0000-0000-0000-' || lpad(g::text, 12, '0'))::uuid \
         FROM generate_series(1, 1000) AS s (g)",
    )
    .await;
    for (condition, asked, rows) in [
        ("id = 5", "WHERE \"id\" = '5'::bigint", 1),
        ("10 > id", "WHERE \"id\" < '10'::bigint", 9),
        (
            "id BETWEEN 5 AND 7",
            "WHERE \"id\" >= '5'::bigint AND \"id\" <= '7'::bigint",
            3,
        ),
        (
            "id IN (1, 2, 3, 4, 5000)",
            "WHERE \"id\" IN ('1'::bigint, '2'::bigint, '3'::bigint, '4'::bigint, '5000'::bigint)",
            4,
        ),
        (
            "t = 'name 3' AND (b OR id IS NULL)",
            "WHERE \"t\" = 'name 3' AND (\"b\" = true OR \"id\" IS NULL)",
            34,
        ),
        (
            "NOT b AND t IS NOT NULL",
            "WHERE \"b\" = false AND \"t\" IS NOT NULL",
            667,
        ),
        ("m = 12.5", "WHERE \"m\" = '12.50'::numeric", 1),
        ("d > 1.5", "WHERE \"d\" > '1.5e0'::double precision", 980),
        // Zero is the same with either sign.
        ("d = 0", "WHERE \"d\" = '0e0'::double precision", 2),
        (
            "day <= DATE '2024-01-11'",
            "WHERE \"day\" <= '2024-01-11'::date",
            10,
        ),
        (
            "at < TIMESTAMP '2024-01-01T03:00:00Z'",
            "WHERE \"at\" < '2024-01-01 03:00:00.000000+00'::timestamptz",
            2,
        ),
        (
            "u = '00000000-0000-0000-0000-000000000007'",
            "WHERE \"u\" = '00000000-0000-0000-0000-000000000007'",
            1,
        ),
        // These are looked at again here: the server takes other texts for equal.
        ("folded = 'ab'", "WHERE \"folded\" = 'ab'", 500),
        ("c = 'x    '", "WHERE \"c\" = 'x    '", 1000),
        // The order of texts is the collation's there.
        ("t >= 'name 9'", "FROM \"public\".\"p\"", 100),
        ("t LIKE '%3'", "FROM \"public\".\"p\"", 100),
        ("id % 100 = 0", "FROM \"public\".\"p\"", 10),
    ] {
        let query = format!("SELECT id FROM pg.public.p WHERE {condition}");
        let statement = shop.statement(&query);
        assert!(statement.ends_with(asked), "{condition}: {statement}");
        let counted = format!("SELECT count(*) AS n FROM pg.public.p WHERE {condition}");
        assert_eq!(shop.rows(&counted), [json!({ "n": rows })], "{condition}");
    }
    assert_eq!(
        shop.statement("SELECT t, id FROM pg.public.p WHERE b LIMIT 3"),
        r#"SELECT "id", "t" FROM "public"."p" WHERE "b" = true LIMIT 3"#
    );
    // A limit counts rows that have been looked at again.
    let limited = "SELECT id FROM pg.public.p WHERE folded = 'ab' LIMIT 700";
    assert!(!shop.statement(limited).contains("LIMIT"));
    assert_eq!(shop.rows(limited).len(), 500);
    // Nothing of what a plan says is a secret.
    let secret = shop
        .uri
        .split(':')
        .nth(2)
        .and_then(|rest| rest.split('@').next());
    let plan = shop
        .query("EXPLAIN VERBOSE SELECT id FROM pg.public.p")
        .ok();
    assert!(
        !plan.stdout.contains(secret.expect("a password")),
        "{plan:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_tables_are_read_as_far_as_rows_are_wanted() {
    let shop = Shop::new("attached_large").await;
    shop.execute(
        "CREATE TABLE large AS SELECT g AS id, repeat(md5(g::text), 4) AS t \
         FROM generate_series(1, 1000000) AS s (g); ALTER TABLE large SET (autovacuum_enabled = off); \
         ANALYZE large",
    )
    .await;
    // The sample of ANALYZE counts as well.
    let before = shop.rows_read().await;
    let limited = shop.rows("SELECT id FROM pg.public.large LIMIT 5");
    assert_eq!(limited.len(), 5);
    let read = shop.rows_read_since(before).await;
    assert!((5..1000).contains(&read), "{read} rows have been read");
    // What the server cannot be told ends with the query: no more is sent than is taken.
    let wanted = "SELECT id FROM pg.public.large WHERE t > '' LIMIT 5";
    assert!(!shop.statement(wanted).contains("LIMIT"));
    let before = shop.rows_read().await;
    assert_eq!(shop.rows(wanted).len(), 5);
    let read = shop.rows_read_since(before).await;
    assert!((5..500_000).contains(&read), "{read} rows have been read");
    // And all of it, where all is wanted.
    let all = "SELECT count(*) AS n, sum(id) AS ids, sum(length(t)) AS t FROM pg.public.large";
    let sums = json!({ "n": 1_000_000, "ids": 500_000_500_000_i64, "t": 128_000_000 });
    assert_eq!(shop.rows(all), [sums]);
}

impl Shop {
    /// How many rows of the large table have been read by scans, once all other sessions have ended.
    async fn rows_read(&self) -> i64 {
        let deadline = Instant::now() + LIMIT;
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        while self.number(busy).await > 0 {
            assert!(Instant::now() < deadline, "a session does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.number(
            "SELECT coalesce(seq_tup_read, 0) FROM pg_stat_user_tables WHERE relname = 'large'",
        )
        .await
    }

    /// How many more a query has read that has answered with five: the server may count them a little later.
    async fn rows_read_since(&self, before: i64) -> i64 {
        let deadline = Instant::now() + LIMIT;
        loop {
            let read = self.rows_read().await - before;
            if read >= 5 {
                return read;
            }
            assert!(Instant::now() < deadline, "only {read} rows were read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_one_error() {
    let shop = Shop::new("attached_errors").await;
    let name = &shop.fixture.name;
    shop.execute(
        "CREATE TABLE t (n int); CREATE SEQUENCE s; \
         CREATE VIEW writes AS SELECT nextval('s') AS n",
    )
    .await;
    let user = format!("{name}_reader");
    shop.execute(&format!(
        "CREATE ROLE \"{user}\" LOGIN PASSWORD 'secret-word'"
    ))
    .await;
    let secret = shop.uri.split('@').next().unwrap_or_default();
    let password = secret.rsplit(':').next().unwrap_or_default();
    let fails = |attach: &[&str], query: &str, code: i32, words: &[&str]| {
        let mut arguments = vec!["sql", "--lake"];
        let lake = shop.fixture.lake();
        arguments.push(&lake);
        for one in attach {
            arguments.extend(["--attach", one]);
        }
        arguments.push(query);
        let failed = run(&arguments);
        failed.fails(code, words);
        for secret in [password, "secret-word"] {
            assert!(!failed.stderr.contains(secret), "{failed:#?}");
        }
    };
    let (pg, one) = (format!("pg={}", shop.uri), "SELECT 1");
    // Names.
    let count = |table: &str| format!("SELECT count(*) FROM {table}");
    fails(
        &[&pg],
        &count("px.public.t"),
        2,
        &["px", "attached are: pg"],
    );
    fails(
        &[],
        &count("px.public.t"),
        2,
        &["px", "--attach NAME=ADDRESS"],
    );
    fails(&[&pg], &count("pg.t"), 2, &["pg.t", "pg.public.t"]);
    fails(
        &[&pg],
        &count("pg.public.missing"),
        2,
        &[
            "there is no such table",
            "public.missing",
            "attached pg",
            "SHOW TABLES",
        ],
    );
    fails(
        &[&pg],
        &count("pg.nowhere.t"),
        2,
        &["there is no such table", "nowhere.t"],
    );
    fails(
        &[&pg],
        &count("pg.public.T"),
        2,
        &["there is no such table", "public.T"],
    );
    fails(&[&pg], "SELECT x FROM pg.public.t", 2, &["x"]);
    let clashes = format!("{name}={}", shop.uri);
    fails(&[&clashes], one, 2, &["taken", "a database of the lake"]);
    fails(&[&pg, &pg], one, 2, &["taken", "another attached"]);
    for taken in ["lake", "information_schema"] {
        let attach = format!("{taken}={}", shop.uri);
        fails(&[&attach], one, 2, &["taken", taken, "query engine"]);
    }
    // Addresses.
    fails(
        &[&shop.uri],
        one,
        2,
        &["--attach names no database", "pg=postgres://"],
    );
    let with_options = format!("{}?sslmode=disable", shop.uri);
    fails(&[&with_options], one, 2, &["--attach names no database"]);
    fails(
        &["pg=mysql://u:secret-word@h/d"],
        one,
        2,
        &["attached pg", "redshift://"],
    );
    fails(
        &["pg=postgres://u:secret-word@h"],
        one,
        2,
        &["names no database", "attached pg"],
    );
    fails(
        &["pg=env:TRIBUTARY_TEST_UNSET"],
        one,
        2,
        &["TRIBUTARY_TEST_UNSET"],
    );
    fails(
        &["pg=postgres://u:secret-word@h/d?sslmode=x"],
        one,
        2,
        &["sslmode x"],
    );
    // Servers. What a query does not name is not asked for anything.
    let query = count("pg.public.t");
    let nobody = "pg=postgres://u:secret-word@127.0.0.1:1/d";
    run(&[
        "sql",
        "--lake",
        &shop.fixture.lake(),
        "--attach",
        nobody,
        one,
    ])
    .ok();
    fails(
        &[nobody],
        &query,
        1,
        &[
            "cannot connect",
            "127.0.0.1:1/d",
            "attached pg",
            "reachable",
        ],
    );
    fails(
        &[nobody],
        "SHOW TABLES",
        1,
        &["cannot connect", "attached pg"],
    );
    let wrong = format!("pg={}", shop.uri.replace(password, "secret-word"));
    fails(
        &[&wrong],
        &query,
        1,
        &["cannot connect", "check the user and the password"],
    );
    let elsewhere = format!("pg={}_not", shop.uri);
    fails(
        &[&elsewhere],
        &query,
        1,
        &["cannot connect", "create the database"],
    );
    // Rights. The reader may look, but not read.
    let address = shop.uri.split('@').nth(1).unwrap_or_default();
    let reader = format!("pg=postgres://{user}:secret-word@{address}");
    fails(
        &[&reader],
        &query,
        1,
        &["permission denied", "public.t", "grant the user USAGE"],
    );
    fails(
        &[&pg],
        "SELECT n FROM pg.public.writes",
        1,
        &["read-only", "only read"],
    );
    fails(
        &[&pg],
        "INSERT INTO pg.public.t VALUES (1)",
        2,
        &["DML not supported"],
    );
    assert_eq!(shop.number("SELECT count(*) FROM t").await, 0);
}
