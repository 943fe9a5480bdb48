//! Names: Redshift's are folded to lower case and have up to 127 bytes, PostgreSQL's up to 63.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use xxhash_rust::xxh3::xxh3_64;

/// Longer names are cut to so many bytes, as AWS documents it.
const REDSHIFT_BYTES: usize = 127;

/// PostgreSQL's `NAMEDATALEN - 1`.
const POSTGRES_BYTES: usize = 63;

/// The name that Redshift gives something: ASCII letters in lower case, also where they were quoted
/// (`enable_case_sensitive_identifier` is off), and cut at a character when it is too long.
pub(super) fn folded(name: &str) -> String {
    let mut name = name.to_ascii_lowercase();
    name.truncate(boundary(&name, REDSHIFT_BYTES));
    name
}

/// The name under which PostgreSQL keeps it: itself, or its beginning and a hash of all of it.
pub(super) fn stored(name: &str) -> String {
    if name.len() <= POSTGRES_BYTES {
        return name.to_owned();
    }
    let hash = format!("~{:016x}", xxh3_64(name.as_bytes()));
    let kept = boundary(name, POSTGRES_BYTES - hash.len());
    format!("{}{hash}", name.get(..kept).unwrap_or_default())
}

/// The name in double quotation marks.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The text as a literal of PostgreSQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn boundary(name: &str, bytes: usize) -> usize {
    if name.len() <= bytes {
        return name.len();
    }
    (0..=bytes)
        .rev()
        .find(|&at| name.is_char_boundary(at))
        .unwrap_or(0)
}

/// The names that were too long for PostgreSQL, by those that they are kept under.
#[derive(Debug, Default)]
pub(super) struct LongNames(Mutex<BTreeMap<String, String>>);

impl LongNames {
    /// Notes names; gives back those that were not known.
    pub(super) fn note(&self, names: &[(String, String)]) -> Vec<(String, String)> {
        let mut known = self.known();
        let new = names.iter().filter(|(stored, name)| {
            known.insert(stored.clone(), name.clone()).as_ref() != Some(name)
        });
        new.cloned().collect()
    }

    /// Redshift's name of what is kept under `stored`.
    pub(super) fn name_of(&self, stored: &str) -> Option<String> {
        self.known().get(stored).cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{folded, stored};

    #[test]
    fn names_are_folded_and_cut_at_characters() {
        assert_eq!(folded("CamelÄ"), "camelÄ");
        assert_eq!(folded(&"ä".repeat(64)), "ä".repeat(63));
        assert_eq!(stored("short"), "short");
        let (one, other) = ("x".repeat(64), format!("{}y", "x".repeat(63)));
        assert_eq!(stored(&one).len(), 63);
        assert_ne!(stored(&one), stored(&other));
        assert!(stored(&"ä".repeat(63)).len() <= 63);
    }
}
