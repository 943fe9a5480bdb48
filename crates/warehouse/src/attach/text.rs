//! Values as the answer to a plain query has them, in the ISO date style.

use std::str::FromStr;

use chrono::{NaiveDate, NaiveTime};

use super::column::Unreadable;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

pub(super) fn boolean(value: &str) -> Result<bool, Unreadable> {
    match value {
        "t" | "true" => Ok(true),
        "f" | "false" => Ok(false),
        _ => Err(Unreadable::garbled("boolean")),
    }
}

/// A whole or a floating-point number, as both are spelled in Rust as well.
pub(super) fn number<T: FromStr>(value: &str) -> Result<T, Unreadable> {
    value.parse().map_err(|_| Unreadable::garbled("number"))
}

/// The digits of a number that has at most `scale` of them behind the point.
pub(super) fn decimal(value: &str, scale: i8) -> Result<i128, Unreadable> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    match digits {
        "NaN" => return Err(Unreadable::new("NaN is no decimal")),
        "Infinity" if sign < 0 => return Err(Unreadable::new("-infinity is no decimal")),
        "Infinity" => return Err(Unreadable::new("infinity is no decimal")),
        _ => {}
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = usize::try_from(scale)
        .ok()
        .and_then(|scale| scale.checked_sub(fraction.len()))
        .ok_or_else(|| Unreadable::new("it has more digits than its column"))?;
    let is_number =
        !whole.is_empty() && (whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit());
    if !is_number {
        return Err(Unreadable::garbled("numeric"));
    }
    let digits: i128 = format!("{whole}{fraction}{}", "0".repeat(missing))
        .parse()
        .map_err(|_| Unreadable::new("it has more digits than its column"))?;
    Ok(sign * digits)
}

/// Hexadecimal digits behind `\x`.
pub(super) fn bytea(value: &str) -> Result<Vec<u8>, Unreadable> {
    let digits = value
        .strip_prefix("\\x")
        .ok_or_else(|| Unreadable::garbled("bytea"))?;
    hexadecimal(digits)
}

pub(super) fn hexadecimal(value: &str) -> Result<Vec<u8>, Unreadable> {
    hex::decode(value).map_err(|_| Unreadable::garbled("hexadecimal digits"))
}

/// Days since 1970 of `2024-02-29` or `0044-03-15 BC`.
pub(super) fn date(value: &str) -> Result<i32, Unreadable> {
    if let "infinity" | "-infinity" = value {
        return Err(Unreadable(format!("{value} is no date")));
    }
    let (digits, is_before_christ) = without_era(value);
    days(digits, is_before_christ)
}

/// Microseconds since 1970 of `2024-02-29 12:00:00.5`.
pub(super) fn timestamp(value: &str) -> Result<i64, Unreadable> {
    if let "infinity" | "-infinity" = value {
        return Err(Unreadable(format!("{value} is no timestamp")));
    }
    let garbled = || Unreadable::garbled("timestamp");
    let (digits, is_before_christ) = without_era(value);
    let (date, time) = digits.split_once(' ').ok_or_else(garbled)?;
    let days = i64::from(days(date, is_before_christ)?);
    let time = NaiveTime::parse_from_str(time, "%H:%M:%S%.f").map_err(|_| garbled())?;
    let since_midnight = (time - NaiveTime::MIN)
        .num_microseconds()
        .ok_or_else(garbled)?;
    days.checked_mul(MICROS_PER_DAY)
        .and_then(|micros| micros.checked_add(since_midnight))
        .ok_or_else(garbled)
}

/// Microseconds since 1970 of `2024-02-29 12:00:00.5+00`. The session's zone is UTC.
pub(super) fn moment(value: &str) -> Result<i64, Unreadable> {
    if let "infinity" | "-infinity" = value {
        return timestamp(value);
    }
    let (digits, is_before_christ) = without_era(value);
    let local = digits
        .strip_suffix("+00")
        .ok_or_else(|| Unreadable::garbled("timestamp in UTC"))?;
    match is_before_christ {
        true => timestamp(&format!("{local} BC")),
        false => timestamp(local),
    }
}

fn without_era(value: &str) -> (&str, bool) {
    match value.strip_suffix(" BC") {
        Some(rest) => (rest, true),
        None => (value, false),
    }
}

fn days(value: &str, is_before_christ: bool) -> Result<i32, Unreadable> {
    let garbled = || Unreadable::garbled("date");
    let mut parts = value.split('-');
    let mut part = || parts.next().ok_or_else(garbled);
    let (year, month, day) = (part()?, part()?, part()?);
    let mut year: i32 = number(year)?;
    if is_before_christ {
        // The year before the first one is that of zero here.
        year = 1 - year;
    }
    let date = NaiveDate::from_ymd_opt(year, number(month)?, number(day)?)
        .ok_or_else(|| Unreadable(format!("the year {year} is beyond those that can be read")))?;
    let since = date.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(since).map_err(|_| garbled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_to_their_last_digit() {
        for (value, scale, digits) in [
            ("0", 0, Ok(0)),
            ("12.34", 2, Ok(1234)),
            ("-0.05", 2, Ok(-5)),
            ("-12", 3, Ok(-12_000)),
            (
                "99999999999999999999999999999999999999",
                0,
                Ok(10_i128.pow(38) - 1),
            ),
            ("1.234", 2, Err("it has more digits than its column")),
            ("NaN", 2, Err("NaN is no decimal")),
            ("-Infinity", 2, Err("-infinity is no decimal")),
            ("1e5", 2, Err("the server has sent no numeric")),
            ("", 2, Err("the server has sent no numeric")),
        ] {
            assert_eq!(
                decimal(value, scale),
                digits.map_err(Unreadable::new),
                "{value}"
            );
        }
    }

    #[test]
    fn dates_and_times_are_counted_from_1970() {
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("1969-12-31"), Ok(-1));
        assert_eq!(date("0001-01-01"), Ok(-719_162));
        assert_eq!(date("0001-12-31 BC"), Ok(-719_163));
        assert_eq!(
            date("infinity"),
            Err(Unreadable::new("infinity is no date"))
        );
        assert_eq!(timestamp("1970-01-01 00:00:00.000001"), Ok(1));
        assert_eq!(timestamp("1969-12-31 23:59:59.5"), Ok(-500_000));
        assert_eq!(
            timestamp("0001-12-31 00:00:00 BC"),
            Ok(-719_163 * MICROS_PER_DAY)
        );
        assert_eq!(moment("1970-01-02 00:00:00+00"), Ok(MICROS_PER_DAY));
        assert_eq!(
            moment("0001-12-31 00:00:00+00 BC"),
            Ok(-719_163 * MICROS_PER_DAY)
        );
        assert_eq!(
            moment("-infinity"),
            Err(Unreadable::new("-infinity is no timestamp"))
        );
        assert_eq!(
            moment("1970-01-02 00:00:00+01"),
            Err(Unreadable::garbled("timestamp in UTC"))
        );
        assert!(timestamp("294276-12-31 00:00:00").is_err());
    }
}
