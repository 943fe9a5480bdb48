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
    /// What is to be done with a request whose body has not been read: `request` is without it.
    fn admit(&self, app: &str, request: &Asked) -> Admission;

    /// Answers a request; none where there is no such application. It is asked to its end, also where nobody waits
    /// for the answer any more.
    async fn answer(&self, app: &str, request: Asked) -> Option<Answered>;
}

/// What is to be done with a request to an endpoint.
#[derive(Debug, Clone)]
pub enum Admission {
    /// Its body is to be read, if it has no more than so many bytes.
    Read(usize),
    /// This is answered, whatever its body is.
    Refused(Answered),
    /// There is no such application or route.
    Unknown,
}

/// A request to an endpoint.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// The route, with `/` in front, decoded.
    pub route: String,
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
