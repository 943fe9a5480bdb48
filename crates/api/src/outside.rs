//! What is answered that is not of the API itself: events that are pushed, and endpoints of applications.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode};

use crate::ingest::Ingests;

/// What is answered that is not of the API itself; nothing of what is not there.
#[derive(Clone, Default)]
pub struct Outside {
    /// What takes events that are pushed.
    pub ingests: Option<Arc<dyn Ingests>>,
    /// What answers the endpoints of applications.
    pub endpoints: Option<Arc<dyn Endpoints>>,
}

/// The endpoints of applications. Each looks itself who asks: tokens of the API have nothing to do with that.
#[async_trait]
pub trait Endpoints: Send + Sync {
    /// How many bytes the body of a request to a route of an application may have; none where there is no such
    /// application or route.
    fn admit(&self, app: &str, route: &str) -> Option<usize>;

    /// Answers a request; none where there is no such application.
    async fn answer(&self, app: &str, request: Asked) -> Option<Answered>;
}

/// A request to an endpoint.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// The route, with `/` in front, decoded.
    pub route: String,
    /// The path as it was asked for.
    pub path: String,
    /// The query as it was sent, without `?`.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// What was sent.
    pub body: Bytes,
    /// Who asks.
    pub remote: Option<IpAddr>,
}

/// What an endpoint answers.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}
