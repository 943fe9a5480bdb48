//! The stages of a change stream that passes events on as they are.

use mongodb::bson::{Bson, Document, RawDocument, doc};
use tributary_flow::{WantedEvents, Watch};
use xxhash_rust::xxh3::xxh3_64;

use crate::changes::Server;
use crate::changes::reading::Detail;
use crate::changes::reply::ParseError;

/// The field that holds what is needed of each event, out of the reach of a projection.
pub(super) const ASIDE: &str = "__tributary";

/// Is true within that where the projection takes `_id` away: the server must not, as it is the resume token.
pub(super) const WITHOUT_ID: &str = "isWithoutId";

/// A stream, as the server is told of it.
pub(super) struct Stream<'a> {
    watch: &'a Watch,
    stages: Vec<Document>,
    /// Whether the server knows of more than changes of documents.
    tells_more: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn new(watch: &'a Watch, server: &Server) -> Result<Self, ParseError> {
        if watch.collection.is_some() && watch.database.is_none() {
            return Err("a collection is watched in a database".into());
        }
        let mut stages = Vec::with_capacity(watch.stages.len() + 1);
        for stage in &watch.stages {
            stages.push(Document::try_from(RawDocument::from_bytes(stage)?)?);
        }
        if watch.is_projected {
            keep_aside(&mut stages);
        }
        if !watch.wanted.is_empty() {
            // Before all others: the server looks at no event that nobody wants.
            let wanted: Vec<Document> = watch.wanted.iter().map(wanted).collect();
            stages.insert(0, doc! { "$match": { "$or": wanted } });
        }
        Ok(Self {
            watch,
            stages,
            tells_more: server.tells_more(),
        })
    }

    /// The database and the collection that the stream is of.
    pub(super) fn target(&self) -> (&'a str, Option<&'a str>) {
        let database = self.watch.database.as_deref().unwrap_or("admin");
        (database, self.watch.collection.as_deref())
    }

    /// What the stream selects, in short: a token of one that selects the same is good for it.
    pub(super) fn id(&self) -> String {
        let (database, collection) = self.target();
        let mut pipeline = self.pipeline(Document::new(), Detail::All);
        pipeline.push(doc! { "database": database, "collection": collection });
        let text = Bson::from(pipeline).into_canonical_extjson().to_string();
        format!("{:016x}", xxh3_64(text.as_bytes()))
    }

    /// The stages of the stream that begins as `start` says.
    pub(super) fn pipeline(&self, start: Document, detail: Detail) -> Vec<Document> {
        let mut stream = start;
        if self.watch.database.is_none() {
            stream.insert("allChangesForCluster", true);
        }
        if self.watch.full_document {
            stream.insert("fullDocument", "updateLookup");
        }
        if self.watch.before_change && self.tells_more {
            stream.insert("fullDocumentBeforeChange", "whenAvailable");
        }
        if self.watch.expanded && self.tells_more {
            stream.insert("showExpandedEvents", true);
        }
        let mut pipeline = vec![doc! { "$changeStream": stream }];
        pipeline.extend(self.stages.iter().cloned());
        if detail.is_reduced() {
            // Behind the stages that select, which may ask for what is taken away; and before a
            // projection, which may pass it on under another name.
            let is_projection = |stage: &Document| stage.contains_key("$project");
            let is_last = self.watch.is_projected && pipeline.last().is_some_and(is_projection);
            let place = pipeline.len() - usize::from(is_last);
            pipeline.insert(place, doc! { "$unset": detail.left_out() });
        }
        pipeline
    }
}

/// The condition of an event that is wanted.
fn wanted(events: &WantedEvents) -> Document {
    let mut wanted = doc! { "operationType": { "$in": &events.operations } };
    if let Some(database) = &events.database {
        wanted.insert("ns.db", database);
    }
    if let Some(collection) = &events.collection {
        wanted.insert("ns.coll", collection);
    }
    wanted
}

/// Makes the stages keep what is needed of each event.
fn keep_aside(stages: &mut Vec<Document>) {
    let mut is_without_id = false;
    stages.retain_mut(|stage| {
        let Ok(projection) = stage.get_document_mut("$project") else {
            return true;
        };
        if is_inclusive(projection) {
            projection.insert(ASIDE, 1);
        }
        let takes_id = |value: &Bson| value.as_document().is_none() && !keeps(value);
        if !projection.get("_id").is_some_and(takes_id) {
            return true;
        }
        projection.remove("_id");
        is_without_id = true;
        // The server takes no projection that says nothing.
        !projection.is_empty()
    });
    let mut aside = doc! {
        "operationType": "$operationType",
        "ns": "$ns",
        "clusterTime": "$clusterTime",
        "wallTime": "$wallTime",
    };
    if is_without_id {
        aside.insert(WITHOUT_ID, true);
    }
    stages.insert(0, doc! { "$addFields": { ASIDE: aside } });
}

/// Whether a projection names what is kept, and not what is taken away. `_id` goes its own way,
/// unless it is all there is.
fn is_inclusive(projection: &Document) -> bool {
    let mut others = projection.iter().filter(|(name, _)| *name != "_id");
    match others.next() {
        Some((_, value)) => keeps(value) || others.any(|(_, value)| keeps(value)),
        None => projection.get("_id").is_some_and(keeps),
    }
}

fn keeps(value: &Bson) -> bool {
    match value {
        Bson::Boolean(is) => *is,
        Bson::Int32(number) => *number != 0,
        Bson::Int64(number) => *number != 0,
        Bson::Double(number) => *number != 0.0,
        // Fields of a subdocument, or an expression.
        Bson::Document(nested) => nested
            .iter()
            .any(|(name, value)| name.starts_with('$') || keeps(value)),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
