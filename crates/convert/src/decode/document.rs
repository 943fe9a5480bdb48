//! The columns of a document's fields, matched by the order in which they came before.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use tributary_model::schema::{self, ColumnType, MAX_FIELDS};

use super::column::{Column, Place};
use super::rescue::{At, Rescuer};
use super::scalar::{Observed, observe};
use crate::arrow_schema::Naming;
use crate::raw::{MalformedBson, RawElement, RawElements, kind};

/// How far ahead of the expected slot a field is looked for before its name is hashed: documents
/// mostly leave out a few fields, seldom many.
const LOOK_AHEAD: usize = 8;

#[derive(Debug)]
struct Slot {
    name: Box<str>,
    column: Column,
    /// The slot that followed this one the last time it had to be searched.
    next: usize,
}

/// Growing columns for the fields of documents, one row a document.
///
/// A slot's column may have fewer rows than the document has: what is missing at the end is null
/// and filled in when the next value arrives, so an absent field costs nothing.
#[derive(Debug)]
pub(super) struct DocumentColumn {
    slots: Vec<Slot>,
    /// Slots by name; the map is asked only when a field is not where it was expected.
    by_name: HashMap<Box<str>, usize>,
    /// Slots in the order of their columns: a new field stands behind the one it followed.
    order: Vec<usize>,
    first: usize,
    rows: usize,
    place: Place,
}

impl DocumentColumn {
    pub(super) fn from_columns(columns: &[schema::Column], place: Place) -> Self {
        let mut this = Self {
            slots: Vec::with_capacity(columns.len()),
            by_name: HashMap::with_capacity(columns.len()),
            order: Vec::with_capacity(columns.len()),
            first: 0,
            rows: 0,
            place,
        };
        for column in columns {
            let inner =
                Column::from_type(&column.column_type, place.of_field(column.field.as_bytes()));
            let slot = this.add_slot(&column.field, inner);
            this.order.push(slot);
        }
        this
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn has_too_many_fields(&self) -> bool {
        self.slots.len() > MAX_FIELDS
    }

    pub(super) fn schema(&self) -> Vec<schema::Column> {
        self.order
            .iter()
            .map(|&i| schema::Column::new(&*self.slots[i].name, self.slots[i].column.column_type()))
            .collect()
    }

    pub(super) fn append_nulls(&mut self, count: usize) {
        self.rows += count;
    }

    #[inline]
    pub(super) fn append(
        &mut self,
        document: &[u8],
        rescuer: &mut Rescuer,
    ) -> Result<(), MalformedBson> {
        let row = self.rows;
        let mut expected = self.first;
        let mut previous = None;
        for element in RawElements::new(document)? {
            let element = element?;
            let may_grow = !rescuer.keeps_schema;
            let Some(slot) = self.find(element.name, expected, previous, may_grow) else {
                if element.kind != kind::NULL {
                    rescuer.refuse(&element, At::Field)?;
                }
                continue;
            };
            let found = &mut self.slots[slot];
            expected = found.next;
            previous = Some(slot);
            let behind = row.wrapping_sub(found.column.rows());
            if behind > row {
                // The field has had its value in this row: a second one of the same name.
                rescuer.rescue(&element, At::Field)?;
                continue;
            }
            if element.kind == kind::NULL {
                continue;
            }
            if behind > 0 {
                found.column.append_nulls(behind);
            }
            found.column.append(&element, At::Field, rescuer)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// The slot of the field `name`, new if need be; none where it cannot have one.
    #[inline]
    fn find(
        &mut self,
        name: &[u8],
        expected: usize,
        previous: Option<usize>,
        may_grow: bool,
    ) -> Option<usize> {
        match self.slots.get(expected) {
            Some(slot) if slot.name.as_bytes() == name => Some(expected),
            _ => self.search(name, expected, previous, may_grow),
        }
    }

    fn search(
        &mut self,
        name: &[u8],
        expected: usize,
        previous: Option<usize>,
        may_grow: bool,
    ) -> Option<usize> {
        let ahead = self
            .slots
            .iter()
            .enumerate()
            .skip(expected.saturating_add(1))
            .take(LOOK_AHEAD);
        for (i, slot) in ahead {
            if slot.name.as_bytes() == name {
                return Some(i);
            }
        }
        let name = std::str::from_utf8(name).ok()?;
        let slot = match self.by_name.get(name) {
            Some(&slot) => slot,
            None if may_grow => self.new_field(name, previous)?,
            None => return None,
        };
        match previous {
            Some(previous) => self.slots[previous].next = slot,
            None => self.first = slot,
        }
        Some(slot)
    }

    fn new_field(&mut self, name: &str, previous: Option<usize>) -> Option<usize> {
        // A nested document that grows too large becomes text; the root cannot.
        if self.slots.len() >= MAX_FIELDS && matches!(self.place, Place::Root) {
            return None;
        }
        let column = Column::from_type(&ColumnType::Unknown, self.place.of_field(name.as_bytes()));
        let slot = self.add_slot(name, column);
        let place = previous
            .and_then(|previous| self.order.iter().position(|&i| i == previous))
            .map_or(0, |behind| behind + 1);
        self.order.insert(place, slot);
        Some(slot)
    }

    fn add_slot(&mut self, name: &str, column: Column) -> usize {
        let slot = self.slots.len();
        self.slots.push(Slot {
            name: name.into(),
            column,
            next: slot + 1,
        });
        self.by_name.insert(name.into(), slot);
        slot
    }

    /// The arrays of the fields that have a type, in the order of [`schema`](Self::schema), and
    /// the settled types. The rows begin anew.
    pub(super) fn finish_children(&mut self, naming: Naming) -> Vec<ArrayRef> {
        let rows = std::mem::take(&mut self.rows);
        let mut arrays = Vec::with_capacity(self.order.len());
        for &i in &self.order {
            let column = &mut self.slots[i].column;
            column.append_nulls(rows - column.rows());
            if column.is_unknown() {
                column.discard();
            } else {
                arrays.push(column.finish(naming));
            }
        }
        arrays
    }

    /// Whether `document` can join the keys held so far as a struct; see
    /// [`ColumnType::join_key`]. A key is rescued as a whole, so where the struct is not to become
    /// wider it takes only those that it holds as it is.
    pub(super) fn accepts_key(
        &self,
        document: &[u8],
        may_grow: bool,
    ) -> Result<bool, MalformedBson> {
        let mut seen: Vec<&[u8]> = Vec::new();
        for element in RawElements::new(document)? {
            let element = element?;
            let Observed::Type(observed) = observe(&element)? else {
                return Ok(false);
            };
            if !observed.is_key_scalar() || seen.contains(&element.name) || seen.len() >= MAX_FIELDS
            {
                return Ok(false);
            }
            if let Some(&slot) = self.order.get(seen.len()) {
                let slot = &self.slots[slot];
                let own = slot.column.column_type();
                let joined = own.join(&observed);
                if slot.name.as_bytes() != element.name
                    || !joined.is_key_scalar()
                    || !(may_grow || joined.has_layout_of(&own))
                {
                    return Ok(false);
                }
            } else if !self.slots.is_empty() || std::str::from_utf8(element.name).is_err() {
                return Ok(false);
            }
            seen.push(element.name);
        }
        Ok(!seen.is_empty() && (self.slots.is_empty() || seen.len() == self.slots.len()))
    }
}

/// Appends the elements of one array to the column of its items, and tells how many they are.
pub(super) fn append_items(
    items: &mut Column,
    array: &RawElement<'_>,
    rescuer: &mut Rescuer,
) -> Result<i32, MalformedBson> {
    let mut count = 0;
    for element in RawElements::new(array.as_document()?)? {
        let element = element?;
        if element.kind == kind::NULL {
            items.append_nulls(1);
        } else {
            items.append(&element, At::Index(count), rescuer)?;
        }
        count += 1;
    }
    Ok(count as i32)
}
