//! The types of PostgreSQL's columns.

use serde::{Deserialize, Serialize};
use tributary_model::ColumnType;

use crate::dialect::{SqlType, Way};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PgType {
    Boolean,
    Integer,
    Bigint,
    Double,
    Numeric,
    Text,
    Timestamp,
    Bytea,
    Uuid,
    /// Documents, arrays and values of mixed types, as relaxed Extended JSON.
    Jsonb,
    /// JSON as it was written: it may hold the character NUL, spelled out, which `jsonb` may not.
    Json,
}

impl PgType {
    /// Its name in a statement.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Bigint => "bigint",
            Self::Double => "double precision",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Timestamp => "timestamp with time zone",
            Self::Bytea => "bytea",
            Self::Uuid => "uuid",
            Self::Jsonb => "jsonb",
            Self::Json => "json",
        }
    }
}

impl SqlType for PgType {
    /// The type that holds the values of a lake's column. Keys that are no plain values are text:
    /// `jsonb` does not tell apart documents whose fields are in another order.
    fn of(column_type: &ColumnType, is_key: bool) -> Self {
        match column_type {
            ColumnType::Bool => Self::Boolean,
            ColumnType::Int32 => Self::Integer,
            ColumnType::Int64 { .. } => Self::Bigint,
            ColumnType::Double { .. } => Self::Double,
            ColumnType::Decimal(_) => Self::Numeric,
            ColumnType::String | ColumnType::ObjectId | ColumnType::Special => Self::Text,
            ColumnType::Date => Self::Timestamp,
            ColumnType::Binary { .. } => Self::Bytea,
            ColumnType::Uuid => Self::Uuid,
            ColumnType::Unknown
            | ColumnType::Document(_)
            | ColumnType::Array(_)
            | ColumnType::Json
                if is_key =>
            {
                Self::Text
            }
            ColumnType::Unknown
            | ColumnType::Document(_)
            | ColumnType::Array(_)
            | ColumnType::Json => Self::Jsonb,
        }
    }

    fn rescued() -> Self {
        Self::Json
    }

    fn name(&self) -> String {
        self.word().to_owned()
    }

    /// The lake makes whole numbers doubles only where all of them are exact.
    fn way_to(&self, wanted: &Self) -> Way<Self> {
        let casts = matches!(
            (self, wanted),
            (Self::Integer, Self::Bigint | Self::Double | Self::Numeric)
                | (Self::Bigint, Self::Double | Self::Numeric)
        );
        match casts {
            _ if self == wanted => Way::Stays,
            true => Way::Casts(*wanted),
            false => Way::Replaced(*wanted),
        }
    }
}
