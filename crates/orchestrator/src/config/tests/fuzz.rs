//! No text, however it was damaged, brings the reader of the file down or keeps it busy for long.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::super::Plan;

const WHOLE: &str = r#"
state: /var/lib/tributary
keep_history: 30d
sources:
  shop: { uri: '${MONGODB_URI}', read_preference: secondary }
lakes:
  main: { path: ./lake }
warehouses:
  dwh:
    uri: ${WAREHOUSE:-postgres://u:p@localhost/dwh}
    tables: { shop.orders: { primary_key: [number] } }
streams:
  events: { uri: 'kinesis://orders', region: eu-central-1, partition_key: fullDocument.customer }
files:
  audit: { path: 's3://bucket/changes', json: canonical, gzip: true, batch_events: 1 }
flows:
  shop:
    from: shop
    to: main
    collections: [orders, "c*"]
    options:
      commit_interval: 500ms
      parallel: 4
      on_schema_change: stop
  out: { from: main, to: dwh }
  publish: { from: shop, to: events, options: { heartbeat: 5s } }
  audit: { from: shop, to: audit }
jobs:
  nightly:
    schedule:
      cron: '0 2 * * *'
      time_zone: Europe/Berlin
      catch_up: all
    timeout: 2h
    steps:
      load: { sync: { from: main, to: dwh }, retries: { times: 3, wait: 5s } }
      totals:
        needs: [load]
        sql:
          lake: main
          query: |
            SELECT 1
            FROM x
          into: shop.totals
      tell: { needs: [totals], command: { run: [./tell.sh, now], environment: { A: b } } }
  loaded:
    after: [nightly]
    on_object: { directory: in, matching: '**/*.csv', gather: 2s }
    steps: { check: { verify: { from: shop, to: main } } }
apps:
  billing:
    path: ./app
    source: shop
    data_sources: { mongodb-atlas: shop }
    environment: production
    secrets: { KEY: x }
    allow_hosts: [api.example.com, '*.example.com']
    aws: { endpoint: 'http://localhost:4566', region: eu-central-1 }
    options: { timeout: 30s, memory: 256MB, retries: { times: 5, wait: 1s }, on_failure: suspend }
    triggers: { charge: { disabled: true, memory: 64 } }
triggers:
  notify:
    source: shop
    database: shop
    operations: [insert, update]
    match: '{ "fullDocument.total": { "$gt": 5 } }'
    function: ./notify.js
  tick: { schedule: '*/5 * * * *', function: ./tick.js }
alerts:
  notify:
    ops: { webhook: { url: https://hooks.example.com/x, headers: { X: y } } }
    mail: { email: { server: 'smtps://h:465', from: a@b.c, to: [a@b.c] } }
  rules:
    slow: { when: { lag_above: 5m }, flows: ['sh*'], repeat: 1h }
    full: { when: { disk_above: 80 } }
    dead: { when: { dead_letters: 5 }, triggers: ['billing/*', notify] }
server:
  listen: 127.0.0.1:8087
  tokens: { me: { token: 0123456789abcdef0123, role: operate } }
telemetry: { otlp: http://localhost:4318, interval: 10s }
"#;

/// Reads a text; what is wrong with it is told in words.
fn read(text: &str) -> Result<(), Vec<String>> {
    let variables = |name: &str| (name == "MONGODB_URI").then(|| "mongodb://h/shop".to_owned());
    let read = Plan::parse(text, Path::new("/etc/tributary"), &variables);
    read.map(|_| ()).map_err(|problems| {
        assert!(!problems.is_empty(), "wrong without a reason: {text}");
        for problem in &problems {
            assert!(!problem.what.trim().is_empty(), "{problem:?} of {text}");
            assert!(!problem.what.contains('\n'), "{problem:?}");
        }
        problems.iter().map(ToString::to_string).collect()
    })
}

/// One way to damage a text; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Damage {
    Delete(usize),
    Duplicate(usize),
    Swap(usize, usize),
    Indent(usize, usize),
    Value(usize, String),
    Insert(usize, String),
    Cut(usize),
}

fn junk() -> impl Strategy<Value = String> {
    let known = [
        "~",
        "null",
        "[",
        "{",
        "]",
        "}",
        "*a",
        "&a",
        "<<",
        "!!binary x",
        "!x",
        "-1",
        "1e999",
        "99999999999999999999",
        "0x",
        ".nan",
        "${",
        "${A",
        "${NOWHERE}",
        "$${",
        "'",
        "\"",
        "|",
        ">",
        "? ",
        ": ",
        "- ",
        "---",
        "...",
        "%YAML 9",
        "\u{feff}",
        "\u{0}",
        "\t",
        "999999999999d",
        "0ms",
        "* * * * *",
        "60 * * * *",
        "**",
        "[a-",
        "a\u{301}",
        "\u{1f600}",
        "true",
        "no",
        "@",
        "`",
        "#",
    ];
    prop_oneof![
        3 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => vec(any::<char>(), 0..12).prop_map(String::from_iter),
        1 => vec(any::<u8>(), 0..12).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        1 => (1..3000_usize, proptest::sample::select(vec!["[", "{a: ", "- ", "x"]))
            .prop_map(|(times, part)| part.repeat(times)),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        at().prop_map(Damage::Delete),
        at().prop_map(Damage::Duplicate),
        (at(), at()).prop_map(|(a, b)| Damage::Swap(a, b)),
        (at(), 0..9_usize).prop_map(|(line, by)| Damage::Indent(line, by)),
        (at(), junk()).prop_map(|(line, junk)| Damage::Value(line, junk)),
        (at(), junk()).prop_map(|(at, junk)| Damage::Insert(at, junk)),
        at().prop_map(Damage::Cut),
    ]
}

/// The nearest place before `at` between two characters.
fn place(text: &str, at: usize) -> usize {
    let mut at = at % (text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn damaged(text: &str, damage: Damage) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let count = lines.len().max(1);
    if lines.is_empty() {
        lines.push(String::new());
    }
    match damage {
        Damage::Delete(line) => {
            lines.remove(line % count);
        }
        Damage::Duplicate(line) => {
            let twice = lines[line % count].clone();
            lines.insert(line % count, twice);
        }
        Damage::Swap(a, b) => lines.swap(a % count, b % count),
        Damage::Indent(line, by) => {
            let line = &mut lines[line % count];
            *line = format!("{}{}", " ".repeat(by), line.trim_start());
        }
        Damage::Value(line, junk) => {
            let line = &mut lines[line % count];
            let key = line.find(": ").map_or(0, |at| at + 2);
            line.replace_range(key.., &junk);
        }
        Damage::Insert(at, junk) => {
            let mut text = text.to_owned();
            text.insert_str(place(&text, at), &junk);
            return text;
        }
        Damage::Cut(at) => return text[..place(text, at)].to_owned(),
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(Config {
        cases: 400,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn a_damaged_file_is_read_or_told_what_is_wrong(damages in vec(damage(), 1..5)) {
        let text = damages.into_iter().fold(WHOLE.to_owned(), |text, one| damaged(&text, one));
        let _ = read(&text);
    }
}

#[test]
fn the_file_that_is_damaged_is_right_before() {
    assert_eq!(read(WHOLE), Ok(()));
}

#[test]
fn a_file_that_grows_without_end_is_refused() {
    // Where a list may stand, and where none may.
    for key in ["&a0 [x, x, x, x, x, x, x, x, x]", "&a0 'xxxxxxxxx'"] {
        let mut text = format!("lakes: {{ main: {{ path: l }} }}\nflows:\n  f0: {key}\n");
        for level in 1..30 {
            let before = format!("*a{}", level - 1);
            text += &format!(
                "  f{level}: &a{level} [{}]\n",
                [before.as_str(); 9].join(", ")
            );
        }
        let problems = read(&text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
    // All of it within one list of texts, which is where it would be kept.
    let mut text =
        "lakes: { main: { path: l } }\nwarehouses: { w: { uri: 'postgres://h/d' } }\n".to_owned();
    text += "flows:\n  f:\n    from: main\n    to: w\n    collections:\n";
    text += &format!("    - &a {}\n", "x".repeat(1000));
    text += &"    - *a\n".repeat(100_000);
    let problems = read(&text).unwrap_err();
    assert!(
        problems[0].contains("alias") || problems[0].contains("budget"),
        "{problems:?}"
    );
    // Few aliases of much.
    let much = format!("    - &a {}\n", "x".repeat(200_000));
    let start =
        "warehouses: { w: { uri: 'postgres://h/d' } }\nflows:\n  f:\n    from: w\n    to: w\n";
    let text = format!(
        "{start}    collections:\n{much}{}",
        "    - *a\n".repeat(1000)
    );
    let problems = read(&text).unwrap_err();
    assert!(problems[0].contains("ScalarBytes"), "{problems:?}");
    assert!(!problems[0].contains("(defined"), "{problems:?}");
    // A circle of one's own.
    assert!(read("flows: &a\n  f: *a\n").is_err());
    for deep in ["[", "{a: ", "- "] {
        assert!(read(&format!("flows: {}", deep.repeat(100_000))).is_err());
    }
}
