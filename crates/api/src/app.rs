//! What all requests share.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tributary_orchestrator::config;
use tributary_orchestrator::control::Control;

use crate::access::Tokens;
use crate::body::Memory;
use crate::limits::Limits;
use crate::openapi::openapi;
use crate::outside::Outside;

/// What all requests share.
pub(crate) struct App {
    pub(crate) control: Arc<dyn Control>,
    /// What is answered that is not of the API itself.
    pub(crate) outside: Outside,
    pub(crate) tokens: Tokens,
    pub(crate) limits: Limits,
    /// One for each request that may be in flight.
    pub(crate) in_flight: Semaphore,
    /// One for each of these that may be a push that is not proven yet.
    pub(crate) unproven: Semaphore,
    /// One for each request to an endpoint.
    pub(crate) answering: Arc<Semaphore>,
    /// For events that are pushed with a key.
    pub(crate) ingested: Memory,
    /// For those of pushes that are not proven yet.
    pub(crate) unproven_bodies: Memory,
    /// For requests to endpoints.
    pub(crate) asked: Memory,
    /// One for each subscriber there may be.
    pub(crate) subscribers: Arc<Semaphore>,
    /// What ends the answers that have no end of their own.
    pub(crate) stop: CancellationToken,
    pub(crate) is_tls: bool,
    pub(crate) openapi: String,
}

pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(
        server: &config::Server,
        control: Arc<dyn Control>,
        outside: Outside,
        stop: CancellationToken,
        limits: Limits,
    ) -> Shared {
        Arc::new(Self {
            control,
            outside,
            tokens: Tokens::new(&server.tokens),
            in_flight: Semaphore::new(limits.in_flight),
            unproven: Semaphore::new(limits.unproven),
            answering: Arc::new(Semaphore::new(limits.answering)),
            ingested: Memory::new(limits.ingested),
            unproven_bodies: Memory::new(limits.unproven_bodies),
            asked: Memory::new(limits.asked),
            subscribers: Arc::new(Semaphore::new(limits.subscribers)),
            limits,
            stop,
            is_tls: server.tls.is_some(),
            openapi: openapi(),
        })
    }
}
