//! The documents of a request.

use bytes::Bytes;
use tributary_convert::extjson;
use tributary_convert::raw::{RawElements, kind};

use crate::intake::Fault;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Extended JSON: a document, or an array of documents.
    Json,
    /// Extended JSON, a document a line.
    Lines,
    /// BSON: documents one behind the other.
    Bson,
}

impl Form {
    /// The form that a `Content-Type` names; JSON where there is none.
    pub(crate) fn of(content_type: Option<&str>) -> Option<Self> {
        let Some(content_type) = content_type else {
            return Some(Self::Json);
        };
        let media_type = content_type.split(';').next().unwrap_or_default();
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/json" | "application/ejson" | "application/vnd.mongodb.ejson" => {
                Some(Self::Json)
            }
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                Some(Self::Lines)
            }
            "application/bson" => Some(Self::Bson),
            _ => None,
        }
    }
}

/// Reads the documents of a body. Each is raw BSON, or why it is none.
///
/// # Errors
/// The body is not of the form, and it cannot be told where its documents are.
pub(crate) fn documents(form: Form, body: &Bytes) -> Result<Vec<Result<Bytes, String>>, Fault> {
    match form {
        Form::Json => of_json(text(body)?),
        Form::Lines => {
            let lines = text(body)?.lines();
            let lines = lines.filter(|line| !line.trim().is_empty());
            let parse = |line| {
                extjson::parse_document(line)
                    .map(Bytes::from)
                    .map_err(|error| error.to_string())
            };
            Ok(lines.map(parse).collect())
        }
        Form::Bson => of_bson(body),
    }
}

fn text(body: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(body)
        .map_err(|error| Fault::of_all(format!("the body is not UTF-8: {error}")))
}

fn of_json(text: &str) -> Result<Vec<Result<Bytes, String>>, Fault> {
    let malformed = |error: extjson::ExtJsonError| Fault::of_all(error.to_string());
    if !text.trim_start().starts_with('[') {
        let document = extjson::parse_document(text).map_err(malformed)?;
        return Ok(vec![Ok(document.into())]);
    }
    let array = extjson::parse_value(text).map_err(malformed)?;
    let bytes = Bytes::from(array.value);
    let elements = RawElements::new(&bytes).map_err(|error| Fault::of_all(error.to_string()))?;
    elements
        .map(|element| {
            let element = element.map_err(|error| Fault::of_all(error.to_string()))?;
            Ok(match element.kind {
                kind::DOCUMENT => Ok(bytes.slice_ref(element.value)),
                _ => Err("it is not a document".to_owned()),
            })
        })
        .collect()
}

fn of_bson(body: &Bytes) -> Result<Vec<Result<Bytes, String>>, Fault> {
    let mut rest = body.clone();
    let mut documents = Vec::new();
    while !rest.is_empty() {
        let length = rest.first_chunk::<4>();
        let length = length.and_then(|length| usize::try_from(i32::from_le_bytes(*length)).ok());
        match length {
            Some(length) if (5..=rest.len()).contains(&length) => {
                documents.push(Ok(rest.split_to(length)));
            }
            _ => {
                let what = "its length is not that of a document within the body";
                return Err(Fault::of(documents.len(), what));
            }
        }
    }
    Ok(documents)
}
