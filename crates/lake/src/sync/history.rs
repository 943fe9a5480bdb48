//! The table of every version of every document: `<collection>__history`.
//!
//! It is only appended to, one row an event, of a document or of the collection as a whole, and one
//! for each stretch of history that it lacks. Its files are joined in the order of events:
//!
//! | column | content |
//! |---|---|
//! | `_id` | the event's resume token, which sorts as events do |
//! | `operation` | `insert`, `update`, `replace` or `delete`; `drop`, `rename` or `dropDatabase`; `gap` |
//! | `clusterTime`, `ordinal` | the second in which it happened, and its place within it |
//! | `wallTime` | when it happened by the server's wall clock |
//! | `key` | the document's key; null where it is about no document |
//! | `document` | the document after it, where the event itself says it |
//! | `before` | the document before it, where the server keeps it |
//! | `update` | what an update changed, as relaxed Extended JSON |
//! | `transaction` | `session` and `number` of the transaction it was part of |
//! | `details` | of a `rename` the new name, of a `gap` its two ends, as relaxed Extended JSON |
//!
//! The `_id` of a gap is made of the moment that it ends with: it sorts before the events from there
//! on, and behind all others.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tributary_convert::Decoder;
use tributary_convert::extjson::{Mode, write_document};
use tributary_convert::raw::kind;
use tributary_flow::{Change, ChangeBatch, Event, EventKind, Failpoint};
use tributary_model::{
    ClusterTime, Error, ErrorKind, Gap, GapRemedy, Position, Result, TableSchema,
};

use serde_json::json;

use super::table::{blocking, decode, write_file};
use super::upkeep::{Joining, Upkeep};
use super::{SyncOptions, widen};
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
    pub(super) live: LiveTable,
    pub(super) upkeep: Upkeep,
    _lock: Option<Lock>,
}

impl HistoryTable {
    /// Opens the table at `place`, or begins one at `position`.
    pub(super) async fn open(
        place: &Location,
        position: &Position,
        options: Arc<SyncOptions>,
        slots: Arc<Semaphore>,
    ) -> Result<Self> {
        let lock = Lock::of(place)?;
        let mut live = LiveTable::open(place).await?;
        if live.is_none() {
            let kind = [(KIND, HISTORY)];
            table::create(place, &TableSchema::default(), position, &kind).await?;
            Failpoint::HistoryCreated.hit();
            live = LiveTable::open(place).await?;
        }
        let mut live = live.filter(is_history).ok_or_else(|| {
            Error::new(
                ErrorKind::AlreadyExists,
                "the place of the history holds another table",
            )
            .on("table", place)
            .remedy("move that table elsewhere, or sync without --history")
        })?;
        live.follow_manifest().await?;
        if options.symlink_manifest {
            live.enable_manifest().await?;
        }
        let upkeep = Upkeep::open(&live, options, slots, Joining::InOrder).await;
        Ok(Self {
            live,
            upkeep,
            _lock: lock,
        })
    }

    /// How far it has got.
    pub(super) fn position(&self) -> &Position {
        self.live.position()
    }

    /// Goes on with putting the table in order.
    pub(super) async fn go_on(&mut self) {
        self.upkeep.go_on(&mut self.live, None).await;
    }

    /// Puts the table in order.
    pub(super) async fn finish(&mut self) {
        self.upkeep.finish(&mut self.live, None).await;
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
                _ if event.ends_collection() => Some(Ok(row_of_end(event))),
                _ => None,
            })
            .collect::<Result<_>>()?;
        // The table itself may be behind its history: what comes again is nothing new.
        let is_news =
            !rows.is_empty() || batch.changes.is_empty() && !passed.reaches(&batch.position);
        if !is_news {
            return Ok(());
        }
        self.write(rows, &batch.position, None).await
    }

    /// Goes on at `to`, with a row that says that what is before is not known.
    pub(super) async fn skip(
        &mut self,
        from: &Position,
        to: &Position,
        remedy: GapRemedy,
    ) -> Result<()> {
        if self.position().reaches(to) {
            return Ok(());
        }
        let from = from.cluster_time.max(self.position().cluster_time);
        let row = row_of_gap(from, to.cluster_time);
        self.write(vec![row], to, Some((Position::at(from), remedy)))
            .await
    }

    /// The stretches of history that it lacks.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.live.gaps()
    }

    /// Appends rows, by which it reaches `position`: past a gap from there on, where one is given.
    async fn write(
        &mut self,
        rows: Vec<bytes::Bytes>,
        position: &Position,
        gap: Option<(Position, GapRemedy)>,
    ) -> Result<()> {
        let count = rows.len();
        let schema = self.live.schema.clone();
        let decoded = blocking(move || decode(Decoder::new(&schema), &rows)).await??;
        if decoded.known != self.live.schema {
            widen::rewrite_outgrown(&mut self.live, None, &decoded.known).await?;
            self.live.schema = decoded.known.clone();
            self.live.definition.evolve(&decoded.known);
        }
        let file = if count > 0 {
            let (place, known) = (self.live.place.clone(), decoded.known.clone());
            let file = blocking(move || write_file(&place, &known, &decoded.batches)).await??;
            Failpoint::HistoryFileWritten.hit();
            Some(file)
        } else {
            None
        };
        loop {
            let edit = Edit {
                added: file.iter().map(add_action).collect(),
                ..Edit::default()
            };
            let outcome = match &gap {
                Some((from, remedy)) => self.live.skip(edit, from, position, *remedy).await?,
                None => {
                    let parameters = json!({ "appended": count });
                    let position = Some(position.clone());
                    self.live
                        .commit(edit, position, "STREAMING UPDATE", parameters)
                        .await?
                }
            };
            match outcome {
                Outcome::Committed => return Ok(()),
                Outcome::Overtaken(_) if self.live.position().reaches(position) => {
                    return Ok(());
                }
                Outcome::Overtaken(_) => self.live.definition.evolve(&self.live.schema),
            }
        }
    }
}

/// The beginning of a row.
fn row_at(id: &str, operation: &str, time: ClusterTime) -> DocumentWriter {
    let mut row = DocumentWriter::new();
    row.text("_id", id);
    row.text("operation", operation);
    let seconds = i64::from(time.seconds());
    row.element(kind::DATE, "clusterTime", &(seconds * 1000).to_le_bytes());
    row.element(kind::INT32, "ordinal", &time.ordinal().to_le_bytes());
    row
}

/// The row of a gap.
fn row_of_gap(from: ClusterTime, to: ClusterTime) -> bytes::Bytes {
    // Tokens begin with these digits, and go on with greater ones.
    let mut row = row_at(&format!("82{:016X}-gap", to.0), "gap", to);
    let end =
        |time: ClusterTime| json!({ "$timestamp": { "t": time.seconds(), "i": time.ordinal() } });
    row.text(
        "details",
        &json!({ "from": end(from), "to": end(to) }).to_string(),
    );
    row.finish()
}

/// The row of an event of the collection as a whole.
fn row_of_end(event: &Event) -> bytes::Bytes {
    let mut row = row_at(event.token(), event.name(), event.cluster_time);
    row.element(kind::DATE, "wallTime", &event.wall_time.to_le_bytes());
    if let EventKind::Rename { to } = &event.kind {
        let to = json!({ "to": { "db": to.database, "coll": to.collection } });
        row.text("details", &to.to_string());
    }
    row.finish()
}

/// One event as the document that its row is decoded from.
fn row(event: &Event, change: &Change) -> Result<bytes::Bytes> {
    let mut row = row_at(event.token(), event.name(), event.cluster_time);
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
