//! The HTTP server, and where telemetry goes.

use std::time::Duration;

use serde_saphyr::Spanned;
use url::Url;

use super::Resolver;
use crate::config::file::{ServerEntry, TelemetryEntry};
use crate::config::plan::{Server, Telemetry, Token};

const LISTEN: &str = "127.0.0.1:8087";
const LARGEST_REQUEST: usize = 1 << 20;
const METRICS_EVERY: Duration = Duration::from_secs(10);
/// What can be guessed is no secret.
pub(super) const SHORTEST_TOKEN: usize = 16;

impl Resolver<'_> {
    pub(super) fn server(&mut self, entry: Spanned<ServerEntry>) -> Option<Server> {
        let server = entry.value;
        let (text, at) = match &server.listen {
            Some(listen) => (listen.value.as_str(), listen.referenced),
            None => (LISTEN, entry.referenced),
        };
        let Ok(listen) = text.parse::<std::net::SocketAddr>() else {
            self.wrong(
                at,
                format!("`{text}` is no address and port, such as 127.0.0.1:8087"),
            );
            return None;
        };
        let mut tokens = Vec::new();
        for (name, token) in server.tokens {
            if token.token.value.as_str().len() < SHORTEST_TOKEN {
                self.wrong(
                    token.token.referenced,
                    format!(
                        "the token `{name}` is too short: {SHORTEST_TOKEN} characters at least, as of `openssl rand -hex 32`"
                    ),
                );
            }
            tokens.push(Token {
                name: name.to_string(),
                token: token.token.value,
                role: token.role,
            });
        }
        if !listen.ip().is_loopback() {
            if tokens.is_empty() {
                self.wrong(at, "listening beyond this machine needs `tokens`");
            }
            if server.tls.is_none() && !server.behind_proxy {
                self.wrong(
                    at,
                    "listening beyond this machine needs `tls`, or `behind_proxy: true` where something before it has TLS",
                );
            }
        }
        Some(Server {
            listen,
            tls: server.tls.map(|tls| {
                (
                    self.path(tls.certificate.as_str()),
                    self.path(tls.key.as_str()),
                )
            }),
            tokens,
            largest_request: server
                .largest_request
                .and_then(|bytes| usize::try_from(bytes.get()).ok())
                .unwrap_or(LARGEST_REQUEST),
        })
    }

    pub(super) fn telemetry(&mut self, entry: Spanned<TelemetryEntry>) -> Option<Telemetry> {
        let telemetry = entry.value;
        let otlp = telemetry.otlp.value.as_str();
        if !Url::parse(otlp).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            self.wrong(
                telemetry.otlp.referenced,
                format!("`{otlp}` is no address of an OTLP collector, http://host:4318"),
            );
            return None;
        }
        Some(Telemetry {
            otlp: otlp.trim_end_matches('/').to_owned(),
            headers: telemetry.headers,
            interval: telemetry.interval.map_or(METRICS_EVERY, |period| period.0),
        })
    }
}
