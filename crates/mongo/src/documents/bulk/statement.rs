//! The operations of a bulk as the server's statements.

use std::borrow::Cow;

use mongodb::bson::{RawBsonRef, RawDocument, RawDocumentBuf, cstr};

use super::super::failure::Failure;
use super::super::fields::Fields;

/// The command that a statement is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Insert,
    Update,
    Delete,
}

/// One operation of a bulk.
pub(super) struct Statement<'a> {
    /// Its place among the operations.
    pub(super) index: usize,
    pub(super) kind: Kind,
    /// The document that is inserted, or what the command says of an update or a deletion.
    document: Cow<'a, RawDocument>,
}

impl<'a> Statement<'a> {
    /// Reads `{ name: { … } }`.
    pub(super) fn parse(index: usize, operation: &'a RawDocument) -> Result<Self, Failure> {
        let malformed = || {
            Failure::of(format!(
                "operation {index} of bulkWrite is not a document with one operation and what is to be done"
            ))
        };
        let mut fields = operation.into_iter();
        let (name, body) = fields.next().transpose()?.ok_or_else(malformed)?;
        let body = body.as_document().ok_or_else(malformed)?;
        if fields.next().is_some() {
            return Err(malformed());
        }
        let name = name.as_str();
        let inserted = body;
        let body = Fields::unchecked("field", name, body);
        let (kind, document) = match name {
            "insertOne" => (Kind::Insert, Cow::Borrowed(insert(inserted)?)),
            "updateOne" | "updateMany" => (Kind::Update, update(body, name == "updateMany")?),
            "replaceOne" => (Kind::Update, replace(body)?),
            "deleteOne" => (Kind::Delete, delete(body, 1)?),
            "deleteMany" => (Kind::Delete, delete(body, 0)?),
            other => {
                return Err(Failure::of(format!(
                    "bulkWrite has no operation `{other}`; it has insertOne, updateOne, updateMany, replaceOne, deleteOne, deleteMany"
                )));
            }
        };
        Ok(Self {
            index,
            kind,
            document,
        })
    }

    pub(super) fn document(&self) -> &RawDocument {
        &self.document
    }

    pub(super) fn bytes(&self) -> usize {
        self.document.as_bytes().len()
    }
}

/// The document that is inserted: what the field `document` has where it is the only one, or else
/// the body itself, as Atlas has it.
fn insert(body: &RawDocument) -> Result<&RawDocument, Failure> {
    let mut fields = body.into_iter();
    Ok(match (fields.next().transpose()?, fields.next()) {
        (Some((name, RawBsonRef::Document(document))), None) if name.as_str() == "document" => {
            document
        }
        _ => body,
    })
}

fn update<'a>(body: Fields<'a>, is_many: bool) -> Result<Cow<'a, RawDocument>, Failure> {
    let mut known = vec![
        "filter",
        "update",
        "upsert",
        "arrayFilters",
        "hint",
        "collation",
    ];
    if !is_many {
        known.push("sort");
    }
    let body = body.checked(&known)?;
    let mut statement = selecting(body)?;
    statement.append(cstr!("u"), body.raw_update()?);
    statement.append(cstr!("multi"), is_many);
    if let Some(filters) = body.array("arrayFilters")? {
        statement.append(cstr!("arrayFilters"), filters);
    }
    append_upsert(&mut statement, body)?;
    Ok(Cow::Owned(statement))
}

fn replace<'a>(body: Fields<'a>) -> Result<Cow<'a, RawDocument>, Failure> {
    let body = body.checked(&[
        "filter",
        "replacement",
        "upsert",
        "hint",
        "collation",
        "sort",
    ])?;
    let mut statement = selecting(body)?;
    statement.append(cstr!("u"), body.replacement()?);
    append_upsert(&mut statement, body)?;
    Ok(Cow::Owned(statement))
}

fn delete<'a>(body: Fields<'a>, limit: i32) -> Result<Cow<'a, RawDocument>, Failure> {
    let body = body.checked(&["filter", "hint", "collation"])?;
    let mut statement = selecting(body)?;
    statement.append(cstr!("limit"), limit);
    Ok(Cow::Owned(statement))
}

/// What a statement says of the documents that it is about.
fn selecting(body: Fields<'_>) -> Result<RawDocumentBuf, Failure> {
    let filter = body.required("filter", body.raw_document("filter")?)?;
    let mut statement = RawDocumentBuf::new();
    statement.append(cstr!("q"), filter);
    if let Some(hint) = body.get("hint")? {
        statement.append(cstr!("hint"), hint);
    }
    if let Some(collation) = body.raw_document("collation")? {
        statement.append(cstr!("collation"), collation);
    }
    if let Some(sort) = body.raw_document("sort")? {
        statement.append(cstr!("sort"), sort);
    }
    Ok(statement)
}

fn append_upsert(statement: &mut RawDocumentBuf, body: Fields<'_>) -> Result<(), Failure> {
    if let Some(upsert) = body.boolean("upsert")? {
        statement.append(cstr!("upsert"), RawBsonRef::Boolean(upsert));
    }
    Ok(())
}
