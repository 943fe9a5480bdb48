//! What runs write where their trigger looks: seen at the services that they reach.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bson::RawBsonRef;
use bson::raw::RawDocument;
use bytes::Bytes;

use super::{Selection, Written, arguments};
use crate::services::{ServiceCall, ServiceError, ServiceScope, Services};

/// How much is remembered of one run: who writes more is seen well enough by that.
const REMEMBERED: usize = 1_000;

/// What runs have written, until it is asked for.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The collection that is looked at, or the database, or everything.
    database: Option<String>,
    collection: Option<String>,
    /// The operations that set the trigger off: what others write does not come back.
    operations: Vec<String>,
    /// Whether writes are seen of which the keys are not known. With a `match`, nobody knows whether they come
    /// back: only the event of a key that was written tells.
    sees_unknown: bool,
    seen: Mutex<HashMap<u64, Vec<Written>>>,
}

impl Witness {
    /// Looks where a trigger does; nowhere for one that runs at moments.
    pub(super) fn of(selection: Option<&Selection>) -> Self {
        let Some(selection) = selection else {
            return Self::default();
        };
        Self {
            database: selection.database.clone(),
            collection: selection.collection.clone(),
            operations: selection.operations.clone(),
            sees_unknown: selection.matching.is_none(),
            seen: Mutex::default(),
        }
    }

    /// What a run has written. It is forgotten then.
    pub(super) fn take(&self, run: u64) -> Vec<Written> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&run).unwrap_or_default()
    }

    fn saw(&self, run: u64, call: &ServiceCall, answer: &Bytes) {
        let Some(arguments) = RawDocument::from_bytes(&call.arguments).ok() else {
            return;
        };
        if self.operations.is_empty() {
            return;
        }
        let is = |wanted: &Option<String>, name: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| arguments.get_str(name).is_ok_and(|is| is == wanted))
        };
        if !is(&self.database, "db") || !is(&self.collection, "coll") {
            return;
        }
        let answer = RawDocument::from_bytes(answer).ok();
        let written = answer.and_then(|answer| {
            let sets_off = |operation: &str| self.operations.iter().any(|one| one == operation);
            written(&call.operation, arguments, answer, sets_off)
        });
        let mut written = written.unwrap_or_default();
        written.retain(|written| self.sees_unknown || matches!(written, Written::Key(_)));
        if written.is_empty() {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(run).or_default();
        let room = REMEMBERED.saturating_sub(seen.len());
        seen.extend(written.into_iter().take(room));
    }
}

/// What an operation has written that sets the trigger off; none where it does not write.
fn written(
    operation: &str,
    arguments: &RawDocument,
    answer: &RawDocument,
    sets_off: impl Fn(&str) -> bool,
) -> Option<Vec<Written>> {
    let result = || answer.get_document("v").ok();
    let count = |name: &'static str| {
        let count = result()?.get(name).ok()??;
        match count {
            RawBsonRef::Int32(count) => u64::try_from(count).ok(),
            RawBsonRef::Int64(count) => u64::try_from(count).ok(),
            _ => None,
        }
    };
    // The one document that a filter is about.
    let filtered = || {
        let filter = arguments.get_document("filter").ok()?;
        match filter.get("_id").ok()?? {
            // Operators: any number of documents.
            RawBsonRef::Document(id) if is_operator(id) => None,
            id => Some(Written::Key(arguments::hash_of(id))),
        }
    };
    let upserted = || {
        let id = result()?.get("upsertedId").ok()??;
        let is_new = id != RawBsonRef::Null && sets_off("insert");
        is_new.then(|| Written::Key(arguments::hash_of(id)))
    };
    let as_event = match operation {
        "insertOne" | "insertMany" => "insert",
        "updateOne" | "updateMany" | "findOneAndUpdate" => "update",
        "replaceOne" | "findOneAndReplace" => "replace",
        "deleteOne" | "deleteMany" | "findOneAndDelete" => "delete",
        _ => operation,
    };
    let comes_back = sets_off(as_event);
    match operation {
        "insertOne" if comes_back => {
            let id = result()?.get("insertedId").ok()??;
            Some(vec![Written::Key(arguments::hash_of(id))])
        }
        "insertMany" if comes_back => {
            let ids = result()?.get_array("insertedIds").ok()?;
            let ids = ids.into_iter().filter_map(Result::ok);
            Some(ids.map(|id| Written::Key(arguments::hash_of(id))).collect())
        }
        "updateOne" | "updateMany" | "replaceOne" => {
            let mut written: Vec<Written> = upserted().into_iter().collect();
            let changed = count("modifiedCount").unwrap_or(0);
            if changed > 0 && comes_back {
                written.push(filtered().unwrap_or(Written::Some(changed)));
            }
            Some(written)
        }
        "deleteOne" | "deleteMany" if comes_back => match count("deletedCount").unwrap_or(0) {
            0 => None,
            deleted => Some(vec![filtered().unwrap_or(Written::Some(deleted))]),
        },
        "findOneAndUpdate" | "findOneAndReplace" | "findOneAndDelete" if comes_back => {
            let found = answer.get("v").ok()??;
            let key = match found {
                RawBsonRef::Document(found) => found.get("_id").ok().flatten(),
                _ => return None,
            };
            let key = key.map(|id| Written::Key(arguments::hash_of(id)));
            Some(vec![key.or_else(filtered).unwrap_or(Written::Some(1))])
        }
        "bulkWrite" => {
            let counts = [
                ("insert", "insertedCount"),
                ("insert", "upsertedCount"),
                ("update", "modifiedCount"),
                ("delete", "deletedCount"),
            ];
            let back = counts.into_iter().filter(|(event, _)| {
                // Replaced documents are counted among the modified ones.
                sets_off(event) || (*event == "update" && sets_off("replace"))
            });
            let count: u64 = back.filter_map(|(_, name)| count(name)).sum();
            (count > 0).then(|| vec![Written::Some(count)])
        }
        _ => None,
    }
}

fn is_operator(document: &RawDocument) -> bool {
    document
        .iter()
        .next()
        .and_then(Result::ok)
        .is_some_and(|(name, _)| name.as_str().starts_with('$'))
}

/// Services that a witness looks at.
pub(super) struct Witnessed {
    pub(super) services: Arc<dyn Services>,
    pub(super) witness: Arc<Witness>,
}

impl Services for Witnessed {
    fn scope(&self, run: u64) -> Arc<dyn ServiceScope> {
        Arc::new(Scope {
            scope: self.services.scope(run),
            witness: Arc::clone(&self.witness),
            run,
        })
    }
}

struct Scope {
    scope: Arc<dyn ServiceScope>,
    witness: Arc<Witness>,
    run: u64,
}

#[async_trait]
impl ServiceScope for Scope {
    async fn call(&self, call: ServiceCall) -> Result<Bytes, ServiceError> {
        let seen = call.clone();
        let answer = self.scope.call(call).await?;
        self.witness.saw(self.run, &seen, &answer);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn of(operation: &str, arguments: RawDocumentBuf, answer: RawDocumentBuf) -> Vec<Written> {
        of_trigger(
            &["insert", "update", "replace", "delete"],
            operation,
            arguments,
            answer,
        )
    }

    /// What is seen of an operation by a trigger on these events of shop.orders.
    fn of_trigger(
        events: &[&str],
        operation: &str,
        arguments: RawDocumentBuf,
        answer: RawDocumentBuf,
    ) -> Vec<Written> {
        let selection = Selection {
            database: Some("shop".to_owned()),
            collection: Some("orders".to_owned()),
            operations: events.iter().map(|event| (*event).to_owned()).collect(),
            ..Selection::default()
        };
        seen_by(&selection, operation, arguments, answer)
    }

    fn seen_by(
        selection: &Selection,
        operation: &str,
        arguments: RawDocumentBuf,
        answer: RawDocumentBuf,
    ) -> Vec<Written> {
        let witness = Witness::of(Some(selection));
        let call = ServiceCall {
            service: "mongodb-atlas".to_owned(),
            operation: operation.to_owned(),
            arguments: Bytes::from(arguments.into_bytes()),
        };
        witness.saw(1, &call, &Bytes::from(answer.into_bytes()));
        assert_eq!(witness.take(2), []);
        witness.take(1)
    }

    fn key(value: bson::RawBson) -> Written {
        Written::Key(arguments::hash_of(value.as_raw_bson_ref()))
    }

    #[test]
    fn writes_are_seen_by_their_keys() {
        let orders =
            |filter: RawDocumentBuf| rawdoc! { "db": "shop", "coll": "orders", "filter": filter };
        let seen = of(
            "insertOne",
            orders(rawdoc! {}),
            rawdoc! { "v": { "insertedId": 5 } },
        );
        assert_eq!(seen, [key(5.into())]);
        let updated = rawdoc! { "v": { "matchedCount": 1, "modifiedCount": 1 } };
        let seen = of("updateOne", orders(rawdoc! { "_id": 7 }), updated.clone());
        assert_eq!(seen, [key(7.into())]);
        let seen = of(
            "updateOne",
            orders(rawdoc! { "_id": { "$gt": 7 } }),
            updated,
        );
        assert_eq!(seen, [Written::Some(1)]);
        let nothing = rawdoc! { "v": { "matchedCount": 1, "modifiedCount": 0 } };
        assert_eq!(of("updateOne", orders(rawdoc! { "_id": 7 }), nothing), []);
        let upserted = rawdoc! { "v": { "matchedCount": 0, "modifiedCount": 0, "upsertedId": 9 } };
        assert_eq!(
            of("replaceOne", orders(rawdoc! { "a": 7 }), upserted),
            [key(9.into())]
        );
        let found = rawdoc! { "v": { "_id": 3, "a": 1 } };
        assert_eq!(
            of("findOneAndUpdate", orders(rawdoc! { "a": 7 }), found),
            [key(3.into())]
        );
    }

    #[test]
    fn what_does_not_set_the_trigger_off_is_not_seen() {
        let orders = || rawdoc! { "db": "shop", "coll": "orders", "filter": { "n": 1 } };
        let updated = rawdoc! { "v": { "matchedCount": 1, "modifiedCount": 1 } };
        assert_eq!(of_trigger(&["insert"], "updateOne", orders(), updated), []);
        let upserted = rawdoc! { "v": { "modifiedCount": 0, "upsertedId": 9 } };
        let seen = of_trigger(&["insert"], "updateOne", orders(), upserted.clone());
        assert_eq!(seen, [key(9.into())]);
        assert_eq!(of_trigger(&["update"], "updateOne", orders(), upserted), []);
        let bulk = rawdoc! { "v": { "insertedCount": 2, "modifiedCount": 3, "deletedCount": 4 } };
        let seen = of_trigger(&["replace"], "bulkWrite", orders(), bulk);
        assert_eq!(seen, [Written::Some(3)]);
    }

    #[test]
    fn what_a_match_may_keep_out_is_seen_by_its_key_alone() {
        let selection = Selection {
            operations: vec!["update".to_owned()],
            matching: Some(Bytes::from(rawdoc! { "fullDocument.n": 5 }.into_bytes())),
            ..Selection::default()
        };
        let seen = |filter: RawDocumentBuf| {
            let arguments = rawdoc! { "db": "shop", "coll": "orders", "filter": filter };
            let updated = rawdoc! { "v": { "matchedCount": 1, "modifiedCount": 1 } };
            seen_by(&selection, "updateOne", arguments, updated)
        };
        assert_eq!(seen(rawdoc! { "orderId": 7 }), []);
        assert_eq!(seen(rawdoc! { "_id": 7 }), [key(7.into())]);
        let bulk = rawdoc! { "db": "shop", "coll": "orders" };
        let counts = rawdoc! { "v": { "modifiedCount": 3 } };
        assert_eq!(seen_by(&selection, "bulkWrite", bulk, counts), []);
    }

    #[test]
    fn reads_and_what_is_elsewhere_are_not_seen() {
        let found = rawdoc! { "v": { "_id": 3 } };
        let here = rawdoc! { "db": "shop", "coll": "orders", "filter": {} };
        assert_eq!(of("findOne", here, found), []);
        let elsewhere = rawdoc! { "db": "shop", "coll": "customers", "document": {} };
        let inserted = rawdoc! { "v": { "insertedId": 5 } };
        assert_eq!(of("insertOne", elsewhere, inserted), []);
    }
}
