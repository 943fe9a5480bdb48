//! How far each table has got: rows of `tributary.ledger`, written in the transaction that takes the
//! table there.

use serde::{Deserialize, Serialize};
use tributary_flow::TableVersion;
use tributary_model::{Decision, Decisions, SchemaChange, SchemaDecision, TableSchema};

use crate::columns::Column;
use crate::layout::TableLayout;
use crate::names::TableName;

/// The schema of the ledger.
pub(crate) const SCHEMA: &str = "tributary";
/// Its name.
pub(crate) const TABLE: &str = "ledger";

/// What the ledger says of one table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry<T> {
    /// How often it has been written.
    pub(crate) sequence: u64,
    /// The collection, as `database.collection`.
    pub(crate) collection: String,
    /// Where the rows come from, for people.
    pub(crate) source: String,
    /// The version of the lake's table that it holds.
    pub(crate) reached: TableVersion,
    pub(crate) definition: Definition<T>,
}

/// What a table is made for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "T: Serialize + serde::de::DeserializeOwned")]
pub(crate) struct Definition<T> {
    /// Its columns.
    pub(crate) columns: Vec<Column<T>>,
    /// The schema of the rows that they are for.
    pub(crate) schema: TableSchema,
    /// How it was laid out when it was made.
    pub(crate) layout: TableLayout,
    /// What was decided of schema changes.
    #[serde(default)]
    pub(crate) decisions: Decisions,
    /// The schema that waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<TableSchema>,
    /// The schema that was approved, until the table has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) approved: Option<TableSchema>,
}

impl<T> Definition<T> {
    /// What a schema has that the table was not made for.
    pub(crate) fn changes_to(&self, schema: &TableSchema) -> Vec<SchemaChange> {
        self.schema.changes_to(&self.schema.join(schema))
    }

    /// Whether a schema has nothing beyond what was approved.
    pub(crate) fn has_approved(&self, schema: &TableSchema) -> bool {
        let approved = self.approved.as_ref();
        approved.is_some_and(|approved| approved.changes_to(&approved.join(schema)).is_empty())
    }

    /// Records that a schema waits for approval; false where that is recorded already.
    pub(crate) fn wait_for(&mut self, schema: &TableSchema) -> bool {
        let joined = self.schema.join(schema);
        if self.waiting.as_ref() == Some(&joined) {
            return false;
        }
        let changes = self.schema.changes_to(&joined);
        let decision = SchemaDecision::now(Decision::Waiting, changes);
        self.decisions.record(decision);
        self.waiting = Some(joined);
        true
    }

    /// Approves what waits; none where nothing does.
    pub(crate) fn approve(&mut self) -> Option<SchemaDecision> {
        self.approved = Some(self.waiting.take()?);
        Some(self.decisions.approve())
    }
}

/// Whether a table's name is one of Tributary's own.
pub(crate) fn is_own(name: &TableName) -> bool {
    name.schema == SCHEMA && name.name == TABLE
}
