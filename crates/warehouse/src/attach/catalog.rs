//! What a database says of its tables and their columns.

use tributary_flow::AttachedName;

use super::column::{Column, Read};
use crate::client::Server;
use crate::names::literal;

/// A row of a short answer.
type Row = Vec<Option<String>>;

/// The statement that lists schemas and tables.
pub(super) fn tables(server: Server) -> String {
    let statement = match server {
        Server::Postgres => {
            "SELECT n.nspname, c.relname \
             FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
             ORDER BY 1, 2"
        }
        Server::Redshift => {
            "SELECT table_schema, table_name FROM svv_tables \
             WHERE table_schema <> 'information_schema' AND table_schema !~ '^pg_' \
             ORDER BY 1, 2"
        }
    };
    statement.to_owned()
}

/// The name in one row of that answer.
pub(super) fn name(row: Row) -> Option<AttachedName> {
    let mut row = row.into_iter();
    Some(AttachedName {
        schema: row.next()??,
        table: row.next()??,
    })
}

/// The statement that describes a table: about how many rows it has, and of each column its name, its
/// type, the digits of a `numeric` in all and behind the point, and whether its texts are equal by their
/// bytes alone.
pub(super) fn columns(server: Server, name: &AttachedName) -> String {
    let (schema, table) = (literal(&name.schema), literal(&name.table));
    match server {
        // A domain has the values of the type below it, and says itself how large they are.
        Server::Postgres => format!(
            "SELECT c.reltuples::bigint, a.attname, pg_catalog.format_type(a.type, NULL), \
             CASE WHEN a.typmod >= 4 THEN ((a.typmod - 4) >> 16) & 65535 END, \
             CASE WHEN a.typmod >= 4 THEN (((a.typmod - 4) & 2047) # 1024) - 1024 END, \
             l.collisdeterministic \
             FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN (\
             SELECT a.attrelid, a.attnum, a.attname, a.attcollation, \
             CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END AS type, \
             CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END AS typmod \
             FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             WHERE a.attnum > 0 AND NOT a.attisdropped) a ON a.attrelid = c.oid \
             LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
             WHERE n.nspname = {schema} AND c.relname = {table} \
             AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             ORDER BY a.attnum"
        ),
        // The view knows external tables and views without schema binding too. Columns may be said to
        // compare without case, so that texts are not equal by their bytes alone.
        Server::Redshift => format!(
            "SELECT NULL, column_name, data_type, numeric_precision, numeric_scale, NULL \
             FROM svv_columns WHERE table_schema = {schema} AND table_name = {table} \
             ORDER BY ordinal_position"
        ),
    }
}

/// What such an answer says; none where there is no such table.
pub(super) fn described(rows: Vec<Row>) -> Option<(Option<u64>, Vec<Column>)> {
    let estimate = rows.first()?.first()?.as_deref();
    // A table that has not been looked through yet says less than one.
    let rows_known = estimate
        .and_then(|text| text.parse().ok())
        .filter(|rows| *rows > 0);
    let columns = rows.into_iter().filter_map(column).collect();
    Some((rows_known, columns))
}

fn column(row: Row) -> Option<Column> {
    let [_, name, type_name, precision, scale, deterministic] = <[_; 6]>::try_from(row).ok()?;
    let (name, type_name) = (name?, type_name?);
    let digits = |text: Option<String>| text?.parse().ok();
    let size = digits(precision).zip(digits(scale));
    Some(Column {
        read: Read::of(&type_name, size),
        // The blanks behind a `character` do not count, and a `name` is cut off.
        equal_by_bytes: matches!(type_name.as_str(), "text" | "character varying")
            && deterministic.as_deref() == Some("t"),
        name,
    })
}
