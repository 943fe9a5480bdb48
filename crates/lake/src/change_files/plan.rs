//! Which files a batch of events becomes.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use tributary_convert::event;
use tributary_convert::extjson::{Mode, write_document};
use tributary_flow::RawEvent;
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Result};

/// How large a file gets before the next one is begun, before it is compressed.
const FILE_BYTES: usize = 16 << 20;

/// How events are laid out in files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) mode: Mode,
    pub(super) gzip: bool,
    pub(super) events_per_file: usize,
}

impl Layout {
    fn extension(self) -> &'static str {
        match (self.events_per_file, self.gzip) {
            (1, false) => "json",
            (1, true) => "json.gz",
            (_, false) => "jsonl",
            (_, true) => "jsonl.gz",
        }
    }
}

/// The moment of the last event that is in a file, and how many events of that moment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moment {
    pub(super) cluster_time: ClusterTime,
    pub(super) events: u64,
}

impl Moment {
    /// Behind one more event of `at`; answers its number among those of the same moment, from 0.
    fn advance(&mut self, at: ClusterTime) -> u64 {
        if self.cluster_time != at {
            *self = Self {
                cluster_time: at,
                events: 0,
            };
        }
        self.events += 1;
        self.events - 1
    }
}

/// Where a file is below the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileName {
    pub(super) database: String,
    /// None for what is about the whole database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) collection: Option<String>,
    pub(super) name: String,
}

impl FileName {
    pub(super) fn namespace(&self) -> Namespace {
        Namespace::new(
            self.database.as_str(),
            self.collection.as_deref().unwrap_or_default(),
        )
    }
}

/// A file that is to be written.
#[derive(Debug)]
pub(super) struct PlannedFile {
    pub(super) name: FileName,
    pub(super) content: Vec<u8>,
    /// Events in it without some of their fields.
    pub(super) reduced: u64,
}

/// Files that are to be written together.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) files: Vec<PlannedFile>,
    /// The moment that they reach.
    pub(super) moment: Moment,
}

/// A file that is being filled.
struct Open {
    name: FileName,
    lines: Vec<u8>,
    events: usize,
    reduced: u64,
}

/// The files of the batch of this number, which comes behind `moment`.
pub(super) fn plan(
    events: &[RawEvent],
    batch: u64,
    mut moment: Moment,
    layout: Layout,
) -> Result<Planned> {
    let mut files = Vec::new();
    let mut open: HashMap<(&str, Option<&str>), Open> = HashMap::new();
    for event in events {
        let number = moment.advance(event.cluster_time);
        let of = (event.database.as_str(), event.collection.as_deref());
        let file = open.entry(of).or_insert_with(|| Open {
            name: FileName {
                database: event.database.clone(),
                collection: event.collection.clone(),
                name: name(event, number, batch, layout),
            },
            lines: Vec::new(),
            events: 0,
            reduced: 0,
        });
        push_line(&mut file.lines, event, layout.mode)?;
        file.events += 1;
        file.reduced += u64::from(event.is_reduced);
        let is_full = file.events >= layout.events_per_file || file.lines.len() >= FILE_BYTES;
        if is_full && let Some(file) = open.remove(&of) {
            files.push(closed(file, layout)?);
        }
    }
    for file in open.into_values() {
        files.push(closed(file, layout)?);
    }
    files.sort_by(|one, other| one.name.name.cmp(&other.name.name));
    Ok(Planned { files, moment })
}

/// Sorts as the events do. The number tells those of one moment apart, such as those of a transaction; the batch
/// those of different writers.
fn name(event: &RawEvent, number: u64, batch: u64, layout: Layout) -> String {
    format!(
        "{:010}-{:010}-{number:08}-{batch:013}.{}",
        event.cluster_time.seconds(),
        event.cluster_time.ordinal(),
        layout.extension(),
    )
}

fn push_line(lines: &mut Vec<u8>, event: &RawEvent, mode: Mode) -> Result<()> {
    let document = &event.document;
    let written = match event.is_reduced {
        false => write_document(lines, document, mode),
        true => event::lacking(document)
            .and_then(|names| event::without(document, &names))
            .and_then(|marked| write_document(lines, &marked, mode)),
    };
    written.map_err(|error| {
        Error::new(ErrorKind::InvalidData, "an event cannot be read")
            .on("namespace", event.namespace())
            .on("clusterTime", event.cluster_time)
            .because(error)
    })?;
    lines.push(b'\n');
    Ok(())
}

fn closed(file: Open, layout: Layout) -> Result<PlannedFile> {
    let content = match layout.gzip {
        false => file.lines,
        true => compressed(&file.lines).map_err(|error| {
            Error::new(ErrorKind::Internal, "a file cannot be compressed").because(error)
        })?,
    };
    Ok(PlannedFile {
        name: file.name,
        content,
        reduced: file.reduced,
    })
}

/// The same bytes for the same lines: the header has no time.
fn compressed(lines: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::default());
    out.write_all(lines)?;
    out.finish()
}
