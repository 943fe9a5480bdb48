//! Requests and responses, as far as functions see them.

use std::net::IpAddr;

use bson::{Bson, Document, doc};
use bytes::Bytes;

use super::binary;
use crate::app::ReturnType;
use crate::services::canonical_name;

/// The parameter of a query that proves that a request may be answered.
const SECRET: &str = "secret";

/// A request to an endpoint.
#[derive(Debug, Clone, Default)]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// The route, with `/` in front, decoded.
    pub route: String,
    /// The query as it was sent, without `?`.
    pub raw_query: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What was sent.
    pub body: Bytes,
    /// Who asks, where that is known.
    pub remote: Option<IpAddr>,
}

impl HttpRequest {
    /// The first value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The secret that the query names, decoded.
    pub(super) fn secret_of_query(&self) -> Option<String> {
        let mut parameters = url::form_urlencoded::parse(self.raw_query.as_bytes());
        parameters
            .find(|(name, _)| name == SECRET)
            .map(|(_, value)| value.into_owned())
    }

    /// The query without its secrets, which are none of a function's business.
    fn query(&self) -> String {
        let names_secret = |pair: &str| {
            let mut parameters = url::form_urlencoded::parse(pair.as_bytes());
            parameters.any(|(name, _)| name == SECRET)
        };
        let pairs = self.raw_query.split('&');
        let kept: Vec<&str> = pairs.filter(|pair| !names_secret(pair)).collect();
        kept.join("&")
    }

    /// What the result is to be written as, where the request says so.
    pub(super) fn accepted(&self) -> Option<ReturnType> {
        let mut best = None;
        for given in self.header("accept")?.split(',') {
            let mut parts = given.split(';').map(str::trim);
            let return_type = match parts.next() {
                Some(name) if name.eq_ignore_ascii_case("application/json") => ReturnType::Json,
                Some(name) if name.eq_ignore_ascii_case("application/ejson") => ReturnType::Ejson,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight: f32 = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if weight > best.map_or(0.0, |(best, _)| best) {
                best = Some((weight, return_type));
            }
        }
        best.map(|(_, return_type)| return_type)
    }

    /// Names and values of headers, all of one name together, as `{ name: [values] }`.
    fn header_lists(&self) -> Document {
        let mut lists = Document::new();
        for (name, value) in &self.headers {
            let name = canonical_name(name);
            match lists.get_array_mut(&name) {
                Ok(values) => values.push(Bson::from(value)),
                Err(_) => {
                    lists.insert(name, vec![value.clone()]);
                }
            }
        }
        lists
    }

    /// What the function is given: `{ query, headers, body }`.
    pub(super) fn argument(&self) -> Document {
        let mut query = Document::new();
        for (name, value) in url::form_urlencoded::parse(self.query().as_bytes()) {
            if !name.contains('\0') && !query.contains_key(&name) {
                query.insert(name, value.into_owned());
            }
        }
        let mut argument = doc! { "query": query, "headers": self.header_lists() };
        if !self.body.is_empty() {
            argument.insert("body", binary(&self.body));
        }
        argument
    }

    /// What `context.request` is.
    pub(super) fn context(&self, app: &str, function: &str) -> Document {
        let mut context = doc! {
            "httpMethod": &self.method,
            "rawQueryString": self.query(),
            "webhookUrl": &self.route,
            "requestHeaders": self.header_lists(),
            "service": app,
            "action": function,
        };
        if let Some(remote) = self.remote {
            context.insert("remoteIPAddress", remote.to_string());
        }
        for (name, header) in [("httpReferrer", "referer"), ("httpUserAgent", "user-agent")] {
            if let Some(value) = self.header(header) {
                context.insert(name, value);
            }
        }
        context
    }
}

/// A response of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
}

impl HttpResponse {
    /// A response without a body.
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// What is sent where there is nothing better to send: `{ "error": message }`.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "error": message }).to_string();
        Self {
            status,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: Bytes::from(body),
        }
    }
}
