use proptest::prelude::*;
use rquickjs::{Ctx, Function, TypedArray};

use super::{installed, run};

#[test]
fn text_is_encoded_and_decoded() {
    run(r#"
const each = {
  utf8: 'c3a9e282ac',
  hex: '',
  latin1: 'e9ac',
  utf16le: 'e900ac20',
};
for (const [name, hex] of Object.entries(each)) same(Buffer.from('é€', name).toString('hex'), hex);
same(Buffer.from('SGk', 'base64').toString(), 'Hi');
same(Buffer.from('S G\nk=junk', 'base64').toString(), 'Hi');
same(Buffer.from('-_-_', 'base64').toString('base64'), '+/+/');
same(Buffer.from('+/+/', 'base64url').toString('base64url'), '-_-_');
same(Buffer.from([0xff]).toString('base64'), '/w==');
same(Buffer.from([0xff]).toString('base64url'), '_w');
same(Buffer.from('0fFz12', 'hex').toString('hex'), '0f');
same(Buffer.from('abc', 'hex').length, 1);
same(Buffer.from([0xe9]).toString('ascii'), 'i');
same(Buffer.from([0x61, 0xff, 0x62]).toString(), 'a\ufffdb');
same(Buffer.from('\ud800').toString('hex'), 'efbfbd');
same(Buffer.from('\ud800', 'latin1').toString('hex'), '00');
same(Buffer.from('a\0b').toString(), 'a\0b');
refused(() => Buffer.from('a', 'rot13'), 'TypeError', 'known are utf8');
"#);
}

#[test]
fn a_buffer_is_made_from_many_things() {
    run(r"
same(Buffer.from([1, 2, 300]).toJSON(), { type: 'Buffer', data: [1, 2, 44] });
same(Buffer.from(JSON.parse(JSON.stringify(Buffer.from('ab')))).toString(), 'ab');
same(Buffer.from(BSON.Binary.fromHex('6162')).toString(), 'ab');
const shared = new Uint8Array([1, 2, 3, 4]);
const view = Buffer.from(shared.buffer, 1, 2);
view[0] = 9;
same(Array.from(shared), [1, 9, 3, 4]);
const copy = Buffer.from(shared);
copy[0] = 7;
same(shared[0], 1);
same(new Buffer('YQ==', 'base64').toString(), 'a');
same(Buffer.isBuffer(Buffer.alloc(1)) && !Buffer.isBuffer(shared), true);
same(Buffer.alloc(5, 'ab').toString(), 'ababa');
same(Buffer.concat([Buffer.from('ab'), new Uint8Array([99])]).toString(), 'abc');
same(Buffer.concat([Buffer.from('abc')], 2).toString(), 'ab');
same([Buffer.byteLength('é€'), Buffer.byteLength('é€', 'latin1'), Buffer.byteLength('YQ==', 'base64')], [5, 2, 1]);
same(Buffer.compare(Buffer.from('a'), Buffer.from('b')), -1);
same(Buffer.from('ab').equals(shared), false);
same(Buffer.from('ab').equals(Buffer.from('ab')), true);
refused(() => Buffer.from(5), 'TypeError', 'A buffer is made from');
refused(() => Buffer.alloc(-1), 'RangeError', 'cannot have -1 bytes');
refused(() => Buffer.alloc('1'), 'TypeError', 'must be a number');
");
}

#[test]
fn slices_of_a_buffer_share_its_bytes() {
    run(r"
const buffer = Buffer.from('abcdef');
const slice = buffer.slice(1, -1);
same(slice instanceof Buffer, true);
slice[0] = 0x7a;
same(buffer.toString(), 'azcdef');
same(buffer.subarray(2).toString('latin1', 1, 3), 'de');
same(buffer.indexOf('cd'), 2);
same(buffer.lastIndexOf('f'), 5);
same(buffer.includes(Buffer.from('xy')), false);
const target = Buffer.alloc(4);
same(buffer.copy(target, 1, 2), 3);
same(target.toString('hex'), '00636465');
same(target.write('é€', 1), 2);
same(target.toString('hex'), '00c3a965');
");
}

#[test]
fn numbers_are_read_and_written_in_both_orders() {
    run(r"
const buffer = Buffer.alloc(16);
same(buffer.writeUInt16BE(0x1234, 0), 2);
same(buffer.readUInt16LE(0), 0x3412);
buffer.writeInt32LE(-2, 4);
same([buffer.readInt32LE(4), buffer.readUInt32BE(4)], [-2, 0xfeffffff]);
buffer.writeBigInt64BE(-5n, 8);
same(String(buffer.readBigInt64BE(8)), '-5');
buffer.writeDoubleBE(1.5, 8);
same(buffer.readDoubleBE(8), 1.5);
buffer.writeFloatLE(0.5);
same(buffer.readFloatLE(), 0.5);
buffer.writeIntBE(-123456789012, 1, 6);
same([buffer.readIntBE(1, 6), buffer.readUint8(1)], [-123456789012, 0xff]);
buffer.writeUIntLE(0x010203, 0, 3);
same(buffer.readUIntBE(0, 3), 0x030201);
refused(() => buffer.readUInt32BE(13), 'RangeError', 'outside of the buffer of 16 bytes');
refused(() => buffer.writeUInt8(256), 'RangeError', 'from 0 to 255');
refused(() => buffer.writeInt8(-129), 'RangeError', 'from -128 to 127');
");
}

#[test]
fn a_text_decoder_takes_its_text_in_pieces() {
    run(r"
same(new TextEncoder().encode('é').join(), '195,169');
same(new TextEncoder().encodeInto('a€b', new Uint8Array(3)), { read: 1, written: 1 });
const decoder = new TextDecoder();
let text = '';
for (const byte of new TextEncoder().encode('\ufeffa€😀é')) text += decoder.decode(new Uint8Array([byte]), { stream: true });
same(text + decoder.decode(), 'a€😀é');
same(new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array([0xef, 0xbb, 0xbf])), '\ufeff');
same(new TextDecoder().decode(new Uint8Array([0xe2, 0x82])), '\ufffd');
same(new TextDecoder('UTF-16').decode(new Uint8Array([0x3d, 0xd8, 0x00, 0xde, 0x61])), '😀\ufffd');
same(new TextDecoder('latin1').decode(new Uint8Array([0x80, 0xe9])), '€é');
same(new TextDecoder().decode(new Uint8Array([97]).buffer), 'a');
refused(() => new TextDecoder('klingon'), 'RangeError', 'klingon');
refused(() => new TextDecoder().decode('a'), 'TypeError', 'ArrayBuffer');
");
}

#[test]
fn a_fatal_text_decoder_refuses_what_is_not_text() {
    run(r"
for (const bytes of [[0xff], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xc0, 0x80]]) {
  refused(() => new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array(bytes)), 'TypeError', 'not valid utf-8');
}
refused(() => new TextDecoder('utf-16le', { fatal: true }).decode(new Uint8Array([0, 0xd8])), 'TypeError', 'utf-16le');
const decoder = new TextDecoder('utf-8', { fatal: true });
same(decoder.decode(new Uint8Array([0xe2, 0x82]), { stream: true }), '');
same(decoder.decode(new Uint8Array([0xac])), '€');
");
}

#[test]
fn base64_of_the_web_is_strict() {
    run(r"
same(btoa('é\u00ff'), '6f8=');
same(atob(' 6f 8='), 'é\u00ff');
same(atob('6f8'), 'é\u00ff');
same(atob(''), '');
for (const text of ['6', '6f=', '6f8==', 'a*bc', '====', 'YQ=a', '-_-_']) {
  refused(() => atob(text), 'InvalidCharacterError', 'Base64');
}
refused(() => btoa('€'), 'InvalidCharacterError', 'Latin-1');
");
}

#[test]
fn bytes_whose_buffer_is_gone_are_refused() {
    run(r"
const bytes = new Uint8Array([1, 2]);
bytes.buffer.transfer();
let thrown = 'nothing';
try {
  same(Buffer.from(bytes).length, 0);
} catch (error) {
  thrown = error.name;
}
same(thrown, 'TypeError');
same(Buffer.from('still').toString(), 'still');
refused(() => crypto.getRandomValues(bytes), 'TypeError', 'gone');
");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_survive_each_encoding(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        installed(|ctx: Ctx<'_>| {
            let there_and_back: Function<'_> = ctx
                .eval("(bytes, encoding) => Buffer.from(Buffer.from(bytes).toString(encoding), encoding)")
                .unwrap();
            for encoding in ["hex", "base64", "base64url", "latin1", "binary", "utf16le"] {
                // UTF-16 has no half units.
                let whole = if encoding == "utf16le" { bytes.len() / 2 * 2 } else { bytes.len() };
                let given = TypedArray::new_copy(ctx.clone(), &bytes[..whole]).unwrap();
                let back: TypedArray<'_, u8> = there_and_back.call((given, encoding)).unwrap();
                // SAFETY: no JavaScript runs while the bytes are compared.
                assert_eq!(unsafe { back.as_bytes() }.unwrap(), &bytes[..whole], "{encoding}");
            }
        });
    }

    #[test]
    fn text_survives_utf8_and_the_decoder_in_pieces(text in any::<String>(), size in 1_usize..7) {
        installed(|ctx: Ctx<'_>| {
            let there_and_back: Function<'_> = ctx
                .eval(
                    "(text, size) => {
                       const { StringDecoder } = require('string_decoder');
                       const [decoder, streamed] = [new StringDecoder('utf8'), new TextDecoder('utf-8', { ignoreBOM: true })];
                       const bytes = Buffer.from(text);
                       let [one, other] = ['', ''];
                       for (let at = 0; at < bytes.length; at += size) {
                         one += decoder.write(bytes.slice(at, at + size));
                         other += streamed.decode(bytes.slice(at, at + size), { stream: true });
                       }
                       return [bytes.toString(), one + decoder.end(), other + streamed.decode()];
                     }",
                )
                .unwrap();
            let back: Vec<String> = there_and_back.call((text.as_str(), size)).unwrap();
            for back in back {
                assert_eq!(back, text);
            }
        });
    }
}
