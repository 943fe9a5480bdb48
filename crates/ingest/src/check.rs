//! Whether a document is a change event that can be kept.

use bytes::Bytes;
use tributary_convert::Key;
use tributary_convert::raw::{RawElement, RawElements, kind};
use tributary_model::{ClusterTime, Namespace};

use crate::fields::{Fields, member, text};

/// The largest event, in bytes of BSON: the largest document, and what the server allows around it.
pub(crate) const LARGEST_EVENT: usize = (16 << 20) + (16 << 10);
/// The longest names that MongoDB gives, in bytes.
const LONGEST_DATABASE: usize = 63;
const LONGEST_NAMESPACE: usize = 255;

/// An event that has been checked.
#[derive(Debug, Clone)]
pub struct CheckedEvent {
    /// The event, as raw BSON.
    pub(crate) document: Bytes,
    /// What its `_id` is recognised by.
    pub(crate) identity: Key,
    /// What it is about.
    pub(crate) subject: Subject,
    /// When it happened in its deployment.
    pub(crate) order: Option<Order>,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A document, by its key.
    Document(Namespace, Key),
    /// A collection, of whose documents it says nothing.
    Collection(Namespace),
    /// A collection that is gone.
    Dropped(Namespace),
    /// A collection that has another name.
    Renamed { from: Namespace, to: Namespace },
    /// A database that is gone with its collections.
    DatabaseDropped(String),
    /// Something else.
    Other,
}

/// The place of an event in the history of its deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) time: ClusterTime,
    pub(crate) token: Option<String>,
}

impl Order {
    /// Whether it certainly comes before another.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        match self.time.cmp(&other.time) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            // Tokens of one deployment sort as their events do.
            std::cmp::Ordering::Equal => match (&self.token, &other.token) {
                (Some(own), Some(other)) => own < other,
                _ => false,
            },
        }
    }
}

/// What an event has to have, by its `operationType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Insert,
    Update,
    Replace,
    Delete,
    OfCollection,
    Drop,
    Rename,
    DropDatabase,
    Invalidate,
}

impl Sort {
    fn of(operation: &str) -> Option<Self> {
        Some(match operation {
            "insert" => Self::Insert,
            "update" => Self::Update,
            "replace" => Self::Replace,
            "delete" => Self::Delete,
            "create"
            | "createIndexes"
            | "dropIndexes"
            | "modify"
            | "refineCollectionShardKey"
            | "reshardCollection"
            | "shardCollection" => Self::OfCollection,
            "drop" => Self::Drop,
            "rename" => Self::Rename,
            "dropDatabase" => Self::DropDatabase,
            "invalidate" => Self::Invalidate,
            _ => return None,
        })
    }

    fn is_of_document(self) -> bool {
        matches!(
            self,
            Self::Insert | Self::Update | Self::Replace | Self::Delete
        )
    }
}

/// Checks that a document of raw BSON is an event of a MongoDB change stream that a table can be kept
/// current by.
///
/// # Errors
/// All that is wrong with it, a sentence each.
pub fn check(document: Bytes) -> Result<CheckedEvent, Vec<String>> {
    if document.len() > LARGEST_EVENT {
        return Err(vec![format!(
            "it has {} bytes of BSON, and the largest event has {LARGEST_EVENT}",
            document.len()
        )]);
    }
    // Every value is looked at for that, and with it that all of it is BSON.
    Key::of(kind::DOCUMENT, &document).map_err(|error| vec![error.to_string()])?;
    let fields = Fields::of(&document).map_err(|error| vec![error.to_string()])?;
    let mut wrong: Vec<String> = fields
        .repeated
        .iter()
        .map(|name| format!("`{name}` is there more than once"))
        .collect();
    let identity = identity(&fields, &mut wrong);
    times(&fields, &mut wrong);
    if fields.fragment.is_some() {
        wrong.push(
            "it is a fragment of an event (`splitEvent`): push the whole event, or leave what is large out of it"
                .to_owned(),
        );
    }
    let subject = sort(&fields, &mut wrong).and_then(|sort| subject(sort, &fields, &mut wrong));
    let order = fields.cluster_time().map(|time| Order {
        time,
        token: fields.token().map(str::to_owned),
    });
    match (identity, subject) {
        (Some(identity), Some(subject)) if wrong.is_empty() => Ok(CheckedEvent {
            identity,
            subject,
            order,
            document,
        }),
        _ => Err(wrong),
    }
}

fn identity(fields: &Fields<'_>, wrong: &mut Vec<String>) -> Option<Key> {
    let Some(id) = fields.id.as_ref().filter(|id| !is_nothing(id)) else {
        wrong.push("it has no `_id`, by which it would be recognised".to_owned());
        return None;
    };
    Key::of(id.kind, id.value)
        .map_err(|error| wrong.push(format!("`_id`: {error}")))
        .ok()
}

fn times(fields: &Fields<'_>, wrong: &mut Vec<String>) {
    let clock = fields.cluster_time.as_ref();
    if clock.is_some_and(|time| time.as_timestamp().is_err()) {
        wrong.push(
            "`clusterTime` is not a timestamp, {\"$timestamp\": {\"t\": …, \"i\": …}}".to_owned(),
        );
    }
    let wall = fields.wall_time.as_ref();
    if wall.is_some_and(|time| time.as_date_millis().is_err()) {
        wrong.push("`wallTime` is not a date, {\"$date\": …}".to_owned());
    }
}

fn sort(fields: &Fields<'_>, wrong: &mut Vec<String>) -> Option<Sort> {
    let Some(operation) = fields.operation() else {
        wrong.push("it has no `operationType`: it is not an event of a change stream".to_owned());
        return None;
    };
    let sort = Sort::of(operation);
    if sort.is_none() {
        wrong.push(format!(
            "`operationType` is `{}`, which is none that change streams have",
            shortened(operation)
        ));
    }
    sort
}

fn subject(sort: Sort, fields: &Fields<'_>, wrong: &mut Vec<String>) -> Option<Subject> {
    match sort {
        Sort::Invalidate => return Some(Subject::Other),
        Sort::DropDatabase => {
            return database(fields, wrong).map(Subject::DatabaseDropped);
        }
        _ => {}
    }
    let namespace = namespace("ns", fields.namespace.as_ref(), wrong);
    match sort {
        Sort::Drop => return namespace.map(Subject::Dropped),
        Sort::Rename => {
            let to = self::namespace("to", fields.to.as_ref(), wrong);
            return Some(Subject::Renamed {
                from: namespace?,
                to: to?,
            });
        }
        _ if !sort.is_of_document() => return namespace.map(Subject::Collection),
        _ => {}
    }
    let key = key(fields, wrong);
    document(sort, fields, key, wrong);
    for (name, element, may_be_null) in [
        ("fullDocumentBeforeChange", &fields.before, true),
        ("updateDescription", &fields.update, true),
        ("lsid", &fields.session, false),
    ] {
        if let Some(element) = element
            && element.kind != kind::DOCUMENT
            && !(may_be_null && is_nothing(element))
        {
            wrong.push(format!("`{name}` is not a document"));
        }
    }
    Some(Subject::Document(namespace?, key?))
}

fn database(fields: &Fields<'_>, wrong: &mut Vec<String>) -> Option<String> {
    let element = fields.namespace.as_ref().and_then(|ns| member(ns, b"db"));
    let name = element.as_ref().and_then(text);
    match name {
        Some(name) if is_database(name) => Some(name.to_owned()),
        _ => {
            wrong.push("`ns.db` is not the name of a database".to_owned());
            None
        }
    }
}

fn namespace(
    field: &str,
    element: Option<&RawElement<'_>>,
    wrong: &mut Vec<String>,
) -> Option<Namespace> {
    let Some(element) = element.filter(|element| element.kind == kind::DOCUMENT) else {
        wrong.push(format!("`{field}` is not a document with `db` and `coll`"));
        return None;
    };
    let (database, collection) = (member(element, b"db"), member(element, b"coll"));
    let database = database.as_ref().and_then(text);
    let database = database.filter(|name| is_database(name));
    if database.is_none() {
        wrong.push(format!("`{field}.db` is not the name of a database"));
    }
    let collection = collection.as_ref().and_then(text);
    let collection = collection.filter(|name| is_collection(name));
    if collection.is_none() {
        wrong.push(format!("`{field}.coll` is not the name of a collection"));
    }
    let namespace = Namespace::new(database?, collection?);
    if namespace.database.len() + 1 + namespace.collection.len() > LONGEST_NAMESPACE {
        wrong.push(format!(
            "`{field}` is longer than {LONGEST_NAMESPACE} bytes"
        ));
        return None;
    }
    Some(namespace)
}

fn is_database(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_DATABASE
        && !name.contains(['/', '\\', '.', ' ', '"', '$', '\0'])
}

fn is_collection(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['$', '\0'])
}

/// The key of the document that a change is of.
fn key(fields: &Fields<'_>, wrong: &mut Vec<String>) -> Option<Key> {
    let id = fields.key.as_ref().and_then(|key| member(key, b"_id"));
    let Some(id) = id else {
        wrong.push("`documentKey` is not a document with `_id`".to_owned());
        return None;
    };
    Key::of(id.kind, id.value)
        .map_err(|error| wrong.push(format!("`documentKey._id`: {error}")))
        .ok()
}

/// Checks the document after the change: without it, no row can be made of the event.
fn document(sort: Sort, fields: &Fields<'_>, key: Option<Key>, wrong: &mut Vec<String>) {
    let document = match &fields.document {
        _ if sort == Sort::Delete => return,
        Some(document) if document.kind == kind::DOCUMENT => document,
        // It had been deleted before it was looked up; its delete comes later.
        Some(document) if sort == Sort::Update && is_nothing(document) => return,
        Some(_) => {
            wrong.push("`fullDocument` is not a document".to_owned());
            return;
        }
        None if sort == Sort::Update => {
            wrong.push(
                "an update without `fullDocument` cannot be applied, for the document that it changes is not known here: \
                 have updates sent with their documents (`full_document: true` of the trigger, or \
                 `fullDocument: 'updateLookup'` of the change stream)"
                    .to_owned(),
            );
            return;
        }
        None => {
            wrong.push("it has no `fullDocument`".to_owned());
            return;
        }
    };
    let elements = RawElements::new(document.value);
    let mut elements = elements.into_iter().flatten().map_while(Result::ok);
    if !elements.any(|element| element.name == b"_id") {
        wrong.push("`fullDocument` has no `_id`".to_owned());
    } else if let (Some(key), Ok(own)) = (key, Key::of_document(document.value))
        && key != own
    {
        wrong.push("`fullDocument._id` is not `documentKey._id`".to_owned());
    }
}

fn is_nothing(element: &RawElement<'_>) -> bool {
    matches!(element.kind, kind::NULL | kind::UNDEFINED)
}

/// The beginning of a text that somebody else wrote.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
