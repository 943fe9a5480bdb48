//! The values that the file holds: texts with variables in them, secrets, names, times.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Answers the value of an environment variable.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

thread_local! {
    /// What stands for the environment while a file is read. Deserialising takes no arguments, and
    /// only there is the place known at which a variable is missing.
    static VARIABLES: RefCell<Vec<(String, Option<String>)>> = const { RefCell::new(Vec::new()) };
    /// The values of those of them that secrets were read from.
    static SECRETS: RefCell<BTreeSet<Secret>> = const { RefCell::new(BTreeSet::new()) };
}

/// Runs `read` with the variables that `text` names taken from `variables`. Answers with the values of those
/// that are secrets, or a part of one.
pub(super) fn with_variables<T>(
    text: &str,
    variables: Variables<'_>,
    read: impl FnOnce() -> T,
) -> (T, BTreeSet<Secret>) {
    let named = names_in(text)
        .map(|name| (name.to_owned(), variables(name)))
        .collect();
    let before = VARIABLES.replace(named);
    let result = read();
    VARIABLES.set(before);
    (result, SECRETS.take())
}

/// Notes that the variables in a text are secrets.
fn note_secrets(text: &str) {
    let values = names_in(text).filter_map(variable);
    SECRETS.with_borrow_mut(|secrets| secrets.extend(values.map(Secret)));
}

/// All that looks like the name of a variable.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| {
        let end = rest.find(['}', ':'])?;
        is_variable(&rest[..end]).then_some(&rest[..end])
    })
}

fn is_variable(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn variable(name: &str) -> Option<String> {
    VARIABLES.with_borrow(|variables| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.clone())
    })
}

/// Puts variables into a text: `${NAME}`, `${NAME:-what stands for it if it is not set}`, and `$${`
/// for `${` itself.
pub(super) fn expand(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(kept) = before.strip_suffix('$') {
            out.push_str(kept);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = from.find('}') else {
            return Err("`${` has no `}`; write `$${` for the characters themselves".to_owned());
        };
        let inner = &from[2..end];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_variable(name) {
            return Err(format!(
                "`${{{inner}}}` names no environment variable; write `$${{` for the characters themselves"
            ));
        }
        let value = variable(name).filter(|value| !value.is_empty() || default.is_none());
        match (value, default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!("the environment variable {name} is not set"));
            }
        }
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads a text, and puts the variables into it. The text itself is told first.
fn expanded<'de, D: Deserializer<'de>>(
    deserializer: D,
    hears: fn(&str),
) -> Result<String, D::Error> {
    struct Expanded(fn(&str));

    impl Visitor<'_> for Expanded {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            (self.0)(text);
            expand(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Expanded(hears))
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident, $hears:expr, $schema:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                expanded(deserializer, $hears).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $schema })
            }
        }
    )+};
}

texts! {
    /// A text in which `${NAME}` stands for an environment variable.
    Text, |_| {}, "`${NAME}` stands for an environment variable";
    /// A text that nobody is told: a password, a token, an address with one in it.
    Secret, note_secrets, "a secret: take it from an environment variable, `${NAME}`";
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The name of something in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Longer names are of no use in a list.
const LONGEST_NAME: usize = 100;

impl Name {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
            return Err(de::Error::custom(format!(
                "`{name}` is no name: it has letters, digits, `-`, `_` and `.`, at most {LONGEST_NAME}"
            )));
        }
        Ok(Self(name))
    }
}

impl JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,100}$" })
    }
}

/// A time such as `500ms`, `30s`, `5m`, `2h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let number: f64 = number
            .parse()
            .map_err(|_| format!("`{text}` is no time: write it as 500ms, 30s, 5m, 2h or 7d"))?;
        let seconds = match unit {
            "ms" => number / 1000.0,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 24.0 * 3600.0,
            "" => return Err(format!("`{text}` has no unit: use ms, s, m, h or d")),
            _ => return Err(format!("unknown unit `{unit}`: use ms, s, m, h or d")),
        };
        Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&expanded(deserializer, |_| {})?).map_err(de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^([0-9.]+(ms|s|m|h|d)|\$\{.*\})$",
            "description": "a time, such as 500ms, 30s, 5m, 2h or 7d",
        })
    }
}

/// How much memory: `256MB`, `1GB`, or a number of megabytes, each of 2^20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    megabytes: u32,
}

/// Less does not hold the JavaScript that is always there.
const LEAST_MEMORY: u32 = 16;
/// More is a mistake.
const MOST_MEMORY: u32 = 1 << 16;

impl Memory {
    /// It in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(u64::from(self.megabytes) << 20).unwrap_or(usize::MAX)
    }

    fn of_megabytes(megabytes: u64) -> Result<Self, String> {
        let range = LEAST_MEMORY..=MOST_MEMORY;
        u32::try_from(megabytes)
            .ok()
            .filter(|megabytes| range.contains(megabytes))
            .map(|megabytes| Self { megabytes })
            .ok_or_else(|| {
                format!("memory is {LEAST_MEMORY}MB at least and {MOST_MEMORY}MB at most")
            })
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => text.split_at(at),
            None => (text, "MB"),
        };
        let factor = match unit.trim_start() {
            "MB" | "MiB" => 1,
            "GB" | "GiB" => 1024,
            _ => return Err(format!("`{text}` is no size: write it as 256MB or 1GB")),
        };
        let number: u64 = number
            .parse()
            .map_err(|_| format!("`{text}` is no size: write it as 256MB or 1GB"))?;
        Self::of_megabytes(number.saturating_mul(factor))
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;

        impl Visitor<'_> for Size {
            type Value = Memory;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, such as 256MB")
            }

            fn visit_u64<E: de::Error>(self, megabytes: u64) -> Result<Memory, E> {
                Memory::of_megabytes(megabytes).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, megabytes: i64) -> Result<Memory, E> {
                self.visit_u64(u64::try_from(megabytes).unwrap_or(0))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Memory, E> {
                expand(text)
                    .and_then(|text| Memory::parse(&text))
                    .map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Size)
    }
}

impl JsonSchema for Memory {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": LEAST_MEMORY, "maximum": MOST_MEMORY },
                { "type": "string", "pattern": r"^([0-9]+ *[MG]i?B|\$\{.*\})$" },
            ],
            "description": "a size, such as 256MB or 1GB, or a number of megabytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand_with(text: &str) -> Result<String, String> {
        let variables = |name: &str| match name {
            "HOST" => Some("db1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        with_variables(text, &variables, || expand(text)).0
    }

    #[test]
    fn variables_stand_for_their_values() {
        let is = |text: &str, expected: &str| assert_eq!(expand_with(text).unwrap(), expected);
        is("mongodb://${HOST}:1/", "mongodb://db1:1/");
        is("${NONE:-a}${HOST:-b}${EMPTY:-c}", "adb1c");
        is("${EMPTY}", "");
        is("$${HOST} costs $5", "${HOST} costs $5");
        is("no variable", "no variable");
        let fails = |text: &str, part: &str| {
            let error = expand_with(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        fails("${NONE}", "the environment variable NONE is not set");
        fails("${HOST", "has no `}`");
        fails("${a b}", "names no environment variable");
    }

    #[test]
    fn periods_have_units() {
        let is = |text: &str, ms: u64| {
            assert_eq!(Period::parse(text), Ok(Period(Duration::from_millis(ms))));
        };
        is("500ms", 500);
        is("1.5s", 1500);
        is("7d", 7 * 24 * 3_600_000);
        assert!(Period::parse("3").is_err());
        assert!(Period::parse("1 day").is_err());
        assert!(Period::parse("s").is_err());
        assert!(Period::parse("999999999999999999999d").is_err());
    }

    #[test]
    fn memory_has_units_or_is_in_megabytes() {
        let is = |text: &str, bytes: usize| {
            assert_eq!(Memory::parse(text).unwrap().bytes(), bytes, "{text}");
        };
        is("256MB", 256 << 20);
        is("256 MiB", 256 << 20);
        is("2GB", 2 << 30);
        is("64", 64 << 20);
        for text in [
            "",
            "MB",
            "1kB",
            "1.5GB",
            "8MB",
            "99999999999999999999GB",
            "-1",
        ] {
            Memory::parse(text).unwrap_err();
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "***");
    }
}
