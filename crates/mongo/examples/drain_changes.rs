//! Reads a database's change stream as fast as the driver allows, from a moment until it is caught up, and throws
//! the events away: the speed that following is compared with. Prints one JSON object with the events and their bytes.
//!
//! Usage: `drain_changes URI DATABASE SECONDS ORDINAL [updateLookup]`, the moment being a BSON timestamp.

use std::error::Error;
use std::io::Write;

use futures::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{RawBsonRef, Timestamp, doc};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (uri, database, seconds, ordinal, mode) = match arguments.as_slice() {
        [uri, database, seconds, ordinal] => (uri, database, seconds, ordinal, "default"),
        [uri, database, seconds, ordinal, mode] => (uri, database, seconds, ordinal, mode.as_str()),
        _ => return Err("usage: drain_changes URI DATABASE SECONDS ORDINAL [updateLookup]".into()),
    };
    let start = Timestamp {
        time: seconds.parse()?,
        increment: ordinal.parse()?,
    };
    let client = Client::with_uri_str(uri).await?;
    let started = std::time::Instant::now();
    let stream = doc! { "startAtOperationTime": start, "fullDocument": mode };
    let mut batches = client
        .database(database)
        .run_cursor_command(doc! {
            "aggregate": 1,
            "pipeline": [{ "$changeStream": stream }],
            "cursor": { "batchSize": 0 },
            "readConcern": { "level": "majority" },
        })
        .batch_size(5_000)
        .max_time(std::time::Duration::from_millis(1))
        .batch()
        .await?;
    let (mut events, mut bytes) = (0_u64, 0_u64);
    let mut is_first = true;
    while let Some(batch) = batches.try_next().await? {
        let mut any = false;
        for value in batch.doc_slices()? {
            if let RawBsonRef::Document(event) = value? {
                any = true;
                events += 1;
                bytes += event.as_bytes().len() as u64;
            }
        }
        if !any && !is_first {
            break;
        }
        is_first = false;
    }
    let report = serde_json::json!({
        "events": events,
        "bytes": bytes,
        "seconds": started.elapsed().as_secs_f64(),
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
