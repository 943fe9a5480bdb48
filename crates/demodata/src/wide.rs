//! Documents of 500 fields.

use bson::raw::{BindRawBsonRef, CStr, cstr};
use bson::{DateTime, RawDocumentBuf};
use rand::Rng;

use crate::{identity, money, text};

/// How many fields a document has, `_id` among them.
pub(crate) const FIELDS: u16 = 500;

/// `_id` and `field001` to `field499`, whose types repeat every eight fields.
pub(crate) fn document(seed: u64, index: u64, rng: &mut impl Rng) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), identity::object_id(seed, index));
    for field in 1..FIELDS {
        let name = format!("field{field:03}");
        match field % 8 {
            0 => append(&mut document, &name, rng.random::<i32>()),
            1 => append(&mut document, &name, text::words(rng, 1)),
            2 => append(&mut document, &name, rng.random_range(0.0..1.0)),
            3 => append(&mut document, &name, rng.random_range(0..1_i64 << 40)),
            4 => append(&mut document, &name, rng.random_bool(0.5)),
            5 => append(&mut document, &name, text::words(rng, 2)),
            6 => append(&mut document, &name, date(rng)),
            _ => append(
                &mut document,
                &name,
                money::decimal(rng.random_range(0..10_000_000)),
            ),
        }
    }
    document
}

fn date(rng: &mut impl Rng) -> DateTime {
    DateTime::from_millis(identity::EPOCH + rng.random_range(0..365 * identity::DAY))
}

fn append(document: &mut RawDocumentBuf, name: &str, value: impl BindRawBsonRef) {
    // The names are made above and hold no NUL, the only thing that this conversion refuses.
    if let Ok(name) = <&CStr>::try_from(name) {
        document.append(name, value);
    }
}
