//! Queries and changes of rows: what Redshift refuses in them, which tables they read and write, and how PostgreSQL is
//! told.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{
        BinaryOperator, DataType, Distinct, Expr, FunctionArgumentClause, FunctionArguments,
        ObjectName, Query, Select, SetExpr, Statement, TableFactor, Visit, Visitor,
    },
    dialect::RedshiftSqlDialect,
    parser::Parser,
};

use super::{
    changes::{check_delete, check_insert, check_merge, check_update},
    lexer::{Kind, Token, written},
    names::quoted,
    refusal::Refusal,
    types::SCHEMA,
};

/// Functions that the stand-in brings along.
const OWN_FUNCTIONS: &[&str] = &[
    "from_hex",
    "getdate",
    "json_parse",
    "json_serialize",
    "json_serialize_to_varbyte",
    "json_typeof",
    "len",
    "to_hex",
    "to_varbyte",
    "version",
];

/// Tables of Redshift's catalog that the stand-in brings along.
const OWN_TABLES: &[&str] = &[
    "pg_table_def",
    "svv_columns",
    "svv_table_info",
    "svv_tables",
];

/// PostgreSQL's functions that Redshift does not have, or not beside tables, by how their names begin.
const FOREIGN_FUNCTIONS: &[&str] = &[
    "array_agg",
    "array_to_json",
    "gen_random_uuid",
    "json_agg",
    "json_build",
    "json_each",
    "json_object_agg",
    "json_to_record",
    "jsonb_",
    "pg_advisory",
    "pg_notify",
    "pg_sleep",
    "pg_try_advisory",
    "regexp_match",
    "row_to_json",
    "string_agg",
    "to_json",
    "to_jsonb",
    "to_reg",
    "txid_",
    "unnest",
];

/// A query, or a change of rows.
#[derive(Debug)]
pub(super) struct Work {
    /// What PostgreSQL is told.
    pub(super) sql: String,
    /// The tables that are read, as PostgreSQL is told them.
    pub(super) reads: Vec<String>,
    /// The table that is written.
    pub(super) writes: Option<String>,
}

impl Work {
    /// Reads a `SELECT`, `INSERT`, `UPDATE`, `DELETE` or `MERGE`.
    pub(super) fn read(tokens: &[Token]) -> Result<Self, Refusal> {
        let statement = parsed(tokens)?;
        let mut survey = Survey::default();
        if let ControlFlow::Break(refusal) = statement.visit(&mut survey) {
            return Err(*refusal);
        }
        let written = match &statement {
            Statement::Query(_) => None,
            Statement::Insert(insert) => Some(check_insert(insert)?),
            Statement::Update(update) => Some(check_update(update)?),
            Statement::Delete(delete) => Some(check_delete(delete)?),
            Statement::Merge(merge) => Some(check_merge(merge)?),
            _ => return Err(Refusal::beyond("this statement")),
        };
        let mut reads = survey.reads();
        if survey.series && (written.is_some() || !reads.is_empty()) {
            return Err(Refusal::unsupported(
                "Specified types or functions (one per INFO message) not supported on Redshift tables.",
            )
            .detail("Function \"generate_series\" not supported."));
        }
        if let (Statement::Insert(_), Some(target)) = (&statement, &written)
            && let Some(at) = reads.iter().position(|read| read == target)
        {
            // The target itself is one of the relations; what else is of its name is read.
            reads.remove(at);
        }
        Ok(Self {
            sql: translated(tokens),
            reads,
            writes: written,
        })
    }
}

/// Refuses an expression that Redshift would.
pub(super) fn check_expression(tokens: &[Token]) -> Result<(), Refusal> {
    let select = Token {
        kind: Kind::Word("select".to_owned()),
        text: "select ".to_owned(),
        space: false,
    };
    let query: Vec<_> = std::iter::once(select)
        .chain(tokens.iter().cloned())
        .collect();
    Work::read(&query).map(|_| ())
}

/// Strings are of no concern here, and how they escape differs between the parser's dialect and the server.
fn parsed(tokens: &[Token]) -> Result<Statement, Refusal> {
    let blank: Vec<_> = tokens
        .iter()
        .map(|token| match token.kind {
            Kind::Text(_) => Token {
                text: "'1'".to_owned(),
                ..token.clone()
            },
            _ => token.clone(),
        })
        .collect();
    let mut statements = Parser::parse_sql(&RedshiftSqlDialect {}, &written(&blank))
        .map_err(|error| Refusal::syntax(format!("syntax error: {error}")))?;
    statements
        .pop()
        .ok_or_else(|| Refusal::syntax("syntax error at end of input"))
}

/// A statement with the functions, tables and types that are others in PostgreSQL.
pub(super) fn translated(tokens: &[Token]) -> String {
    let mut changed = tokens.to_vec();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let after = tokens.get(at + 1);
        let is = |token: Option<&Token>, symbol| token.is_some_and(|token| token.is_symbol(symbol));
        let Some(name) = token.name() else { continue };
        let Some(place) = changed.get_mut(at) else {
            continue;
        };
        let named_by_table = is(before, '.');
        if OWN_TABLES.contains(&name) && !is(after, '.') && !is(after, '(') {
            if !named_by_table {
                place.text = format!("{SCHEMA}.{name}");
            } else if let Some(schema) = at.checked_sub(2).and_then(|at| changed.get_mut(at))
                && schema.name() == Some("pg_catalog")
            {
                schema.text = SCHEMA.to_owned();
            }
            continue;
        }
        let Kind::Word(word) = &token.kind else {
            continue;
        };
        if named_by_table {
            continue;
        }
        let behind_into = before.is_some_and(|token| token.is("into") || token.is("as"));
        if OWN_FUNCTIONS.contains(&word.as_str()) && is(after, '(') && !behind_into {
            place.text = format!("{SCHEMA}.{word}");
        } else if word == "sysdate" && !is(after, '.') && !behind_into {
            place.text = format!("{SCHEMA}.sysdate()");
        } else if word == "varbyte"
            && (is(before, ':') || before.is_some_and(|token| token.is("as")))
        {
            "bytea".clone_into(&mut place.text);
        }
    }
    written(&changed)
}

/// What is in a statement.
#[derive(Default)]
struct Survey {
    relations: Vec<String>,
    /// Names of common table expressions, which are no tables.
    expressions: Vec<String>,
    /// Functions in the place of tables.
    functions: Vec<String>,
    series: bool,
}

impl Survey {
    /// The relations that are tables.
    fn reads(&self) -> Vec<String> {
        let relations = self.relations.iter().filter(|relation| {
            !self.expressions.contains(relation) && !self.functions.contains(relation)
        });
        relations.cloned().collect()
    }
}

type Found = ControlFlow<Box<Refusal>>;

fn refuse(refusal: Refusal) -> Found {
    ControlFlow::Break(Box::new(refusal))
}

fn no(what: &str) -> Found {
    refuse(Refusal::unsupported(format!("{what} is not supported")))
}

fn beyond(what: &str) -> Found {
    refuse(Refusal::beyond(what))
}

impl Visitor for Survey {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        if let Some(lock) = query.locks.first() {
            return no(&format!("SELECT {lock}"));
        }
        for expression in query.with.iter().flat_map(|with| &with.cte_tables) {
            let body = expression.query.body.as_ref();
            if matches!(
                body,
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
            ) {
                return no("a statement that changes data in WITH");
            }
            let name = quoted(&expression.alias.name.value);
            self.expressions.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        if matches!(select.distinct, Some(Distinct::On(_))) {
            return no("SELECT DISTINCT ON");
        }
        for (found, what) in [
            (select.into.is_some(), "SELECT INTO"),
            (select.top.is_some(), "TOP"),
            (select.qualify.is_some(), "QUALIFY"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (select.exclude.is_some(), "EXCLUDE"),
        ] {
            if found {
                return beyond(what);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
        match factor {
            TableFactor::Derived { lateral: true, .. }
            | TableFactor::Function { lateral: true, .. } => no("LATERAL"),
            TableFactor::Table {
                name,
                args: Some(_),
                ..
            } => {
                self.functions.push(relation_name(name));
                self.function(&name.to_string())
            }
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => beyond("PIVOT"),
            TableFactor::UNNEST { .. } => no("UNNEST"),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Found {
        self.relations.push(relation_name(relation));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
        match expr {
            Expr::Array(_) => no("an array of PostgreSQL"),
            Expr::Cast { data_type, .. } => cast(data_type),
            Expr::TypedString(typed) => cast(&typed.data_type),
            Expr::BinaryOp { op, .. } if is_json(op) => no(&format!("operator {op}")),
            Expr::Function(function) => {
                if let FunctionArguments::List(list) = &function.args
                    && list
                        .clauses
                        .iter()
                        .any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
                {
                    return no("ORDER BY in the arguments of an aggregate");
                }
                self.function(&function.name.to_string())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Survey {
    fn function(&mut self, name: &str) -> Found {
        let name = name.replace('"', "");
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        if name == "generate_series" {
            self.series = true;
            return ControlFlow::Continue(());
        }
        if FOREIGN_FUNCTIONS
            .iter()
            .any(|foreign| name.starts_with(foreign))
        {
            return refuse(Refusal::new(
                "42883",
                format!("function {name} does not exist"),
            ));
        }
        ControlFlow::Continue(())
    }
}

fn is_json(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Arrow
            | BinaryOperator::LongArrow
            | BinaryOperator::HashArrow
            | BinaryOperator::HashLongArrow
            | BinaryOperator::AtAt
            | BinaryOperator::AtArrow
            | BinaryOperator::ArrowAt
            | BinaryOperator::HashMinus
            | BinaryOperator::AtQuestion
            | BinaryOperator::Question
            | BinaryOperator::QuestionAnd
            | BinaryOperator::QuestionPipe
    )
}

fn cast(kind: &DataType) -> Found {
    let name = kind.to_string().to_ascii_lowercase();
    let word = name.split(['(', ' ']).next().unwrap_or_default();
    match word {
        _ if name.ends_with(']') => no(&format!("type \"{name}\"")),
        "super" => beyond("a cast to SUPER"),
        "varbyte" | "varbinary" if name.contains('(') => beyond("a cast to VARBYTE of a length"),
        "bit" | "bytea" | "cidr" | "hstore" | "inet" | "json" | "jsonb" | "macaddr" | "money"
        | "regclass" | "tsvector" | "uuid" | "xml" => no(&format!("type \"{name}\"")),
        _ => ControlFlow::Continue(()),
    }
}

/// The table as PostgreSQL is told it; the names are folded already.
pub(super) fn relation_name(name: &ObjectName) -> String {
    let parts: Vec<_> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident())
        .map(|part| quoted(&part.value))
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::Work;
    use crate::redshift::lexer::statements;

    fn work(sql: &str) -> Result<Work, String> {
        let found = statements(sql).unwrap();
        Work::read(&found[0].tokens).map_err(|refusal| refusal.message)
    }

    #[test]
    fn tables_that_are_read_and_written_are_told_apart() {
        for (sql, reads, writes) in [
            ("SELECT 1", vec![], None),
            (
                "SELECT * FROM \"S\".t, u",
                vec!["\"s\".\"t\"", "\"u\""],
                None,
            ),
            (
                "WITH x AS (SELECT * FROM t) SELECT * FROM x",
                vec!["\"t\""],
                None,
            ),
            ("INSERT INTO t VALUES (1)", vec![], Some("\"t\"")),
            (
                "INSERT INTO t SELECT * FROM u",
                vec!["\"u\""],
                Some("\"t\""),
            ),
            (
                "INSERT INTO t SELECT * FROM t",
                vec!["\"t\""],
                Some("\"t\""),
            ),
            ("DELETE FROM t WHERE a = 1", vec!["\"t\""], Some("\"t\"")),
            (
                "DELETE FROM t USING u WHERE t.a = u.a",
                vec!["\"t\"", "\"u\""],
                Some("\"t\""),
            ),
            (
                "UPDATE t SET a = u.a FROM u",
                vec!["\"t\"", "\"u\""],
                Some("\"t\""),
            ),
            (
                "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (u.a)",
                vec!["\"t\"", "\"u\""],
                Some("\"t\""),
            ),
        ] {
            let mut work = work(sql).unwrap();
            work.reads.sort();
            assert_eq!(work.reads, reads, "{sql}");
            assert_eq!(work.writes.as_deref(), writes, "{sql}");
        }
    }

    #[test]
    fn what_is_named_otherwise_in_postgresql_is_translated() {
        for (sql, expected) in [
            (
                "SELECT json_parse(a), \"len\", sysdate FROM svv_columns",
                "select redshift_standin.json_parse(a), \"len\", redshift_standin.sysdate() from redshift_standin.svv_columns",
            ),
            (
                "SELECT svv_columns.a FROM pg_catalog.svv_columns",
                "select svv_columns.a from redshift_standin.svv_columns",
            ),
            (
                "INSERT INTO len (a) VALUES ('\\')",
                "insert into len (a) values ('\\')",
            ),
        ] {
            assert_eq!(work(sql).unwrap().sql, expected);
        }
    }
}
