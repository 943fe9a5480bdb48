//! What functions know of one another and of their application.

use bson::doc;
use tributary_functions::script::Call;

use super::stage::Stage;
use super::table::{Row, returns};

const ROWS: &[Row] = &[
    returns("math/sum", "[1, 2, 3]", "6"),
    returns("math/later", "[4, 1]", r#"{ "value": 4, "of": 8 }"#),
    returns(
        "context/callsOthers",
        "[]",
        r#"{
            "greeting": "Hello, Ada!",
            "sum": 6,
            "both": [4, 10],
            "isPromise": true,
            "passed": "64b0c0ffee64b0c0ffee64b0"
        }"#,
    ),
    returns(
        "context/catchesOthers",
        "[]",
        r#"["refused: sync", "OutOfStock", true, true]"#,
    ),
    returns(
        "context/readsValues",
        "[]",
        r#"{
            "name": "Corner",
            "year": 2020,
            "limit": "99.90",
            "floors": 2,
            "secretLength": 11,
            "missing": "undefined",
            "tag": "testing",
            "pageSize": 5,
            "hosts": "a.example.com,b.example.com"
        }"#,
    ),
    returns(
        "context/tellsAboutItself",
        "[]",
        r#"{ "app": "suite", "region": "aws-eu-central-1", "user": "system", "asSystem": true, "asked": "undefined" }"#,
    ),
];

const ASKED: Row = returns(
    "context/readsRequest",
    "[]",
    r#"{ "httpMethod": "GET", "agent": "curl/8", "page": "2", "remoteIPAddress": "192.0.2.7" }"#,
);

pub(super) async fn run(stage: &mut Stage) {
    stage.rows(ROWS).await;

    let request = doc! {
        "httpMethod": "GET",
        "rawQueryString": "page=2&size=10",
        "requestHeaders": { "User-Agent": ["curl/8"] },
        "remoteIPAddress": "192.0.2.7",
    };
    let call = Call {
        request: Some(request.to_vec().unwrap().into()),
        ..stage.a_call(ASKED.function, ASKED.arguments)
    };
    let outcome = stage.run(call).await;
    stage.note(ASKED.judge(&outcome));
}
