//! Arguments and options by their names.

use std::time::Duration;

use mongodb::bson::{Bson, Document, RawArray, RawBsonRef, RawDocument};
use mongodb::options::{Collation, Hint, UpdateModifications};
use tributary_flow::DocumentCall;

use super::failure::Failure;

/// The fields of a document that says how something is to be done. Null counts as not given.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    /// What each of them is, such as `option`.
    kind: &'static str,
    /// What they belong to.
    of: &'a str,
    document: &'a RawDocument,
}

impl<'a> Fields<'a> {
    pub(super) fn of_arguments(call: &'a DocumentCall) -> Result<Self, Failure> {
        let document = RawDocument::from_bytes(&call.arguments)?;
        Ok(Self::unchecked("argument", &call.operation, document))
    }

    pub(super) fn unchecked(kind: &'static str, of: &'a str, document: &'a RawDocument) -> Self {
        Self { kind, of, document }
    }

    /// The same, unless one of them is unknown.
    pub(super) fn checked(self, known: &[&str]) -> Result<Self, Failure> {
        for field in self.document {
            let name = field?.0.as_str();
            if !known.contains(&name) {
                return Err(Failure::of(format!(
                    "{} has no {} `{name}`; it has {}",
                    self.of,
                    self.kind,
                    known.join(", ")
                )));
            }
        }
        Ok(self)
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<RawBsonRef<'a>>, Failure> {
        Ok(match self.document.get(name)? {
            Some(RawBsonRef::Null | RawBsonRef::Undefined) | None => None,
            given => given,
        })
    }

    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Failure> {
        value.ok_or_else(|| Failure::of(format!("{} needs the {} `{name}`", self.of, self.kind)))
    }

    fn is_not(&self, name: &str, what: &str) -> Failure {
        Failure::of(format!(
            "the {} `{name}` of {} is {what}",
            self.kind, self.of
        ))
    }

    fn typed<T>(
        &self,
        name: &str,
        what: &str,
        read: impl FnOnce(RawBsonRef<'a>) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        match self.get(name)? {
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.is_not(name, what)),
            },
            None => Ok(None),
        }
    }

    pub(super) fn raw_document(&self, name: &str) -> Result<Option<&'a RawDocument>, Failure> {
        self.typed(name, "no document", |value| value.as_document())
    }

    pub(super) fn document(&self, name: &str) -> Result<Option<Document>, Failure> {
        let document = self.raw_document(name)?;
        Ok(document.map(Document::try_from).transpose()?)
    }

    pub(super) fn array(&self, name: &str) -> Result<Option<&'a RawArray>, Failure> {
        self.typed(name, "no array", |value| value.as_array())
    }

    /// An array of documents, as they are.
    pub(super) fn raw_documents(
        &self,
        name: &str,
    ) -> Result<Option<Vec<&'a RawDocument>>, Failure> {
        let Some(array) = self.array(name)? else {
            return Ok(None);
        };
        let mut documents = Vec::new();
        for document in array {
            let document = document?.as_document();
            documents.push(document.ok_or_else(|| self.is_not(name, "no array of documents"))?);
        }
        Ok(Some(documents))
    }

    pub(super) fn documents(&self, name: &str) -> Result<Option<Vec<Document>>, Failure> {
        let Some(raw) = self.raw_documents(name)? else {
            return Ok(None);
        };
        let mut documents = Vec::with_capacity(raw.len());
        for document in raw {
            documents.push(Document::try_from(document)?);
        }
        Ok(Some(documents))
    }

    /// True or false, or a number that stands for it as it does to the server.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.typed(name, "neither true nor false", |value| match value {
            RawBsonRef::Boolean(flag) => Some(flag),
            RawBsonRef::Int32(number) => Some(number != 0),
            RawBsonRef::Int64(number) => Some(number != 0),
            RawBsonRef::Double(number) => Some(number != 0.0),
            _ => None,
        })
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Failure> {
        self.typed(name, "no string", |value| value.as_str())
    }

    /// A whole number, whatever type it is of.
    pub(super) fn whole<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.typed(name, "not a whole number in its range", |value| {
            let number = match value {
                RawBsonRef::Int32(number) => number.into(),
                RawBsonRef::Int64(number) => number,
                // Beyond this not every whole number is one.
                RawBsonRef::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                    number as i64
                }
                _ => return None,
            };
            T::try_from(number).ok()
        })
    }

    /// The number of a cursor or a session.
    pub(super) fn number(&self, name: &str) -> Result<Option<i32>, Failure> {
        self.whole(name)
    }

    pub(super) fn milliseconds(&self, name: &str) -> Result<Option<Duration>, Failure> {
        Ok(self.whole(name)?.map(Duration::from_millis))
    }

    pub(super) fn value(&self, name: &str) -> Result<Option<Bson>, Failure> {
        Ok(self.get(name)?.map(Bson::try_from).transpose()?)
    }

    pub(super) fn hint(&self) -> Result<Option<Hint>, Failure> {
        Ok(match self.get("hint")? {
            None => None,
            Some(RawBsonRef::String(name)) => Some(Hint::Name(name.to_owned())),
            Some(RawBsonRef::Document(keys)) => Some(Hint::Keys(Document::try_from(keys)?)),
            Some(_) => return Err(self.is_not("hint", "neither a name nor a document")),
        })
    }

    pub(super) fn collation(&self) -> Result<Option<Collation>, Failure> {
        const KNOWN: &[&str] = &[
            "locale",
            "strength",
            "caseLevel",
            "caseFirst",
            "numericOrdering",
            "alternate",
            "maxVariable",
            "normalization",
            "backwards",
        ];
        let Some(collation) = self.raw_document("collation")? else {
            return Ok(None);
        };
        Fields::unchecked("field", "a collation", collation).checked(KNOWN)?;
        Ok(Some(mongodb::bson::deserialize_from_slice(
            collation.as_bytes(),
        )?))
    }

    /// The filter; where there is none, everything is meant.
    pub(super) fn filter(&self) -> Result<Document, Failure> {
        Ok(self.document("filter")?.unwrap_or_default())
    }

    /// The filter of what changes documents, which must be given.
    pub(super) fn filter_of_write(&self) -> Result<Document, Failure> {
        self.required("filter", self.document("filter")?)
    }

    /// An update by operators or by a pipeline, as it is.
    pub(super) fn raw_update(&self) -> Result<RawBsonRef<'a>, Failure> {
        let update = self.required("update", self.get("update")?)?;
        match update {
            RawBsonRef::Document(operators) => match operators.into_iter().next().transpose()? {
                Some((name, _)) if name.as_str().starts_with('$') => Ok(update),
                Some(_) => Err(Failure::of(
                    "update document must only contain update modifiers: atomic operators such as `$set`",
                )),
                None => Err(Failure::of("update document must not be empty")),
            },
            RawBsonRef::Array(_) => Ok(update),
            _ => Err(self.is_not("update", "neither a document nor a pipeline")),
        }
    }

    pub(super) fn update(&self) -> Result<UpdateModifications, Failure> {
        Ok(match self.raw_update()? {
            RawBsonRef::Document(operators) => {
                UpdateModifications::Document(Document::try_from(operators)?)
            }
            _ => UpdateModifications::Pipeline(self.required("update", self.documents("update")?)?),
        })
    }

    pub(super) fn replacement(&self) -> Result<&'a RawDocument, Failure> {
        let replacement = self.required("replacement", self.raw_document("replacement")?)?;
        match replacement.into_iter().next().transpose()? {
            Some((name, _)) if name.as_str().starts_with('$') => Err(Failure::of(
                "replacement document must not contain update modifiers: atomic operators such as `$set`",
            )),
            _ => Ok(replacement),
        }
    }
}

#[cfg(test)]
mod tests;
