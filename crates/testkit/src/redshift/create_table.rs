//! `CREATE TABLE`: what it may say, and how PostgreSQL and the stand-in's catalog are told.

use super::{
    columns::{Column, Constraint, record_columns},
    cursor::{Cursor, TableName},
    names::{literal, quoted},
    refusal::Refusal,
    types::{SCHEMA, Type},
};

/// As AWS documents it.
const MOST_COLUMNS: usize = 1_600;
const MOST_SORT_COLUMNS: usize = 400;
const MOST_INTERLEAVED_COLUMNS: usize = 8;

/// A table as a statement describes it.
#[derive(Debug)]
pub(super) struct CreateTable {
    pub(super) temporary: bool,
    pub(super) if_not_exists: bool,
    pub(super) table: TableName,
    columns: Vec<Column>,
    constraints: Vec<Constraint>,
    distribution: Distribution,
    sorting: Sorting,
}

#[derive(Debug, PartialEq, Eq)]
enum Distribution {
    Auto,
    Even,
    All,
    Key(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Sorting {
    None,
    Auto,
    Compound(Vec<String>),
    Interleaved(Vec<String>),
}

impl CreateTable {
    /// Reads what follows `CREATE [TEMP] TABLE`.
    pub(super) fn read(cursor: &mut Cursor<'_>, temporary: bool) -> Result<Self, Refusal> {
        let if_not_exists = cursor.accept(&["if", "not", "exists"]);
        let table = cursor.table()?;
        if temporary && table.schema.is_some() {
            return Err(Refusal::new(
                "42P16",
                "cannot create temporary relation in non-temporary schema",
            ));
        }
        if cursor.peek().is_some_and(|token| token.is("as")) {
            return Err(Refusal::beyond("CREATE TABLE AS"));
        }
        cursor.expect_symbol('(')?;
        let (mut columns, mut constraints) = (Vec::new(), Vec::new());
        loop {
            if cursor.peek().is_some_and(|token| token.is("like")) {
                return Err(Refusal::beyond("CREATE TABLE LIKE"));
            }
            match Constraint::read(cursor)? {
                Some(constraint) => constraints.push(constraint),
                None => columns.push(Column::read(cursor)?),
            }
            if !cursor.accept_symbol(',') {
                break;
            }
        }
        cursor.expect_symbol(')')?;
        let mut created = Self {
            temporary,
            if_not_exists,
            table,
            columns,
            constraints,
            distribution: Distribution::Auto,
            sorting: Sorting::None,
        };
        created.read_attributes(cursor)?;
        created.take_attributes_of_columns()?;
        created.check()?;
        Ok(created)
    }

    fn read_attributes(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
        let mut style = None;
        let mut key = None;
        let mut sorting = None;
        while !cursor.is_empty() {
            if cursor.accept(&["backup"]) {
                if !cursor.accept(&["yes"]) {
                    cursor.expect(&["no"])?;
                }
            } else if cursor.accept(&["diststyle"]) {
                let word = cursor.word()?;
                if style.replace(word).is_some() {
                    return Err(twice("DISTSTYLE"));
                }
            } else if cursor.accept(&["distkey"]) {
                let mut names = cursor.names()?;
                let only = names.pop().filter(|_| names.is_empty());
                let only = only.ok_or_else(|| Refusal::syntax("DISTKEY takes one column"))?;
                if key.replace(only).is_some() {
                    return Err(twice("DISTKEY"));
                }
            } else if cursor.accept(&["encode", "auto"]) {
                if self.columns.iter().any(|column| column.encoding.is_some()) {
                    return Err(Refusal::syntax(
                        "ENCODE AUTO cannot be specified together with the encoding of a column",
                    ));
                }
            } else if cursor.accept(&["on", "commit"]) {
                return Err(Refusal::unsupported("ON COMMIT is not supported"));
            } else {
                let found = if cursor.accept(&["sortkey", "auto"]) {
                    Sorting::Auto
                } else if cursor.accept(&["interleaved", "sortkey"]) {
                    Sorting::Interleaved(cursor.names()?)
                } else {
                    cursor.accept(&["compound"]);
                    cursor.expect(&["sortkey"])?;
                    Sorting::Compound(cursor.names()?)
                };
                if sorting.replace(found).is_some() {
                    return Err(twice("SORTKEY"));
                }
            }
        }
        self.distribution = match (style.as_deref(), key) {
            (None | Some("key"), Some(key)) => Distribution::Key(key),
            (Some("key"), None) => Distribution::Key(String::new()),
            (None | Some("auto"), None) => Distribution::Auto,
            (Some("even"), None) => Distribution::Even,
            (Some("all"), None) => Distribution::All,
            (Some("auto" | "even" | "all"), Some(_)) => {
                return Err(Refusal::new(
                    "42P16",
                    "cannot specify DISTKEY with a DISTSTYLE other than KEY",
                ));
            }
            (Some(other), _) => return Err(Refusal::near(other)),
        };
        self.sorting = sorting.unwrap_or(Sorting::None);
        Ok(())
    }

    /// Makes the attributes beside columns those of the table.
    fn take_attributes_of_columns(&mut self) -> Result<(), Refusal> {
        for column in &self.columns {
            if column.distkey {
                match &self.distribution {
                    Distribution::Auto => {}
                    Distribution::Key(key) if key.is_empty() => {}
                    Distribution::Key(_) => return Err(twice("DISTKEY")),
                    Distribution::Even | Distribution::All => {
                        return Err(Refusal::new(
                            "42P16",
                            "cannot specify DISTKEY with a DISTSTYLE other than KEY",
                        ));
                    }
                }
                self.distribution = Distribution::Key(column.name.clone());
            }
            if column.sortkey {
                if self.sorting != Sorting::None {
                    return Err(twice("SORTKEY"));
                }
                self.sorting = Sorting::Compound(vec![column.name.clone()]);
            }
            if let Some(kind) = column.key {
                self.constraints.push(Constraint {
                    name: None,
                    kind,
                    columns: vec![column.name.clone()],
                });
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Refusal> {
        if self.columns.len() > MOST_COLUMNS {
            return Err(Refusal::new(
                "54011",
                format!("tables can have at most {MOST_COLUMNS} columns"),
            ));
        }
        let primary = self
            .constraints
            .iter()
            .filter(|each| each.kind == "PRIMARY KEY");
        if primary.count() > 1 {
            return Err(Refusal::new(
                "42P16",
                format!(
                    "multiple primary keys for table \"{}\" are not allowed",
                    self.table.name
                ),
            ));
        }
        for constraint in &self.constraints {
            for name in &constraint.columns {
                let column = self.columns.iter_mut().find(|column| column.name == *name);
                let column = column.ok_or_else(|| missing(name, "in key"))?;
                column.not_null |= constraint.kind == "PRIMARY KEY";
            }
        }
        if let Distribution::Key(name) = &self.distribution {
            if name.is_empty() {
                return Err(Refusal::new("42P16", "DISTSTYLE KEY requires a DISTKEY"));
            }
            keyable(self.column(name, "named in DISTKEY")?, "distribution")?;
        }
        let sort_columns = self.sort_columns();
        let most = match self.sorting {
            Sorting::Interleaved(_) => MOST_INTERLEAVED_COLUMNS,
            Sorting::None | Sorting::Auto | Sorting::Compound(_) => MOST_SORT_COLUMNS,
        };
        if sort_columns.len() > most {
            return Err(Refusal::new(
                "54011",
                format!("cannot have more than {most} sort columns"),
            ));
        }
        for name in sort_columns {
            keyable(self.column(name, "named in SORTKEY")?, "sort")?;
        }
        Ok(())
    }

    fn column(&self, name: &str, wherefore: &str) -> Result<&Column, Refusal> {
        let mut columns = self.columns.iter();
        columns
            .find(|column| column.name == name)
            .ok_or_else(|| missing(name, wherefore))
    }

    fn sort_columns(&self) -> &[String] {
        match &self.sorting {
            Sorting::None | Sorting::Auto => &[],
            Sorting::Compound(names) | Sorting::Interleaved(names) => names,
        }
    }

    /// The table in PostgreSQL. Keys are not enforced, so there they are none.
    pub(super) fn postgres(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(Column::postgres).collect();
        format!(
            "CREATE {}TABLE {}{} ({})",
            if self.temporary { "TEMPORARY " } else { "" },
            if self.if_not_exists {
                "IF NOT EXISTS "
            } else {
                ""
            },
            self.table.sql(),
            columns.join(", "),
        )
    }

    /// The name under which the new table is found.
    pub(super) fn regclass(&self) -> String {
        if self.temporary {
            format!("pg_temp.{}", quoted(&self.table.name))
        } else {
            self.table.sql()
        }
    }

    /// What the catalog of the stand-in has to be told once the table is there.
    pub(super) fn records(&self) -> Vec<String> {
        let table = format!("{}::regclass", literal(&self.regclass()));
        let (style, key) = match &self.distribution {
            Distribution::Auto => ("AUTO", None),
            Distribution::Even => ("EVEN", None),
            Distribution::All => ("ALL", None),
            Distribution::Key(key) => ("KEY", Some(key)),
        };
        let sorting = match self.sorting {
            Sorting::None => "NONE",
            Sorting::Auto => "AUTO",
            Sorting::Compound(_) => "COMPOUND",
            Sorting::Interleaved(_) => "INTERLEAVED",
        };
        let sort_columns = self.sort_columns();
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| {
                let place = sort_columns.iter().position(|name| *name == column.name);
                let sortkey = place.map_or(0, |place| place + 1);
                column.record(key == Some(&column.name), sortkey)
            })
            .collect();
        let mut records: Vec<_> = ["tables", "columns", "constraints"]
            .iter()
            // PostgreSQL may give a new table the identifier of one that is gone.
            .map(|name| format!("DELETE FROM {SCHEMA}.{name} WHERE relation = {table}"))
            .collect();
        records.push(format!(
            "INSERT INTO {SCHEMA}.tables VALUES ({table}, '{style}', '{sorting}')"
        ));
        records.push(record_columns(&table, &columns));
        let constraints = self.constraints.iter();
        records.extend(constraints.map(|each| each.record(&self.table, &table)));
        records
    }
}

/// Refuses a column that cannot be a key of distribution or sorting.
fn keyable(column: &Column, key: &str) -> Result<(), Refusal> {
    match column.kind {
        Type::Super | Type::Varbyte(_) => Err(Refusal::unsupported(format!(
            "column \"{}\" of type {} cannot be a {key} key",
            column.name, column.kind
        ))),
        _ => Ok(()),
    }
}

fn missing(name: &str, wherefore: &str) -> Refusal {
    Refusal::new(
        "42703",
        format!("column \"{name}\" {wherefore} does not exist"),
    )
}

fn twice(attribute: &str) -> Refusal {
    Refusal::syntax(format!("{attribute} is specified more than once"))
}
