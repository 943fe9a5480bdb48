//! Warehouses as sinks: their tables, created and changed by themselves, loaded exactly once.
//!
//! What all have in common is `table`: the steps of one table, and their order in one transaction.
//! What PostgreSQL and Redshift do in ways of their own stands in one `dialect` each. Beside them, `attach` has
//! queries read databases as they are.

mod attach;
mod client;
mod columns;
mod dialect;
mod error;
mod kept;
mod layout;
mod ledger;
mod names;
mod postgres;
mod redshift;
mod rescue;
mod schemas;
mod script;
mod sink;
mod table;
mod tls;

pub use attach::AttachedServer;
pub use client::Server;
pub use layout::{Distribution, TableLayout, TableLayouts};
pub use schemas::{WarehouseSchemas, schemas};
pub use script::run_script;
pub use sink::{
    RedshiftOptions, WarehouseOptions, postgres as postgres_sink, redshift as redshift_sink,
};
