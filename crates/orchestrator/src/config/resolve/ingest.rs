//! Sources whose events are pushed.

use std::time::Duration;

use serde_saphyr::Location;

use super::Resolver;
use super::server::SHORTEST_TOKEN;
use crate::config::file::IngestEntry;
use crate::config::plan::Ingest;
use crate::config::values::{Name, Secret};

const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// What is kept for less is lost when a lake is away for a moment.
const LEAST_RETENTION: Duration = Duration::from_secs(60);
const LARGEST_REQUEST: usize = 32 << 20;
/// More in one request than that is kept in memory at once is never read.
const MOST_REQUEST: u64 = 256 << 20;

impl Resolver<'_> {
    /// Checks a source with `ingest`. `has_server` says whether there is something to push to.
    pub(super) fn ingest(
        &mut self,
        at: Location,
        name: &Name,
        entry: &IngestEntry,
        has_server: bool,
    ) -> Ingest {
        if entry.key.is_none() && entry.hmac.is_none() {
            self.wrong(
                at,
                format!("`ingest` of source `{name}` has no `key` and no `hmac`: not everybody is to push"),
            );
        }
        for (key, secret) in [("key", &entry.key), ("hmac", &entry.hmac)] {
            let is_short = |secret: &Secret| secret.as_str().chars().count() < SHORTEST_TOKEN;
            if secret.as_ref().is_some_and(is_short) {
                self.wrong(
                    at,
                    format!("`{key}` of source `{name}` is short: it has {SHORTEST_TOKEN} characters at least"),
                );
            }
        }
        let retention = entry.retention.map_or(RETENTION, |period| period.0);
        if retention < LEAST_RETENTION {
            self.wrong(at, format!("`retention` of source `{name}` is 1m at least"));
        }
        let largest = entry.largest_request;
        if largest.is_some_and(|size| size.0 > MOST_REQUEST) {
            self.wrong(
                at,
                format!("`largest_request` of source `{name}` is 256MB at most"),
            );
        }
        if !has_server {
            self.wrong(
                at,
                format!("events are pushed to source `{name}` over HTTP, and there is no `server`"),
            );
        }
        Ingest {
            key: entry.key.clone(),
            hmac: entry.hmac.clone(),
            retention,
            largest_log: entry.largest_log.map(|size| size.0),
            largest_request: largest
                .and_then(|size| usize::try_from(size.0).ok())
                .unwrap_or(LARGEST_REQUEST),
        }
    }
}
