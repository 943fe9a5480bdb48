//! Documents that between them hold every BSON type and what is odd but legal in a collection.
//!
//! A field that is named after a type holds that type, in its ordinary and its extreme values. The other fields:
//!
//! | field | what it holds |
//! |---|---|
//! | `_id` | ObjectIds, int32, int64, strings, UUIDs and documents |
//! | `mixed` | another type in each document |
//! | `whole` | int32 beside doubles without a fraction |
//! | `number` | int32 beside int64 and doubles with a fraction |
//! | `twice` | two values of one name, in some documents |
//! | `broken` | a string that is not UTF-8, in some documents |
//! | `deep` | 60 documents inside one another, in some documents |
//! | `""`, `a.b`, `$dollar`, … | names that are odd, or that differ only in case |
//!
//! Each field but `_id` is missing in one document of 13 and null in another.

mod element;

use bson::{Decimal128, RawDocumentBuf};
use rand::Rng;

use crate::identity::{self, EPOCH};
use crate::{money, text};
use element::{Elements, NULL, Value};

/// Every this many documents the values of a field repeat at the latest, so this many hold all there is.
#[cfg(test)]
pub(crate) const PERIOD: u64 = 13 * 17 * 8;

pub(crate) fn document(seed: u64, index: u64, rng: &mut impl Rng) -> RawDocumentBuf {
    let mut elements = Elements::new();
    elements.push("_id", &id(seed, index));
    let mut position = 0;
    let mut put = |name: &str, value: Value| {
        position += 1;
        match (index + position) % 13 {
            0 => {}
            1 => elements.push(name, &NULL),
            _ => elements.push(name, &value),
        }
    };

    let typed = typed(seed, index, rng);
    let mixed = typed[(index % typed.len() as u64) as usize].1.clone();
    for (name, value) in typed {
        put(name, value);
    }
    put("mixed", mixed);
    put(
        "whole",
        if index % 3 == 1 {
            element::double((index % 1000) as f64)
        } else {
            element::int32(index as i32)
        },
    );
    put("number", number(index));
    for (name, value) in odd_names(index) {
        put(name, value);
    }
    match index % 17 {
        4 => {
            elements.push("twice", &element::string("first"));
            elements.push("twice", &element::int32(2));
        }
        9 => elements.push("broken", &element::string(b"caf\xe9 au lait")),
        11 => elements.push("deep", &deep(60)),
        _ => {}
    }
    elements.finish()
}

fn id(seed: u64, index: u64) -> Value {
    let object_id = identity::object_id(seed, index);
    match index % 8 {
        0 => element::int32(index as i32),
        1 => element::int64(index as i64 + (1 << 40)),
        2 => element::string(format!("key-{index}")),
        3 => element::binary(4, &uuid(seed, index)),
        4 => element::document(&[
            ("tenant", element::string("t1")),
            ("number", element::int64(index as i64)),
        ]),
        _ => element::object_id(object_id),
    }
}

fn uuid(seed: u64, index: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&identity::mix(seed).to_be_bytes());
    bytes[8..].copy_from_slice(&identity::mix(index).to_be_bytes());
    // Version 4, variant 1, as RFC 9562 has them.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

fn number(index: u64) -> Value {
    match index % 7 {
        3 => element::double(index as f64 + 0.5),
        5 => element::int64(i64::from(i32::MAX) + index as i64),
        _ => element::int32(index as i32),
    }
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(element::string("bottom"), |inner, _| {
        element::document(&[("in", inner)])
    })
}

/// Element `index` of a list that is not empty, starting over at its end.
fn turn<T: Clone>(index: u64, choices: &[T]) -> T {
    choices[(index % choices.len() as u64) as usize].clone()
}

fn typed(seed: u64, index: u64, rng: &mut impl Rng) -> Vec<(&'static str, Value)> {
    let object_id = identity::object_id(seed, index ^ 1);
    let scope = [("limit", element::int32(10))];
    vec![
        ("double", element::double(turn(index, &doubles(rng)))),
        ("string", element::string(turn(index, &strings(rng)))),
        ("document", turn(index, &documents(index))),
        ("array", turn(index, &arrays(index))),
        ("binary", turn(index, &binaries(seed, index))),
        ("undefined", element::UNDEFINED),
        ("objectId", element::object_id(object_id)),
        ("bool", element::bool(index.is_multiple_of(2))),
        ("date", element::date(turn(index, &dates(rng)))),
        ("null", NULL),
        (
            "regex",
            turn(
                index,
                &[element::regex("^a.*z$", "im"), element::regex("", "")],
            ),
        ),
        ("dbPointer", element::db_pointer("shop.orders", object_id)),
        ("code", element::code("function () { return 1; }")),
        ("symbol", element::symbol("legacy")),
        (
            "codeWithScope",
            element::code_with_scope("return limit;", &scope),
        ),
        (
            "int32",
            element::int32(turn(index, &[0, 1, -1, i32::MIN, i32::MAX])),
        ),
        (
            "timestamp",
            element::timestamp(turn(index, &[1, 1_735_689_600, u32::MAX]), index as u32 | 1),
        ),
        (
            "int64",
            element::int64(turn(
                index,
                &[0, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1],
            )),
        ),
        ("decimal128", element::decimal(turn(index, &decimals(rng)))),
        ("minKey", element::MIN_KEY),
        ("maxKey", element::MAX_KEY),
    ]
}

fn doubles(rng: &mut impl Rng) -> [f64; 10] {
    let ordinary = rng.random_range(-1e6..1e6);
    let subnormal = f64::from_bits(1);
    [
        ordinary,
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        subnormal,
        1e16,
    ]
}

fn strings(rng: &mut impl Rng) -> [String; 8] {
    [
        text::words(rng, 3),
        String::new(),
        "NUL \0 inside".to_owned(),
        "Ωμέγα 🌊 ناقص".to_owned(),
        "\"quoted\", back\\slash,\ttab\r\nand line".to_owned(),
        "2025-01-01T00:00:00Z".to_owned(),
        "12345678901234567890".to_owned(),
        text::prose(rng, 5_000),
    ]
}

fn documents(index: u64) -> [Value; 5] {
    [
        element::document(&[("x", element::int32(1)), ("y", element::string("one"))]),
        element::document(&[]),
        element::document(&[("y", element::string("two")), ("x", element::int64(2))]),
        element::document(&[
            ("x", element::string("not a number")),
            ("z", element::bool(true)),
        ]),
        element::document(&[(
            "inner",
            element::document(&[("at", element::date(EPOCH + index as i64))]),
        )]),
    ]
}

fn arrays(index: u64) -> [Value; 7] {
    let whole = element::int32(index as i32);
    [
        element::array(&[whole.clone(), element::int32(2)]),
        element::array(&[]),
        element::array(&[whole.clone(), element::double(0.5), element::int64(3)]),
        element::array(&[whole.clone(), element::string("two"), element::bool(true)]),
        element::array(&[
            element::array(std::slice::from_ref(&whole)),
            element::array(&[]),
        ]),
        element::array(&[NULL, whole.clone(), NULL]),
        element::array(&[
            element::document(&[("a", whole)]),
            element::document(&[("b", element::string("b"))]),
        ]),
    ]
}

fn binaries(seed: u64, index: u64) -> [Value; 8] {
    let uuid = uuid(seed, index);
    [
        element::binary(0, b"generic \x00\xff"),
        element::binary(0, b""),
        element::binary(1, b"function"),
        element::binary(2, b"old"),
        element::binary(3, &uuid),
        element::binary(4, &uuid),
        element::binary(5, &uuid),
        element::binary(0x80, b"user defined"),
    ]
}

/// Ordinary dates, dates before 1970, and dates that do not fit into microseconds or four digits of year.
fn dates(rng: &mut impl Rng) -> [i64; 9] {
    const YEAR_1: i64 = -62_135_596_800_000;
    const YEAR_10000: i64 = 253_402_300_800_000;
    let ordinary = EPOCH + rng.random_range(0..365 * identity::DAY);
    [
        ordinary,
        0,
        -1,
        YEAR_1,
        YEAR_1 - 1,
        YEAR_10000,
        i64::MAX / 1000 + 1,
        i64::MIN,
        i64::MAX,
    ]
}

fn decimals(rng: &mut impl Rng) -> Vec<Decimal128> {
    const TEXTS: [&str; 13] = [
        "0",
        "-0",
        "0.000",
        "NaN",
        "Infinity",
        "-Infinity",
        "1234567890123456789012345678901234",
        "-0.1234567890123456789012345678901234",
        "12345678901234567.12345678901234567",
        "9.999999999999999999999999999999999E+6144",
        "1E-6176",
        "1E+3",
        "1.50",
    ];
    let mut decimals = vec![money::decimal(rng.random_range(-1_000_000..1_000_000))];
    decimals.extend(
        TEXTS
            .iter()
            .filter_map(|text| text.parse::<Decimal128>().ok()),
    );
    decimals
}

fn odd_names(index: u64) -> [(&'static str, Value); 12] {
    let long = concat!(
        "a name of one hundred and twenty characters, which is more than some stores ",
        "allow for the name of a column: 1234567890123"
    );
    [
        ("", element::string("empty")),
        ("a.b", element::int32(1)),
        (
            "a",
            element::document(&[
                ("b", element::int32(index as i32)),
                ("b.c", element::bool(true)),
            ]),
        ),
        ("$dollar", element::int32(2)),
        (
            "with space, comma;{}()\n\t=",
            element::string("what Parquet and Delta dislike"),
        ),
        ("naïve-Straße-名前", element::bool(true)),
        ("name", element::string("lower")),
        ("Name", element::string("title")),
        ("NAME", element::int32(3)),
        ("0", element::int32(0)),
        ("_rescued_data", element::string("ours")),
        (long, element::bool(false)),
    ]
}
