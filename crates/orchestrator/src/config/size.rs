//! Sizes.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::values::expand;

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// Reads it: `64KB`, `32MB`, `10GB`, of which each unit is 1024 of the one before; or a number of bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text}` is no size: write it as 64KB, 32MB or 10GB");
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let shift = match unit.trim_start() {
            "" | "B" => 0,
            "KB" | "KiB" => 10,
            "MB" | "MiB" => 20,
            "GB" | "GiB" => 30,
            _ => return Err(malformed()),
        };
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(malformed)?;
        match bytes {
            0 => Err(malformed()),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, such as 32MB")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Size::parse(&bytes.to_string()).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                Size::parse(&bytes.to_string()).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                expand(text)
                    .and_then(|text| Size::parse(&text))
                    .map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": r"^([0-9]+ *([KMG]i?)?B?|\$\{.*\})$" },
            ],
            "description": "a size, such as 64KB, 32MB or 10GB, or a number of bytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_have_units() {
        let is = |text: &str, bytes: u64| assert_eq!(Size::parse(text), Ok(Size(bytes)));
        is("1", 1);
        is("64KB", 64 << 10);
        is("32 MiB", 32 << 20);
        is("10GB", 10 << 30);
        for text in [
            "",
            "0",
            "0MB",
            "MB",
            "1.5MB",
            "-1",
            "1TB",
            "99999999999999GB",
        ] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }
}
