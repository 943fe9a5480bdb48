//! The warehouses as sinks.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tributary_flow::{FileStage, SinkTable, TableSink};
use tributary_model::{Error, ErrorKind, Namespace, OnSchemaChange, Result};

use crate::client::Pool;
use crate::dialect::Dialect;
use crate::layout::TableLayouts;
use crate::ledger;
use crate::names::TableName;
use crate::postgres::Postgres;
use crate::redshift::Redshift;
use crate::table::{Replaced, Shared, WarehouseTable};

/// How tables are taken over.
#[derive(Debug, Clone, Default)]
pub struct WarehouseOptions {
    /// What the tables are said to come from.
    pub source: String,
    /// Every table is replaced when it is loaded first, whatever it is.
    pub replace: bool,
    /// How tables are laid out when they are made.
    pub layouts: TableLayouts,
    /// What is done when the lake's tables get other schemas.
    pub on_schema_change: OnSchemaChange,
}

/// How Redshift gets at the files that are staged for it.
#[derive(Clone)]
pub struct RedshiftOptions {
    /// Where rows are put for it to copy.
    pub stage: Arc<dyn FileStage>,
    /// The role as which it reads there; none: it is given the keys with which they are written.
    pub role: Option<String>,
}

/// A database of PostgreSQL whose schemas and tables take over the databases and collections of a
/// lake. Its address is `postgres://user:password@host:port/database`.
///
/// # Errors
/// The address is none.
pub fn postgres(address: &str, options: WarehouseOptions) -> Result<Arc<dyn TableSink>> {
    let pool = Pool::new(Postgres::SERVER, address)?;
    Ok(Arc::new(WarehouseSink::new(Postgres, pool, options)))
}

/// The same for Redshift, `redshift://user:password@host:port/database`.
///
/// # Errors
/// As [`postgres`].
pub fn redshift(
    address: &str,
    options: WarehouseOptions,
    redshift: RedshiftOptions,
) -> Result<Arc<dyn TableSink>> {
    let pool = Pool::new(Redshift::SERVER, address)?;
    let dialect = Redshift::new(redshift)?;
    Ok(Arc::new(WarehouseSink::new(dialect, pool, options)))
}

struct WarehouseSink<D> {
    shared: Arc<Shared<D>>,
    layouts: TableLayouts,
    /// Which table is whose, as far as that is known.
    tables: Mutex<Option<HashMap<TableName, String>>>,
}

impl<D: Dialect> WarehouseSink<D> {
    fn new(dialect: D, pool: Pool, options: WarehouseOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                dialect,
                pool,
                source: options.source,
                replaced: options.replace.then(Replaced::default),
                on_schema_change: options.on_schema_change,
            }),
            layouts: options.layouts,
            tables: Mutex::default(),
        }
    }

    /// The name of a collection's table: the one that it has, else one that no other collection has.
    async fn name_of(&self, collection: &Namespace) -> Result<TableName> {
        let mut tables = self.tables.lock().await;
        let known = match &mut *tables {
            Some(known) => known,
            unknown => {
                let Shared { dialect, pool, .. } = &*self.shared;
                let said = dialect.known_tables(pool).await?.into_iter();
                unknown.insert(said.map(|(of, name)| (name, of)).collect())
            }
        };
        let of = collection.to_string();
        if let Some((name, _)) = known.iter().find(|(_, known)| **known == of) {
            return Ok(name.clone());
        }
        let candidates = [D::NAMES.table(collection), D::NAMES.other_table(collection)];
        let free = candidates
            .into_iter()
            .find(|name| !known.contains_key(name) && !ledger::is_own(name));
        let name = free.ok_or_else(|| {
            Error::new(
                ErrorKind::AlreadyExists,
                "other collections have the names of its table",
            )
            .on("table", collection)
            .remedy("leave one of them out with --collection")
        })?;
        known.insert(name.clone(), of);
        Ok(name)
    }
}

#[async_trait]
impl<D: Dialect> TableSink for WarehouseSink<D> {
    async fn check(&self) -> Result<()> {
        let Shared { dialect, pool, .. } = &*self.shared;
        dialect.create_ledger(pool).await
    }

    async fn open(&self, table: &Namespace) -> Result<Box<dyn SinkTable>> {
        let name = self.name_of(table).await?;
        let (shared, layout) = (Arc::clone(&self.shared), self.layouts.of(table));
        let opened = WarehouseTable::open(shared, table, name, layout).await?;
        Ok(Box::new(opened))
    }
}
