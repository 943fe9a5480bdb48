//! `tributary schema`: what changed in the schemas of tables, what was decided, approving, and the
//! statements by which warehouses read tables in place.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tributary_lake::{ExternalEngine, ExternalTable, LakeSchemas, Location, external_tables};
use tributary_model::{DescribedTable, Error, ErrorKind, Namespace, Result, SchemaDecision};
use tributary_warehouse::WarehouseSchemas;

use crate::cli::{Output, SchemaArguments, SchemaCommand};
use crate::console::{self, aligned};
use crate::{DONE, address};

pub(crate) async fn run(command: SchemaCommand, stop: CancellationToken) -> Result<u8> {
    let work = async {
        match command {
            SchemaCommand::List { arguments } => list(&arguments).await,
            SchemaCommand::Show { table, arguments } => show(&table, &arguments).await,
            SchemaCommand::Approve {
                tables,
                all,
                arguments,
            } => approve(&tables, all, &arguments).await,
            SchemaCommand::External {
                tables,
                engine,
                external_schema,
                place,
                output,
            } => {
                let lake = Location::parse(&place.lake)?;
                external(
                    &lake,
                    &tables,
                    engine.into(),
                    external_schema.as_deref(),
                    output,
                )
                .await
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(DONE),
        result = work => result.map(|()| DONE),
    }
}

async fn list(arguments: &SchemaArguments) -> Result<()> {
    let tables = schemas(arguments)?.all().await?;
    match arguments.output {
        Output::Json => {
            for table in &tables {
                for decision in &table.decisions {
                    console::emit(&described(&table.namespace, decision));
                }
            }
        }
        Output::Text if tables.iter().all(|table| table.decisions.is_empty()) => {
            console::say("no schema has changed");
        }
        Output::Text => {
            console::say(&decisions_table(&tables));
        }
    }
    Ok(())
}

async fn show(table: &str, arguments: &SchemaArguments) -> Result<()> {
    let table = schemas(arguments)?.of(&namespace(table)?).await?;
    match arguments.output {
        Output::Json => console::emit(&as_json(&table)),
        Output::Text => {
            let mut rows = vec![["column", "type"].map(str::to_owned)];
            rows.extend(
                table
                    .schema
                    .columns
                    .iter()
                    .map(|column| [column.field.clone(), column.column_type.to_string()]),
            );
            console::say(&aligned(&rows));
            if !table.decisions.is_empty() {
                console::say(&decisions_table(std::slice::from_ref(&table)));
            }
            if table.is_waiting {
                let whose = match &arguments.warehouse {
                    // The address may have a password in it.
                    Some(_) => "--warehouse …".to_owned(),
                    None => format!("--lake {}", arguments.place.lake),
                };
                console::say(&format!(
                    "It waits. To allow the change: tributary schema approve {whose} {}",
                    table.namespace
                ));
            }
        }
    }
    Ok(())
}

async fn approve(tables: &[String], all: bool, arguments: &SchemaArguments) -> Result<()> {
    let schemas = schemas(arguments)?;
    let mut namespaces = tables
        .iter()
        .map(|table| namespace(table))
        .collect::<Result<Vec<_>>>()?;
    if all {
        let waiting = schemas.all().await?.into_iter();
        let waiting = waiting.filter(|table| table.is_waiting);
        namespaces.extend(waiting.map(|table| table.namespace));
        if namespaces.is_empty() && arguments.output == Output::Text {
            console::say("no schema change waits for approval");
        }
    }
    for namespace in namespaces {
        let decision = schemas.approve(&namespace).await?;
        match arguments.output {
            Output::Json => console::emit(&described(&namespace, &decision)),
            Output::Text => {
                for change in &decision.changes {
                    console::say(&format!("{namespace}: approved {change}"));
                }
            }
        }
    }
    Ok(())
}

async fn external(
    lake: &Location,
    tables: &[String],
    engine: ExternalEngine,
    schema: Option<&str>,
    output: Output,
) -> Result<()> {
    let tables = tables
        .iter()
        .map(|table| namespace(table))
        .collect::<Result<Vec<_>>>()?;
    for table in external_tables(lake, engine, schema, &tables).await? {
        match output {
            Output::Text => console::say(table.statements.trim_end()),
            Output::Json => console::emit(&as_statements(&table)),
        }
    }
    Ok(())
}

fn as_statements(table: &ExternalTable) -> Value {
    let left_out: Vec<Value> = table
        .left_out
        .iter()
        .map(|(column, why)| json!({ "column": column, "why": why }))
        .collect();
    json!({
        "table": table.namespace.to_string(),
        "statements": table.statements,
        "leftOut": left_out,
    })
}

/// Whose schemas are meant.
pub(crate) enum Schemas {
    Lake(LakeSchemas),
    Warehouse(Box<dyn WarehouseSchemas>),
}

impl Schemas {
    /// Those of the lake at an address.
    pub(crate) fn of_lake(at: &str) -> Result<Self> {
        Ok(Self::Lake(LakeSchemas::new(Location::parse(at)?)))
    }

    /// Those of the warehouse at an address.
    pub(crate) fn of_warehouse(at: &str) -> Result<Self> {
        tributary_warehouse::schemas(at).map(Self::Warehouse)
    }

    pub(crate) async fn all(&self) -> Result<Vec<DescribedTable>> {
        match self {
            Self::Lake(schemas) => schemas.all().await,
            Self::Warehouse(schemas) => schemas.all().await,
        }
    }

    pub(crate) async fn of(&self, table: &Namespace) -> Result<DescribedTable> {
        match self {
            Self::Lake(schemas) => schemas.of(table).await,
            Self::Warehouse(schemas) => schemas.of(table).await,
        }
    }

    pub(crate) async fn approve(&self, table: &Namespace) -> Result<SchemaDecision> {
        match self {
            Self::Lake(schemas) => schemas.approve(table).await,
            Self::Warehouse(schemas) => schemas.approve(table).await,
        }
    }
}

fn schemas(arguments: &SchemaArguments) -> Result<Schemas> {
    match &arguments.warehouse {
        Some(warehouse) => Schemas::of_warehouse(&address(warehouse)?),
        None => Schemas::of_lake(&arguments.place.lake),
    }
}

/// A table's name as it is given: its database, and behind the first dot its collection.
fn namespace(text: &str) -> Result<Namespace> {
    match text.split_once('.') {
        Some((database, collection)) if !database.is_empty() && !collection.is_empty() => {
            Ok(Namespace::new(database, collection))
        }
        _ => Err(Error::new(ErrorKind::Usage, "not the name of a table")
            .on("argument", text)
            .remedy("write it as DATABASE.COLLECTION")),
    }
}

/// The decisions for people, one change a line.
fn decisions_table(tables: &[DescribedTable]) -> String {
    let mut rows = vec![["table", "when", "decision", "column", "change"].map(str::to_owned)];
    for table in tables {
        for decision in &table.decisions {
            rows.extend(told(&table.namespace, decision));
        }
    }
    aligned(&rows)
}

fn told(namespace: &Namespace, decision: &SchemaDecision) -> Vec<[String; 5]> {
    let at = decision.at.format("%Y-%m-%d %H:%M:%SZ").to_string();
    let changes = decision.changes.iter();
    changes
        .map(|change| {
            let what = match &change.from {
                Some(from) => format!("{from} → {}", change.to),
                None => format!("new, {}", change.to),
            };
            [
                namespace.to_string(),
                at.clone(),
                decision.decision.name().to_owned(),
                change.path.clone(),
                what,
            ]
        })
        .collect()
}

fn described(namespace: &Namespace, decision: &SchemaDecision) -> Value {
    json!({
        "table": namespace.to_string(),
        "at": decision.at,
        "decision": decision.decision,
        "changes": decision.changes,
    })
}

fn as_json(table: &DescribedTable) -> Value {
    let columns: Vec<Value> = table
        .schema
        .columns
        .iter()
        .map(|column| json!({ "field": column.field, "type": column.column_type.to_string() }))
        .collect();
    json!({
        "table": table.namespace.to_string(),
        "waiting": table.is_waiting,
        "columns": columns,
        "decisions": table.decisions,
    })
}
