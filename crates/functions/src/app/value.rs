//! Values that functions find in `context.values` and `context.environment.values`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde_json::Value;
use tributary_convert::extjson;

use super::directory::Directory;
use super::fields::Fields;
use crate::services::Secret;

/// The environments that App Services knows, and the file of each.
const ENVIRONMENTS: [(&str, &str); 5] = [
    ("", "no-environment.json"),
    ("development", "development.json"),
    ("testing", "testing.json"),
    ("qa", "qa.json"),
    ("production", "production.json"),
];

/// A value of an application.
#[derive(Clone, PartialEq, Eq)]
pub struct AppValue {
    /// A document of raw BSON with the value as its field `v`.
    pub document: Bytes,
    /// Whether it came from a secret.
    pub is_secret: bool,
}

impl fmt::Debug for AppValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_secret {
            true => f.write_str("***"),
            false => fmt::Debug::fmt(&self.document, f),
        }
    }
}

/// The document `{ v: value }`, of a value of BSON.
fn document_of(kind: u8, value: &[u8]) -> Bytes {
    // The length, the type, the name with its end, and the end of the document.
    let length = 4 + 1 + 2 + value.len() + 1;
    let mut document = Vec::with_capacity(length);
    // Files are at most some megabytes, and what is read of them is not much longer.
    let written = u32::try_from(length).unwrap_or(u32::MAX);
    document.extend_from_slice(&written.to_le_bytes());
    document.push(kind);
    document.extend_from_slice(b"v\0");
    document.extend_from_slice(value);
    document.push(0);
    document.into()
}

fn document_of_json(value: &Value) -> Result<Bytes, String> {
    let parsed = extjson::parse_value(&value.to_string()).map_err(|error| match error.key {
        Some(key) => format!("{key}: {}", error.what),
        None => error.what.to_owned(),
    })?;
    Ok(document_of(parsed.kind, &parsed.value))
}

fn document_of_secret(secret: &Secret) -> Result<Bytes, String> {
    document_of_json(&Value::String(secret.as_str().to_owned()))
}

/// Reads `values/`.
pub(super) fn read_values(directory: &mut Directory<'_>) -> BTreeMap<String, AppValue> {
    let mut values = BTreeMap::new();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for path in directory.json_files("values") {
        let Some((name, value)) = read_value(directory, &path) else {
            continue;
        };
        if let Some(other) = files.insert(name.clone(), path.clone()) {
            let what = format!("the value `{name}` is in {other} too");
            directory.wrong(&path, what, "give one of them another name");
        }
        values.insert(name, value);
    }
    values
}

fn read_value(directory: &mut Directory<'_>, path: &str) -> Option<(String, AppValue)> {
    let mut fields = Fields::new(path, directory.object(path)?);
    // Functions are all there is to see values.
    fields.skip(&["id", "_id", "private"]);
    let name = fields.needed(directory, "name");
    let is_secret = fields.flag(directory, "from_secret");
    let document = match is_secret {
        true => {
            let secret = fields.needed(directory, "value");
            let secret = secret.and_then(|secret| directory.secret(path, &secret));
            secret.map(|secret| document_of_secret(&secret))
        }
        // Null is a value here, unlike elsewhere.
        false => match fields.raw("value") {
            Some(value) => Some(document_of_json(&value)),
            None => {
                directory.wrong(path, "`value` is missing", "add it");
                None
            }
        },
    };
    fields.finish(directory);
    let document = match document? {
        Ok(document) => document,
        Err(what) => {
            malformed(directory, path, "value", &what);
            return None;
        }
    };
    Some((
        name?,
        AppValue {
            document,
            is_secret,
        },
    ))
}

fn malformed(directory: &mut Directory<'_>, path: &str, key: &str, what: &str) {
    directory.wrong(
        path,
        format!("`{key}` is no Extended JSON: {what}"),
        "correct it; names with `$` in front are for Extended JSON",
    );
}

/// Reads `environments/`, and answers the values of the one that was chosen.
pub(super) fn read_environments(directory: &mut Directory<'_>) -> BTreeMap<String, AppValue> {
    let chosen = directory.settings.environment.clone();
    if !ENVIRONMENTS.iter().any(|(name, _)| *name == chosen) {
        directory.wrong(
            "",
            format!("there is no environment `{chosen}`"),
            "choose development, testing, qa or production, or none",
        );
    }
    let mut values = BTreeMap::new();
    for entry in directory.entries("environments") {
        let known = ENVIRONMENTS.iter().find(|(_, file)| *file == entry.name);
        let Some((name, _)) = known.filter(|_| !entry.is_directory) else {
            directory.found(
                &entry.path,
                "this is the file of no environment, and is not read",
                "remove it, or name it after an environment",
            );
            continue;
        };
        let Some(object) = directory.object(&entry.path) else {
            continue;
        };
        let mut fields = Fields::new(&entry.path, object);
        let of_this = fields.object(directory, "values").rest();
        fields.finish(directory);
        for (key, value) in of_this {
            match document_of_json(&value) {
                Ok(_) if *name != chosen => {}
                Ok(document) => {
                    let is_secret = false;
                    values.insert(
                        key,
                        AppValue {
                            document,
                            is_secret,
                        },
                    );
                }
                Err(what) => {
                    malformed(directory, &entry.path, &format!("values.{key}"), &what);
                }
            }
        }
    }
    values
}
