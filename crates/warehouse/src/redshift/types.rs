//! The types of Redshift's columns.

use serde::{Deserialize, Serialize};
use tributary_model::ColumnType;

use crate::dialect::{SqlType, Way};

/// The most bytes of a text.
pub(super) const MAX_TEXT: usize = 65_535;
/// The most bytes of binary data.
pub(super) const MAX_BINARY: usize = 16_777_216;

/// The sizes that columns of text get, so that they seldom have to grow, and queries do not make
/// room for much that is never there.
const TEXT_STEPS: [u32; 5] = [256, 1_024, 4_096, 16_384, MAX_TEXT as u32];
/// The same for binary data.
const BINARY_STEPS: [u32; 4] = [1_024, 65_535, 1_048_576, MAX_BINARY as u32];

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RsType {
    Boolean,
    Integer,
    Bigint,
    Double,
    /// With so many decimals, and 38 digits in all.
    Numeric(u8),
    /// Text of just so many bytes.
    Char(u32),
    /// Text of up to so many bytes.
    Varchar(u32),
    Timestamp,
    /// Up to so many bytes.
    Varbyte(u32),
    /// Documents, arrays and values of mixed types, as relaxed Extended JSON.
    Super,
}

impl RsType {
    /// The least type of its sort whose values may have so many bytes.
    pub(super) fn with_room_for(self, bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let step = |steps: &[u32], most: usize| {
            let fits = steps.iter().copied().find(|step| *step >= bytes);
            fits.unwrap_or(most as u32)
        };
        match self {
            Self::Varchar(room) if bytes > room => Self::Varchar(step(&TEXT_STEPS, MAX_TEXT)),
            Self::Varbyte(room) if bytes > room => Self::Varbyte(step(&BINARY_STEPS, MAX_BINARY)),
            other => other,
        }
    }

    /// How it is compressed. A column that decides where rows are is not.
    pub(super) fn encoding(self, is_sorted: bool) -> &'static str {
        match self {
            Self::Boolean | Self::Double => "raw",
            _ if is_sorted => "raw",
            Self::Integer | Self::Bigint | Self::Numeric(_) | Self::Timestamp => "az64",
            // One that can be altered later, unlike those that Redshift may choose by itself.
            Self::Char(_) | Self::Varchar(_) | Self::Varbyte(_) | Self::Super => "zstd",
        }
    }

    /// Whether rows can be distributed and sorted by it.
    pub(super) fn orders(self) -> bool {
        !matches!(self, Self::Super | Self::Varbyte(_))
    }

    /// The type of the staged column, as which a Parquet file is copied.
    pub(super) fn staged(self) -> String {
        match self {
            // A copy of Parquet knows no time zones.
            Self::Timestamp => "timestamp".to_owned(),
            // Text that is to be parsed. A copy of Parquet makes one string of it.
            Self::Super => format!("varbyte({})", super::MAX_JSON),
            other => other.name(),
        }
    }
}

impl SqlType for RsType {
    fn of(column_type: &ColumnType, is_key: bool) -> Self {
        match column_type {
            ColumnType::Bool => Self::Boolean,
            ColumnType::Int32 => Self::Integer,
            ColumnType::Int64 { .. } => Self::Bigint,
            ColumnType::Double { .. } => Self::Double,
            ColumnType::Decimal(shape) => Self::Numeric(shape.scale),
            ColumnType::ObjectId => Self::Char(24),
            ColumnType::Uuid => Self::Char(36),
            ColumnType::String | ColumnType::Special => Self::Varchar(TEXT_STEPS[0]),
            ColumnType::Date => Self::Timestamp,
            ColumnType::Binary { .. } => Self::Varbyte(BINARY_STEPS[0]),
            ColumnType::Unknown
            | ColumnType::Document(_)
            | ColumnType::Array(_)
            | ColumnType::Json => match is_key {
                true => Self::Varchar(TEXT_STEPS[0]),
                false => Self::Super,
            },
        }
    }

    fn rescued() -> Self {
        Self::Super
    }

    fn name(&self) -> String {
        match self {
            Self::Boolean => "boolean".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::Bigint => "bigint".to_owned(),
            Self::Double => "double precision".to_owned(),
            Self::Numeric(scale) => format!("numeric(38,{scale})"),
            Self::Char(bytes) => format!("char({bytes})"),
            Self::Varchar(bytes) => format!("varchar({bytes})"),
            Self::Timestamp => "timestamptz".to_owned(),
            Self::Varbyte(bytes) => format!("varbyte({bytes})"),
            Self::Super => "super".to_owned(),
        }
    }

    /// The lake makes whole numbers doubles only where all of them are exact, and has room for the
    /// digits of all decimals. Of text it is not known here what it stood for.
    fn way_to(&self, wanted: &Self) -> Way<Self> {
        match (self, wanted) {
            (Self::Varchar(_), Self::Varchar(_)) | (Self::Varbyte(_), Self::Varbyte(_)) => {
                Way::Stays
            }
            _ if self == wanted => Way::Stays,
            (Self::Integer, Self::Bigint | Self::Double | Self::Numeric(_) | Self::Super)
            | (Self::Bigint, Self::Double | Self::Numeric(_) | Self::Super) => Way::Casts(*wanted),
            (Self::Numeric(scale), Self::Numeric(wider)) if scale < wider => Way::Casts(*wanted),
            _ => Way::Replaced(*wanted),
        }
    }

    /// The catalog spells types out, and a column that has become larger than was told holds all that
    /// it held.
    fn is_as_left(&self, found: &str) -> bool {
        let room = |of: &str| -> Option<u32> {
            let (kind, rest) = found.split_once('(')?;
            let room = rest.strip_suffix(')')?;
            (kind == of).then(|| room.parse().ok()).flatten()
        };
        match self {
            Self::Varchar(bytes) => room("character varying").is_some_and(|room| room >= *bytes),
            // Of binary data the catalog does not always tell the size.
            Self::Varbyte(bytes) => {
                found == "binary varying"
                    || room("binary varying").is_some_and(|room| room >= *bytes)
            }
            Self::Char(bytes) => room("character") == Some(*bytes),
            Self::Timestamp => found == "timestamp with time zone",
            other => other.name() == found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_by_steps_and_are_found_again_when_they_are_larger() {
        let text = RsType::of(&ColumnType::String, false);
        assert_eq!(text.with_room_for(256), RsType::Varchar(256));
        assert_eq!(text.with_room_for(257), RsType::Varchar(1_024));
        assert_eq!(text.with_room_for(70_000), RsType::Varchar(65_535));
        assert_eq!(
            RsType::Varchar(4_096).with_room_for(10),
            RsType::Varchar(4_096)
        );
        assert_eq!(
            RsType::Varbyte(1_024).with_room_for(2_000),
            RsType::Varbyte(65_535)
        );
        assert_eq!(RsType::Integer.with_room_for(2_000), RsType::Integer);
        assert!(text.is_as_left("character varying(1024)"));
        assert!(!text.is_as_left("character varying(100)") && !text.is_as_left("character(300)"));
        assert!(RsType::Numeric(2).is_as_left("numeric(38,2)"));
    }

    #[test]
    fn only_what_stays_what_it_is_is_cast() {
        let (int, text) = (RsType::Integer, RsType::Varchar(256));
        assert_eq!(int.way_to(&RsType::Super), Way::Casts(RsType::Super));
        assert_eq!(
            int.way_to(&RsType::Numeric(2)),
            Way::Casts(RsType::Numeric(2))
        );
        assert_eq!(text.way_to(&RsType::Super), Way::Replaced(RsType::Super));
        assert_eq!(RsType::Varchar(1_024).way_to(&text), Way::Stays);
        assert_eq!(
            RsType::Numeric(4).way_to(&RsType::Numeric(2)),
            Way::Replaced(RsType::Numeric(2))
        );
    }
}
