use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use crate::Access;

fn headers(all: &[(&str, &str)]) -> HeaderMap {
    let each = all.iter().map(|(name, value)| {
        (
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )
    });
    let mut headers = HeaderMap::new();
    for (name, value) in each {
        headers.append(name, value);
    }
    headers
}

fn signed(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", hex::encode(hmac::sign(&key, body)))
}

#[test]
fn a_key_comes_in_either_header_and_once() {
    let access = Access::new(Some("right-key"), None).unwrap();
    let grants = |all: &[(&str, &str)]| access.grants(&headers(all), b"body");
    assert!(grants(&[("x-api-key", "right-key")]));
    assert!(grants(&[("authorization", "bearer right-key")]));
    assert!(!grants(&[]));
    assert!(!grants(&[("x-api-key", "right-kez")]));
    assert!(!grants(&[("x-api-key", "right")]));
    assert!(!grants(&[("x-api-key", "")]));
    assert!(!grants(&[("authorization", "Basic right-key")]));
    assert!(!grants(&[
        ("x-api-key", "right-key"),
        ("x-api-key", "right-key")
    ]));
    assert!(!grants(&[
        ("x-api-key", "wrong"),
        ("authorization", "Bearer right-key")
    ]));
}

#[test]
fn a_signature_is_one_of_the_body() {
    let access = Access::new(None, Some("secret")).unwrap();
    let right = signed("secret", b"body");
    for name in ["x-signature-256", "x-hub-signature-256"] {
        let headers = headers(&[(name, &right)]);
        assert!(access.grants(&headers, b"body"));
        assert!(!access.grants(&headers, b"another"));
    }
    let grants = |value: &str| access.grants(&headers(&[("x-signature-256", value)]), b"body");
    assert!(grants(
        &right.to_ascii_uppercase().replace("SHA256=", "sha256=")
    ));
    assert!(!grants(&signed("other", b"body")));
    assert!(!grants(&right[7..]));
    assert!(!grants("sha256=zz"));
    assert!(!grants("sha256="));
    assert!(!access.grants(&HeaderMap::new(), b"body"));
}

#[test]
fn the_signature_of_a_known_example_is_right() {
    // RFC 4231, test case 2.
    let access = Access::new(None, Some("Jefe")).unwrap();
    let value = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let headers = headers(&[("x-signature-256", value)]);
    assert!(access.grants(&headers, b"what do ya want for nothing?"));
}

#[test]
fn all_that_is_configured_is_needed() {
    let access = Access::new(Some("key"), Some("secret")).unwrap();
    let signature = signed("secret", b"body");
    let both = [
        ("x-api-key", "key"),
        ("x-signature-256", signature.as_str()),
    ];
    assert!(access.grants(&headers(&both), b"body"));
    assert!(!access.grants(&headers(&both[..1]), b"body"));
    assert!(!access.grants(&headers(&both[1..]), b"body"));
    assert!(!access.admits(&headers(&both[..1])));
}

#[test]
fn nobody_pushes_without_anything() {
    assert!(Access::new(None, None).is_err());
    assert!(Access::new(Some(""), None).is_err());
    assert!(Access::new(Some("key"), Some("")).is_err());
    let access = Access::new(Some("key"), Some("secret")).unwrap();
    assert_eq!(format!("{access:?}"), "***");
}
