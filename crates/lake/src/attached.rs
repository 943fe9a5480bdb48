//! Attached databases as catalogs of the query engine.

mod filter;
mod scan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session};
use datafusion::datasource::TableProvider;
use datafusion::error::{DataFusionError, Result as QueryResult};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tributary_flow::{AttachedDatabase, AttachedName, AttachedTable, Filter, FilterSupport, Scan};
use tributary_model::{Error, ErrorKind, Result};

use scan::AttachedScan;

/// A failure of ours on its way through the query engine.
pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A database as a catalog. A table is looked up when a query names it; all are listed only for queries
/// of what tables there are.
#[derive(Debug)]
pub(crate) struct AttachedCatalog {
    name: String,
    database: Arc<dyn AttachedDatabase>,
    listed: Mutex<BTreeMap<String, Vec<String>>>,
}

impl AttachedCatalog {
    pub(crate) fn new(name: String, database: Arc<dyn AttachedDatabase>) -> Self {
        Self {
            name,
            database,
            listed: Mutex::default(),
        }
    }

    /// Lists the tables, for those who ask without waiting.
    pub(crate) async fn list(&self) -> Result<()> {
        let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let tables = self.database.tables().await;
        for name in tables.map_err(|error| error.on("attached", &self.name))? {
            listed.entry(name.schema).or_default().push(name.table);
        }
        *self.listed() = listed;
        Ok(())
    }

    fn listed(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        // Nothing that can panic runs while it is held.
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CatalogProvider for AttachedCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.listed().keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        // Whether there is such a schema is told when a table of it is looked up.
        let tables = self.listed().get(name).cloned().unwrap_or_default();
        Some(Arc::new(AttachedSchema {
            attached: self.name.clone(),
            name: name.to_owned(),
            database: Arc::clone(&self.database),
            tables,
        }))
    }
}

#[derive(Debug)]
struct AttachedSchema {
    attached: String,
    name: String,
    database: Arc<dyn AttachedDatabase>,
    /// Those that have been listed.
    tables: Vec<String>,
}

#[async_trait]
impl SchemaProvider for AttachedSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.clone()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        let wanted = AttachedName {
            schema: self.name.clone(),
            table: name.to_owned(),
        };
        let opened = self.database.open(&wanted).await;
        let opened = opened.map_err(|error| external(error.on("attached", &self.attached)))?;
        let Some(table) = opened else {
            let error = Error::new(ErrorKind::Usage, "there is no such table")
                .on("table", &wanted)
                .on("attached", &self.attached)
                .on("server", self.database.place())
                .remedy("`SHOW TABLES` lists those there are; names are case-sensitive");
            return Err(external(error));
        };
        Ok(Some(Arc::new(Attached {
            name: format!("{}.{wanted}", self.attached),
            table,
        })))
    }

    async fn table_type(&self, name: &str) -> QueryResult<Option<TableType>> {
        // Looking each of them up would take a question to the server for every table.
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table == name)
    }
}

/// A table that a query has named.
#[derive(Debug)]
struct Attached {
    /// Its name in queries.
    name: String,
    table: Arc<dyn AttachedTable>,
}

impl Attached {
    /// A condition that the database can be asked for, and how far it means the same.
    fn supported(&self, filter: &Expr) -> Option<(Filter, FilterSupport)> {
        let filter = filter::of(filter, &self.table.schema())?;
        let support = self.table.support(&filter);
        (support != FilterSupport::None).then_some((filter, support))
    }
}

#[async_trait]
impl TableProvider for Attached {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.supported(filter) {
            Some((_, FilterSupport::Exact)) => TableProviderFilterPushDown::Exact,
            Some((_, FilterSupport::Superset)) => TableProviderFilterPushDown::Inexact,
            Some((_, FilterSupport::None)) | None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.table.schema().fields().len()).collect(),
        };
        let asked: Vec<_> = filters.iter().map(|f| self.supported(f)).collect();
        // Rows that do not count must not use up the limit.
        let is_exact = |filter: &Option<(Filter, FilterSupport)>| {
            matches!(filter, Some((_, FilterSupport::Exact)))
        };
        let limit = limit.filter(|_| asked.iter().all(is_exact));
        let scan = Scan {
            columns,
            filters: asked.into_iter().flatten().map(|(f, _)| f).collect(),
            limit: limit.map(|rows| rows as u64),
        };
        let plan = AttachedScan::new(self.name.clone(), Arc::clone(&self.table), scan)?;
        Ok(Arc::new(plan))
    }
}
