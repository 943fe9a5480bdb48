//! `context.http` and the HTTP service.

use serde_json::{Value, json};
use tributary_functions::script::FailureKind;
use tributary_testkit::ReceivedRequest;

use super::stage::Stage;
use super::table::{Row, ends, fails, returns};

const VERBS: Row = returns(
    "http/verbs",
    "[]",
    r#"[[200, "200 OK"], [200, "200 OK"], [200, "200 OK"], [200, "200 OK"], [200, "200 OK"], [200, "200 OK"]]"#,
);

const READS: Row = returns(
    "http/readsAnswer",
    "[]",
    r#"{
        "isBinary": true,
        "total": "9.90",
        "same": "9.90",
        "kind": ["application/json"],
        "trace": "t1",
        "status": 200,
        "isLength": true
    }"#,
);

const POSTS: Row = returns(
    "http/postsJson",
    r#"[{
        "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" },
        "total": { "$numberDecimal": "9.90" },
        "placed": { "$date": "2024-05-01T10:00:00Z" },
        "lines": [{ "quantity": 2, "views": { "$numberLong": "5" } }]
    }]"#,
    "201",
);

const REFUSED: Row = fails(
    "http/refused",
    "[]",
    FailureKind::Thrown,
    "Error",
    "the receiver said 500 Internal Server Error: no luck",
);

const ASTRAY: Row = returns(
    "http/goesAstray",
    "[]",
    r#"["refused", "refused", "refused", "refused"]"#,
);

/// Method, path and body.
fn shown(request: &ReceivedRequest) -> (String, String, String) {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    (request.method.clone(), request.path.clone(), body)
}

fn triple(method: &str, path: &str, body: &str) -> (String, String, String) {
    (method.to_owned(), path.to_owned(), body.to_owned())
}

pub(super) async fn run(stage: &mut Stage) {
    let came = stage.row_answered(VERBS, 200, &[], "ok").await;
    let verbs = [
        ("GET", ""),
        ("POST", "post"),
        ("PUT", "put"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
        ("HEAD", ""),
    ];
    let expected: Vec<_> = verbs
        .iter()
        .map(|(verb, body)| triple(verb, "/verbs", body))
        .collect();
    stage.expect("verbs", came.iter().map(shown).collect(), expected);

    let headers = [("Content-Type", "application/json"), ("X-Trace", "t1")];
    let body = r#"{"total":{"$numberDecimal":"9.90"}}"#;
    let came = stage.row_answered(READS, 200, &headers, body).await;
    let expected = vec![triple("GET", "/?q=tea+%26+cake&page=2", "")];
    stage.expect("query", came.iter().map(shown).collect(), expected);
    let many: Vec<&str> = came
        .iter()
        .flat_map(|request| &request.headers)
        .filter(|(name, _)| name == "x-many")
        .map(|(_, value)| value.as_str())
        .collect();
    stage.expect("a header twice", many, vec!["one", "two"]);

    let came = stage.row_answered(POSTS, 201, &[], "").await;
    let bodies: Vec<Value> = came
        .iter()
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect();
    let expected = json!({
        "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" },
        "total": { "$numberDecimal": "9.90" },
        "placed": { "$date": { "$numberLong": "1714557600000" } },
        "lines": [{ "quantity": { "$numberInt": "2" }, "views": { "$numberLong": "5" } }],
    });
    stage.expect("a body as JSON", bodies, vec![expected]);
    let headers: Vec<_> = came
        .iter()
        .map(|request| {
            (
                request.header("content-type"),
                request.header("authorization"),
            )
        })
        .collect();
    let expected = vec![(Some("application/json"), Some("Bearer abc"))];
    stage.expect("headers as arrays", headers, expected);

    let form = ends("http/postsForm", "[]");
    let came = stage.row_answered(form, 200, &[], "").await;
    let expected = vec![
        triple("POST", "/form", "name=Ada+L.&age=36"),
        triple("POST", "/parts", r#"{"plain":true}"#),
    ];
    stage.expect("a form", came.iter().map(shown).collect(), expected);
    let headers: Vec<_> = came
        .iter()
        .map(|request| {
            (
                request.header("content-type"),
                request.header("authorization"),
            )
        })
        .collect();
    let expected = vec![
        (Some("application/x-www-form-urlencoded"), None),
        (Some("text/plain"), Some("Basic dXNlcjpwYXNz")),
    ];
    stage.expect("headers of a form", headers, expected);

    stage.row_answered(REFUSED, 500, &[], "no luck").await;

    let service = returns("http/usesService", r#"["/put"]"#, r#""stored""#);
    let came = stage.row_answered(service, 200, &[], "stored").await;
    let expected = vec![triple("PUT", "/put", r#"{"through":"service"}"#)];
    stage.expect("a service", came.iter().map(shown).collect(), expected);

    let came = stage.row_answered(ASTRAY, 200, &[], "ok").await;
    stage.expect("requests elsewhere", came.len(), 0);

    stage.receiver.hang_up();
    stage
        .rows(&[returns("http/hungUp", "[]", r#""string""#)])
        .await;
}
