//! Reads a collection as fast as the driver allows and throws the documents away: the speed that every copy is
//! compared with. Prints one JSON object with the documents and the bytes of BSON it has seen.
//!
//! Usage: `drain URI DATABASE COLLECTION`

use std::error::Error;
use std::io::Write;

use futures::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{RawBsonRef, RawDocumentBuf, doc};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, database, collection] = arguments.as_slice() else {
        return Err("usage: drain URI DATABASE COLLECTION".into());
    };
    let client = Client::with_uri_str(uri).await?;
    let started = std::time::Instant::now();
    let mut batches = client
        .database(database)
        .collection::<RawDocumentBuf>(collection)
        .find(doc! {})
        .batch()
        .await?;
    let (mut documents, mut bytes) = (0_u64, 0_u64);
    while let Some(batch) = batches.try_next().await? {
        for value in batch.doc_slices()? {
            if let RawBsonRef::Document(document) = value? {
                documents += 1;
                bytes += document.as_bytes().len() as u64;
            }
        }
    }
    let report = serde_json::json!({
        "documents": documents,
        "bytes": bytes,
        "seconds": started.elapsed().as_secs_f64(),
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
