//! The schemas of a warehouse's tables, what was decided of their changes, and what waits for
//! approval.

use async_trait::async_trait;
use tributary_model::{DescribedTable, Error, ErrorKind, Namespace, Result, SchemaDecision};

use crate::client::{Pool, Server};
use crate::dialect::Dialect;
use crate::ledger::Entry;
use crate::names::TableName;
use crate::postgres::Postgres;
use crate::redshift::Redshift;

/// The schemas of the tables that the ledger knows.
#[async_trait]
pub trait WarehouseSchemas: Send + Sync {
    /// All of them, by name.
    ///
    /// # Errors
    /// The ledger cannot be read, or knows no table.
    async fn all(&self) -> Result<Vec<DescribedTable>>;

    /// The table of one collection.
    ///
    /// # Errors
    /// There is none, or the ledger cannot be read.
    async fn of(&self, collection: &Namespace) -> Result<DescribedTable>;

    /// Approves the change that a collection's table waits with, and answers it.
    ///
    /// # Errors
    /// There is no such table, or nothing waits.
    async fn approve(&self, collection: &Namespace) -> Result<SchemaDecision>;
}

/// The schemas of the warehouse at an address.
///
/// # Errors
/// The address is none.
pub fn schemas(address: &str) -> Result<Box<dyn WarehouseSchemas>> {
    if Server::of(address) == Some(Server::Redshift) {
        let pool = Pool::new(Redshift::SERVER, address)?;
        let dialect = Redshift::reading();
        Ok(Box::new(Schemas { pool, dialect }))
    } else {
        let pool = Pool::new(Postgres::SERVER, address)?;
        let dialect = Postgres;
        Ok(Box::new(Schemas { pool, dialect }))
    }
}

struct Schemas<D> {
    pool: Pool,
    dialect: D,
}

impl<D: Dialect> Schemas<D> {
    async fn known(&self) -> Result<Vec<(Namespace, TableName)>> {
        let known = self.dialect.known_tables(&self.pool).await?;
        let mut known: Vec<(Namespace, TableName)> = known
            .into_iter()
            .filter_map(|(collection, name)| {
                let (database, collection) = collection.split_once('.')?;
                Some((Namespace::new(database, collection), name))
            })
            .collect();
        known.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(known)
    }

    async fn name_of(&self, collection: &Namespace) -> Result<TableName> {
        let mut known = self.known().await?.into_iter();
        let found = known.find(|(known, _)| known == collection);
        let (_, name) = found.ok_or_else(|| self.no_table(collection))?;
        Ok(name)
    }

    async fn described(
        &self,
        namespace: Namespace,
        name: &TableName,
    ) -> Result<Option<DescribedTable>> {
        let entry = self.dialect.entry(&self.pool, name).await?;
        Ok(entry.map(|Entry { definition, .. }| DescribedTable {
            namespace,
            schema: definition.schema,
            decisions: definition.decisions.into_all(),
            is_waiting: definition.waiting.is_some(),
        }))
    }

    fn no_table(&self, collection: &Namespace) -> Error {
        Error::new(ErrorKind::NotFound, "the ledger knows no such table")
            .on("table", collection)
            .on("server", self.pool.place())
            .remedy("name it as DATABASE.COLLECTION, as `tributary schema list` does")
    }
}

#[async_trait]
impl<D: Dialect> WarehouseSchemas for Schemas<D> {
    async fn all(&self) -> Result<Vec<DescribedTable>> {
        let mut tables = Vec::new();
        for (namespace, name) in self.known().await? {
            tables.extend(self.described(namespace, &name).await?);
        }
        if tables.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "the ledger knows no table")
                .on("server", self.pool.place())
                .remedy("load one with `tributary sync`"));
        }
        Ok(tables)
    }

    async fn of(&self, collection: &Namespace) -> Result<DescribedTable> {
        let name = self.name_of(collection).await?;
        let described = self.described(collection.clone(), &name).await?;
        described.ok_or_else(|| self.no_table(collection))
    }

    async fn approve(&self, collection: &Namespace) -> Result<SchemaDecision> {
        let name = self.name_of(collection).await?;
        let mut client = self.pool.get().await?;
        let transaction = self.pool.begin(&mut client).await?;
        let entry = self
            .dialect
            .locked_entry(&self.pool, &transaction, &name)
            .await?;
        let mut entry = entry.ok_or_else(|| self.no_table(collection))?;
        let Some(decision) = entry.definition.approve() else {
            return Err(
                Error::new(ErrorKind::NotFound, "no schema change waits for approval")
                    .on("table", &name)
                    .remedy("see `tributary schema list`"),
            );
        };
        entry.sequence += 1;
        self.dialect
            .commit(&self.pool, transaction, &name, &entry)
            .await?;
        self.pool.put(client);
        Ok(decision)
    }
}
