//! The collector: its address, how it is asked, and whether it answers.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::Telemetry;

/// A request may take so long: the default of OTLP exporters.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    Logs,
    Metrics,
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }
}

/// An OTLP collector.
pub(super) struct Collector {
    base: String,
    /// The name and password in the address, with the `@` behind them; nobody is told.
    user: String,
    client: reqwest::Client,
    /// What did not arrive the last time.
    failing: Mutex<BTreeSet<Signal>>,
}

impl Collector {
    pub(super) fn new(telemetry: &Telemetry) -> Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &telemetry.headers {
            let failed = |error: String| {
                Error::new(ErrorKind::Usage, "a header of telemetry cannot be sent")
                    .on("header", name)
                    .because(error)
            };
            let known = HeaderName::try_from(name).map_err(|error| failed(error.to_string()))?;
            let mut value =
                HeaderValue::try_from(value.as_str()).map_err(|error| failed(error.to_string()))?;
            value.set_sensitive(true);
            headers.insert(known, value);
        }
        // A redirect would take the headers to somewhere else.
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WITHIN)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Usage, "cannot prepare to send telemetry")
                    .because(error.without_url())
            })?;
        Ok(Self {
            base: telemetry.otlp.trim_end_matches('/').to_owned(),
            user: user(&telemetry.otlp).to_owned(),
            client,
            failing: Mutex::default(),
        })
    }

    /// Where a signal is sent.
    pub(super) fn address(&self, signal: Signal) -> String {
        format!("{}{}", self.base, signal.path())
    }

    pub(super) fn client(&self) -> reqwest::Client {
        self.client.clone()
    }

    /// Sends a message of protobuf.
    pub(super) async fn post(&self, signal: Signal, body: Vec<u8>) {
        let request = self
            .client
            .post(self.address(signal))
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => self.arrived(signal),
            Ok(answer) => self.failed(signal, &format!("it answers {}", answer.status())),
            Err(error) => {
                let error = error.without_url();
                let why = error
                    .source()
                    .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
                self.failed(signal, &why);
            }
        }
    }

    /// Tells that the collector cannot be reached, when it could before.
    pub(super) fn failed(&self, signal: Signal, why: &str) {
        let first = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            let first = failing.is_empty();
            failing.insert(signal);
            first
        };
        if first {
            let (collector, error) = (self.told(&self.base), self.told(why));
            tracing::warn!(
                collector,
                error,
                "telemetry cannot be sent; the work goes on without it"
            );
        }
    }

    /// Tells that the collector can be reached, when it could not before.
    pub(super) fn arrived(&self, signal: Signal) {
        let recovered = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            failing.remove(&signal) && failing.is_empty()
        };
        if recovered {
            let collector = self.told(&self.base);
            tracing::warn!(collector, "telemetry is sent again");
        }
    }

    /// A text without the name and the password of the address.
    fn told(&self, text: &str) -> String {
        if self.user.is_empty() {
            text.to_owned()
        } else {
            text.replace(&self.user, "")
        }
    }
}

/// The name and password in an address, with the `@` behind them.
fn user(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority
        .rfind('@')
        .and_then(|end| authority.get(..=end))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(otlp: &str, name: &str, value: &str) -> Telemetry {
        Telemetry {
            otlp: otlp.to_owned(),
            headers: [(name.to_owned(), value.into())].into(),
            interval: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_password_of_an_address_is_not_told() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let told = telemetry("https://me:hunter2@host:4318/otlp/", "authorization", "x");
        let collector = Collector::new(&told).expect("a collector");
        assert_eq!(collector.told(&collector.base), "https://host:4318/otlp");
        assert_eq!(user("http://host:4318/a@b"), "");
        assert_eq!(
            Collector::new(&telemetry("http://host", "a", "b"))
                .expect("a collector")
                .address(Signal::Logs),
            "http://host/v1/logs"
        );
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_told_without_its_value() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = telemetry("http://host", "x-key", "hunter2\nmore");
        let error = Collector::new(&wrong).err().expect("an error").to_string();
        assert!(error.contains("x-key"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
