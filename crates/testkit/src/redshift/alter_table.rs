//! `ALTER TABLE`, which takes one action a statement.

use super::{
    columns::{Column, Constraint, fits},
    cursor::{Cursor, TableName},
    refusal::Refusal,
    types::Type,
};

/// What is done to a table.
#[derive(Debug)]
pub(super) enum Alteration {
    AddColumn(Column),
    DropColumn {
        name: String,
        cascade: bool,
    },
    Rename(String),
    RenameColumn {
        from: String,
        to: String,
    },
    Owner(String),
    /// The new style, and the column for `KEY`.
    Distribution(&'static str, Option<String>),
    /// The new style and its columns.
    Sorting(&'static str, Vec<String>),
    EncodeAuto,
    Encode(Vec<(String, String)>),
    Widen {
        column: String,
        kind: Type,
    },
    AddConstraint(Constraint),
    DropConstraint(String),
}

/// An `ALTER TABLE`.
#[derive(Debug)]
pub(super) struct AlterTable {
    pub(super) table: TableName,
    pub(super) alteration: Alteration,
}

impl AlterTable {
    /// Reads what follows `ALTER TABLE`.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        let table = cursor.table()?;
        let alteration = Alteration::read(cursor)?;
        if cursor.accept_symbol(',') {
            return Err(Refusal::unsupported(
                "ALTER TABLE takes one action only: alter the table once for each",
            ));
        }
        cursor.expect_end()?;
        Ok(Self { table, alteration })
    }
}

impl Alteration {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        if cursor.accept(&["add"]) {
            if !cursor.accept(&["column"])
                && let Some(constraint) = Constraint::read(cursor)?
            {
                return Ok(Self::AddConstraint(constraint));
            }
            return Self::add_column(cursor);
        }
        if cursor.accept(&["drop"]) {
            if cursor.accept(&["constraint"]) {
                let name = cursor.name()?;
                behaviour(cursor);
                return Ok(Self::DropConstraint(name));
            }
            cursor.accept(&["column"]);
            let name = cursor.name()?;
            let cascade = behaviour(cursor);
            return Ok(Self::DropColumn { name, cascade });
        }
        if cursor.accept(&["rename", "to"]) {
            return Ok(Self::Rename(cursor.name()?));
        }
        if cursor.accept(&["rename"]) {
            cursor.accept(&["column"]);
            let from = cursor.name()?;
            cursor.expect(&["to"])?;
            let to = cursor.name()?;
            return Ok(Self::RenameColumn { from, to });
        }
        if cursor.accept(&["owner", "to"]) {
            return Ok(Self::Owner(cursor.name()?));
        }
        if cursor.accept(&["append"]) {
            return Err(Refusal::beyond("ALTER TABLE APPEND"));
        }
        if !cursor.accept(&["alter"]) {
            return Err(cursor.unexpected());
        }
        Self::alter(cursor)
    }

    fn add_column(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        let column = Column::read(cursor)?;
        if column.shapes_the_table() {
            return Err(Refusal::unsupported(
                "ALTER TABLE ADD COLUMN does not support DISTKEY, SORTKEY, PRIMARY KEY and UNIQUE",
            ));
        }
        if column.not_null && column.default.is_none() {
            return Err(Refusal::unsupported(
                "ALTER TABLE ADD COLUMN defined as NOT NULL must have a non-null default expression",
            ));
        }
        Ok(Self::AddColumn(column))
    }

    fn alter(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        if cursor.accept(&["diststyle"]) {
            let style = cursor.word()?;
            return match style.as_str() {
                "auto" => Ok(Self::Distribution("AUTO", None)),
                "even" => Ok(Self::Distribution("EVEN", None)),
                "all" => Ok(Self::Distribution("ALL", None)),
                "key" => {
                    cursor.expect(&["distkey"])?;
                    Ok(Self::Distribution("KEY", Some(cursor.name()?)))
                }
                _ => Err(Refusal::near(&style)),
            };
        }
        if cursor.accept(&["distkey"]) {
            return Ok(Self::Distribution("KEY", Some(cursor.name()?)));
        }
        if cursor.accept(&["encode", "auto"]) {
            return Ok(Self::EncodeAuto);
        }
        if cursor.accept(&["sortkey", "auto"]) {
            return Ok(Self::Sorting("AUTO", Vec::new()));
        }
        if cursor.accept(&["sortkey", "none"]) {
            return Ok(Self::Sorting("NONE", Vec::new()));
        }
        if cursor.accept(&["compound", "sortkey"]) || cursor.accept(&["sortkey"]) {
            return Ok(Self::Sorting("COMPOUND", cursor.names()?));
        }
        cursor.expect(&["column"])?;
        let column = cursor.name()?;
        if cursor.accept(&["type"]) {
            return match Type::read(cursor)? {
                kind @ Type::Varchar(_) => Ok(Self::Widen { column, kind }),
                kind => Err(Refusal::unsupported(format!(
                    "target data type \"{kind}\" is not supported: only the size of a VARCHAR column can be altered"
                ))),
            };
        }
        if !cursor.accept(&["encode"]) {
            return Err(Refusal::unsupported(
                "ALTER COLUMN supports only TYPE varchar(n) and ENCODE",
            ));
        }
        let mut encodings = vec![(column, cursor.word()?)];
        while cursor.accept_symbol(',') {
            cursor.expect(&["alter", "column"])?;
            let column = cursor.name()?;
            cursor.expect(&["encode"])?;
            encodings.push((column, cursor.word()?));
        }
        Ok(Self::Encode(encodings))
    }
}

/// Refuses encodings that do not fit; `kind_of` knows the table's columns.
pub(super) fn check_encodings(
    encodings: &[(String, String)],
    kind_of: impl Fn(&str) -> Result<Type, Refusal>,
) -> Result<(), Refusal> {
    encodings
        .iter()
        .try_for_each(|(column, encoding)| fits(encoding, kind_of(column)?))
}

fn behaviour(cursor: &mut Cursor<'_>) -> bool {
    let cascade = cursor.accept(&["cascade"]);
    if !cascade {
        cursor.accept(&["restrict"]);
    }
    cascade
}
