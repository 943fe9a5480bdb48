//! Operations of functions.

mod bulk;
mod concerns;
mod errors;
mod read;
mod sessions;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use mongodb::bson::{Bson, Document};
use tributary_flow::{DocumentCall, DocumentError, DocumentScope, DocumentStore};

use crate::support::Fixture;

/// The operations of one scope, all on one collection.
#[derive(Clone)]
struct Calls {
    scope: Arc<dyn DocumentScope>,
    database: String,
    collection: Option<String>,
}

impl Calls {
    async fn new(fixture: &Fixture) -> Self {
        Self {
            scope: fixture.documents().await.scope(),
            database: fixture.name.clone(),
            collection: Some("c".to_owned()),
        }
    }

    /// The same scope, on the database.
    fn of_database(&self) -> Self {
        Self {
            collection: None,
            ..self.clone()
        }
    }

    async fn try_call(&self, operation: &str, arguments: Document) -> Result<Bson, DocumentError> {
        let call = DocumentCall {
            database: self.database.clone(),
            collection: self.collection.clone(),
            operation: operation.to_owned(),
            arguments: arguments.to_vec().expect("a document").into(),
        };
        let answer: Bytes = self.scope.call(call).await?;
        let mut answer = Document::from_reader(&answer[..]).expect("raw BSON");
        let result = answer.remove("v").expect("a result");
        assert!(answer.is_empty(), "{answer}");
        Ok(result)
    }

    #[track_caller]
    fn call(&self, operation: &str, arguments: Document) -> impl Future<Output = Bson> + use<'_> {
        let place = std::panic::Location::caller();
        let operation = operation.to_owned();
        async move {
            let result = self.try_call(&operation, arguments.clone()).await;
            result.unwrap_or_else(|error| panic!("{place}: {operation} {arguments}: {error:?}"))
        }
    }

    /// The error of an operation, whose message has these words.
    async fn fails(&self, operation: &str, arguments: Document, words: &str) -> DocumentError {
        match self.try_call(operation, arguments.clone()).await {
            Ok(result) => panic!("{operation} {arguments} results in {result}"),
            Err(error) => {
                assert!(
                    error.message.contains(words),
                    "{operation} {arguments}: {error:?}"
                );
                error
            }
        }
    }

    /// All documents of a query, read to the end.
    async fn find(&self, arguments: Document) -> Vec<Document> {
        let first = self.call("find", arguments).await;
        self.rest(first).await.concat()
    }

    /// The batches of a cursor: the one that is given, and those behind it.
    async fn rest(&self, first: Bson) -> Vec<Vec<Document>> {
        let mut batches = Vec::new();
        let mut next = first;
        loop {
            let result = next.as_document().expect("a document");
            let batch = result.get_array("batch").expect("a batch");
            let document = |document: &Bson| document.as_document().cloned();
            batches.push(batch.iter().filter_map(document).collect());
            let Some(cursor) = result.get("cursor").and_then(Bson::as_i32) else {
                assert_eq!(result.get("cursor"), Some(&Bson::Null));
                return batches;
            };
            next = self
                .call("getMore", mongodb::bson::doc! { "cursor": cursor })
                .await;
        }
    }
}

fn ids(documents: &[Document]) -> Vec<i64> {
    let id = |document: &Document| crate::support::number(document.get("_id").expect("an id"));
    documents.iter().map(id).collect()
}
