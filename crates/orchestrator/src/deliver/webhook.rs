//! Webhooks that take Slack's messages: Slack, Mattermost, Rocket.Chat and others.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::{Value, json};
use tributary_model::{Error, ErrorKind, Result};

use super::{AlertState, Message, cut, one_line};
use crate::config::Secret;

/// Slack shows no more of a field.
const LONGEST_DETAIL: usize = 2000;
/// How much of an answer is part of an error.
const LONGEST_ANSWER: usize = 200;
/// Shorter parts of an address are no secrets, and would make holes into every answer.
const SHORTEST_SECRET: usize = 6;

pub(super) async fn tell(
    client: &Client,
    url: &Secret,
    headers: &BTreeMap<String, Secret>,
    message: &Message,
) -> Result<()> {
    let url = Url::parse(url.as_str()).map_err(|error| {
        Error::new(ErrorKind::Usage, "the address of a webhook is none")
            .because(error)
            .remedy("write it as https://host/path")
    })?;
    let server = url.origin().ascii_serialization();
    let mut request_headers = HeaderMap::new();
    for (name, value) in headers {
        let parsed = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value.as_str()),
        );
        let (Ok(name), Ok(mut value)) = parsed else {
            return Err(
                Error::new(ErrorKind::Usage, "a header of a webhook cannot be sent")
                    .on("header", one_line(name))
                    .remedy("headers hold visible ASCII characters only"),
            );
        };
        value.set_sensitive(true);
        request_headers.insert(name, value);
    }
    let sent = client
        .post(url.clone())
        .headers(request_headers)
        .json(&payload(message))
        .send()
        .await;
    let mut response = sent.map_err(|error| {
        let message = match error.is_timeout() {
            true => "the webhook did not answer in time",
            false => "cannot reach the webhook",
        };
        Error::new(ErrorKind::Unreachable, message)
            .on("server", &server)
            .because(error.without_url())
            .remedy("check the address, and that this machine may reach it")
    })?;
    if response.status().is_success() {
        return Ok(());
    }
    let answer = beginning(&mut response).await;
    let answer = without_secrets(answer, &url, headers);
    Err(refused(&response, &server, &answer))
}

/// What Slack and those that follow it take. Slack refuses some fields that it does not know.
fn payload(message: &Message) -> Value {
    let color = match message.state {
        AlertState::Firing => "#d32f2f",
        AlertState::Recovered => "#2e7d32",
        AlertState::Test => "#1976d2",
    };
    let mut fields = vec![
        field("rule", &message.rule, true),
        field("since", &message.since(), true),
        field("host", &message.host, true),
    ];
    if let Some(detail) = &message.detail {
        fields.push(field("detail", cut(detail, LONGEST_DETAIL), false));
    }
    json!({
        "text": escaped(&format!(
            "{}: {}: {}",
            message.state,
            one_line(&message.subject),
            one_line(&message.summary),
        )),
        "attachments": [{ "color": color, "fields": fields }],
    })
}

fn field(title: &str, value: &str, short: bool) -> Value {
    json!({ "title": title, "value": escaped(value), "short": short })
}

/// As Slack demands it of texts; otherwise `<!channel>` would call everybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

async fn beginning(response: &mut Response) -> String {
    let mut bytes = Vec::new();
    // A character has four bytes at most.
    while bytes.len() < LONGEST_ANSWER * 4 {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            // The status says enough.
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Servers repeat in their answers what they were asked.
fn without_secrets(mut answer: String, url: &Url, headers: &BTreeMap<String, Secret>) -> String {
    let mut secrets: Vec<&str> = headers.values().map(Secret::as_str).collect();
    secrets.extend(url.path().split('/'));
    secrets.extend(url.query());
    secrets.extend(url.password());
    for secret in secrets {
        if secret.len() >= SHORTEST_SECRET {
            answer = answer.replace(secret, "***");
        }
    }
    one_line(cut(answer.trim(), LONGEST_ANSWER))
}

fn refused(response: &Response, server: &str, answer: &str) -> Error {
    let status = response.status();
    let (kind, remedy) = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => (
            ErrorKind::Unavailable,
            "it is told again later; fewer rules, or a longer `repeat`, make fewer messages",
        ),
        _ if status.is_server_error() => (ErrorKind::Unavailable, "it is told again later"),
        StatusCode::UNAUTHORIZED => (
            ErrorKind::Unauthenticated,
            "check the webhook's address and headers",
        ),
        StatusCode::FORBIDDEN => (
            ErrorKind::Forbidden,
            "check the webhook's address and headers",
        ),
        StatusCode::NOT_FOUND | StatusCode::GONE => (
            ErrorKind::NotFound,
            "the webhook may have been removed: make a new one, and name its address",
        ),
        _ if status.is_redirection() => (
            ErrorKind::Usage,
            "redirects are not followed: name the address that it redirects to",
        ),
        _ => (
            ErrorKind::Usage,
            "the address is to be that of a webhook that takes Slack's messages",
        ),
    };
    let mut error = Error::new(kind, "the webhook does not take the message")
        .on("server", server)
        .on("status", status.as_u16())
        .remedy(remedy);
    let later = response.headers().get(RETRY_AFTER);
    if let Some(seconds) = later.and_then(|later| later.to_str().ok()) {
        error = error.on("retry after", one_line(cut(seconds, 40)));
    }
    match answer {
        "" => error,
        answer => error.because(answer.to_owned()),
    }
}
