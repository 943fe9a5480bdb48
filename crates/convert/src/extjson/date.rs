//! Dates as ISO 8601 text.

const MILLIS_PER_DAY: i64 = 86_400_000;

/// The last millisecond of the year 9999.
pub(super) const MAX_MILLIS: i64 = 253_402_300_799_999;

/// Appends a date from 1970 to 9999, in UTC, with milliseconds if they are not zero.
pub(super) fn push(out: &mut Vec<u8>, millis: i64) {
    let (year, month, day) = civil_from_days(millis.div_euclid(MILLIS_PER_DAY));
    let in_day = millis.rem_euclid(MILLIS_PER_DAY);
    let (seconds, fraction) = (in_day / 1000, in_day % 1000);
    push_digits::<4>(out, year);
    out.push(b'-');
    push_digits::<2>(out, month);
    out.push(b'-');
    push_digits::<2>(out, day);
    out.push(b'T');
    push_digits::<2>(out, seconds / 3600);
    out.push(b':');
    push_digits::<2>(out, seconds / 60 % 60);
    out.push(b':');
    push_digits::<2>(out, seconds % 60);
    if fraction != 0 {
        out.push(b'.');
        push_digits::<3>(out, fraction);
    }
    out.push(b'Z');
}

fn push_digits<const N: usize>(out: &mut Vec<u8>, mut value: i64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Reads `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm|±hhmm|±hh)` as milliseconds since the epoch.
///
/// `None` if it is malformed or more precise than a millisecond.
pub(super) fn parse(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = take_digits(&mut rest, 4)?;
    take(&mut rest, b"-")?;
    let month = take_digits(&mut rest, 2)?;
    take(&mut rest, b"-")?;
    let day = take_digits(&mut rest, 2)?;
    take(&mut rest, b"Tt")?;
    let hour = take_digits(&mut rest, 2)?;
    take(&mut rest, b":")?;
    let minute = take_digits(&mut rest, 2)?;
    take(&mut rest, b":")?;
    let second = take_digits(&mut rest, 2)?;
    let fraction = take_fraction(&mut rest)?;
    let offset = take_offset(&mut rest)?;

    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && rest.is_empty();
    if !valid {
        return None;
    }
    let seconds = (hour * 60 + minute - offset) * 60 + second;
    Some(days_from_civil(year, month, day) * MILLIS_PER_DAY + seconds * 1000 + fraction)
}

fn take(rest: &mut &[u8], any_of: &[u8]) -> Option<u8> {
    let (&byte, after) = rest.split_first()?;
    any_of.contains(&byte).then_some(())?;
    *rest = after;
    Some(byte)
}

fn take_digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let mut value = 0;
    for _ in 0..count {
        value = value * 10 + i64::from(take(rest, b"0123456789")? - b'0');
    }
    Some(value)
}

/// Milliseconds; digits beyond them must be zero.
fn take_fraction(rest: &mut &[u8]) -> Option<i64> {
    if take(rest, b".").is_none() {
        return Some(0);
    }
    let (mut millis, mut scale) = (0, 100);
    let before = rest.len();
    while let Some(digit) = take(rest, b"0123456789") {
        if scale == 0 && digit != b'0' {
            return None;
        }
        millis += i64::from(digit - b'0') * scale;
        scale /= 10;
    }
    (rest.len() < before).then_some(millis)
}

/// Minutes ahead of UTC.
fn take_offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match take(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = take_digits(rest, 2)?;
    let colon = take(rest, b":").is_some();
    let minutes = if colon || !rest.is_empty() {
        take_digits(rest, 2)?
    } else {
        0
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
