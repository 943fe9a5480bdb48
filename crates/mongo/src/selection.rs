//! Which collections, documents and fields are read.

use bytes::Bytes;
use mongodb::bson::{Bson, Document, doc};
use tributary_model::{Error, ErrorKind, Result};

/// What the user asked for, as text.
#[derive(Debug, Clone, Default)]
pub struct SelectionOptions {
    /// Names of collections; `*`, `?` and `[…]` match as in a shell. None: all.
    pub collections: Vec<String>,
    /// A query in Extended JSON.
    pub filter: Option<String>,
    /// Paths of fields. None: all.
    pub fields: Vec<String>,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct Selection {
    collections: Vec<glob::Pattern>,
    pub(crate) filter: Document,
    pub(crate) projection: Option<Document>,
    /// The options as they were, to recognise an interrupted load by.
    text: String,
}

impl Selection {
    /// Checks the options.
    ///
    /// # Errors
    /// A pattern, the filter or a path is malformed.
    pub fn new(options: &SelectionOptions) -> Result<Self> {
        let collections = options
            .collections
            .iter()
            .map(|name| {
                glob::Pattern::new(name).map_err(|error| {
                    Error::new(ErrorKind::Usage, "malformed pattern")
                        .on("--collection", name)
                        .because(error)
                        .remedy(
                            "`*` matches any characters and `?` one; put a literal `[` as `[[]`",
                        )
                })
            })
            .collect::<Result<_>>()?;
        let filter = options
            .filter
            .as_deref()
            .map(parse_filter)
            .transpose()?
            .unwrap_or_default();
        let projection = parse_fields(&options.fields)?;
        let mut fields = options.fields.clone();
        fields.sort();
        let text = format!("filter={filter} fields={}", fields.join(","));
        Ok(Self {
            collections,
            filter,
            projection,
            text,
        })
    }

    /// Whether a collection of that name is read.
    #[must_use]
    pub fn includes(&self, collection: &str) -> bool {
        let selected = self.collections.is_empty()
            || self
                .collections
                .iter()
                .any(|pattern| pattern.matches(collection));
        selected && !is_the_servers(collection)
    }

    /// The names asked for that are no patterns.
    pub(crate) fn exact_names(&self) -> impl Iterator<Item = &str> {
        self.collections
            .iter()
            .map(glob::Pattern::as_str)
            .filter(|name| !name.contains(['*', '?', '[']))
    }

    /// A regular expression for the names of the collections; none where all are included.
    pub(crate) fn to_regex(&self) -> Option<String> {
        if self.collections.is_empty() {
            return None;
        }
        let mut patterns: Vec<String> = self
            .collections
            .iter()
            .map(|pattern| pattern_to_regex(pattern.as_str()))
            .collect();
        // The same stream, in whichever order they were given.
        patterns.sort();
        Some(format!("^(?:{})$", patterns.join("|")))
    }

    /// The stage behind `$changeStream` that passes on the events of the collections that are included,
    /// of those that take such a name, and of whole databases.
    ///
    /// # Errors
    /// `Internal`: the stage is no BSON.
    pub fn event_stage(&self) -> Result<Bytes> {
        let (mut own, mut renamed) = (
            doc! { "$not": { "$regex": OF_THE_SERVER } },
            doc! { "$exists": true },
        );
        if let Some(names) = self.to_regex() {
            own.insert("$regex", &names);
            renamed = doc! { "$regex": &names };
        }
        let stage = doc! { "$match": { "$or": [
            { "ns.coll": own },
            { "to.coll": renamed },
            { "ns.coll": { "$exists": false } },
        ] } };
        match mongodb::bson::serialize_to_vec(&stage) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(Error::new(
                ErrorKind::Internal,
                "the collections cannot be asked for",
            )
            .because(error)),
        }
    }

    pub(crate) fn describe(&self) -> &str {
        &self.text
    }
}

/// Names of collections that are the server's own, as [`is_the_servers`] knows them.
const OF_THE_SERVER: &str = "^(?:system\\.|tmp\\.agg_out\\.|tmp\\.mr\\.|\
                             tmp[A-Za-z0-9]{5}\\.(?:renameCollection|convertToCapped|create))";

/// Whether a collection is one of the server's own: a system collection, or one that it fills to
/// give it another name at the end, as `$out` does.
pub(crate) fn is_the_servers(collection: &str) -> bool {
    const MARK: usize = 5;
    let of_a_command = || {
        let (mark, rest) = collection.strip_prefix("tmp")?.split_at_checked(MARK)?;
        let command = rest.strip_prefix('.')?;
        let named = ["renameCollection", "convertToCapped", "create"];
        let is_mark = mark.chars().all(|c| c.is_ascii_alphanumeric());
        Some(is_mark && named.iter().any(|name| command.starts_with(name)))
    };
    collection.starts_with("system.")
        || collection.starts_with("tmp.agg_out.")
        || collection.starts_with("tmp.mr.")
        || of_a_command().unwrap_or(false)
}

/// A shell pattern as a regular expression.
fn pattern_to_regex(pattern: &str) -> String {
    let mut regex = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' => {
                while rest.next_if_eq(&'*').is_some() {}
                regex.push_str("[\\s\\S]*");
            }
            '?' => regex.push_str("[\\s\\S]"),
            '[' => {
                regex.push('[');
                if rest.next_if_eq(&'!').is_some() {
                    regex.push('^');
                }
                // The first character of a class is one of its own, even where it is `]`.
                let mut first = true;
                for c in rest.by_ref() {
                    if c == ']' && !first {
                        break;
                    }
                    if matches!(c, '\\' | '[' | ']' | '^') {
                        regex.push('\\');
                    }
                    push_plain(&mut regex, c);
                    first = false;
                }
                regex.push(']');
            }
            c if c.is_alphanumeric() || matches!(c, '_' | '\'') || c.is_ascii_control() => {
                push_plain(&mut regex, c);
            }
            c => {
                regex.push('\\');
                regex.push(c);
            }
        }
    }
    regex
}

/// Adds a character that stands for itself. The server puts expressions of change streams into JSON
/// in single quotes, and escapes neither those nor control characters.
fn push_plain(regex: &mut String, c: char) {
    if c == '\'' || c.is_ascii_control() {
        regex.push_str(&format!("\\x{:02x}", u32::from(c)));
    } else {
        regex.push(c);
    }
}

fn parse_filter(text: &str) -> Result<Document> {
    let malformed = |why: String| {
        Error::new(ErrorKind::Usage, "malformed filter")
            .on("--filter", text)
            .because(why)
            .remedy(r#"write a query as Extended JSON, such as '{"status":"active","at":{"$gte":{"$date":"2024-01-01T00:00:00Z"}}}'"#)
    };
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    match Bson::try_from(value).map_err(|error| malformed(error.to_string()))? {
        Bson::Document(filter) => Ok(filter),
        _ => Err(malformed("it is not a document".to_owned())),
    }
}

fn parse_fields(fields: &[String]) -> Result<Option<Document>> {
    if fields.is_empty() {
        return Ok(None);
    }
    let mut projection = doc! {};
    for field in fields {
        if field.is_empty()
            || field.starts_with('.')
            || field.ends_with('.')
            || field.starts_with('$')
        {
            return Err(Error::new(ErrorKind::Usage, "malformed field path")
                .on("--fields", field)
                .remedy("write paths such as `name` or `address.city`, with commas between them"));
        }
        let clash = fields.iter().find(|other| {
            other.len() > field.len()
                && other.starts_with(field.as_str())
                && other.as_bytes()[field.len()] == b'.'
        });
        if let Some(inner) = clash {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{inner}` is already part of `{field}`"),
            )
            .on("--fields", fields.join(","))
            .remedy("name one of the two"));
        }
        projection.insert(field.as_str(), 1);
    }
    Ok(Some(projection))
}

#[cfg(test)]
mod tests {
    use super::{is_the_servers, pattern_to_regex};

    #[test]
    fn temporary_collections_are_the_servers_own() {
        for name in [
            "system.views",
            "tmp.agg_out.0b2c",
            "tmpa1B2c.renameCollection",
            "tmpa1B2c.convertToCapped.orders",
        ] {
            assert!(is_the_servers(name), "{name}");
        }
        for name in [
            "orders",
            "tmp",
            "tmporary",
            "tmpa1B2c.orders",
            "tmp.aggregates",
        ] {
            assert!(!is_the_servers(name), "{name}");
        }
    }

    #[test]
    fn shell_patterns_become_regular_expressions() {
        assert_eq!(pattern_to_regex("orders"), "orders");
        assert_eq!(pattern_to_regex("a.b$c"), r"a\.b\$c");
        assert_eq!(pattern_to_regex("order*"), r"order[\s\S]*");
        assert_eq!(pattern_to_regex("[!a-c]?"), r"[^a-c][\s\S]");
        assert_eq!(pattern_to_regex("[[]x[]]"), r"[\[]x[\]]");
        assert_eq!(pattern_to_regex("o'dd[']"), r"o\x27dd[\x27]");
        assert_eq!(pattern_to_regex("a\tb"), r"a\x09b");
    }
}
