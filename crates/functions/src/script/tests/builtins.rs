use ::bson::DateTime;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn classes_of_bson_are_made_with_and_without_new() {
    for (expression, value) in [
        (
            "[BSON.ObjectId(), new BSON.ObjectId(), BSON.ObjectID()].every((id) => id instanceof BSON.ObjectId && id.toHexString().length === 24)",
            true.into(),
        ),
        (
            "BSON.ObjectId('0123456789ABCDEF01234567').toString()",
            "0123456789abcdef01234567".into(),
        ),
        (
            "BSON.ObjectId('0123456789abcdef01234567').equals(new BSON.ObjectId('0123456789abcdef01234567'))",
            true.into(),
        ),
        (
            "BSON.ObjectId.isValid('x') || !BSON.ObjectId.isValid('0123456789abcdef01234567')",
            false.into(),
        ),
        (
            "BSON.ObjectId.createFromTime(1).getTimestamp().getTime()",
            1000.into(),
        ),
        (
            "BSON.Int32('7').valueOf() + BSON.Double(0.5).valueOf()",
            7.5.into(),
        ),
        (
            "BSON.Long.fromString('9007199254740993').add(1).toString()",
            "9007199254740994".into(),
        ),
        (
            "BSON.Long.MAX_VALUE.add(1).equals(BSON.Long.MIN_VALUE)",
            true.into(),
        ),
        (
            "BSON.Long.fromNumber(7).divide(2).toNumber() + BSON.Long(7).modulo(4)",
            6.into(),
        ),
        ("BSON.Long.fromString('ff', 16).toInt()", 255.into()),
        (
            "BSON.Long(3).greaterThan(2) && BSON.Long(1).lt(2) && BSON.Long(0).isZero()",
            true.into(),
        ),
        ("new BSON.Long(-1, 0).toString()", "4294967295".into()),
        (
            "BSON.Decimal128.fromString('1.50E+3').toString()",
            "1.50E+3".into(),
        ),
        (
            "BSON.Binary.fromBase64('aGk=').text() + BSON.Binary.fromHex('6869', 5).subType + BSON.Binary.fromText('hi').toHex()",
            "hi56869".into(),
        ),
        (
            "BSON.Binary.fromText('hi').length() + BSON.Binary.fromText('hi').buffer[0]",
            106.into(),
        ),
        (
            "BSON.UUID('01234567-89ab-cdef-0123-456789abcdef').toHexString()",
            "01234567-89ab-cdef-0123-456789abcdef".into(),
        ),
        (
            "BSON.Timestamp(5, 6).t + BSON.Timestamp({ t: 1, i: 2 }).i",
            7.into(),
        ),
        ("`${BSON.BSONRegExp('a', 'mi')}`", "/a/im".into()),
        ("BSON.Code('x').code + BSON.BSONSymbol('y')", "xy".into()),
        (
            "new BSON.ObjectId().constructor === BSON.ObjectId && BSON.Long(1)._bsontype",
            "Long".into(),
        ),
        ("Object.keys({ ...BSON.ObjectId() }).length", 0.into()),
        (
            "BSON.ObjectId('aaaaaaaaaaaé'.slice(0, 11) + 'b').toHexString() + BSON.ObjectId.isValid('aaaaaaaaaaaa') + BSON.ObjectId.isValid('aaaaaaaaaaaé')",
            "616161616161616161616162truefalse".into(),
        ),
        (
            "BSON.ObjectId('aaaaaaaaaaaa').equals('aaaaaaaaaaaa') && !BSON.ObjectId('aaaaaaaaaaaa').equals('aaaaaaaaaaab')",
            true.into(),
        ),
        (
            "[BSON.Double().value, BSON.Int32().value, BSON.Long().toNumber(), new BSON.Double(undefined).value]",
            ::bson::bson!([0, 0, 0, 0]),
        ),
    ] {
        let value: Bson = value;
        assert_eq!(value_of(expression).await, value, "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_value_of_a_class_is_refused() {
    for expression in [
        "BSON.ObjectId('x')",
        "BSON.ObjectId({})",
        "BSON.Decimal128.fromString('x')",
        "BSON.Binary.fromHex('x')",
        "BSON.Binary.fromBase64('*')",
        "BSON.UUID('x')",
        "BSON.Long.fromString('1.5')",
        "BSON.Long(1).divide(0)",
        "EJSON.parse('{')",
        "EJSON.parse('{\"$oid\": 5}')",
        "EJSON.parse('{\"$date\": \"soon\"}')",
        "EJSON.parse('{\"$numberInt\": 2147483648}')",
        "BSON.ObjectId('aaaaaaaaaaaé')",
    ] {
        let failure = failure_of(&format!("exports = () => {expression};"), short()).await;
        assert_eq!(failure.kind, FailureKind::Thrown, "{expression}");
        assert!(
            ["TypeError", "SyntaxError", "RangeError"].contains(&failure.name.as_str()),
            "{expression}: {failure:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_plain_forms_of_the_classes() {
    let expression = "JSON.stringify([BSON.ObjectId('0123456789abcdef01234567'), BSON.Long(5), BSON.Long.fromString('9007199254740993'), BSON.Int32(1), BSON.Double(1.5), BSON.Decimal128.fromString('1.5'), BSON.Binary.fromText('hi'), BSON.Timestamp(1, 2), BSON.MinKey(), BSON.BSONRegExp('a', 'i')])";
    assert_eq!(
        value_of(expression).await,
        Bson::String("[\"0123456789abcdef01234567\",5,\"9007199254740993\",1,1.5,\"1.5\",\"aGk=\",{\"$timestamp\":{\"t\":1,\"i\":2}},{\"$minKey\":1},{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"i\"}}]".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_json_is_written_and_read() {
    for (expression, value) in [
        (
            "EJSON.stringify({ n: 1, d: new Date(5), f: 1.5 })",
            Bson::from(
                "{\"n\":{\"$numberInt\":\"1\"},\"d\":{\"$date\":{\"$numberLong\":\"5\"}},\"f\":{\"$numberDouble\":\"1.5\"}}",
            ),
        ),
        (
            "EJSON.stringify({ n: 1, d: new Date(5) }, { relaxed: true })",
            "{\"n\":1,\"d\":{\"$date\":\"1970-01-01T00:00:00.005Z\"}}".into(),
        ),
        (
            "EJSON.stringify({ n: BSON.Long(1), m: 2 }, ['m', '$numberInt'], 1)",
            "{\n \"m\": {\n  \"$numberInt\": \"2\"\n }\n}".into(),
        ),
        (
            "EJSON.stringify([undefined, () => 1, BSON.ObjectId('0123456789abcdef01234567')])",
            "[null,null,{\"$oid\":\"0123456789abcdef01234567\"}]".into(),
        ),
        (
            "EJSON.stringify({ a: undefined, f() {}, m: BSON.MaxKey })",
            "{\"m\":{\"$maxKey\":1}}".into(),
        ),
        ("EJSON.stringify('text')", "\"text\"".into()),
        ("String(EJSON.stringify(undefined))", "undefined".into()),
        (
            "EJSON.parse('{\"a\":{\"$numberLong\":\"5\"},\"b\":1700000000000}')",
            doc! { "a": 5, "b": 1_700_000_000_000.0 }.into(),
        ),
        (
            "EJSON.parse('{\"a\":{\"$numberLong\":\"5\"}}', { relaxed: false })",
            doc! { "a": 5_i64 }.into(),
        ),
        (
            "EJSON.parse('[{\"$numberLong\":\"9007199254740993\"}]')",
            ::bson::bson!([9_007_199_254_740_993_i64]),
        ),
        (
            "EJSON.parse('[{\"$date\":5},{\"$date\":\"2020-01-01\"},{\"$date\":{\"$numberLong\":5}},{\"$date\":\"2020-01-01T00:00:00+0100\"}]')",
            ::bson::bson!([
                DateTime::from_millis(5),
                DateTime::from_millis(1_577_836_800_000),
                DateTime::from_millis(5),
                DateTime::from_millis(1_577_833_200_000)
            ]),
        ),
        (
            "EJSON.parse('{\"d\":{\"$date\":\"2020-01-01T00:00:00\"}}').d.getTime() === new Date('2020-01-01T00:00:00').getTime()",
            true.into(),
        ),
        (
            "EJSON.parse('[{\"$numberInt\":5},{\"$numberDouble\":1.5},{\"$numberLong\":7},{\"$numberDecimal\":1.5}]', { relaxed: false })",
            ::bson::bson!([
                5,
                1.5,
                7_i64,
                ("1.5".parse::<::bson::Decimal128>().unwrap())
            ]),
        ),
        (
            "EJSON.deserialize({ a: { $date: 5 } })",
            doc! { "a": DateTime::from_millis(5) }.into(),
        ),
        (
            "EJSON.deserialize(EJSON.serialize({ a: BSON.Decimal128.fromString('1.5') }))",
            doc! { "a": "1.5".parse::<::bson::Decimal128>().unwrap() }.into(),
        ),
    ] {
        assert_eq!(value_of(expression).await, value, "{expression}");
    }
}

/// Functions that make values of the classes, each another one of every number.
const MAKERS: &str = "
const makers = {
  id: (n) => BSON.ObjectId(String(n).repeat(24)), long: (n) => BSON.Long(n), decimal: (n) => BSON.Decimal128.fromString(`1.${n}`),
  binary: (n) => BSON.Binary.fromHex(`0${n}`), subtype: (n) => BSON.Binary.fromHex('00', n), time: (n) => BSON.Timestamp(n, 0),
  increment: (n) => BSON.Timestamp(0, n), regex: (n) => BSON.BSONRegExp(`a${n}`), options: (n) => BSON.BSONRegExp('a', n ? 'i' : ''),
  code: (n) => BSON.Code('x', { n }), symbol: (n) => BSON.BSONSymbol(`s${n}`), pointer: (n) => BSON.DBPointer('a.b', String(n).repeat(24)),
};
const made = { ...makers, int: (n) => BSON.Int32(n), double: (n) => BSON.Double(n), uuid: (n) => BSON.UUID(String(n).repeat(32)) };
const read = (value) => EJSON.parse(EJSON.stringify({ value }), { relaxed: false }).value;
const assert = require('assert');
const { isDeepStrictEqual } = require('util');
const isRefused = (act) => { try { act(); return false; } catch (error) { return error.name === 'AssertionError'; } };
";

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_class_are_compared_by_what_they_hold() {
    let text = format!(
        "{MAKERS}
const wrong = [];
const compare = (name, one, same, other) => {{
  const right = isDeepStrictEqual(one, same) && !isDeepStrictEqual(one, other)
    && !isRefused(() => assert.deepStrictEqual({{ one }}, {{ one: same }})) && isRefused(() => assert.deepStrictEqual({{ one }}, {{ one: other }}))
    && !isRefused(() => assert.deepEqual([one], [same])) && isRefused(() => assert.deepEqual([one], [other]));
  if (!right) wrong.push(name);
}};
for (const [name, make] of Object.entries(made)) compare(name, make(0), make(0), make(1));
for (const [name, make] of Object.entries(makers)) compare(`${{name}} read`, read(make(0)), make(0), read(make(1)));
exports = () => wrong;"
    );
    assert_eq!(result_of(&text).await, Bson::Array(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_values_of_a_class_are_such_values() {
    // As lodash does it.
    let text = format!(
        "{MAKERS}
const copied = (value) => {{
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) return value.slice();
  const copy = Array.isArray(value) ? [] : Object.create(Object.getPrototypeOf(value));
  const symbols = Object.getOwnPropertySymbols(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key));
  for (const key of [...Object.keys(value), ...symbols]) copy[key] = copied(value[key]);
  return copy;
}};
exports = () => {{
  const wrong = [];
  for (const [name, make] of Object.entries(made)) {{
    for (const value of [make(1), read(make(1))]) {{
      const whole = EJSON.stringify({{ value, list: [value] }});
      if (EJSON.stringify(copied({{ value, list: [value] }})) !== whole) wrong.push(`${{name}} copied`);
      if (EJSON.stringify(structuredClone({{ value, list: [value] }})) !== whole) wrong.push(`${{name}} cloned`);
    }}
  }}
  return wrong;
}};"
    );
    assert_eq!(result_of(&text).await, Bson::Array(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_value_of_a_class_holds_is_no_property_of_a_document() {
    let text = format!(
        "{MAKERS}
exports = () => {{
  const seen = [];
  for (const make of Object.values(made)) {{
    const value = make(1);
    for (const key in value) seen.push(key);
    seen.push(...Object.keys(value), EJSON.stringify({{ ...value }}), JSON.stringify(Object.assign({{}}, value)));
    if (require('util').inspect(value).includes('bson.')) seen.push('inspected');
  }}
  return [[...new Set(seen)], {{ ...made.id(1) }}];
}};"
    );
    assert_eq!(result_of(&text).await, ::bson::bson!([["{}"], {}]));
}
