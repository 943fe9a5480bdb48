//! Sources whose events are pushed.

use std::time::Duration;

use super::parse;
use crate::config::Place;

const SOURCES: &str = "\
sources:
  shop: { uri: '${MONGODB_URI}' }
  atlas: { ingest: { key: '${TOKEN}' } }
  signed: { ingest: { hmac: '${TOKEN}', retention: 36h, largest_log: 2GB, largest_request: 1MB } }
lakes: { main: { path: lake } }
warehouses: { dwh: { uri: '${WAREHOUSE}' } }
server: {}
";

/// A file with these sources, and what is wrong with it.
fn is_wrong(rest: &str, expected: &[&str]) {
    let problems = parse(&format!("{SOURCES}{rest}")).err().unwrap_or_default();
    let shown = problems.join("\n");
    assert_eq!(problems.len(), expected.len(), "{shown}");
    for (problem, part) in problems.iter().zip(expected) {
        assert!(problem.contains(part), "{problem}\nshould contain\n{part}");
    }
}

#[test]
fn a_source_that_is_pushed_to_is_one_of_flows_and_triggers() {
    let plan = parse(&format!(
        "{SOURCES}
flows:
  in: {{ from: atlas, to: main, options: {{ on_lost_history: accept }} }}
  on: {{ from: signed, to: dwh, through: main }}
jobs: {{ j: {{ steps: {{ s: {{ sync: {{ from: atlas, to: main }} }} }} }} }}
triggers:
  t: {{ source: atlas, operations: [insert], function: t.js }}
"
    ));
    let plan = plan.unwrap();
    let Place::Ingest(atlas) = &plan.places["atlas"] else {
        panic!("{plan:?}");
    };
    assert_eq!(atlas.retention, Duration::from_secs(7 * 24 * 3600));
    assert_eq!((atlas.largest_log, atlas.largest_request), (None, 32 << 20));
    assert!(atlas.key.is_some() && atlas.hmac.is_none());
    let Place::Ingest(signed) = &plan.places["signed"] else {
        panic!("{plan:?}");
    };
    assert_eq!(signed.retention, Duration::from_secs(36 * 3600));
    assert_eq!(
        (signed.largest_log, signed.largest_request),
        (Some(2 << 30), 1 << 20)
    );
    let shown = format!("{plan:?}");
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
}

#[test]
fn what_a_source_that_is_pushed_to_cannot_be_is_told() {
    let of = |entry: &str, expected: &str| {
        let text = format!("sources: {{ a: {entry} }}\nserver: {{}}\n");
        let problems = parse(&text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(expected), "{problems:#?}");
    };
    of("{}", "has a `uri` or `ingest`");
    of(
        "{ uri: '${MONGODB_URI}', ingest: { key: '${TOKEN}' } }",
        "one of them only",
    );
    of("{ ingest: {} }", "no `key` and no `hmac`");
    of("{ ingest: { key: short } }", "`key` of source `a` is short");
    of(
        "{ ingest: { key: '${TOKEN}', hmac: '' } }",
        "`hmac` of source `a` is short",
    );
    of(
        "{ ingest: { key: '${TOKEN}', retention: 1s } }",
        "1m at least",
    );
    of(
        "{ ingest: { key: '${TOKEN}', largest_request: 1GB } }",
        "256MB at most",
    );
    of(
        "{ ingest: { key: '${TOKEN}', largest_request: much } }",
        "`much` is no size",
    );
    of(
        "{ ingest: { key: '${TOKEN}' }, read_preference: secondary }",
        "`read_preference` of source `a`",
    );
    let problems = parse("sources: { a: { ingest: { key: '${TOKEN}' } } }\n").unwrap_err();
    assert!(
        problems[0].contains("there is no `server`"),
        "{problems:#?}"
    );
}

#[test]
fn what_needs_the_deployment_itself_is_for_one_with_an_address() {
    is_wrong(
        "flows: { f: { from: atlas, to: dwh } }\n",
        &["it goes through a lake"],
    );
    is_wrong(
        "flows: { f: { from: atlas, to: main, options: { on_lost_history: reload } } }\n",
        &["`on_lost_history: reload` is for a source with `uri`"],
    );
    is_wrong(
        "jobs: { j: { steps: { s: { copy: { from: atlas, to: main } } } } }\n",
        &["`copy` is for a source with `uri`"],
    );
    is_wrong(
        "jobs: { j: { steps: { s: { verify: { from: atlas, to: main } } } } }\n",
        &["`atlas` is a pushed source; here stands a source"],
    );
    is_wrong(
        "triggers: { t: { source: atlas, operations: [insert], function: t.js, match: '{}' } }\n",
        &["`match` and `project` are for a source with `uri`"],
    );
    is_wrong(
        "triggers: { t: { source: atlas, schedule: '0 2 * * *', function: t.js } }\n",
        &["`atlas` is a pushed source; here stands a source"],
    );
}
