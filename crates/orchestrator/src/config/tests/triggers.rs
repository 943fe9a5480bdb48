//! Applications and triggers.

use std::path::Path;
use std::time::Duration;

use super::{PLACES, parse, wrong};
use crate::config::{
    ChangeKind, Condition, Environment, FunctionOptions, Occasion, OnFailure, Plan, json_schema,
};

fn plan(rest: &str) -> Plan {
    parse(&format!("{PLACES}{rest}")).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn an_app_says_where_it_is_and_what_it_reaches() {
    let plan = plan(
        "\
apps:
  billing:
    path: ./app
    source: shop
    data_sources: { mongodb-atlas: shop, 'the archive': shop }
    environment: production
    secrets: { STRIPE_KEY: '${TOKEN}' }
    allow_hosts: [api.Example.com, '*.internal.example.com', '::1']
    aws: { endpoint: 'http://localhost:4566', region: eu-central-1 }
    options:
      timeout: 30s
      memory: 512MB
      concurrency: 10
      retries: { times: 5, wait: 2s, longest_wait: 10s }
      on_failure: suspend
      auto_resume: 10m
      log_successes: true
    triggers:
      on order: { disabled: true, memory: 64, retries: { times: 0 }, on_failure: skip }
",
    );
    let app = &plan.apps["billing"];
    assert_eq!(app.path, Path::new("/etc/tributary/app"));
    assert_eq!(app.source.as_ref().unwrap().name, "shop");
    assert_eq!(app.data_sources["the archive"].name, "shop");
    assert_eq!(app.environment, Some(Environment::Production));
    let reach = &app.reach;
    assert_eq!(
        reach.secrets["STRIPE_KEY"].as_str(),
        "0123456789abcdef0123456789abcdef"
    );
    let hosts = reach.allow_hosts.as_ref().unwrap();
    assert_eq!(*hosts, ["api.example.com", "*.internal.example.com", "::1"]);
    assert_eq!(reach.aws_endpoint.as_deref(), Some("http://localhost:4566"));
    assert_eq!(reach.aws_region.as_deref(), Some("eu-central-1"));

    let other = app.options_of("another");
    assert_eq!(*other, app.options);
    assert_eq!(
        (other.timeout, other.memory, other.concurrency),
        (Duration::from_secs(30), 512 << 20, 10)
    );
    assert_eq!((other.disabled, other.log_successes), (None, true));
    let own = app.options_of("on order");
    assert_eq!((own.disabled, own.memory), (Some(true), 64 << 20));
    assert_eq!((own.retries.times, own.on_failure), (0, OnFailure::Skip));
    // What is not said of it is as for all.
    assert_eq!(own.retries.wait, Duration::from_secs(2));
    assert_eq!(own.auto_resume, Some(Duration::from_secs(600)));
    assert!(!format!("{plan:?}").contains("0123456789abcdef"));
}

#[test]
fn an_app_needs_no_more_than_its_directory() {
    let plan = plan("apps: { a: { path: /srv/a } }\n");
    let app = &plan.apps["a"];
    assert_eq!((app.source.as_ref(), app.environment), (None, None));
    assert_eq!(app.reach.allow_hosts, None);
    assert_eq!(app.options, FunctionOptions::default());
}

#[test]
fn a_trigger_runs_on_changes_or_by_a_schedule() {
    let plan = plan(
        r#"
triggers:
  notify:
    source: shop
    database: shop
    collection: orders
    operations: [insert, drop]
    match: '{ "fullDocument.total": { "$gt": { "$numberLong": "5" } } }'
    project: '{ "fullDocument": 1 }'
    full_document: true
    ordered: false
    skip_catchup_events: true
    function: ./notify.js
    options: { disabled: true }
  all: { source: shop, operations: [drop_database], function: f.js }
  nightly: { schedule: '*/5 * * * *', function: /srv/f.js, source: shop }
"#,
    );
    let notify = &plan.triggers["notify"];
    assert_eq!(notify.function, Path::new("/etc/tributary/notify.js"));
    assert!(notify.is_disabled() && notify.skip_catchup_events);
    let Occasion::Changes(changes) = &notify.occasion else {
        panic!("{notify:?}")
    };
    assert_eq!(changes.place(), "shop.orders");
    assert_eq!(changes.operations, [ChangeKind::Insert, ChangeKind::Drop]);
    assert!(changes.full_document && !changes.full_document_before_change);
    assert!(!changes.ordered && !changes.tolerate_resume_errors);
    // { "fullDocument": 1 } as BSON.
    let project = b"\x17\0\0\0\x10fullDocument\0\x01\0\0\0\0";
    assert_eq!(changes.project.as_deref(), Some(project.as_slice()));
    assert!(changes.matching.is_some());

    let all = &plan.triggers["all"];
    let Occasion::Changes(changes) = &all.occasion else {
        panic!("{all:?}")
    };
    assert_eq!(changes.place(), "all databases");
    assert!(changes.ordered && !all.is_disabled());
    assert_eq!(changes.operations[0].name(), "dropDatabase");

    let nightly = &plan.triggers["nightly"];
    let Occasion::Moments { text, .. } = &nightly.occasion else {
        panic!("{nightly:?}")
    };
    assert_eq!(text, "*/5 * * * *");
}

#[test]
fn a_plan_of_the_same_triggers_is_the_same() {
    let text = "triggers: { t: { schedule: '0 2 * * *', function: f.js, secrets: { A: b } } }\napps: { a: { path: a } }\n";
    let (one, other) = (plan(text), plan(&format!("# moved\n\n{text}")));
    assert_eq!((&one.apps, &one.triggers), (&other.apps, &other.triggers));
    let other = plan(&text.replace("A: b", "A: c"));
    assert_eq!(one.apps, other.apps);
    assert_ne!(one.triggers, other.triggers);
}

#[test]
fn what_is_wrong_with_an_app_is_told() {
    wrong("apps: { a: {} }\n", &["the key `path` is missing"]);
    wrong(
        "apps: { a: { path: '' } }\n",
        &["the `path` of app `a` is empty"],
    );
    wrong(
        "apps:\n  a: { path: a, source: shopp, data_sources: { x: main, y: shop } }\n",
        &[
            "8:25: there is no source `shopp`; did you mean `shop`?",
            "8:51: `main` is a lake; here stands a source",
        ],
    );
    wrong(
        "apps: { a: { path: a, environment: prod } }\n",
        &["there is no value `prod`; there is `development`"],
    );
    wrong(
        "apps: { a: { path: a, allow_hosts: ['https://x.com', 'u@x.com', 'x.com/a', ''] } }\n",
        &[
            "`https://x.com` cannot be allowed",
            "`u@x.com` cannot be allowed",
            "`x.com/a` cannot be allowed",
            "`` cannot be allowed",
        ],
    );
    wrong(
        "apps:\n  a: { path: a, allow_hosts: ['*', 'a.*.b', 'api?.x', 'x.com:0', '10.0.0.0/33'] }\n",
        &[
            "8:31: `*` cannot be allowed: it is no host, address or network",
            "8:36: `a.*.b` cannot be allowed",
            "8:45: `api?.x` cannot be allowed",
            "8:55: `x.com:0` cannot be allowed: its port is no number from 1 to 65535",
            "8:66: `10.0.0.0/33` cannot be allowed: its network is larger than addresses are",
        ],
    );
    wrong(
        "apps: { a: { path: a, aws: { endpoint: localhost } } }\n",
        &["`localhost` is no address"],
    );
    wrong(
        "apps: { a: { path: a, secrets: { '': x }, triggers: { '': {} } } }\n",
        &["`` is no name of a trigger", "`` is no name of a secret"],
    );
    wrong(
        "apps: { a: { path: a, trigers: {} } }\n",
        &["there is no key `trigers`; did you mean `triggers`?"],
    );
}

#[test]
fn what_is_wrong_with_options_is_told() {
    let app = |options: &str| format!("apps: {{ a: {{ path: a, options: {{ {options} }} }} }}\n");
    wrong(&app("memory: 8MB"), &["memory is 16MB at least"]);
    wrong(&app("memory: 1TB"), &["`1TB` is no size"]);
    wrong(&app("memory: -1"), &["memory is 16MB at least"]);
    wrong(&app("memory: [1]"), &["expected"]);
    wrong(&app("timeout: 0s"), &["`timeout` is more than nothing"]);
    wrong(&app("timeout: 5"), &["`5` has no unit"]);
    wrong(&app("concurrency: 0"), &["nonzero"]);
    wrong(&app("auto_resume: 10ms"), &["`auto_resume` is 1s at least"]);
    wrong(
        &app("on_failure: skipp"),
        &["there is no value `skipp`; did you mean `skip`?"],
    );
    wrong(
        &app("retries: { time: 1 }"),
        &["there is no key `time`; did you mean `times`?"],
    );
}

#[test]
fn what_is_wrong_with_a_trigger_is_told() {
    let trigger = |text: &str| format!("triggers:\n  t: {{ function: f.js, {text} }}\n");
    let changes = |text: &str| trigger(&format!("source: shop, operations: [insert], {text}"));
    wrong(
        "triggers: { t: { source: shop } }\n",
        &["the key `function`"],
    );
    wrong(
        "triggers: { t: { schedule: '* * * * *', function: '' } }\n",
        &["the `function` of trigger `t` is no file"],
    );
    wrong(
        &trigger("operations: [insert]"),
        &["a `source` whose changes it runs on, or a `schedule`"],
    );
    wrong(&trigger("source: shop"), &["`operations` says what"]);
    wrong(
        &trigger("source: main, operations: [insert]"),
        &["`main` is a lake; here stands a source"],
    );
    wrong(
        &changes("collection: orders"),
        &["`collection` needs its `database`"],
    );
    wrong(
        &trigger("source: shop, operations: [insert, insert]"),
        &["`insert` is there twice"],
    );
    wrong(
        &trigger("source: shop, operations: [insrt]"),
        &["there is no value `insrt`; did you mean `insert`?"],
    );
    wrong(
        &trigger("source: shop, database: d, collection: c, operations: [drop_database]"),
        &["`drop_database` is no change of a collection"],
    );
    wrong(
        &changes("match: '{ a: 1 }', project: '[1]'"),
        &[
            "no document in Extended JSON",
            "no document in Extended JSON",
        ],
    );
    wrong(
        &trigger("schedule: '* * *'"),
        &["8:34: `* * *` is no cron pattern"],
    );
    wrong(
        &trigger("schedule: '0 0 30 2 *'"),
        &["is a moment that never comes"],
    );
    wrong(
        &trigger(
            "schedule: '* * * * *', operations: [insert], ordered: true, full_document: false",
        ),
        &[
            "`operations` is for a trigger on changes",
            "`full_document` is for a trigger on changes",
            "`ordered` is for a trigger on changes",
        ],
    );
    wrong(
        "triggers: { 'a/b': { schedule: '* * * * *', function: f.js } }\n",
        &["`a/b` is no name"],
    );
}

#[test]
fn rules_are_about_triggers_that_may_be_there() {
    let rules = |rule: &str| {
        format!(
            "\
apps: {{ billing: {{ path: a }} }}
triggers: {{ notify: {{ schedule: '* * * * *', function: f.js }} }}
alerts: {{ notify: {{ a: {{ stderr: true }} }}, rules: {{ r: {{ {rule} }} }} }}
"
        )
    };
    let found = plan(&rules(
        "when: { dead_letters: 10 }, triggers: [notify, 'billing/*', 'bill*/x', '*charge']",
    ));
    assert_eq!(found.rules["r"].triggers.len(), 4);
    assert!(matches!(found.rules["r"].when, Condition::DeadLetters(count) if count.get() == 10));
    wrong(
        &rules("when: trigger_suspended, triggers: [notfy]"),
        &["there is no trigger `notfy`; did you mean `notify`?"],
    );
    wrong(
        &rules("when: trigger_suspended, triggers: ['shipping/*']"),
        &["there is no trigger `shipping/*`"],
    );
    wrong(
        &rules("when: trigger_suspended, flows: ['*']"),
        &["`flows` is for what is told of flows", "there is no flow"],
    );
    wrong(
        &rules("when: run_failed, triggers: [notify]"),
        &["`triggers` is for `trigger_suspended` and `dead_letters`"],
    );
    wrong(&rules("when: { dead_letters: 0 }"), &["nonzero"]);
    let plan = plan("alerts: { notify: { a: { stderr: true } } }\n");
    let when = &plan.rules["suspended-triggers"].when;
    assert_eq!(*when, Condition::TriggerSuspended);
}

#[test]
fn the_schema_for_editors_knows_apps_and_triggers() {
    let schema = json_schema();
    for (key, entry) in [("apps", "AppEntry"), ("triggers", "TriggerEntry")] {
        let entries = schema["properties"][key]["patternProperties"].as_object();
        let reference = entries.unwrap().values().next().unwrap();
        assert_eq!(reference["$ref"], format!("#/$defs/{entry}"));
        assert_eq!(schema["$defs"][entry]["additionalProperties"], false);
    }
    let keys = schema["$defs"]["TriggerEntry"]["properties"].as_object();
    assert!(keys.unwrap().contains_key("match"));
}
