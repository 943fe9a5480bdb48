use serde_json::{Map, Value};

use super::super::jwt::{decode, encode};
use super::super::refusal::Refusal;
use super::vectors::*;
use super::{run, run_with};

/// The secret of the keyed tokens.
const SECRET: &str = "a secret that is long enough";

/// Each signing method with its token, and the keys that sign and verify it.
const METHODS: &[(&str, &str, &str, &str)] = &[
    ("HS256", HS256, SECRET, SECRET),
    ("HS384", HS384, SECRET, SECRET),
    ("HS512", HS512, SECRET, SECRET),
    ("RS256", RS256, RSA_PRIVATE_PKCS8, RSA_PUBLIC_SPKI),
    ("RS384", RS384, RSA_PRIVATE_PKCS1, RSA_PUBLIC_PKCS1),
    ("RS512", RS512, RSA_PRIVATE_PKCS8, RSA_PUBLIC_SPKI),
    ("PS256", PS256, RSA_PRIVATE_PKCS8, RSA_PUBLIC_SPKI),
    ("PS384", PS384, RSA_PRIVATE_PKCS8, RSA_PUBLIC_SPKI),
    ("PS512", PS512, RSA_PRIVATE_PKCS8, RSA_PUBLIC_SPKI),
    ("ES256", ES256, EC_PRIVATE_256, EC_PUBLIC_256),
    ("ES384", ES384, EC_PRIVATE_384, EC_PUBLIC_384),
    ("ES512", ES512, EC_PRIVATE_512, EC_PUBLIC_512),
];

const CLAIMS: &str = r#"{"sub":"1234567890","admin":true,"n":1.5}"#;

/// A moment in 2026, in seconds since 1970.
const NOW: f64 = 1.78e9;

fn refusal(token: &str, key: &str, accepted: Option<&[String]>) -> String {
    match decode(token, key, accepted, NOW) {
        Err(Refusal::Type(message) | Refusal::Range(message) | Refusal::Failed(message)) => {
            message.into_owned()
        }
        Ok(_) => panic!("the token was accepted"),
    }
}

#[test]
fn tokens_of_another_implementation_are_decoded() {
    for (method, token, _, key) in METHODS {
        let (header, claims) = decode(token, key, None, NOW).unwrap();
        assert_eq!(header, format!(r#"{{"alg":"{method}","typ":"JWT"}}"#));
        assert_eq!(claims, CLAIMS);
    }
}

#[test]
fn tokens_are_encoded_by_each_method() {
    for (method, known, private, public) in METHODS {
        let token = encode(method, CLAIMS, private, Map::new()).unwrap();
        assert_eq!(
            decode(&token, public, Some(&[(*method).to_owned()]), NOW)
                .unwrap()
                .1,
            CLAIMS
        );
        // The others sign with randomness.
        if method.starts_with("HS") || method.starts_with("RS") {
            assert_eq!(token, *known);
        }
    }
}

#[test]
fn a_token_that_was_changed_is_refused() {
    for (method, token, _, key) in METHODS {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let other = encode("HS256", r#"{"sub":"mallory"}"#, SECRET, Map::new()).unwrap();
        let claims = other.split('.').nth(1).unwrap();
        assert_eq!(
            refusal(&format!("{header}.{claims}.{signature}"), key, None),
            "the signature of the token is not right"
        );
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        let signature = format!("{flipped}{}", &signature[1..]);
        assert_eq!(
            refusal(&format!("{signed}.{signature}"), key, None),
            "the signature of the token is not right",
            "{method}"
        );
        assert_eq!(
            refusal(&format!("{signed}."), key, None),
            "the signature of the token is not right"
        );
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    for key in ["", SECRET, RSA_PUBLIC_SPKI] {
        assert!(refusal(UNSIGNED, key, None).starts_with("there is no signing method \"none\""));
        assert!(
            refusal(UNSIGNED, key, Some(&["none".to_owned()]))
                .starts_with("there is no signing method")
        );
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let message = "a key in PEM format is no secret for an algorithm of the kind HS";
    assert_eq!(refusal(CONFUSED, RSA_PUBLIC_SPKI, None), message);
    assert_eq!(
        refusal(CONFUSED, RSA_PUBLIC_SPKI, Some(&["HS256".to_owned()])),
        message
    );
    assert_eq!(
        refusal(CONFUSED, RSA_PUBLIC_SPKI, Some(&["RS256".to_owned()])),
        "the signing method \"HS256\" is not accepted"
    );
    assert!(matches!(
        encode("HS256", CLAIMS, RSA_PUBLIC_SPKI, Map::new()),
        Err(Refusal::Type(_))
    ));
}

#[test]
fn a_key_of_another_kind_is_refused() {
    assert!(refusal(RS256, EC_PUBLIC_256, None).contains("not an RSA public key"));
    assert!(refusal(ES256, RSA_PUBLIC_SPKI, None).contains("not a public key on the curve"));
    assert!(refusal(ES256, EC_PUBLIC_384, None).contains("not a public key on the curve"));
    assert!(refusal(RS256, SECRET, None).contains("no BEGIN line"));
    assert!(refusal(RS256, RSA_PRIVATE_PKCS8, None).contains("a public key is needed"));
    assert_eq!(refusal(HS256, "", None), "the secret is empty");
    assert_eq!(
        refusal(HS256, "another", None),
        "the signature of the token is not right"
    );
}

#[test]
fn a_token_is_valid_only_in_its_time() {
    assert_eq!(refusal(EXPIRED, SECRET, None), "the token has expired");
    assert_eq!(refusal(NOT_YET, SECRET, None), "the token is not valid yet");
    assert_eq!(
        refusal(ODD_EXP, SECRET, None),
        "the claim \"exp\" of the token is not a number"
    );
    decode(EXPIRED, SECRET, None, 1_516_239_021.0).unwrap();
    assert!(decode(EXPIRED, SECRET, None, 1_516_239_022.0).is_err());
    decode(NOT_YET, SECRET, None, 32_503_680_000.0).unwrap();
    assert!(decode(NOT_YET, SECRET, None, 32_503_679_999.0).is_err());
}

#[test]
fn what_is_no_token_is_refused() {
    assert!(refusal(CRITICAL, SECRET, None).contains("critical header fields"));
    for token in [
        "",
        ".",
        "..",
        "a.b.c",
        "e30.e30.",
        "bnVsbA.e30.",
        &format!("{HS256}.x"),
        &HS256.replace('.', "=."),
    ] {
        assert_eq!(
            refusal(token, SECRET, None),
            "the token is no JSON Web Token",
            "{token}"
        );
    }
}

#[test]
fn header_fields_are_added_but_not_the_algorithm() {
    let mut fields = Map::new();
    fields.insert("kid".to_owned(), Value::from("k1"));
    let token = encode("HS256", "{}", SECRET, fields.clone()).unwrap();
    assert_eq!(
        decode(&token, SECRET, None, NOW).unwrap().0,
        r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#
    );
    fields.insert("alg".to_owned(), Value::from("none"));
    assert!(matches!(
        encode("HS256", "{}", SECRET, fields),
        Err(Refusal::Type(_))
    ));
}

#[test]
fn the_token_that_atlas_shows_is_made_and_read() {
    run(r#"
const token = 'eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvZSBTY2htb2UiLCJpYXQiOjE1NjU3MjEyMjMxODd9' +
  '.-QL15ldu2BYuJokNWT6YRiwZQIiIpvq6Kyv-C6qslNdNiUVxo8zqLJZ1iEkNf2yZKMIrQuMCtIC1tzd2H31AxA';
const payload = { sub: '1234567890', name: 'Joe Schmoe', iat: 1565721223187 };
same(utils.jwt.encode('HS512', payload, 'SuperSecret'), token);
same(utils.jwt.decode(token, 'SuperSecret'), payload);
same(utils.jwt.decode(token, 'SuperSecret', false, ['HS512']), payload);
same(utils.jwt.decode(token, 'SuperSecret', true), { header: { alg: 'HS512', typ: 'JWT' }, payload });
refused(() => utils.jwt.decode(token, 'SuperSecret', false, ['RS256']), 'Error', 'is not accepted');
refused(() => utils.jwt.decode(token, 'SuperSecret', false, []), 'Error', 'is not accepted');
refused(() => utils.jwt.decode(token, 'SuperSecret', false, 'HS512'), 'TypeError', 'must be an array');
const error = refused(() => utils.jwt.decode(token, 'hunter2'), 'Error', 'is not right');
same(error.message.includes('hunter2'), false);
refused(() => utils.jwt.encode('HS1', payload, 'k'), 'TypeError', 'known are HS256');
refused(() => utils.jwt.encode('HS256', 'text', 'k'), 'TypeError', 'The payload must be an object');
refused(() => utils.jwt.encode('HS256', payload), 'TypeError', 'The secret must be a string');
const past = utils.jwt.encode('HS256', { exp: Math.floor(Date.now() / 1000) - 5 }, 'k');
refused(() => utils.jwt.decode(past, 'k'), 'Error', 'has expired');
const soon = utils.jwt.encode('HS256', { exp: Math.floor(Date.now() / 1000) + 600 }, 'k', { kid: 'é' });
same(utils.jwt.decode(soon, 'k', true).header, { alg: 'HS256', typ: 'JWT', kid: 'é' });
"#);
}

#[test]
fn the_message_that_atlas_shows_is_decrypted() {
    run(r"
const key = '603082712271C525E087BD999A4E0738';
const shown = 'WPBuIvJ6Bity43Uh822dW8QlVYVJaFUiDeUjlTiJXzptUuTYIKPlXekBQAJb';
same(utils.crypto.decrypt('aes', BSON.Binary.fromBase64(shown), key).text(), 'MongoDB is great!');
");
}

#[test]
fn what_is_encrypted_is_decrypted_with_the_same_key_only() {
    run(r"
for (const size of [16, 24, 32]) {
  const key = 'k'.repeat(size);
  const sealed = utils.crypto.encrypt('aes', 'Grüße', key);
  same([sealed instanceof BSON.Binary, sealed.subType, sealed.buffer.length], [true, 0, 12 + 7 + 16]);
  same(sealed.base64() === utils.crypto.encrypt('aes', 'Grüße', key).base64(), false);
  same(utils.crypto.decrypt('aes', sealed, key).text(), 'Grüße');
  for (const at of [0, 12, 34]) {
    const changed = BSON.Binary.fromBase64(sealed.base64());
    changed.buffer[at] ^= 1;
    refused(() => utils.crypto.decrypt('aes', changed, key), 'Error', 'changed since');
  }
  refused(() => utils.crypto.decrypt('aes', sealed, 'x'.repeat(size)), 'Error', 'not encrypted with this key');
}
same(utils.crypto.decrypt('aes', utils.crypto.encrypt('aes', '', 'k'.repeat(16)), 'k'.repeat(16)).text(), '');
const error = refused(() => utils.crypto.encrypt('aes', 'a', 'hunter2'), 'RangeError', '16, 24 or 32 bytes, this one 7');
same(error.message.includes('hunter'), false);
refused(() => utils.crypto.encrypt('des', 'a', 'k'), 'TypeError', 'known is aes');
refused(() => utils.crypto.decrypt('aes', 'text', 'k'), 'TypeError', 'must be a BSON.Binary');
refused(() => utils.crypto.decrypt('aes', BSON.Binary.fromHex('00'), 'k'.repeat(16)), 'Error', 'not encrypted');
");
}

#[test]
fn messages_are_signed_and_verified_in_both_schemes() {
    run_with(
        &[
            ("PRIVATE", RSA_PRIVATE_PKCS1),
            ("PUBLIC", RSA_PUBLIC_PKCS1),
            ("DIGEST_SALT", PSS_DIGEST_SALT),
            ("MAX_SALT", PSS_MAX_SALT),
            ("PKCS1", PKCS1_SHA256),
        ],
        r"
const message = 'MongoDB is great!';
const { sign, verify } = utils.crypto;
for (const known of [DIGEST_SALT, MAX_SALT]) {
  same(verify('rsa', message, PUBLIC, BSON.Binary.fromBase64(known), 'pss'), true);
  same(verify('rsa', message, PUBLIC, BSON.Binary.fromBase64(known)), true);
  same(verify('rsa', message, PUBLIC, BSON.Binary.fromBase64(known), 'pkcs1v15'), false);
}
same(sign('rsa', message, PRIVATE, 'pkcs1v15').base64(), PKCS1);
same(sign('rsa', message, PRIVATE.replaceAll('\n', '\\n'), 'pkcs1v15').base64(), PKCS1);
for (const scheme of [undefined, 'pss', 'pkcs1v15']) {
  const signature = sign('rsa', message, PRIVATE, scheme);
  same(signature instanceof BSON.Binary, true);
  same(verify('rsa', message, PUBLIC, signature, scheme), true);
  same(verify('rsa', message + '.', PUBLIC, signature, scheme), false);
  signature.buffer[9] ^= 1;
  same(verify('rsa', message, PUBLIC, signature, scheme), false);
}
refused(() => sign('dsa', message, PRIVATE), 'TypeError', 'known is rsa');
refused(() => sign('rsa', message, PRIVATE, 'oaep'), 'TypeError', 'known are pss, pkcs1v15');
refused(() => verify('rsa', message, PUBLIC, PKCS1), 'TypeError', 'must be a BSON.Binary');
",
    );
}

#[test]
fn digests_are_given_as_atlas_shows_them() {
    run(r"
same(utils.crypto.hmac('hello!', 'super-secret', 'sha256', 'base64'), 'SUXd6PRMaTXXgBGaGsIHzaDWgTSa6C3D44lRGrvRak0=');
same(utils.crypto.hmac('hello!', 'super-secret', 'sha256', 'hex'), '4945dde8f44c6935d780119a1ac207cda0d681349ae82dc3e389511abbd16a4d');
same(utils.crypto.hmac('Grüße', 'key', 'sha1', 'hex'), 'a38ad89acaa09fc011be4f529c7d4cb79aa5d542');
same(utils.crypto.hmac('Grüße', 'key', 'sha512', 'hex').slice(0, 16), '7da0810494c3784f');
same(utils.crypto.hash('sha256', 'hello!').base64(), 'zgYJL7lI2f+sfRo3bkBLJrdXW8wR7gWkYV/vT+w6MIs=');
same(utils.crypto.hash('md5', BSON.Binary.fromHex('616263')).hex(), '900150983cd24fb0d6963f7d28e17f72');
same(utils.crypto.hash('sha1', 'abc').hex(), 'a9993e364706816aba3e25717850c26c9cd0d89d');
refused(() => utils.crypto.hmac('a', 'k', 'sha256', 'utf8'), 'TypeError', 'known are hex, base64');
refused(() => utils.crypto.hmac('a', 'k', 'sha0', 'hex'), 'TypeError', 'known are md5, sha1');
refused(() => utils.crypto.hash('sha256'), 'TypeError', 'The input must be');
");
}
