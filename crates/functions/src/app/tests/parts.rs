//! Functions, modules, values, services, endpoints and log forwarders.

use std::path::Path;

use bson::Bson;

use super::{EMPTY, app_of, check, findings, right, told, value, write, wrong};
use crate::app::{EndpointMethod, ServiceKind, Validation, secret_variable};

fn one(told: &[String], part: &str) {
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains(part), "{part}\n{told:#?}");
}

#[test]
fn functions_that_no_file_names_are_functions_too() {
    let app = right(&[
        (
            "functions/config.json",
            r#"[{"name": "a/b", "private": true}]"#,
        ),
        ("functions/a/b.js", EMPTY),
        ("functions/c.js", EMPTY),
        (
            "functions/source/config.json",
            r#"{"name": "x", "private": true}"#,
        ),
        ("functions/tools.cjs", EMPTY),
    ]);
    let names: Vec<&str> = app.functions.keys().map(String::as_str).collect();
    assert_eq!(names, ["a/b", "c"]);
    assert!(app.functions["a/b"].is_private && !app.functions["c"].is_private);
    // Beside a file for all functions, one in a directory is a module.
    assert!(app.modules.contains_key("source/config.json"));
    assert!(app.modules.contains_key("tools.cjs"));
    assert!(!app.modules.contains_key("config.json"));
}

#[test]
fn packages_are_modules_and_no_functions() {
    let app = right(&[
        ("functions/f.js", EMPTY),
        (
            "functions/package.json",
            r#"{"dependencies": {"left": "1", "@a/right": "2", "up": "3"}}"#,
        ),
        (
            "functions/node_modules/left/package.json",
            r#"{"main": "lib/main.js"}"#,
        ),
        ("functions/node_modules/left/lib/main.js", EMPTY),
        ("functions/node_modules/left/README.md", "# left"),
        ("functions/node_modules/left/index.mjs", EMPTY),
        ("functions/node_modules/@a/right/index.cjs", EMPTY),
        ("functions/node_modules/upper/index.js", EMPTY),
    ]);
    assert_eq!(app.functions.keys().collect::<Vec<_>>(), ["f"]);
    let modules: Vec<&str> = app.modules.keys().map(String::as_str).collect();
    assert_eq!(
        modules,
        [
            "f.js",
            "node_modules/@a/right/index.cjs",
            "node_modules/left/lib/main.js",
            "node_modules/left/package.json",
            "node_modules/upper/index.js",
            "package.json",
        ]
    );
    assert_eq!(
        app.modules["node_modules/left/lib/main.js"].file,
        "functions/node_modules/left/lib/main.js"
    );
    one(
        &findings(&app),
        "functions/package.json: functions/node_modules does not have up (run `npm install`",
    );
}

#[test]
fn packages_in_an_archive_and_other_languages_are_findings() {
    let app = right(&[
        ("functions/f.js", EMPTY),
        ("functions/node_modules.tar.gz", "packed"),
        (
            "functions/package.json",
            r#"{"dependencies": {"left": "1"}}"#,
        ),
        ("functions/typed.ts", "export {}"),
    ]);
    let found = findings(&app);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].contains("(unpack it to functions/node_modules)"));
    assert!(found[1].contains("does not have left"));
    assert!(found[2].starts_with("functions/typed.ts: functions in this language"));
}

#[test]
fn functions_without_a_source_or_named_twice_are_told() {
    one(
        &wrong(&[
            ("functions/config.json", r#"[{"name": "handle2"}]"#),
            ("functions/handle.js", EMPTY),
        ]),
        "functions/config.json: the function `handle2` has no source (did you mean `handle`?)",
    );
    one(
        &wrong(&[
            ("functions/config.json", r#"[{"name": "f"}, {"name": "f"}]"#),
            ("functions/f.js", EMPTY),
        ]),
        "the function `f` is there twice",
    );
    one(
        &wrong(&[
            (
                "functions/a/config.json",
                r#"{"name": "same", "private": false}"#,
            ),
            ("functions/a/source.js", EMPTY),
            (
                "functions/b/config.json",
                r#"{"name": "same", "private": false}"#,
            ),
            ("functions/b/source.js", EMPTY),
        ]),
        "the function `same` is in functions/a/config.json too",
    );
    one(
        &wrong(&[(
            "functions/a/config.json",
            r#"{"name": "a", "private": false}"#,
        )]),
        "functions/a/config.json: the function `a` has no source (add functions/a/source.js)",
    );
    one(
        &wrong(&[("functions/config.json", "{}")]),
        "functions/config.json: this is no JSON array",
    );
}

#[test]
fn a_function_that_asks_for_a_user_is_a_finding() {
    let app = right(&[
        (
            "functions/config.json",
            r#"[{"name": "f", "can_evaluate": {"%%user.id": "1"}, "run_as_user_id": "",
                 "run_as_user_id_script_source": "exports = () => '1'"},
                {"name": "g", "can_evaluate": true}]"#,
        ),
        ("functions/f.js", EMPTY),
        ("functions/g.js", EMPTY),
    ]);
    let found = findings(&app);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("`can_evaluate` is not honoured: `f` runs as the system"));
    assert!(found[1].contains("`run_as_user_id_script_source` is not honoured"));
}

fn with_value(text: &str) -> Result<Bson, Vec<String>> {
    let directory = app_of(&[("functions/f.js", EMPTY), ("values/v.json", text)]);
    check(directory.path(), "")
        .map(|app| value(&app.values["v"]))
        .map_err(|problems| told(&problems))
}

#[test]
fn values_keep_their_types() {
    let is = |text: &str, expected: Bson| {
        let text = format!(r#"{{"name": "v", "value": {text}}}"#);
        assert_eq!(with_value(&text).unwrap(), expected);
    };
    is("1", Bson::Int32(1));
    is("5000000000", Bson::Int64(5_000_000_000));
    is("1.0", Bson::Double(1.0));
    is("\"1\"", Bson::String("1".to_owned()));
    is("true", Bson::Boolean(true));
    is("null", Bson::Null);
    is("[1, []]", bson::bson!([1, []]));
    let id: bson::oid::ObjectId = "65f0c0ffee65f0c0ffee65f0".parse().unwrap();
    is(
        r#"{"$oid": "65f0c0ffee65f0c0ffee65f0"}"#,
        Bson::ObjectId(id),
    );
}

#[test]
fn what_is_wrong_with_a_value_is_told() {
    let fails = |text: &str, part: &str| one(&with_value(text).unwrap_err(), part);
    fails(r#"{"value": 1}"#, "values/v.json: `name` is missing");
    fails(r#"{"name": "v"}"#, "`value` is missing");
    fails(
        r#"{"name": "v", "value": {"$oid": "short"}}"#,
        "`value` is no Extended JSON: $oid",
    );
    fails(
        r#"{"name": "v", "from_secret": true, "value": "an-unknown one"}"#,
        "the secret `an-unknown one` is not known (set the environment variable an_unknown_one)",
    );
    fails(
        r#"{"name": "v", "from_secret": true, "value": 7}"#,
        "`value` is not a text",
    );
    one(
        &wrong(&[
            ("functions/f.js", EMPTY),
            ("values/a.json", r#"{"name": "v", "value": 1}"#),
            ("values/b.json", r#"{"name": "v", "value": 2}"#),
        ]),
        "values/b.json: the value `v` is in values/a.json too",
    );
}

#[test]
fn a_secret_has_a_variable_of_letters_digits_and_underscores() {
    assert_eq!(secret_variable("Token_1"), "Token_1");
    assert_eq!(secret_variable("my-token.x"), "my_token_x");
    assert_eq!(secret_variable("2fa"), "_2fa");
}

#[test]
fn an_environment_gives_its_values_and_no_other_ones() {
    let directory = app_of(&[
        ("functions/f.js", EMPTY),
        (
            "environments/no-environment.json",
            r#"{"values": {"x": 0}}"#,
        ),
        (
            "environments/qa.json",
            r#"{"values": {"x": 1, "y": {"$numberLong": "2"}}}"#,
        ),
        ("environments/home.json", r#"{"values": {"x": 3}}"#),
    ]);
    let at = |environment: &str| check(directory.path(), environment).unwrap();
    assert_eq!(value(&at("").environment_values["x"]), Bson::Int32(0));
    let qa = at("qa");
    assert_eq!(value(&qa.environment_values["x"]), Bson::Int32(1));
    assert_eq!(value(&qa.environment_values["y"]), Bson::Int64(2));
    assert!(at("production").environment_values.is_empty());
    one(
        &findings(&at("")),
        "environments/home.json: this is the file of no environment",
    );
    write(
        directory.path(),
        "environments/testing.json",
        r#"{"values": {"x": {"$date": true}}}"#,
    );
    one(
        &told(&check(directory.path(), "").unwrap_err()),
        "environments/testing.json: `values.x` is no Extended JSON",
    );
}

#[test]
fn an_environment_other_than_the_application_names_is_a_finding() {
    let directory = app_of(&[("root_config.json", r#"{"name": "a", "environment": "qa"}"#)]);
    let at = |environment: &str| findings(&check(directory.path(), environment).unwrap());
    assert!(at("qa").is_empty());
    one(
        &at(""),
        "`environment` is `qa`, and the values are those of ``",
    );
}

const HANDLE: (&str, &str) = ("functions/handle.js", EMPTY);

fn endpoint(text: &str) -> Vec<String> {
    let text = format!("[{text}]");
    wrong(&[HANDLE, ("http_endpoints/config.json", &text)])
}

#[test]
fn endpoints_are_read_from_either_directory() {
    let app = right(&[
        HANDLE,
        (
            "https_endpoints/config.json",
            r#"[{"route": "/a", "http_method": "patch", "function_name": "handle",
                 "validation_method": "VERIFY_PAYLOAD", "secret_config": {"secret": "mail_key"},
                 "fetch_custom_user_data": true, "disabled": true}]"#,
        ),
        (
            "https_endpoints/data_api_config.json",
            r#"{"disabled": true}"#,
        ),
    ]);
    let endpoint = &app.endpoints[0];
    assert_eq!(endpoint.method, EndpointMethod::Patch);
    let Validation::VerifyPayload(secret) = &endpoint.validation else {
        panic!("a signature")
    };
    assert_eq!(secret.as_str(), "hidden mail_key");
    assert!(endpoint.disabled && !endpoint.respond_result);
    one(&findings(&app), "`fetch_custom_user_data` is not honoured");
}

#[test]
fn what_is_wrong_with_an_endpoint_is_told() {
    const REST: &str = r#""http_method": "GET", "function_name": "handle""#;
    one(
        &endpoint(r#"{"route": "/a", "http_method": "GET", "function_name": "handle2"}"#),
        "the endpoint /a calls `handle2`, and there is no such function (did you mean `handle`?)",
    );
    one(
        &endpoint(r#"{"route": "/a", "http_method": "TRACE", "function_name": "handle"}"#),
        "an endpoint cannot answer `TRACE`",
    );
    one(
        &endpoint(&format!(r#"{{"route": "a", {REST}}}"#)),
        "the route `a` has no `/` in front",
    );
    one(
        &endpoint(&format!(
            r#"{{"route": "/a", "validation_method": "VERIFY_PAYLOAD", {REST}}}"#
        )),
        "an endpoint wants a secret and names none",
    );
    one(
        &endpoint(&format!(
            r#"{{"route": "/a", "validation_method": "NONE", {REST}}}"#
        )),
        "there is no validation `NONE`",
    );
    one(
        &endpoint(&format!(
            r#"{{"route": "/a", "return_type": "XML", {REST}}}"#
        )),
        "there is no return type `XML`",
    );
    one(
        &endpoint(&format!(
            r#"{{"route": "/a", {REST}}}, {{"route": "/a", {REST}}}"#
        )),
        "there are two endpoints for GET /a",
    );
}

#[test]
fn a_secret_that_keeps_nobody_out_is_refused() {
    const REST: &str = r#""route": "/a", "http_method": "GET", "function_name": "handle""#;
    for method in [
        "SECRET_AS_QUERY_PARAM",
        "SECRET_AS_HEADER",
        "VERIFY_PAYLOAD",
    ] {
        one(
            &endpoint(&format!(
                r#"{{{REST}, "validation_method": "{method}", "secret_name": "empty"}}"#
            )),
            "http_endpoints/config.json: the secret of the endpoint /a is empty",
        );
    }
    one(
        &endpoint(&format!(r#"{{{REST}, "secret_name": "mail_key"}}"#)),
        "the endpoint /a has a secret, and no `validation_method`",
    );
    let hook = |options: &str| {
        wrong(&[
            HANDLE,
            (
                "services/web/config.json",
                r#"{"name": "web", "type": "http", "config": {}}"#,
            ),
            (
                "services/web/incoming_webhooks/in/config.json",
                &format!(r#"{{"name": "in", "options": {options}}}"#),
            ),
            ("services/web/incoming_webhooks/in/source.js", EMPTY),
        ])
    };
    one(
        &hook(r#"{"secret": "plain-words"}"#),
        "services/web/incoming_webhooks/in/config.json: the webhook in has a secret, and no `options.validationMethod`",
    );
    one(
        &hook(r#"{"validationMethod": "SECRET_AS_QUERY_PARAM", "secret": ""}"#),
        "the webhook wants a secret and has none",
    );
    one(
        &hook(r#"{"validationMethod": "VERIFY_PAYLOAD", "secret_name": "empty"}"#),
        "the secret of the webhook in is empty",
    );
}

#[test]
fn webhooks_are_read_below_http_endpoints_as_well() {
    let config = r#"{"name": "in", "options": {"httpMethod": "GET",
        "validationMethod": "SECRET_AS_QUERY_PARAM", "secret_name": "mail_key"}}"#;
    let service = r#"{"name": "web", "type": "http", "config": {}}"#;
    for within in ["http_endpoints/web", "http_endpoints/web/incoming_webhooks"] {
        let app = right(&[
            HANDLE,
            ("http_endpoints/web/config.json", service),
            ("http_endpoints/web/rules/all.json", "{}"),
            (&format!("{within}/in/config.json"), config),
            (&format!("{within}/in/source.js"), EMPTY),
        ]);
        let hook = &app.endpoints[0];
        assert_eq!(hook.route, "/service/web/incoming_webhook/in");
        assert!(app.functions.contains_key(&hook.function));
        let Validation::SecretAsQueryParam(secret) = &hook.validation else {
            panic!("a secret")
        };
        assert_eq!(secret.as_str(), "hidden mail_key");
    }
    one(
        &wrong(&[
            HANDLE,
            ("http_endpoints/web/config.json", service),
            ("http_endpoints/web/in/config.json", config),
        ]),
        "this webhook has not both of config.json and source.js (add http_endpoints/web/in/source.js)",
    );
}

#[test]
fn services_of_other_types_and_their_webhooks_are_findings() {
    let app = right(&[
        HANDLE,
        (
            "services/talk/config.json",
            r#"{"name": "talk", "type": "slack"}"#,
        ),
        (
            "services/code/config.json",
            r#"{"name": "code", "type": "github"}"#,
        ),
        ("services/code/incoming_webhooks/push/config.json", "{}"),
        (
            "data_sources/db/config.json",
            r#"{"name": "db", "type": "mongodb", "config": {"uri": "mongodb://u:pw@h", "wireProtocolEnabled": true}}"#,
        ),
    ]);
    assert!(!app.services.contains_key("talk"));
    assert_eq!(app.services["code"].kind, ServiceKind::GitHub);
    assert_eq!(
        app.services["db"].secrets["uri"].as_str(),
        "mongodb://u:pw@h"
    );
    let found = findings(&app);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].contains("`config.wireProtocolEnabled` is not honoured"));
    assert!(found[1].contains("webhooks of this service are not served"));
    assert!(found[2].contains("services of type `slack` are not available"));
}

#[test]
fn what_is_wrong_with_a_service_is_told() {
    one(
        &wrong(&[
            HANDLE,
            ("services/a/config.json", r#"{"name": "s", "type": "http"}"#),
            (
                "data_sources/a/config.json",
                r#"{"name": "s", "type": "mongodb"}"#,
            ),
        ]),
        "services/a/config.json: the service `s` is in data_sources/a/config.json too",
    );
    one(
        &wrong(&[HANDLE, ("services/a/rules/r.json", "{}")]),
        "services/a: it has no config.json",
    );
    one(
        &wrong(&[
            HANDLE,
            (
                "services/a/config.json",
                r#"{"name": "s", "type": "aws", "secret_config": {"secretAccessKey": "aws-key"}}"#,
            ),
        ]),
        "the secret `aws-key` is not known (set the environment variable aws_key)",
    );
}

fn forwarder(text: &str) -> Result<Vec<String>, Vec<String>> {
    let directory = app_of(&[HANDLE, ("log_forwarders/l.json", text)]);
    let checked = check(Path::new(directory.path()), "");
    checked
        .map(|app| {
            let mut found = findings(&app);
            let all = found.len();
            found.retain(|finding| !finding.contains("logs are not forwarded"));
            assert_eq!(found.len(), all - 1, "that they are not is told once");
            found
        })
        .map_err(|problems| told(&problems))
}

#[test]
fn what_is_wrong_with_a_log_forwarder_is_told() {
    one(
        &forwarder(r#"{"name": "l", "action": {"type": "function", "name": "handle2"}}"#)
            .unwrap_err(),
        "it calls `handle2`, and there is no such function (did you mean `handle`?)",
    );
    one(
        &forwarder(
            r#"{"name": "l", "policy": {"type": "hourly"}, "action": {"type": "function", "name": "handle"}}"#,
        )
        .unwrap_err(),
        "there is no policy `hourly`",
    );
    one(
        &forwarder(r#"{"name": "l", "action": {"type": "collection", "data_source": "d", "database": "b"}}"#)
            .unwrap_err(),
        "`action.collection` is missing",
    );
    one(
        &forwarder(r#"{"name": "l", "action": {"type": "pigeon"}}"#).unwrap(),
        "logs cannot be forwarded by `pigeon`",
    );
    let found = forwarder(
        r#"{"name": "l", "log_types": ["auth", "shoe"], "log_statuses": ["warning"],
            "action": {"type": "function", "name": "handle"}}"#,
    );
    let found = found.unwrap();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].contains("`shoe` is nothing that is logged"));
    assert!(found[1].contains("`warning` is no status of logs"));
    assert!(found[2].contains("nothing is logged of `auth`"));
}
