//! What is wrong in a file is told with its place, all at once, with the name that may be meant.

mod fuzz;
mod ingest;
mod publish;
mod refused;
mod triggers;

use std::path::Path;
use std::time::Duration;

use super::{Place, Plan, Secret, Watched, Work};

fn parse(text: &str) -> Result<Plan, Vec<String>> {
    let variables = |name: &str| match name {
        "MONGODB_URI" => Some("mongodb://localhost/shop".to_owned()),
        "WAREHOUSE" => Some("postgres://u:p@localhost/dwh".to_owned()),
        "TOKEN" => Some("0123456789abcdef0123456789abcdef".to_owned()),
        _ => None,
    };
    Plan::parse(text, Path::new("/etc/tributary"), &variables)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

const PLACES: &str = "\
sources:
  shop: { uri: '${MONGODB_URI}', read_preference: secondary }
lakes:
  main: { path: ./lake }
warehouses:
  dwh: { uri: '${WAREHOUSE}', tables: { shop.orders: { primary_key: [number] } } }
";

/// A file with places and what follows them, and what is wrong with it.
fn wrong(rest: &str, expected: &[&str]) {
    let problems = match parse(&format!("{PLACES}{rest}")) {
        Ok(_) => Vec::new(),
        Err(problems) => problems,
    };
    let shown = problems.join("\n");
    assert_eq!(problems.len(), expected.len(), "{shown}");
    for (problem, part) in problems.iter().zip(expected) {
        assert!(problem.contains(part), "{problem}\nshould contain\n{part}");
    }
}

#[test]
fn a_whole_file_is_a_plan() {
    let plan = parse(&format!(
        "{PLACES}
flows:
  shop: {{ from: shop, to: main, collections: [orders], options: {{ commit_interval: 500ms }} }}
jobs:
  nightly:
    schedule: {{ cron: '0 2 * * *', time_zone: Europe/Berlin }}
    timeout: 2h
    steps:
      load: {{ sync: {{ from: main, to: dwh }}, retries: {{ times: 3 }} }}
      totals:
        needs: [load]
        sql: {{ lake: main, query: 'SELECT 1', into: shop.totals }}
      tell: {{ needs: [totals], command: {{ run: [./tell.sh, now], environment: {{ A: b }} }} }}
  loaded:
    on_object: {{ directory: in, matching: '**/*.csv' }}
    steps: {{ check: {{ verify: {{ from: shop, to: main }} }} }}
alerts:
  notify:
    ops: {{ webhook: {{ url: https://hooks.example.com/x }} }}
  rules:
    slow: {{ when: {{ lag_above: 5m }}, flows: ['sh*'] }}
server:
  tokens: {{ me: {{ token: '${{TOKEN}}', role: operate }} }}
"
    ))
    .unwrap();
    assert_eq!(plan.state, Path::new("/etc/tributary/tributary.state"));
    assert_eq!(
        plan.places["main"],
        Place::Lake("/etc/tributary/lake".to_owned())
    );
    let nightly = &plan.jobs["nightly"];
    assert_eq!(nightly.timeout, Some(Duration::from_secs(7200)));
    assert_eq!(nightly.steps["load"].retries.times, 3);
    let Work::Command(command) = &nightly.steps["tell"].work else {
        panic!("{nightly:?}")
    };
    assert_eq!(command.program, "./tell.sh");
    assert_eq!(
        plan.jobs["loaded"].on_object.as_ref().unwrap().watched,
        Watched::Directory("/etc/tributary/in".into())
    );
    assert_eq!(plan.rules["slow"].notify, ["ops"]);
    let shown = format!("{plan:?}");
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
    assert!(!shown.contains("u:p@"), "{shown}");
    assert!(!shown.contains("hooks.example.com"), "{shown}");
}

#[test]
fn an_empty_file_is_a_plan_of_nothing() {
    for text in ["", "# nothing\n", "{}"] {
        let plan = parse(text).unwrap();
        assert!(plan.flows.is_empty() && plan.jobs.is_empty() && plan.server.is_none());
    }
}

#[test]
fn keys_and_values_that_are_none_are_told_with_the_nearest() {
    wrong(
        "flowz: {}\n",
        &["7:1: there is no key `flowz`; did you mean `flows`?"],
    );
    wrong(
        "flows:\n  a: { from: shop, to: main, collection: [x] }\n",
        &["8:30: there is no key `collection`; did you mean `collections`?"],
    );
    wrong(
        "flows:\n  a: { from: shop, to: main, options: { on_drop: cleer } }\n",
        &["there is no value `cleer`; did you mean `clear`?"],
    );
    wrong(
        "jobs:\n  a: { overlap: never, steps: {} }\n",
        &["there is no value `never`; there is `skip`, `queue`, `replace`"],
    );
}

#[test]
fn values_of_another_type_are_told() {
    wrong(
        "flows:\n  a: { from: shop, to: main, paused: perhaps }\n",
        &["8:38: "],
    );
    wrong(
        "flows:\n  a: { from: shop }\n",
        &["the key `to` is missing"],
    );
    wrong(
        "keep_history: 3\n",
        &["7:15: `3` has no unit: use ms, s, m, h or d"],
    );
    wrong(
        "flows:\n  a: { from: shop, to: main, options: { parallel: 999 } }\n",
        &["it is 1 at least and 256 at most"],
    );
    wrong("jobs: [a, b]\n", &["7:7: "]);
    wrong(
        "jobs:\n  'a b': { steps: {} }\n",
        &["8:3: `a b` is no name"],
    );
}

#[test]
fn what_is_wrong_with_a_text_of_several_lines_is_told_in_one() {
    wrong(
        "keep_history: \"3d\\nx\"\n",
        &["unknown unit `d x`: use ms, s, m, h or d"],
    );
}

#[test]
fn a_variable_that_is_not_set_is_told_where_it_stands() {
    wrong(
        "state: /var/lib/${NOWHERE}/t\n",
        &["7:8: the environment variable NOWHERE is not set"],
    );
    // A comment names what it likes.
    parse("# ${NOWHERE}\nstate: here\n").unwrap();
}

#[test]
fn what_secrets_were_read_from_is_known_where_programs_run() {
    let text =
        "state: /var/lib/${TOKEN}\njobs:\n  a: { steps: { b: { command: { run: ['true'] } } } }\n";
    let plan = parse(&format!("{PLACES}{text}")).unwrap();
    let Work::Command(command) = &plan.jobs["a"].steps["b"].work else {
        panic!("{plan:?}");
    };
    let secrets: Vec<&str> = command.secrets.iter().map(Secret::as_str).collect();
    assert_eq!(
        secrets,
        ["mongodb://localhost/shop", "postgres://u:p@localhost/dwh"]
    );
}

#[test]
fn a_name_that_is_there_twice_is_told() {
    wrong(
        "flows:\n  a: { from: shop, to: main }\n  a: { from: shop, to: main }\n",
        &["9:3: `a` is there twice"],
    );
    wrong("flows: {}\nflows: {}\n", &["8:1: `flows` is there twice"]);
    let text = "sources: { x: { uri: mongodb://h/ } }\nlakes: { x: { path: l } }\n";
    let problems = parse(text).unwrap_err();
    assert!(
        problems[0].contains("`x` is a source and a lake"),
        "{problems:?}"
    );
}

#[test]
fn names_of_what_is_not_there_are_told_all_at_once() {
    wrong(
        "\
flows:
  a: { from: shopp, to: main }
  b: { from: shop, to: warehouse9 }
  c: { from: dwh, to: main }
jobs:
  d:
    after: [e]
    steps: { x: { needs: [y], sync: { from: main, to: dw } } }
",
        &[
            "8:14: there is no source or lake `shopp`; did you mean `shop`?",
            "9:24: there is no lake or warehouse `warehouse9`; there is `dwh`, `main`",
            "10:14: `dwh` is a warehouse; here stands a source or lake",
            "13:13: there is no job `e`; there is `d`",
            "14:27: there is no step `y`; there is `x`",
            "14:55: there is no lake or warehouse `dw`; did you mean `dwh`?",
        ],
    );
}

#[test]
fn routes_that_lead_nowhere_are_told() {
    wrong(
        "flows:\n  a: { from: shop, to: dwh }\n",
        &["8:24: from a source into a warehouse it goes through a lake"],
    );
    wrong(
        "flows:\n  a: { from: main, to: main }\n",
        &["from a lake it goes into a warehouse"],
    );
    wrong(
        "flows:\n  a: { from: shop, to: main, through: main }\n",
        &["`through` is for what goes from a source into a warehouse"],
    );
    wrong(
        "flows:\n  a: { from: main, to: dwh, options: { history: true, on_drop: clear } }\n",
        &[
            "`history` is for what comes from a source",
            "`on_drop` is for what comes from a source",
        ],
    );
    wrong(
        "flows:\n  a: { from: shop, to: main, options: { symlink_manifest: true } }\n",
        &["needs `deletion_vectors: false`"],
    );
}

#[test]
fn circles_are_told_with_the_way_round() {
    wrong(
        "\
jobs:
  a:
    steps:
      x: { needs: [z], command: { run: [x] } }
      y: { needs: [x], command: { run: [x] } }
      z: { needs: [y], command: { run: [x] } }
",
        &["10:20: `needs` goes in a circle: x → z → y → x"],
    );
    wrong(
        "\
jobs:
  a: { after: [b], steps: { x: { command: { run: [x] } } } }
  b: { after: [a], steps: { x: { command: { run: [x] } } } }
",
        &["`after` goes in a circle: a → b → a"],
    );
}

#[test]
fn schedules_that_cannot_be_are_told() {
    let job = |schedule: &str| {
        format!(
            "jobs:\n  a: {{ schedule: {schedule}, steps: {{ x: {{ command: {{ run: [x] }} }} }} }}\n"
        )
    };
    wrong(
        &job("{ cron: '0 2 * *' }"),
        &["8:26: `0 2 * *` is no cron pattern"],
    );
    wrong(
        &job("{ cron: '0 0 30 2 *' }"),
        &["`0 0 30 2 *` is a moment that never comes"],
    );
    wrong(
        &job("{ cron: '0 0 * * *', time_zone: Europe/Berln }"),
        &["there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`?"],
    );
    wrong(
        &job("{ cron: '0 0 * * *', time_zone: Middle-earth/Shire }"),
        &["there is no time zone `Middle-earth/Shire`"],
    );
}

#[test]
fn steps_do_one_thing() {
    let step = |step: &str| format!("jobs:\n  a: {{ steps: {{ x: {step} }} }}\n");
    let one = "a step is one of `copy`, `sync`, `verify`, `sql` and `command`";
    wrong(&step("{ timeout: 1s }"), &[one]);
    wrong(
        &step("{ command: { run: [x] }, verify: { from: shop, to: main } }"),
        &[one],
    );
    wrong(&step("{ command: { run: [] } }"), &["names no program"]);
    wrong(
        &step("{ sql: { lake: main, script: 'SELECT 1' } }"),
        &["`sql` has a `lake` and a `query`, or a `warehouse` and a `script`"],
    );
    wrong(
        &step("{ sql: { lake: main, query: 'SELECT 1', into: totals } }"),
        &["`totals` is no table: write database.table"],
    );
    wrong(
        "jobs:\n  a: { steps: {} }\n",
        &["a job has one step at least"],
    );
}

#[test]
fn what_listens_beyond_this_machine_is_protected() {
    wrong(
        "server: { listen: '0.0.0.0:8087' }\n",
        &[
            "listening beyond this machine needs `tokens`",
            "listening beyond this machine needs `tls`",
        ],
    );
    wrong(
        "server: { tokens: { a: { token: short, role: read } } }\n",
        &["the token `a` is too short"],
    );
    wrong(
        "server: { listen: localhost }\n",
        &["is no address and port"],
    );
    parse("server: { listen: '0.0.0.0:8087', behind_proxy: true, tokens: { a: { token: '${TOKEN}', role: read } } }\n").unwrap();
}

#[test]
fn alerts_that_reach_nobody_are_told() {
    wrong(
        "alerts: { notify: { a: { stderr: true } }, rules: { r: { when: run_failed, notify: [b] } } }\n",
        &["there is no receiver `b`; there is `a`"],
    );
    wrong(
        "alerts: { rules: { r: { when: run_failed } } }\n",
        &["there is nobody to tell"],
    );
    wrong(
        "alerts: { notify: { a: {} } }\n",
        &["a receiver is one of `webhook`, `email` and `stderr: true`"],
    );
    wrong(
        "alerts: { notify: { a: { email: { server: 'smtp://u:p@h', from: a@b.c, to: [a@b.c] } } } }\n",
        &["`server` is no address of a mail server"],
    );
    wrong(
        "alerts: { notify: { a: { stderr: true } }, rules: { r: { when: { lag_above: 5 } } } }\n",
        &["`5` has no unit"],
    );
    wrong(
        "alerts: { notify: { a: { stderr: true } }, rules: { r: { when: run_failed, jobs: [nightly] } } }\n",
        &["there is no job `nightly`"],
    );
}

#[test]
fn secrets_are_not_told() {
    let text = "warehouses: { w: { uri: 'mysql://user:hunter2@h/d' } }\nsources: { s: { uri: 'hunter2' } }\n";
    let problems = parse(text).unwrap_err().join("\n");
    assert!(problems.contains("is not postgres://"), "{problems}");
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn the_schema_for_editors_knows_what_the_file_knows() {
    let schema = super::json_schema();
    let keys = schema["properties"].as_object().unwrap();
    for key in [
        "sources",
        "lakes",
        "warehouses",
        "flows",
        "jobs",
        "apps",
        "triggers",
        "alerts",
        "server",
    ] {
        assert!(keys.contains_key(key), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false);
    assert!(
        schema["$defs"]["FlowEntry"]["required"]
            .as_array()
            .unwrap()
            .contains(&"from".into())
    );
}
