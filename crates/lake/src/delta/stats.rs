//! Per-file statistics as Delta's log has them, taken from a file's own Parquet metadata.
//!
//! Format: the Delta transaction log protocol, "Per-file Statistics". A bound that could mislead a
//! reader into skipping the file is left out.

use chrono::{DateTime, Datelike, SecondsFormat};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Map, Number, Value};

/// How many leaf columns have statistics: Delta's own default.
const INDEXED_COLUMNS: usize = 32;
/// Decimals with more digits than this may be read as a rounded double.
const EXACT_DIGITS: u32 = 15;

/// The statistics of a whole file as JSON text.
pub(crate) fn of_file(metadata: &ParquetMetaData, rows: u64, has_nan: bool) -> String {
    let descriptor = metadata.file_metadata().schema_descr();
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    let mut indexed = 0;
    for (index, column) in descriptor.columns().iter().enumerate() {
        // Items of lists have none.
        if column.max_rep_level() > 0 {
            continue;
        }
        indexed += 1;
        if indexed > INDEXED_COLUMNS {
            break;
        }
        let groups = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(index).statistics());
        let groups: Option<Vec<&Statistics>> = groups.collect();
        let Some(groups) = groups else { continue };
        let path = column.path().parts();
        if let Some(count) = groups
            .iter()
            .map(|s| s.null_count_opt())
            .sum::<Option<u64>>()
        {
            insert(&mut nulls, path, count.into());
            if count == rows {
                continue;
            }
        }
        if let Some((min, max)) = bounds(column, &groups, has_nan) {
            insert(&mut least, path, min);
            insert(&mut greatest, path, max);
        }
    }
    let all = Map::from_iter([
        ("numRecords".to_owned(), rows.into()),
        ("minValues".to_owned(), least.into()),
        ("maxValues".to_owned(), greatest.into()),
        ("nullCount".to_owned(), nulls.into()),
    ]);
    Value::Object(all).to_string()
}

fn insert(into: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            into.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = into
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The least and greatest value over all row groups, if each has them.
fn bounds(
    column: &ColumnDescriptor,
    groups: &[&Statistics],
    has_nan: bool,
) -> Option<(Value, Value)> {
    // A row group of nulls alone has no bounds, and needs none.
    let groups: Vec<&Statistics> = groups
        .iter()
        .copied()
        .filter(|s| s.min_bytes_opt().is_some() && s.max_bytes_opt().is_some())
        .collect();
    match groups.first()? {
        // Decimals of few digits, days and the like are written so as well.
        Statistics::Int32(_) if column.logical_type_ref().is_none() => {
            let (min, max) = extremes(&groups, |s| {
                if let Statistics::Int32(s) = s {
                    s.min_opt().zip(s.max_opt())
                } else {
                    None
                }
            })?;
            Some((min.into(), max.into()))
        }
        Statistics::Int64(_) => {
            let (min, max) = extremes(&groups, |s| {
                if let Statistics::Int64(s) = s {
                    s.min_opt().zip(s.max_opt())
                } else {
                    None
                }
            })?;
            match column.logical_type_ref() {
                Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::MICROS => {
                    Some((timestamp(min)?, timestamp(max)?))
                }
                None => Some((min.into(), max.into())),
                _ => None,
            }
        }
        Statistics::Double(_) if !has_nan => {
            let (min, max) = extremes(&groups, |s| {
                if let Statistics::Double(s) = s {
                    s.min_opt().zip(s.max_opt())
                } else {
                    None
                }
            })?;
            Some((Number::from_f64(min)?.into(), Number::from_f64(max)?.into()))
        }
        Statistics::ByteArray(_)
            if matches!(column.logical_type_ref(), Some(LogicalType::String)) =>
        {
            let min = groups.iter().filter_map(|s| s.min_bytes_opt()).min()?;
            let max = groups.iter().filter_map(|s| s.max_bytes_opt()).max()?;
            // The Parquet writer cuts the greatest value so that it stays an upper bound.
            Some((
                std::str::from_utf8(min).ok()?.into(),
                std::str::from_utf8(max).ok()?.into(),
            ))
        }
        Statistics::FixedLenByteArray(_) => {
            let Some(LogicalType::Decimal(decimal_type)) = column.logical_type_ref() else {
                return None;
            };
            let values = |bytes: Option<&[u8]>| signed(bytes?);
            let min = groups.iter().map(|s| values(s.min_bytes_opt())).min()??;
            let max = groups.iter().map(|s| values(s.max_bytes_opt())).max()??;
            Some((
                decimal(min, decimal_type.scale)?,
                decimal(max, decimal_type.scale)?,
            ))
        }
        _ => None,
    }
}

fn extremes<'a, T: PartialOrd + Copy + 'a>(
    groups: &[&'a Statistics],
    typed: impl Fn(&'a Statistics) -> Option<(&'a T, &'a T)>,
) -> Option<(T, T)> {
    let mut found: Option<(T, T)> = None;
    for group in groups {
        let ends = typed(group)?;
        let (&min, &max) = ends;
        found = Some(match found {
            None => (min, max),
            Some((least, greatest)) => (
                if min < least { min } else { least },
                if max > greatest { max } else { greatest },
            ),
        });
    }
    found
}

/// The text is exact for whole milliseconds, which all dates of documents are; others have none, and nor
/// have years that readers cannot parse.
fn timestamp(micros: i64) -> Option<Value> {
    let time = DateTime::from_timestamp_micros(micros)?;
    if micros % 1000 != 0 {
        return None;
    }
    (1..=9999)
        .contains(&time.year())
        .then(|| time.to_rfc3339_opts(SecondsFormat::Millis, true).into())
}

fn signed(bytes: &[u8]) -> Option<i128> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    let fill = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [fill; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

fn decimal(unscaled: i128, scale: i32) -> Option<Value> {
    if unscaled.unsigned_abs() >= 10u128.pow(EXACT_DIGITS)
        || !(0..=i32::try_from(EXACT_DIGITS).ok()?).contains(&scale)
    {
        return None;
    }
    let power = 10f64.powi(scale);
    // Both are exact, so the quotient is the double nearest to the decimal: its text has its digits.
    Some(Number::from_f64(unscaled as f64 / power)?.into())
}
