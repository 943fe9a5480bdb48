//! Looking up the documents that updates have changed.
//!
//! The server can do that itself (`fullDocument: "updateLookup"`), one document at a time and at
//! several times the cost; and an event with its document may be larger than an event can be. Here
//! the documents of a whole batch are asked for at once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Binary, Bson, RawDocument, Timestamp, doc, spec::BinarySubtype};
use mongodb::error::{Error as DriverError, ErrorKind as DriverKind};
use tributary_convert::Key;
use tributary_flow::{Event, EventKind};
use tributary_model::{ClusterTime, Namespace, Operation};

use crate::connect::Connection;
use crate::error::NAMESPACE_NOT_FOUND;
use crate::snapshot::reply_bytes;

/// How many documents are asked for at once.
const KEYS: usize = 1_000;
/// How many requests are on their way at the same time.
const REQUESTS: usize = 2;

const COLLECTION_UUID_MISMATCH: i32 = 361;

/// A collection and its UUID: a document is looked for in the collection that it was changed in,
/// whatever its name is by now.
type Home = (Arc<Namespace>, Option<[u8; 16]>);

/// What is looked for in one request.
struct Request {
    home: Home,
    ids: Vec<Bson>,
}

/// Gives the changes among `events` that came without one their documents, as they are at the last
/// event or later. A change of a document that is gone by now stays without.
pub(crate) async fn look_up(
    connection: &Connection,
    events: &mut [Event],
) -> Result<(), LookupError> {
    let Some(last) = events.last() else {
        return Ok(());
    };
    let time = last.cluster_time;
    let mut wanted: HashMap<Home, HashMap<Key, Bson>> = HashMap::new();
    for event in events.iter() {
        if let Some((home, key)) = wants(event) {
            let key = RawDocument::from_bytes(key)?;
            let id = match key.get("_id")? {
                Some(id) => Bson::try_from(id)?,
                None => Bson::Null,
            };
            let ids = wanted.entry(home).or_default();
            ids.insert(Key::of_document(key.as_bytes())?, id);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut requests = Vec::new();
    for (home, ids) in wanted {
        let ids: Vec<Bson> = ids.into_values().collect();
        requests.extend(ids.chunks(KEYS).map(|ids| Request {
            home: home.clone(),
            ids: ids.to_vec(),
        }));
    }
    let found: Vec<_> = stream::iter(requests)
        .map(|request| find(connection, request, time))
        .buffer_unordered(REQUESTS)
        .try_collect()
        .await?;
    let mut documents: HashMap<Home, HashMap<Key, Bytes>> = HashMap::new();
    for (home, found) in found {
        documents.entry(home).or_default().extend(found);
    }
    for event in events {
        let document = match wants(event) {
            Some((home, key)) => {
                let key = Key::of_document(key)?;
                documents
                    .get(&home)
                    .and_then(|found| found.get(&key).cloned())
            }
            None => None,
        };
        if let (Some(document), EventKind::Change(change)) = (document, &mut event.kind) {
            change.document = Some(document);
            change.looked_up = true;
        }
    }
    Ok(())
}

/// Where the document of an event is to be looked for, and its key; none where it has it already.
fn wants(event: &Event) -> Option<(Home, &[u8])> {
    match &event.kind {
        EventKind::Change(change)
            if change.operation != Operation::Delete && change.document.is_none() =>
        {
            Some((
                (Arc::clone(&event.namespace), event.collection),
                &change.key,
            ))
        }
        _ => None,
    }
}

async fn find(
    connection: &Connection,
    request: Request,
    time: ClusterTime,
) -> Result<(Home, Vec<(Key, Bytes)>), LookupError> {
    let Request { home, ids } = request;
    let (namespace, uuid) = (&home.0, home.1);
    let mut name = namespace.collection.clone();
    let mut uuid = uuid;
    loop {
        match find_in(connection, &namespace.database, &name, uuid, &ids, time).await {
            Ok(found) => return Ok((home, found)),
            Err(LookupError::Driver(error)) => match other_name(&error) {
                Some(Some(actual)) if actual != name => {
                    name = actual;
                    uuid = None;
                }
                // The collection is gone, and its documents with it.
                Some(_) => return Ok((home, Vec::new())),
                None => return Err(LookupError::Driver(error)),
            },
            Err(error) => return Err(error),
        }
    }
}

/// Where an error says that a collection is not there under its name: the name it has now, if it
/// has one.
fn other_name(error: &DriverError) -> Option<Option<String>> {
    let DriverKind::Command(command) = error.kind.as_ref() else {
        return None;
    };
    match command.code {
        NAMESPACE_NOT_FOUND => Some(None),
        COLLECTION_UUID_MISMATCH => {
            let reply = error.server_response();
            Some(reply.and_then(|reply| Some(reply.get_str("actualCollection").ok()?.to_owned())))
        }
        _ => None,
    }
}

async fn find_in(
    connection: &Connection,
    database: &str,
    collection: &str,
    uuid: Option<[u8; 16]>,
    ids: &[Bson],
    time: ClusterTime,
) -> Result<Vec<(Key, Bytes)>, LookupError> {
    let time = Timestamp {
        time: time.seconds(),
        increment: time.ordinal(),
    };
    let mut command = doc! {
        "find": collection,
        "filter": { "_id": { "$in": ids } },
        "batchSize": ids.len() as i32 + 1,
        "readConcern": { "level": "majority", "afterClusterTime": time },
    };
    if let Some(uuid) = uuid {
        let uuid = Binary {
            subtype: BinarySubtype::Uuid,
            bytes: uuid.to_vec(),
        };
        command.insert("collectionUUID", uuid);
    }
    let mut cursor = connection
        .client
        .database(database)
        .run_cursor_command(command)
        .selection_criteria(connection.read_from.clone())
        .batch()
        .await?;
    let mut found = Vec::with_capacity(ids.len());
    while let Some(reply) = cursor.next().await {
        let reply = reply_bytes(reply?);
        let cursor = RawDocument::from_bytes(&reply)?.get_document("cursor")?;
        let documents = match cursor.get("firstBatch")? {
            Some(documents) => documents.as_array(),
            None => cursor.get("nextBatch")?.and_then(|next| next.as_array()),
        };
        for document in documents.into_iter().flatten() {
            if let Some(document) = document?.as_document() {
                let key = Key::of_document(document.as_bytes())?;
                found.push((key, reply.slice_ref(document.as_bytes())));
            }
        }
    }
    Ok(found)
}

/// Why documents cannot be looked up.
pub(crate) enum LookupError {
    Driver(DriverError),
    Malformed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<DriverError> for LookupError {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl From<mongodb::bson::error::Error> for LookupError {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Self::Malformed(error.into())
    }
}

impl From<tributary_convert::raw::MalformedBson> for LookupError {
    fn from(error: tributary_convert::raw::MalformedBson) -> Self {
        Self::Malformed(error.into())
    }
}
