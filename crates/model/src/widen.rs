//! How column types join: int32 → int64 → double where exact → decimal where exact; anything else
//! becomes Extended JSON text.
//!
//! [`ColumnType::join`] is commutative and associative up to the order of fields, so the schema of
//! a table does not depend on which partition was read first.

use crate::schema::{Column, ColumnType, DecimalShape, MAX_FIELDS};

impl ColumnType {
    /// The least type that holds every value of both.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        use ColumnType as T;
        match (self, other) {
            (T::Unknown, x) | (x, T::Unknown) => x.clone(),
            (T::Int32, T::Int64 { exact }) | (T::Int64 { exact }, T::Int32) => {
                T::Int64 { exact: *exact }
            }
            (T::Int64 { exact: a }, T::Int64 { exact: b }) => T::Int64 { exact: *a && *b },
            (T::Double { decimal: a }, T::Double { decimal: b }) => T::Double {
                decimal: join_shapes(*a, *b),
            },
            (T::Double { decimal }, T::Int32) | (T::Int32, T::Double { decimal }) => T::Double {
                decimal: join_shapes(*decimal, Some(DecimalShape::INT32)),
            },
            (T::Double { decimal }, T::Int64 { exact })
            | (T::Int64 { exact }, T::Double { decimal }) => {
                let decimal = join_shapes(*decimal, Some(DecimalShape::INT64));
                match decimal {
                    _ if *exact => T::Double { decimal },
                    Some(shape) => T::Decimal(shape),
                    None => T::Json,
                }
            }
            (T::Decimal(a), T::Decimal(b)) => decimal_or_json(Some(*a), Some(*b)),
            (T::Decimal(a), T::Double { decimal: b })
            | (T::Double { decimal: b }, T::Decimal(a)) => decimal_or_json(Some(*a), *b),
            (T::Decimal(a), T::Int32) | (T::Int32, T::Decimal(a)) => {
                decimal_or_json(Some(*a), Some(DecimalShape::INT32))
            }
            (T::Decimal(a), T::Int64 { .. }) | (T::Int64 { .. }, T::Decimal(a)) => {
                decimal_or_json(Some(*a), Some(DecimalShape::INT64))
            }
            (T::Document(a), T::Document(b)) => {
                let columns = join_columns(a, b);
                if columns.len() > MAX_FIELDS {
                    T::Json
                } else {
                    T::Document(columns)
                }
            }
            (T::Array(a), T::Array(b)) => match a.join(b) {
                T::Json => T::Json,
                items => T::Array(Box::new(items)),
            },
            (a, b) if a == b => a.clone(),
            _ => T::Json,
        }
    }

    /// As [`join`](Self::join), for the column of `_id`.
    ///
    /// The key must be readable back from the table without loss, and two documents with the same
    /// fields in another order, or with a field null instead of missing, are different keys. So a
    /// document stays a struct only while every key has the same fields in the same order.
    #[must_use]
    pub fn join_key(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Document(a), Self::Document(b)) => {
                let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.field == b.field);
                let joined = self.join(other);
                match &joined {
                    Self::Document(columns)
                        if same && columns.iter().all(|c| c.column_type.is_key_scalar()) =>
                    {
                        joined
                    }
                    _ => Self::Json,
                }
            }
            _ => self.join(other),
        }
    }

    /// Whether a field of a key document may have a column of this type.
    #[must_use]
    pub fn is_key_scalar(&self) -> bool {
        !matches!(
            self,
            Self::Unknown | Self::Document(_) | Self::Array(_) | Self::Json
        )
    }

    /// The shape in which every value of this type is exactly a decimal.
    #[must_use]
    pub fn decimal_shape(&self) -> Option<DecimalShape> {
        match self {
            Self::Int32 => Some(DecimalShape::INT32),
            Self::Int64 { .. } => Some(DecimalShape::INT64),
            Self::Double { decimal } => *decimal,
            Self::Decimal(shape) => Some(*shape),
            _ => None,
        }
    }
}

fn join_shapes(a: Option<DecimalShape>, b: Option<DecimalShape>) -> Option<DecimalShape> {
    a?.join(b?)
}

fn decimal_or_json(a: Option<DecimalShape>, b: Option<DecimalShape>) -> ColumnType {
    join_shapes(a, b).map_or(ColumnType::Json, ColumnType::Decimal)
}

/// Joins two documents' columns: those of `a` in their order, each field known to `b` alone put
/// behind the field it follows in `b`.
pub(crate) fn join_columns(a: &[Column], b: &[Column]) -> Vec<Column> {
    let mut joined = a.to_vec();
    let mut place: std::collections::HashMap<String, usize> = joined
        .iter()
        .enumerate()
        .map(|(i, c)| (c.field.clone(), i))
        .collect();
    // `after` is where the next field unknown to `a` goes.
    let mut after = 0;
    for column in b {
        if let Some(&at) = place.get(&column.field) {
            let joined_type = joined[at].column_type.join(&column.column_type);
            joined[at].column_type = joined_type;
            after = at + 1;
        } else {
            joined.insert(after, column.clone());
            for at in place.values_mut() {
                if *at >= after {
                    *at += 1;
                }
            }
            place.insert(column.field.clone(), after);
            after += 1;
        }
    }
    joined
}
