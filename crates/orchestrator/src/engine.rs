//! What does the work: the traits that the orchestrator has others move data by.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tributary_flow::Observer;
use tributary_model::{DescribedTable, Namespace, Result};

use crate::config::{Flow, Work};

/// Moves data, and knows the tables that it was moved to.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Keeps a flow current, until it is stopped: then it commits what it has read, and answers `Ok`.
    ///
    /// A table that fails stops alone and is told to the observer. It ends with an error when the flow as
    /// a whole cannot go on, and also, with the first table's, when all tables have failed.
    ///
    /// # Errors
    /// Why it cannot go on. It may be tried again, whatever the kind.
    async fn follow(
        &self,
        flow: &Flow,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> Result<()>;

    /// Does the work of a step, all but that of [`Work::Command`]. May be begun again after it was cut
    /// short at any moment, and then leads to the same.
    ///
    /// # Errors
    /// Why it could not be done, with the first of the reasons where there are several, the others being
    /// told by `tell`; [`Interrupted`](tributary_model::ErrorKind::Interrupted) where it was stopped
    /// before its end.
    async fn work(
        &self,
        work: &Work,
        tell: Arc<dyn Tell>,
        stop: CancellationToken,
    ) -> Result<Moved>;

    /// What is known of the tables of a flow: their columns, and the schema changes that were decided.
    ///
    /// # Errors
    /// The lake or warehouse cannot be read.
    async fn tables(&self, flow: &Flow) -> Result<Vec<DescribedTable>>;

    /// Approves the schema change that a table of a flow waits with.
    ///
    /// # Errors
    /// There is no such table, or nothing waits.
    async fn approve(&self, flow: &Flow, table: &Namespace) -> Result<()>;
}

/// Hears what a step tells of itself, a line at a time, without secrets.
pub trait Tell: Send + Sync {
    /// A line.
    fn tell(&self, line: &str);

    /// So much has been moved since it was told last.
    fn moved(&self, more: Moved);
}

/// How much was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Documents, rows or changes.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Moved {
    fn add_assign(&mut self, more: Self) {
        self.documents += more.documents;
        self.bytes += more.bytes;
    }
}
