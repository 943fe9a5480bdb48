//! Whether a request was signed by who knows a secret, as webhooks do it.

use ring::hmac::{self, HMAC_SHA256};

/// Whether a request was signed with `secret`.
///
/// `header` is `Endpoint-Signature`, the `X-Hook-Signature` of older webhooks, or the `X-Hub-Signature-256` of GitHub's:
/// `sha256=<hex>`, the HMAC of the body. Takes as long for a wrong signature as for the right one.
#[must_use]
pub fn verify_signature(secret: &str, header: &str, body: &[u8]) -> bool {
    let Some(signature) = header.trim().strip_prefix("sha256=") else {
        return false;
    };
    let Ok(signature) = hex::decode(signature) else {
        return false;
    };
    let key = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
    // An empty secret would let everybody sign.
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
        assert!(verify_signature(SECRET, &header, BODY));
        let header = format!("sha256={}", SHA256.to_uppercase());
        assert!(verify_signature(SECRET, &header, BODY));
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
            assert!(!verify_signature(secret, header, body), "{header}");
        }
        let empty = hmac::Key::new(HMAC_SHA256, b"");
        let header = format!("sha256={}", hex::encode(hmac::sign(&empty, BODY)));
        assert!(!verify_signature("", &header, BODY));
    }
}
