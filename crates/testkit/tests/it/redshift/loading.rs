use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
        Float64Array, Int16Array, Int32Array, Int64Array, ListArray, MapBuilder, StringArray,
        StringBuilder, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt32Array,
    },
    datatypes::{DataType, Field, Int32Type},
};
use tributary_testkit::unique_name;

use super::{ROLE, World, all_refused, refused, rows, run, value};

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn integers(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

#[tokio::test]
async fn every_type_of_parquet_is_loaded() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &["CREATE TABLE t (a smallint, b int, c bigint, d decimal(38,2), e real, f double precision, g boolean, h \
                    char(4), i varchar(40), j date, k timestamp, l timestamp, m varbyte(4), n super, o super)"])
    .await;
    let decimals = Decimal128Array::from(vec![Some(-12_345), None]);
    let columns: [(&str, ArrayRef); 15] = [
        ("a", Arc::new(Int16Array::from(vec![Some(-1), None]))),
        ("b", Arc::new(Int32Array::from(vec![Some(2), None]))),
        ("c", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        (
            "d",
            Arc::new(decimals.with_precision_and_scale(20, 2).unwrap()),
        ),
        ("e", Arc::new(Float32Array::from(vec![Some(0.5), None]))),
        (
            "f",
            Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN)])),
        ),
        ("g", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("h", strings(&[Some("ab"), None])),
        ("i", strings(&[Some("\\N\t\n\r \\ ä"), Some("")])),
        ("j", Arc::new(Date32Array::from(vec![Some(-1), None]))),
        (
            "k",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(-1),
                Some(-62_135_596_800_000_001),
            ])),
        ),
        (
            "l",
            Arc::new(TimestampMillisecondArray::from(vec![Some(1), None]).with_timezone("UTC")),
        ),
        (
            "m",
            Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255]), None])),
        ),
        ("n", strings(&[Some("{\"no\": \"json\"}"), None])),
        ("o", Arc::new(Int32Array::from(vec![Some(7), None]))),
    ];
    world.put("types/a.parquet", &columns).await;
    run(&client, &[&world.copy("types/a")]).await;
    let behind = world.behind().await;
    assert_eq!(
        rows(&behind, "SELECT * FROM t").await,
        [
            [
                "-1",
                "2",
                "-9223372036854775808",
                "-123.45",
                "0.5",
                "0.1",
                "t",
                "ab  ",
                "\\N\t\n\r \\ ä",
                "1969-12-31",
                "1969-12-31 23:59:59.999999",
                "1970-01-01 00:00:00.001",
                "\\x00ff",
                "\"{\\\"no\\\": \\\"json\\\"}\"",
                "7",
            ],
            [
                "NULL",
                "NULL",
                "NULL",
                "NULL",
                "NULL",
                "NaN",
                "NULL",
                "NULL",
                "",
                "NULL",
                "0001-12-31 23:59:59.999999 BC",
                "NULL",
                "NULL",
                "NULL",
                "NULL",
            ],
        ]
    );
    world.finish().await;
}

#[tokio::test]
async fn nested_columns_become_super_only_when_told_so() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &["CREATE TABLE t (a super, b super, c super)"]).await;
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Int32, true)),
            integers(&[1]),
        ),
        (
            Arc::new(Field::new("y", DataType::Utf8, true)),
            strings(&[None]),
        ),
    ]);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("k\"");
    maps.values().append_value("v");
    maps.append(true).unwrap();
    let columns: [(&str, ArrayRef); 3] = [
        ("a", Arc::new(structs)),
        ("b", Arc::new(lists)),
        ("c", Arc::new(maps.finish())),
    ];
    world.put("nested/a.parquet", &columns).await;
    let plain = world.copy("nested/").replace(" SERIALIZETOJSON", "");
    let (code, message) = refused(&client, &plain).await;
    assert!(
        code == "XX000" && message.contains("has an incompatible Parquet schema for column 'a'"),
        "{message}"
    );
    run(&client, &[&world.copy("nested/")]).await;
    assert_eq!(
        rows(&client, "SELECT a, b, c, json_typeof(a) FROM t").await,
        [[
            "{\"x\": 1, \"y\": null}",
            "[1, null]",
            "{\"k\\\"\": \"v\"}",
            "object"
        ]]
    );
    world.finish().await;
}

#[tokio::test]
async fn columns_that_do_not_fit_are_refused() {
    let world = World::start().await;
    let client = world.connect().await;
    let long = "x".repeat(65_536);
    let cases: [(&str, ArrayRef, &str); 16] = [
        (
            "bigint",
            integers(&[1]),
            "incompatible Parquet schema for column 'a'. Column type: BIGINT",
        ),
        (
            "int",
            Arc::new(Int64Array::from(vec![1])),
            "incompatible Parquet schema",
        ),
        (
            "int",
            Arc::new(UInt32Array::from(vec![1])),
            "incompatible Parquet schema",
        ),
        (
            "double precision",
            Arc::new(Float32Array::from(vec![1.0])),
            "incompatible Parquet schema",
        ),
        ("varchar(9)", integers(&[1]), "incompatible Parquet schema"),
        (
            "date",
            strings(&[Some("2020-01-01")]),
            "incompatible Parquet schema",
        ),
        ("boolean", integers(&[1]), "incompatible Parquet schema"),
        (
            "decimal(38,3)",
            Arc::new(
                Decimal128Array::from(vec![1])
                    .with_precision_and_scale(20, 2)
                    .unwrap(),
            ),
            "incompatible Parquet schema",
        ),
        (
            "timestamptz",
            Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
            "incompatible Parquet",
        ),
        (
            "timestamptz",
            Arc::new(TimestampMicrosecondArray::from(vec![1])),
            "incompatible Parquet schema",
        ),
        (
            "timestamp",
            Arc::new(TimestampNanosecondArray::from(vec![1])),
            "incompatible Parquet schema",
        ),
        (
            "varbyte",
            strings(&[Some("x")]),
            "incompatible Parquet schema",
        ),
        (
            "varchar(3)",
            strings(&[Some("ää")]),
            "The length of the data column a is longer than the length defined in the table. Table: 3, Data: 4",
        ),
        (
            "varbyte(1)",
            Arc::new(BinaryArray::from_vec(vec![&[1, 2]])),
            "Table: 1, Data: 2",
        ),
        ("super", strings(&[Some(&long)]), "a string has 65536 bytes"),
        (
            "super",
            Arc::new(Float64Array::from(vec![f64::NAN])),
            "no number of JSON",
        ),
    ];
    for (at, (kind, array, message)) in cases.into_iter().enumerate() {
        run(
            &client,
            &[
                "DROP TABLE IF EXISTS t",
                &format!("CREATE TABLE t (a {kind})"),
            ],
        )
        .await;
        let prefix = format!("case-{at}/");
        world
            .put(&format!("{prefix}a.parquet"), &[("a", array)])
            .await;
        let (code, found) = refused(&client, &world.copy(&prefix)).await;
        assert!(
            code == "XX000" && found.contains(message),
            "{kind}: {found}"
        );
        assert_eq!(value(&client, "SELECT count(*) FROM t").await, "0");
    }
    world.finish().await;
}

#[tokio::test]
async fn rows_come_from_all_objects_of_a_prefix_or_of_none() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &["CREATE TABLE t (a int NOT NULL, b int)"]).await;
    for (key, a) in [("load/part-1", 1), ("load/part-2", 2), ("load/other", 3)] {
        world
            .put(key, &[("b", integers(&[a])), ("a", integers(&[a * 10]))])
            .await;
    }
    run(&client, &[&world.copy("load/part")]).await;
    // By their positions, whatever their names are.
    assert_eq!(
        rows(&client, "SELECT a, b FROM t ORDER BY a").await,
        [["1", "10"], ["2", "20"]]
    );
    let columns = world.copy("load/other").replace("COPY t", "COPY t (b, a)");
    run(&client, &["TRUNCATE t", &columns]).await;
    assert_eq!(rows(&client, "SELECT a, b FROM t").await, [["30", "3"]]);

    world.put("narrow/1", &[("a", integers(&[4]))]).await;
    world.put_bytes("text/1", b"1,2".to_vec()).await;
    world
        .put(
            "null/1",
            &[
                ("a", Arc::new(Int32Array::from(vec![None]))),
                ("b", integers(&[1])),
            ],
        )
        .await;
    let prefix = format!("s3://{}/", world.bucket);
    all_refused(
        &client,
        &[
            (
                &world.copy("nothing/"),
                "XX000",
                "The specified S3 prefix 'nothing/' does not exist",
            ),
            (
                &world.copy("narrow/"),
                "XX000",
                "table columns: 2, file columns: 1",
            ),
            (&world.copy("text/"), "XX000", "is no Parquet"),
            (&world.copy("null/"), "23502", "null value in column \"a\""),
            (
                &world.copy("load/").replace("COPY t", "COPY nowhere"),
                "42P01",
                "does not exist",
            ),
            (
                &world.copy("load/").replace("COPY t", "COPY t (a, z)"),
                "42703",
                "column \"z\"",
            ),
            (
                &format!("{} MAXERROR 1", world.copy("load/")),
                "0A000",
                "MAXERROR argument is not supported",
            ),
            (
                &format!("COPY t FROM '{prefix}' IAM_ROLE '{ROLE}' FORMAT CSV"),
                "0A000",
                "COPY of CSV",
            ),
            (
                "COPY t FROM STDIN",
                "0A000",
                "COPY FROM STDIN is not supported",
            ),
            ("COPY t TO STDOUT", "0A000", "COPY ... TO is not supported"),
        ],
    )
    .await;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "1");
    run(
        &client,
        &[&format!(
            "{} FILLRECORD STATUPDATE OFF",
            world.copy("narrow/")
        )],
    )
    .await;
    assert_eq!(
        rows(&client, "SELECT a, b FROM t WHERE a = 4").await,
        [["4", "NULL"]]
    );

    let entry = |key: &str, mandatory: bool| {
        format!(
            "{{\"url\": \"{prefix}{key}\", \"mandatory\": {mandatory}, \"meta\": {{\"content_length\": 1}}}}"
        )
    };
    let manifest =
        |entries: &[String]| format!("{{\"entries\": [{}]}}", entries.join(",")).into_bytes();
    world
        .put_bytes(
            "one",
            manifest(&[entry("load/part-1", true), entry("gone", false)]),
        )
        .await;
    world
        .put_bytes("two", manifest(&[entry("gone", true)]))
        .await;
    run(
        &client,
        &["TRUNCATE t", &format!("{} MANIFEST", world.copy("one"))],
    )
    .await;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "1");
    let (_, message) = refused(&client, &format!("{} MANIFEST", world.copy("two"))).await;
    assert!(
        message.contains("Mandatory url is not present"),
        "{message}"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_load_is_part_of_its_transaction() {
    let world = World::start().await;
    let client = world.connect().await;
    run(&client, &["CREATE TABLE t (a int)"]).await;
    world.put("load/1", &[("a", integers(&[1]))]).await;
    world.put("wrong/1", &[("a", strings(&[Some("x")]))]).await;
    run(&client, &["BEGIN", &world.copy("load/"), "ROLLBACK"]).await;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "0");
    run(&client, &["BEGIN", &world.copy("load/")]).await;
    refused(&client, &world.copy("wrong/")).await;
    let (code, _) = refused(&client, "SELECT 1").await;
    assert_eq!(code, "25P02");
    run(&client, &["ROLLBACK"]).await;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "0");
    world.finish().await;
}

#[tokio::test]
async fn objects_are_read_by_leave_of_a_role_or_a_key() {
    let world = World::start_with(|builder, bucket| {
        builder
            .default_role(&[bucket])
            .key("AKIA1", "secret", &[bucket])
            .temporary_key("ASIA1", "secret", "token", &[bucket])
            .role(
                "arn:aws:iam::123456789012:role/missing",
                &["missing-bucket"],
            )
    })
    .await;
    let client = world.connect().await;
    let other = unique_name("other");
    world.s3.create_bucket(&other).await.unwrap();
    run(&client, &["CREATE TABLE t (a int)"]).await;
    world.put("load/1", &[("a", integers(&[1]))]).await;
    let copy = |bucket: &str, authority: &str| {
        format!("COPY t FROM 's3://{bucket}/load/' {authority} FORMAT PARQUET")
    };
    let own = |authority: &str| copy(&world.bucket, authority);
    run(
        &client,
        &[
            &own("IAM_ROLE default"),
            &own("ACCESS_KEY_ID 'AKIA1' SECRET_ACCESS_KEY 'secret'"),
            &own("CREDENTIALS 'aws_access_key_id=ASIA1;aws_secret_access_key=secret;token=token'"),
            &own(&format!("CREDENTIALS 'aws_iam_role={ROLE}'")),
        ],
    )
    .await;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, "4");
    let denied = "S3ServiceException:Access Denied,Status 403";
    all_refused(
        &client,
        &[
            (
                &own("IAM_ROLE 'arn:aws:iam::1:role/x'"),
                "XX000",
                "is not authorized to assume IAM Role arn:aws:iam::1:role/x",
            ),
            (
                &own("ACCESS_KEY_ID 'AKIA1' SECRET_ACCESS_KEY 'wrong'"),
                "XX000",
                denied,
            ),
            (
                &own("ACCESS_KEY_ID 'ASIA1' SECRET_ACCESS_KEY 'secret'"),
                "XX000",
                denied,
            ),
            (
                &copy(&other, &format!("IAM_ROLE '{ROLE}'")),
                "XX000",
                denied,
            ),
            (
                &copy(
                    "missing-bucket",
                    "IAM_ROLE 'arn:aws:iam::123456789012:role/missing'",
                ),
                "XX000",
                "S3ServiceException:The specified bucket does not exist,Status 404",
            ),
            (&own(""), "42601", "CREDENTIALS argument is required"),
        ],
    )
    .await;
    world.finish().await;
}
