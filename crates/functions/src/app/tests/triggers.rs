//! Triggers by themselves, and the files of triggers.

use bson::doc;
use chrono::{TimeZone, Utc};

use super::{EMPTY, document, findings, right, wrong};
use crate::app::{
    App, DatabaseTrigger, EventBridge, Operation, Processor, ScheduledTrigger, Scope, Trigger,
    TriggerEvent, check_trigger_name, parse_expression,
};

const SOURCE: (&str, &str) = (
    "data_sources/main/config.json",
    r#"{"name": "main", "type": "mongodb-atlas", "config": {"clusterName": "C0"}}"#,
);
const SECOND: (&str, &str) = (
    "data_sources/second/config.json",
    r#"{"name": "second", "type": "mongodb-atlas", "config": {"clusterName": "C1"}}"#,
);

/// The file of a trigger on changes with these settings.
fn on_changes(config: &str) -> String {
    format!(r#"{{"name": "t", "type": "DATABASE", "function_name": "f", "config": {{{config}}}}}"#)
}

fn read(sources: &[(&str, &str)], config: &str) -> App {
    let trigger = on_changes(config);
    let mut files = vec![("functions/f.js", EMPTY), ("triggers/t.json", &trigger)];
    files.extend(sources);
    right(&files)
}

fn fails(sources: &[(&str, &str)], config: &str, part: &str) {
    let trigger = on_changes(config);
    let mut files = vec![("functions/f.js", EMPTY), ("triggers/t.json", &trigger)];
    files.extend(sources);
    let told = wrong(&files);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("triggers/t.json: "), "{told:#?}");
    assert!(told[0].contains(part), "{part}\n{told:#?}");
}

fn database(app: &App) -> &DatabaseTrigger {
    match &app.triggers[0].event {
        TriggerEvent::Database(database) => database,
        TriggerEvent::Scheduled(_) => panic!("a trigger on changes"),
    }
}

#[test]
fn every_operation_has_its_names_and_its_scope() {
    let expected = [
        ("INSERT", "insert", Scope::Collection, false),
        ("UPDATE", "update", Scope::Collection, false),
        ("REPLACE", "replace", Scope::Collection, false),
        ("DELETE", "delete", Scope::Collection, false),
        ("CREATE_COLLECTION", "create", Scope::Database, true),
        ("MODIFY_COLLECTION", "modify", Scope::Database, true),
        ("RENAME_COLLECTION", "rename", Scope::Database, false),
        ("DROP_COLLECTION", "drop", Scope::Database, false),
        ("SHARD_COLLECTION", "shardCollection", Scope::Database, true),
        (
            "RESHARD_COLLECTION",
            "reshardCollection",
            Scope::Database,
            true,
        ),
        (
            "REFINE_COLLECTION_SHARD_KEY",
            "refineCollectionShardKey",
            Scope::Database,
            true,
        ),
        ("CREATE_INDEXES", "createIndexes", Scope::Database, true),
        ("DROP_INDEXES", "dropIndexes", Scope::Database, true),
        ("DROP_DATABASE", "dropDatabase", Scope::Deployment, false),
    ];
    let scopes = [Scope::Collection, Scope::Database, Scope::Deployment];
    assert_eq!(Operation::ALL.len(), expected.len());
    for (name, stream, narrowest, is_expanded) in expected {
        let operation = Operation::parse(name).unwrap();
        assert_eq!(operation.name(), name);
        assert_eq!(operation.change_stream_name(), stream);
        assert_eq!(operation.is_expanded(), is_expanded, "{name}");
        for scope in scopes {
            assert_eq!(
                scope.check(vec![operation]).is_ok(),
                scope >= narrowest,
                "{name} on {scope}"
            );
        }
    }
}

#[test]
fn operations_are_checked_where_they_are_watched() {
    let on = |database: Option<&str>, collection: Option<&str>, operations: &[Operation]| {
        DatabaseTrigger::new(
            "main",
            database.map(str::to_owned),
            collection.map(str::to_owned),
            operations.to_vec(),
        )
    };
    let twice = [Operation::Delete, Operation::Insert, Operation::Delete];
    let trigger = on(Some("a"), Some("b"), &twice).unwrap();
    assert_eq!(trigger.operations, [Operation::Delete, Operation::Insert]);
    assert_eq!(trigger.scope(), Scope::Collection);
    assert!(!trigger.full_document && trigger.matching.is_none());
    assert_eq!(
        on(Some("a"), Some("b"), &[Operation::DropCollection]).unwrap_err(),
        "DROP_COLLECTION is not seen by a trigger on a collection: watch a database or a deployment"
    );
    assert_eq!(
        on(Some("a"), None, &[Operation::DropDatabase]).unwrap_err(),
        "DROP_DATABASE is not seen by a trigger on a database: watch a deployment"
    );
    assert!(on(None, None, &[Operation::DropDatabase]).is_ok());
    assert_eq!(
        on(None, Some("b"), &[Operation::Insert]).unwrap_err(),
        "the collection `b` is of no database"
    );
    assert_eq!(
        on(Some("a"), None, &[]).unwrap_err(),
        "there is no operation to fire on"
    );
}

#[test]
fn an_expression_is_extended_json_and_an_empty_one_says_nothing() {
    assert_eq!(parse_expression(""), Ok(None));
    assert_eq!(parse_expression(" {} "), Ok(None));
    let parsed = parse_expression(r#"{"a": {"$numberLong": "3"}, "b": 1}"#);
    assert_eq!(
        document(&parsed.unwrap().unwrap()),
        doc! { "a": 3_i64, "b": 1 }
    );
    assert!(parse_expression("[1]").is_err());
    assert!(parse_expression(r#"{"a": {"$oid": "short"}}"#).is_err());
}

#[test]
fn a_schedule_has_five_fields_and_comes_in_utc() {
    let scheduled = ScheduledTrigger::new("0 2 * * *", true).unwrap();
    let at = Utc.with_ymd_and_hms(2024, 3, 1, 2, 0, 0).unwrap();
    let next = scheduled.cron.find_next_occurrence(&at, false).unwrap();
    assert_eq!(next, Utc.with_ymd_and_hms(2024, 3, 2, 2, 0, 0).unwrap());
    assert!(ScheduledTrigger::new("*/15 8-17 * * MON-FRI", false).is_ok());
    for (text, part) in [
        ("@daily", "has not the five fields"),
        ("0 0 2 * * *", "has not the five fields"),
        ("0 25 * * *", "is no cron pattern"),
        ("x * * * *", "is no cron pattern"),
        ("0 0 30 2 *", "is a time that never comes"),
    ] {
        let error = ScheduledTrigger::new(text, false).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_trigger_has_a_plain_name() {
    assert_eq!(check_trigger_name("on_order-2"), Ok(()));
    assert_eq!(check_trigger_name(&"x".repeat(64)), Ok(()));
    for name in ["", "with space", "naïve", "a/b", &"x".repeat(65)] {
        let scheduled = ScheduledTrigger::new("* * * * *", false).unwrap();
        let event = TriggerEvent::Scheduled(scheduled);
        let function = Processor::Function("f".to_owned());
        assert!(
            Trigger::new(name, "file", event, function).is_err(),
            "{name}"
        );
    }
}

#[test]
fn an_aws_account_has_twelve_digits() {
    assert!(EventBridge::new("012345678901", "us-east-1", false).is_ok());
    assert!(EventBridge::new("12345678901", "us-east-1", false).is_err());
    assert!(EventBridge::new("12345678901x", "us-east-1", false).is_err());
}

#[test]
fn a_project_may_be_written_as_text() {
    let app = read(
        &[SOURCE],
        r#""service_name": "main", "database": "d", "operation_types": ["insert"],
           "match": "", "project": "{\"fullDocument\": 1}", "maximum_throughput": true,
           "full_document_before_change": true, "skip_catchup_events": true"#,
    );
    let trigger = database(&app);
    assert_eq!(trigger.matching, None);
    assert_eq!(
        document(trigger.project.as_ref().unwrap()),
        doc! { "fullDocument": 1 }
    );
    assert!(trigger.maximum_throughput && trigger.full_document_before_change);
    assert!(trigger.skip_catchup_events);
    assert_eq!(trigger.scope(), Scope::Database);
    assert_eq!(findings(&app), Vec::<String>::new());
}

#[test]
fn a_data_source_is_named_by_name_by_cluster_or_by_being_the_only_one() {
    const REST: &str = r#""operation_types": ["DELETE"]"#;
    let service = |sources: &[(&str, &str)], config: &str| {
        let app = read(sources, &format!("{config}{REST}"));
        database(&app).service.clone()
    };
    let both = [SOURCE, SECOND];
    assert_eq!(service(&both, r#""service_name": "second", "#), "second");
    assert_eq!(service(&both, r#""cluster_name": "C1", "#), "second");
    assert_eq!(service(&both, r#""cluster_names": ["C1"], "#), "second");
    assert_eq!(service(&[SOURCE], r#""service_id": "unknown", "#), "main");
    assert_eq!(service(&[SOURCE], ""), "main");
    fails(
        &both,
        REST,
        "nothing says which of the data sources it watches",
    );
    fails(
        &both,
        &format!(r#""cluster_names": ["C0", "C1"], {REST}"#),
        "it watches several clusters",
    );
    fails(
        &both,
        &format!(r#""service_name": "seconb", {REST}"#),
        "there is no data source `seconb` (did you mean `second`?)",
    );
    let http = (
        "services/web/config.json",
        r#"{"name": "web", "type": "http"}"#,
    );
    fails(
        &[SOURCE, http],
        &format!(r#""service_name": "web", {REST}"#),
        "the service `web` is no database",
    );
}

#[test]
fn an_application_without_data_sources_has_those_of_its_triggers() {
    let app = read(
        &[],
        r#""service_name": "main", "operation_types": ["DELETE"]"#,
    );
    assert_eq!(database(&app).service, "main");
    assert_eq!(app.program().services["main"], "mongodb");
    assert_eq!(
        findings(&app),
        [
            "triggers/t.json: the data source `main` is not described (add data_sources/main/config.json)"
        ]
    );
    let app = read(&[], r#""operation_types": ["DELETE"]"#);
    assert_eq!(database(&app).service, "mongodb-atlas");
}

#[test]
fn what_is_wrong_with_a_trigger_is_told() {
    const REST: &str = r#""service_name": "main", "database": "d", "collection": "c""#;
    let fails = |config: &str, part: &str| fails(&[SOURCE], config, part);
    fails(REST, "there is no operation to fire on");
    fails(
        &format!(r#"{REST}, "operation_types": ["UPSERT"]"#),
        "there is no operation `UPSERT`; there is INSERT",
    );
    fails(
        &format!(r#"{REST}, "operation_types": ["DROP_COLLECTION"]"#),
        "DROP_COLLECTION is not seen by a trigger on a collection",
    );
    fails(
        r#""service_name": "main", "collection": "c", "operation_types": ["INSERT"]"#,
        "the collection `c` is of no database",
    );
    fails(
        &format!(r#"{REST}, "operation_types": ["INSERT"], "match": [1]"#),
        "`config.match` cannot be used: it is no document",
    );
    fails(
        &format!(r#"{REST}, "operation_types": ["INSERT"], "project": {{"a": {{"$oid": 1}}}}"#),
        "`config.project` cannot be used: malformed extended JSON",
    );
    fails(
        &format!(r#"{REST}, "operation_types": ["INSERT"], "unordered": "yes""#),
        "`config.unordered` is not `true` or `false`",
    );
}

fn of_trigger(text: &str) -> Vec<String> {
    wrong(&[
        SOURCE,
        ("functions/handle.js", EMPTY),
        ("triggers/t.json", text),
    ])
}

#[test]
fn a_function_that_is_not_there_is_told_with_the_nearest() {
    let told = of_trigger(
        r#"{"name": "t", "type": "SCHEDULED", "function_name": "handle2",
            "config": {"schedule": "0 0 * * *"}}"#,
    );
    assert_eq!(
        told,
        [
            "triggers/t.json: the trigger `t` calls `handle2`, and there is no such function (did you mean `handle`?)"
        ]
    );
}

#[test]
fn a_disabled_trigger_may_name_a_function_that_is_gone() {
    let app = right(&[
        ("functions/handle.js", EMPTY),
        (
            "triggers/t.json",
            r#"{"name": "t", "type": "SCHEDULED", "function_name": "gone", "disabled": true,
                "config": {"schedule": "0 0 * * *"}}"#,
        ),
    ]);
    assert!(app.triggers[0].disabled);
    assert!(findings(&app)[0].contains("there is no such function (add functions/gone.js)"));
}

#[test]
fn what_is_done_with_events_is_said_once() {
    const CONFIG: &str = r#""name": "t", "type": "SCHEDULED", "config": {"schedule": "0 0 * * *"}"#;
    let told = |rest: &str| of_trigger(&format!("{{{CONFIG}{rest}}}"));
    let is = |rest: &str, part: &str| {
        let told = told(rest);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains(part), "{told:#?}");
    };
    is("", "nothing is said of what is done with its events");
    is(
        r#", "function_name": "handle",
           "event_processors": {"FUNCTION": {"config": {"function_name": "other"}}}"#,
        "`function_name` is `handle`, and in `event_processors` it is `other`",
    );
    is(
        r#", "function_name": "handle", "event_processors":
           {"AWS_EVENTBRIDGE": {"config": {"account_id": "012345678901", "region": "r"}}}"#,
        "it has a function and AWS EventBridge",
    );
    is(
        r#", "event_processors": {"AWS_EVENTBRIDGE": {"config": {"account_id": "1", "region": "r"}}}"#,
        "`1` is no AWS account",
    );
    is(
        r#", "event_processors": {"AWS_EVENTBRIDGE": {"config": {"account_id": "012345678901"}}}"#,
        "`event_processors.AWS_EVENTBRIDGE.config.region` is missing",
    );
}

#[test]
fn names_and_types_of_triggers_are_checked() {
    let rest = r#""function_name": "handle", "config": {"schedule": "0 0 * * *"}"#;
    let told = of_trigger(&format!(
        r#"{{"name": "no name", "type": "SCHEDULED", {rest}}}"#
    ));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("`no name` is no name of a trigger"),
        "{told:#?}"
    );
    let told = of_trigger(&format!(r#"{{"name": "t", "type": "HOURLY", {rest}}}"#));
    assert!(
        told[0].contains("there is no trigger of type `HOURLY`"),
        "{told:#?}"
    );
    let told = of_trigger(&format!("{{{rest}}}"));
    assert!(told[0].contains("`name` is missing"), "{told:#?}");
    assert!(told[1].contains("`type` is missing"), "{told:#?}");
    let never = r#"{"name": "t", "type": "SCHEDULED", "function_name": "handle",
                    "config": {"schedule": "0 0 31 4 *"}}"#;
    assert!(of_trigger(never)[0].contains("`0 0 31 4 *` is a time that never comes"));
}

#[test]
fn two_triggers_of_one_name_are_told() {
    let text = r#"{"name": "t", "type": "SCHEDULED", "function_name": "f",
                   "config": {"schedule": "0 0 * * *"}}"#;
    let told = wrong(&[
        ("functions/f.js", EMPTY),
        ("triggers/a.json", text),
        ("triggers/b.json", text),
    ]);
    assert_eq!(
        told,
        [
            "triggers/b.json: the trigger `t` is in triggers/a.json too (give one of them another name)"
        ]
    );
}

#[test]
fn settings_of_triggers_that_are_not_known_are_findings() {
    let app = right(&[
        ("functions/f.js", EMPTY),
        ("triggers/notes.txt", "not read"),
        (
            "triggers/t.json",
            r#"{"name": "t", "type": "SCHEDULED", "colour": 1, "function_name": "f",
                "error_handler": {"config": {"enabled": true, "function_name": "f"}},
                "config": {"schedule": "0 0 * * *", "schedule_type": "ADVANCED", "zone": "UTC"}}"#,
        ),
    ]);
    let found = findings(&app);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("triggers/notes.txt: is not read"));
    assert!(found[1].contains("`colour` is not a known setting"));
    assert!(found[2].contains("`config.zone` is not a known setting"));
    assert!(found[3].contains("`error_handler` is not honoured"));
}
