//! Sources whose events are pushed.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::size::Size;
use crate::config::values::{Period, Secret};

/// How events are pushed, with a `key`, an `hmac` or both, and for how long they are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestEntry {
    /// What has to come with a request as `X-API-Key` or `Authorization: Bearer`: 16 characters at least
    #[serde(default)]
    pub(crate) key: Option<Secret>,
    /// The secret that the body of a request has to be signed with, as `X-Signature-256: sha256=…`:
    /// 16 characters at least
    #[serde(default)]
    pub(crate) hmac: Option<Secret>,
    /// How long events are kept. What has not been read by then is lost. [default: 7d]
    #[serde(default)]
    pub(crate) retention: Option<Period>,
    /// How large the events that are kept may be together; the oldest go first. [default: as large as they are]
    #[serde(default)]
    pub(crate) largest_log: Option<Size>,
    /// The largest request. [default: 32MB]
    #[serde(default)]
    pub(crate) largest_request: Option<Size>,
}
