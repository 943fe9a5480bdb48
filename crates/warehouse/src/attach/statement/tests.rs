use super::*;

const COLUMNS: &[(&str, Read, bool)] = &[
    ("b", Read::Boolean, false),
    ("i", Read::Int16, false),
    ("n", Read::Int64, false),
    ("r", Read::Float32, false),
    ("d", Read::Float64, false),
    ("m", Read::Decimal(10, 2), false),
    ("t", Read::Text, true),
    ("folded", Read::Text, false),
    ("u", Read::Uuid, false),
    ("day", Read::Date, false),
    ("at", Read::Timestamp, false),
    ("moment", Read::Moment, false),
    ("json", Read::AsText, false),
    ("Odd \"name\"", Read::Int32, false),
    ("super", Read::Serialized, false),
    ("bytes", Read::Hexadecimal, false),
];

fn place(name: &str) -> usize {
    let found = COLUMNS.iter().position(|(column, ..)| *column == name);
    found.expect("a column")
}

fn with_statement<T>(server: Server, then: impl FnOnce(Statement<'_>) -> T) -> T {
    let columns: Vec<Column> = COLUMNS
        .iter()
        .map(|&(name, read, equal_by_bytes)| Column {
            name: name.to_owned(),
            read,
            equal_by_bytes,
        })
        .collect();
    let name = AttachedName {
        schema: "public".to_owned(),
        table: "A \"table\"".to_owned(),
    };
    then(Statement {
        server,
        name: &name,
        columns: &columns,
    })
}

/// What becomes of a condition: its text behind `=` where it is exact, behind `>` where more is answered.
fn pushed_to(server: Server, filter: &Filter) -> String {
    with_statement(server, |statement| match statement.condition(filter) {
        None => "-".to_owned(),
        Some((text, support)) => {
            assert_eq!(statement.support(filter), support);
            let sign = match support {
                FilterSupport::Exact => '=',
                FilterSupport::Superset => '>',
                FilterSupport::None => panic!("nothing is asked for: {text}"),
            };
            format!("{sign} {text}")
        }
    })
}

fn pushed(filter: &Filter) -> String {
    pushed_to(Server::Postgres, filter)
}

fn equal(column: &str, value: Literal) -> Filter {
    Filter::Compare(place(column), Comparison::Equal, value)
}

fn text(value: &str) -> Literal {
    Literal::Text(value.to_owned())
}

#[test]
fn values_are_spelled_by_the_type_of_their_column() {
    let nines = 99_999_999_999_999_999_999_999_999_999_999_999_999_i128;
    for (filter, expected) in [
        (equal("b", Literal::Boolean(true)), r#"= "b" = true"#),
        (
            equal("i", Literal::Integer(-1)),
            r#"= "i" = '-1'::smallint"#,
        ),
        (
            equal("n", Literal::Integer(i64::MIN)),
            r#"= "n" = '-9223372036854775808'::bigint"#,
        ),
        (
            equal("Odd \"name\"", Literal::Integer(5)),
            r#"= "Odd ""name""" = '5'::integer"#,
        ),
        (
            equal("d", Literal::Double(-0.0)),
            r#"= "d" = '-0e0'::double precision"#,
        ),
        (equal("r", Literal::Float(0.1)), r#"= "r" = '1e-1'::real"#),
        (
            equal("d", Literal::Double(-1.5e300)),
            r#"= "d" = '-1.5e300'::double precision"#,
        ),
        (
            equal("m", Literal::Decimal(-5, 2)),
            r#"= "m" = '-0.05'::numeric"#,
        ),
        (
            equal("m", Literal::Decimal(7, 0)),
            r#"= "m" = '7'::numeric"#,
        ),
        (
            equal("m", Literal::Decimal(nines, 38)),
            r#"= "m" = '0.99999999999999999999999999999999999999'::numeric"#,
        ),
        (equal("t", text("it's")), r#"= "t" = 'it''s'"#),
        (equal("t", text("a\\b")), r#"= "t" = E'a\\b'"#),
        (
            equal("u", text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
            r#"= "u" = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"#,
        ),
        (
            equal("day", Literal::Date(-1)),
            r#"= "day" = '1969-12-31'::date"#,
        ),
        (
            equal("at", Literal::Timestamp(-1)),
            r#"= "at" = '1969-12-31 23:59:59.999999'::timestamp"#,
        ),
        (
            equal("moment", Literal::Moment(0)),
            r#"= "moment" = '1970-01-01 00:00:00.000000+00'::timestamptz"#,
        ),
    ] {
        assert_eq!(pushed(&filter), expected);
    }
}

#[test]
fn conditions_are_joined_and_all_their_parts_have_to_be_known() {
    let known = equal("n", Literal::Integer(1));
    let folded = equal("folded", text("x"));
    let unknown = equal("json", text("{}"));
    let less = Filter::Compare(place("n"), Comparison::Less, Literal::Integer(9));
    for (filter, expected) in [
        (Filter::IsNull(place("json")), r#"= "json" IS NULL"#),
        (Filter::IsNotNull(place("t")), r#"= "t" IS NOT NULL"#),
        (Filter::IsNull(place("super")), "-"),
        (
            Filter::In(place("n"), vec![Literal::Integer(1), Literal::Integer(2)]),
            r#"= "n" IN ('1'::bigint, '2'::bigint)"#,
        ),
        (Filter::In(place("n"), vec![]), "-"),
        (
            Filter::Or(vec![
                Filter::And(vec![known.clone(), less]),
                Filter::IsNull(place("t")),
            ]),
            r#"= (("n" = '1'::bigint AND "n" < '9'::bigint) OR "t" IS NULL)"#,
        ),
        (
            Filter::Or(vec![known.clone(), folded.clone()]),
            r#"> ("n" = '1'::bigint OR "folded" = 'x')"#,
        ),
        (Filter::Or(vec![known.clone(), unknown.clone()]), "-"),
        (Filter::And(vec![known, unknown]), "-"),
        (Filter::And(vec![]), "-"),
        (equal("n", text("1")), "-"),
        (equal("bytes", text("00")), "-"),
        (Filter::IsNull(COLUMNS.len()), "-"),
    ] {
        assert_eq!(pushed(&filter), expected);
    }
}

#[test]
fn what_the_server_would_mean_otherwise_is_not_asked_for() {
    let less = |column, value| Filter::Compare(place(column), Comparison::Less, value);
    let year_10000 = 253_402_300_800_000_000;
    for filter in [
        less("t", text("x")),
        less("u", text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        equal("u", text("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")),
        equal("u", text("a0eebc999c0b4ef8bb6d6bb9bd380a11")),
        equal("t", text("a\0b")),
        less("d", Literal::Double(f64::NAN)),
        less("d", Literal::Double(f64::INFINITY)),
        equal("r", Literal::Float(f32::NEG_INFINITY)),
        less("at", Literal::Timestamp(year_10000)),
        less("moment", Literal::Moment(i64::MIN)),
        less("day", Literal::Date(i32::MAX)),
        less("day", Literal::Date(-719_163)),
    ] {
        assert_eq!(pushed(&filter), "-", "{filter:?}");
    }
    assert_eq!(
        pushed(&less("at", Literal::Timestamp(year_10000 - 1))),
        r#"= "at" < '9999-12-31 23:59:59.999999'::timestamp"#
    );
    assert_eq!(
        pushed(&less("day", Literal::Date(-719_162))),
        r#"= "day" < '0001-01-01'::date"#
    );
}

#[test]
fn redshift_is_asked_for_the_same_but_for_what_escapes() {
    let asked = |filter| pushed_to(Server::Redshift, &filter);
    assert_eq!(asked(equal("folded", text("x"))), r#"> "folded" = 'x'"#);
    assert_eq!(asked(equal("folded", text("a\\b"))), "-");
}

#[test]
fn a_scan_is_one_statement() {
    let select = |scan: Scan| with_statement(Server::Redshift, |statement| statement.select(&scan));
    assert_eq!(
        select(Scan::default()),
        r#"SELECT NULL FROM "public"."A ""table""""#
    );
    assert_eq!(
        select(Scan {
            columns: ["n", "json", "super", "bytes"].map(place).to_vec(),
            filters: vec![
                equal("n", Literal::Integer(1)),
                Filter::Or(vec![Filter::IsNull(place("n")), Filter::IsNull(place("t"))]),
            ],
            limit: Some(10),
        }),
        r#"SELECT "n", "json"::text, json_serialize("super"), from_varbyte("bytes", 'hex') FROM "public"."A ""table""" WHERE "n" = '1'::bigint AND ("n" IS NULL OR "t" IS NULL) LIMIT 10"#
    );
}
