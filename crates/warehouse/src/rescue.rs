//! What columns cannot hold, and goes to `_rescued_data` with its path, while its neighbours stay
//! what they are.

use serde_json::Value;
use tributary_convert::encode::{EncodeError, ValueEncoder};
use tributary_convert::extjson::Mode;

/// From 1970 to 2000, where PostgreSQL and Redshift count from, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;
/// The earliest moment that they know, 24 November 4714 BC, from 2000.
const FIRST_MOMENT: i64 = -211_813_488_000_000_000;
/// The first moment that they know no more, in the year 294277, from 2000.
const END_OF_MOMENTS: i64 = 9_223_371_331_200_000_000;

/// A moment, given from 1970 on, as the servers count it; none for one that they do not know.
pub(crate) fn moment(micros: i64) -> Option<i64> {
    let micros = micros.checked_sub(EPOCH)?;
    (FIRST_MOMENT..END_OF_MOMENTS)
        .contains(&micros)
        .then_some(micros)
}

/// Whether a column of text can hold a text of any length.
pub(crate) fn is_text(text: &[u8]) -> bool {
    memchr::memchr(0, text).is_none()
}

/// How much a column of JSON holds. None holds the character NUL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonLimits {
    /// The bytes of one text.
    pub(crate) text_bytes: usize,
    /// The bytes of all of it.
    pub(crate) bytes: usize,
}

/// How JSON fits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// As it is.
    AsIs,
    /// So, and what does not is rescued.
    Changed(Vec<u8>),
    /// Not at all: it is one value, and that does not.
    Not,
}

impl JsonLimits {
    /// What of Extended JSON can be held. What cannot is replaced by null and put into `rescued`,
    /// with its path below `field`.
    pub(crate) fn fit(
        self,
        text: &[u8],
        field: &str,
        rescued: &mut Vec<Value>,
    ) -> Result<Fit, EncodeError> {
        // What may be NUL, and nothing that is shorter than one text may be can hold a longer one.
        let is_small = text.len() <= self.text_bytes && text.len() <= self.bytes;
        if is_small && memchr::memmem::find(text, b"\\u0000").is_none() {
            return Ok(Fit::AsIs);
        }
        let mut value: Value = serde_json::from_slice(text)
            .map_err(|error| EncodeError::new(format!("a column does not hold JSON: {error}")))?;
        if is_single(&value) && self.is_unfit(&value) {
            return Ok(Fit::Not);
        }
        let mut path = pointer("", field);
        self.take_unfit(&mut value, &mut path, rescued);
        let mut text = value.to_string();
        while text.len() > self.bytes {
            if is_single(&value) {
                return Ok(Fit::Not);
            }
            let excess = text.len() - self.bytes;
            if !take_largest(&mut value, excess, &mut path, rescued) {
                break;
            }
            text = value.to_string();
        }
        Ok(Fit::Changed(text.into_bytes()))
    }

    /// Takes the single values out that cannot be held, leaving null.
    fn take_unfit(self, value: &mut Value, path: &mut String, rescued: &mut Vec<Value>) {
        if is_single(value) {
            if self.is_unfit(value) {
                rescued.push(entry(path, value.take()));
            }
            return;
        }
        for_each_part(value, path, |part, path| {
            self.take_unfit(part, path, rescued)
        });
    }

    fn is_unfit(self, value: &Value) -> bool {
        match value {
            Value::String(text) => text.len() > self.text_bytes || text.contains('\0'),
            Value::Array(items) => items.iter().any(|item| self.is_unfit(item)),
            Value::Object(fields) => fields.values().any(|field| self.is_unfit(field)),
            _ => false,
        }
    }
}

/// Takes the largest part of a value out, or the largest part of that where it is much more than the
/// `excess`; whether there was one.
fn take_largest(
    value: &mut Value,
    excess: usize,
    path: &mut String,
    rescued: &mut Vec<Value>,
) -> bool {
    let mut sizes = Vec::new();
    for_each_part(value, path, |part, _| sizes.push(part.to_string().len()));
    let largest = sizes.into_iter().enumerate().max_by_key(|(_, size)| *size);
    let Some((largest, size)) = largest else {
        return false;
    };
    let (mut index, mut took) = (0, false);
    for_each_part(value, path, |part, path| {
        if index == largest {
            took = if size > 2 * excess && !is_single(part) {
                take_largest(part, excess, path, rescued)
            } else {
                rescued.push(entry(path, part.take()));
                true
            };
        }
        index += 1;
    });
    took
}

/// Visits the items of an array or the fields of a document, each with its path.
fn for_each_part(
    value: &mut Value,
    path: &mut String,
    mut visit: impl FnMut(&mut Value, &mut String),
) {
    let end = path.len();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                *path = pointer(path, &index.to_string());
                visit(item, path);
                path.truncate(end);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                *path = pointer(path, name);
                visit(field, path);
                path.truncate(end);
            }
        }
        _ => {}
    }
}

/// Whether a value has no parts of its own: also one of a type that JSON does not have, such as a
/// regular expression.
fn is_single(value: &Value) -> bool {
    match value {
        Value::Array(_) => false,
        Value::Object(fields) => fields.keys().any(|name| name.starts_with('$')),
        _ => true,
    }
}

/// A value of a column as an entry of `_rescued_data`. `value` and `text` are room to work in.
pub(crate) fn value(
    encoder: &ValueEncoder<'_>,
    field: &str,
    row: usize,
    value: &mut Vec<u8>,
    text: &mut Vec<u8>,
) -> Result<Value, EncodeError> {
    text.clear();
    encoder.text(row, Mode::Canonical, value, text)?;
    let value: Value = serde_json::from_slice(text)
        .map_err(|error| EncodeError::new(format!("a value is not JSON: {error}")))?;
    Ok(entry(&pointer("", field), value))
}

/// The entries of what the lake has rescued.
pub(crate) fn entries(text: Option<&str>) -> Result<Vec<Value>, EncodeError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    serde_json::from_str(text)
        .map_err(|error| EncodeError::new(format!("`_rescued_data` is not JSON: {error}")))
}

fn entry(path: &str, value: Value) -> Value {
    serde_json::json!({ "path": path, "value": value })
}

/// The JSON Pointer of a step behind `path`.
fn pointer(path: &str, step: &str) -> String {
    format!("{path}/{}", step.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: JsonLimits = JsonLimits {
        text_bytes: 10,
        bytes: 60,
    };

    fn fit(text: &str) -> (Fit, Vec<String>) {
        let mut rescued = Vec::new();
        let fit = SMALL.fit(text.as_bytes(), "f", &mut rescued).unwrap();
        let told = rescued.iter();
        (
            fit,
            told.map(|entry| entry["path"].as_str().unwrap().to_owned())
                .collect(),
        )
    }

    fn changed(text: &str) -> Fit {
        Fit::Changed(text.as_bytes().to_vec())
    }

    #[test]
    fn long_texts_are_taken_out_alone() {
        assert_eq!(fit(r#"{"a":1}"#), (Fit::AsIs, vec![]));
        let (kept, taken) = fit(r#"{"a":"0123456789","b":["x","0123456789ab"]}"#);
        assert_eq!(kept, changed(r#"{"a":"0123456789","b":["x",null]}"#));
        assert_eq!(taken, ["/f/b/1"]);
        let (kept, taken) =
            fit(r#"{"r":{"$regularExpression":{"pattern":"0123456789ab"}},"a/b":"\u0000"}"#);
        assert_eq!(kept, changed(r#"{"r":null,"a/b":null}"#));
        assert_eq!(taken, ["/f/r", "/f/a~1b"]);
        assert_eq!(fit("\"0123456789ab\"").0, Fit::Not);
    }

    #[test]
    fn of_what_is_too_large_as_a_whole_the_largest_parts_are_taken_out() {
        let long = format!("[{}]", ["\"12345678\""; 5].join(","));
        let (kept, taken) = fit(&format!(r#"{{"small":1,"long":{long}}}"#));
        let Fit::Changed(kept) = kept else {
            panic!("{kept:?}")
        };
        let kept = String::from_utf8(kept).unwrap();
        assert!(kept.len() <= 60 && kept.contains("12345678"), "{kept}");
        assert_eq!(taken, ["/f/long/4", "/f/long/3", "/f/long/2"], "{kept}");
    }
}
