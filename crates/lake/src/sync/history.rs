//! The table of every version of every document: `<collection>__history`.
//!
//! It is only appended to, one row an event:
//!
//! | column | content |
//! |---|---|
//! | `_id` | the event's resume token, which sorts as events do |
//! | `operation` | `insert`, `update`, `replace` or `delete` |
//! | `clusterTime`, `ordinal` | the second in which it happened, and its place within it |
//! | `wallTime` | when it happened by the server's wall clock |
//! | `key` | the document's key |
//! | `document` | the document after it, where the event itself says it |
//! | `before` | the document before it, where the server keeps it |
//! | `update` | what an update changed, as relaxed Extended JSON |
//! | `transaction` | `session` and `number` of the transaction it was part of |

use tributary_convert::extjson::{Mode, write_document};
use tributary_convert::raw::kind;
use tributary_flow::{Change, ChangeBatch, Event, EventKind};
use tributary_model::{Error, ErrorKind, Position, Result, TableSchema};

use serde_json::json;

use super::table::{blocking, decode, write_file};
use super::widen;
use crate::delta::follow::{Edit, LiveTable, Outcome};
use crate::delta::table::{self, add_action};
use crate::load::state::Lock;
use crate::location::Location;

/// The property that tells such a table from one that shows a collection as it is.
const KIND: &str = "tributary.table";
const HISTORY: &str = "history";

/// Whether a table is one of these.
pub(super) fn is_history(table: &LiveTable) -> bool {
    table.definition.property(KIND) == Some(HISTORY)
}

/// The history of one collection.
pub(super) struct HistoryTable {
    live: LiveTable,
    _lock: Option<Lock>,
}

impl HistoryTable {
    /// Opens the table at `place`, or begins one at `position`.
    pub(super) async fn open(place: &Location, position: &Position) -> Result<Self> {
        let lock = Lock::of(place)?;
        let mut live = LiveTable::open(place).await?;
        if live.is_none() {
            let kind = [(KIND, HISTORY)];
            table::create(place, &TableSchema::default(), position, &kind).await?;
            live = LiveTable::open(place).await?;
        }
        let live = live.filter(is_history).ok_or_else(|| {
            Error::new(
                ErrorKind::AlreadyExists,
                "the place of the history holds another table",
            )
            .on("table", place)
            .remedy("move that table elsewhere, or sync without --history")
        })?;
        Ok(Self { live, _lock: lock })
    }

    /// How far it has got.
    pub(super) fn position(&self) -> &Position {
        self.live.position()
    }

    /// Appends the events that it does not have yet.
    pub(super) async fn append(&mut self, batch: &ChangeBatch) -> Result<()> {
        let passed = self.live.position();
        let rows: Vec<bytes::Bytes> = batch
            .changes
            .iter()
            .filter(|event| !passed.has_passed(event.token(), event.cluster_time))
            .filter_map(|event| match &event.kind {
                EventKind::Change(change) => Some(row(event, change)),
                _ => None,
            })
            .collect::<Result<_>>()?;
        if rows.is_empty() && !batch.changes.is_empty() {
            return Ok(());
        }
        let count = rows.len();
        let schema = self.live.schema.clone();
        let decoded = blocking(move || decode(&schema, &rows)).await??;
        if decoded.known != self.live.schema {
            widen::rewrite_outgrown(&mut self.live, None, &decoded.known).await?;
            self.live.schema = decoded.known.clone();
            self.live.definition.set_schema(&decoded.known);
        }
        let file = if count > 0 {
            let (place, known) = (self.live.place.clone(), decoded.known.clone());
            Some(blocking(move || write_file(&place, &known, decoded.batches)).await??)
        } else {
            None
        };
        loop {
            let edit = Edit {
                added: file.iter().map(add_action).collect(),
                ..Edit::default()
            };
            let position = Some(batch.position.clone());
            let parameters = json!({ "appended": count });
            let outcome = self
                .live
                .commit(edit, position, "STREAMING UPDATE", parameters)
                .await?;
            match outcome {
                Outcome::Committed => return Ok(()),
                Outcome::Overtaken(_) if self.live.position().reaches(&batch.position) => {
                    return Ok(());
                }
                Outcome::Overtaken(_) => self.live.definition.set_schema(&self.live.schema),
            }
        }
    }
}

/// One event as the document that its row is decoded from.
fn row(event: &Event, change: &Change) -> Result<bytes::Bytes> {
    let mut row = DocumentWriter::new();
    row.text("_id", event.token());
    row.text("operation", change.operation.name());
    let seconds = i64::from(event.cluster_time.seconds());
    row.element(kind::DATE, "clusterTime", &(seconds * 1000).to_le_bytes());
    let ordinal = event.cluster_time.ordinal();
    row.element(kind::INT32, "ordinal", &ordinal.to_le_bytes());
    row.element(kind::DATE, "wallTime", &event.wall_time.to_le_bytes());
    row.element(kind::DOCUMENT, "key", &change.key);
    if let (Some(document), false) = (&change.document, change.looked_up) {
        row.element(kind::DOCUMENT, "document", document);
    }
    if let Some(before) = &change.before {
        row.element(kind::DOCUMENT, "before", before);
    }
    if let Some(update) = &change.update {
        let mut text = Vec::new();
        write_document(&mut text, update, Mode::Relaxed).map_err(|error| {
            Error::new(
                ErrorKind::InvalidData,
                "the description of an update is not BSON",
            )
            .because(error)
        })?;
        row.element_text("update", &text);
    }
    if let Some(transaction) = &change.transaction {
        let mut inner = DocumentWriter::new();
        inner.element(kind::DOCUMENT, "session", &transaction.session);
        inner.element(kind::INT64, "number", &transaction.number.to_le_bytes());
        row.element(kind::DOCUMENT, "transaction", &inner.finish());
    }
    Ok(row.finish())
}

/// A BSON document being put together.
struct DocumentWriter {
    bytes: Vec<u8>,
}

impl DocumentWriter {
    fn new() -> Self {
        Self { bytes: vec![0; 4] }
    }

    fn element(&mut self, kind: u8, name: &str, value: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.bytes.extend_from_slice(value);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.element_text(name, text.as_bytes());
    }

    fn element_text(&mut self, name: &str, text: &[u8]) {
        // Texts come from documents, which are smaller than 2 GiB by far.
        let length = u32::try_from(text.len() + 1).unwrap_or(u32::MAX);
        self.element(kind::STRING, name, &length.to_le_bytes());
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
    }

    fn finish(mut self) -> bytes::Bytes {
        self.bytes.push(0);
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.bytes.into()
    }
}
