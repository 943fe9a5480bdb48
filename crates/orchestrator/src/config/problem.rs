//! What is wrong in the file, and where.

use std::fmt;

use serde_saphyr::{Error as YamlError, Location};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1 on; none where it is about the file as a whole.
    pub line: Option<u64>,
    /// The column, from 1 on.
    pub column: Option<u64>,
    /// What is wrong, and what may be meant.
    pub what: String,
}

impl Problem {
    /// Something at a place.
    pub(super) fn at(location: Location, what: impl Into<String>) -> Self {
        let is_known = location != Location::UNKNOWN;
        Self {
            line: is_known.then(|| location.line()),
            column: is_known.then(|| location.column()),
            what: in_one_line(&what.into()),
        }
    }

    /// What the reader of the text says.
    pub(super) fn of(error: &YamlError) -> Self {
        let error = error.without_snippet();
        let what = match error {
            YamlError::SerdeUnknownField {
                field, expected, ..
            } => unknown("key", field, expected.iter().copied()),
            YamlError::SerdeUnknownVariant {
                variant, expected, ..
            } => unknown("value", variant, expected.iter().copied()),
            YamlError::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
            YamlError::DuplicateMappingKey { key: Some(key), .. } => {
                format!("`{key}` is there twice")
            }
            YamlError::SerdeInvalidType {
                unexpected,
                expected,
                ..
            } => format!("expected {expected}, found {unexpected}"),
            YamlError::Message { msg, .. } => msg.clone(),
            other => plain(&other.to_string()),
        };
        Self::at(error.location().unwrap_or(Location::UNKNOWN), what)
    }
}

/// A text of the file may be of several lines, and what is told of it is one.
fn in_one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The text of an error without what it says of its place, in one line.
fn plain(text: &str) -> String {
    let text = text.lines().next().unwrap_or_default();
    let text = text.split(" at line ").next().unwrap_or(text);
    // What stands behind an alias has a second place, in brackets.
    let text = text.strip_suffix(" (defined").unwrap_or(text);
    let prefix = text
        .strip_prefix("error: line ")
        .and_then(|rest| rest.split_once(": "));
    prefix.map_or(text, |(_, rest)| rest).trim().to_owned()
}

/// That something is none of the names that may stand there.
pub(super) fn unknown<'a>(
    kind: &str,
    found: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let nearest = known
        .clone()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .min()
        // As many letters may be wrong as a typo has, and fewer than there are.
        .filter(|(distance, name)| {
            *distance <= 3 && *distance < name.len().max(found.len()) / 2 + 1
        });
    match nearest {
        Some((_, name)) => format!("there is no {kind} `{found}`; did you mean `{name}`?"),
        None => {
            let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
            match known.is_empty() {
                true => format!("there is no {kind} `{found}`, nor any other"),
                false => format!(
                    "there is no {kind} `{found}`; there is {}",
                    known.join(", ")
                ),
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        } else {
            f.write_str(" ")?;
        }
        f.write_str(&self.what)
    }
}
