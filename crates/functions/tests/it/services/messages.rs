//! `twilio` and `push`.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::{Bson, doc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tributary_functions::services::{
    PushCredentials, PushSettings, ServiceSettings, TwilioSettings,
};
use tributary_testkit::HttpReceiver;

use super::{call, document, run};

fn twilio(receiver: &HttpReceiver) -> ServiceSettings {
    ServiceSettings::Twilio(TwilioSettings {
        account_sid: "AC1".to_owned(),
        auth_token: "hunter2".into(),
        base_url: receiver.url(),
    })
}

#[tokio::test]
async fn a_text_message_is_sent() {
    let receiver = HttpReceiver::start().await.unwrap();
    receiver.answer_with(201, &[], r#"{"sid":"SM1","status":"queued","num_media":0}"#);
    let run = run([("tw", twilio(&receiver))]);
    let args = doc! { "to": "+1555", "from": "+1666", "body": "a & b", "mediaUrl": ["u1", "u2"] };
    let sent = document(&run, "tw/send", doc! { "args": args }).await;
    assert_eq!(
        sent,
        doc! { "sid": "SM1", "status": "queued", "num_media": 0 }
    );
    let args = doc! { "to": "+1555", "from": "+1666", "url": "http://a/" };
    call(&run, "tw/call", doc! { "args": args }).await.unwrap();
    let came = receiver.requests();
    assert_eq!(came[0].method, "POST");
    assert_eq!(came[0].path, "/2010-04-01/Accounts/AC1/Messages.json");
    // AC1:hunter2
    assert_eq!(
        came[0].header("authorization"),
        Some("Basic QUMxOmh1bnRlcjI=")
    );
    let body = String::from_utf8_lossy(&came[0].body);
    assert_eq!(
        body,
        "To=%2B1555&From=%2B1666&Body=a+%26+b&MediaUrl=u1&MediaUrl=u2"
    );
    assert_eq!(came[1].path, "/2010-04-01/Accounts/AC1/Calls.json");
}

#[tokio::test]
async fn what_twilio_refuses_is_told_with_its_code() {
    let receiver = HttpReceiver::start().await.unwrap();
    let run = run([("tw", twilio(&receiver))]);
    let args = || doc! { "args": { "to": "+1555", "from": "+1666", "body": "a" } };
    receiver.answer_with(
        400,
        &[],
        r#"{"code":21211,"message":"no such number","status":400}"#,
    );
    let error = call(&run, "tw/send", args()).await.unwrap_err();
    assert_eq!(
        (error.name.as_str(), error.code),
        ("TwilioError", Some(21211))
    );
    assert_eq!(
        (error.message.as_str(), error.is_transient),
        ("no such number", false)
    );
    receiver.answer_with(503, &[], "<html>");
    let error = call(&run, "tw/send", args()).await.unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.is_transient),
        ("Twilio answered 503", true)
    );
    receiver.hang_up();
    let error = call(&run, "tw/send", args()).await.unwrap_err();
    assert!(
        error.name == "TwilioError" && error.is_transient,
        "{error:?}"
    );
    assert!(!format!("{error:?}").contains("hunter2"));
    let count = receiver.requests().len();
    for (args, part) in [
        (doc! { "from": "a", "body": "b" }, "`to` is missing"),
        (doc! { "to": "a", "from": "a" }, "`body` is missing"),
        (
            doc! { "to": "a", "from": 5, "body": "b" },
            "`from` is no string",
        ),
    ] {
        let error = call(&run, "tw/send", doc! { "args": args })
            .await
            .unwrap_err();
        assert!(error.message.contains(part), "{error:?}");
    }
    assert_eq!(receiver.requests().len(), count);
    let settings = format!("{:?}", twilio(&receiver));
    assert!(!settings.contains("hunter2"), "{settings}");
}

#[tokio::test]
async fn the_older_push_api_gets_one_request() {
    let receiver = HttpReceiver::start().await.unwrap();
    let settings = PushSettings {
        credentials: PushCredentials::ServerKey("hunter2".into()),
        base_url: receiver.url(),
    };
    let run = run([("gcm", ServiceSettings::Push(settings))]);
    let answer =
        r#"{"success":1,"failure":1,"results":[{"message_id":"1"},{"error":"NotRegistered"}]}"#;
    receiver.answer_with(200, &[], answer);
    let args = doc! {
        "registrationTokens": ["t1", "t2"],
        "notification": { "title": "T", "clickAction": "C" },
        "data": { "n": 5, "o": { "a": 1 } },
        "priority": "high",
        "collapseKey": "k",
        "contentAvailable": true,
        "timeToLive": 60,
    };
    let sent = document(&run, "gcm/send", doc! { "args": args }).await;
    let expected = doc! {
        "successes": 1,
        "failures": 1,
        "failedTokens": [{ "index": 1, "error": "NotRegistered" }],
    };
    assert_eq!(sent, expected);
    let came = receiver.requests().remove(0);
    assert_eq!(came.path, "/fcm/send");
    assert_eq!(came.header("authorization"), Some("key=hunter2"));
    let expected = json!({
        "registration_ids": ["t1", "t2"],
        "notification": { "title": "T", "click_action": "C" },
        "data": { "n": "5", "o": "{\"a\":1}" },
        "priority": "high",
        "collapse_key": "k",
        "content_available": true,
        "time_to_live": 60,
    });
    assert_eq!(
        serde_json::from_slice::<Value>(&came.body).unwrap(),
        expected
    );
    for (args, part) in [
        (doc! {}, "either `to` or `registrationTokens`"),
        (doc! { "userIds": ["a"] }, "`userIds` is not supported"),
        (doc! { "to": "a", "prio": 1 }, "knows no `prio`"),
        (
            doc! { "to": "a", "priority": "top" },
            "neither `high` nor `normal`",
        ),
    ] {
        let error = call(&run, "gcm/send", doc! { "args": args })
            .await
            .unwrap_err();
        assert!(error.message.contains(part), "{error:?}");
    }
    receiver.answer_with(401, &[], "no");
    let error = call(&run, "gcm/send", doc! { "args": { "to": "a" } })
        .await
        .unwrap_err();
    assert_eq!(error.name, "PushError");
    assert!(!format!("{error:?}").contains("hunter2"));
}

/// The JSON of a new service account, and what checks its signatures.
fn account(token_uri: &str) -> (String, DecodingKey) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let lines: Vec<String> = STANDARD
        .encode(der.as_ref())
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let kind = "PRIVATE KEY";
    let pem = format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    );
    let json = json!({
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "kid1",
        "private_key": pem,
        "client_email": "me@example.com",
        "token_uri": token_uri,
    });
    let public = DecodingKey::from_rsa_der(pair.public_key().as_ref());
    (json.to_string(), public)
}

#[tokio::test]
async fn a_service_account_gets_a_token_and_tells_each_device() {
    let google = HttpReceiver::start().await.unwrap();
    let receiver = HttpReceiver::start().await.unwrap();
    google.answer_with(
        200,
        &[],
        r#"{"access_token":"ya29.hunter2","expires_in":3600}"#,
    );
    receiver.answer_with(200, &[], r#"{"name":"projects/my-project/messages/1"}"#);
    let token_uri = format!("{}/token", google.url());
    let (json, public) = account(&token_uri);
    let settings = PushSettings {
        credentials: PushCredentials::ServiceAccount(json.as_str().into()),
        base_url: receiver.url(),
    };
    let run = run([("push", ServiceSettings::Push(settings))]);
    let args = doc! {
        "registrationTokens": ["t1", "t2"],
        "notification": { "title": "T", "body": "B", "badge": "3", "clickAction": "C", "bodyLocArgs": ["x"] },
        "data": { "n": 5 },
        "priority": "normal",
        "timeToLive": 60,
        "contentAvailable": true,
    };
    let sent = document(&run, "push/send", doc! { "args": args }).await;
    let none: Vec<Bson> = Vec::new();
    assert_eq!(
        sent,
        doc! { "successes": 2, "failures": 0, "failedTokens": none }
    );
    let mut came = receiver.requests();
    came.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(came[0].path, "/v1/projects/my%2Dproject/messages:send");
    assert_eq!(came[0].header("authorization"), Some("Bearer ya29.hunter2"));
    let expected = json!({ "message": {
        "token": "t1",
        "data": { "n": "5" },
        "notification": { "title": "T", "body": "B" },
        "android": {
            "notification": { "click_action": "C", "body_loc_args": ["x"] },
            "priority": "normal",
            "ttl": "60s",
        },
        "apns": {
            "headers": { "apns-priority": "5" },
            "payload": { "aps": { "badge": 3, "content-available": 1 } },
        },
    } });
    assert_eq!(
        serde_json::from_slice::<Value>(&came[0].body).unwrap(),
        expected
    );

    let args = doc! { "to": "/topics/news", "data": {}, "dryRun": true };
    call(&run, "push/send", doc! { "args": args })
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&receiver.requests()[2].body).unwrap();
    assert_eq!(
        body,
        json!({ "message": { "topic": "news", "data": {} }, "validate_only": true })
    );

    // One token was enough, and it was asked for as Google wants it.
    let asked = google.requests();
    assert_eq!(asked.len(), 1);
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&asked[0].body)
        .into_owned()
        .collect();
    assert_eq!(form[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let mut checks = Validation::new(Algorithm::RS256);
    checks.set_audience(&[&token_uri]);
    checks.set_issuer(&["me@example.com"]);
    let claim = jsonwebtoken::decode::<Value>(form[1].1.as_str(), &public, &checks).unwrap();
    assert_eq!(claim.header.kid.as_deref(), Some("kid1"));
    assert_eq!(
        claim.claims["scope"],
        "https://www.googleapis.com/auth/firebase.messaging"
    );
}

#[tokio::test]
async fn a_device_that_is_gone_is_told_and_a_refusal_of_all_is_an_error() {
    let google = HttpReceiver::start().await.unwrap();
    let receiver = HttpReceiver::start().await.unwrap();
    google.answer_with(
        400,
        &[],
        r#"{"error":"invalid_grant","error_description":"no such account"}"#,
    );
    let (json, _) = account(&google.url());
    let settings = |json: &str| {
        ServiceSettings::Push(PushSettings {
            credentials: PushCredentials::ServiceAccount(json.into()),
            base_url: receiver.url(),
        })
    };
    let run = run([
        ("push", settings(&json)),
        ("broken", settings("{\"hunter2\"")),
    ]);
    let args = || doc! { "args": { "to": "t1", "data": { "a": "b" } } };
    let error = call(&run, "push/send", args()).await.unwrap_err();
    assert!(error.message.contains("400 no such account"), "{error:?}");
    assert!(!format!("{error:?}").contains("PRIVATE"), "{error:?}");
    let error = call(&run, "broken/send", args()).await.unwrap_err();
    assert!(
        error.message.contains("no JSON with project_id"),
        "{error:?}"
    );
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    assert!(receiver.requests().is_empty());
    google.answer_with(200, &[], r#"{"access_token":"t","expires_in":3600}"#);
    let gone =
        r#"{"error":{"code":404,"status":"NOT_FOUND","details":[{"errorCode":"UNREGISTERED"}]}}"#;
    receiver.answer_with(404, &[], gone);
    let sent = document(&run, "push/send", args()).await;
    let expected = doc! {
        "successes": 0,
        "failures": 1,
        "failedTokens": [{ "index": 0, "error": "UNREGISTERED" }],
    };
    assert_eq!(sent, expected);
    receiver.answer_with(503, &[], r#"{"error":{"message":"overloaded"}}"#);
    let error = call(&run, "push/send", args()).await.unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.is_transient),
        ("overloaded", true)
    );
}
