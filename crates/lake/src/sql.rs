//! Querying the lake: every Delta table of it as `database.collection`, and those of attached databases beside
//! them.

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
use tributary_flow::AttachedDatabase;
use tributary_model::{Error, ErrorKind, Result};

use crate::attached::{AttachedCatalog, external};
use crate::delta::table;
use crate::location::Location;
use crate::schemas::no_tables;

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
    /// What is attached, by the name that queries call it.
    attached: BTreeMap<String, Arc<AttachedCatalog>>,
}

/// The catalog of the lake's own tables.
const LAKE: &str = "lake";
/// The schema of every catalog that describes it.
const INFORMATION_SCHEMA: &str = "information_schema";

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
            return Err(no_tables(&place));
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
            .with_default_catalog_and_schema(LAKE, only.unwrap_or_else(|| "default".to_owned()));
        let session = SessionContext::new_with_config(config);
        session.register_catalog(LAKE, Arc::new(Databases(databases)));
        Ok(Self {
            session,
            place,
            attached: BTreeMap::new(),
        })
    }

    /// Attaches a database: queries read its tables as `name.schema.table`. It is asked for nothing yet.
    ///
    /// # Errors
    /// The name is taken, by a database of the lake, by what is attached already or by the query engine.
    pub fn attach(&mut self, name: &str, database: Arc<dyn AttachedDatabase>) -> Result<()> {
        let lake = self.session.catalog(LAKE);
        let is_database = lake.is_some_and(|lake| lake.schema(name).is_some());
        let why = if is_database {
            "a database of the lake is called so"
        } else if self.attached.contains_key(name) {
            "another attached database is called so"
        } else if name == LAKE || name == INFORMATION_SCHEMA {
            "the query engine calls its own so"
        } else {
            let catalog = Arc::new(AttachedCatalog::new(name.to_owned(), database));
            self.session
                .register_catalog(name, Arc::clone(&catalog) as _);
            self.attached.insert(name.to_owned(), catalog);
            return Ok(());
        };
        let error = Error::new(
            ErrorKind::Usage,
            "the name of an attached database is taken",
        )
        .on("name", name)
        .because(why)
        .remedy("give it another name before the `=`");
        Err(error)
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
        let rows = self.rows_of(sql).await?;
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
            result => result.map_err(|error| self.query_failed(sql, &error)),
        }
    }

    /// Runs one query to its end. Answers its first rows, `most` at most, as a table for people, and how many
    /// there are.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn glance(&self, sql: &str, most: usize) -> Result<(String, u64)> {
        let failed = |error: DataFusionError| self.query_failed(sql, &error);
        let mut rows = self.rows_of(sql).await?;
        let mut shown = vec![RecordBatch::new_empty(rows.schema())];
        let (mut left, mut count) = (most, 0);
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            count += batch.num_rows() as u64;
            let first = batch.num_rows().min(left);
            if first > 0 {
                left -= first;
                shown.push(batch.slice(0, first));
            }
        }
        let table = pretty_format_batches(&shown).map_err(|error| failed(error.into()))?;
        Ok((table.to_string(), count))
    }

    /// Begins one query.
    pub(crate) async fn rows_of(&self, sql: &str) -> Result<SendableRecordBatchStream> {
        let failed = |error: DataFusionError| self.query_failed(sql, &error);
        let sql = match is_show_tables(sql) {
            true if self.attached.is_empty() => LIST_TABLES,
            true => LIST_ALL_TABLES,
            false => sql,
        };
        self.prepare_attached(sql).await?;
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
        frame.execute_stream().await.map_err(failed)
    }

    /// The lake's directory.
    pub(crate) fn place(&self) -> &Location {
        &self.place
    }

    /// Lists what a query of attached databases may ask for, and refuses names that are none.
    async fn prepare_attached(&self, sql: &str) -> Result<()> {
        let state = self.session.state();
        let dialect = state.config_options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect);
        let named = statement.and_then(|statement| state.resolve_table_references(&statement));
        // What is no query is told when it is planned.
        for name in named.unwrap_or_default() {
            if name.schema() == Some(INFORMATION_SCHEMA) {
                for catalog in self.attached.values() {
                    catalog.list().await?;
                }
                continue;
            }
            match (name.catalog(), name.schema()) {
                (Some(catalog), _) if catalog != LAKE && !self.attached.contains_key(catalog) => {
                    return Err(self.not_attached(catalog));
                }
                (None, Some(schema)) if self.attached.contains_key(schema) => {
                    let remedy = format!(
                        "tables of an attached database are called name.schema.table, such as \
                         {schema}.public.{}",
                        name.table()
                    );
                    let error = Error::new(ErrorKind::Usage, "the name of a table has no schema")
                        .on("table", &name);
                    return Err(error.remedy(remedy));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn not_attached(&self, name: &str) -> Error {
        let remedy = match self.attached.is_empty() {
            true => "attach one with --attach NAME=ADDRESS; tables of the lake are named database.collection".to_owned(),
            false => {
                let names: Vec<&str> = self.attached.keys().map(String::as_str).collect();
                format!("attached are: {}", names.join(", "))
            }
        };
        Error::new(ErrorKind::Usage, "no database is attached by this name")
            .on("name", name)
            .remedy(remedy)
    }

    pub(crate) fn query_failed(&self, sql: &str, error: &DataFusionError) -> Error {
        // One of ours says it all.
        if let Some(error) = own_error(error) {
            return error;
        }
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

/// The error of Tributary's among the causes of one of the engine's.
fn own_error(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own.clone());
        }
        next = error.source();
    }
    None
}

/// The lake's own tables, without those that describe the session.
const LIST_TABLES: &str = "SELECT table_schema AS database, table_name AS collection \
                           FROM information_schema.tables WHERE table_schema <> 'information_schema' \
                           ORDER BY 1, 2";

/// The same with those of attached databases, whose schemas stand in the place of databases.
const LIST_ALL_TABLES: &str = "SELECT CASE table_catalog WHEN 'lake' THEN table_schema \
                               ELSE table_catalog || '.' || table_schema END AS database, \
                               table_name AS collection \
                               FROM information_schema.tables WHERE table_schema <> 'information_schema' \
                               ORDER BY table_catalog <> 'lake', 1, 2";

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
            .map_err(external)?;
        match opened {
            Some(table) => Ok(Some(table.table_provider().await?)),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table == name)
    }
}
