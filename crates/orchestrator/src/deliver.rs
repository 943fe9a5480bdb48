//! Tells a receiver an alert: by a webhook, by e-mail, or on standard error.

mod email;
#[cfg(test)]
mod tests;
mod webhook;

use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use tributary_model::{Error, ErrorKind, Result};

use crate::config::Receiver;

/// How long a receiver may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What has become of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AlertState {
    /// What its rule watches for is the case.
    Firing,
    /// It is the case no more.
    Recovered,
    /// Somebody tries out whether messages arrive.
    Test,
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firing => "firing",
            Self::Recovered => "recovered",
            Self::Test => "test",
        })
    }
}

/// What a receiver is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    /// What has become of the alert.
    pub(crate) state: AlertState,
    /// The name of its rule.
    pub(crate) rule: String,
    /// What it is about, such as `job nightly` or `flow shop table shop.orders`.
    pub(crate) subject: String,
    /// What is the case, in one line.
    pub(crate) summary: String,
    /// The error, of several lines perhaps.
    pub(crate) detail: Option<String>,
    /// Since when it is so.
    pub(crate) since: DateTime<Utc>,
    /// The machine that tells it.
    pub(crate) host: String,
}

impl Message {
    fn since(&self) -> String {
        self.since.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

/// Tells receivers.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    client: reqwest::Client,
    timeout: Duration,
}

impl Delivery {
    /// One that waits ten seconds for an answer.
    ///
    /// # Errors
    /// TLS cannot be set up on this machine.
    pub(crate) fn new() -> Result<Self> {
        Self::with_timeout(TIMEOUT)
    }

    pub(crate) fn with_timeout(timeout: Duration) -> Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            // An address that moved is to be looked at by somebody: the new one gets the message and
            // the headers with their secrets.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("tributary")
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Storage, "cannot set up TLS for webhooks")
                    .because(error)
                    .remedy("check that the certificates of this system are installed")
            })?;
        Ok(Self { client, timeout })
    }

    /// Tells one receiver once; trying again is the caller's.
    ///
    /// # Errors
    /// The receiver cannot be reached, or does not take the message. The kind says whether trying
    /// again may help. No secret of the receiver is part of it.
    pub(crate) async fn tell(&self, receiver: &Receiver, message: &Message) -> Result<()> {
        match receiver {
            Receiver::Webhook { url, headers } => {
                webhook::tell(&self.client, url, headers, message).await
            }
            Receiver::Email(email) => email::tell(email, message, self.timeout).await,
            Receiver::Stderr => {
                let mut line = line(message);
                line.push('\n');
                // In one piece, so that no other line comes between.
                io::stderr()
                    .lock()
                    .write_all(line.as_bytes())
                    .map_err(|error| {
                        Error::new(ErrorKind::Storage, "cannot write to standard error")
                            .because(error)
                    })
            }
        }
    }
}

fn line(message: &Message) -> String {
    let Message {
        state,
        rule,
        subject,
        summary,
        ..
    } = message;
    one_line(&format!(
        "alert {state}: {subject}: {summary} (rule {rule}, since {})",
        message.since()
    ))
}

/// The text without line ends and other control characters.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The beginning of a text.
fn cut(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters);
    end.map_or(text, |(at, _)| text.get(..at).unwrap_or_default())
}
