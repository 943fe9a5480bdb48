//! Streams and files that changes go to as they are.

use std::path::Path;

use super::parse;
use crate::config::{BatchEvents, JsonSpelling, Place, PlaceKind, Work, json_schema};

const PLACES: &str = "\
sources: { shop: { uri: '${MONGODB_URI}' }, other: { uri: '${MONGODB_URI}' }, pushed: { ingest: { key: '${TOKEN}' } } }
lakes: { main: { path: lake } }
warehouses: { dwh: { uri: '${WAREHOUSE}' } }
streams: { events: { uri: 'kinesis://orders' } }
files: { audit: { path: changes } }
server: {}
";

/// A file with these places, and what is wrong with it.
fn is_wrong(rest: &str, expected: &[&str]) {
    let problems = parse(&format!("{PLACES}{rest}")).err().unwrap_or_default();
    let shown = problems.join("\n");
    assert_eq!(problems.len(), expected.len(), "{shown}");
    for (problem, part) in problems.iter().zip(expected) {
        assert!(problem.contains(part), "{problem}\nshould contain\n{part}");
    }
}

#[test]
fn streams_and_files_are_targets_of_flows_and_of_sync() {
    let plan = parse(
        "\
state: remembered
sources: { shop: { uri: '${MONGODB_URI}' }, other: { uri: '${MONGODB_URI}' } }
streams:
  events: { uri: 'kinesis://orders', region: eu-central-1, endpoint: 'http://localhost:4566', partition_key: fullDocument.customer, json: canonical }
  plain: { uri: 'kinesis://a_b.c-1' }
files:
  audit: { path: 's3://bucket/changes', json: canonical, gzip: true, batch_events: 1 }
  local: { path: ./changes }
flows:
  publish: { from: shop, to: events, collections: [orders], options: { commit_interval: 200ms, heartbeat: 5s } }
  as-well: { from: other, to: events }
  audit: { from: shop, to: audit }
jobs: { nightly: { steps: { a: { sync: { from: shop, to: local } }, b: { sync: { from: shop, to: plain } } } } }
",
    );
    let plan = plan.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let Place::Stream(events) = &plan.flows["publish"].route.to.place else {
        panic!("{plan:?}");
    };
    assert_eq!(events.uri, "kinesis://orders");
    assert_eq!(events.region.as_ref().unwrap().as_str(), "eu-central-1");
    let endpoint = events.endpoint.as_ref().unwrap().as_str();
    assert_eq!(endpoint, "http://localhost:4566");
    let key = events.partition_key.as_ref().unwrap().as_str();
    assert_eq!(key, "fullDocument.customer");
    assert_eq!(events.json, JsonSpelling::Canonical);
    let positions = Path::new("/etc/tributary/remembered/positions");
    assert_eq!(events.positions, positions);
    let Place::Stream(plain) = &plan.places["plain"] else {
        panic!("{plan:?}");
    };
    assert_eq!(plain.json, JsonSpelling::Relaxed);
    assert!(plain.region.is_none() && plain.endpoint.is_none() && plain.partition_key.is_none());

    let Place::Files(audit) = &plan.places["audit"] else {
        panic!("{plan:?}");
    };
    assert_eq!(audit.path, "s3://bucket/changes");
    assert_eq!(audit.json, JsonSpelling::Canonical);
    assert_eq!(
        (audit.gzip, audit.batch_events),
        (true, Some(BatchEvents(1)))
    );
    let Work::Sync(sync) = &plan.jobs["nightly"].steps["a"].work else {
        panic!("{plan:?}");
    };
    assert_eq!(sync.route.to.place.kind(), PlaceKind::Files);
    let Place::Files(local) = &sync.route.to.place else {
        panic!("{plan:?}");
    };
    assert_eq!(local.path, "/etc/tributary/changes");
    assert_eq!((local.gzip, local.batch_events), (false, None));
}

#[test]
fn entries_that_are_none_are_told_with_their_place() {
    let of = |entry: &str, expected: &str| {
        let problems = parse(&format!("streams:\n  s: {{ {entry} }}\n")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(expected), "{problems:#?}");
    };
    for uri in [
        "orders",
        "kinesis://",
        "kinesis://a/b",
        "kinesis://a?region=eu-central-1",
        "kafka://a",
    ] {
        let expected = "2:13: the `uri` of stream `s` is not kinesis://STREAM";
        of(&format!("uri: '{uri}'"), expected);
    }
    of(&format!("uri: 'kinesis://{}'", "a".repeat(129)), "2:13: ");
    of(
        "uri: 'kinesis://a', endpoint: 'localhost:4566'",
        "2:38: the `endpoint` of stream `s` is not http://",
    );
    of(
        "uri: 'kinesis://a', partition_key: a..b",
        "2:43: the `partition_key` of stream `s` is no path",
    );
    of(
        "uri: 'kinesis://a', region: ''",
        "2:36: the `region` of stream `s` is empty",
    );
    of(
        "uri: 'kinesis://a', json: canonicle",
        "there is no value `canonicle`; did you mean `canonical`?",
    );
    of(
        "uri: 'kinesis://a', gzip: true",
        "2:28: there is no key `gzip`",
    );

    let of = |entry: &str, expected: &str| {
        let problems = parse(&format!("files:\n  f: {{ {entry} }}\n")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(expected), "{problems:#?}");
    };
    of("path: ''", "2:14: the `path` of files `f` is empty");
    of("path: a, batch_events: 0", "1 at least and 10000 at most");
    of(
        "path: a, batch_events: 10001",
        "1 at least and 10000 at most",
    );
    of(
        "path: a, partition_key: x",
        "2:17: there is no key `partition_key`",
    );
}

#[test]
fn a_name_is_of_one_place_whatever_it_is() {
    let problems = parse(
        "\
lakes:
  a: { path: lake }
streams:
  a: { uri: 'kinesis://a' }
  b: { uri: 'kinesis://b' }
files:
  b: { path: b }
",
    );
    assert_eq!(
        problems.unwrap_err(),
        [
            "4:6: `a` is a lake and a stream: give each a name of its own",
            "7:6: `b` is a stream and a place for files: give each a name of its own",
        ]
    );
}

#[test]
fn changes_as_they_are_come_from_a_source_with_an_address() {
    is_wrong(
        "flows:\n  a: { from: pushed, to: events }\n  b: { from: main, to: audit }\n",
        &[
            "8:14: `pushed` is a pushed source: changes go to `events` from a source with `uri`",
            "9:14: `main` is a lake: changes go to `audit` from a source with `uri`",
        ],
    );
    is_wrong(
        "flows:\n  a: { from: shop, to: events, through: main }\n",
        &["8:41: `through` is for what goes from a source into a warehouse"],
    );
    is_wrong(
        "flows:\n  a: { from: events, to: main }\n  b: { from: shop, to: audits }\n",
        &[
            "8:14: `events` is a stream; here stands a source or lake",
            "9:24: there is no lake or warehouse or stream or place for files `audits`; did you mean `audit`?",
        ],
    );
}

#[test]
fn steps_about_tables_do_not_take_streams_and_files() {
    let step = |work: &str| format!("jobs:\n  j:\n    steps:\n      s: {{ {work} }}\n");
    is_wrong(
        &step("copy: { from: shop, to: audit }"),
        &["10:36: `audit` is a place for files; here stands a lake or warehouse"],
    );
    is_wrong(
        &step("verify: { from: shop, to: events }"),
        &["10:38: `events` is a stream; here stands a lake"],
    );
    is_wrong(
        &step("sql: { lake: audit, query: SELECT 1 }"),
        &["10:25: `audit` is a place for files; here stands a lake"],
    );
    is_wrong(
        &step("sql: { warehouse: events, script: SELECT 1 }"),
        &["10:30: `events` is a stream; here stands a warehouse"],
    );
}

#[test]
fn what_is_said_of_tables_is_refused_where_there_are_none() {
    for (to, kind) in [("events", "stream"), ("audit", "place for files")] {
        for (option, value) in [
            ("retention", "2d"),
            ("parallel", "2"),
            ("on_lost_history", "accept"),
            ("on_drop", "keep"),
            ("on_schema_change", "evolve"),
            ("history", "false"),
            ("deletion_vectors", "false"),
            ("symlink_manifest", "false"),
            ("index", "x"),
        ] {
            let of_tables = format!("`{option}` is for tables, and `{to}` is a {kind}");
            let follow = format!("from: shop, to: {to}, options: {{ {option}: {value} }}");
            is_wrong(
                &format!("flows:\n  a: {{ {follow} }}\n"),
                &[&format!("8:6: {of_tables}")],
            );
            is_wrong(
                &format!("jobs:\n  j: {{ steps: {{ s: {{ sync: {{ {follow} }} }} }} }}\n"),
                &[&of_tables],
            );
        }
        is_wrong(
            &format!("flows:\n  a: {{ from: shop, to: {to}, options: {{ heartbeat: 1ms }} }}\n"),
            &["8:6: `heartbeat` is 1s at least"],
        );
    }
}

#[test]
fn a_place_takes_the_changes_of_one_flow() {
    is_wrong(
        "flows:\n  a: { from: shop, to: audit }\n  b: { from: other, to: audit }\n",
        &["9:25: `audit` takes the changes of one flow, and that is `a`"],
    );
    is_wrong(
        "flows:\n  a: { from: shop, to: events, collections: [c] }\n  b: { from: shop, to: events, collections: [d] }\n",
        &["9:24: changes of `shop` go to `events` by one flow, and that is `a`"],
    );
    is_wrong(
        "flows: { a: { from: shop, to: audit } }\njobs: { j: { steps: { s: { sync: { from: shop, to: audit } } } } }\n",
        &["`audit` takes the changes of one flow, and that is `a`"],
    );
}

#[test]
fn the_schema_says_what_streams_and_files_are() {
    let schema = json_schema();
    let properties = &schema["properties"];
    assert!(properties["streams"]["description"].is_string());
    assert!(properties["files"]["description"].is_string());
    let spelling = &schema["$defs"]["JsonSpelling"].to_string();
    assert!(
        spelling.contains("relaxed") && spelling.contains("canonical"),
        "{spelling}"
    );
    let stream = &schema["$defs"]["StreamEntry"];
    assert_eq!(stream["required"], serde_json::json!(["uri"]));
    let events = &schema["$defs"]["FilesEntry"]["properties"]["batch_events"];
    assert_eq!(
        (&events["minimum"], &events["maximum"]),
        (&1.into(), &10_000.into())
    );
}
