//! Facts about single values: which column type each has, and whether it fits exactly.

use tributary_model::schema::{ColumnType, DecimalShape, MAX_DECIMAL_DIGITS};

use crate::raw::{MalformedBson, RawElement, kind};

/// The whole numbers up to this one are all exactly doubles.
const EXACT_DOUBLE: u64 = 1 << 53;

/// The most digits of a BSON decimal128.
const MAX_BSON_DIGITS: u8 = 34;

/// Milliseconds that still fit into microseconds.
const MAX_MILLIS: i64 = i64::MAX / 1000;

#[inline]
pub(super) fn is_exact_double(value: i64) -> bool {
    value.unsigned_abs() <= EXACT_DOUBLE
}

/// A BSON date in the microseconds of a timestamp column, if it fits.
#[inline]
pub(super) fn micros(millis: i64) -> Option<i64> {
    (-MAX_MILLIS..=MAX_MILLIS)
        .contains(&millis)
        .then(|| millis * 1000)
}

/// The shape in which `value` is exactly a decimal; none for one that is not (such as 0.1, whose
/// 55 digits fit no decimal column) and for those that are no decimal at all.
pub(super) fn double_shape(value: f64) -> Option<DecimalShape> {
    if value == 0.0 {
        return value.is_sign_positive().then_some(DecimalShape::EMPTY);
    }
    if !value.is_finite() || value.abs() >= 1e38 {
        return None;
    }
    let bits = value.abs().to_bits();
    let exponent = (bits >> 52) as i32;
    let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
    if exponent == 0 {
        return None;
    }
    // value = mantissa × 2^power with an odd mantissa: it has as many decimals as -power.
    let trailing = mantissa.trailing_zeros() as i32;
    let power = exponent - 1075 + trailing;
    let scale = u8::try_from((-power).max(0))
        .ok()
        .filter(|scale| *scale <= MAX_DECIMAL_DIGITS)?;
    let integer = integer_digits(value.abs());
    // A decimal128 has no more digits: what is kept as a decimal must be readable back as one.
    (integer + scale <= MAX_BSON_DIGITS).then_some(DecimalShape { integer, scale })
}

fn integer_digits(value: f64) -> u8 {
    let whole = value.trunc() as u128;
    if whole == 0 {
        0
    } else {
        whole.ilog10() as u8 + 1
    }
}

/// A double as the unscaled value of a decimal of `scale`, where [`double_shape`] said it fits.
pub(crate) fn double_to_decimal(value: f64, scale: u8) -> Option<i128> {
    let shape = double_shape(value)?;
    if shape.scale > scale || shape.integer + scale > MAX_DECIMAL_DIGITS {
        return None;
    }
    let bits = value.abs().to_bits();
    let mantissa = i128::from((bits & ((1 << 52) - 1)) | (1 << 52));
    let mut power = (bits >> 52) as i32 - 1075;
    if value == 0.0 {
        return Some(0);
    }
    let trailing = mantissa.trailing_zeros();
    let mut unscaled = mantissa >> trailing;
    power += trailing as i32;
    if power >= 0 {
        unscaled = unscaled
            .checked_shl(power as u32)?
            .checked_mul(10i128.checked_pow(u32::from(scale))?)?;
    } else {
        // m × 2^-p × 10^scale = m × 5^p × 10^(scale-p)
        let p = power.unsigned_abs();
        unscaled = unscaled
            .checked_mul(5i128.checked_pow(p)?)?
            .checked_mul(10i128.checked_pow(u32::from(scale).checked_sub(p)?)?)?;
    }
    Some(if value.is_sign_negative() {
        -unscaled
    } else {
        unscaled
    })
}

/// The digits and the exponent of the finite `value` where no more than those of a decimal128 say it
/// exactly, the last digit not being zero; the sign aside.
pub(crate) fn double_to_coefficient(value: f64) -> Option<(u128, i32)> {
    let bits = value.abs().to_bits();
    let exponent = (bits >> 52) as i32;
    // The digits of a subnormal number are far too many.
    if exponent == 0 || !value.is_finite() {
        return None;
    }
    let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
    let trailing = mantissa.trailing_zeros();
    let mut coefficient = u128::from(mantissa >> trailing);
    let mut twos = exponent - 1075 + trailing as i32;
    let mut tens = 0;
    while twos > 0 && coefficient.is_multiple_of(5) {
        coefficient /= 5;
        twos -= 1;
        tens += 1;
    }
    let factor = if twos >= 0 {
        2u128.checked_pow(twos.unsigned_abs())?
    } else {
        // m × 2^-p = m × 5^p × 10^-p
        tens = twos;
        5u128.checked_pow(twos.unsigned_abs())?
    };
    let coefficient = coefficient.checked_mul(factor)?;
    (coefficient < 10u128.pow(u32::from(MAX_BSON_DIGITS))).then_some((coefficient, tens))
}

/// A Decimal128 of BSON as sign and digits: `coefficient × 10^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    pub(crate) coefficient: u128,
    pub(crate) exponent: i32,
}

impl Decimal {
    /// Decodes IEEE 754-2008 decimal128 in its binary integer encoding; none for NaN and the
    /// infinities.
    pub(crate) fn decode(bytes: [u8; 16]) -> Option<Self> {
        let bits = u128::from_le_bytes(bytes);
        let negative = bits >> 127 == 1;
        let combination = (bits >> 122) as u32 & 0x1f;
        if combination >= 0b11110 {
            return None;
        }
        let (biased, coefficient) = if combination >> 3 == 0b11 {
            // The large form has a coefficient over 34 digits, which the standard reads as zero.
            ((bits >> 111) as i32 & 0x3fff, 0)
        } else {
            ((bits >> 113) as i32 & 0x3fff, bits & ((1 << 113) - 1))
        };
        let coefficient = if coefficient >= 10u128.pow(34) {
            0
        } else {
            coefficient
        };
        Some(Self {
            negative,
            coefficient,
            exponent: biased - 6176,
        })
    }

    /// The digits that the value needs; none where no decimal column can hold it.
    ///
    /// Trailing zeros behind the point count: 1.50 keeps its two decimals where it can.
    pub(crate) fn shape(self) -> Option<DecimalShape> {
        if self.coefficient == 0 {
            let scale =
                u8::try_from((-self.exponent).clamp(0, i32::from(MAX_DECIMAL_DIGITS))).ok()?;
            return Some(DecimalShape { integer: 0, scale });
        }
        let digits = self.coefficient.ilog10() as i32 + 1;
        if self.exponent >= 0 {
            let integer = u8::try_from(digits + self.exponent).ok()?;
            return DecimalShape { integer, scale: 0 }.join(DecimalShape::EMPTY);
        }
        let mut scale = -self.exponent;
        if scale > i32::from(MAX_DECIMAL_DIGITS) {
            // Zeros at the end need not be kept for the value to be.
            let mut coefficient = self.coefficient;
            while coefficient.is_multiple_of(10) && scale > i32::from(MAX_DECIMAL_DIGITS) {
                coefficient /= 10;
                scale -= 1;
            }
        }
        let integer = u8::try_from((digits + self.exponent).max(0)).ok()?;
        DecimalShape {
            integer,
            scale: u8::try_from(scale).ok()?,
        }
        .join(DecimalShape::EMPTY)
    }

    /// The unscaled value in a column of `scale`; none where it does not fit exactly.
    pub(crate) fn unscaled(self, scale: u8) -> Option<i128> {
        let mut coefficient = self.coefficient;
        let mut shift = i32::from(scale) + self.exponent;
        if coefficient == 0 {
            return Some(0);
        }
        while shift < 0 {
            if !coefficient.is_multiple_of(10) {
                return None;
            }
            coefficient /= 10;
            shift += 1;
        }
        let value = coefficient.checked_mul(10u128.checked_pow(shift.unsigned_abs())?)?;
        if value >= 10u128.pow(u32::from(MAX_DECIMAL_DIGITS)) {
            return None;
        }
        let value = i128::try_from(value).ok()?;
        Some(if self.negative { -value } else { value })
    }
}

/// What a column needs to be to hold one value.
pub(super) enum Observed {
    /// A column of this type holds it.
    Type(ColumnType),
    /// No typed column holds it: it is rescued.
    Unfit,
}

/// The type of the column that would hold `element` alone.
pub(super) fn observe(element: &RawElement<'_>) -> Result<Observed, MalformedBson> {
    use ColumnType as T;
    Ok(Observed::Type(match element.kind {
        kind::DOUBLE => T::Double {
            decimal: double_shape(element.as_f64()?),
        },
        kind::STRING => {
            if std::str::from_utf8(element.as_string_bytes()?).is_err() {
                return Ok(Observed::Unfit);
            }
            T::String
        }
        kind::DOCUMENT => T::Document(Vec::new()),
        kind::ARRAY => T::Array(Box::new(T::Unknown)),
        kind::BINARY => {
            let (subtype, bytes) = element.as_binary()?;
            if subtype == 4 && bytes.len() == 16 {
                T::Uuid
            } else {
                T::Binary { subtype }
            }
        }
        kind::OBJECT_ID => T::ObjectId,
        kind::BOOL => T::Bool,
        kind::DATE => {
            if micros(element.as_date_millis()?).is_none() {
                return Ok(Observed::Unfit);
            }
            T::Date
        }
        kind::INT32 => T::Int32,
        kind::INT64 => T::Int64 {
            exact: is_exact_double(element.as_i64()?),
        },
        kind::DECIMAL128 => match Decimal::decode(decimal_bytes(element)?).and_then(Decimal::shape)
        {
            Some(shape) => T::Decimal(shape),
            None => return Ok(Observed::Unfit),
        },
        kind::NULL => T::Unknown,
        _ => T::Special,
    }))
}

pub(super) fn decimal_bytes(element: &RawElement<'_>) -> Result<[u8; 16], MalformedBson> {
    element.value.try_into().map_err(|_| MalformedBson {
        offset: 0,
        what: "a decimal128 is not 16 bytes",
    })
}

/// Whether a column whose values have `shape`, if it keeps one, holds those of `needed` as they are.
pub(super) fn covers(shape: Option<DecimalShape>, needed: DecimalShape) -> bool {
    shape.is_none_or(|shape| shape.join(needed) == Some(shape))
}

/// Whether values of this BSON type have no counterpart in tables.
pub(super) fn is_special(element_kind: u8) -> bool {
    matches!(
        element_kind,
        kind::TIMESTAMP
            | kind::REGEX
            | kind::CODE
            | kind::CODE_WITH_SCOPE
            | kind::SYMBOL
            | kind::MIN_KEY
            | kind::MAX_KEY
            | kind::DB_POINTER
            | kind::UNDEFINED
    )
}
