//! Decimal128 as text, by the rules of the BSON Decimal128
//! [specification](https://github.com/mongodb/specifications/blob/master/source/bson-decimal128/decimal128.md).

const BIAS: i32 = 6176;
const MAX_EXPONENT: i64 = 6111;
const MIN_EXPONENT: i64 = -6176;
const MAX_DIGITS: u32 = 34;
const MAX_COEFFICIENT: u128 = 10u128.pow(MAX_DIGITS) - 1;

/// Appends the text of a decimal128. A coefficient that is too large counts as zero.
pub(super) fn push(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    let bits = u128::from_le_bytes(*bytes);
    let negative = bits >> 127 == 1;
    let top = (bits >> 122) as u8 & 0b11111;
    if top == 0b11111 {
        return out.extend_from_slice(b"NaN");
    }
    if negative {
        out.push(b'-');
    }
    if top == 0b11110 {
        return out.extend_from_slice(b"Infinity");
    }
    // The second form holds only coefficients above 2^113, all of which are too large.
    let (biased, coefficient) = if top >> 3 == 0b11 {
        (bits >> 111, 0)
    } else {
        (bits >> 113, bits & ((1 << 113) - 1))
    };
    let coefficient = if coefficient > MAX_COEFFICIENT {
        0
    } else {
        coefficient
    };
    push_finite(out, coefficient, (biased & 0x3FFF) as i32 - BIAS);
}

fn push_finite(out: &mut Vec<u8>, coefficient: u128, exponent: i32) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(coefficient).as_bytes();
    let adjusted = exponent + digits.len() as i32 - 1;
    if exponent > 0 || adjusted < -6 {
        let (first, fraction) = digits.split_at(1);
        out.extend_from_slice(first);
        if !fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        out.extend_from_slice(if adjusted < 0 { b"E" } else { b"E+" });
        out.extend_from_slice(itoa::Buffer::new().format(adjusted).as_bytes());
        return;
    }
    let decimals = exponent.unsigned_abs() as usize;
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if decimals > 0 {
        out.push(b'.');
        out.resize(out.len() + decimals - fraction.len(), b'0');
        out.extend_from_slice(fraction);
    }
}

/// Reads the text of a decimal128; `None` if it is malformed or cannot be held exactly.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = if unsigned.eq_ignore_ascii_case(b"nan") {
        0b11111 << 122
    } else if unsigned.eq_ignore_ascii_case(b"infinity") || unsigned.eq_ignore_ascii_case(b"inf") {
        0b11110 << 122
    } else {
        parse_finite(unsigned)?
    };
    Some((u128::from(negative) << 127 | magnitude).to_le_bytes())
}

fn parse_finite(text: &[u8]) -> Option<u128> {
    let mut coefficient: u128 = 0;
    let mut significant = 0;
    let mut exponent: i64 = 0;
    let (mut any_digit, mut in_fraction) = (false, false);
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'0'..=b'9' => {
                let digit = byte - b'0';
                any_digit = true;
                exponent -= i64::from(in_fraction);
                if significant == MAX_DIGITS {
                    // A 35th digit fits only as a larger exponent.
                    (digit == 0).then_some(())?;
                    exponent += 1;
                } else if coefficient != 0 || digit != 0 {
                    coefficient = coefficient * 10 + u128::from(digit);
                    significant += 1;
                }
            }
            b'.' if !in_fraction => in_fraction = true,
            b'e' | b'E' => break,
            _ => return None,
        }
        rest = after;
    }
    any_digit.then_some(())?;
    if let Some((_, written)) = rest.split_first() {
        exponent = exponent.checked_add(parse_exponent(written)?)?;
    }
    if coefficient == 0 {
        exponent = exponent.clamp(MIN_EXPONENT, MAX_EXPONENT);
    }
    while exponent > MAX_EXPONENT {
        (significant < MAX_DIGITS).then_some(())?;
        coefficient *= 10;
        significant += 1;
        exponent -= 1;
    }
    while exponent < MIN_EXPONENT {
        coefficient.is_multiple_of(10).then_some(())?;
        coefficient /= 10;
        exponent += 1;
        // Coefficients other than zero run out of trailing zeros within 34 steps.
    }
    let biased = u128::try_from(exponent + i64::from(BIAS)).ok()?;
    Some(biased << 113 | coefficient)
}

/// A signed integer, held at a magnitude far outside the range of exponents.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(())?;
    let magnitude = digits.iter().fold(0_i64, |value, digit| {
        (value * 10 + i64::from(digit - b'0')).min(1_000_000_000_000_000)
    });
    Some(if negative { -magnitude } else { magnitude })
}
