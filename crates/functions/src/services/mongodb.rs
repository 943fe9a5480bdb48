//! The service `mongodb`: documents, through the deployment's [`DocumentScope`].

use bson::raw::{RawBsonRef, RawDocumentBuf};
use bytes::Bytes;
use tributary_flow::{DocumentCall, DocumentError, DocumentScope};

use super::{ServiceCall, ServiceError, arguments};

/// What is about a session and no database.
const OF_SESSIONS: [&str; 5] = [
    "startSession",
    "startTransaction",
    "commitTransaction",
    "abortTransaction",
    "endSession",
];

/// What is about a cursor, which knows its own database.
const OF_CURSORS: [&str; 2] = ["getMore", "closeCursor"];

pub(super) async fn call(
    scope: &dyn DocumentScope,
    call: ServiceCall,
) -> Result<Bytes, ServiceError> {
    scope
        .call(document_call(call)?)
        .await
        .map_err(ServiceError::from)
}

/// Takes the database and the collection out of the arguments; what is left is the operation's.
fn document_call(call: ServiceCall) -> Result<DocumentCall, ServiceError> {
    let given = arguments::read_raw(&call.arguments)?;
    let mut database = None;
    let mut collection = None;
    let mut rest = RawDocumentBuf::new();
    for element in given {
        let (name, value) = element.map_err(|error| {
            ServiceError::of_arguments(format!("the arguments are no BSON: {error}"))
        })?;
        match (name.as_str(), value) {
            ("db", RawBsonRef::String(text)) => database = Some(text.to_owned()),
            ("coll", RawBsonRef::String(text)) => collection = Some(text.to_owned()),
            ("coll", RawBsonRef::Null) => {}
            ("db" | "coll", _) => {
                return Err(ServiceError::of_arguments(format!(
                    "the name of a database or collection is no string: `{name}`"
                )));
            }
            _ => rest.append(name, value),
        }
    }
    let operation = call.operation;
    let needs_none = OF_SESSIONS
        .iter()
        .chain(&OF_CURSORS)
        .any(|o| *o == operation);
    let database = match database {
        Some(database) => database,
        None if needs_none => String::new(),
        None => {
            return Err(ServiceError::of_arguments(format!(
                "`{operation}` names no database"
            )));
        }
    };
    Ok(DocumentCall {
        database,
        collection,
        operation,
        arguments: rest.into_bytes().into(),
    })
}

impl From<DocumentError> for ServiceError {
    /// Named as the Node.js driver names them: an error of the server's has a code.
    fn from(error: DocumentError) -> Self {
        let name = match error.code {
            Some(_) => "MongoServerError",
            None => "MongoError",
        };
        Self {
            name: name.to_owned(),
            message: error.message,
            code: error.code,
            labels: error.labels,
            is_transient: error.is_transient,
        }
    }
}
