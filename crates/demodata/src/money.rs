//! Amounts of money: whole cents in calculations, Decimal128 with two decimals in documents.

use bson::Decimal128;

/// What an exponent of zero is stored as in a Decimal128.
const EXPONENT_BIAS: i64 = 6176;

/// `cents` as a Decimal128 with two decimals, so 1250 is `12.50`.
pub(crate) fn decimal(cents: i64) -> Decimal128 {
    decimal_with_scale(cents, 2)
}

/// `units` × 10^-`scale`, in the binary integer encoding of IEEE 754-2008: sign, 14 bits of exponent, 113 of integer.
pub(crate) fn decimal_with_scale(units: i64, scale: u8) -> Decimal128 {
    let sign = u64::from(units < 0) << 63;
    let exponent = ((EXPONENT_BIAS - i64::from(scale)) as u64) << 49;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&units.unsigned_abs().to_le_bytes());
    bytes[8..].copy_from_slice(&(sign | exponent).to_le_bytes());
    Decimal128::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::{decimal, decimal_with_scale};

    #[test]
    fn amounts_read_as_written() {
        for (cents, text) in [
            (0, "0.00"),
            (5, "0.05"),
            (1250, "12.50"),
            (-1_234_567, "-12345.67"),
        ] {
            assert_eq!(decimal(cents).to_string(), text);
            assert_eq!(decimal(cents), text.parse().unwrap());
        }
        assert_eq!(
            decimal_with_scale(i64::MIN, 0).to_string(),
            i64::MIN.to_string()
        );
        assert_eq!(decimal_with_scale(12_345, 4).to_string(), "1.2345");
    }
}
