//! Sources whose events are pushed, once they have been checked.

use std::time::Duration;

use crate::config::values::Secret;

/// A MongoDB deployment whose events are pushed: with a key, a signature, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// What has to come with a request.
    pub key: Option<Secret>,
    /// What the body of a request has to be signed with.
    pub hmac: Option<Secret>,
    /// How long events are kept.
    pub retention: Duration,
    /// How large they may be together, in bytes.
    pub largest_log: Option<u64>,
    /// The largest request, in bytes.
    pub largest_request: usize,
}
