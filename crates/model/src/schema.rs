//! The typed schema of a collection's table, and how it grows.
//!
//! A [`TableSchema`] says, for each field of the documents, which column holds it and what its
//! values have in common. It carries a few facts beyond the type (whether every int64 is exact as
//! a double, how many digits the doubles need as decimals), so that two schemas can be joined
//! without looking at the data again.

use serde::{Deserialize, Serialize};

/// The most digits a decimal column holds.
pub const MAX_DECIMAL_DIGITS: u8 = 38;

/// How many documents and arrays may be nested in one another as columns; what lies deeper is
/// held as Extended JSON text. Query engines recurse over the schema, and Avro's JSON parser stops
/// at 128 levels, four of which each document takes.
pub const MAX_NESTING: usize = 24;

/// How many fields one document may have as columns. A document that outgrows it (one used as a
/// map from keys to values) is held as Extended JSON text; at the top level its further fields go
/// to [`RESCUED_COLUMN`].
pub const MAX_FIELDS: usize = 2_000;

/// The column for values that their own column cannot hold.
pub const RESCUED_COLUMN: &str = "_rescued_data";

/// How many digits stand before and after the decimal point of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecimalShape {
    /// Digits before the point.
    pub integer: u8,
    /// Digits after the point.
    pub scale: u8,
}

impl DecimalShape {
    /// A shape for every int32.
    pub const INT32: Self = Self {
        integer: 10,
        scale: 0,
    };
    /// A shape for every int64.
    pub const INT64: Self = Self {
        integer: 19,
        scale: 0,
    };
    /// The shape of a column without values.
    pub const EMPTY: Self = Self {
        integer: 0,
        scale: 0,
    };

    /// The least shape that holds all that `self` and `other` hold; none where it has too many
    /// digits for a decimal column.
    #[must_use]
    pub fn join(self, other: Self) -> Option<Self> {
        let joined = Self {
            integer: self.integer.max(other.integer),
            scale: self.scale.max(other.scale),
        };
        (joined.integer + joined.scale <= MAX_DECIMAL_DIGITS).then_some(joined)
    }
}

/// What the values of one column have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ColumnType {
    /// No value but null has been seen.
    Unknown,
    /// Boolean.
    Bool,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64 {
        /// Every value is exactly a double.
        exact: bool,
    },
    /// Double.
    Double {
        /// The shape in which every value is exactly a decimal, if there is one.
        decimal: Option<DecimalShape>,
    },
    /// Decimal128(38, `scale`).
    Decimal(DecimalShape),
    /// Text.
    String,
    /// Text: the 24 hexadecimal digits of an objectId.
    ObjectId,
    /// Timestamp in microseconds, UTC; BSON dates are milliseconds.
    Date,
    /// Bytes of one BSON binary subtype.
    Binary {
        /// The subtype of every value.
        subtype: u8,
    },
    /// Text: a UUID (binary subtype 4) in its usual form with hyphens.
    Uuid,
    /// A struct.
    Document(Vec<Column>),
    /// A list.
    Array(Box<ColumnType>),
    /// Text: relaxed Extended JSON of values of any type; canonical in the column of `_id`.
    Json,
    /// Text: canonical Extended JSON of the types no engine has: timestamp, regex, code, symbol,
    /// minKey, maxKey, dbPointer, undefined.
    Special,
}

/// One field of a document and the column that holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The field's name in the documents, as it is.
    pub field: String,
    /// What its values have in common.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

impl Column {
    /// A column for `field`.
    pub fn new(field: impl Into<String>, column_type: ColumnType) -> Self {
        Self {
            field: field.into(),
            column_type,
        }
    }
}

/// The columns of a table, in the order of the documents' fields.
///
/// `_rescued_data` is not among them: every table has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TableSchema {
    /// The columns.
    pub columns: Vec<Column>,
}

impl TableSchema {
    /// The column of `field`.
    #[must_use]
    pub fn column(&self, field: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.field == field)
    }

    /// The schema as tables are written: without columns that have no type yet, and with text
    /// where an empty document or array shows no type.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self {
            columns: settled_columns(&self.columns),
        }
    }

    /// Whether tables of both schemas have the same columns of the same types in the same order,
    /// whatever else is known of their values.
    #[must_use]
    pub fn has_layout_of(&self, other: &Self) -> bool {
        same_columns(&self.columns, &other.columns)
    }

    /// The least schema that holds all that `self` and `other` hold.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut columns = crate::widen::join_columns(&self.columns, &other.columns);
        if let Some(id) = columns.iter_mut().find(|c| c.field == "_id") {
            let pair = (self.column("_id"), other.column("_id"));
            if let (Some(a), Some(b)) = pair {
                id.column_type = a.column_type.join_key(&b.column_type);
            }
        }
        Self { columns }
    }
}

fn same_columns(a: &[Column], b: &[Column]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.field == b.field && a.column_type.has_layout_of(&b.column_type))
}

fn settled_columns(columns: &[Column]) -> Vec<Column> {
    columns
        .iter()
        .filter(|c| c.column_type != ColumnType::Unknown)
        .map(|c| Column::new(c.field.clone(), c.column_type.settled()))
        .collect()
}

impl ColumnType {
    /// The type as tables are written; see [`TableSchema::settled`].
    #[must_use]
    pub fn settled(&self) -> Self {
        match self {
            Self::Document(columns) => {
                let columns = settled_columns(columns);
                if columns.is_empty() {
                    Self::Json
                } else {
                    Self::Document(columns)
                }
            }
            Self::Array(items) => match items.settled() {
                Self::Unknown | Self::Json => Self::Json,
                items => Self::Array(Box::new(items)),
            },
            other => other.clone(),
        }
    }

    /// Whether columns of both types hold the same values in the same way.
    #[must_use]
    pub fn has_layout_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int64 { .. }, Self::Int64 { .. })
            | (Self::Double { .. }, Self::Double { .. }) => true,
            (Self::Decimal(a), Self::Decimal(b)) => a.scale == b.scale,
            (Self::Document(a), Self::Document(b)) => same_columns(a, b),
            (Self::Array(a), Self::Array(b)) => a.has_layout_of(b),
            (a, b) => a == b,
        }
    }

    /// Whether a table column of this type holds documents or arrays.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::Document(_) | Self::Array(_))
    }
}
