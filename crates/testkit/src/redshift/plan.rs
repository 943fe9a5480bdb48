//! What is to be done for a statement.

use super::{
    alter_table::AlterTable,
    copy::Copy,
    create_table::CreateTable,
    cursor::{Cursor, TableName},
    lexer::{Token, written},
    names::quoted,
    query::{Work, translated},
    refusal::Refusal,
    settings::{self, Setting},
};

/// What is to be done for a statement.
#[derive(Debug)]
pub(super) enum Plan {
    Begin(String),
    Commit,
    Rollback,
    Setting(Setting),
    Work(Work),
    CreateTable(CreateTable),
    AlterTable(AlterTable),
    /// Something else that PostgreSQL does as well; with the tables that it changes.
    Define(String, Vec<TableName>),
    Truncate(TableName),
    Vacuum(Option<TableName>),
    Lock(Vec<TableName>),
    Copy(Copy),
}

/// Words behind `CREATE` that Redshift does not have.
const NEVER_CREATED: &[&str] = &[
    "aggregate",
    "cast",
    "collation",
    "domain",
    "extension",
    "index",
    "operator",
    "policy",
    "publication",
    "rule",
    "sequence",
    "server",
    "statistics",
    "subscription",
    "tablespace",
    "trigger",
    "type",
    "unlogged",
];

impl Plan {
    /// Reads a statement.
    pub(super) fn read(tokens: &[Token]) -> Result<Self, Refusal> {
        let mut cursor = Cursor::new(tokens);
        if tokens.first().is_some_and(|token| token.is_symbol('(')) {
            return Ok(Self::Work(Work::read(tokens)?));
        }
        let verb = cursor.word()?;
        match verb.as_str() {
            "begin" | "start" => begin(&verb, &mut cursor),
            "commit" | "end" | "rollback" | "abort" => {
                if !cursor.accept(&["work"]) {
                    cursor.accept(&["transaction"]);
                }
                if cursor.accept(&["to"]) {
                    return Err(Refusal::unsupported("SAVEPOINT is not supported"));
                }
                cursor.expect_end()?;
                Ok(match verb.as_str() {
                    "commit" | "end" => Self::Commit,
                    _ => Self::Rollback,
                })
            }
            "savepoint" | "release" => Err(Refusal::unsupported("SAVEPOINT is not supported")),
            "set" | "reset" | "show" => Ok(Self::Setting(settings::read(tokens)?)),
            "select" | "with" | "insert" | "update" | "delete" | "merge" => {
                if verb == "merge"
                    && tokens
                        .iter()
                        .rev()
                        .take(2)
                        .any(|token| token.is("duplicates"))
                {
                    return Err(Refusal::beyond("MERGE ... REMOVE DUPLICATES"));
                }
                Ok(Self::Work(Work::read(tokens)?))
            }
            "create" => create(tokens, &mut cursor),
            "alter" => {
                if cursor.accept(&["table"]) {
                    Ok(Self::AlterTable(AlterTable::read(&mut cursor)?))
                } else {
                    Err(beyond("ALTER", &cursor))
                }
            }
            "drop" => drop_object(tokens, &mut cursor),
            "comment" => {
                cursor.expect(&["on"])?;
                Ok(Self::Define(written(tokens), Vec::new()))
            }
            "grant" | "revoke" => {
                // A role of Redshift is one of PostgreSQL, which has no word before its name.
                let kept = tokens.iter().enumerate().filter(|(at, token)| {
                    let before = at.checked_sub(1).and_then(|at| tokens.get(at));
                    !(token.is("role")
                        && before.is_some_and(|token| token.is("to") || token.is("from")))
                });
                let kept: Vec<_> = kept.map(|(_, token)| token.clone()).collect();
                Ok(Self::Define(written(&kept), Vec::new()))
            }
            "analyze" => analyze(&mut cursor),
            "vacuum" => vacuum(&mut cursor),
            "truncate" => {
                cursor.accept(&["table"]);
                let table = cursor.table()?;
                cursor.expect_end()?;
                Ok(Self::Truncate(table))
            }
            "lock" => {
                cursor.accept(&["table"]);
                let mut tables = vec![cursor.table()?];
                while cursor.accept_symbol(',') {
                    tables.push(cursor.table()?);
                }
                cursor.expect_end()?;
                Ok(Self::Lock(tables))
            }
            "copy" => Ok(Self::Copy(Copy::read(&mut cursor)?)),
            "listen" | "notify" | "unlisten" | "do" | "discard" | "reindex" | "cluster"
            | "checkpoint" => Err(Refusal::unsupported(format!(
                "SQL command \"{}\" not supported",
                verb.to_uppercase()
            ))),
            "unload" | "call" | "declare" | "fetch" | "close" | "explain" | "prepare"
            | "execute" | "deallocate" | "refresh" | "cancel" | "values" | "use" | "table" => {
                Err(Refusal::beyond(&verb.to_uppercase()))
            }
            _ => Err(Refusal::near(&verb)),
        }
    }

    /// Whether it ends a transaction, and so may follow an error.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback)
    }
}

/// Whatever level is asked for, Redshift's own is what there is.
fn begin(verb: &str, cursor: &mut Cursor<'_>) -> Result<Plan, Refusal> {
    if verb == "start" {
        cursor.expect(&["transaction"])?;
    } else if !cursor.accept(&["work"]) {
        cursor.accept(&["transaction"]);
    }
    let mut sql = "BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned();
    while !cursor.is_empty() {
        if cursor.accept(&["read", "only"]) {
            sql.push_str(" READ ONLY");
        } else if cursor.accept(&["isolation", "level"]) {
            let known = cursor.accept(&["serializable"])
                || cursor.accept(&["repeatable", "read"])
                || cursor.accept(&["read", "committed"])
                || cursor.accept(&["read", "uncommitted"]);
            if !known {
                return Err(cursor.unexpected());
            }
        } else if !cursor.accept_symbol(',') {
            cursor.expect(&["read", "write"])?;
        }
    }
    Ok(Plan::Begin(sql))
}

fn create(tokens: &[Token], cursor: &mut Cursor<'_>) -> Result<Plan, Refusal> {
    for temporary in [
        &["temp"][..],
        &["temporary"],
        &["local", "temp"],
        &["local", "temporary"],
    ] {
        if cursor.accept(temporary) {
            cursor.expect(&["table"])?;
            return Ok(Plan::CreateTable(CreateTable::read(cursor, true)?));
        }
    }
    if cursor.accept(&["table"]) {
        return Ok(Plan::CreateTable(CreateTable::read(cursor, false)?));
    }
    if cursor.accept(&["schema"]) {
        cursor.accept(&["if", "not", "exists"]);
        cursor.name()?;
        if cursor.accept(&["authorization"]) {
            cursor.name()?;
        }
        if cursor.accept(&["quota"]) {
            return Err(Refusal::beyond("a QUOTA"));
        }
        cursor.expect_end()?;
        return Ok(Plan::Define(written(tokens), Vec::new()));
    }
    let mut ahead = cursor.clone();
    ahead.accept(&["or", "replace"]);
    let unique = ahead.accept(&["unique"]);
    match ahead.word() {
        Ok(word) if unique || NEVER_CREATED.contains(&word.as_str()) => {
            Err(Refusal::unsupported(format!(
                "SQL command \"CREATE {}\" not supported on Redshift tables.",
                word.to_uppercase()
            )))
        }
        _ => Err(beyond("CREATE", cursor)),
    }
}

fn drop_object(tokens: &[Token], cursor: &mut Cursor<'_>) -> Result<Plan, Refusal> {
    if cursor.accept(&["schema"]) {
        return Ok(Plan::Define(written(tokens), Vec::new()));
    }
    if !cursor.accept(&["table"]) {
        return Err(beyond("DROP", cursor));
    }
    cursor.accept(&["if", "exists"]);
    let mut tables = vec![cursor.table()?];
    while cursor.accept_symbol(',') {
        tables.push(cursor.table()?);
    }
    if !cursor.accept(&["cascade"]) {
        cursor.accept(&["restrict"]);
    }
    cursor.expect_end()?;
    Ok(Plan::Define(written(tokens), tables))
}

fn analyze(cursor: &mut Cursor<'_>) -> Result<Plan, Refusal> {
    cursor.accept(&["verbose"]);
    if cursor.accept(&["compression"]) {
        return Err(Refusal::beyond("ANALYZE COMPRESSION"));
    }
    if cursor.is_empty() {
        return Ok(Plan::Define("ANALYZE".to_owned(), Vec::new()));
    }
    let mut sql = format!("ANALYZE {}", cursor.table()?.sql());
    if cursor.peek().is_some_and(|token| token.is_symbol('(')) {
        let names: Vec<_> = cursor.names()?.iter().map(|name| quoted(name)).collect();
        sql = format!("{sql} ({})", names.join(", "));
    } else if cursor.accept(&["predicate"]) || cursor.accept(&["all"]) {
        cursor.expect(&["columns"])?;
    }
    cursor.expect_end()?;
    Ok(Plan::Define(sql, Vec::new()))
}

fn vacuum(cursor: &mut Cursor<'_>) -> Result<Plan, Refusal> {
    let _ = cursor.accept(&["full"])
        || cursor.accept(&["sort", "only"])
        || cursor.accept(&["delete", "only"])
        || cursor.accept(&["reindex"])
        || cursor.accept(&["recluster"]);
    let table = if cursor.is_empty() {
        None
    } else {
        Some(cursor.table()?)
    };
    if cursor.accept(&["to"]) {
        cursor.number()?;
        cursor.expect(&["percent"])?;
    }
    cursor.accept(&["boost"]);
    cursor.expect_end()?;
    Ok(Plan::Vacuum(table))
}

fn beyond(verb: &str, cursor: &Cursor<'_>) -> Refusal {
    let what = cursor.peek().map(|token| token.text.to_uppercase());
    Refusal::beyond(&format!("{verb} {}", what.unwrap_or_default()))
}

/// The statement for `SHOW` and the like, as PostgreSQL is told it; queries and settings only.
pub(super) fn prepared(tokens: &[Token]) -> Result<(String, Vec<String>), Refusal> {
    match Plan::read(tokens)? {
        Plan::Work(Work {
            reads,
            writes: None,
            ..
        }) => Ok((translated(tokens), reads)),
        Plan::Setting(Setting::Forward(sql)) => Ok((sql, Vec::new())),
        _ => Err(Refusal::beyond(
            "a prepared statement other than SELECT (send it as a simple query)",
        )),
    }
}
