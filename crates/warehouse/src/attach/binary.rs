//! Values as PostgreSQL copies them out in binary.

use super::column::Unreadable;

/// From 1970 to 2000, where PostgreSQL counts from, in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The same in days.
const EPOCH_DAYS: i32 = 10_957;

/// A value of a fixed length.
pub(super) fn bytes<const N: usize>(value: &[u8]) -> Result<[u8; N], Unreadable> {
    value
        .try_into()
        .map_err(|_| Unreadable(format!("the server has sent no value of {N} bytes")))
}

pub(super) fn boolean(value: &[u8]) -> Result<bool, Unreadable> {
    Ok(bytes::<1>(value)? != [0])
}

pub(super) fn text(value: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(value).map_err(|_| Unreadable::new("it is not UTF-8"))
}

pub(super) fn uuid(value: &[u8]) -> Result<String, Unreadable> {
    let digits = hex::encode(bytes::<16>(value)?);
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    Ok(parts.join("-"))
}

/// Days since 1970.
pub(super) fn date(value: &[u8]) -> Result<i32, Unreadable> {
    match i32::from_be_bytes(bytes(value)?) {
        i32::MAX => Err(Unreadable::new("infinity is no date")),
        i32::MIN => Err(Unreadable::new("-infinity is no date")),
        days => days
            .checked_add(EPOCH_DAYS)
            .ok_or_else(|| Unreadable::garbled("date")),
    }
}

/// Microseconds since 1970.
pub(super) fn timestamp(value: &[u8]) -> Result<i64, Unreadable> {
    match i64::from_be_bytes(bytes(value)?) {
        i64::MAX => Err(Unreadable::new("infinity is no timestamp")),
        i64::MIN => Err(Unreadable::new("-infinity is no timestamp")),
        micros => micros
            .checked_add(EPOCH_MICROS)
            .ok_or_else(|| Unreadable::garbled("timestamp")),
    }
}

/// The digits of a `numeric` that has at most `scale` of them behind the point.
///
/// It comes as digits to the base 10,000: how many there are, the power of the first one, the sign, how
/// many decimal digits are shown behind the point, and the digits.
pub(super) fn decimal(value: &[u8], scale: i8) -> Result<i128, Unreadable> {
    let mut words = value.chunks_exact(2).map(|word| [word[0], word[1]]);
    let mut next = || {
        words
            .next()
            .ok_or_else(|| Unreadable::garbled("whole numeric"))
    };
    let count = u16::from_be_bytes(next()?);
    let weight = i32::from(i16::from_be_bytes(next()?));
    let sign = u16::from_be_bytes(next()?);
    next()?;
    let is_negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xC000 => return Err(Unreadable::new("NaN is no decimal")),
        0xD000 => return Err(Unreadable::new("infinity is no decimal")),
        0xF000 => return Err(Unreadable::new("-infinity is no decimal")),
        _ => return Err(Unreadable::garbled("numeric")),
    };
    let too_long = || Unreadable::new("it has more digits than its column");
    let mut digits: i128 = 0;
    for place in 0..i32::from(count) {
        let digit = i128::from(u16::from_be_bytes(next()?));
        // By which power of ten this digit counts in the result.
        let power = (weight - place) * 4 + i32::from(scale);
        let part = if power >= 0 {
            10_i128
                .checked_pow(power.unsigned_abs())
                .and_then(|factor| digit.checked_mul(factor))
        } else {
            // What is behind the last place are zeros that fill up the digit.
            let factor = 10_i128.checked_pow(power.unsigned_abs());
            let factor = factor.ok_or_else(too_long)?;
            (digit % factor == 0).then_some(digit / factor)
        };
        digits = part
            .and_then(|part| digits.checked_add(part))
            .ok_or_else(too_long)?;
    }
    Ok(if is_negative { -digits } else { digits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let count = digits.len() as u16;
        let head = [count, weight as u16, sign, 0];
        head.iter()
            .chain(digits)
            .flat_map(|word| word.to_be_bytes())
            .collect()
    }

    #[test]
    fn numerics_are_read_to_their_last_digit() {
        for (value, scale, digits) in [
            (numeric(0, 0, &[]), 5, Ok(0)),
            (numeric(0, 0, &[12, 3400]), 2, Ok(1234)),
            (numeric(0, 0x4000, &[12, 3400]), 4, Ok(-123_400)),
            (numeric(-1, 0, &[1]), 4, Ok(1)),
            (numeric(-2, 0, &[10]), 7, Ok(1)),
            (numeric(2, 0, &[1]), 0, Ok(100_000_000)),
            (
                numeric(
                    9,
                    0,
                    &[99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999],
                ),
                0,
                Ok(10_i128.pow(38) - 1),
            ),
            (
                numeric(0, 0, &[12, 3450]),
                2,
                Err("it has more digits than its column"),
            ),
            (
                numeric(40, 0, &[1]),
                0,
                Err("it has more digits than its column"),
            ),
            (numeric(0, 0xC000, &[]), 2, Err("NaN is no decimal")),
            (numeric(0, 0xD000, &[]), 2, Err("infinity is no decimal")),
            (numeric(0, 0xF000, &[]), 2, Err("-infinity is no decimal")),
            (
                numeric(0, 0, &[1])[..8].to_vec(),
                2,
                Err("the server has sent no whole numeric"),
            ),
        ] {
            assert_eq!(
                decimal(&value, scale),
                digits.map_err(Unreadable::new),
                "{value:?}"
            );
        }
    }

    #[test]
    fn times_are_counted_from_1970_and_infinity_is_none() {
        assert_eq!(date(&(-10_957_i32).to_be_bytes()), Ok(0));
        assert_eq!(
            date(&i32::MAX.to_be_bytes()),
            Err(Unreadable::new("infinity is no date"))
        );
        assert_eq!(timestamp(&(1 - EPOCH_MICROS).to_be_bytes()), Ok(1));
        assert_eq!(
            timestamp(&i64::MIN.to_be_bytes()),
            Err(Unreadable::new("-infinity is no timestamp"))
        );
        // The last moment that PostgreSQL has.
        let last = 9_223_371_331_199_999_999_i64;
        assert_eq!(timestamp(&(last - EPOCH_MICROS).to_be_bytes()), Ok(last));
    }

    #[test]
    fn a_uuid_is_written_with_its_hyphens() {
        let value: Vec<u8> = (0..16).collect();
        assert_eq!(
            uuid(&value).as_deref(),
            Ok("00010203-0405-0607-0809-0a0b0c0d0e0f")
        );
    }
}
