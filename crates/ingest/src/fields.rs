//! The fields of a change event.

use tributary_convert::raw::{MalformedBson, RawElement, RawElements, kind};
use tributary_model::{ClusterTime, Namespace};

/// The fields that mean something here, as they are: nothing of them has been checked.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) id: Option<RawElement<'a>>,
    pub(crate) operation: Option<RawElement<'a>>,
    pub(crate) namespace: Option<RawElement<'a>>,
    pub(crate) to: Option<RawElement<'a>>,
    pub(crate) key: Option<RawElement<'a>>,
    pub(crate) document: Option<RawElement<'a>>,
    pub(crate) before: Option<RawElement<'a>>,
    pub(crate) update: Option<RawElement<'a>>,
    pub(crate) cluster_time: Option<RawElement<'a>>,
    pub(crate) wall_time: Option<RawElement<'a>>,
    pub(crate) collection: Option<RawElement<'a>>,
    pub(crate) session: Option<RawElement<'a>>,
    pub(crate) transaction: Option<RawElement<'a>>,
    pub(crate) fragment: Option<RawElement<'a>>,
    /// Those of them that are there more than once.
    pub(crate) repeated: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(event: &'a [u8]) -> Result<Self, MalformedBson> {
        let mut fields = Self::default();
        for element in RawElements::new(event)? {
            let element = element?;
            let (name, place) = match element.name {
                b"_id" => ("_id", &mut fields.id),
                b"operationType" => ("operationType", &mut fields.operation),
                b"ns" => ("ns", &mut fields.namespace),
                b"to" => ("to", &mut fields.to),
                b"documentKey" => ("documentKey", &mut fields.key),
                b"fullDocument" => ("fullDocument", &mut fields.document),
                b"fullDocumentBeforeChange" => ("fullDocumentBeforeChange", &mut fields.before),
                b"updateDescription" => ("updateDescription", &mut fields.update),
                b"clusterTime" => ("clusterTime", &mut fields.cluster_time),
                b"wallTime" => ("wallTime", &mut fields.wall_time),
                b"collectionUUID" => ("collectionUUID", &mut fields.collection),
                b"lsid" => ("lsid", &mut fields.session),
                b"txnNumber" => ("txnNumber", &mut fields.transaction),
                b"splitEvent" => ("splitEvent", &mut fields.fragment),
                _ => continue,
            };
            if place.replace(element).is_some() {
                fields.repeated.push(name);
            }
        }
        Ok(fields)
    }

    /// The `operationType`.
    pub(crate) fn operation(&self) -> Option<&'a str> {
        self.operation.as_ref().and_then(text)
    }

    /// The database and the collection, which is empty where there is none.
    pub(crate) fn namespace(&self) -> Option<Namespace> {
        named(self.namespace.as_ref()?)
    }

    /// The new name of a collection.
    pub(crate) fn renamed_to(&self) -> Option<Namespace> {
        named(self.to.as_ref()?)
    }

    /// The `_data` of the resume token.
    pub(crate) fn token(&self) -> Option<&'a str> {
        member(self.id.as_ref()?, b"_data").as_ref().and_then(text)
    }

    /// When it happened, by the clock of its deployment.
    pub(crate) fn cluster_time(&self) -> Option<ClusterTime> {
        match &self.cluster_time {
            Some(element) => {
                let (seconds, ordinal) = element.as_timestamp().ok()?;
                Some(ClusterTime::new(seconds, ordinal))
            }
            None => time_of_token(self.token()?),
        }
    }

    /// When it happened, by the wall clock of its server, in milliseconds since 1970.
    pub(crate) fn wall_time(&self) -> Option<i64> {
        match &self.wall_time {
            Some(element) => element.as_date_millis().ok(),
            None => Some(i64::from(self.cluster_time()?.seconds()) * 1000),
        }
    }

    /// The number of its transaction.
    pub(crate) fn transaction(&self) -> Option<i64> {
        let element = self.transaction.as_ref()?;
        let small = || element.as_i32().map(i64::from);
        element.as_i64().or_else(|_| small()).ok()
    }

    /// The UUID of its collection.
    pub(crate) fn collection_uuid(&self) -> Option<[u8; 16]> {
        let (_, bytes) = self.collection.as_ref()?.as_binary().ok()?;
        bytes.try_into().ok()
    }
}

/// The cluster time at the beginning of a resume token: the byte that stands for a timestamp, and its eight
/// bytes, in hexadecimal.
fn time_of_token(token: &str) -> Option<ClusterTime> {
    const TIMESTAMP: &str = "82";
    let digits = token.strip_prefix(TIMESTAMP)?.get(..16)?;
    u64::from_str_radix(digits, 16).ok().map(ClusterTime)
}

/// The text of a string; none where it is not one, or not UTF-8.
pub(crate) fn text<'a>(element: &RawElement<'a>) -> Option<&'a str> {
    if element.kind != kind::STRING {
        return None;
    }
    std::str::from_utf8(element.as_string_bytes().ok()?).ok()
}

/// A member of a document.
pub(crate) fn member<'a>(element: &RawElement<'a>, name: &[u8]) -> Option<RawElement<'a>> {
    if element.kind != kind::DOCUMENT {
        return None;
    }
    RawElements::new(element.value)
        .ok()?
        .map_while(Result::ok)
        .find(|member| member.name == name)
}

fn named(element: &RawElement<'_>) -> Option<Namespace> {
    let database = member(element, b"db");
    let collection = member(element, b"coll");
    Some(Namespace::new(
        database.as_ref().and_then(text)?,
        collection.as_ref().and_then(text).unwrap_or_default(),
    ))
}
