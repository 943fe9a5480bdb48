//! What was decided of the schema changes of a table: kept in its properties, so that every decision
//! is part of the commit that carries it out.

use serde::{Deserialize, Serialize};
use tributary_model::{
    ClusterTime, Decision, Decisions, SchemaChange, SchemaDecision, TableSchema,
};

use crate::delta::definition::Definition;

/// The property that holds the decisions, as JSON.
const DECISIONS: &str = "tributary.schemaChanges";
/// The property that holds the schema that waits for approval, as JSON.
const WAITING: &str = "tributary.waitingSchema";
/// The property that holds the schema that was approved, until the table has it.
const APPROVED: &str = "tributary.approvedSchema";
/// A schema that waits for approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Waiting {
    schema: TableSchema,
    /// The position of the changes that are held back for it.
    until: ClusterTime,
}

impl Definition {
    /// The decisions that are remembered.
    pub(crate) fn decisions(&self) -> Decisions {
        self.property(DECISIONS)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    fn record(&mut self, decision: SchemaDecision) {
        let mut decisions = self.decisions();
        decisions.record(decision);
        self.set_property(DECISIONS, &to_json(&decisions));
    }

    /// The schema that was approved and that the table does not have yet.
    pub(crate) fn approved_schema(&self) -> Option<TableSchema> {
        serde_json::from_str(self.property(APPROVED)?).ok()
    }

    /// Whether a schema change waits for approval.
    pub(crate) fn is_waiting(&self) -> bool {
        self.property(WAITING).is_some()
    }

    fn waiting(&self) -> Option<Waiting> {
        serde_json::from_str(self.property(WAITING)?).ok()
    }

    /// Whether the table has passed what a schema change was waited for with, because the
    /// documents that would have changed it have changed again.
    pub(crate) fn has_outlived_waiting(&self, reached: ClusterTime) -> bool {
        self.waiting()
            .is_some_and(|waiting| waiting.until <= reached)
    }

    /// Makes `known`, which was joined from the table's schema, its schema.
    pub(crate) fn evolve(&mut self, known: &TableSchema) {
        let before = self.schema().unwrap_or_default();
        let changes = before.changes_to(known);
        self.set_schema(known);
        // The schema of the first documents is no change, and what was approved has been recorded.
        if !changes.is_empty() && !before.columns.is_empty() && self.approved_schema().is_none() {
            self.record(SchemaDecision::now(Decision::Evolved, changes));
        }
        self.wait_no_longer();
        self.remove_property(APPROVED);
    }

    /// Forgets what waits, which has been decided or is no change any more.
    fn wait_no_longer(&mut self) {
        if self.is_waiting() {
            let mut decisions = self.decisions();
            decisions.forget_waiting();
            self.set_property(DECISIONS, &to_json(&decisions));
            self.remove_property(WAITING);
        }
    }

    /// Records that values are rescued that would have changed the schema, unless it is recorded
    /// already.
    pub(crate) fn record_rescued(&mut self, misfits: &[SchemaChange]) {
        let mut decisions = self.decisions();
        if decisions.record_rescued(misfits) {
            self.set_property(DECISIONS, &to_json(&decisions));
        }
        self.wait_no_longer();
    }

    /// Records that the change to `known` waits for approval, with all changes up to `until`; false
    /// where that is recorded already.
    pub(crate) fn wait_for(&mut self, known: &TableSchema, until: ClusterTime) -> bool {
        let before = self.waiting();
        let schema = match &before {
            Some(before) => before.schema.join(known),
            None => known.clone(),
        };
        if before.is_some_and(|before| before.schema == schema) {
            return false;
        }
        let changes = self.schema().unwrap_or_default().changes_to(&schema);
        self.record(SchemaDecision::now(Decision::Waiting, changes));
        self.set_property(WAITING, &to_json(&Waiting { schema, until }));
        true
    }

    /// Approves what waits; none where nothing does.
    pub(crate) fn approve(&mut self) -> Option<SchemaDecision> {
        let waiting = self.waiting()?;
        let mut decisions = self.decisions();
        let decision = decisions.approve();
        self.set_property(DECISIONS, &to_json(&decisions));
        self.set_property(APPROVED, &to_json(&waiting.schema));
        self.remove_property(WAITING);
        Some(decision)
    }
}

fn to_json(value: &impl Serialize) -> String {
    // Schemas and decisions always are JSON.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tributary_model::{Column, ColumnType};

    use super::*;

    fn schema(fields: &[&str]) -> TableSchema {
        TableSchema {
            columns: fields
                .iter()
                .map(|field| Column::new(*field, ColumnType::Int32))
                .collect(),
        }
    }

    fn told(definition: &Definition) -> Vec<String> {
        let decisions = definition.decisions();
        let told = decisions.all().iter().map(|decision| {
            let paths: Vec<&str> = decision.changes.iter().map(|c| c.path.as_str()).collect();
            format!("{} {}", decision.decision.name(), paths.join(" "))
        });
        told.collect()
    }

    #[test]
    fn decisions_are_kept_in_order_and_what_waited_is_decided_once() {
        let mut definition = Definition::new();
        definition.evolve(&schema(&["_id"]));
        assert_eq!(told(&definition), Vec::<String>::new());
        definition.evolve(&schema(&["_id", "a"]));
        assert_eq!(told(&definition), ["evolved /a"]);

        let until = ClusterTime::new(5, 1);
        assert!(definition.wait_for(&schema(&["_id", "a", "b"]), until));
        assert!(!definition.wait_for(&schema(&["_id", "a", "b"]), until));
        assert!(definition.wait_for(&schema(&["_id", "a", "c"]), until));
        assert!(!definition.has_outlived_waiting(ClusterTime::new(4, 9)));
        assert!(definition.has_outlived_waiting(until));
        assert_eq!(told(&definition), ["evolved /a", "waiting /c /b"]);
        assert!(definition.is_waiting());
        assert!(definition.approved_schema().is_none());

        definition.approve().expect("something waits");
        assert!(definition.approve().is_none());
        assert_eq!(told(&definition), ["evolved /a", "approved /c /b"]);
        let approved = definition.approved_schema().expect("a schema");
        definition.evolve(&approved);
        assert!(definition.approved_schema().is_none());
        assert_eq!(told(&definition), ["evolved /a", "approved /c /b"]);
    }

    #[test]
    fn what_is_no_change_any_more_does_not_wait() {
        let mut definition = Definition::new();
        definition.evolve(&schema(&["_id"]));
        let until = ClusterTime::new(5, 1);
        assert!(definition.wait_for(&schema(&["_id", "a"]), until));
        definition.evolve(&schema(&["_id"]));
        assert!(!definition.is_waiting());
        assert_eq!(told(&definition), Vec::<String>::new());
    }

    #[test]
    fn the_oldest_decisions_give_way() {
        let mut definition = Definition::new();
        let mut fields = vec!["_id".to_owned()];
        for n in 0..300 {
            let names: Vec<&str> = fields.iter().map(String::as_str).collect();
            definition.evolve(&schema(&names));
            fields.push(format!("f{n}"));
        }
        let told = told(&definition);
        assert_eq!(told.len(), 100);
        assert_eq!(told.last().map(String::as_str), Some("evolved /f298"));
        let long: Vec<SchemaChange> = (0..3000)
            .map(|n| SchemaChange {
                path: format!("/rescued/{n}/{}", "x".repeat(50)),
                from: None,
                to: "string".to_owned(),
            })
            .collect();
        definition.record_rescued(&long);
        definition.record_rescued(&long);
        assert_eq!(definition.decisions().all().len(), 1);
    }
}
