//! Columns and constraints as `CREATE TABLE` and `ALTER TABLE` describe them.

use super::{
    cursor::{Cursor, TableName},
    lexer::Token,
    names::{literal, quoted},
    query::{check_expression, translated},
    refusal::Refusal,
    types::{SCHEMA, Type, is_encoding},
};

/// Words behind which an attribute of a column begins.
const ATTRIBUTES: &[&str] = &[
    "encode",
    "distkey",
    "sortkey",
    "not",
    "null",
    "primary",
    "unique",
    "references",
    "collate",
];

/// A column as `CREATE TABLE` and `ADD COLUMN` describe it.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) encoding: Option<String>,
    pub(super) default: Option<Vec<Token>>,
    pub(super) not_null: bool,
    pub(super) distkey: bool,
    pub(super) sortkey: bool,
    /// `PRIMARY KEY` or `UNIQUE` beside the column.
    pub(super) key: Option<&'static str>,
}

/// A constraint that is not enforced.
#[derive(Debug)]
pub(super) struct Constraint {
    pub(super) name: Option<String>,
    pub(super) kind: &'static str,
    pub(super) columns: Vec<String>,
}

impl Column {
    /// Reads the name, the type and the attributes of a column.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        let name = cursor.name()?;
        let kind = Type::read(cursor)?;
        let mut column = Self {
            name,
            kind,
            encoding: None,
            default: None,
            not_null: false,
            distkey: false,
            sortkey: false,
            key: None,
        };
        loop {
            if cursor.accept(&["encode"]) {
                let encoding = cursor.word()?;
                fits(&encoding, kind)?;
                column.encoding = Some(encoding);
            } else if cursor.accept(&["default"]) {
                let default = cursor.expression(ATTRIBUTES);
                check_expression(default)?;
                column.default = Some(default.to_vec());
            } else if cursor.accept(&["not", "null"]) {
                column.not_null = true;
            } else if cursor.accept(&["null"]) {
                column.not_null = false;
            } else if cursor.accept(&["distkey"]) {
                column.distkey = true;
            } else if cursor.accept(&["sortkey"]) {
                column.sortkey = true;
            } else if cursor.accept(&["primary", "key"]) {
                column.key = Some("PRIMARY KEY");
            } else if cursor.accept(&["unique"]) {
                column.key = Some("UNIQUE");
            } else if cursor.accept(&["identity"]) || cursor.accept(&["generated"]) {
                return Err(Refusal::beyond("an IDENTITY column"));
            } else if cursor.accept(&["references"]) {
                return Err(Refusal::beyond("a foreign key"));
            } else if cursor.accept(&["collate"]) {
                return Err(Refusal::beyond("COLLATE"));
            } else if cursor.accept(&["check"]) {
                return Err(Refusal::unsupported("CHECK constraints are not supported"));
            } else if let Some(token) = cursor.peek().filter(|token| !ends(token)) {
                return Err(Refusal::near(&token.text));
            } else {
                return Ok(column);
            }
        }
    }

    /// The column in PostgreSQL.
    pub(super) fn postgres(&self) -> String {
        let mut text = format!("{} {}", quoted(&self.name), self.kind.postgres());
        if let Some(default) = &self.default {
            text.push_str(" DEFAULT ");
            text.push_str(&translated(default));
        }
        if self.not_null {
            text.push_str(" NOT NULL");
        }
        if let Some(check) = self.kind.check(&self.name) {
            text.push(' ');
            text.push_str(&check);
        }
        text
    }

    /// The row of the catalog.
    pub(super) fn record(&self, distkey: bool, sortkey: usize) -> String {
        let usual = self.kind.usual_encoding(sortkey > 0);
        format!(
            "({}, {}, {}, {distkey}, {sortkey})",
            literal(&self.name),
            literal(&self.kind.to_string()),
            literal(self.encoding.as_deref().unwrap_or(usual)),
        )
    }

    /// Whether it has attributes that only a new table may give its columns.
    pub(super) fn shapes_the_table(&self) -> bool {
        self.distkey || self.sortkey || self.key.is_some()
    }
}

impl Constraint {
    /// Reads a constraint of a table, if there is one.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Option<Self>, Refusal> {
        let name = if cursor.accept(&["constraint"]) {
            Some(cursor.name()?)
        } else {
            None
        };
        let kind = if cursor.accept(&["primary", "key"]) {
            "PRIMARY KEY"
        } else if cursor.accept(&["unique"]) {
            "UNIQUE"
        } else if cursor.accept(&["foreign", "key"]) {
            return Err(Refusal::beyond("a foreign key"));
        } else if cursor.accept(&["check"]) {
            return Err(Refusal::unsupported("CHECK constraints are not supported"));
        } else if name.is_some() {
            return Err(cursor.unexpected());
        } else {
            return Ok(None);
        };
        let columns = cursor.names()?;
        Ok(Some(Self {
            name,
            kind,
            columns,
        }))
    }

    /// What the catalog is told; `relation` is an expression for the table.
    pub(super) fn record(&self, table: &TableName, relation: &str) -> String {
        let usual = match self.kind {
            "PRIMARY KEY" => format!("{}_pkey", table.name),
            _ => format!("{}_{}_key", table.name, self.columns.join("_")),
        };
        let columns: Vec<_> = self.columns.iter().map(|name| literal(name)).collect();
        format!(
            "INSERT INTO {SCHEMA}.constraints VALUES ({relation}, {}, '{}', ARRAY[{}])",
            literal(self.name.as_ref().unwrap_or(&usual)),
            self.kind,
            columns.join(", "),
        )
    }
}

/// Tells the catalog of columns, by [`Column::record`]s.
pub(super) fn record_columns(relation: &str, columns: &[String]) -> String {
    format!(
        "INSERT INTO {SCHEMA}.columns SELECT attrelid, attnum, v.type, v.encoding, v.distkey, v.sortkey \
         FROM (VALUES {}) v (name, type, encoding, distkey, sortkey) \
         JOIN pg_attribute ON attrelid = {relation} AND attname = v.name",
        columns.join(", "),
    )
}

/// Refuses an encoding that does not exist or does not fit the type.
pub(super) fn fits(encoding: &str, kind: Type) -> Result<(), Refusal> {
    if !is_encoding(encoding) {
        return Err(Refusal::new(
            "22023",
            format!("invalid encoding type \"{encoding}\""),
        ));
    }
    if !kind.takes(encoding) {
        return Err(Refusal::new(
            "42P16",
            format!("invalid encoding type \"{encoding}\" for column of type {kind}"),
        ));
    }
    Ok(())
}

fn ends(token: &Token) -> bool {
    token.is_symbol(',') || token.is_symbol(')')
}
