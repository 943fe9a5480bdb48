//! Text messages, push notifications, and webhooks of GitHub.

use serde_json::{Value, json};
use tributary_functions::services::verify_signature;

use super::stage::Stage;
use super::table::{Row, ends, returns};

const TEXT: Row = ends("messages/text", r#"["+1555", "tea & cake"]"#);

const NOTIFY: Row = returns("messages/notify", r#"["token-1", "Sent"]"#, "[1, 0]");

const BODY: &[u8] = br#"{"action":"opened","issue":{"number":5}}"#;
const SIGNATURE: &str = "sha256=2244601aaece66bc6ad439f0a8c5300c27c9bc5bb217bd7b4dc188c7cc8a1e53";

const GITHUB: &[Row] = &[
    returns(
        "webhooks/answered",
        r#"["webhooks/github", {
            "query": {},
            "headers": {
                "X-Hub-Signature-256": ["sha256=2244601aaece66bc6ad439f0a8c5300c27c9bc5bb217bd7b4dc188c7cc8a1e53"]
            },
            "body": { "$binary": {
                "base64": "eyJhY3Rpb24iOiJvcGVuZWQiLCJpc3N1ZSI6eyJudW1iZXIiOjV9fQ==", "subType": "00"
            } }
        }]"#,
        r#"{
            "code": 201,
            "headers": { "Content-Type": "application/json" },
            "body": "{\"stored\":5}"
        }"#,
    ),
    // Signed with something else.
    returns(
        "webhooks/answered",
        r#"["webhooks/github", {
            "query": {},
            "headers": {
                "X-Hub-Signature-256": ["sha256=0244601aaece66bc6ad439f0a8c5300c27c9bc5bb217bd7b4dc188c7cc8a1e53"]
            },
            "body": { "$binary": {
                "base64": "eyJhY3Rpb24iOiJjbG9zZWQiLCJpc3N1ZSI6eyJudW1iZXIiOjV9fQ==", "subType": "00"
            } }
        }]"#,
        r#"{ "code": 401, "headers": {}, "body": "signature does not match" }"#,
    ),
];

pub(super) async fn run(stage: &mut Stage) {
    let sent = r#"{"sid":"SM1","status":"queued"}"#;
    let came = stage.row_answered(TEXT, 201, &[], sent).await;
    let came: Vec<_> = came
        .iter()
        .map(|request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            (request.path.as_str(), body)
        })
        .collect();
    let expected = vec![(
        "/2010-04-01/Accounts/AC0123456789/Messages.json",
        "To=%2B1555&From=%2B15550001111&Body=tea+%26+cake".to_owned(),
    )];
    stage.expect("the text message", came, expected);

    let sent = r#"{"success":1,"failure":0,"results":[{"message_id":"1"}]}"#;
    let came = stage.row_answered(NOTIFY, 200, &[], sent).await;
    let came: Vec<_> = came
        .iter()
        .map(|request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            (request.path.as_str(), request.header("authorization"), body)
        })
        .collect();
    let notification = json!({ "title": "Sent", "body": "Your order is on its way" });
    let body = json!({ "to": "token-1", "notification": notification, "priority": "high" });
    let expected = vec![("/fcm/send", Some("key=phones key"), body)];
    stage.expect("the notification", came, expected);

    // What the function finds itself is what GitHub sends.
    let is_signed = verify_signature("hook secret", SIGNATURE, BODY);
    stage.expect("the signature of GitHub", is_signed, true);
    stage.rows(GITHUB).await;
    stage.ran.insert("webhooks/github".to_owned());
    stage
        .expect_documents("shop", "issues", r#"[{ "_id": 5, "action": "opened" }]"#)
        .await;
}
