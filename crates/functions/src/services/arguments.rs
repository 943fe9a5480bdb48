//! What a function gives a service, and what it gets back.

use bson::raw::{RawArray, RawBsonRef, RawDocument};
use bson::{Bson, Document};
use bytes::Bytes;

use super::ServiceError;

/// Deeper than MongoDB lets documents be, with what stands around one in a call; beyond it, reading one could take
/// more stack than there is.
const DEEPEST: usize = 128;

/// The document that a function gave.
pub(super) fn read(bytes: &Bytes) -> Result<Document, ServiceError> {
    let raw = read_raw(bytes)?;
    Document::try_from(raw).map_err(unreadable)
}

pub(super) fn read_raw(bytes: &Bytes) -> Result<&RawDocument, ServiceError> {
    let raw = RawDocument::from_bytes(bytes).map_err(unreadable)?;
    check_document(raw, DEEPEST)?;
    Ok(raw)
}

/// The document `args` of what a function gave; an empty one where there is none.
pub(super) fn args(mut arguments: Document) -> Result<Document, ServiceError> {
    match arguments.remove("args") {
        None | Some(Bson::Null | Bson::Undefined) => Ok(Document::new()),
        Some(Bson::Document(args)) => Ok(args),
        Some(_) => Err(ServiceError::of_arguments("the argument is no object")),
    }
}

/// A result, as [`ServiceScope::call`](super::ServiceScope::call) answers it.
pub(super) fn result(value: impl Into<Bson>) -> Result<Bytes, ServiceError> {
    let mut document = Document::new();
    document.insert("v", value.into());
    match document.to_vec() {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(ServiceError::of_arguments(format!(
            "the result is no BSON: {error}"
        ))),
    }
}

/// A text among what a function gave; none where it is missing or null.
pub(super) fn text<'a>(args: &'a Document, name: &str) -> Result<Option<&'a str>, ServiceError> {
    match args.get(name) {
        None | Some(Bson::Null | Bson::Undefined) => Ok(None),
        Some(Bson::String(text)) => Ok(Some(text)),
        Some(_) => Err(ServiceError::of_arguments(format!("`{name}` is no string"))),
    }
}

/// A text that a function has to give.
pub(super) fn needed<'a>(args: &'a Document, name: &str) -> Result<&'a str, ServiceError> {
    text(args, name)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| ServiceError::of_arguments(format!("`{name}` is missing")))
}

/// A truth value among what a function gave; false where it is missing or null.
pub(super) fn flag(args: &Document, name: &str) -> Result<bool, ServiceError> {
    match args.get(name) {
        None | Some(Bson::Null | Bson::Undefined) => Ok(false),
        Some(Bson::Boolean(flag)) => Ok(*flag),
        Some(_) => Err(ServiceError::of_arguments(format!(
            "`{name}` is no boolean"
        ))),
    }
}

/// A document among what a function gave; none where it is missing or null.
pub(super) fn document<'a>(
    args: &'a Document,
    name: &str,
) -> Result<Option<&'a Document>, ServiceError> {
    match args.get(name) {
        None | Some(Bson::Null | Bson::Undefined) => Ok(None),
        Some(Bson::Document(document)) => Ok(Some(document)),
        Some(_) => Err(ServiceError::of_arguments(format!("`{name}` is no object"))),
    }
}

/// A whole number among what a function gave, whatever its type; none where it is missing or null.
pub(super) fn whole(args: &Document, name: &str) -> Result<Option<i64>, ServiceError> {
    match args.get(name) {
        None | Some(Bson::Null | Bson::Undefined) => Ok(None),
        Some(Bson::Int32(number)) => Ok(Some((*number).into())),
        Some(Bson::Int64(number)) => Ok(Some(*number)),
        Some(Bson::Double(number)) => whole_of(*number)
            .map(Some)
            .ok_or_else(|| ServiceError::of_arguments(format!("`{name}` is no whole number"))),
        Some(_) => Err(ServiceError::of_arguments(format!("`{name}` is no number"))),
    }
}

/// The integer that a double is, where it is one that doubles hold exactly.
pub(super) fn whole_of(number: f64) -> Option<i64> {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= LARGEST).then_some(number as i64)
}

/// The text of a plain value: what forms, queries and headers hold.
pub(super) fn plain(value: &Bson) -> Option<String> {
    Some(match value {
        Bson::String(text) => text.clone(),
        Bson::Boolean(flag) => flag.to_string(),
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        Bson::Double(number) => match whole_of(*number) {
            Some(whole) => whole.to_string(),
            None => number.to_string(),
        },
        Bson::Decimal128(number) => number.to_string(),
        Bson::ObjectId(id) => id.to_hex(),
        _ => return None,
    })
}

fn unreadable(error: bson::error::Error) -> ServiceError {
    ServiceError::of_arguments(format!("the arguments are no BSON: {error}"))
}

fn too_deep() -> ServiceError {
    ServiceError::of_arguments(format!("the arguments are deeper than {DEEPEST} levels"))
}

fn check_document(document: &RawDocument, left: usize) -> Result<(), ServiceError> {
    let left = left.checked_sub(1).ok_or_else(too_deep)?;
    for element in document {
        let (_, value) = element.map_err(unreadable)?;
        check_value(value, left)?;
    }
    Ok(())
}

fn check_array(array: &RawArray, left: usize) -> Result<(), ServiceError> {
    let left = left.checked_sub(1).ok_or_else(too_deep)?;
    for element in array {
        check_value(element.map_err(unreadable)?, left)?;
    }
    Ok(())
}

fn check_value(value: RawBsonRef<'_>, left: usize) -> Result<(), ServiceError> {
    match value {
        RawBsonRef::Document(document) => check_document(document, left),
        RawBsonRef::Array(array) => check_array(array, left),
        RawBsonRef::JavaScriptCodeWithScope(code) => check_document(code.scope, left),
        _ => Ok(()),
    }
}
