//! Whether a request was signed by who knows a secret, as webhooks do it.

use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256};

/// Whether a webhook of GitHub's was signed with `secret`.
///
/// `header` is `X-Hub-Signature-256`, `sha256=<hex>`, or the older `X-Hub-Signature`, `sha1=<hex>`. Takes as long
/// for a wrong signature as for the right one.
#[must_use]
pub fn verify_github_signature(secret: &str, header: &str, body: &[u8]) -> bool {
    let header = header.trim();
    match header.split_once('=') {
        Some(("sha256", hex)) => verify(HMAC_SHA256, secret, hex, body),
        Some(("sha1", hex)) => verify(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret, hex, body),
        _ => false,
    }
}

/// Whether a request to an endpoint was signed with `secret`.
///
/// `header` is `Endpoint-Signature`, or the `X-Hook-Signature` of older webhooks: `sha256=<hex>`, the HMAC of the
/// body. Takes as long for a wrong signature as for the right one.
#[must_use]
pub fn verify_payload_signature(secret: &str, header: &str, body: &[u8]) -> bool {
    match header.trim().split_once('=') {
        Some(("sha256", hex)) => verify(HMAC_SHA256, secret, hex, body),
        _ => false,
    }
}

/// An empty secret would let everybody sign.
fn verify(algorithm: hmac::Algorithm, secret: &str, hex: &str, body: &[u8]) -> bool {
    let Ok(signature) = hex::decode(hex) else {
        return false;
    };
    let key = hmac::Key::new(algorithm, secret.as_bytes());
    !secret.is_empty() && hmac::verify(&key, body, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    /// GitHub's documentation gives this one.
    const SHA256: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn the_right_signature_is_accepted() {
        let header = format!("sha256={SHA256}");
        assert!(verify_github_signature(SECRET, &header, BODY));
        assert!(verify_payload_signature(SECRET, &header, BODY));
        assert!(verify_payload_signature(
            SECRET,
            &format!("sha256={}", SHA256.to_uppercase()),
            BODY
        ));
        let key = hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
        let old = format!("sha1={}", hex::encode(hmac::sign(&key, BODY)));
        assert!(verify_github_signature(SECRET, &old, BODY));
        assert!(!verify_payload_signature(SECRET, &old, BODY));
    }

    #[test]
    fn anything_else_is_not() {
        let header = format!("sha256={SHA256}");
        for (secret, header, body) in [
            ("another", header.as_str(), BODY),
            (SECRET, header.as_str(), b"Hello, World?".as_slice()),
            (SECRET, &header[..header.len() - 2], BODY),
            (SECRET, SHA256, BODY),
            (SECRET, "sha256=", BODY),
            (SECRET, "sha256=xyz", BODY),
            (SECRET, "md5=00", BODY),
            (SECRET, "", BODY),
        ] {
            assert!(!verify_github_signature(secret, header, body), "{header}");
            assert!(!verify_payload_signature(secret, header, body), "{header}");
        }
        let empty = hmac::Key::new(HMAC_SHA256, b"");
        let header = format!("sha256={}", hex::encode(hmac::sign(&empty, BODY)));
        assert!(!verify_payload_signature("", &header, BODY));
    }
}
