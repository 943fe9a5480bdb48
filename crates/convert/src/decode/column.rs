//! One growing column, whose values widen in place.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, Decimal128Array, Float64Array, Int32Array,
    Int64Array, ListArray, NullBufferBuilder, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use tributary_model::schema::{ColumnType, DecimalShape, MAX_DECIMAL_DIGITS, MAX_NESTING};

use super::document::{DocumentColumn, append_items};
use super::rescue::{At, Rescuer};
use super::scalar::{
    self, Decimal, Observed, covers, decimal_bytes, double_shape, is_exact_double, is_special,
    micros, observe,
};
use super::text::{Bytes, constant_text, push_hex, push_uuid, untyped_lists};
use crate::arrow_schema::{self, Naming};
use crate::extjson::{self, Mode};
use crate::raw::{MalformedBson, RawElement, kind};
use crate::recast;

/// Where a column stands in the document.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The whole document.
    Root,
    /// The field `_id` of the whole document.
    Key,
    /// Below `depth` documents or arrays.
    Nested { depth: usize },
}

impl Place {
    pub(super) fn of_field(self, name: &[u8]) -> Self {
        match self {
            Self::Root if name == b"_id" => Self::Key,
            Self::Root => Self::Nested { depth: 1 },
            Self::Key => Self::Nested { depth: 2 },
            Self::Nested { depth } => Self::Nested { depth: depth + 1 },
        }
    }

    fn json_mode(self) -> Mode {
        match self {
            Self::Key => Mode::Canonical,
            _ => Mode::Relaxed,
        }
    }

    fn is_key(self) -> bool {
        matches!(self, Self::Key)
    }

    fn may_nest(self) -> bool {
        match self {
            Self::Nested { depth } => depth < MAX_NESTING,
            _ => true,
        }
    }
}

#[derive(Debug)]
enum Values {
    Unknown,
    Bool(BooleanBufferBuilder),
    Int32(Vec<i32>),
    Int64 {
        values: Vec<i64>,
        exact: bool,
    },
    Double {
        values: Vec<f64>,
        decimal: Option<DecimalShape>,
    },
    Decimal {
        values: Vec<i128>,
        shape: DecimalShape,
    },
    String(Bytes),
    ObjectId(Bytes),
    Date(Vec<i64>),
    Binary {
        subtype: u8,
        bytes: Bytes,
    },
    Uuid(Bytes),
    Document(Box<DocumentColumn>),
    Array {
        offsets: Vec<i32>,
        items: Box<Column>,
    },
    Json(Bytes),
    Special(Bytes),
}

/// A growing column: values, and which of them are null.
#[derive(Debug)]
pub(super) struct Column {
    values: Values,
    nulls: NullBufferBuilder,
    place: Place,
}

impl Column {
    pub(super) fn from_type(column_type: &ColumnType, place: Place) -> Self {
        Self {
            values: Values::new(column_type, place),
            nulls: NullBufferBuilder::new(0),
            place,
        }
    }

    #[inline]
    pub(super) fn rows(&self) -> usize {
        self.nulls.len()
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.values, Values::Unknown)
    }

    pub(super) fn discard(&mut self) {
        self.nulls = NullBufferBuilder::new(0);
    }

    pub(super) fn column_type(&self) -> ColumnType {
        match &self.values {
            Values::Unknown => ColumnType::Unknown,
            Values::Bool(_) => ColumnType::Bool,
            Values::Int32(_) => ColumnType::Int32,
            Values::Int64 { exact, .. } => ColumnType::Int64 { exact: *exact },
            Values::Double { decimal, .. } => ColumnType::Double { decimal: *decimal },
            Values::Decimal { shape, .. } => ColumnType::Decimal(*shape),
            Values::String(_) => ColumnType::String,
            Values::ObjectId(_) => ColumnType::ObjectId,
            Values::Date(_) => ColumnType::Date,
            Values::Binary { subtype, .. } => ColumnType::Binary { subtype: *subtype },
            Values::Uuid(_) => ColumnType::Uuid,
            Values::Document(document) => ColumnType::Document(document.schema()),
            Values::Array { items, .. } => ColumnType::Array(Box::new(items.column_type())),
            Values::Json(_) => ColumnType::Json,
            Values::Special(_) => ColumnType::Special,
        }
    }

    pub(super) fn append_nulls(&mut self, count: usize) {
        if count > 0 {
            self.values.push_defaults(count);
            self.nulls.append_n_nulls(count);
        }
    }

    /// Appends a value that is not null.
    #[inline]
    pub(super) fn append(
        &mut self,
        element: &RawElement<'_>,
        at: At,
        rescuer: &mut Rescuer,
    ) -> Result<(), MalformedBson> {
        if self.append_fitting(element, at, rescuer)? {
            return Ok(());
        }
        self.append_widening(element, at, rescuer)
    }

    /// Appends a value that the column holds as it is; false where it does not, and then nothing
    /// has been appended.
    #[inline]
    fn append_fitting(
        &mut self,
        element: &RawElement<'_>,
        at: At,
        rescuer: &mut Rescuer,
    ) -> Result<bool, MalformedBson> {
        match (&mut self.values, element.kind) {
            (Values::String(bytes), kind::STRING) => {
                let text = element.as_string_bytes()?;
                if std::str::from_utf8(text).is_err() {
                    return Ok(false);
                }
                bytes.push(text);
            }
            (Values::Int32(values), kind::INT32) => values.push(element.as_i32()?),
            (Values::Int64 { values, exact }, kind::INT64) => {
                let value = element.as_i64()?;
                *exact &= is_exact_double(value);
                values.push(value);
            }
            (Values::Int64 { values, .. }, kind::INT32) => {
                values.push(i64::from(element.as_i32()?))
            }
            (Values::Double { values, decimal }, kind::DOUBLE) => {
                let value = element.as_f64()?;
                if let Some(shape) = *decimal {
                    *decimal = double_shape(value).and_then(|s| s.join(shape));
                }
                values.push(value);
            }
            (Values::Double { values, decimal }, kind::INT32)
                if covers(*decimal, DecimalShape::INT32) =>
            {
                values.push(f64::from(element.as_i32()?));
            }
            (Values::Double { values, decimal }, kind::INT64)
                if covers(*decimal, DecimalShape::INT64) =>
            {
                let value = element.as_i64()?;
                if !is_exact_double(value) {
                    return Ok(false);
                }
                values.push(value as f64);
            }
            (Values::ObjectId(bytes), kind::OBJECT_ID) => {
                push_hex(&mut bytes.data, element.value);
                bytes.end_value();
            }
            (Values::Date(values), kind::DATE) => match micros(element.as_date_millis()?) {
                Some(value) => values.push(value),
                None => return Ok(false),
            },
            (Values::Bool(values), kind::BOOL) => values.append(element.value.first() == Some(&1)),
            (Values::Decimal { values, shape }, kind::DECIMAL128) => {
                let Some(decimal) = Decimal::decode(decimal_bytes(element)?) else {
                    return Ok(false);
                };
                match decimal.shape().and_then(|s| s.join(*shape)) {
                    Some(joined) if joined == *shape => match decimal.unscaled(shape.scale) {
                        Some(value) => values.push(value),
                        None => return Ok(false),
                    },
                    _ => return Ok(false),
                }
            }
            (Values::Decimal { values, shape }, kind::INT32)
                if covers(Some(*shape), DecimalShape::INT32) =>
            {
                values.push(i128::from(element.as_i32()?) * 10i128.pow(u32::from(shape.scale)));
            }
            (Values::Decimal { values, shape }, kind::INT64)
                if covers(Some(*shape), DecimalShape::INT64) =>
            {
                values.push(i128::from(element.as_i64()?) * 10i128.pow(u32::from(shape.scale)));
            }
            (Values::Decimal { values, shape }, kind::DOUBLE) => {
                let value = element.as_f64()?;
                match double_shape(value) {
                    Some(own) if own.join(*shape) == Some(*shape) => {
                        match scalar::double_to_decimal(value, shape.scale) {
                            Some(value) => values.push(value),
                            None => return Ok(false),
                        }
                    }
                    _ => return Ok(false),
                }
            }
            (Values::Document(document), kind::DOCUMENT) => {
                let body = element.as_document()?;
                if self.place.is_key() && !document.accepts_key(body, !rescuer.keeps_schema)? {
                    return Ok(false);
                }
                rescuer.enter(element, at);
                document.append(body, rescuer)?;
                rescuer.leave();
                let outgrown = document.has_too_many_fields();
                self.nulls.append_non_null();
                if outgrown {
                    self.widen(&ColumnType::Json)?;
                }
                return Ok(true);
            }
            (Values::Array { offsets, items }, kind::ARRAY) => {
                rescuer.enter(element, at);
                let count = append_items(items, element, rescuer)?;
                rescuer.leave();
                offsets.push(offsets.last().copied().unwrap_or(0) + count);
                let mixed = matches!(items.values, Values::Json(_));
                self.nulls.append_non_null();
                if mixed {
                    self.widen(&ColumnType::Json)?;
                }
                return Ok(true);
            }
            (Values::Json(bytes), _) => {
                extjson::write_value(&mut bytes.data, element, self.place.json_mode())?;
                bytes.end_value();
            }
            (Values::Binary { subtype, bytes }, kind::BINARY) => {
                let (own, value) = element.as_binary()?;
                if own != *subtype || (own == 4 && value.len() == 16) {
                    return Ok(false);
                }
                bytes.push(value);
            }
            (Values::Uuid(bytes), kind::BINARY) => match element.as_binary()? {
                (4, value) if value.len() == 16 => {
                    let mut uuid = [0; 16];
                    uuid.copy_from_slice(value);
                    push_uuid(&mut bytes.data, &uuid);
                    bytes.end_value();
                }
                _ => return Ok(false),
            },
            (Values::Special(bytes), other) if is_special(other) => {
                extjson::write_value(&mut bytes.data, element, Mode::Canonical)?;
                bytes.end_value();
            }
            _ => return Ok(false),
        }
        self.nulls.append_non_null();
        Ok(true)
    }

    /// Appends a value that the column does not hold as it is: the column widens, or the value is
    /// rescued.
    #[cold]
    fn append_widening(
        &mut self,
        element: &RawElement<'_>,
        at: At,
        rescuer: &mut Rescuer,
    ) -> Result<(), MalformedBson> {
        let nested = matches!(element.kind, kind::DOCUMENT | kind::ARRAY);
        let target = match observe(element)? {
            _ if nested && !self.place.may_nest() => ColumnType::Json,
            _ if self.place.is_key() && element.kind == kind::ARRAY => ColumnType::Json,
            Observed::Type(ColumnType::Document(_)) if self.place.is_key() => {
                let fits = match &self.values {
                    Values::Unknown => DocumentColumn::from_columns(&[], self.place)
                        .accepts_key(element.as_document()?, true)?,
                    // A struct that accepted it would have held it.
                    _ => false,
                };
                if fits {
                    ColumnType::Document(Vec::new())
                } else {
                    ColumnType::Json
                }
            }
            Observed::Type(observed) => self.column_type().join(&observed),
            // A key is never null: what fits no typed column makes the column one of text.
            Observed::Unfit if self.place.is_key() => ColumnType::Json,
            Observed::Unfit => {
                rescuer.rescue(element, at)?;
                self.append_nulls(1);
                return Ok(());
            }
        };
        if rescuer.keeps_schema && !self.column_type().has_layout_of(&target) {
            rescuer.refuse(element, at)?;
            self.append_nulls(1);
            return Ok(());
        }
        self.widen(&target)?;
        if !self.append_fitting(element, at, rescuer)? {
            // The joined type holds the value by construction; were it not so, it is kept all the
            // same.
            debug_assert!(
                false,
                "{target:?} does not hold an element of kind {}",
                element.kind
            );
            rescuer.rescue(element, at)?;
            self.append_nulls(1);
        }
        Ok(())
    }

    /// Brings the values to `target`, a type joined from the column's own and another.
    fn widen(&mut self, target: &ColumnType) -> Result<(), MalformedBson> {
        let own = self.column_type();
        if own == *target {
            return Ok(());
        }
        let rows = self.rows();
        match (&mut self.values, target) {
            (Values::Unknown, _) => {
                self.values = Values::new(target, self.place);
                self.values.push_defaults(rows);
            }
            (Values::Int64 { exact, .. }, ColumnType::Int64 { exact: joined }) => *exact = *joined,
            (Values::Double { decimal, .. }, ColumnType::Double { decimal: joined }) => {
                *decimal = *joined
            }
            (Values::Int32(values), ColumnType::Int64 { exact }) => {
                let values = values.iter().map(|v| i64::from(*v)).collect();
                self.values = Values::Int64 {
                    values,
                    exact: *exact,
                };
            }
            (Values::Int32(values), ColumnType::Double { decimal }) => {
                let values = values.iter().map(|v| f64::from(*v)).collect();
                self.values = Values::Double {
                    values,
                    decimal: *decimal,
                };
            }
            (Values::Int64 { values, .. }, ColumnType::Double { decimal }) => {
                let values = values.iter().map(|v| *v as f64).collect();
                self.values = Values::Double {
                    values,
                    decimal: *decimal,
                };
            }
            _ => {
                let settled = own.settled();
                let nulls = self.nulls.finish_cloned();
                let array = self.finish(Naming::Logical);
                let recast = recast::recast(&array, &settled, target, self.place.json_mode())
                    .map_err(|_| MalformedBson {
                        offset: 0,
                        what: "a column could not be widened",
                    })?;
                self.values = Values::from_array(&recast, target);
                match nulls {
                    Some(nulls) => self.nulls.append_buffer(&nulls),
                    None => self.nulls.append_n_non_nulls(rows),
                }
            }
        }
        Ok(())
    }

    /// The values as an array of the settled type; the rows begin anew, the type stays.
    pub(super) fn finish(&mut self, naming: Naming) -> ArrayRef {
        let rows = self.rows();
        let nulls = self.nulls.finish();
        self.nulls = NullBufferBuilder::new(0);
        match &mut self.values {
            Values::Unknown => {
                arrow::array::new_null_array(&arrow::datatypes::DataType::Null, rows)
            }
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int32(values) => Arc::new(Int32Array::new(renewed(values).into(), nulls)),
            Values::Int64 { values, .. } => {
                Arc::new(Int64Array::new(renewed(values).into(), nulls))
            }
            Values::Double { values, .. } => {
                Arc::new(Float64Array::new(renewed(values).into(), nulls))
            }
            Values::Decimal { values, shape } => {
                let array = Decimal128Array::new(renewed(values).into(), nulls);
                Arc::new(array.with_data_type(arrow_schema::decimal_type(*shape)))
            }
            Values::Date(values) => {
                let array = TimestampMicrosecondArray::new(renewed(values).into(), nulls);
                Arc::new(array.with_timezone("UTC"))
            }
            Values::Binary { bytes, .. } => bytes.finish_binary(nulls),
            Values::String(bytes)
            | Values::ObjectId(bytes)
            | Values::Uuid(bytes)
            | Values::Json(bytes)
            | Values::Special(bytes) => bytes.finish_text(nulls),
            Values::Document(document) => {
                let columns = document.schema();
                let children = document.finish_children(naming);
                if children.is_empty() {
                    return constant_text("{}", rows, nulls);
                }
                let ColumnType::Document(settled) = ColumnType::Document(columns).settled() else {
                    return constant_text("{}", rows, nulls);
                };
                let fields = arrow_schema::fields(&settled, naming);
                Arc::new(StructArray::new(fields.into(), children, nulls))
            }
            Values::Array { offsets, items } => {
                let finished = renewed(offsets);
                offsets.push(0);
                let offsets = finished;
                let settled = items.column_type().settled();
                if matches!(settled, ColumnType::Unknown | ColumnType::Json) {
                    let nested = !items.is_unknown();
                    let items = items.finish(naming);
                    return untyped_lists(&offsets, nested.then_some(&items), nulls);
                }
                let field = arrow_schema::item_field(&settled, naming);
                let items = items.finish(naming);
                Arc::new(ListArray::new(
                    field,
                    OffsetBuffer::new(ScalarBuffer::from(offsets)),
                    items,
                    nulls,
                ))
            }
        }
    }
}

/// The values, leaving room for as many: the next batch is about as large, and growing to its size
/// by doubling would copy it and leave holes in memory.
fn renewed<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

impl Values {
    fn new(column_type: &ColumnType, place: Place) -> Self {
        match column_type {
            ColumnType::Unknown => Self::Unknown,
            ColumnType::Bool => Self::Bool(BooleanBufferBuilder::new(0)),
            ColumnType::Int32 => Self::Int32(Vec::new()),
            ColumnType::Int64 { exact } => Self::Int64 {
                values: Vec::new(),
                exact: *exact,
            },
            ColumnType::Double { decimal } => Self::Double {
                values: Vec::new(),
                decimal: *decimal,
            },
            ColumnType::Decimal(shape) => Self::Decimal {
                values: Vec::new(),
                shape: *shape,
            },
            ColumnType::String => Self::String(Bytes::default()),
            ColumnType::ObjectId => Self::ObjectId(Bytes::default()),
            ColumnType::Date => Self::Date(Vec::new()),
            ColumnType::Binary { subtype } => Self::Binary {
                subtype: *subtype,
                bytes: Bytes::default(),
            },
            ColumnType::Uuid => Self::Uuid(Bytes::default()),
            ColumnType::Document(columns) => {
                Self::Document(Box::new(DocumentColumn::from_columns(columns, place)))
            }
            ColumnType::Array(items) => Self::Array {
                offsets: vec![0],
                items: Box::new(Column::from_type(items, place.of_field(b""))),
            },
            ColumnType::Json => Self::Json(Bytes::default()),
            ColumnType::Special => Self::Special(Bytes::default()),
        }
    }

    fn push_defaults(&mut self, count: usize) {
        match self {
            Self::Unknown => {}
            Self::Bool(values) => values.append_n(count, false),
            Self::Int32(values) => values.resize(values.len() + count, 0),
            Self::Int64 { values, .. } | Self::Date(values) => {
                values.resize(values.len() + count, 0)
            }
            Self::Double { values, .. } => values.resize(values.len() + count, 0.0),
            Self::Decimal { values, .. } => values.resize(values.len() + count, 0),
            Self::String(bytes)
            | Self::ObjectId(bytes)
            | Self::Uuid(bytes)
            | Self::Json(bytes)
            | Self::Special(bytes)
            | Self::Binary { bytes, .. } => bytes.push_empty(count),
            Self::Document(document) => document.append_nulls(count),
            Self::Array { offsets, .. } => {
                let end = offsets.last().copied().unwrap_or(0);
                offsets.extend(std::iter::repeat_n(end, count));
            }
        }
    }

    /// Values out of an array that was recast to `target`: a number or text.
    fn from_array(array: &ArrayRef, target: &ColumnType) -> Self {
        if let ColumnType::Decimal(shape) = target
            && let Some(array) = array.as_any().downcast_ref::<Decimal128Array>()
        {
            debug_assert!(shape.integer + shape.scale <= MAX_DECIMAL_DIGITS);
            return Self::Decimal {
                values: array.values().to_vec(),
                shape: *shape,
            };
        }
        let mut bytes = Bytes::default();
        if let Some(array) = array.as_any().downcast_ref::<StringArray>() {
            for row in 0..array.len() {
                bytes.push(array.value(row).as_bytes());
            }
        }
        match target {
            ColumnType::Special => Self::Special(bytes),
            _ => Self::Json(bytes),
        }
    }
}
