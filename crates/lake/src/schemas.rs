//! The schemas of the lake's tables, what was decided of their changes, and what waits for approval.

use serde_json::json;
use tributary_model::{DescribedTable, Error, ErrorKind, Namespace, Result, SchemaDecision};

use crate::delta::definition::Definition;
use crate::delta::follow::{Edit, LiveTable, Outcome};
use crate::delta::table;
use crate::location::Location;

/// How often an approval is tried while others commit to the table.
const TRIES: usize = 5;

/// The schemas of a lake.
#[derive(Debug, Clone)]
pub struct LakeSchemas {
    lake: Location,
}

impl LakeSchemas {
    /// Those of the tables below `lake`.
    #[must_use]
    pub fn new(lake: Location) -> Self {
        Self { lake }
    }

    /// All tables that were loaded or are followed, by name.
    ///
    /// # Errors
    /// The lake cannot be listed, there is no such table, or one cannot be read.
    pub async fn all(&self) -> Result<Vec<DescribedTable>> {
        let mut tables = Vec::new();
        for namespace in tables_below(&self.lake).await? {
            tables.extend(self.described(&namespace).await?);
        }
        if tables.is_empty() {
            return Err(no_tables(&self.lake));
        }
        tables.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        Ok(tables)
    }

    /// The table of one collection.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn of(&self, namespace: &Namespace) -> Result<DescribedTable> {
        let described = self.described(namespace).await?;
        described.ok_or_else(|| no_table(&self.lake, namespace))
    }

    async fn described(&self, namespace: &Namespace) -> Result<Option<DescribedTable>> {
        let place = place_of(&self.lake, namespace);
        let Some(definition) = table::definition(&place).await? else {
            return Ok(None);
        };
        let Some(schema) = definition.schema() else {
            return Ok(None);
        };
        Ok(Some(DescribedTable {
            namespace: namespace.clone(),
            schema: schema.settled(),
            decisions: definition.decisions().into_all(),
            is_waiting: definition.is_waiting(),
        }))
    }

    /// Approves the change that a collection's table waits with, and answers it.
    ///
    /// # Errors
    /// There is no such table, or nothing waits.
    pub async fn approve(&self, namespace: &Namespace) -> Result<SchemaDecision> {
        let place = place_of(&self.lake, namespace);
        for _ in 0..TRIES {
            let live = LiveTable::open(&place).await?;
            let mut live = live.ok_or_else(|| no_table(&self.lake, namespace))?;
            let Some(decision) = live.definition.approve() else {
                return Err(
                    Error::new(ErrorKind::NotFound, "no schema change waits for approval")
                        .on("table", &place)
                        .remedy("see `tributary schema list`"),
                );
            };
            let parameters = json!({ "reason": "a schema change was approved" });
            let outcome = live
                .commit(Edit::default(), None, "SET TBLPROPERTIES", parameters)
                .await?;
            if let Outcome::Committed = outcome {
                return Ok(decision);
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "others commit to the table all the time",
        )
        .on("table", &place)
        .remedy("try again"))
    }
}

/// What is said where a collection has no table.
pub(crate) fn no_table(lake: &Location, namespace: &Namespace) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such table")
        .on("table", namespace)
        .on("lake", lake)
        .remedy("name it as DATABASE.COLLECTION, as `tributary schema list` does")
}

/// What is said of a lake without tables.
pub(crate) fn no_tables(lake: &Location) -> Error {
    Error::new(ErrorKind::NotFound, "there is no table in the lake")
        .on("lake", lake)
        .remedy("name the lake with --lake, or load one with `tributary copy`")
}

/// The place of a collection's table.
pub(crate) fn place_of(lake: &Location, collection: &Namespace) -> Location {
    lake.child(&collection.database)
        .child(&collection.collection)
}

/// The directories of a lake that may be tables.
pub(crate) async fn tables_below(lake: &Location) -> Result<Vec<Namespace>> {
    let mut tables = Vec::new();
    for database in lake.directories().await? {
        let collections = lake.child(&database).directories().await?;
        tables.extend(
            collections
                .into_iter()
                .map(|collection| Namespace::new(&database, collection)),
        );
    }
    Ok(tables)
}

/// Whether the schema change that a table waited with has been decided.
pub(crate) async fn is_decided(place: &Location) -> Result<bool> {
    let definition: Option<Definition> = table::definition(place).await?;
    Ok(definition.is_none_or(|definition| !definition.is_waiting()))
}
