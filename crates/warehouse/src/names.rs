//! Names of schemas, tables and columns as a warehouse takes them.

use std::collections::HashSet;
use std::fmt;

use tributary_model::Namespace;
use xxhash_rust::xxh3::xxh3_64;

/// How long a name's hash is when it stands in for what had to be cut off: `_` and eight digits.
const HASH_BYTES: usize = 9;

/// What a warehouse allows in names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameRules {
    /// How many bytes of UTF-8 a name has at most.
    pub(crate) max_bytes: usize,
    /// Names are in lower case, also where they are quoted, as far as they are ASCII.
    pub(crate) folds_case: bool,
    /// Names that columns cannot have, in lower case: the system's own.
    pub(crate) system_columns: &'static [&'static str],
}

impl NameRules {
    /// The name for what is called `name`: itself where it is not too long, else its beginning and a
    /// hash of all of it, so that it depends on the name alone.
    pub(crate) fn shortened(&self, name: &str) -> String {
        let name = if name.is_empty() { "_" } else { name };
        if name.len() <= self.max_bytes {
            return self.folded(name);
        }
        self.hashed(name)
    }

    /// The beginning of a name and a hash of all of it.
    fn hashed(&self, name: &str) -> String {
        let mut end = name.len().min(self.max_bytes - HASH_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let hash = xxh3_64(name.as_bytes()) >> 32;
        format!("{}_{hash:08x}", self.folded(&name[..end]))
    }

    fn folded(&self, name: &str) -> String {
        if self.folds_case {
            name.to_ascii_lowercase()
        } else {
            name.to_owned()
        }
    }

    /// The name of a collection's table.
    pub(crate) fn table(&self, collection: &Namespace) -> TableName {
        TableName {
            schema: self.shortened(&collection.database),
            name: self.shortened(&collection.collection),
        }
    }

    /// The name of a collection's table where another collection's has that name.
    pub(crate) fn other_table(&self, collection: &Namespace) -> TableName {
        TableName {
            schema: self.shortened(&collection.database),
            name: self.hashed(&collection.collection),
        }
    }

    /// The name of a new column called `name` in the table, beside those that have names already.
    pub(crate) fn column(&self, name: &str, taken: &HashSet<String>) -> String {
        let is_free = |candidate: &str| {
            !taken.contains(&self.compared(candidate))
                && !self
                    .system_columns
                    .contains(&candidate.to_lowercase().as_str())
        };
        let wanted = self.shortened(name);
        if is_free(&wanted) {
            return wanted;
        }
        let numbered = (2..).map(|number| self.shortened(&format!("{name}_{number}")));
        // One of them is free: there are more numbers than columns.
        numbered
            .into_iter()
            .find(|candidate| is_free(candidate))
            .unwrap_or(wanted)
    }

    /// A name as it is compared with others.
    pub(crate) fn compared(&self, name: &str) -> String {
        if self.folds_case {
            name.to_lowercase()
        } else {
            name.to_owned()
        }
    }
}

/// A table's name in its database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl fmt::Display for TableName {
    /// As it stands in statements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// A name as it stands in a statement.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as it stands in a statement.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') {
        // So that it says the same whatever `standard_conforming_strings` is.
        format!("E'{}'", escaped.replace('\\', "\\\\"))
    } else {
        format!("'{escaped}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: NameRules = NameRules {
        max_bytes: 20,
        folds_case: true,
        system_columns: &["ctid"],
    };

    #[test]
    fn long_names_are_cut_and_told_apart() {
        assert_eq!(RULES.shortened("short"), "short");
        assert_eq!(RULES.shortened(""), "_");
        let (a, b) = (
            RULES.shortened("a long name that ends in a"),
            RULES.shortened("a long name that ends in b"),
        );
        assert_eq!((a.len(), b.len()), (20, 20));
        assert!(a.starts_with("a long name_") && b.starts_with("a long name_"));
        assert_ne!(a, b);
        // No character is cut in two.
        let umlauts = RULES.shortened("äöüäöüäöüäöüäöü");
        assert!(umlauts.len() <= 20 && umlauts.starts_with("äöüäö_"));
    }

    #[test]
    fn columns_have_names_of_their_own() {
        let mut taken = HashSet::new();
        let mut names = Vec::new();
        for name in ["a", "A", "a_2", "ctid", "", "_"] {
            let column = RULES.column(name, &taken);
            taken.insert(RULES.compared(&column));
            names.push(column);
        }
        assert_eq!(names, ["a", "a_2", "a_2_2", "ctid_2", "_", "__2"]);
    }

    #[test]
    fn tables_whose_names_differ_in_case_alone_are_told_apart() {
        let (orders, upper) = (
            Namespace::new("shop", "orders"),
            Namespace::new("shop", "Orders"),
        );
        assert_eq!(RULES.table(&orders), RULES.table(&upper));
        let other = RULES.other_table(&upper);
        assert!(
            other.name.starts_with("orders_") && other.name.len() == 15,
            "{other}"
        );
        assert_ne!(other, RULES.other_table(&orders));
    }

    #[test]
    fn quotes_and_backslashes_say_themselves() {
        assert_eq!(quoted(r#"a "b" c"#), r#""a ""b"" c""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b'c"), r"E'a\\b''c'");
    }
}
