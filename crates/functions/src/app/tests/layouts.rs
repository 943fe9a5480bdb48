//! Whole applications, as they are exported.

use bson::{Bson, doc};
use serde_json::json;

use super::{check, document, findings, fixture, value};
use crate::app::{
    App, AppSettings, EndpointMethod, EventBridge, LogAction, Operation, Processor, ReturnType,
    Scope, ServiceKind, TriggerEvent, Validation,
};
use crate::script::AppMetadata;

fn current() -> App {
    check(&fixture("current_app"), "production").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn older() -> App {
    check(&fixture("older_app"), "").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn the_current_layout_is_read_with_its_triggers() {
    let app = current();
    let metadata = AppMetadata {
        name: "orders".to_owned(),
        id: "65f0c0ffee65f0c0ffee65f0".to_owned(),
        client_id: "orders-abcde".to_owned(),
        project_id: "5e1ec444970199272441a214".to_owned(),
        deployment_model: "LOCAL".to_owned(),
        provider_region: "aws-eu-central-1".to_owned(),
    };
    assert_eq!(app.metadata, metadata);
    let names: Vec<&str> = app.triggers.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["bus", "nightly", "onOrder"]);

    let [bus, nightly, on_order] = app.triggers.as_slice() else {
        panic!("three triggers")
    };
    assert!(bus.disabled);
    assert_eq!(bus.file, "triggers/bus.json");
    let bridge = EventBridge::new("012345678901", "us-east-1", true).unwrap();
    assert_eq!(bus.function, Processor::EventBridge(bridge));
    let TriggerEvent::Database(database) = &bus.event else {
        panic!("a trigger on changes")
    };
    assert_eq!(database.scope(), Scope::Deployment);
    assert_eq!(
        database.operations,
        [Operation::DropDatabase, Operation::RenameCollection]
    );

    let TriggerEvent::Scheduled(scheduled) = &nightly.event else {
        panic!("a trigger at times")
    };
    assert_eq!(scheduled.text, "0 2 * * *");
    assert!(scheduled.skip_catchup_events);
    assert_eq!(nightly.function, Processor::Function("nightly".to_owned()));

    assert!(!on_order.disabled);
    let TriggerEvent::Database(database) = &on_order.event else {
        panic!("a trigger on changes")
    };
    assert_eq!(database.service, "mongodb-atlas");
    assert_eq!(database.database.as_deref(), Some("shop"));
    assert_eq!(database.collection.as_deref(), Some("orders"));
    assert_eq!(database.operations, [Operation::Insert, Operation::Update]);
    assert!(database.full_document && !database.full_document_before_change);
    assert!(database.unordered && database.tolerate_resume_errors);
    assert!(!database.skip_catchup_events && !database.maximum_throughput);
    let total: bson::Decimal128 = "10.5".parse().unwrap();
    assert_eq!(
        document(database.matching.as_ref().unwrap()),
        doc! { "fullDocument.total": { "$gt": total } }
    );
    assert_eq!(database.project, None);
}

#[test]
fn the_current_layout_is_read_with_its_functions_and_modules() {
    let app = current();
    let names: Vec<&str> = app.functions.keys().map(String::as_str).collect();
    assert_eq!(names, ["hello", "mail/render", "nightly", "onOrder"]);
    let on_order = &app.functions["onOrder"];
    assert!(on_order.is_private && on_order.runs_as_system && !on_order.hides_arguments);
    assert_eq!(on_order.source.file, "functions/onOrder.js");
    assert!(on_order.source.text.starts_with("const render"));
    assert!(app.functions["mail/render"].hides_arguments);
    let modules: Vec<&str> = app.modules.keys().map(String::as_str).collect();
    assert_eq!(
        modules,
        [
            "hello.js",
            "mail/render.js",
            "mail/words.json",
            "nightly.js",
            "onOrder.js",
            "package.json"
        ]
    );
}

#[test]
fn the_current_layout_is_read_with_its_values_services_and_endpoints() {
    let app = current();
    let since = bson::DateTime::parse_rfc3339_str("2020-01-01T00:00:00Z").unwrap();
    assert_eq!(
        value(&app.values["shop"]),
        Bson::from(doc! { "city": "Bern", "since": since })
    );
    assert_eq!(
        value(&app.values["token"]),
        Bson::String("hidden token_secret".to_owned())
    );
    assert_eq!(value(&app.environment_values["limit"]), Bson::Int64(5000));
    assert_eq!(app.environment, "production");

    assert_eq!(app.services["archive"].kind, ServiceKind::MongoDb);
    assert_eq!(
        app.services["mongodb-atlas"].settings["clusterName"],
        json!("Cluster0")
    );
    let mail = &app.services["mail"];
    assert_eq!(mail.kind, ServiceKind::Aws);
    assert_eq!(mail.settings["region"], json!("eu-central-1"));
    assert_eq!(mail.secrets["secretAccessKey"].as_str(), "hidden mail_key");

    let [hello, anyone] = app.endpoints.as_slice() else {
        panic!("two endpoints")
    };
    assert_eq!(
        (hello.route.as_str(), hello.method),
        ("/hello", EndpointMethod::Get)
    );
    assert_eq!(hello.function, "hello");
    // Its secret `hello-key` cannot be the name of a variable.
    let Validation::SecretAsQueryParam(secret) = &hello.validation else {
        panic!("a secret")
    };
    assert_eq!(secret.as_str(), "hidden hello_key");
    assert_eq!(hello.return_type, ReturnType::Json);
    assert!(hello.respond_result && !hello.disabled);
    assert_eq!(anyone.method, EndpointMethod::Any);
    assert_eq!(anyone.validation, Validation::None);
    assert_eq!(anyone.return_type, ReturnType::Ejson);

    let [keep, tell] = app.log_forwarders.as_slice() else {
        panic!("two log forwarders")
    };
    assert_eq!(keep.log_types, ["trigger", "function"]);
    assert!(keep.is_batched && !tell.is_batched);
    assert_eq!(
        keep.action,
        LogAction::Collection {
            service: "mongodb-atlas".to_owned(),
            database: "logs".to_owned(),
            collection: "app".to_owned(),
        }
    );
    assert_eq!(tell.action, LogAction::Function("nightly".to_owned()));
}

#[test]
fn what_the_current_layout_asks_for_and_does_not_get_is_listed() {
    let app = current();
    let found: Vec<(&str, &str)> = app
        .findings
        .iter()
        .map(|finding| (finding.file.as_str(), finding.what.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("auth", "users do not sign in"),
            (
                "data_sources/mongodb-atlas",
                "its rules and schemas are not enforced: functions run as the system"
            ),
            ("hosting", "files are not served"),
            (
                "http_endpoints/config.json",
                "the endpoint /anyone answers anyone: users are not authenticated"
            ),
            (
                "http_endpoints/data_api_config.json",
                "the Data API is not served"
            ),
            ("log_forwarders/keep.json", "logs are not forwarded"),
            ("log_forwarders/keep.json", "nothing is logged of `sync`"),
            ("log_forwarders/tell.json", "logs are not forwarded"),
            (
                "root_config.json",
                "`allowed_request_origins` is not honoured: requests are answered from wherever they come"
            ),
            (
                "services/mail",
                "its rules and schemas are not enforced: functions run as the system"
            ),
            (
                "triggers/signup.json",
                "triggers on the authentication of users do not run: there are no users"
            ),
        ]
    );
}

#[test]
fn the_older_layout_is_read() {
    let app = older();
    let metadata = AppMetadata {
        name: "warehouse".to_owned(),
        id: "warehouse-fghij".to_owned(),
        client_id: "warehouse-fghij".to_owned(),
        deployment_model: "GLOBAL".to_owned(),
        ..AppMetadata::default()
    };
    assert_eq!(app.metadata, metadata);
    let restock = &app.functions["restock"];
    assert_eq!(restock.source.file, "functions/restock/source.js");
    let names: Vec<&str> = app.triggers.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["stock", "weekly"]);
    let TriggerEvent::Database(database) = &app.triggers[0].event else {
        panic!("a trigger on changes")
    };
    // It is named by its id alone.
    assert_eq!(database.service, "mongodb-atlas");
    assert_eq!(
        document(database.matching.as_ref().unwrap()),
        doc! { "operationType": "insert" }
    );
    assert_eq!(
        app.triggers[0].function,
        Processor::Function("restock".to_owned())
    );
    assert_eq!(value(&app.values["count"]), Bson::Int32(7));

    let kinds: Vec<(&str, ServiceKind)> = app
        .services
        .values()
        .map(|service| (service.name.as_str(), service.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("hook", ServiceKind::Http),
            ("mongodb-atlas", ServiceKind::MongoDb),
            ("push", ServiceKind::Push),
            ("sms", ServiceKind::Twilio),
        ]
    );
    assert_eq!(
        app.services["sms"].secrets["auth_token"].as_str(),
        "hidden sms_token"
    );
    // What is a secret is one also where it is written openly.
    assert_eq!(
        app.services["push"].secrets["apiKey"].as_str(),
        "written-openly"
    );
    assert!(!app.services["push"].settings.contains_key("apiKey"));
}

#[test]
fn the_webhooks_of_the_older_layout_are_endpoints() {
    let app = older();
    let [hook] = app.endpoints.as_slice() else {
        panic!("one endpoint")
    };
    assert_eq!(hook.route, "/service/hook/incoming_webhook/arrived");
    assert_eq!(hook.method, EndpointMethod::Post);
    assert!(hook.respond_result);
    let Validation::VerifyPayload(secret) = &hook.validation else {
        panic!("a signature")
    };
    assert_eq!(secret.as_str(), "plain-words");
    let function = &app.functions[&hook.function];
    assert_eq!(
        function.source.file,
        "services/hook/incoming_webhooks/arrived/source.js"
    );
    assert!(function.source.text.contains("payload.body"));
}

#[test]
fn what_the_older_layout_asks_for_and_does_not_get_is_listed() {
    let found = findings(&older()).join("\n");
    for part in [
        "auth_providers: users do not sign in",
        "functions/restock/config.json: `can_evaluate` is not honoured: `restock` runs as the system",
        "secrets.json: secrets are taken from the environment",
        "services/mongodb-atlas: its rules and schemas are not enforced",
        "stitch.json: `hosting.enabled` is not honoured",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    assert_eq!(found.lines().count(), 5, "{found}");
}

#[test]
fn functions_see_the_application_as_a_program() {
    let app = current();
    let program = app.program();
    assert_eq!(program.app, app.metadata);
    assert_eq!(program.functions.len(), 4);
    assert!(program.modules.contains_key("mail/words.json"));
    assert_eq!(program.services["mongodb-atlas"], "mongodb");
    assert_eq!(program.services["mail"], "aws");
    assert_eq!(program.environment, "production");
    assert_eq!(
        document(&program.values["token"]),
        doc! { "v": "hidden token_secret" }
    );
    assert_eq!(
        document(&program.environment_values["hosts"]),
        doc! { "v": ["a", "b"] }
    );
}

#[test]
fn secrets_show_nowhere() {
    let app = current();
    let shown = format!("{app:?} {:?} {:?}", app.program(), app.summary().lines());
    // Bytes show text as it is.
    assert!(shown.contains("Bern"));
    assert!(!shown.contains("hidden"), "{shown}");
    let shown = format!("{:?}", older());
    assert!(!shown.contains("hidden"));
    assert!(!shown.contains("plain-words"));
    assert!(!shown.contains("written-openly"));
}

#[test]
fn a_summary_tells_what_there_is_in_lines_and_as_json() {
    let summary = current().summary();
    let lines = summary.lines();
    assert_eq!(
        lines[0],
        "application orders: 4 functions, 6 modules, 4 values"
    );
    for line in [
        "trigger bus (disabled): on DROP_DATABASE, RENAME_COLLECTION of mongodb-atlas sends to EventBridge of 012345678901 in us-east-1",
        "trigger nightly: at `0 2 * * *` UTC calls `nightly`",
        "trigger onOrder: on INSERT, UPDATE of mongodb-atlas/shop/orders calls `onOrder`",
        "service mail (aws)",
        "endpoint GET /hello",
        "log forwarder tell",
        "not honoured: auth: users do not sign in (authenticate them in front of it)",
    ] {
        assert!(
            lines.iter().any(|known| known == line),
            "{line}\n{lines:#?}"
        );
    }
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["functions"], 4);
    assert_eq!(json["triggers"][1]["when"], "at `0 2 * * *` UTC");
    assert_eq!(json["findings"][0]["file"], "auth");
}

#[test]
fn an_application_is_read_with_all_its_problems_in_one_error() {
    let settings = AppSettings {
        environment: "staging".to_owned(),
        secret: &|_| None,
    };
    let error = App::read(&fixture("current_app"), &settings).unwrap_err();
    assert_eq!(error.kind(), tributary_model::ErrorKind::Usage);
    let told = error.to_string();
    for part in [
        "the application has 4 problems (directory ",
        "there is no environment `staging`",
        "values/token.json: the secret `token_secret` is not known (set the environment variable token_secret)",
        "http_endpoints/config.json: the secret `hello-key` is not known (set the environment variable hello_key)",
        "services/mail/config.json: the secret `mail_key` is not known",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}
