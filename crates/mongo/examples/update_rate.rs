//! How fast single updates go through the driver: the measure of what triggers make of it.
//!
//! Usage: update_rate URI DATABASE COLLECTION UPDATES CONCURRENCY. Each inserts the document of its number, or
//! counts it up. Prints one JSON object: `updates` and `seconds`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mongodb::bson::{Document, doc};
use tributary_mongo::Connection;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, database, collection, updates, concurrency] = &arguments[..] else {
        return Err("usage: update_rate URI DATABASE COLLECTION UPDATES CONCURRENCY".into());
    };
    let (updates, concurrency): (u64, u64) = (updates.parse()?, concurrency.parse()?);
    let connection = Connection::open(uri, None).await?;
    let collection = connection
        .client()
        .database(database)
        .collection::<Document>(collection);
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (collection, next) = (collection.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= updates {
                    return Ok::<(), mongodb::error::Error>(());
                }
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                collection
                    .update_one(doc! { "_id": number }, doc! { "$inc": { "seen": 1 } })
                    .upsert(true)
                    .await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::print_stdout)]
    {
        println!("{{\"updates\":{updates},\"seconds\":{seconds}}}");
    }
    Ok(())
}
