//! Values that their column cannot hold, kept with their path for `_rescued_data`.

use std::collections::BTreeMap;

use tributary_model::ColumnType;

use crate::decode::scalar::{Observed, observe};
use crate::extjson::{self, Mode};
use crate::raw::{MalformedBson, RawElement};

/// How many paths of values that did not fit a fixed schema are remembered.
const MAX_MISFITS: usize = 200;

/// Where a value stands in what holds it: under its name in a document, or at a place in an array.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    Field,
    Index(u32),
}

/// A step on the way to a nested value.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A field, with the place of its name in [`Rescuer::names`].
    Field {
        start: usize,
        end: usize,
    },
    Index(u32),
}

/// Collects the rescued values of the current row and, row by row, their text.
///
/// A row's text is a JSON array of `{"path": …, "value": …}`, in the order of the document: the
/// path is a JSON Pointer (RFC 6901), the value canonical Extended JSON. It is an array, and not an
/// object by path, because a field name may occur twice.
#[derive(Debug, Default)]
pub(super) struct Rescuer {
    path: Vec<Step>,
    /// The names along the path, one behind the other: nothing is allocated per nested document.
    names: Vec<u8>,
    row: Vec<u8>,
    row_number: usize,
    rows: Vec<(usize, String)>,
    count: u64,
    /// What does not fit its column is rescued, instead of making the column wider.
    pub(super) keeps_schema: bool,
    /// Where values did not fit the schema that is kept, and the types that they have.
    misfits: BTreeMap<String, ColumnType>,
}

impl Rescuer {
    /// One for columns that are not to become wider.
    pub(super) fn keeping_schema() -> Self {
        Self {
            keeps_schema: true,
            ..Self::default()
        }
    }

    /// Enters the document or array that `element` holds.
    #[inline]
    pub(super) fn enter(&mut self, element: &RawElement<'_>, at: At) {
        self.path.push(match at {
            At::Field => {
                let start = self.names.len();
                self.names.extend_from_slice(element.name);
                Step::Field {
                    start,
                    end: self.names.len(),
                }
            }
            At::Index(index) => Step::Index(index),
        });
    }

    /// Leaves what was entered last.
    #[inline]
    pub(super) fn leave(&mut self) {
        if let Some(Step::Field { start, .. }) = self.path.pop() {
            self.names.truncate(start);
        }
    }

    /// Keeps `element`, for which the schema has no room.
    #[cold]
    pub(super) fn refuse(&mut self, element: &RawElement<'_>, at: At) -> Result<(), MalformedBson> {
        if self.keeps_schema
            && let Observed::Type(observed) = observe(element)?
        {
            let path = self.pattern(element, at);
            let has_room = self.misfits.len() < MAX_MISFITS;
            match self.misfits.get_mut(&path) {
                Some(known) => *known = known.join(&observed),
                None if has_room => drop(self.misfits.insert(path, observed)),
                None => {}
            }
        }
        self.rescue(element, at)
    }

    /// The path of `element`, with `*` for places in arrays.
    fn pattern(&self, element: &RawElement<'_>, at: At) -> String {
        let mut pattern = String::new();
        for step in &self.path {
            match *step {
                Step::Field { start, end } => push_step(&mut pattern, &self.names[start..end]),
                Step::Index(_) => push_step(&mut pattern, b"*"),
            }
        }
        match at {
            At::Field => push_step(&mut pattern, element.name),
            At::Index(_) => push_step(&mut pattern, b"*"),
        }
        pattern
    }

    /// What has been refused since the last call.
    pub(super) fn take_misfits(&mut self) -> BTreeMap<String, ColumnType> {
        std::mem::take(&mut self.misfits)
    }

    /// Keeps `element`.
    #[cold]
    pub(super) fn rescue(&mut self, element: &RawElement<'_>, at: At) -> Result<(), MalformedBson> {
        self.row
            .extend_from_slice(if self.row.is_empty() { b"[" } else { b"," });
        self.row.extend_from_slice(b"{\"path\":");
        let mut pointer = String::new();
        for step in &self.path {
            match *step {
                Step::Field { start, end } => push_step(&mut pointer, &self.names[start..end]),
                Step::Index(index) => push_step(&mut pointer, index.to_string().as_bytes()),
            }
        }
        match at {
            At::Field => push_step(&mut pointer, element.name),
            At::Index(index) => push_step(&mut pointer, index.to_string().as_bytes()),
        }
        self.row
            .extend_from_slice(serde_json::Value::from(pointer).to_string().as_bytes());
        self.row.extend_from_slice(b",\"value\":");
        extjson::write_value(&mut self.row, element, Mode::Canonical)?;
        self.row.push(b'}');
        self.count += 1;
        Ok(())
    }

    #[inline]
    pub(super) fn end_row(&mut self) {
        if !self.row.is_empty() {
            self.row.push(b']');
            let text = String::from_utf8_lossy(&self.row).into_owned();
            self.rows.push((self.row_number, text));
            self.row.clear();
        }
        self.row_number += 1;
    }

    /// The text of each of `rows` rows, and how many values were rescued in them.
    pub(super) fn finish(&mut self, rows: usize) -> (Vec<Option<String>>, u64) {
        let mut texts = vec![None; rows];
        for (row, text) in self.rows.drain(..) {
            if let Some(place) = texts.get_mut(row) {
                *place = Some(text);
            }
        }
        self.row_number = 0;
        (texts, std::mem::take(&mut self.count))
    }
}

fn push_step(pointer: &mut String, step: &[u8]) {
    pointer.push('/');
    for c in String::from_utf8_lossy(step).chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}
