//! The HTTP API of what runs: flows, jobs and their runs, triggers, schema changes, alerts, and what happens as it happens.
//!
//! [`serve`] listens, with TLS where there is a certificate, and passes all that is asked to a
//! [`Control`]; it knows nothing of how that does its work. Everything is below `/api/v1`, as
//! [`openapi`] says, but for `/health` and `/ready` (for whoever restarts or routes to this process,
//! without a token), `/metrics` (Prometheus) and `/openapi.json`; for `/ingest`, where events are pushed by
//! those who may by their source's own key or signature, which [`Ingests`] looks at; and for `/app`, where
//! applications answer at their [`Endpoints`], and look themselves who asks.
//!
//! A request passes, from the outside to the inside:
//!
//! 1. `answer`: a panic becomes an answer, every failure a problem of RFC 9457, every answer has its
//!    headers, and the access log its line.
//! 2. `limits`: so many requests at once, so much time for each, so many bytes (`body`). Requests to endpoints have
//!    limits of their own, and so have pushes that only their body can prove.
//! 3. `access`: who asks, and whether that token may do that. Without tokens, only what names this
//!    machine by an address or as `localhost` is answered, and no other site's page may change anything,
//!    because a browser can be made to ask on behalf of anybody.
//! 4. `routes`: what is asked of the [`Control`].
//!
//! Invariant: access is decided by the method and the path before a route is looked for, so that no route but
//! those of `/ingest` and `/app` can be without it, and only what may see can tell which routes there are.
//!
//! Invariant: no token is in a log, an answer or a `Debug`.

mod access;
mod answer;
mod app;
mod body;
mod ingest;
mod limits;
mod openapi;
mod outside;
mod problem;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_model::Result;
use tributary_orchestrator::config;
use tributary_orchestrator::control::Control;

pub use ingest::{Admitted, Ingests, Refusal, Taken};
pub use openapi::openapi;
pub use outside::{Admission, Answered, Asked, Endpoints, Outside};
pub use server::Served;

/// Serves the API, and what is answered beside it, until `stop`. It listens when this returns.
///
/// # Errors
/// The address cannot be listened at, or the certificate or its key cannot be used: with the address or
/// the file, the cause, and what to do.
pub async fn serve(
    server: &config::Server,
    control: Arc<dyn Control>,
    outside: Outside,
    stop: CancellationToken,
) -> Result<Served> {
    server::serve(server, control, outside, stop, limits::Limits::default()).await
}
