//! Keys as text: the PEM armour around a DER structure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::refusal::Refusal;

/// A key in its armour.
pub(super) struct Pem {
    /// What the armour says that it holds, such as `RSA PRIVATE KEY`.
    pub(super) label: String,
    /// The structure.
    pub(super) der: Vec<u8>,
}

/// Whether the text is a key in armour, and so never the secret of a keyed digest. Taking a public key
/// for such a secret would let anybody sign.
pub(super) fn is_armoured(key: &str) -> bool {
    key.contains("-----BEGIN ")
}

/// The first armoured structure of the text. What text holds of line ends may be lost or written as
/// `\n`, as where keys pass through environment variables or JSON twice.
pub(super) fn armoured(text: &str) -> Result<Pem, Refusal> {
    let refused =
        |why: &str| Refusal::Type(format!("the key is not a key in PEM format: {why}").into());
    let (_, rest) = text
        .split_once("-----BEGIN ")
        .ok_or_else(|| refused("there is no BEGIN line"))?;
    let (label, rest) = rest
        .split_once("-----")
        .ok_or_else(|| refused("its BEGIN line is not closed"))?;
    let (body, _) = rest
        .split_once(&format!("-----END {label}-----"))
        .ok_or_else(|| refused("it has no END line"))?;
    if label.contains("ENCRYPTED") || body.contains("ENCRYPTED") {
        return Err(Refusal::Type(
            "the key is encrypted: give it decrypted".into(),
        ));
    }
    let body: String = body.replace("\\n", "").split_ascii_whitespace().collect();
    let der = BASE64_STANDARD
        .decode(body)
        .map_err(|_| refused("it is not Base64"))?;
    Ok(Pem {
        label: label.to_owned(),
        der,
    })
}
