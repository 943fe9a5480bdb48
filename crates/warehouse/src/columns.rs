//! The columns of a table, and how they follow those of the lake.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tributary_model::TableSchema;
use tributary_model::schema::RESCUED_COLUMN;

use crate::dialect::{Dialect, SqlType, Way};
use crate::names::quoted;

/// The field that is the key.
pub(crate) const KEY: &str = "_id";

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column<T> {
    /// The field of the documents that it holds.
    pub(crate) field: String,
    /// Its name.
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) sql_type: T,
}

impl<T: SqlType> Column<T> {
    /// The column for what the others cannot hold.
    pub(crate) fn rescued() -> Self {
        Self {
            field: RESCUED_COLUMN.to_owned(),
            name: RESCUED_COLUMN.to_owned(),
            sql_type: T::rescued(),
        }
    }

    /// As it is declared.
    pub(crate) fn declared(&self) -> String {
        format!("{} {}", quoted(&self.name), self.sql_type.name())
    }
}

/// What is to be done to a table so that it holds rows of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan<T> {
    /// The columns that it has then.
    pub(crate) columns: Vec<Column<T>>,
    /// Those of them that are new.
    pub(crate) added: Vec<Column<T>>,
    /// Those of them whose values are cast to another type.
    pub(crate) cast: Vec<Column<T>>,
    /// Those of them that get a type to which their values cannot be cast: all rows are loaded anew.
    pub(crate) replaced: Vec<Column<T>>,
}

impl<T: SqlType> Plan<T> {
    /// Plans the way from the columns of a table to those for `schema`. None is ever dropped.
    pub(crate) fn new<D: Dialect<Type = T>>(existing: &[Column<T>], schema: &TableSchema) -> Self {
        let mut plan = Self {
            columns: existing.to_vec(),
            added: Vec::new(),
            cast: Vec::new(),
            replaced: Vec::new(),
        };
        let places: HashMap<&str, usize> = existing
            .iter()
            .enumerate()
            .map(|(place, column)| (column.field.as_str(), place))
            .collect();
        let mut taken: HashSet<String> = existing
            .iter()
            .map(|column| D::NAMES.compared(&column.name))
            .collect();
        taken.insert(D::NAMES.compared(RESCUED_COLUMN));
        for column in &schema.columns {
            let wanted = T::of(&column.column_type, column.field == KEY);
            if let Some(&place) = places.get(column.field.as_str()) {
                let own = &mut plan.columns[place];
                match own.sql_type.way_to(&wanted) {
                    Way::Stays => {}
                    Way::Casts(to) => {
                        own.sql_type = to;
                        plan.cast.push(own.clone());
                    }
                    Way::Replaced(to) => {
                        own.sql_type = to;
                        plan.replaced.push(own.clone());
                    }
                }
            } else if plan.columns.len() < D::MAX_COLUMNS {
                let name = D::NAMES.column(&column.field, &taken);
                taken.insert(D::NAMES.compared(&name));
                let new = Column {
                    field: column.field.clone(),
                    name,
                    sql_type: wanted,
                };
                plan.added.push(new.clone());
                plan.columns.push(new);
            }
        }
        plan
    }

    /// Takes over that columns are larger than was planned; `cast` are those whose values are to be
    /// moved for it.
    pub(crate) fn grow(&mut self, grown: &[Column<T>], cast: Vec<Column<T>>) {
        for new in grown {
            for list in [
                &mut self.columns,
                &mut self.added,
                &mut self.cast,
                &mut self.replaced,
            ] {
                for column in list.iter_mut().filter(|column| column.name == new.name) {
                    column.sql_type = new.sql_type.clone();
                }
            }
        }
        self.cast.extend(cast);
    }
}

/// The columns for the fields of `schema`, in their order; none for one that has no column.
pub(crate) fn columns_of<'a, T>(
    columns: &'a [Column<T>],
    schema: &TableSchema,
) -> Vec<Option<&'a Column<T>>> {
    let by_field: HashMap<&str, &Column<T>> = columns
        .iter()
        .map(|column| (column.field.as_str(), column))
        .collect();
    schema
        .columns
        .iter()
        .map(|column| by_field.get(column.field.as_str()).copied())
        .collect()
}

/// The key among the columns; none in a table that has no rows yet.
pub(crate) fn key_of<T>(columns: &[Column<T>]) -> Option<&Column<T>> {
    columns.iter().find(|column| column.field == KEY)
}

#[cfg(test)]
mod tests {
    use tributary_model::{Column as Field, ColumnType};

    use super::*;
    use crate::postgres::Postgres;
    use crate::postgres::types::PgType;

    fn plan(existing: &[Column<PgType>], schema: &TableSchema) -> Plan<PgType> {
        Plan::new::<Postgres>(existing, schema)
    }

    fn schema(columns: Vec<(&str, ColumnType)>) -> TableSchema {
        TableSchema {
            columns: columns
                .into_iter()
                .map(|(field, column_type)| Field::new(field, column_type))
                .collect(),
        }
    }

    fn told(columns: &[Column<PgType>]) -> Vec<String> {
        columns.iter().map(Column::declared).collect()
    }

    #[test]
    fn columns_are_added_cast_and_replaced_but_never_dropped() {
        let first = plan(
            &[],
            &schema(vec![
                ("_id", ColumnType::ObjectId),
                ("n", ColumnType::Int32),
                ("gone", ColumnType::Bool),
                ("ctid", ColumnType::Json),
            ]),
        );
        let columns = [
            r#""_id" text"#,
            r#""n" integer"#,
            r#""gone" boolean"#,
            r#""ctid_2" jsonb"#,
        ];
        assert_eq!(told(&first.columns), columns);
        assert_eq!(told(&first.added), columns);

        let second = plan(
            &first.columns,
            &schema(vec![
                ("new", ColumnType::String),
                ("_id", ColumnType::ObjectId),
                ("n", ColumnType::Double { decimal: None }),
                ("ctid", ColumnType::Json),
            ]),
        );
        assert_eq!(told(&second.added), [r#""new" text"#]);
        assert_eq!(told(&second.cast), [r#""n" double precision"#]);
        assert_eq!(second.replaced, []);
        assert_eq!(second.columns.len(), 5);

        let third = plan(&second.columns, &schema(vec![("n", ColumnType::Json)]));
        assert_eq!(told(&third.replaced), [r#""n" jsonb"#]);
    }

    #[test]
    fn keys_that_are_documents_are_text() {
        let document = ColumnType::Document(vec![Field::new("a", ColumnType::Int32)]);
        let plan = plan(
            &[],
            &schema(vec![("_id", document.clone()), ("d", document)]),
        );
        assert_eq!(told(&plan.columns), [r#""_id" text"#, r#""d" jsonb"#]);
    }

    #[test]
    fn fields_beyond_what_a_table_has_columns_for_get_none() {
        let names: Vec<String> = (0..2000).map(|n| format!("f{n}")).collect();
        let fields = names.iter().map(|name| (name.as_str(), ColumnType::Int32));
        let schema = schema(fields.collect());
        let plan = plan(&[], &schema);
        assert_eq!(plan.columns.len(), Postgres::MAX_COLUMNS);
        let columns = columns_of(&plan.columns, &schema);
        assert!(
            columns[Postgres::MAX_COLUMNS - 1].is_some()
                && columns[Postgres::MAX_COLUMNS].is_none()
        );
    }
}
