//! What happens to a collection, as a change stream tells it.

use bson::{Document, doc};
use futures::StreamExt as _;
use mongodb::options::{FullDocumentBeforeChangeType, FullDocumentType};
use mongodb::{Collection, Database};

/// Makes a collection whose events have the document before the change.
pub(super) async fn with_pre_images(database: &Database, name: &str) -> Collection<Document> {
    let create = doc! { "create": name, "changeStreamPreAndPostImages": { "enabled": true } };
    database.run_command(create).await.unwrap();
    database.collection(name)
}

/// The events of what `act` does, which answers how many there are to be. Updates come with the document as it is
/// when they are read where `looks_up` says so.
pub(super) async fn events(
    collection: &Collection<Document>,
    looks_up: bool,
    act: impl Future<Output = usize>,
) -> Vec<Document> {
    let mut watch = collection
        .watch()
        .full_document_before_change(FullDocumentBeforeChangeType::WhenAvailable);
    if looks_up {
        watch = watch.full_document(FullDocumentType::UpdateLookup);
    }
    let mut stream = watch.await.unwrap().with_type::<Document>();
    let count = act.await;
    let mut events = Vec::new();
    while events.len() < count {
        events.push(stream.next().await.unwrap().unwrap());
    }
    events
}
