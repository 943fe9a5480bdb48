//! What Redshift refuses in statements that change rows.

use sqlparser::ast::{
    AssignmentTarget, Delete, FromTable, Insert, Merge, MergeAction, MergeClauseKind, ObjectName,
    TableFactor, TableObject, Update,
};

use super::{query::relation_name, refusal::Refusal};

fn table_of(factor: &TableFactor) -> Option<&ObjectName> {
    match factor {
        TableFactor::Table {
            name, args: None, ..
        } => Some(name),
        _ => None,
    }
}

fn target(factor: &TableFactor) -> Result<String, Refusal> {
    table_of(factor)
        .map(relation_name)
        .ok_or_else(|| Refusal::syntax("a table has to be named"))
}

fn unsupported(clause: &str) -> Refusal {
    Refusal::unsupported(format!("{clause} is not supported"))
}

/// The table that an `INSERT` writes.
pub(super) fn check_insert(insert: &Insert) -> Result<String, Refusal> {
    if insert.on.is_some() {
        return Err(unsupported("INSERT ... ON CONFLICT"));
    }
    if insert.returning.is_some() {
        return Err(unsupported("RETURNING"));
    }
    if insert.table_alias.is_some() {
        return Err(unsupported("an alias of the table of INSERT"));
    }
    match &insert.table {
        TableObject::TableName(name) => Ok(relation_name(name)),
        _ => Err(Refusal::syntax("a table has to be named")),
    }
}

/// The table that an `UPDATE` writes.
pub(super) fn check_update(update: &Update) -> Result<String, Refusal> {
    if update.returning.is_some() {
        return Err(unsupported("RETURNING"));
    }
    target(&update.table.relation)
}

/// The table that a `DELETE` writes.
pub(super) fn check_delete(delete: &Delete) -> Result<String, Refusal> {
    if delete.returning.is_some() {
        return Err(unsupported("RETURNING"));
    }
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    match tables.as_slice() {
        [table] => target(&table.relation),
        _ => Err(Refusal::syntax("DELETE takes one table")),
    }
}

/// As AWS documents `MERGE`: both clauses, each once, between two different tables.
pub(super) fn check_merge(merge: &Merge) -> Result<String, Refusal> {
    let (target, source) = (&merge.table, &merge.source);
    let source = table_of(source).ok_or_else(|| {
        Refusal::unsupported("MERGE: the source has to be a table, not a subquery")
    })?;
    if matches!(target, TableFactor::Table { alias: Some(_), .. }) {
        return Err(Refusal::syntax("MERGE: the target takes no alias"));
    }
    let target = self::target(target)?;
    if relation_name(source) == target {
        return Err(Refusal::unsupported(
            "MERGE: the target and the source have to be different tables",
        ));
    }
    let [first, second] = merge.clauses.as_slice() else {
        return Err(Refusal::syntax(
            "MERGE takes WHEN MATCHED and WHEN NOT MATCHED, each once",
        ));
    };
    if first.predicate.is_some() || second.predicate.is_some() {
        return Err(unsupported("MERGE ... WHEN ... AND"));
    }
    let matched = first.clause_kind == MergeClauseKind::Matched
        && matches!(
            first.action,
            MergeAction::Update(_) | MergeAction::Delete { .. }
        );
    let unmatched = second.clause_kind == MergeClauseKind::NotMatched
        && matches!(second.action, MergeAction::Insert(_));
    if !matched || !unmatched {
        return Err(Refusal::syntax(
            "MERGE takes WHEN MATCHED THEN UPDATE or DELETE, and then WHEN NOT MATCHED THEN INSERT",
        ));
    }
    if let MergeAction::Update(update) = &first.action {
        for assignment in &update.assignments {
            if matches!(&assignment.target, AssignmentTarget::ColumnName(name) if name.0.len() > 1)
            {
                return Err(Refusal::syntax(
                    "MERGE: a column in SET is named without its table",
                ));
            }
        }
    }
    Ok(target)
}
