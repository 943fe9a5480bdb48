//! Querying the lake: every Delta table of it as `database.collection`.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::LineDelimitedWriter;
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider};
use datafusion::datasource::TableProvider;
use datafusion::error::{DataFusionError, Result as QueryResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use tributary_model::{Error, ErrorKind, Result};

use crate::delta::table;
use crate::location::Location;

/// How the result of a query is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryOutput {
    /// A table for people.
    Table,
    /// A JSON object a line.
    Json,
    /// Comma-separated values with a line of names.
    Csv,
}

/// A lake that can be queried.
pub struct Lake {
    session: SessionContext,
    place: Location,
}

impl Lake {
    /// Finds the tables of a lake.
    ///
    /// # Errors
    /// The lake cannot be listed, or there is nothing there.
    pub async fn open(place: Location) -> Result<Self> {
        let mut databases = BTreeMap::new();
        for name in place.directories().await? {
            if name.starts_with(['.', '_']) {
                continue;
            }
            let database = place.child(&name);
            let mut tables = database.directories().await?;
            tables.retain(|name| !name.starts_with(['.', '_']));
            if !tables.is_empty() {
                databases.insert(
                    name,
                    Arc::new(Database {
                        place: database,
                        tables,
                    }),
                );
            }
        }
        if databases.is_empty() {
            return Err(
                Error::new(ErrorKind::NotFound, "there is no table in the lake")
                    .on("lake", &place)
                    .remedy("name the lake with --lake, or load one with `tributary copy`"),
            );
        }
        let mut config = SessionConfig::new().with_information_schema(true);
        // Field names of documents are case-sensitive: `accountNumber` means just that.
        config.options_mut().sql_parser.enable_ident_normalization = false;
        config.options_mut().sql_parser.collect_spans = true;
        let only = if databases.len() == 1 {
            databases.keys().next().cloned()
        } else {
            None
        };
        config = config
            .with_default_catalog_and_schema("lake", only.unwrap_or_else(|| "default".to_owned()));
        let session = SessionContext::new_with_config(config);
        session.register_catalog("lake", Arc::new(Databases(databases)));
        Ok(Self { session, place })
    }

    /// Runs one query and writes its result to `out`.
    ///
    /// # Errors
    /// The query is malformed, or does more than read; a table cannot be read.
    pub async fn query(
        &self,
        sql: &str,
        output: QueryOutput,
        out: &mut (dyn Write + Send),
    ) -> Result<()> {
        let failed = |error: DataFusionError| self.query_failed(sql, &error);
        let sql = if is_show_tables(sql) {
            LIST_TABLES
        } else {
            sql
        };
        // A query reads: it neither writes files nor changes the session.
        let only_reading = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let frame = self
            .session
            .sql_with_options(sql, only_reading)
            .await
            .map_err(failed)?;
        let rows = frame.execute_stream().await.map_err(failed)?;
        let schema = rows.schema();
        let result = match output {
            QueryOutput::Table => write_table(rows, &schema, out).await,
            QueryOutput::Json => write_json(rows, out).await,
            QueryOutput::Csv => write_csv(rows, out).await,
        };
        match result {
            // The reader of a pipe has seen enough.
            Err(DataFusionError::IoError(error))
                if error.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                Ok(())
            }
            result => result.map_err(failed),
        }
    }

    fn query_failed(&self, sql: &str, error: &DataFusionError) -> Error {
        let mut text = error.find_root().strip_backtrace();
        for prefix in [
            "Error during planning: ",
            "SQL error: ",
            "Schema error: ",
            "ParserError(",
        ] {
            text = text.trim_start_matches(prefix).to_owned();
        }
        text = text
            .trim_end_matches("\")")
            .trim_start_matches('"')
            .to_owned();
        let place = error
            .diagnostic()
            .and_then(|d| d.span)
            .map(|s| (s.start.line, s.start.column));
        let pointer = place
            .or_else(|| line_and_column(&text))
            .and_then(|(l, c)| point_at(sql, l, c));
        let remedy = "tables are named database.collection, and `SHOW TABLES` lists them; names are case-sensitive, \
                      and double quotes take any name";
        let remedy = match pointer {
            Some(pointer) => format!("{remedy}\n{pointer}"),
            None => remedy.to_owned(),
        };
        Error::new(ErrorKind::Usage, text)
            .on("lake", &self.place)
            .remedy(remedy)
    }
}

/// The lake's own tables, without those that describe the session.
const LIST_TABLES: &str = "SELECT table_schema AS database, table_name AS collection \
                           FROM information_schema.tables WHERE table_schema <> 'information_schema' \
                           ORDER BY 1, 2";

fn is_show_tables(sql: &str) -> bool {
    let words: Vec<&str> = sql
        .trim()
        .trim_end_matches(';')
        .split_whitespace()
        .collect();
    matches!(words[..], [show, tables] if show.eq_ignore_ascii_case("show") && tables.eq_ignore_ascii_case("tables"))
}

/// The place that the parser names in its message: `… at Line: 1, Column: 8`.
fn line_and_column(text: &str) -> Option<(u64, u64)> {
    let rest = &text[text.rfind("Line: ")? + 6..];
    let (line, rest) = rest.split_once(", Column: ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// The line of the query with a caret below the place.
fn point_at(sql: &str, line: u64, column: u64) -> Option<String> {
    let text = sql
        .lines()
        .nth(usize::try_from(line.checked_sub(1)?).ok()?)?;
    let column = usize::try_from(column.checked_sub(1)?)
        .ok()?
        .min(text.chars().count());
    Some(format!("  {text}\n  {}^", " ".repeat(column)))
}

async fn write_table(
    rows: SendableRecordBatchStream,
    schema: &Arc<Schema>,
    out: &mut (dyn Write + Send),
) -> QueryResult<()> {
    let mut batches: Vec<RecordBatch> = rows.try_collect().await?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    writeln!(out, "{}", pretty_format_batches(&batches)?)?;
    writeln!(out, "{count} {}", if count == 1 { "row" } else { "rows" })?;
    Ok(())
}

async fn write_json(
    mut rows: SendableRecordBatchStream,
    out: &mut (dyn Write + Send),
) -> QueryResult<()> {
    let mut writer = LineDelimitedWriter::new(out);
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch)?;
    }
    Ok(writer.finish()?)
}

async fn write_csv(
    mut rows: SendableRecordBatchStream,
    out: &mut (dyn Write + Send),
) -> QueryResult<()> {
    let mut writer = arrow::csv::WriterBuilder::new()
        .with_header(true)
        .build(out);
    let empty = RecordBatch::new_empty(rows.schema());
    writer.write(&flatten(&empty)?)?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&flatten(&batch)?)?;
    }
    Ok(())
}

/// The batch with nested columns as JSON text, since a CSV field has no structure.
fn flatten(batch: &RecordBatch) -> QueryResult<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let options = EncoderOptions::default();
        let mut encoder = make_encoder(field, column, &options)?;
        let mut texts = StringBuilder::new();
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            if encoder.is_null(row) {
                texts.append_null();
            } else {
                text.clear();
                encoder.encode(row, &mut text);
                texts.append_value(String::from_utf8_lossy(&text));
            }
        }
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        columns.push(Arc::new(texts.finish()));
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

#[derive(Debug)]
struct Databases(BTreeMap<String, Arc<Database>>);

impl CatalogProvider for Databases {
    fn schema_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::clone(self.0.get(name)?) as _)
    }
}

#[derive(Debug)]
struct Database {
    place: Location,
    tables: Vec<String>,
}

#[async_trait]
impl SchemaProvider for Database {
    fn table_names(&self) -> Vec<String> {
        self.tables.clone()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        if !self.table_exist(name) {
            return Ok(None);
        }
        let opened = table::open(&self.place.child(name))
            .await
            .map_err(|e| DataFusionError::External(e.into()))?;
        match opened {
            Some(table) => Ok(Some(table.table_provider().await?)),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table == name)
    }
}
