//! The statements that read a table, and which conditions they may carry.
//!
//! A condition is asked for only where the server means the same by it as the query's engine does, or
//! answers more. So these are left out: comparing text by more than equality, which depends on the
//! collation; comparing with numbers that are not finite; and times that the server spells otherwise.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime};
use tributary_flow::{AttachedName, Comparison, Filter, FilterSupport, Literal, Scan};

use super::column::{Column, Read};
use crate::client::Server;
use crate::names::{literal, quoted};

/// A table that is read.
pub(super) struct Statement<'a> {
    pub(super) server: Server,
    pub(super) name: &'a AttachedName,
    pub(super) columns: &'a [Column],
}

impl Statement<'_> {
    /// The query for the rows of a scan.
    pub(super) fn select(&self, scan: &Scan) -> String {
        let mut columns: Vec<String> = scan
            .columns
            .iter()
            .map(|&i| expression(&self.columns[i]))
            .collect();
        if columns.is_empty() {
            // Rows that are only counted.
            columns.push("NULL".to_owned());
        }
        let mut statement = format!(
            "SELECT {} FROM {}.{}",
            columns.join(", "),
            quoted(&self.name.schema),
            quoted(&self.name.table)
        );
        let conditions: Vec<String> = scan
            .filters
            .iter()
            .filter_map(|filter| self.condition(filter))
            .map(|(text, _)| text)
            .collect();
        if !conditions.is_empty() {
            statement += " WHERE ";
            statement += &conditions.join(" AND ");
        }
        if let Some(limit) = scan.limit {
            statement += &format!(" LIMIT {limit}");
        }
        statement
    }

    /// What becomes of a condition.
    pub(super) fn support(&self, filter: &Filter) -> FilterSupport {
        self.condition(filter)
            .map_or(FilterSupport::None, |(_, support)| support)
    }

    /// A condition as it stands in a statement, and how far it is the same there; none where it cannot be
    /// asked for.
    fn condition(&self, filter: &Filter) -> Option<(String, FilterSupport)> {
        match filter {
            Filter::Compare(column, comparison, value) => {
                let column = self.columns.get(*column)?;
                let support = self.comparable(column, *comparison, value)?;
                let sign = match comparison {
                    Comparison::Equal => "=",
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                };
                let value = spelled(value, column.read)?;
                Some((format!("{} {sign} {value}", quoted(&column.name)), support))
            }
            Filter::In(column, values) => {
                let column = self.columns.get(*column)?;
                let mut support = FilterSupport::Exact;
                let mut texts = Vec::new();
                for value in values {
                    support = support.min(self.comparable(column, Comparison::Equal, value)?);
                    texts.push(spelled(value, column.read)?);
                }
                if texts.is_empty() {
                    return None;
                }
                let texts = texts.join(", ");
                Some((format!("{} IN ({texts})", quoted(&column.name)), support))
            }
            Filter::IsNull(column) => self.is_null(*column, "IS NULL"),
            Filter::IsNotNull(column) => self.is_null(*column, "IS NOT NULL"),
            Filter::And(parts) => self.joined(parts, " AND "),
            Filter::Or(parts) => self.joined(parts, " OR "),
        }
    }

    fn is_null(&self, column: usize, test: &str) -> Option<(String, FilterSupport)> {
        let column = self.columns.get(column)?;
        // A `super` may hold the null of JSON, which is a text here.
        if column.read == Read::Serialized {
            return None;
        }
        let text = format!("{} {test}", quoted(&column.name));
        Some((text, FilterSupport::Exact))
    }

    fn joined(&self, parts: &[Filter], word: &str) -> Option<(String, FilterSupport)> {
        let mut support = FilterSupport::Exact;
        let mut texts = Vec::new();
        for part in parts {
            let (text, of_part) = self.condition(part)?;
            support = support.min(of_part);
            texts.push(text);
        }
        (!texts.is_empty()).then(|| (format!("({})", texts.join(word)), support))
    }

    /// How far a comparison means the same to the server; none where it is not to be asked for.
    fn comparable(
        &self,
        column: &Column,
        comparison: Comparison,
        value: &Literal,
    ) -> Option<FilterSupport> {
        let is_same = match (column.read, value) {
            (Read::Boolean, Literal::Boolean(_))
            | (Read::Int16 | Read::Int32 | Read::Int64, Literal::Integer(_))
            | (Read::Decimal(..), Literal::Decimal(..))
            | (Read::Date, Literal::Date(_))
            | (Read::Timestamp, Literal::Timestamp(_))
            | (Read::Moment, Literal::Moment(_)) => true,
            (Read::Float32, Literal::Float(value)) => value.is_finite(),
            (Read::Float64, Literal::Double(value)) => value.is_finite(),
            (Read::Uuid, Literal::Text(text)) => {
                comparison == Comparison::Equal && is_canonical_uuid(text)
            }
            (Read::Text, Literal::Text(text)) => {
                // Redshift takes a backslash for an escape, in ways that depend on its settings.
                let is_plain = self.server == Server::Postgres || !text.contains('\\');
                if comparison != Comparison::Equal || text.contains('\0') || !is_plain {
                    return None;
                }
                if !column.equal_by_bytes {
                    // Texts of the same bytes are equal by any collation, and others may be.
                    return Some(FilterSupport::Superset);
                }
                true
            }
            _ => false,
        };
        is_same.then_some(FilterSupport::Exact)
    }
}

/// What is asked for to read a column.
fn expression(column: &Column) -> String {
    let name = quoted(&column.name);
    match column.read {
        Read::AsText => format!("{name}::text"),
        Read::Serialized => format!("json_serialize({name})"),
        Read::Hexadecimal => format!("from_varbyte({name}, 'hex')"),
        _ => name,
    }
}

/// A value as it stands in a statement beside a column that is read in this way.
fn spelled(value: &Literal, read: Read) -> Option<String> {
    let text = match value {
        Literal::Boolean(value) => return Some(value.to_string()),
        // Its type is that of the column, whatever that is.
        Literal::Text(text) => return Some(literal(text)),
        Literal::Integer(value) => value.to_string(),
        Literal::Float(value) => format!("{value:e}"),
        Literal::Double(value) => format!("{value:e}"),
        Literal::Decimal(digits, scale) => decimal(*digits, *scale)?,
        Literal::Date(days) => date(*days)?.format("%Y-%m-%d").to_string(),
        Literal::Timestamp(micros) => moment(*micros)?.format(TIMESTAMP).to_string(),
        Literal::Moment(micros) => format!("{}+00", moment(*micros)?.format(TIMESTAMP)),
    };
    let type_name = match read {
        Read::Int16 => "smallint",
        Read::Int32 => "integer",
        Read::Int64 => "bigint",
        Read::Float32 => "real",
        Read::Float64 => "double precision",
        Read::Decimal(..) => "numeric",
        Read::Date => "date",
        Read::Timestamp => "timestamp",
        Read::Moment => "timestamptz",
        _ => return None,
    };
    // In quotes, so that a minus belongs to the number, and the least number is one.
    Some(format!("'{text}'::{type_name}"))
}

const TIMESTAMP: &str = "%Y-%m-%d %H:%M:%S%.6f";

/// A date of four digits of the year, as every server spells it.
fn date(days: i32) -> Option<NaiveDate> {
    let since = Days::new(u64::from(days.unsigned_abs()));
    let epoch = NaiveDate::default();
    let date = if days < 0 {
        epoch.checked_sub_days(since)
    } else {
        epoch.checked_add_days(since)
    };
    date.filter(|date| (1..=9999).contains(&date.year()))
}

fn moment(micros: i64) -> Option<NaiveDateTime> {
    let moment = DateTime::from_timestamp_micros(micros)?.naive_utc();
    (1..=9999).contains(&moment.year()).then_some(moment)
}

/// A number of these digits, of which `scale` are behind the point.
fn decimal(digits: i128, scale: i8) -> Option<String> {
    let scale = usize::try_from(scale).ok()?;
    let sign = if digits < 0 { "-" } else { "" };
    let text = format!("{:0>width$}", digits.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = text.split_at(text.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

/// Whether a text is a UUID as the columns of UUIDs spell it: any other is equal to none of theirs.
fn is_canonical_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests;
