use super::vectors::*;
use super::{run, run_with};

#[test]
fn digests_are_those_of_another_implementation() {
    run(r"
const { createHash, createHmac, getHashes } = require('crypto');
const known = {
  md5: ['49c5f675b49037b6044b803ac9d1a6d7', '1b1293a3211df78d4b9f71f7281dadb7'],
  sha1: ['f649751d6e1bb46f8c86a8e0300237c33df07074', 'a38ad89acaa09fc011be4f529c7d4cb79aa5d542'],
  sha224: [
    '5da86d3269718a9db48e9ef91277c21dbf72f550c6195f3848111c84',
    '97281897f0f060a057316918b1620fd295edc5a1e6fb254c5d90851d',
  ],
  sha256: [
    'f83e039796c6453a10f5519e39fd113901572316a1a8ea07cb525d2801dfd074',
    'cac5dc7581e7874e783c7e07f685add04ae4411ce922a576fe2fbae3f701443b',
  ],
  sha384: [
    '0ba0cb951745fce95b038299d2a8c64233489462ad294e48edb8de3646eefe215f67d349e3325e9d4f383b519c80266e',
    '38eced1588a797a2fea974851c757351899942b99e8fdec139d7345fc9621e5834fde3c396c1817a1899df3b34ca9e45',
  ],
  sha512: [
    '337827ce53f280bbeaca9f4f3bfaf87eb6f74358cd7aa2ccd692eec7d19eb52fddbaec14d292990f5dacceb142f45a4b4c66bcfd71c3fa67b6f9a695a6296efe',
    '7da0810494c3784f020a8148fe208ecc7d3180d6dbca4bbc34a051f91bcf17ead6ce797a2e2c70116fce41f05a858b5440b50c55df0270051ef01440b3ee27fe',
  ],
  'sha512-256': ['bb7965766eafaf9a6e8f316268264546d3a3cbb4e84bf2bd621b7206ed4ea9f7'],
};
same(getHashes(), Object.keys(known));
for (const [name, [plain, keyed]] of Object.entries(known)) {
  same(createHash(name).update('Grü').update('ße').digest('hex'), plain);
  if (keyed) same(createHmac(name, 'key').update('Grüße').digest('hex'), keyed);
}
same(createHash('SHA-256').update('').digest('hex').slice(0, 8), 'e3b0c442');
");
}

#[test]
fn a_digest_takes_bytes_in_any_form() {
    run(r"
const { createHash, createHmac } = require('crypto');
const bytes = new TextEncoder().encode('abc');
const digest = createHash('md5').update('abc').digest('hex');
same(digest, '900150983cd24fb0d6963f7d28e17f72');
for (const input of [Buffer.from('abc'), bytes, bytes.buffer, new DataView(bytes.buffer), BSON.Binary.fromHex('616263')]) {
  same(createHash('md5').update(input).digest('hex'), digest);
}
same(createHash('md5').update('616263', 'hex').digest('hex'), digest);
same(createHmac('sha1', bytes).update('x').digest('hex'), createHmac('sha1', 'abc').update('x').digest('hex'));
same(createHash('md5').update('abc').digest() instanceof Buffer, true);
const hash = createHash('md5');
hash.digest();
refused(() => hash.update('a'), 'Error', 'already taken');
refused(() => hash.digest(), 'Error', 'already taken');
refused(() => createHash('sha0'), 'TypeError', 'known are md5, sha1');
refused(() => createHmac('whirlpool', 'k'), 'TypeError', 'known are md5, sha1');
refused(() => createHash('md5').update(5), 'TypeError', 'The data must be');
");
}

#[test]
fn ciphers_are_those_of_another_implementation() {
    run_with(
        &[
            ("CBC_128", CBC_128),
            ("CBC_192", CBC_192),
            ("CBC_256", CBC_256),
        ],
        r"
const { createCipheriv, createDecipheriv, getCiphers } = require('crypto');
same(getCiphers(), ['aes-128-cbc', 'aes-192-cbc', 'aes-256-cbc']);
const text = 'Grüße, '.repeat(5);
const iv = Buffer.from(Array.from({ length: 16 }, (_, at) => at + 100));
for (const [size, expected] of [[128, CBC_128], [192, CBC_192], [256, CBC_256]]) {
  const key = Buffer.from(Array.from({ length: size / 8 }, (_, at) => at));
  const cipher = createCipheriv(`aes-${size}-cbc`, key, iv);
  let hex = '';
  for (const character of text) hex += cipher.update(character, 'utf8', 'hex');
  same(hex + cipher.final('hex'), expected);
  const decipher = createDecipheriv(`AES-${size}-CBC`, key, iv);
  let back = '';
  for (const pair of expected.match(/../g)) back += decipher.update(pair, 'hex', 'utf8');
  same(back + decipher.final('utf8'), text);
  const base64 = createCipheriv(`aes-${size}-cbc`, key, iv);
  const parts = base64.update(text, 'utf8', 'base64') + base64.final('base64');
  same(Buffer.from(parts, 'base64').toString('hex'), expected);
  const wrong = createDecipheriv(`aes-${size}-cbc`, key, iv);
  wrong.update(expected.slice(2) + '00', 'hex');
  refused(() => wrong.final(), 'Error', 'cannot be decrypted');
  refused(() => wrong.final(), 'Error', 'already at its end');
}
refused(() => createCipheriv('des', 'k', iv), 'TypeError', 'known are aes-128-cbc');
refused(() => createCipheriv('aes-128-cbc', 'short', iv), 'RangeError', 'a key of 5 bytes');
refused(() => createCipheriv('aes-128-cbc', '0123456789abcdef', 'iv'), 'RangeError', '2 bytes, not 16');
",
    );
}

#[test]
fn signatures_are_those_of_another_implementation() {
    run_with(
        &[
            ("PKCS1", RSA_PRIVATE_PKCS1),
            ("PKCS8", RSA_PRIVATE_PKCS8),
            ("PUBLIC", RSA_PUBLIC_SPKI),
            ("SHA256", PKCS1_SHA256),
            ("SHA384", PKCS1_SHA384),
            ("SHA512", PKCS1_SHA512),
        ],
        r"
const { createSign, createVerify } = require('crypto');
for (const [name, expected] of [['256', SHA256], ['384', SHA384], ['512', SHA512]]) {
  for (const key of [PKCS1, PKCS8, { key: PKCS8 }, Buffer.from(PKCS8)]) {
    same(createSign(`RSA-SHA${name}`).update('MongoDB ').update('is great!').sign(key, 'base64'), expected);
  }
  same(createVerify(`sha${name}`).update('MongoDB is great!').verify(PUBLIC, expected, 'base64'), true);
  same(createVerify(`sha${name}`).update('MongoDB is great?').verify(PUBLIC, expected, 'base64'), false);
}
refused(() => createSign('dsa'), 'TypeError', 'known are rsa-sha256');
refused(() => createSign('sha256').update('a').sign(PUBLIC), 'TypeError', 'not an RSA private key');
refused(() => createVerify('sha256').update('a').verify(PKCS1, SHA256, 'base64'), 'TypeError', 'a public key is needed');
",
    );
}

#[test]
fn a_key_that_is_none_is_refused_without_being_told() {
    run_with(
        &[("SMALL", SMALL_RSA_PRIVATE), ("PUBLIC", RSA_PUBLIC_PKCS1)],
        r"
const { createSign } = require('crypto');
const sign = (key) => createSign('sha256').update('a').sign(key);
refused(() => sign('hunter2'), 'TypeError', 'there is no BEGIN line');
refused(() => sign('-----BEGIN RSA PRIVATE KEY-----\nhunter2'), 'TypeError', 'no END line');
const error = refused(
  () => sign('-----BEGIN RSA PRIVATE KEY-----\nhunter2!\n-----END RSA PRIVATE KEY-----'), 'TypeError', 'not Base64');
same(error.message.includes('hunter'), false);
refused(
  () => sign('-----BEGIN ENCRYPTED PRIVATE KEY-----\nYQ==\n-----END ENCRYPTED PRIVATE KEY-----'), 'TypeError', 'encrypted');
refused(() => sign(SMALL), 'TypeError', '2048 bits');
refused(() => sign(PUBLIC), 'TypeError', 'not an RSA private key');
",
    );
}

#[test]
fn random_bytes_differ_and_comparison_tells() {
    run(r"
const { randomBytes, randomInt, randomFillSync, randomUUID, timingSafeEqual } = require('crypto');
same(randomBytes(16).length, 16);
same(randomBytes(16).equals(randomBytes(16)), false);
const later = await new Promise((resolve, reject) => randomBytes(4, (error, bytes) => (error ? reject(error) : resolve(bytes))));
same(later.length, 4);
const drawn = new Set(Array.from({ length: 200 }, () => randomInt(3, 6)));
same([...drawn].sort(), [3, 4, 5]);
same(randomInt(1), 0);
const filled = randomFillSync(Buffer.alloc(8), 4);
same([filled.readUInt32BE(0), filled.length], [0, 8]);
same(randomUUID().length, 36);
same(timingSafeEqual(Buffer.from('ab'), Buffer.from('ab')), true);
same(timingSafeEqual(Buffer.from('ab'), Buffer.from('ac')), false);
refused(() => timingSafeEqual(Buffer.from('ab'), Buffer.from('a')), 'RangeError', 'same length');
refused(() => randomInt(5, 5), 'RangeError', 'range');
refused(() => randomBytes(-1), 'RangeError', 'cannot have');
");
}

#[test]
fn keys_of_passwords_are_those_of_another_implementation() {
    run(r"
const { pbkdf2, pbkdf2Sync, scrypt, scryptSync } = require('crypto');
const { promisify } = require('util');
for (const [digest, expected] of Object.entries({
  sha1: '3bc7b5800e5cea73443b8d1224270cf694592ffc8fd177bf4e7865718984a3ce3246640b318395b8',
  sha256: 'a7b21cfae25e52f266444661f9b739d682e245a7f7bef4573cec9dc6f567fbdbd06b25627510e32b',
  sha384: '24b7c0bbac9f707becfe88a2e30b3dc6086237b75127f2e1caf5ce2d234f2b9d0b3001bbd045d635',
  'SHA-512': '89082706c3f848f31336e651df7f56f0e4c71dbe6edac88690dadd62a87003b7dccf896eb0d7acf8',
})) {
  same(pbkdf2Sync('passw\u00f6rd', Buffer.from('salt'), 1000, 40, digest).toString('hex'), expected);
  same((await promisify(pbkdf2)('passw\u00f6rd', 'salt', 1000, 40, digest)).toString('hex'), expected);
}
const key = '19b4833111f6c20002aa0a7ea338e37d554eb4acfbe9114917db3616b96d5f8cb0a2dda658f0655e';
same(scryptSync('passw\u00f6rd', 'salt', 40).toString('hex'), key);
const other = '240e26838b49374646467003628605c6ae7debfb99f1b46c63d86d855048d5f798d81fed0ffc78e6';
same(scryptSync('passw\u00f6rd', 'salt', 40, { N: 1024, r: 4, p: 2 }).toString('hex'), other);
same((await promisify(scrypt)('passw\u00f6rd', 'salt', 40, { cost: 1024, blockSize: 4, parallelization: 2 })).toString('hex'), other);
same([pbkdf2Sync('p', 's', 1, 0, 'sha1').length, scryptSync('p', 's', 0).length], [0, 0]);
");
}

#[test]
fn keys_of_passwords_take_no_more_than_so_much() {
    run(r"
const { pbkdf2, pbkdf2Sync, scrypt, scryptSync } = require('crypto');
refused(() => pbkdf2Sync('p', 's', 20000000, 32, 'sha256'), 'RangeError', '20000000 iterations for 32 bytes are too many: 10000000 are possible');
refused(() => pbkdf2Sync('p', 's', 1000000, 400, 'sha256'), 'RangeError', 'are too many: 769230 are possible');
refused(() => pbkdf2Sync('p', 's', 1, 2 ** 21, 'sha256'), 'RangeError', 'is too long');
refused(() => pbkdf2Sync('p', 's', 0, 32, 'sha256'), 'RangeError', 'number of iterations must be');
refused(() => pbkdf2Sync('p', 's', 1.5, 32, 'sha256'), 'RangeError', 'number of iterations must be');
refused(() => pbkdf2Sync('p', 's', 1, -1, 'sha256'), 'RangeError', 'length of the key must be');
refused(() => pbkdf2Sync('p', 's', 1, 32), 'TypeError', 'digest');
refused(() => pbkdf2Sync('p', 's', 1, 32, 'md5'), 'TypeError', 'known are sha1, sha256');
refused(() => pbkdf2Sync(5, 's', 1, 32, 'sha1'), 'TypeError', 'The password must be');
refused(() => pbkdf2('p', 's', 1, 32, 'sha1'), 'TypeError', 'callback');
refused(() => scrypt('p', 's', 32), 'TypeError', 'callback');
refused(() => scryptSync('p', 's', 32, { N: 3 }), 'RangeError', 'N is not a power of two');
refused(() => scryptSync('p', 's', 32, { N: 2 ** 15 }), 'RangeError', 'more memory than maxmem');
refused(() => scryptSync('p', 's', 32, { N: 2 ** 20, maxmem: 2 ** 31 }), 'RangeError', 'more than 160 MB');
refused(() => scryptSync('p', 's', 32, { N: 2, r: 1, p: 2 ** 31, maxmem: 2 ** 32 - 1 }), 'RangeError', 'more');
refused(() => scryptSync('p', 's', 32, { N: 2 ** 14, p: 2 ** 12 }), 'RangeError', 'above 2^23');
refused(() => scryptSync('p', 's', 2 ** 21), 'RangeError', 'is too long');
");
}

#[test]
fn what_is_encrypted_by_rsa_is_decrypted_also_from_another_implementation() {
    run_with(
        &[
            ("PKCS1", RSA_PRIVATE_PKCS1),
            ("PKCS8", RSA_PRIVATE_PKCS8),
            ("PUBLIC", RSA_PUBLIC_SPKI),
            ("PUBLIC_PKCS1", RSA_PUBLIC_PKCS1),
            ("SMALL", SMALL_RSA_PRIVATE),
            ("BY_PKCS1", ENCRYPTED_PKCS1),
            ("BY_SHA1", ENCRYPTED_OAEP_SHA1),
            ("BY_SHA256", ENCRYPTED_OAEP_SHA256),
        ],
        r"
const { publicEncrypt, privateDecrypt, constants } = require('crypto');
const text = Buffer.from('Grüße');
const ways = [
  [BY_PKCS1, { padding: constants.RSA_PKCS1_PADDING }],
  [BY_SHA1, {}],
  [BY_SHA256, { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: Buffer.from('mark') }],
];
for (const [theirs, way] of ways) {
  for (const privateKey of [PKCS1, PKCS8]) {
    same(privateDecrypt({ key: privateKey, ...way }, Buffer.from(theirs, 'base64')).toString(), 'Grüße');
  }
  for (const key of [PUBLIC, PUBLIC_PKCS1, PKCS8]) {
    const encrypted = publicEncrypt({ key, ...way }, text);
    same([encrypted instanceof Buffer, encrypted.length], [true, 256]);
    same(privateDecrypt({ key: PKCS8, ...way }, encrypted).equals(text), true);
  }
}
same(privateDecrypt(PKCS8, publicEncrypt(PUBLIC, text)).equals(text), true);
refused(() => privateDecrypt({ key: PKCS8, oaepHash: 'sha512' }, Buffer.from(BY_SHA1, 'base64')), 'Error', 'cannot be decrypted');
refused(() => privateDecrypt(PKCS8, text), 'Error', 'cannot be decrypted');
refused(() => privateDecrypt(PUBLIC, text), 'TypeError', 'not an RSA private key');
refused(() => publicEncrypt(PUBLIC, Buffer.alloc(250)), 'RangeError', 'too long');
refused(() => publicEncrypt({ key: PUBLIC, padding: 3 }, text), 'TypeError', 'The padding must be');
refused(() => publicEncrypt({ key: PUBLIC, oaepHash: 'md5' }, text), 'TypeError', 'known are sha1');
refused(() => publicEncrypt(SMALL, text), 'TypeError', '2048 bits');
",
    );
}
