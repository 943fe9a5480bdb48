//! Arbitrary BSON of every type, with the values that are known to cause trouble.

use bson::oid::ObjectId;
use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp,
};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

/// Field names: plain, empty, with dots, `$` and other scripts, and differing only in case.
///
/// None is the key of an Extended JSON type wrapper.
pub(crate) fn field_name() -> impl Strategy<Value = String> + Clone {
    let odd = [
        "",
        " ",
        ".",
        "a.b",
        ".a",
        "a.",
        "a..b",
        "$",
        "$set",
        "$ref",
        "$id",
        "$regex",
        "$type",
        "$scope",
        "a$b",
        "_id",
        "_ID",
        "name",
        "Name",
        "NAME",
        "0",
        "1",
        "00",
        "-1",
        "é",
        "e\u{301}",
        "straße",
        "STRASSE",
        "İ",
        "ı",
        "名前",
        "😀",
        "\u{200D}",
        "\u{2028}",
        "\u{FEFF}",
        "\"",
        "\\",
        "'",
        "`",
        "a\nb",
        "\t",
        "\u{1}",
        "\u{7F}",
        "null",
        "select",
        "_rescued_data",
        "a/b",
        "a,b;{}()=",
    ];
    prop_oneof![3 => "[a-d]{1,2}", 3 => select(odd.to_vec()).prop_map(str::to_owned), 1 => text_without_nul()]
}

/// Strings: short and long, with escapes, control characters, NUL and all planes.
pub(crate) fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        3 => "[ -~]{0,24}",
        1 => vec(any::<char>(), 0..24).prop_map(String::from_iter),
        1 => vec(prop_oneof![proptest::char::range('\0', '\u{A0}'), Just('"'), Just('\\'), Just('\u{2028}')], 0..24)
            .prop_map(String::from_iter),
        1 => select(&["", "null", "NaN", "$where", "{}", "1970-01-01T00:00:00Z", "\u{FFFD}", "\u{10FFFF}"][..])
            .prop_map(str::to_owned),
    ]
}

/// As [`text`], for places where BSON does not allow NUL.
pub(crate) fn text_without_nul() -> impl Strategy<Value = String> + Clone {
    text().prop_map(|text| text.replace('\0', ""))
}

/// Doubles, among them both zeros, infinities and one NaN.
pub(crate) fn double() -> impl Strategy<Value = f64> {
    let edges = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        5.0,
        0.1,
        0.3,
        f64::MIN,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        f64::EPSILON,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        2147483647.0,
        2147483648.0,
        9007199254740991.0,
        9007199254740992.0,
        9007199254740993.0,
        9223372036854775807.0,
        -9223372036854775808.0,
        18446744073709551615.0,
        1e15,
        1e16,
        1e17,
        1e21,
        1e22,
        1e23,
        123456.789,
    ];
    prop_oneof![
        2 => select(edges.to_vec()),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => any::<i32>().prop_map(f64::from),
        1 => (any::<i32>(), 0..6_i32).prop_map(|(value, places)| f64::from(value) / 10_f64.powi(places)),
    ]
    .prop_map(|value| if value.is_nan() { f64::NAN } else { value })
}

/// Integers of 32 bits.
pub(crate) fn int32() -> impl Strategy<Value = i32> {
    prop_oneof![
        select(&[0, 1, -1, i32::MIN, i32::MAX][..]),
        any::<i32>(),
        -100..100
    ]
}

/// Integers of 64 bits, many just within or beyond what narrower types hold.
pub(crate) fn int64() -> impl Strategy<Value = i64> {
    let edges = [
        0,
        1,
        -1,
        i64::MIN,
        i64::MIN + 1,
        i64::MAX,
        i64::MAX - 1,
        i32::MAX as i64,
        i32::MAX as i64 + 1,
        i32::MIN as i64,
        i32::MIN as i64 - 1,
        1 << 53,
        (1 << 53) + 1,
        -(1 << 53) - 1,
    ];
    prop_oneof![select(edges.to_vec()), any::<i64>(), -100..100_i64]
}

/// Milliseconds since the epoch, many around the limits of text and of microseconds.
pub(crate) fn date_millis() -> impl Strategy<Value = i64> {
    let edges = [
        0,
        1,
        -1,
        999,
        1000,
        -1000,
        i64::MIN,
        i64::MAX,
        253_402_300_799_999,
        253_402_300_800_000,
        951_782_400_000,
        1_709_164_800_000,
        4_107_542_400_000,
        -62_135_596_800_000,
        -62_135_596_800_001,
        i64::MAX / 1000,
        i64::MAX / 1000 + 1,
        i64::MIN / 1000,
        i64::MIN / 1000 - 1,
    ];
    prop_oneof![
        select(edges.to_vec()),
        any::<i64>(),
        0..4_102_444_800_000_i64
    ]
}

/// Any sixteen bytes, which need not be a decimal128 in canonical encoding.
pub(crate) fn decimal_bytes() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        any::<[u8; 16]>(),
        decimal().prop_map(|decimal| decimal.bytes())
    ]
}

/// Decimals in canonical encoding.
pub(crate) fn decimal() -> impl Strategy<Value = Decimal128> {
    let edges = [
        "0",
        "-0",
        "0E+3",
        "0.000",
        "-0E-6176",
        "0E+6111",
        "1",
        "-1",
        "1.0",
        "0.1",
        "1E+3",
        "1E-7",
        "0.000001",
        "0.0000001",
        "12345678901234567890123456789012.34",
        "NaN",
        "Infinity",
        "-Infinity",
        "9.999999999999999999999999999999999E+6144",
        "-9.999999999999999999999999999999999E+6144",
        "1E-6176",
        "9999999999999999999999999999999999",
        "1.000000000000000000000000000000000E+6144",
    ];
    let finite = (
        any::<bool>(),
        any::<u128>(),
        0..35_u32,
        prop_oneof![0..12288_u128, 6160..6190_u128],
    )
        .prop_map(|(negative, coefficient, digits, biased_exponent)| {
            let coefficient = coefficient % 10_u128.pow(digits.min(34));
            let bits =
                u128::from(negative) << 127 | biased_exponent.min(12287) << 113 | coefficient;
            Decimal128::from_bytes(bits.to_le_bytes())
        });
    prop_oneof![
        1 => select(edges.to_vec()).prop_map(|text| text.parse().expect("a decimal")),
        2 => finite,
    ]
}

/// Binary data of every subtype.
pub(crate) fn binary() -> impl Strategy<Value = Binary> {
    let subtype = prop_oneof![0..10_u8, Just(0x80), any::<u8>()];
    (
        subtype,
        prop_oneof![3 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 16)],
    )
        .prop_map(|(subtype, bytes)| Binary {
            subtype: subtype.into(),
            bytes,
        })
}

fn object_id() -> impl Strategy<Value = ObjectId> {
    prop_oneof![any::<[u8; 12]>(), Just([0; 12]), Just([0xFF; 12])].prop_map(ObjectId::from_bytes)
}

fn regex() -> impl Strategy<Value = Regex> {
    (
        text_without_nul(),
        prop_oneof![Just(String::new()), "[ilmsux]{0,4}", text_without_nul()],
    )
        .prop_map(|(pattern, options)| {
            let mut sorted: Vec<char> = options.chars().collect();
            sorted.sort_unstable();
            Regex {
                pattern: pattern.try_into().expect("no NUL"),
                options: String::from_iter(sorted).try_into().expect("no NUL"),
            }
        })
}

fn db_pointer() -> impl Strategy<Value = Bson> {
    (text(), object_id()).prop_map(|(namespace, id)| {
        let json =
            serde_json::json!({"$dbPointer": {"$ref": namespace, "$id": {"$oid": id.to_hex()}}});
        Bson::try_from(json).expect("a dbPointer")
    })
}

/// Values of every type but documents, arrays and code with scope.
pub(crate) fn scalar() -> impl Strategy<Value = Bson> {
    let timestamp = (any::<u32>(), any::<u32>())
        .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment }));
    prop_oneof![
        4 => text().prop_map(Bson::String),
        3 => int32().prop_map(Bson::Int32),
        3 => int64().prop_map(Bson::Int64),
        3 => double().prop_map(Bson::Double),
        2 => date_millis().prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
        2 => decimal().prop_map(Bson::Decimal128),
        2 => binary().prop_map(Bson::Binary),
        1 => any::<bool>().prop_map(Bson::Boolean),
        1 => object_id().prop_map(Bson::ObjectId),
        1 => timestamp,
        1 => regex().prop_map(Bson::RegularExpression),
        1 => text().prop_map(Bson::JavaScriptCode),
        1 => text().prop_map(Bson::Symbol),
        1 => db_pointer(),
        1 => select(vec![Bson::Null, Bson::Undefined, Bson::MinKey, Bson::MaxKey]),
    ]
}

/// Values of every type, nested up to five levels.
pub(crate) fn value() -> impl Strategy<Value = Bson> {
    scalar().prop_recursive(5, 48, 6, |inner| {
        let fields = vec((field_name(), inner.clone()), 0..6)
            .prop_map(Document::from_iter)
            .boxed();
        prop_oneof![
            3 => fields.clone().prop_map(Bson::Document),
            2 => vec(inner, 0..6).prop_map(Bson::Array),
            1 => (text(), fields).prop_map(|(code, scope)| {
                Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })
            }),
        ]
    })
}

/// Documents, each name once; often with an `_id`.
pub(crate) fn document() -> impl Strategy<Value = Document> {
    (weighted(0.7, value()), vec((field_name(), value()), 0..8)).prop_map(|(id, fields)| {
        id.into_iter()
            .map(|id| ("_id".to_owned(), id))
            .chain(fields)
            .collect()
    })
}

/// The bytes of documents in which the same name may occur more than once.
pub(crate) fn document_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec((field_name(), value()), 0..8).prop_map(|fields| from_fields(&fields))
}

/// The bytes of a document of exactly these fields, in this order.
pub(crate) fn from_fields(fields: &[(String, Bson)]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for (name, value) in fields {
        let single = Document::from_iter([(name.clone(), value.clone())])
            .to_vec()
            .expect("BSON");
        bytes.extend_from_slice(&single[4..single.len() - 1]);
    }
    bytes.push(0);
    let length = i32::try_from(bytes.len()).expect("short");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}
