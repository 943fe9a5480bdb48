//! How tables are laid out where that is not left to the warehouse: keys, distribution and order.

use serde::{Deserialize, Serialize};
use tributary_model::{Error, ErrorKind, Namespace, Result};

/// Which rows of a table are together on one node of Redshift.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Distribution {
    /// Redshift decides.
    Auto,
    /// One row after the other goes to the next node.
    Even,
    /// All rows are on all nodes.
    All,
    /// Rows that have the same value of a field.
    Key(String),
    /// Rows by their `_id`, by which they are also replaced.
    #[default]
    Id,
}

/// How one table is laid out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableLayout {
    /// Which rows are together.
    pub distribution: Distribution,
    /// The fields by which rows are sorted on disk; none: by `_id`.
    pub sort_key: Option<Vec<String>>,
    /// The fields that are the primary key; none: `_id`.
    pub primary_key: Option<Vec<String>>,
}

/// How tables are laid out: what is said of one table goes before what is said of all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableLayouts {
    distributions: Vec<(Option<Namespace>, Distribution)>,
    sort_keys: Vec<(Option<Namespace>, Vec<String>)>,
    primary_keys: Vec<(Option<Namespace>, Vec<String>)>,
}

impl TableLayouts {
    /// Takes `[DATABASE.COLLECTION=]auto|even|all|FIELD`.
    ///
    /// # Errors
    /// It says nothing.
    pub fn distribute(&mut self, said: &str) -> Result<()> {
        let (table, value) = split(said)?;
        let distribution = match value {
            "auto" => Distribution::Auto,
            "even" => Distribution::Even,
            "all" => Distribution::All,
            "_id" => Distribution::Id,
            field => Distribution::Key(field.to_owned()),
        };
        self.distributions.push((table, distribution));
        Ok(())
    }

    /// Takes `[DATABASE.COLLECTION=]FIELD[,FIELD…]`.
    ///
    /// # Errors
    /// It says nothing.
    pub fn sort(&mut self, said: &str) -> Result<()> {
        let (table, value) = split(said)?;
        self.sort_keys.push((table, fields(said, value)?));
        Ok(())
    }

    /// Takes `[DATABASE.COLLECTION=]FIELD[,FIELD…]`.
    ///
    /// # Errors
    /// It says nothing.
    pub fn key(&mut self, said: &str) -> Result<()> {
        let (table, value) = split(said)?;
        self.primary_keys.push((table, fields(said, value)?));
        Ok(())
    }

    /// How the table of a collection is laid out.
    #[must_use]
    pub fn of(&self, table: &Namespace) -> TableLayout {
        TableLayout {
            distribution: said_of(&self.distributions, table)
                .cloned()
                .unwrap_or_default(),
            sort_key: said_of(&self.sort_keys, table).cloned(),
            primary_key: said_of(&self.primary_keys, table).cloned(),
        }
    }
}

/// What is said of a table: of itself, else of all.
fn said_of<'a, T>(said: &'a [(Option<Namespace>, T)], table: &Namespace) -> Option<&'a T> {
    let last = |wanted: Option<&Namespace>| {
        let mut of = said.iter().rev();
        of.find(|(of, _)| of.as_ref() == wanted)
            .map(|(_, value)| value)
    };
    last(Some(table)).or_else(|| last(None))
}

fn split(said: &str) -> Result<(Option<Namespace>, &str)> {
    let (table, value) = match said.split_once('=') {
        Some((table, value)) => {
            let named = table.split_once('.');
            let named = named
                .filter(|(database, collection)| !database.is_empty() && !collection.is_empty());
            let (database, collection) = named.ok_or_else(|| malformed(said))?;
            (Some(Namespace::new(database, collection)), value)
        }
        None => (None, said),
    };
    if value.is_empty() {
        return Err(malformed(said));
    }
    Ok((table, value))
}

fn fields(said: &str, value: &str) -> Result<Vec<String>> {
    let fields: Vec<String> = value
        .split(',')
        .map(|field| field.trim().to_owned())
        .collect();
    if fields.iter().any(String::is_empty) {
        return Err(malformed(said));
    }
    Ok(fields)
}

fn malformed(said: &str) -> Error {
    Error::new(ErrorKind::Usage, "cannot tell which table and which fields are meant")
        .on("argument", said)
        .remedy("write it as FIELD, or as DATABASE.COLLECTION=FIELD for one table; several fields with commas")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_table_goes_before_what_is_said_of_all() {
        let mut layouts = TableLayouts::default();
        layouts.distribute("even").unwrap();
        layouts.distribute("shop.orders=customer").unwrap();
        layouts.sort("shop.orders=at, _id").unwrap();
        layouts.key("_id,tenant").unwrap();
        let orders = layouts.of(&Namespace::new("shop", "orders"));
        assert_eq!(
            orders.distribution,
            Distribution::Key("customer".to_owned())
        );
        assert_eq!(orders.sort_key.unwrap(), ["at", "_id"]);
        let others = layouts.of(&Namespace::new("shop", "others"));
        assert_eq!(others.distribution, Distribution::Even);
        assert_eq!(
            (others.sort_key, others.primary_key.unwrap().len()),
            (None, 2)
        );
        for wrong in ["", "shop=x", "shop.orders=", "a,,b", ".x=a"] {
            assert!(layouts.sort(wrong).is_err(), "{wrong}");
        }
    }
}
