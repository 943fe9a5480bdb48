//! Reading single documents by their keys, as of a moment.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use mongodb::bson::{RawArrayBuf, RawDocument, RawDocumentBuf, Timestamp, cstr};
use tokio::sync::mpsc;
use tributary_flow::{DocumentBatch, LookupSource, Moment};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Result};

use crate::snapshot::{MongoSource, zero_copy};

/// How many documents are asked for at once.
const KEYS_AT_ONCE: usize = 1_000;
/// How many bytes of keys are sent at once.
const BYTES_AT_ONCE: usize = 4 << 20;

/// The codes that say that a moment cannot be read: the server has forgotten it, does not know it
/// yet, or the collection has been changed since.
const FORGOTTEN: &[i32] = &[
    72,  // InvalidOptions: not yet
    115, // CommandNotSupported
    123, // NotAReplicaSet
    239, // SnapshotTooOld
    246, // SnapshotUnavailable
];

#[async_trait]
impl LookupSource for MongoSource {
    async fn look_up(
        &self,
        collection: &Namespace,
        ids: &[Bytes],
        moment: Moment,
        out: mpsc::Sender<DocumentBatch>,
    ) -> Result<bool> {
        let failed = |error| {
            self.connection
                .failed("cannot read documents by their keys", &error)
                .on("namespace", collection)
        };
        let mut ids = ids.iter().peekable();
        while ids.peek().is_some() {
            let (mut keys, mut count, mut bytes) = (RawArrayBuf::new(), 0, 0);
            while count < KEYS_AT_ONCE
                && bytes < BYTES_AT_ONCE
                && let Some(id) = ids.next()
            {
                let id = RawDocument::from_bytes(id)
                    .and_then(|id| id.get("_id"))
                    .map_err(|error| {
                        Error::new(ErrorKind::InvalidData, "a key is not BSON").because(error)
                    })?;
                if let Some(id) = id {
                    keys.push(id);
                }
                count += 1;
                bytes = keys.as_bytes().len();
            }
            let cursor = self
                .connection
                .client
                .database(&collection.database)
                .run_raw_cursor_command(find(collection, &keys, moment))
                .selection_criteria(self.connection.read_from.clone())
                .batch()
                .await;
            let mut cursor = match cursor {
                Ok(cursor) => cursor,
                Err(error) if is_forgotten(&error, moment) => return Ok(false),
                Err(error) => return Err(failed(error)),
            };
            while let Some(batch) = cursor.next().await {
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) if is_forgotten(&error, moment) => return Ok(false),
                    Err(error) => return Err(failed(error)),
                };
                if out.send(zero_copy(batch).map_err(failed)?).await.is_err() {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }
}

fn find(collection: &Namespace, keys: &RawArrayBuf, moment: Moment) -> RawDocumentBuf {
    let mut among = RawDocumentBuf::new();
    among.append(cstr!("$in"), keys.as_ref());
    let mut filter = RawDocumentBuf::new();
    filter.append(cstr!("_id"), among);
    let mut concern = RawDocumentBuf::new();
    match moment {
        Moment::Behind(time) => {
            concern.append(cstr!("level"), "majority");
            concern.append(cstr!("afterClusterTime"), timestamp(time));
        }
        Moment::At(time) => {
            concern.append(cstr!("level"), "snapshot");
            concern.append(cstr!("atClusterTime"), timestamp(time));
        }
    }
    let mut find = RawDocumentBuf::new();
    find.append(cstr!("find"), collection.collection.as_str());
    find.append(cstr!("filter"), filter);
    find.append(cstr!("readConcern"), concern);
    find.append(cstr!("comment"), "tributary verify");
    find
}

fn timestamp(time: ClusterTime) -> Timestamp {
    Timestamp {
        time: time.seconds(),
        increment: time.ordinal(),
    }
}

fn is_forgotten(error: &mongodb::error::Error, moment: Moment) -> bool {
    match (moment, error.kind.as_ref()) {
        (Moment::At(_), mongodb::error::ErrorKind::Command(command)) => {
            FORGOTTEN.contains(&command.code)
        }
        _ => false,
    }
}
