//! How one schema differs from another, for people and for the record.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::schema::{Column, ColumnType, TableSchema};

/// One column, or one field within a column, that is new or has another type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaChange {
    /// Where it is, as a JSON Pointer (RFC 6901) with `*` for the items of an array.
    pub path: String,
    /// The type that it had; none for one that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The type that it gets, or that values have for which there is no room.
    pub to: String,
}

impl fmt::Display for SchemaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "{} {from} → {}", self.path, self.to),
            None => write!(f, "{} new, {}", self.path, self.to),
        }
    }
}

/// How many changes an error names.
const CHANGES_NAMED: usize = 5;

impl SchemaChange {
    /// What is said of a table that waits until such changes are approved.
    #[must_use]
    pub fn waiting(changes: &[Self]) -> Error {
        let named = changes.iter().take(CHANGES_NAMED);
        let mut told: Vec<String> = named.map(ToString::to_string).collect();
        if changes.len() > CHANGES_NAMED {
            told.push(format!("{} more", changes.len() - CHANGES_NAMED));
        }
        let message = "documents have another schema than their table";
        Error::new(ErrorKind::SchemaChanged, message)
            .on("changes", told.join(", "))
            .remedy(
                "this collection waits, the others go on; allow the change with `tributary schema \
                 approve`, and nothing is lost",
            )
    }
}

impl TableSchema {
    /// What makes tables of `later`, which was joined from this schema, different from tables of
    /// this one. Facts that do not show in a table are no change.
    #[must_use]
    pub fn changes_to(&self, later: &Self) -> Vec<SchemaChange> {
        let mut changes = Vec::new();
        compare(
            &self.settled().columns,
            &later.settled().columns,
            "",
            &mut changes,
        );
        changes
    }

    /// The type of the column or field at `path`; see [`SchemaChange::path`].
    #[must_use]
    pub fn type_at(&self, path: &str) -> Option<&ColumnType> {
        let mut steps = path.split('/').skip(1);
        let mut found = field_of(&self.columns, steps.next()?)?;
        for step in steps {
            found = match found {
                ColumnType::Document(columns) => field_of(columns, step)?,
                ColumnType::Array(items) if step == "*" => items,
                _ => return None,
            };
        }
        Some(found)
    }
}

fn field_of<'a>(columns: &'a [Column], step: &str) -> Option<&'a ColumnType> {
    let name = step.replace("~1", "/").replace("~0", "~");
    let column = columns.iter().find(|column| column.field == name)?;
    Some(&column.column_type)
}

fn compare(old: &[Column], new: &[Column], path: &str, changes: &mut Vec<SchemaChange>) {
    let known: HashMap<&str, &ColumnType> = old
        .iter()
        .map(|column| (column.field.as_str(), &column.column_type))
        .collect();
    for column in new {
        let name = column.field.replace('~', "~0").replace('/', "~1");
        let path = format!("{path}/{name}");
        match known.get(column.field.as_str()) {
            Some(old) => compare_types(old, &column.column_type, path, changes),
            None => changes.push(SchemaChange {
                path,
                from: None,
                to: column.column_type.to_string(),
            }),
        }
    }
}

fn compare_types(
    old: &ColumnType,
    new: &ColumnType,
    path: String,
    changes: &mut Vec<SchemaChange>,
) {
    match (old, new) {
        (ColumnType::Document(old), ColumnType::Document(new)) => compare(old, new, &path, changes),
        (ColumnType::Array(old), ColumnType::Array(new)) => {
            compare_types(old, new, format!("{path}/*"), changes);
        }
        _ if old.has_layout_of(new) => {}
        _ => changes.push(SchemaChange {
            path,
            from: Some(old.to_string()),
            to: new.to_string(),
        }),
    }
}

impl fmt::Display for ColumnType {
    /// The type by its name in MongoDB, or by what tables hold in its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "null",
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 { .. } => "int64",
            Self::Double { .. } => "double",
            Self::Decimal(shape) => return write!(f, "decimal(38,{})", shape.scale),
            Self::String => "string",
            Self::ObjectId => "objectId",
            Self::Date => "date",
            Self::Binary { subtype } => return write!(f, "binary({subtype})"),
            Self::Uuid => "uuid",
            Self::Document(columns) if columns.is_empty() => "document",
            Self::Document(columns) => {
                let fields: Vec<String> = columns
                    .iter()
                    .map(|column| format!("{}: {}", column.field, column.column_type))
                    .collect();
                return write!(f, "document<{}>", fields.join(", "));
            }
            Self::Array(items) if **items == Self::Unknown => "array",
            Self::Array(items) => return write!(f, "array<{items}>"),
            Self::Json => "mixed (Extended JSON text)",
            Self::Special => "special (canonical Extended JSON text)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: Vec<(&str, ColumnType)>) -> TableSchema {
        TableSchema {
            columns: columns
                .into_iter()
                .map(|(field, column_type)| Column::new(field, column_type))
                .collect(),
        }
    }

    fn document(columns: Vec<(&str, ColumnType)>) -> ColumnType {
        ColumnType::Document(schema(columns).columns)
    }

    #[test]
    fn changes_are_told_by_their_paths() {
        let item = |n| ColumnType::Array(Box::new(document(vec![("n", n)])));
        let old = schema(vec![
            ("_id", ColumnType::Int32),
            ("same", ColumnType::Int64 { exact: true }),
            ("in", document(vec![("a", ColumnType::Bool)])),
            ("items", item(ColumnType::Int32)),
            ("none", ColumnType::Unknown),
        ]);
        let new = schema(vec![
            ("_id", ColumnType::Int32),
            ("same", ColumnType::Int64 { exact: false }),
            (
                "in",
                document(vec![("a", ColumnType::Bool), ("a/b~c", ColumnType::String)]),
            ),
            ("items", item(ColumnType::Double { decimal: None })),
            ("none", ColumnType::Unknown),
            ("new", ColumnType::Date),
        ]);
        let changes: Vec<String> = old
            .changes_to(&new)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            changes,
            [
                "/in/a~1b~0c new, string",
                "/items/*/n int32 → double",
                "/new new, date",
            ]
        );
        assert_eq!(new.changes_to(&new), []);
        assert_eq!(new.type_at("/in/a~1b~0c"), Some(&ColumnType::String));
        assert_eq!(old.type_at("/items/*/n"), Some(&ColumnType::Int32));
        assert_eq!(old.type_at("/in/none"), None);
    }
}
