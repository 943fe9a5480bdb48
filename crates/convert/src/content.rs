//! What a document says, as sixteen bytes: the same for a document and for the row that a table has
//! of it, whatever types the table's columns have had to take.
//!
//! A document is taken as a set of facts, each a path and what stands there: a value, a document,
//! an array of so many items. A [`Content`] is the xxh3-128 hash of the sum of the facts' hashes, so
//! the order of fields does not count. What a table does not tell apart makes no difference either:
//!
//! - a null field is a missing one;
//! - numbers that are equal are the same, of whatever type (a column widens, text has no int32), and
//!   so is NaN and NaN; but a double's two zeros are told apart;
//! - a rescued value is a fact at its path, so it does not matter whether a value stands in its
//!   column or in `_rescued_data`;
//! - a document that has the form of an Extended JSON type wrapper is that type, as a column of text
//!   has it.

use arrow::array::{Array, StringArray};
use arrow::record_batch::RecordBatch;
use tributary_model::TableSchema;
use xxhash_rust::xxh3::xxh3_128;

use crate::encode::{EncodeError, Encoder, ValueEncoder};
use crate::extjson::{self, MAX_DEPTH, Mode};
use crate::key::{self, KEY_PATH, Key, each_rescued};
use crate::raw::{MalformedBson, RawElement, RawElements, kind};

/// What stands at a path that is no value of a type of its own; BSON types are below and above.
mod tag {
    /// The double -0.
    pub(super) const NEGATIVE_ZERO: u8 = 0xE0;
    /// A row that cannot be read.
    pub(super) const UNREADABLE: u8 = 0xE1;
}

/// The step from code to its scope: no field has such a name.
const SCOPE: &[u8] = b"/\0";

/// What a document says: equal for documents, and rows of tables, that say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content(pub u128);

impl Content {
    /// The content of a document.
    ///
    /// # Errors
    /// The bytes are not BSON.
    pub fn of_document(document: &[u8]) -> Result<Self, MalformedBson> {
        let mut facts = Facts::default();
        facts.add_fields(document, 1)?;
        Ok(facts.content())
    }
}

/// Reads the contents of a batch's rows, and their `_id`s.
pub struct RowReader<'a> {
    encoder: Encoder<'a>,
    id: Option<ValueEncoder<'a>>,
    rescued: Option<&'a StringArray>,
    document: Vec<u8>,
}

impl<'a> RowReader<'a> {
    /// A reader of `batch`, whose first columns are those of the settled `schema` in their order;
    /// `rescued` are the rows' `_rescued_data`.
    ///
    /// # Errors
    /// A column of the batch is not of the type the schema says.
    pub fn new(
        schema: &'a TableSchema,
        batch: &'a RecordBatch,
        rescued: Option<&'a StringArray>,
    ) -> Result<Self, EncodeError> {
        let id = schema
            .columns
            .iter()
            .zip(batch.columns())
            .find(|(column, _)| column.field == "_id")
            .map(|(column, array)| ValueEncoder::new(&column.column_type, array))
            .transpose()?;
        Ok(Self {
            encoder: Encoder::new(schema, batch)?,
            id,
            rescued,
            document: Vec::new(),
        })
    }

    /// The content of a row. One that is no document, because another program has written it, has
    /// a content that no document has.
    pub fn content(&mut self, row: usize) -> Content {
        let mut facts = Facts::default();
        if let Err(error) = self.add_row(row, &mut facts) {
            facts = Facts::default();
            facts.add(tag::UNREADABLE, error.to_string().as_bytes());
        }
        facts.content()
    }

    fn add_row(&mut self, row: usize, facts: &mut Facts) -> Result<(), EncodeError> {
        self.document.clear();
        self.encoder.document(row, &mut self.document)?;
        facts.add_fields(&self.document, 1)?;
        let Some(rescued) = self.rescued_in(row) else {
            return Ok(());
        };
        each_rescued(rescued, |path, value| {
            facts.path.clear();
            facts.path.extend_from_slice(path);
            Ok(facts.add_value(value, 1)?)
        })
    }

    /// The document `{"_id": …}` of a row's key.
    ///
    /// # Errors
    /// Text that should be Extended JSON is not.
    pub fn id(&self, row: usize) -> Result<Vec<u8>, EncodeError> {
        let mut value = Vec::new();
        if let Some(column) = &self.id
            && let Some(kind) = column.value(row, &mut value)?
        {
            return Ok(id_document(kind, &value));
        }
        let mut id = None;
        if let Some(rescued) = self.rescued_in(row) {
            each_rescued(rescued, |path, value| {
                if path == KEY_PATH && id.is_none() {
                    id = Some(id_document(value.kind, value.value));
                }
                Ok(())
            })?;
        }
        Ok(id.unwrap_or_else(|| id_document(kind::NULL, &[])))
    }

    fn rescued_in(&self, row: usize) -> Option<&'a str> {
        let rescued = self.rescued?;
        (row < rescued.len() && rescued.is_valid(row)).then(|| rescued.value(row))
    }
}

/// The document `{"_id": …}` of a document's key, as [`Key::of_document`] takes it.
///
/// # Errors
/// The document is not BSON up to its `_id`.
pub fn id_of_document(document: &[u8]) -> Result<Vec<u8>, MalformedBson> {
    for element in RawElements::new(document)? {
        let element = element?;
        if element.name == b"_id" && element.kind != kind::NULL {
            return Ok(id_document(element.kind, element.value));
        }
    }
    Ok(id_document(kind::NULL, &[]))
}

fn id_document(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = 4 + 1 + 4 + value.len() + 1;
    let mut document = Vec::with_capacity(length);
    // No BSON document reaches 2 GiB.
    document.extend_from_slice(&(length as u32).to_le_bytes());
    document.push(kind);
    document.extend_from_slice(b"_id\0");
    document.extend_from_slice(value);
    document.push(0);
    document
}

/// The key and the content of a raw document.
///
/// # Errors
/// The bytes are not BSON.
pub fn identify(document: &[u8]) -> Result<(Key, Content), MalformedBson> {
    Ok((Key::of_document(document)?, Content::of_document(document)?))
}

/// The facts of one document.
#[derive(Default)]
struct Facts {
    /// A JSON Pointer, as rescued values have it.
    path: Vec<u8>,
    fact: Vec<u8>,
    sum: u128,
    count: u64,
}

impl Facts {
    /// One hash of the whole: were the documents' sums added up themselves, two that have changed
    /// their values with one another would not be noticed.
    fn content(&self) -> Content {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.sum.to_le_bytes());
        bytes[16..].copy_from_slice(&self.count.to_le_bytes());
        Content(xxh3_128(&bytes))
    }

    fn add(&mut self, tag: u8, value: &[u8]) {
        self.begin();
        self.fact.push(tag);
        self.fact.extend_from_slice(value);
        self.end();
    }

    /// Begins a fact with its path and the path's length, so that it is told from what follows.
    fn begin(&mut self) {
        self.fact.clear();
        self.fact
            .extend_from_slice(&(self.path.len() as u64).to_le_bytes());
        self.fact.extend_from_slice(&self.path);
    }

    fn end(&mut self) {
        self.sum = self.sum.wrapping_add(xxh3_128(&self.fact));
        self.count += 1;
    }

    fn add_fields(&mut self, document: &[u8], depth: usize) -> Result<(), MalformedBson> {
        let length = self.path.len();
        for element in RawElements::new(document)? {
            let element = element?;
            if element.kind == kind::NULL {
                continue;
            }
            push_name(&mut self.path, element.name);
            let added = self.add_value(&element, depth);
            self.path.truncate(length);
            added.map_err(|error| error.seen_from(document, element.value))?;
        }
        Ok(())
    }

    fn add_items(&mut self, array: &[u8], depth: usize) -> Result<u64, MalformedBson> {
        let length = self.path.len();
        let mut count = 0_u64;
        let mut digits = itoa::Buffer::new();
        for element in RawElements::new(array)? {
            let element = element?;
            if element.kind != kind::NULL {
                self.path.push(b'/');
                self.path.extend_from_slice(digits.format(count).as_bytes());
                let added = self.add_value(&element, depth);
                self.path.truncate(length);
                added.map_err(|error| error.seen_from(array, element.value))?;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Adds the value at the path; `depth` is the level of what holds it.
    fn add_value(&mut self, element: &RawElement<'_>, depth: usize) -> Result<(), MalformedBson> {
        if depth > MAX_DEPTH {
            return Err(MalformedBson::new(0, "nested too deeply"));
        }
        match element.kind {
            kind::NULL => {}
            kind::DOCUMENT => {
                let body = element.as_document()?;
                if let Some((kind, value)) = wrapped(element, body) {
                    let read = RawElement {
                        kind,
                        name: element.name,
                        value: &value,
                    };
                    return self.add_value(&read, depth + 1);
                }
                self.add(kind::DOCUMENT, &[]);
                self.add_fields(body, depth + 1)?;
            }
            kind::ARRAY => {
                let count = self.add_items(element.as_document()?, depth + 1)?;
                self.add(kind::ARRAY, &count.to_le_bytes());
            }
            kind::CODE_WITH_SCOPE => {
                let (code, scope) = element.as_code_with_scope()?;
                self.add(kind::CODE_WITH_SCOPE, code);
                let length = self.path.len();
                self.path.extend_from_slice(SCOPE);
                let added = self.add_fields(scope, depth + 1);
                self.path.truncate(length);
                added?;
            }
            kind::SYMBOL => self.add(kind::SYMBOL, element.as_string_bytes()?),
            kind::DOUBLE if element.as_f64()?.to_bits() == (-0.0_f64).to_bits() => {
                self.add(tag::NEGATIVE_ZERO, &[]);
            }
            _ => {
                self.begin();
                key::write(element, 1, &mut self.fact)?;
                self.end();
            }
        }
        Ok(())
    }
}

/// What a document is read as when it has been written as text, where that is not a document.
fn wrapped(element: &RawElement<'_>, body: &[u8]) -> Option<(u8, Vec<u8>)> {
    let first = RawElements::new(body).ok()?.next()?.ok()?;
    if !extjson::is_wrapper_key(first.name) {
        return None;
    }
    let mut text = Vec::new();
    extjson::write_value(&mut text, element, Mode::Relaxed).ok()?;
    let read = extjson::parse_value(std::str::from_utf8(&text).ok()?).ok()?;
    (read.kind != kind::DOCUMENT).then_some((read.kind, read.value))
}

/// Appends a step to a JSON Pointer.
fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    path.push(b'/');
    let plain = name
        .iter()
        .all(|b| b.is_ascii() && !matches!(b, b'~' | b'/'));
    if plain {
        path.extend_from_slice(name);
        return;
    }
    for c in String::from_utf8_lossy(name).chars() {
        match c {
            '~' => path.extend_from_slice(b"~0"),
            '/' => path.extend_from_slice(b"~1"),
            c => path.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
