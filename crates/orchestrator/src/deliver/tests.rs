use std::collections::BTreeMap;

use serde_json::Value;
use tributary_testkit::{HttpReceiver, SmtpReceiver};

use super::*;
use crate::config::{Email, MailTls, Secret};

fn message() -> Message {
    Message {
        state: AlertState::Firing,
        rule: "failures".to_owned(),
        subject: "job nightly".to_owned(),
        summary: "it failed: a < b & c".to_owned(),
        detail: Some("step load\nstep check".to_owned()),
        since: "2026-01-02T03:04:05Z".parse().unwrap(),
        host: "db1".to_owned(),
    }
}

fn webhook(server: &HttpReceiver) -> Receiver {
    Receiver::Webhook {
        url: Secret::from(format!("{}/services/T0SECRET/B0SECRET", server.url()).as_str()),
        headers: BTreeMap::from([("X-Token".to_owned(), Secret::from("headersecret"))]),
    }
}

async fn fails(receiver: &Receiver, kind: ErrorKind, parts: &[&str]) {
    fails_with(Delivery::new().unwrap(), receiver, kind, parts).await;
}

async fn fails_with(delivery: Delivery, receiver: &Receiver, kind: ErrorKind, parts: &[&str]) {
    let error = delivery.tell(receiver, &message()).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    for secret in [
        "T0SECRET",
        "B0SECRET",
        "services",
        "headersecret",
        "hunter2",
    ] {
        assert!(!format!("{error:?}").contains(secret), "{error}");
    }
}

#[tokio::test]
async fn a_webhook_gets_what_slack_takes() {
    let server = HttpReceiver::start().await.unwrap();
    let delivery = Delivery::new().unwrap();
    delivery.tell(&webhook(&server), &message()).await.unwrap();
    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/services/T0SECRET/B0SECRET")
    );
    assert_eq!(request.header("x-token"), Some("headersecret"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        body["text"],
        "firing: job nightly: it failed: a &lt; b &amp; c"
    );
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["text", "attachments"]);
    let fields = body["attachments"][0]["fields"].as_array().unwrap();
    assert_eq!(fields[3]["value"], "step load\nstep check");
}

#[tokio::test]
async fn a_webhook_that_does_not_take_it_says_why() {
    let server = HttpReceiver::start().await.unwrap();
    let receiver = webhook(&server);
    server.answer_with(500, &[], "broken");
    fails(
        &receiver,
        ErrorKind::Unavailable,
        &["status 500", "broken", &server.url()],
    )
    .await;
    server.answer_with(429, &[("Retry-After", "30")], "");
    fails(
        &receiver,
        ErrorKind::Unavailable,
        &["status 429", "retry after 30"],
    )
    .await;
    let echo = "no /services/T0SECRET/B0SECRET with headersecret";
    server.answer_with(404, &[], echo);
    fails(&receiver, ErrorKind::NotFound, &["status 404", "with ***"]).await;
    server.answer_with(400, &[], &"x".repeat(5000));
    fails(&receiver, ErrorKind::Usage, &[&"x".repeat(200)]).await;
    server.answer_with(302, &[("Location", "/elsewhere")], "");
    fails(&receiver, ErrorKind::Usage, &["redirects are not followed"]).await;
    assert_eq!(server.requests().len(), 5, "a redirect was followed");
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_is_not_waited_for() {
    let server = HttpReceiver::start().await.unwrap();
    let receiver = webhook(&server);
    server.never_answer();
    fails_with(
        Delivery::with_timeout(Duration::from_millis(500)).unwrap(),
        &receiver,
        ErrorKind::Unreachable,
        &["did not answer in time"],
    )
    .await;
    server.hang_up();
    fails(
        &receiver,
        ErrorKind::Unreachable,
        &["cannot reach the webhook"],
    )
    .await;
    drop(server);
    fails(&receiver, ErrorKind::Unreachable, &["127.0.0.1"]).await;
}

fn email(server: &SmtpReceiver) -> Email {
    Email {
        tls: MailTls::None,
        host: server.address().ip().to_string(),
        port: server.address().port(),
        login: None,
        from: "Tributary <tributary@example.com>".to_owned(),
        to: vec!["a@example.com".to_owned(), "b@example.com".to_owned()],
    }
}

#[tokio::test]
async fn a_mail_reaches_all_receivers() {
    let server = SmtpReceiver::start().await.unwrap();
    server.demand_login("me", "hunter2hunter2");
    let mut email = email(&server);
    email.login = Some(("me".to_owned(), Secret::from("hunter2hunter2")));
    let mut message = message();
    message.subject = "job x\r\nBcc: eve@example.com".to_owned();
    let delivery = Delivery::new().unwrap();
    delivery
        .tell(&Receiver::Email(email), &message)
        .await
        .unwrap();
    let mails = server.wait_for(1, TIMEOUT).await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].from, "tributary@example.com");
    assert_eq!(mails[0].to, ["a@example.com", "b@example.com"]);
    let (head, body) = mails[0].text.split_once("\n\n").unwrap();
    assert!(
        head.contains("Subject: [tributary] firing: job x"),
        "{head}"
    );
    assert!(
        head.contains("Message-ID: <") && head.contains("@db1>"),
        "{head}"
    );
    assert!(!head.contains("\nBcc"), "{head}");
    assert!(body.contains("step load\nstep check"), "{body}");
}

#[tokio::test]
async fn a_mail_server_that_does_not_take_it_says_why() {
    let server = SmtpReceiver::start().await.unwrap();
    let plain = email(&server);
    let receiver = |email: &Email| Receiver::Email(email.clone());

    let with_tls = Email {
        tls: MailTls::StartTls,
        ..plain.clone()
    };
    fails(
        &receiver(&with_tls),
        ErrorKind::Usage,
        &["does not offer TLS"],
    )
    .await;

    let with_login = Email {
        login: Some(("me".to_owned(), Secret::from("hunter2hunter2"))),
        ..plain.clone()
    };
    fails(
        &receiver(&with_login),
        ErrorKind::Unauthenticated,
        &["takes no login"],
    )
    .await;

    server.refuse("b@", "550 no such user here");
    fails(
        &receiver(&plain),
        ErrorKind::NotFound,
        &["no such user here", "code 550"],
    )
    .await;
    server.refuse("a@", "450 try later");
    fails(&receiver(&plain), ErrorKind::Unavailable, &["try later"]).await;

    server.demand_login("me", "another");
    fails(
        &receiver(&with_login),
        ErrorKind::Unauthenticated,
        &["refuses the login", "code 535"],
    )
    .await;
    fails(
        &receiver(&plain),
        ErrorKind::Unauthenticated,
        &["wants a login"],
    )
    .await;
    assert!(server.messages().is_empty());
    drop(server);
    fails(&receiver(&plain), ErrorKind::Unreachable, &["cannot reach"]).await;
}

#[test]
fn standard_error_gets_one_line() {
    let mut message = message();
    message.summary = "two\nlines".to_owned();
    assert_eq!(
        line(&message),
        "alert firing: job nightly: two lines (rule failures, since 2026-01-02T03:04:05Z)"
    );
}
