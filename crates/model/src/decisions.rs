//! What is done, and what was decided, when documents come that have another schema than their
//! table.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::namespace::Namespace;
use crate::schema::TableSchema;
use crate::schema_change::SchemaChange;

/// How many decisions are kept.
const MAX_DECISIONS: usize = 100;
/// How many bytes of decisions are kept: every commit that changes what is said of a table has all
/// of them.
const MAX_BYTES: usize = 128 << 10;

/// What is done when documents come that have another schema than their table: fields that it has
/// no columns for, or values of types that its columns do not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSchemaChange {
    /// Columns are added, and become wider.
    #[default]
    Evolve,
    /// The table keeps its schema, and what does not fit goes to `_rescued_data`.
    Rescue,
    /// The table waits for approval.
    Stop,
}

/// What was decided of a schema change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Decision {
    /// The table got the columns and types.
    Evolved,
    /// The table stayed as it was, and such values go to `_rescued_data`.
    Rescued,
    /// The table has stopped, and waits for approval.
    Waiting,
    /// It was approved; the table gets the columns and types when it goes on.
    Approved,
}

impl Decision {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Evolved => "evolved",
            Self::Rescued => "rescued",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
        }
    }
}

/// Schema changes that came together, and what was decided of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDecision {
    /// When, in UTC, to the millisecond.
    pub at: DateTime<Utc>,
    /// What.
    pub decision: Decision,
    /// Of which changes.
    pub changes: Vec<SchemaChange>,
}

impl SchemaDecision {
    /// A decision that is taken now.
    #[must_use]
    pub fn now(decision: Decision, changes: Vec<SchemaChange>) -> Self {
        let at = DateTime::from_timestamp_millis(Utc::now().timestamp_millis());
        Self {
            at: at.unwrap_or_default(),
            decision,
            changes,
        }
    }
}

/// The decisions that are remembered of a table, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decisions(Vec<SchemaDecision>);

impl Decisions {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[SchemaDecision] {
        &self.0
    }

    /// Takes them out.
    #[must_use]
    pub fn into_all(self) -> Vec<SchemaDecision> {
        self.0
    }

    /// Adds one. What had been waiting is part of what is decided now, and the oldest are forgotten
    /// when there are too many.
    pub fn record(&mut self, decision: SchemaDecision) {
        self.forget_waiting();
        self.0.push(decision);
        let size = |decisions: &Vec<SchemaDecision>| {
            serde_json::to_string(decisions).map_or(0, |text| text.len())
        };
        while self.0.len() > MAX_DECISIONS || (self.0.len() > 1 && size(&self.0) > MAX_BYTES) {
            self.0.remove(0);
        }
    }

    /// Forgets what waits, which has been decided or is no change any more.
    pub fn forget_waiting(&mut self) {
        self.0
            .retain(|earlier| earlier.decision != Decision::Waiting);
    }

    /// Records that values are rescued that would have changed the schema, unless it is recorded
    /// already; whether there was something to record.
    pub fn record_rescued(&mut self, misfits: &[SchemaChange]) -> bool {
        let is_known = |path: &str| {
            let rescued = self.0.iter();
            rescued
                .filter(|decision| decision.decision == Decision::Rescued)
                .any(|decision| decision.changes.iter().any(|change| change.path == path))
        };
        let new: Vec<SchemaChange> = misfits
            .iter()
            .filter(|change| !is_known(&change.path))
            .cloned()
            .collect();
        if new.is_empty() {
            return false;
        }
        self.record(SchemaDecision::now(Decision::Rescued, new));
        true
    }

    /// Approves what waits, and answers the decision.
    pub fn approve(&mut self) -> SchemaDecision {
        let changes = self
            .0
            .iter()
            .rfind(|decision| decision.decision == Decision::Waiting)
            .map(|decision| decision.changes.clone())
            .unwrap_or_default();
        let decision = SchemaDecision::now(Decision::Approved, changes);
        self.record(decision.clone());
        decision
    }
}

/// A table's schema, and what was decided of its changes.
#[derive(Debug, Clone)]
pub struct DescribedTable {
    /// Its collection.
    pub namespace: Namespace,
    /// Its columns.
    pub schema: TableSchema,
    /// The decisions that are remembered, the oldest first.
    pub decisions: Vec<SchemaDecision>,
    /// Whether a change waits for approval.
    pub is_waiting: bool,
}
