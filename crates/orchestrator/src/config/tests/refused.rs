//! What could not be done is refused before anything is begun, with its place and its key.

use super::{parse, wrong};

#[test]
fn a_queue_is_of_one_job() {
    let jobs = |first: &str, second: &str| {
        let step = "steps: { x: { command: { run: [x] } } }";
        format!(
            "jobs:\n  a: {{ on_object: {{ queue: '{first}', matching: 'a*' }}, {step} }}\n  b: {{ on_object: {{ queue: '{second}', matching: 'b*' }}, {step} }}\n"
        )
    };
    let queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/objects";
    let again = [
        "9:28: the job `a` has this `queue` already",
        "give each job a queue of its own, or let one job do both",
    ];
    for other in [
        queue.to_owned(),
        format!("{queue}/"),
        queue.replace("sqs", "SQS"),
    ] {
        for part in again {
            wrong(&jobs(queue, &other), &[part]);
        }
    }
    wrong(&jobs(queue, &queue.replace("objects", "others")), &[]);
    wrong(
        &jobs(queue, "objects"),
        &["9:28: `queue` is no address of an SQS queue"],
    );
    // A directory tells everybody of all its files.
    wrong(&jobs(queue, queue).replace("queue: ", "directory: "), &[]);
}

#[test]
fn places_that_cannot_be_reached_are_told() {
    let is = |text: &str, expected: &str| {
        let problems = parse(text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(expected), "{problems:#?}");
    };
    is(
        "lakes:\n  l: { path: 's4://x/y' }\n",
        "2:14: the `path` of lake `l` has the unknown scheme `s4`: it is a directory, s3://",
    );
    is(
        "lakes:\n  l: { path: '' }\n",
        "2:14: the `path` of lake `l` is empty",
    );
    is(
        "files:\n  f: { path: 'gs://x/y' }\n",
        "2:14: the `path` of files `f` has the unknown scheme `gs`",
    );
    for (uri, why) in [
        ("mongodb://u:p@ss@h/d", "percent-encoded"),
        ("mongodb://h:99999/d", "no number from 1 to 65535"),
        ("mongo://h/d", "is not mongodb://"),
    ] {
        let at = "2:13: the `uri` of source `s` ";
        let text = format!("sources:\n  s: {{ uri: '{uri}' }}\n");
        is(&text, at);
        is(&text, why);
    }
    let problems = parse("sources: { s: { uri: 'mongodb://u:hunter2@x@h:99999/d' } }\n");
    let problems = problems.unwrap_err().join("\n");
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn layouts_of_redshift_are_none_of_postgres() {
    let of = |scheme: &str| {
        format!(
            "\
warehouses:
  w:
    uri: '{scheme}://u:p@h/d'
    layout: {{ distribution: even, primary_key: [n] }}
    tables: {{ shop.orders: {{ sort_key: [at], distribution: n }} }}
"
        )
    };
    let expected = [
        "4:29: `distribution` is for Redshift, and warehouse `w` is a PostgreSQL: leave it out",
        "5:41: `sort_key` is for Redshift, and warehouse `w` is a PostgreSQL: leave it out",
        "5:60: `distribution` is for Redshift, and warehouse `w` is a PostgreSQL: leave it out",
    ];
    assert_eq!(parse(&of("postgres")).unwrap_err(), expected);
    let redshift = of("redshift").replace("layout:", "s3_staging: 's3://b/p'\n    layout:");
    parse(&redshift).unwrap();
}

#[test]
fn patterns_and_queries_that_are_none_are_told() {
    let no_pattern = "`[` of `collections` is no pattern";
    wrong(
        "flows:\n  a: { from: shop, to: main, collections: [orders, '['] }\n",
        &[&format!("8:52: {no_pattern}")],
    );
    for work in [
        "copy: { from: shop, to: main, collections: ['['] }",
        "sync: { from: shop, to: main, collections: ['['] }",
        "verify: { from: shop, to: main, collections: ['['] }",
    ] {
        let job = format!("jobs:\n  a:\n    steps:\n      x: {{ {work} }}\n");
        wrong(&job, &[no_pattern]);
    }
    let copy = |filter: &str| {
        format!(
            "jobs:\n  a: {{ steps: {{ x: {{ copy: {{ from: shop, to: main, filter: '{filter}' }} }} }} }}\n"
        )
    };
    for filter in ["{bad", "[]", "7", "{\"at\":{\"$date\":\"yesterday\"}}"] {
        wrong(
            &copy(filter),
            &["8:60: `filter` is no query in Extended JSON"],
        );
    }
    for filter in [
        "{}",
        r#"{"status":"active","at":{"$gte":{"$date":"2024-01-01T00:00:00Z"}}}"#,
        r#"{"$or":[{"n":{"$type":"string"}},{"n":{"$regex":"^a","$options":"i"}}]}"#,
    ] {
        wrong(&copy(filter), &[]);
    }
}

#[test]
fn flows_that_would_keep_the_same_table_are_told() {
    let two =
        |first: &str, second: &str| format!("flows:\n  a: {{ {first} }}\n  b: {{ {second} }}\n");
    let both = "9:24: the flow `a` brings collections of `shop` into `main` too, and some can be of both: give each flow `collections` of its own";
    let orders = "from: shop, to: main, collections: [orders]";
    for second in [
        "from: shop, to: main",
        "from: shop, to: main, collections: [x, 'ord*']",
        "from: shop, to: main, collections: ['[m-o]rders'], paused: true",
    ] {
        wrong(&two(orders, second), &[both]);
    }
    wrong(
        &two(
            orders,
            "from: shop, to: dwh, through: main, collections: [orders]",
        ),
        &["9:24: the flow `a` brings collections of `shop` into `main` too"],
    );
    wrong(
        &two("from: main, to: dwh", "from: shop, to: dwh, through: main"),
        &["9:24: the flow `a` brings collections of `main` into `dwh` too"],
    );
    for second in [
        "from: shop, to: main, collections: ['order', 'x*']",
        "from: main, to: dwh",
        "from: shop, to: dwh, through: main, collections: ['o?']",
    ] {
        wrong(&two(orders, second), &[]);
    }
    // Another name is no other place, and a step of a job is none that goes on all the time.
    let text = "\
sources: { shop: { uri: 'mongodb://h/d' }, other: { uri: 'mongodb://i/d' } }
lakes: { main: { path: lake }, again: { path: ./lake/ } }
flows:
  a: { from: shop, to: main }
  b: { from: other, to: main }
  c: { from: shop, to: again }
jobs: { j: { steps: { x: { sync: { from: shop, to: main } } } } }
";
    let problems = parse(text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].starts_with("6:24: the flow `a` brings"),
        "{problems:#?}"
    );
}
