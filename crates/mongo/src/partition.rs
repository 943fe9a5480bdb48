//! Cutting a collection into partitions by `_id`.
//!
//! The bounds are index bounds (`min` and `max` with a hint on `_id`), because those order values
//! of all types as the index does; `$gt` and `$lt` see only values of the bound's own type and
//! would lose the others.

use mongodb::bson::{Bson, doc};
use tributary_flow::{CollectionInfo, CollectionKind, Partition};
use tributary_model::Result;

use crate::snapshot::MongoSource;

/// How many bytes of BSON one partition of a large collection has: enough to make one file of the
/// size that lakes like, and little enough to be read again after a crash.
const PARTITION_BYTES: u64 = 1 << 30;
/// Collections below this are read in one piece.
const WORTH_CUTTING: u64 = 32 << 20;
/// Where there are too few partitions of that size to keep all workers busy to the end, they are
/// made smaller, down to this.
const LEAST_PARTITION_BYTES: u64 = 128 << 20;
/// Documents sampled for each bound. The server's random cursor favours some pages, so partitions
/// are only roughly even.
const SAMPLES_PER_BOUND: u64 = 100;

impl MongoSource {
    pub(crate) async fn cut(
        &self,
        collection: &CollectionInfo,
        parallel: usize,
    ) -> Result<Vec<Partition>> {
        let (documents, bytes) = (
            collection.documents.unwrap_or(0),
            collection.bytes.unwrap_or(0),
        );
        let count = match collection.kind {
            CollectionKind::Collection if bytes >= WORTH_CUTTING && documents > 1000 => {
                let parallel = parallel as u64;
                let even = (bytes / LEAST_PARTITION_BYTES).min(2 * parallel);
                let count = bytes.div_ceil(PARTITION_BYTES).max(even);
                // A whole number of rounds, so that no worker is idle in the last one.
                count.div_ceil(parallel).max(1) * parallel
            }
            _ => 1,
        };
        let count = count.min(documents / 100).max(1);
        let bounds = if count > 1 && self.reads_by_id(collection).await? {
            self.bounds(collection, count).await?
        } else {
            Vec::new()
        };
        let parts = bounds.len() as u64 + 1;
        let lower = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
        let upper = bounds
            .iter()
            .cloned()
            .map(Some)
            .chain(std::iter::once(None));
        Ok(lower
            .zip(upper)
            .enumerate()
            .map(|(index, (lower, upper))| Partition {
                index: index as u32,
                lower,
                upper,
                bytes: collection.bytes.map(|b| b / parts),
            })
            .collect())
    }

    /// Whether the collection is best read along the `_id` index: it has one, and no other index
    /// answers the filter better.
    async fn reads_by_id(&self, collection: &CollectionInfo) -> Result<bool> {
        if self.selection.filter.is_empty() {
            return Ok(true);
        }
        let database = self
            .connection
            .client
            .database(&collection.namespace.database);
        let plan = database
            .run_command(doc! {
                "explain": { "find": &collection.namespace.collection, "filter": self.selection.filter.clone() },
                "verbosity": "queryPlanner",
            })
            .selection_criteria(self.connection.read_from.clone())
            .await
            .map_err(|error| self.connection.failed("the filter is not accepted", &error))?;
        Ok(!uses_index(&Bson::Document(
            plan.get_document("queryPlanner")
                .cloned()
                .unwrap_or_default(),
        )))
    }

    /// At most `count - 1` values of `_id`, in the order of the index, that cut the collection into
    /// parts of about the same number of documents.
    async fn bounds(&self, collection: &CollectionInfo, count: u64) -> Result<Vec<String>> {
        let failed = |error| {
            self.connection
                .failed("cannot cut the collection into partitions", &error)
        };
        let size = count * SAMPLES_PER_BOUND;
        // The server sorts, in the order and collation of the index itself.
        let pipeline = [
            doc! { "$sample": { "size": size as i64 } },
            doc! { "$project": { "_id": 1 } },
            doc! { "$sort": { "_id": 1 } },
        ];
        let mut cursor = self
            .collection(&collection.namespace)
            .aggregate(pipeline)
            .selection_criteria(self.connection.read_from.clone())
            .await
            .map_err(failed)?;
        let mut ids: Vec<Bson> = Vec::new();
        while cursor.advance().await.map_err(failed)? {
            // A key that is text but not UTF-8 makes no bound.
            let id = cursor
                .current()
                .get("_id")
                .ok()
                .flatten()
                .and_then(|id| Bson::try_from(id).ok());
            ids.extend(id);
        }
        let mut bounds: Vec<String> = Vec::new();
        for i in 1..count {
            let at = (ids.len() as u64 * i / count) as usize;
            let Some(id) = ids.get(at) else { break };
            let text = id.clone().into_canonical_extjson().to_string();
            if bounds.last() != Some(&text) {
                bounds.push(text);
            }
        }
        Ok(bounds)
    }
}

fn uses_index(plan: &Bson) -> bool {
    match plan {
        Bson::Document(stage) => {
            let own = stage.get_str("stage").ok();
            let other_index = own == Some("IXSCAN")
                && stage.get_str("indexName").ok() != Some("_id_")
                || matches!(
                    own,
                    Some("TEXT_MATCH" | "GEO_NEAR_2D" | "GEO_NEAR_2DSPHERE" | "DISTINCT_SCAN")
                );
            // Plans that lost do not matter.
            other_index
                || stage
                    .iter()
                    .any(|(key, value)| key != "rejectedPlans" && uses_index(value))
        }
        Bson::Array(stages) => stages.iter().any(uses_index),
        _ => false,
    }
}
