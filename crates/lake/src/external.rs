//! Statements by which warehouses read the lake's tables where they are.
//!
//! Amazon Redshift Spectrum knows no Delta log: it reads the files that a table's symlink manifest
//! names, by the names that columns have in them. PostgreSQL reads the table itself through the
//! extension `pg_duckdb`.

use std::collections::HashSet;

use tributary_convert::arrow_schema::{column_names, physical_name};
use tributary_model::schema::{Column, ColumnType, MAX_DECIMAL_DIGITS, RESCUED_COLUMN};
use tributary_model::{Error, ErrorKind, Namespace, Result};

use crate::delta::manifest;
use crate::delta::table;
use crate::location::Location;
use crate::schemas::{LakeSchemas, no_table, place_of};

/// The schema of Spectrum's tables, where none is named.
const SPECTRUM_SCHEMA: &str = "spectrum";
/// The most columns of an external table in Redshift; two more are its own.
const MAX_SPECTRUM_COLUMNS: usize = 1_598;
/// The most columns of a view in PostgreSQL.
const MAX_VIEW_COLUMNS: usize = 1_600;
/// The longest name in Redshift, in bytes.
const MAX_SPECTRUM_NAME: usize = 127;
/// Columns that Redshift adds by itself.
const SPECTRUM_PSEUDOCOLUMNS: &[&str] = &["$path", "$size", "$spectrum_oid"];

/// What reads tables in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalEngine {
    /// Amazon Redshift Spectrum.
    Spectrum,
    /// PostgreSQL with the extension `pg_duckdb`.
    Postgres,
}

/// The statements for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalTable {
    /// Its collection.
    pub namespace: Namespace,
    /// The statements, with comments, each ended by a semicolon.
    pub statements: String,
    /// Columns that the engine cannot have, and why.
    pub left_out: Vec<(String, String)>,
}

/// A table as the statements are made from it.
struct Source {
    namespace: Namespace,
    place: Location,
    columns: Vec<Column>,
}

/// The statements that let `engine` read `tables` of a lake, or all of them where none is named. They
/// are in the schema `schema`; without one in `spectrum`, and for PostgreSQL in one named as the
/// database.
///
/// # Errors
/// There is no such table, or the engine cannot read one.
pub async fn external_tables(
    lake: &Location,
    engine: ExternalEngine,
    schema: Option<&str>,
    tables: &[Namespace],
) -> Result<Vec<ExternalTable>> {
    if engine == ExternalEngine::Spectrum && !lake.is_s3() {
        return Err(Error::new(
            ErrorKind::Usage,
            "Redshift Spectrum reads tables in S3 only",
        )
        .on("lake", lake)
        .remedy("name a lake at s3://bucket/prefix"));
    }
    let mut named = tables.to_vec();
    if named.is_empty() {
        let all = LakeSchemas::new(lake.clone()).all().await?;
        named.extend(all.into_iter().map(|table| table.namespace));
    }
    let mut made = Vec::with_capacity(named.len());
    let mut taken = HashSet::new();
    for namespace in named {
        let source = Source::open(lake, namespace, engine).await?;
        let schema = match (schema, engine) {
            (Some(schema), _) => schema,
            (None, ExternalEngine::Spectrum) => SPECTRUM_SCHEMA,
            (None, ExternalEngine::Postgres) => &source.namespace.database,
        };
        let name = match engine {
            ExternalEngine::Spectrum => folded(&source.namespace.collection),
            ExternalEngine::Postgres => source.namespace.collection.clone(),
        };
        if !taken.insert((schema.to_owned(), name)) {
            return Err(Error::new(
                ErrorKind::Usage,
                "two tables would have the same name in one schema",
            )
            .on("table", &source.namespace)
            .on("schema", schema)
            .remedy(
                "name the tables of one of them, and another --external-schema for the other",
            ));
        }
        made.push(match engine {
            ExternalEngine::Spectrum => spectrum(&source, schema)?,
            ExternalEngine::Postgres => postgres(&source, schema),
        });
    }
    Ok(made)
}

impl Source {
    async fn open(lake: &Location, namespace: Namespace, engine: ExternalEngine) -> Result<Self> {
        let place = place_of(lake, &namespace);
        let definition = table::definition(&place).await?;
        let Some(definition) = definition else {
            return Err(no_table(lake, &namespace));
        };
        let Some(schema) = definition.schema() else {
            return Err(no_table(lake, &namespace));
        };
        let refused = match engine {
            ExternalEngine::Postgres => None,
            ExternalEngine::Spectrum if !definition.is_copy_on_write() => {
                Some("the table has deletion vectors, which Redshift Spectrum does not know")
            }
            ExternalEngine::Spectrum if !definition.has_symlink_manifest() => Some(
                "the table has no symlink manifest, by which Redshift Spectrum finds its files",
            ),
            ExternalEngine::Spectrum => None,
        };
        match refused {
            Some(refused) => Err(Error::new(ErrorKind::InvalidData, refused)
                .on("table", &place)
                .remedy("sync it with --no-deletion-vectors --symlink-manifest")),
            None => Ok(Self {
                namespace,
                place,
                columns: schema.settled().columns,
            }),
        }
    }

    /// The columns with the names that users see.
    fn named_columns(&self) -> impl Iterator<Item = (String, Option<&Column>)> {
        let names = column_names(&self.columns, true).into_iter();
        let columns = names.zip(self.columns.iter().map(Some));
        columns.chain([(RESCUED_COLUMN.to_owned(), None)])
    }

    fn comments(&self, again: &str, left_out: &[(String, String)]) -> String {
        let mut lines = format!(
            "-- {}\n-- {again}\n",
            in_comment(&self.namespace.to_string())
        );
        for (column, why) in left_out {
            lines.push_str(&format!(
                "-- without the column {}: {why}\n",
                in_comment(column)
            ));
        }
        lines
    }
}

/// A name as it can stand in a comment of one line.
fn in_comment(name: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    name.chars().map(shown).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as Redshift keeps it: other letters than those of ASCII stay as they are.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn spectrum(source: &Source, schema: &str) -> Result<ExternalTable> {
    let table = folded(&source.namespace.collection);
    if table.len() > MAX_SPECTRUM_NAME {
        return Err(
            Error::new(ErrorKind::InvalidData, "the name is too long for Redshift")
                .on("table", &source.namespace)
                .remedy(format!("names have {MAX_SPECTRUM_NAME} bytes at most")),
        );
    }
    let mut columns = Vec::new();
    let mut left_out = Vec::new();
    let mut mapped = String::new();
    for (name, column) in source.named_columns() {
        let in_files = physical_name(&name);
        let column_type = match column {
            _ if columns.len() == MAX_SPECTRUM_COLUMNS => Err(format!(
                "a table has {MAX_SPECTRUM_COLUMNS} columns at most"
            )),
            _ if in_files.len() > MAX_SPECTRUM_NAME => {
                Err(format!("names have {MAX_SPECTRUM_NAME} bytes at most"))
            }
            _ if SPECTRUM_PSEUDOCOLUMNS.contains(&folded(&in_files).as_str()) => {
                Err("Redshift has a column of its own of this name".to_owned())
            }
            Some(column) => spectrum_type(&column.column_type),
            None => Ok(text(MAX_TEXT)),
        };
        match column_type {
            Err(why) => left_out.push((name, why)),
            Ok(column_type) => {
                if in_files != name {
                    let name = in_comment(&name);
                    mapped.push_str(&format!("-- {in_files} is the column {name}\n"));
                }
                columns.push(format!("  {} {column_type}", quoted(&folded(&in_files))));
            }
        }
    }
    let again = "to be run again when the table's schema changes: `tributary schema list` says when \
                 that was";
    let comments = source.comments(again, &left_out);
    let name = format!("{}.{}", quoted(&folded(schema)), quoted(&table));
    let location = format!("{}/{}/", source.place.unescaped_url(), manifest::DIRECTORY);
    let statements = format!(
        "{comments}{mapped}DROP TABLE IF EXISTS {name};
CREATE EXTERNAL TABLE {name} (
{}
)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION {};
",
        columns.join(",\n"),
        literal(&location),
    );
    Ok(ExternalTable {
        namespace: source.namespace.clone(),
        statements,
        left_out,
    })
}

/// The longest text in Redshift, in bytes.
const MAX_TEXT: u32 = 65_535;

fn text(bytes: u32) -> String {
    format!("varchar({bytes})")
}

/// The type of a column in Redshift Spectrum, or why it cannot have the column.
fn spectrum_type(column_type: &ColumnType) -> Result<String, String> {
    Ok(match column_type {
        ColumnType::Bool => "boolean".to_owned(),
        ColumnType::Int32 => "int".to_owned(),
        ColumnType::Int64 { .. } => "bigint".to_owned(),
        ColumnType::Double { .. } => "double precision".to_owned(),
        ColumnType::Decimal(shape) => format!("decimal({MAX_DECIMAL_DIGITS},{})", shape.scale),
        ColumnType::Date => "timestamp".to_owned(),
        ColumnType::Binary { .. } => "varbyte(1024000)".to_owned(),
        ColumnType::ObjectId => text(24),
        ColumnType::Uuid => text(36),
        ColumnType::Unknown | ColumnType::String | ColumnType::Json | ColumnType::Special => {
            text(MAX_TEXT)
        }
        ColumnType::Document(columns) => {
            let names = column_names(columns, false);
            let mut fields = Vec::with_capacity(columns.len());
            for (column, name) in columns.iter().zip(names) {
                if !is_word(&name) {
                    return Err(format!(
                        "Redshift cannot spell its field {}",
                        in_comment(&name)
                    ));
                }
                let field = spectrum_type(&column.column_type)?;
                fields.push(format!("{}:{field}", folded(&name)));
            }
            format!("struct<{}>", fields.join(","))
        }
        ColumnType::Array(items) if matches!(**items, ColumnType::Array(_)) => {
            return Err("Redshift has no arrays of arrays".to_owned());
        }
        ColumnType::Array(items) => format!("array<{}>", spectrum_type(items)?),
    })
}

/// Whether a name stands in the type of a struct, where none can be quoted.
fn is_word(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_numeric())
}

fn postgres(source: &Source, schema: &str) -> ExternalTable {
    let mut columns = Vec::new();
    let mut left_out = Vec::new();
    for (name, column) in source.named_columns() {
        if columns.len() == MAX_VIEW_COLUMNS {
            let why = format!("a view has {MAX_VIEW_COLUMNS} columns at most");
            left_out.push((name, why));
            continue;
        }
        let column_type = match column {
            // Canonical Extended JSON there, and nothing but keys to be compared.
            Some(column) if column.field == "_id" && column.column_type == ColumnType::Json => {
                "text".to_owned()
            }
            Some(column) => view_type(&column.column_type),
            None => "json".to_owned(),
        };
        columns.push(format!(
            "  r[{}]::{column_type} AS {}",
            literal(&name),
            quoted(&name)
        ));
    }
    let again = "for the extension pg_duckdb; to be run again when the table's schema changes: \
                 `tributary schema list` says when that was";
    let comments = source.comments(again, &left_out);
    let place = match source.place.directory() {
        Some(directory) => directory.to_string_lossy().into_owned(),
        None => source.place.unescaped_url(),
    };
    let name = format!(
        "{}.{}",
        quoted(schema),
        quoted(&source.namespace.collection)
    );
    let statements = format!(
        "{comments}CREATE SCHEMA IF NOT EXISTS {};
DROP VIEW IF EXISTS {name};
CREATE VIEW {name} AS SELECT
{}
FROM delta_scan({}) r;
",
        quoted(schema),
        columns.join(",\n"),
        literal(&place),
    );
    ExternalTable {
        namespace: source.namespace.clone(),
        statements,
        left_out,
    }
}

/// The type that a column of a view is cast to: DuckDB's own types are not PostgreSQL's, and a
/// decimal without digits is another one there.
fn view_type(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Bool => "boolean",
        ColumnType::Int32 => "integer",
        ColumnType::Int64 { .. } => "bigint",
        ColumnType::Double { .. } => "double precision",
        ColumnType::Decimal(shape) => {
            return format!("numeric({MAX_DECIMAL_DIGITS},{})", shape.scale);
        }
        ColumnType::Date => "timestamptz",
        ColumnType::Binary { .. } => "bytea",
        ColumnType::Uuid => "uuid",
        ColumnType::Document(_) | ColumnType::Array(_) | ColumnType::Json => "json",
        ColumnType::Unknown | ColumnType::String | ColumnType::ObjectId | ColumnType::Special => {
            "text"
        }
    }
    .to_owned()
}
