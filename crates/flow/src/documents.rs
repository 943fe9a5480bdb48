//! Single documents of a deployment, as functions read and write them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tributary_model::Result;

/// A deployment whose documents can be read and written.
pub trait DocumentStore: Send + Sync {
    /// Where it is, without credentials.
    fn place(&self) -> &str;

    /// A place for what belongs together, such as all that one run of a function does. Its cursors are
    /// closed and its transactions aborted when it is dropped.
    fn scope(&self) -> Arc<dyn DocumentScope>;
}

/// Operations that belong together.
///
/// They may run side by side, but for those of one session, which wait for one another.
#[async_trait]
pub trait DocumentScope: Send + Sync {
    /// Does an operation, and answers a document of raw BSON whose field `v` is the result.
    ///
    /// # Errors
    /// What the server or the driver says of it. Where it is transient, trying again may help; the
    /// operation may have been done all the same.
    async fn call(&self, call: DocumentCall) -> Result<Bytes, DocumentError>;
}

/// An operation, by the name and with the arguments that MongoDB's Node.js driver gives it.
///
/// `arguments` is a document of raw BSON. Every operation knows `session`, the number of a session, and
/// `options`, a document. Beside these
///
/// | operation | arguments | `v` |
/// |---|---|---|
/// | `find` | `filter` | `{ batch: [document], cursor: number or null }` |
/// | `aggregate` | `pipeline` (of the database, where there is no collection) | the same |
/// | `getMore` | `cursor` | the same |
/// | `closeCursor` | `cursor` | null |
/// | `findOne` | `filter` | document or null |
/// | `findOneAndUpdate`, `findOneAndReplace`, `findOneAndDelete` | `filter`, and `update` or `replacement` | document or null |
/// | `insertOne` | `document` | `{ insertedId }` |
/// | `insertMany` | `documents` | `{ insertedIds: [id] }` |
/// | `updateOne`, `updateMany` | `filter`, `update` (a document or a pipeline) | `{ matchedCount, modifiedCount, upsertedId? }` |
/// | `replaceOne` | `filter`, `replacement` | the same |
/// | `deleteOne`, `deleteMany` | `filter` | `{ deletedCount }` |
/// | `count`, `countDocuments`, `estimatedDocumentCount` | `filter` | number |
/// | `distinct` | `field`, `filter` | array |
/// | `bulkWrite` | `operations` | `{ insertedCount, matchedCount, modifiedCount, deletedCount, upsertedCount, insertedIds, upsertedIds }` |
/// | `runCommand` | `command` | the reply |
/// | `startSession` | | number of the session |
/// | `startTransaction`, `commitTransaction`, `abortTransaction`, `endSession` | | null |
#[derive(Debug, Clone)]
pub struct DocumentCall {
    /// The database.
    pub database: String,
    /// The collection; none for what is about the database.
    pub collection: Option<String>,
    /// The operation.
    pub operation: String,
    /// Its arguments, as raw BSON.
    pub arguments: Bytes,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    /// The server's message, without credentials.
    pub message: String,
    /// The server's code, where it came from there.
    pub code: Option<i32>,
    /// Whether the same operation may succeed at another time.
    pub is_transient: bool,
    /// The labels that the server or driver gave it, such as `TransientTransactionError`.
    pub labels: Vec<String>,
}
