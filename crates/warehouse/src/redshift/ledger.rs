//! The ledger in Redshift: a row for each commit of a table, of which the last counts.
//!
//! Transactions only ever append to it, and read it over another connection: those of other tables,
//! which run at the same time, would otherwise be in conflict with them, because Redshift tells
//! conflicts by tables, not by rows.

use tokio_postgres::{
    Client, Error, GenericClient, SimpleQueryMessage, SimpleQueryRow, Transaction,
};
use tributary_flow::TableVersion;

use super::literal;
use super::types::{MAX_TEXT, RsType};
use crate::ledger::Entry;
use crate::names::TableName;

const CREATE: &str = "\
CREATE TABLE IF NOT EXISTS \"tributary\".\"ledger\" (\
\"table_schema\" varchar(127) NOT NULL, \
\"table_name\" varchar(127) NOT NULL, \
\"sequence\" bigint NOT NULL, \
\"part\" integer NOT NULL, \
\"collection\" varchar(1024) NOT NULL, \
\"source\" varchar(4096) NOT NULL, \
\"source_table\" varchar(256) NOT NULL, \
\"version\" bigint NOT NULL, \
\"definition\" varchar(65535) NOT NULL, \
\"updated_at\" timestamp with time zone NOT NULL DEFAULT getdate()) \
DISTSTYLE ALL SORTKEY (\"table_schema\", \"table_name\", \"sequence\")";

/// How many commits a table keeps in the ledger until the earlier ones are removed.
const KEPT: u64 = 32;

/// Makes the ledger where there is none.
pub(super) async fn create(client: &Client) -> Result<(), Error> {
    let there = "SELECT column_name FROM svv_columns \
                 WHERE table_schema = 'tributary' AND table_name = 'ledger'";
    if !rows(client, there).await?.is_empty() {
        return Ok(());
    }
    client
        .batch_execute("CREATE SCHEMA IF NOT EXISTS \"tributary\"")
        .await?;
    client.batch_execute(CREATE).await
}

/// Which collections have a table.
pub(super) async fn known(client: &Client) -> Result<Vec<(String, TableName)>, Error> {
    let all = "SELECT DISTINCT \"collection\", \"table_schema\", \"table_name\" \
               FROM \"tributary\".\"ledger\"";
    let known = rows(client, all).await?;
    let known = known.iter().map(|row| {
        let (schema, name) = (text(row, 1), text(row, 2));
        (text(row, 0), TableName { schema, name })
    });
    Ok(known.collect())
}

/// What is said of a table.
pub(super) async fn read(
    client: &Client,
    table: &TableName,
) -> Result<Option<Entry<RsType>>, Error> {
    let query = format!(
        "SELECT \"sequence\", \"collection\", \"source\", \"source_table\", \"version\", \
         \"definition\" FROM \"tributary\".\"ledger\" WHERE {} \
         ORDER BY \"sequence\" DESC, \"part\"",
        of(table)
    );
    let found = rows(client, &query).await?;
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let sequence = text(first, 0);
    let parts = found.iter().take_while(|row| text(row, 0) == sequence);
    let definition: String = parts.map(|row| text(row, 5)).collect();
    // One that this program has not written is as good as none.
    let Ok(definition) = serde_json::from_str(&definition) else {
        return Ok(None);
    };
    Ok(Some(Entry {
        sequence: sequence.parse().unwrap_or_default(),
        collection: text(first, 1),
        source: text(first, 2),
        reached: TableVersion {
            table: text(first, 3),
            version: text(first, 4).parse().unwrap_or_default(),
        },
        definition,
    }))
}

/// Writes what is true when the transaction is committed.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    table: &TableName,
    entry: &Entry<RsType>,
) -> Result<(), Error> {
    // It has nothing in it that JSON has not.
    let definition = serde_json::to_string(&entry.definition).unwrap_or_default();
    let parts: Vec<String> = cut(&definition, MAX_TEXT)
        .enumerate()
        .map(|(part, definition)| {
            format!(
                "({}, {}, {}, {part}, {}, {}, {}, {}, {})",
                literal(&table.schema),
                literal(&table.name),
                entry.sequence,
                literal(&entry.collection),
                literal(&entry.source),
                literal(&entry.reached.table),
                entry.reached.version,
                literal(definition),
            )
        })
        .collect();
    let insert = format!(
        "INSERT INTO \"tributary\".\"ledger\" (\"table_schema\", \"table_name\", \"sequence\", \
         \"part\", \"collection\", \"source\", \"source_table\", \"version\", \"definition\") \
         VALUES {}",
        parts.join(", ")
    );
    transaction.batch_execute(&insert).await
}

/// Removes what has been said earlier, now and then. Where that fails, others are at it, and it is
/// done another time.
pub(super) async fn tidy(client: &Client, table: &TableName, sequence: u64) {
    if sequence.is_multiple_of(KEPT) {
        let delete = format!(
            "DELETE FROM \"tributary\".\"ledger\" WHERE {} AND \"sequence\" < {sequence}",
            of(table)
        );
        let _ = client.batch_execute(&delete).await;
    }
}

fn of(table: &TableName) -> String {
    format!(
        "\"table_schema\" = {} AND \"table_name\" = {}",
        literal(&table.schema),
        literal(&table.name)
    )
}

/// What a query answers. It is sent as one message of text, for which no types have to be looked
/// up in catalogs that Redshift does not have.
pub(super) async fn rows<C: GenericClient + Sync>(
    client: &C,
    query: &str,
) -> Result<Vec<SimpleQueryRow>, Error> {
    let answer = client.simple_query(query).await?;
    let rows = answer.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}

/// A column of an answer; empty for null.
pub(super) fn text(row: &SimpleQueryRow, column: usize) -> String {
    row.try_get(column)
        .ok()
        .flatten()
        .unwrap_or_default()
        .to_owned()
}

/// A text in pieces of at most so many bytes, at least one.
pub(super) fn cut(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut end = text.len().min(bytes);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, more) = text.split_at(end);
        rest = (!more.is_empty()).then_some(more);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("", 4).collect::<Vec<_>>(), [""]);
        assert_eq!(cut("abcd", 4).collect::<Vec<_>>(), ["abcd"]);
        assert_eq!(cut("aääb", 4).collect::<Vec<_>>(), ["aä", "äb"]);
    }
}
