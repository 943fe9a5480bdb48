//! Types of columns, and the encodings that fit them.

use std::fmt;

use super::{
    cursor::Cursor,
    names::{literal, quoted},
    refusal::Refusal,
};

/// The schema of what the stand-in keeps in the database.
pub(super) const SCHEMA: &str = "redshift_standin";

/// The longest `char`, in bytes.
const LONGEST_CHAR: u32 = 4_096;

/// The longest `varchar`, in bytes.
pub(super) const LONGEST_VARCHAR: u32 = 65_535;

/// The longest `varbyte`.
const LONGEST_VARBYTE: u32 = 16_777_216;

/// A type of Redshift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    SmallInt,
    Integer,
    BigInt,
    Decimal {
        precision: u32,
        scale: u32,
    },
    Real,
    Double,
    Boolean,
    /// Bytes.
    Char(u32),
    /// Bytes.
    Varchar(u32),
    Date,
    Timestamp,
    Timestamptz,
    Super,
    /// Bytes.
    Varbyte(u32),
}

impl Type {
    /// Reads a type.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        let name = cursor.word()?;
        let found = match name.as_str() {
            "smallint" | "int2" => Self::SmallInt,
            "integer" | "int" | "int4" => Self::Integer,
            "bigint" | "int8" => Self::BigInt,
            "decimal" | "numeric" => decimal(cursor)?,
            "real" | "float4" => Self::Real,
            "double" => {
                cursor.expect(&["precision"])?;
                Self::Double
            }
            "float8" | "float" => Self::Double,
            "boolean" | "bool" => Self::Boolean,
            "char" | "character" | "nchar" => {
                if cursor.accept(&["varying"]) {
                    Self::Varchar(length(cursor, 256, LONGEST_VARCHAR, "varchar")?)
                } else {
                    Self::Char(length(cursor, 1, LONGEST_CHAR, "char")?)
                }
            }
            "bpchar" => Self::Char(256),
            "varchar" | "nvarchar" => {
                Self::Varchar(length(cursor, 256, LONGEST_VARCHAR, "varchar")?)
            }
            "text" => Self::Varchar(256),
            "date" => Self::Date,
            "timestamptz" => Self::Timestamptz,
            "timestamp" => {
                if cursor.accept(&["with", "time", "zone"]) {
                    Self::Timestamptz
                } else {
                    cursor.accept(&["without", "time", "zone"]);
                    Self::Timestamp
                }
            }
            "super" => Self::Super,
            "varbyte" | "varbinary" => {
                Self::Varbyte(length(cursor, 64_000, LONGEST_VARBYTE, "varbyte")?)
            }
            "binary" => {
                cursor.expect(&["varying"])?;
                Self::Varbyte(length(cursor, 64_000, LONGEST_VARBYTE, "varbyte")?)
            }
            "time" | "timetz" | "geometry" | "geography" | "hllsketch" => {
                return Err(Refusal::beyond(&format!("type \"{name}\"")));
            }
            _ => {
                return Err(Refusal::unsupported(format!(
                    "Column has unsupported type \"{name}\"."
                )));
            }
        };
        if cursor.peek().is_some_and(|token| token.is_symbol('[')) {
            return Err(Refusal::unsupported(format!(
                "Column has unsupported type \"{name}[]\"."
            )));
        }
        Ok(found)
    }

    /// Reads a type as [`Type`] writes it.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let statements = super::lexer::statements(text)?;
        let tokens = statements.first().map(|first| first.tokens.as_slice());
        Self::read(&mut Cursor::new(tokens.unwrap_or_default()))
    }

    /// The type in PostgreSQL.
    pub(super) fn postgres(self) -> String {
        match self {
            Self::Super => "jsonb".to_owned(),
            Self::Varbyte(_) => "bytea".to_owned(),
            Self::SmallInt
            | Self::Integer
            | Self::BigInt
            | Self::Decimal { .. }
            | Self::Real
            | Self::Double
            | Self::Boolean
            | Self::Char(_)
            | Self::Varchar(_)
            | Self::Date
            | Self::Timestamp
            | Self::Timestamptz => self.to_string(),
        }
    }

    /// The constraint by which a column in PostgreSQL holds as many bytes as in Redshift, which counts no characters.
    pub(super) fn check(self, column: &str) -> Option<String> {
        let (name, bytes) = match self {
            Self::Char(bytes) => ("character", bytes),
            Self::Varchar(bytes) => ("character varying", bytes),
            Self::Varbyte(bytes) => ("binary varying", bytes),
            _ => return None,
        };
        Some(format!(
            "CHECK (CASE WHEN octet_length({}) > {bytes} THEN {SCHEMA}.too_long({}) END)",
            quoted(column),
            literal(&format!("{name}({bytes})")),
        ))
    }

    /// Whether a column of the type may be compressed so, by AWS's table of encodings.
    pub(super) fn takes(self, encoding: &str) -> bool {
        let integer = matches!(self, Self::SmallInt | Self::Integer | Self::BigInt);
        let decimal = matches!(self, Self::Decimal { .. });
        let time = matches!(self, Self::Date | Self::Timestamp | Self::Timestamptz);
        let text = matches!(self, Self::Char(_) | Self::Varchar(_));
        let float = matches!(self, Self::Real | Self::Double);
        let open = matches!(self, Self::Super | Self::Varbyte(_));
        match encoding {
            "raw" | "zstd" => true,
            "az64" => integer || decimal || time,
            "bytedict" => integer || decimal || time || text || float,
            "delta" => integer || decimal || matches!(self, Self::Date | Self::Timestamp),
            "delta32k" => {
                matches!(
                    self,
                    Self::Integer | Self::BigInt | Self::Date | Self::Timestamp
                ) || decimal
            }
            "lzo" => integer || decimal || time || text || open,
            "mostly8" => integer || decimal,
            "mostly16" => matches!(self, Self::Integer | Self::BigInt) || decimal,
            "mostly32" => self == Self::BigInt || decimal,
            "runlength" => !open,
            "text255" | "text32k" => matches!(self, Self::Varchar(_)),
            _ => false,
        }
    }

    /// The encoding of a column for which none is given.
    pub(super) fn usual_encoding(self, sort_key: bool) -> &'static str {
        match self {
            _ if sort_key => "raw",
            Self::Boolean | Self::Real | Self::Double => "raw",
            Self::Char(_) | Self::Varchar(_) | Self::Super | Self::Varbyte(_) => "lzo",
            _ => "az64",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SmallInt => f.write_str("smallint"),
            Self::Integer => f.write_str("integer"),
            Self::BigInt => f.write_str("bigint"),
            Self::Decimal { precision, scale } => write!(f, "numeric({precision},{scale})"),
            Self::Real => f.write_str("real"),
            Self::Double => f.write_str("double precision"),
            Self::Boolean => f.write_str("boolean"),
            Self::Char(bytes) => write!(f, "char({bytes})"),
            Self::Varchar(bytes) => write!(f, "varchar({bytes})"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Timestamptz => f.write_str("timestamptz"),
            Self::Super => f.write_str("super"),
            Self::Varbyte(bytes) => write!(f, "varbyte({bytes})"),
        }
    }
}

/// Whether Redshift has an encoding of that name.
pub(super) fn is_encoding(name: &str) -> bool {
    [
        "raw",
        "zstd",
        "az64",
        "bytedict",
        "delta",
        "delta32k",
        "lzo",
        "mostly8",
        "mostly16",
        "mostly32",
        "runlength",
        "text255",
        "text32k",
    ]
    .contains(&name)
}

fn decimal(cursor: &mut Cursor<'_>) -> Result<Type, Refusal> {
    let (mut precision, mut scale) = (18, 0);
    if cursor.accept_symbol('(') {
        precision = cursor.number()?;
        if cursor.accept_symbol(',') {
            scale = cursor.number()?;
        }
        cursor.expect_symbol(')')?;
    }
    if !(1..=38).contains(&precision) {
        return Err(Refusal::new(
            "22023",
            format!("NUMERIC precision {precision} must be between 1 and 38"),
        ));
    }
    if scale > precision.min(37) {
        return Err(Refusal::new(
            "22023",
            format!(
                "NUMERIC scale {scale} must be between 0 and {}",
                precision.min(37)
            ),
        ));
    }
    Ok(Type::Decimal { precision, scale })
}

fn length(cursor: &mut Cursor<'_>, usual: u32, most: u32, name: &str) -> Result<u32, Refusal> {
    if !cursor.accept_symbol('(') {
        return Ok(usual);
    }
    let length = if name != "char" && cursor.accept(&["max"]) {
        most
    } else {
        cursor.number()?
    };
    cursor.expect_symbol(')')?;
    if length == 0 {
        return Err(Refusal::new(
            "22023",
            format!("length for type {name} must be at least 1"),
        ));
    }
    if length > most {
        return Err(Refusal::new(
            "22023",
            format!("length for type {name} cannot exceed {most}"),
        ));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::Type;

    #[test]
    fn types_are_read_as_they_are_written() {
        for text in [
            "smallint",
            "integer",
            "bigint",
            "numeric(38,10)",
            "real",
            "double precision",
            "boolean",
            "char(24)",
            "varchar(65535)",
            "date",
            "timestamp",
            "timestamptz",
            "super",
            "varbyte(1048576)",
        ] {
            assert_eq!(Type::parse(text).unwrap().to_string(), text);
        }
        for (text, expected) in [
            ("TEXT", "varchar(256)"),
            ("character varying(max)", "varchar(65535)"),
            ("varbyte", "varbyte(64000)"),
            ("timestamp with time zone", "timestamptz"),
            ("decimal", "numeric(18,0)"),
        ] {
            assert_eq!(Type::parse(text).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn other_types_and_lengths_are_refused() {
        for (text, message) in [
            ("jsonb", "Column has unsupported type \"jsonb\"."),
            ("int[]", "Column has unsupported type \"int[]\"."),
            (
                "varchar(65536)",
                "length for type varchar cannot exceed 65535",
            ),
            ("char(4097)", "length for type char cannot exceed 4096"),
            (
                "decimal(39)",
                "NUMERIC precision 39 must be between 1 and 38",
            ),
            (
                "decimal(38,38)",
                "NUMERIC scale 38 must be between 0 and 37",
            ),
        ] {
            assert_eq!(Type::parse(text).unwrap_err().message, message);
        }
    }
}
