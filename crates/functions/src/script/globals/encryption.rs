//! Encryption by RSA.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rsa::{
    KeyPair, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384,
    OAEP_SHA512_MGF1SHA512, OaepAlgorithm, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
    PublicKey,
};
use rquickjs::function::Func;
use rquickjs::{Ctx, Object, Result, TypedArray};

use super::bytes::{Bytes, made};
use super::digest::spelled;
use super::keys::{Pem, armoured};
use super::refusal::Refusal;
use super::signature::rsa_refused;

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("rsaEncrypt", Func::from(encrypt_bytes))?;
    native.set("rsaDecrypt", Func::from(decrypt_bytes))
}

/// OAEP with the digest of this name; PKCS #1 v1.5 where there is none.
fn padding(digest: &str) -> std::result::Result<Option<&'static OaepAlgorithm>, Refusal> {
    Ok(Some(match spelled(digest).as_str() {
        "" => return Ok(None),
        "sha1" => &OAEP_SHA1_MGF1SHA1,
        "sha256" => &OAEP_SHA256_MGF1SHA256,
        "sha384" => &OAEP_SHA384_MGF1SHA384,
        "sha512" => &OAEP_SHA512_MGF1SHA512,
        _ => {
            let known = &["sha1", "sha256", "sha384", "sha512"];
            return Err(Refusal::unknown("digest for OAEP", digest, known));
        }
    }))
}

/// The public key, or that of a private one.
fn public(pem: &Pem) -> std::result::Result<PublicEncryptingKey, Refusal> {
    if pem.label.contains("PRIVATE") {
        return Ok(private(pem)?.public_key());
    }
    let refused = |why: String| rsa_refused("public", &pem.label, &why);
    let rejected = |error: KeyRejected| refused(error.to_string());
    let key = PublicKey::from_der(&pem.der).map_err(rejected)?;
    let der: PublicKeyX509Der<'_> = key.as_der().map_err(|error| refused(error.to_string()))?;
    PublicEncryptingKey::from_der(der.as_ref()).map_err(rejected)
}

fn private(pem: &Pem) -> std::result::Result<PrivateDecryptingKey, Refusal> {
    let refused = |why: String| rsa_refused("private", &pem.label, &why);
    let rejected = |error: KeyRejected| refused(error.to_string());
    if pem.label != "RSA PRIVATE KEY" {
        return PrivateDecryptingKey::from_pkcs8(&pem.der).map_err(rejected);
    }
    let pair = KeyPair::from_der(&pem.der).map_err(rejected)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|error| refused(error.to_string()))?;
    PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(rejected)
}

fn encrypt(
    key: &str,
    digest: &str,
    message: &[u8],
    label: &[u8],
) -> std::result::Result<Vec<u8>, Refusal> {
    let key = public(&armoured(key)?)?;
    let mut out = vec![0; key.key_size_bytes()];
    let encrypted = match padding(digest)? {
        Some(algorithm) => OaepPublicEncryptingKey::new(key).and_then(|key| {
            Ok(key
                .encrypt(algorithm, message, &mut out, some(label))?
                .len())
        }),
        None => Pkcs1PublicEncryptingKey::new(key)
            .and_then(|key| Ok(key.encrypt(message, &mut out)?.len())),
    };
    let too_long = |_| Refusal::Range("the message is too long for the key and its padding".into());
    out.truncate(encrypted.map_err(too_long)?);
    Ok(out)
}

fn decrypt(
    key: &str,
    digest: &str,
    message: &[u8],
    label: &[u8],
) -> std::result::Result<Vec<u8>, Refusal> {
    let key = private(&armoured(key)?)?;
    let mut out = vec![0; key.key_size_bytes()];
    let decrypted = match padding(digest)? {
        Some(algorithm) => OaepPrivateDecryptingKey::new(key).and_then(|key| {
            Ok(key
                .decrypt(algorithm, message, &mut out, some(label))?
                .len())
        }),
        None => Pkcs1PrivateDecryptingKey::new(key)
            .and_then(|key| Ok(key.decrypt(message, &mut out)?.len())),
    };
    let failed = |_| Refusal::Failed("the message cannot be decrypted with this key".into());
    out.truncate(decrypted.map_err(failed)?);
    Ok(out)
}

fn some(label: &[u8]) -> Option<&[u8]> {
    (!label.is_empty()).then_some(label)
}

fn encrypt_bytes<'js>(
    ctx: Ctx<'js>,
    key: String,
    digest: String,
    message: Bytes<'js>,
    label: Bytes<'js>,
) -> Result<TypedArray<'js, u8>> {
    let label = label.to_vec();
    let encrypted = message.read(|message| encrypt(&key, &digest, message, &label));
    made(&ctx, encrypted)
}

fn decrypt_bytes<'js>(
    ctx: Ctx<'js>,
    key: String,
    digest: String,
    message: Bytes<'js>,
    label: Bytes<'js>,
) -> Result<TypedArray<'js, u8>> {
    let label = label.to_vec();
    let decrypted = message.read(|message| decrypt(&key, &digest, message, &label));
    made(&ctx, decrypted)
}
