use ::bson::oid::ObjectId;
use ::bson::spec::BinarySubtype;
use ::bson::{
    Binary, DateTime, Decimal128, JavaScriptCodeWithScope, RawDocument, RawDocumentBuf, Regex,
    Timestamp,
};
use proptest::prelude::*;
use rquickjs::{Context, Runtime};

use super::*;
use crate::script::bson::{Reading, Types, read_field, write_field};
use crate::script::heap::Heap;
use crate::script::host::Host;
use crate::script::modules::Files;
use crate::script::prelude::Prelude;

/// Reads and writes the field `v` of documents, in one context.
struct There(Context);

impl There {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let context = Context::full(&runtime).unwrap();
        context.with(|ctx| {
            let host = Host::new(Heap::new(1 << 30), Arc::default());
            let program = Arc::new(Program::default());
            let files = std::rc::Rc::new(Files::new(&program));
            Prelude::install(&ctx, &host, &program, &files)
                .map(|_| ())
                .unwrap();
        });
        Self(context)
    }

    fn and_back(&self, document: &[u8]) -> Vec<u8> {
        self.0.with(|ctx| {
            let types = Types::of(&ctx).unwrap();
            let value = read_field(&ctx, &types, document, Reading::Exact).unwrap();
            write_field(&types, &value).unwrap()
        })
    }
}

fn round(value: impl Into<Bson>) -> Bson {
    let document = doc! { "v": value.into() }.to_vec().unwrap();
    let back = There::new().and_back(&document);
    Document::from_reader(&back[..])
        .unwrap()
        .remove("v")
        .unwrap()
}

#[test]
fn every_type_comes_back_as_it_was() {
    let all = doc! {
        "double": 1.5, "nan": f64::NAN, "infinity": f64::INFINITY, "zero": -0.0, "large": 1e300,
        "string": "grüß \u{1F600} \0 end", "empty": "", "document": { "a": { "b": {} } }, "array": [1, [], [2]],
        "binary": Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] },
        "uuid": Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] },
        "none": Binary { subtype: BinarySubtype::UserDefined(200), bytes: vec![] },
        "id": ObjectId::from_bytes([9; 12]), "yes": true, "no": false, "date": DateTime::from_millis(-5),
        "null": null, "regex": Bson::RegularExpression(Regex { pattern: "a/b".try_into().unwrap(), options: "imx".try_into().unwrap() }),
        "code": Bson::JavaScriptCode("x()".to_owned()),
        "scoped": Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "y".to_owned(), scope: doc! { "z": 1_i64 } }),
        "symbol": Bson::Symbol("s".to_owned()), "int": 5, "least": i32::MIN, "long": 5_i64, "longest": i64::MAX, "lowest": i64::MIN,
        "timestamp": Bson::Timestamp(Timestamp { time: u32::MAX, increment: 3_000_000_000 }),
        "decimal": "-1.50E+3".parse::<Decimal128>().unwrap(),
        "min": Bson::MinKey, "max": Bson::MaxKey, "__proto__": { "polluted": 1 }, "constructor": 1, "": 2,
    };
    let bytes = doc! { "v": all.clone() }.to_vec().unwrap();
    let back = There::new().and_back(&bytes);
    assert_eq!(back, bytes, "{:?}", Document::from_reader(&back[..]));
}

#[test]
fn types_that_are_no_longer_written_come_back_as_they_were() {
    // A dbPointer, and binary data of subtype 2, which repeats its length.
    let mut body = Vec::new();
    body.extend_from_slice(b"\x03v\0");
    let mut inner = vec![0; 4];
    inner.extend_from_slice(b"\x0Cp\0\x04\0\0\0d.c\0ABCDEFGHIJKL");
    inner.extend_from_slice(b"\x05b\0\x06\0\0\0\x02\x02\0\0\0hi");
    inner.push(0);
    let length = i32::try_from(inner.len()).unwrap();
    inner[..4].copy_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&inner);
    body.push(0);
    let mut document = i32::try_from(body.len() + 4)
        .unwrap()
        .to_le_bytes()
        .to_vec();
    document.extend_from_slice(&body);
    assert_eq!(There::new().and_back(&document), document);
}

#[test]
fn a_decimal_keeps_an_encoding_that_is_not_the_canonical_one() {
    let mut odd = [0xFF; 16];
    odd[15] = 0x60;
    assert_eq!(
        round(Decimal128::from_bytes(odd)),
        Decimal128::from_bytes(odd).into()
    );
}

#[test]
fn whole_doubles_become_int32_and_undefined_is_left_out() {
    assert_eq!(round(5.0), Bson::Int32(5));
    assert_eq!(round(2_147_483_648.0), Bson::Double(2_147_483_648.0));
    assert_eq!(
        round(doc! { "a": Bson::Undefined, "b": [Bson::Undefined] }),
        doc! { "b": [null] }.into()
    );
}

#[test]
fn text_that_is_not_utf8_is_replaced() {
    let document = b"\x0F\0\0\0\x02v\0\x03\0\0\0\xFFa\0\0";
    let back = There::new().and_back(document);
    assert_eq!(
        Document::from_reader(&back[..]).unwrap(),
        doc! { "v": "\u{FFFD}a" }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_javascript_have_their_types() {
    for (expression, value) in [
        (
            "[1, -1, 2147483647, 2147483648, 0.5]",
            ::bson::bson!([1, -1, i32::MAX, 2_147_483_648.0, 0.5]),
        ),
        (
            "[BSON.Int32(5), BSON.Double(5), BSON.Long(5), 5n]",
            ::bson::bson!([5, 5.0, 5_i64, 5_i64]),
        ),
        (
            "({ a: undefined, b() {}, c: Symbol(), d: 1 })",
            doc! { "d": 1 }.into(),
        ),
        (
            "({ a: BSON.MinKey, b: [BSON.MaxKey], c: BSON.MaxKey() })",
            doc! { "a": Bson::MinKey, "b": [Bson::MaxKey], "c": Bson::MaxKey }.into(),
        ),
        ("BSON.MaxKey", Bson::MaxKey),
        (
            "[undefined, () => 1, , 1]",
            ::bson::bson!([null, null, null, 1]),
        ),
        (
            "new Uint8Array([1, 2]).subarray(1)",
            Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![2],
            }
            .into(),
        ),
        (
            "new Uint8Array([1, 2]).buffer",
            Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![1, 2],
            }
            .into(),
        ),
        (
            "new Uint8Array(0)",
            Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![],
            }
            .into(),
        ),
        (
            "BSON.UUID('01010101010101010101010101010101')",
            Binary {
                subtype: BinarySubtype::Uuid,
                bytes: vec![1; 16],
            }
            .into(),
        ),
        (
            "/a.b/gi",
            Bson::RegularExpression(Regex {
                pattern: "a.b".try_into().unwrap(),
                options: "i".try_into().unwrap(),
            }),
        ),
        (
            "new Map([['b', 1], ['a', new Map([[1, 2]])]])",
            doc! { "b": 1, "a": { "1": 2 } }.into(),
        ),
        (
            "[new Number(5), new String('x'), new Boolean(true), Object(5n)]",
            ::bson::bson!([5, "x", true, 5_i64]),
        ),
        (
            "new (class A { constructor() { this.x = 1; } get y() { return 2; } })()",
            doc! { "x": 1 }.into(),
        ),
        (
            "({ toBSON() { return { a: 1 }; } })",
            doc! { "a": 1 }.into(),
        ),
        ("[{ toBSON() { return 5; } }]", ::bson::bson!([5])),
        (
            "new BSON.DBRef('c', 1, 'd')",
            doc! { "$ref": "c", "$id": 1, "$db": "d" }.into(),
        ),
        (
            "({ x: new (class Id extends BSON.ObjectId {})('000000000000000000000000') })",
            doc! { "x": ObjectId::from_bytes([0; 12]) }.into(),
        ),
        ("'a\\ud800b\\ud83d\\ude00'", "a\u{FFFD}b\u{1F600}".into()),
        (
            "'x'.repeat(20) + 'y'",
            format!("{}y", "x".repeat(20)).into(),
        ),
        ("new Date(5)", DateTime::from_millis(5).into()),
        (
            "Object.assign(Object.create(null), { a: 1 })",
            doc! { "a": 1 }.into(),
        ),
        ("new Proxy({ a: 1 }, {})", doc! { "a": 1 }.into()),
        (
            "({ 'ключ': 1, '\\ud800': 2 })",
            doc! { "ключ": 1, "\u{FFFD}": 2 }.into(),
        ),
    ] {
        assert_eq!(value_of(expression).await, value, "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_bson_are_of_their_classes() {
    let text = "exports = (d) => [d.i + 1, d.l instanceof BSON.Long, d.o instanceof BSON.ObjectId, d.b instanceof BSON.Binary, d.t instanceof Date, d.r instanceof BSON.BSONRegExp, d.m instanceof BSON.MinKey, d.s.t, Object.getPrototypeOf(d) === Object.prototype, Object.hasOwn(d, '__proto__'), d.polluted === undefined, Array.isArray(d.a), d.u === undefined && 'u' in d];";
    let isolate = isolate(text);
    let argument = doc! {
        "i": 1, "l": 1_i64, "o": ObjectId::new(), "b": Binary { subtype: BinarySubtype::Generic, bytes: vec![] },
        "t": DateTime::now(), "r": Bson::RegularExpression(Regex { pattern: "a".try_into().unwrap(), options: "".try_into().unwrap() }),
        "m": Bson::MinKey, "s": Bson::Timestamp(Timestamp { time: 4, increment: 1 }), "__proto__": { "polluted": 1 }, "a": [], "u": Bson::Undefined,
    };
    let outcome = isolate.run(call("f", vec![argument.into()])).await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!([
            2, true, true, true, true, true, true, 4, true, true, true, true, true
        ]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_are_no_bson_fail_the_call() {
    let isolate = isolate("exports = () => 1;");
    let mut broken = call("f", vec![]);
    broken.arguments = Bytes::from_static(b"\x05\0\0");
    let outcome = isolate.run(broken).await;
    assert!(
        failed(&outcome).message.contains("malformed BSON"),
        "{outcome:?}"
    );
}

/// Names that keep their place: those that are whole numbers would go first.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z_$. ]{0,6}",
        "[a-zé漢😀]{1,3}",
        Just("__proto__".to_owned()),
        Just("toString".to_owned())
    ]
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        any::<f64>().prop_map(Bson::Double),
        any::<bool>().prop_map(Bson::Boolean),
        any::<String>().prop_map(Bson::String),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        any::<[u8; 12]>().prop_map(|id| ObjectId::from_bytes(id).into()),
        any::<[u8; 16]>().prop_map(|bytes| Decimal128::from_bytes(bytes).into()),
        (-8_640_000_000_000_000..=8_640_000_000_000_000_i64)
            .prop_map(|millis| DateTime::from_millis(millis).into()),
        any::<(u32, u32)>()
            .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment })),
        (any::<u8>(), any::<Vec<u8>>()).prop_map(|(subtype, bytes)| Binary {
            subtype: subtype.into(),
            bytes
        }
        .into()),
        "[a-z.*]{0,8}".prop_map(|pattern| Bson::RegularExpression(Regex {
            pattern: pattern.try_into().unwrap(),
            options: "im".try_into().unwrap()
        })),
        any::<String>().prop_map(Bson::JavaScriptCode),
        any::<String>().prop_map(Bson::Symbol),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Bson::Array),
            prop::collection::vec((name(), inner), 0..8)
                .prop_map(|fields| fields.into_iter().collect::<Document>().into()),
        ]
    })
}

/// Doubles that are whole numbers come back as int32.
fn expected(value: Bson) -> Bson {
    match value {
        Bson::Double(double) if f64::from(double as i32).to_bits() == double.to_bits() => {
            Bson::Int32(double as i32)
        }
        Bson::Double(double) if double.is_nan() => Bson::Double(f64::NAN),
        Bson::Array(values) => values.into_iter().map(expected).collect::<Vec<_>>().into(),
        Bson::Document(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, expected(value)))
            .collect::<Document>()
            .into(),
        other => other,
    }
}

#[test]
fn any_document_comes_back_with_its_types_and_order() {
    let there = There::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    });
    runner
        .run(&value(), |value| {
            let document: RawDocumentBuf =
                RawDocumentBuf::try_from(&doc! { "v": value.clone() }).unwrap();
            let back = there.and_back(document.as_bytes());
            let back = Document::try_from(RawDocument::from_bytes(&back).unwrap()).unwrap();
            prop_assert_eq!(
                format!("{:?}", back.get("v").unwrap()),
                format!("{:?}", expected(value))
            );
            Ok(())
        })
        .unwrap();
}
