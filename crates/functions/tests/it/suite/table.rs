//! What functions are given, and what is to come of it.

use bson::{Bson, Document};
use serde_json::Value;
use tributary_convert::extjson;
use tributary_functions::script::{FailureKind, Outcome};

/// A call of a function, and what is to come of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) function: &'static str,
    /// An array of Extended JSON.
    pub(super) arguments: &'static str,
    pub(super) expected: Expected,
}

/// What is to come of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    /// This, in Extended JSON. A plain number stands for any type of number.
    Value(&'static str),
    /// `undefined`.
    Nothing,
    /// A failure in this way, with this name unless it is empty, that says this among other things.
    Failure(FailureKind, &'static str, &'static str),
}

pub(super) const fn returns(
    function: &'static str,
    arguments: &'static str,
    value: &'static str,
) -> Row {
    Row {
        function,
        arguments,
        expected: Expected::Value(value),
    }
}

pub(super) const fn ends(function: &'static str, arguments: &'static str) -> Row {
    Row {
        function,
        arguments,
        expected: Expected::Nothing,
    }
}

pub(super) const fn fails(
    function: &'static str,
    arguments: &'static str,
    kind: FailureKind,
    name: &'static str,
    part: &'static str,
) -> Row {
    Row {
        function,
        arguments,
        expected: Expected::Failure(kind, name, part),
    }
}

/// `{ v: value }` of a value of Extended JSON.
pub(super) fn document(value: &str) -> Vec<u8> {
    extjson::parse_document(&format!("{{\"v\": {value}}}"))
        .unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn value(document: &[u8]) -> Option<Bson> {
    Document::from_reader(document).unwrap().remove("v")
}

impl Row {
    /// What is wrong with what came of it.
    pub(super) fn judge(&self, outcome: &Outcome) -> Result<(), String> {
        let is_right = match (&self.expected, &outcome.result) {
            (Expected::Value(expected), Ok(result)) => {
                let expected: Value = serde_json::from_str(expected).unwrap();
                value(result).is_some_and(|actual| matches(&expected, &actual))
            }
            (Expected::Nothing, Ok(result)) => value(result).is_none(),
            (Expected::Failure(kind, name, part), Err(failure)) => {
                failure.kind == *kind
                    && (name.is_empty() || failure.name == *name)
                    && failure.message.contains(part)
            }
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        let came = match &outcome.result {
            Ok(result) => match value(result) {
                Some(value) => value.into_canonical_extjson().to_string(),
                None => "undefined".to_owned(),
            },
            Err(failure) => format!("{failure:?}"),
        };
        Err(format!(
            "{}({}): expected {:?}, came {came}; console {:?}",
            self.function, self.arguments, self.expected, outcome.console
        ))
    }
}

/// Whether a value is what JSON says: Extended JSON is of exactly its type, and a plain number of any.
pub(super) fn matches(expected: &Value, actual: &Bson) -> bool {
    match (expected, actual) {
        (Value::Number(expected), actual) => {
            number(actual).is_some_and(|actual| expected.as_f64() == Some(actual))
        }
        (Value::Object(fields), actual) if fields.keys().any(|key| key.starts_with('$')) => {
            value(&document(&expected.to_string())).as_ref() == Some(actual)
        }
        (Value::Object(fields), Bson::Document(actual)) => {
            let is_same = |(name, expected): (&String, &Value)| {
                actual
                    .get(name)
                    .is_some_and(|actual| matches(expected, actual))
            };
            fields.len() == actual.len() && fields.iter().all(is_same)
        }
        (Value::Array(expected), Bson::Array(actual)) => {
            let mut both = expected.iter().zip(actual);
            expected.len() == actual.len()
                && both.all(|(expected, actual)| matches(expected, actual))
        }
        (Value::String(expected), Bson::String(actual)) => expected == actual,
        (Value::Bool(expected), Bson::Boolean(actual)) => expected == actual,
        (Value::Null, Bson::Null) => true,
        _ => false,
    }
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        // Expected numbers are written in full below 2^53, where this is exact.
        #[allow(clippy::cast_precision_loss, reason = "no expected number is as large")]
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    }
}
