//! The tables of a flow, and approving what they wait with.
//!
//! A flow that goes through a lake into a warehouse has each table twice, and either may wait: the lake's,
//! before the change gets into the lake, and the warehouse's, before it gets any further. A collection is
//! told of once: as the table that waits, and as the lake's where neither does. Approving it approves what
//! waits in both.

use std::collections::BTreeMap;

use tributary_lake::HISTORY_SUFFIX;
use tributary_model::{DescribedTable, Error, ErrorKind, Namespace, Result};
use tributary_mongo::{Connection, Selection, SelectionOptions};
use tributary_orchestrator::config::{Flow, Place};

use super::arguments;
use crate::address;
use crate::schema::Schemas;

pub(super) async fn tables(flow: &Flow) -> Result<Vec<DescribedTable>> {
    if flow.route.to.place.takes_changes() {
        return Ok(Vec::new());
    }
    let own = Own::of(flow).await?;
    let mut tables: BTreeMap<Namespace, DescribedTable> = BTreeMap::new();
    for schemas in places(flow)? {
        for table in all(&schemas).await? {
            if !own.has(&table.namespace) {
                continue;
            }
            let known = tables.get(&table.namespace);
            if known.is_none_or(|known| table.is_waiting && !known.is_waiting) {
                tables.insert(table.namespace.clone(), table);
            }
        }
    }
    Ok(tables.into_values().collect())
}

pub(super) async fn approve(flow: &Flow, table: &Namespace) -> Result<()> {
    if flow.route.to.place.takes_changes() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "the flow passes changes on as they are, and has no tables",
        )
        .on("flow", &flow.name)
        .remedy("approve schema changes of flows into lakes and warehouses"));
    }
    let (mut is_there, mut approved) = (false, false);
    if Own::of(flow).await?.has(table) {
        for schemas in places(flow)? {
            let described = match schemas.of(table).await {
                Ok(described) => described,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            is_there = true;
            if described.is_waiting {
                schemas.approve(table).await?;
                approved = true;
            }
        }
    }
    match (is_there, approved) {
        (_, true) => Ok(()),
        (true, false) => Err(Error::new(
            ErrorKind::NotFound,
            "no schema change waits for approval",
        )
        .on("table", table)),
        (false, false) => Err(
            Error::new(ErrorKind::NotFound, "the flow has no such table")
                .on("table", table)
                .remedy("name it as DATABASE.COLLECTION"),
        ),
    }
}

/// Where a flow's tables are, the first that it writes first.
fn places(flow: &Flow) -> Result<Vec<Schemas>> {
    let ends = flow.route.through.iter().chain([&flow.route.to]);
    ends.map(|end| {
        let at = arguments::address(end);
        match end.place {
            Place::Warehouse(_) => Schemas::of_warehouse(&address(at)?),
            Place::Lake(_)
            | Place::Source(_)
            | Place::Ingest(_)
            | Place::Stream(_)
            | Place::Files(_) => Schemas::of_lake(at),
        }
    })
    .collect()
}

/// All tables of a place; none where nothing has been written yet.
async fn all(schemas: &Schemas) -> Result<Vec<DescribedTable>> {
    match schemas.all().await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        described => described,
    }
}

/// Which tables are a flow's own.
struct Own {
    database: Option<String>,
    selection: Selection,
    has_history: bool,
}

impl Own {
    async fn of(flow: &Flow) -> Result<Self> {
        let collections = flow.route.collections.iter();
        let selection = Selection::new(&SelectionOptions {
            collections: collections.map(ToString::to_string).collect(),
            ..SelectionOptions::default()
        })?;
        let database = match &flow.route.from.place {
            Place::Source(source) => {
                let connection = Connection::open(&address(source.uri.as_str())?, None).await?;
                connection.database().map(str::to_owned)
            }
            Place::Ingest(_)
            | Place::Lake(_)
            | Place::Warehouse(_)
            | Place::Stream(_)
            | Place::Files(_) => None,
        };
        Ok(Self {
            database,
            selection,
            has_history: flow.options.history == Some(true),
        })
    }

    fn has(&self, table: &Namespace) -> bool {
        let database = self.database.as_ref();
        let collection = table.collection.as_str();
        let of_history = collection.strip_suffix(HISTORY_SUFFIX);
        let of_history = of_history.filter(|_| self.has_history);
        database.is_none_or(|name| *name == table.database)
            && (self.selection.includes(collection)
                || of_history.is_some_and(|collection| self.selection.includes(collection)))
    }
}
