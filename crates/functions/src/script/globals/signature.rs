//! Signatures by RSA, elliptic curves and keyed digests, named as JSON Web Algorithms are.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, PublicKey};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, RsaEncoding,
    RsaParameters, RsaPssSaltLength, UnparsedPublicKey,
};
use rquickjs::function::Func;
use rquickjs::{Ctx, Object, Result, TypedArray};

use super::bytes::{Bytes, made};
use super::keys::{Pem, armoured, is_armoured};
use super::refusal::Refusal;

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("sign", Func::from(sign_bytes))?;
    native.set("verify", Func::from(verify_bytes))
}

/// How something is signed.
#[derive(Clone, Copy)]
pub(super) enum Algorithm {
    /// By a digest keyed with a secret that both sides know.
    Keyed(hmac::Algorithm),
    /// By RSA. Signatures are accepted that fit any of the parameters.
    Rsa(&'static dyn RsaEncoding, &'static [&'static RsaParameters]),
    /// By an elliptic curve.
    Curve(
        &'static EcdsaSigningAlgorithm,
        &'static EcdsaVerificationAlgorithm,
    ),
}

/// The names of all of them.
pub(super) const NAMES: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256",
    "PS384", "PS512",
];

// Some sign with a salt as long as the digest, some with the longest that fits the key.
const PS256: &[&RsaParameters] = &[
    &signature::RSA_PSS_2048_8192_SHA256,
    &signature::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max),
];
const PS384: &[&RsaParameters] = &[
    &signature::RSA_PSS_2048_8192_SHA384,
    &signature::RSA_PSS_2048_8192_SHA384.with_pss_salt_length(RsaPssSaltLength::Max),
];
const PS512: &[&RsaParameters] = &[
    &signature::RSA_PSS_2048_8192_SHA512,
    &signature::RSA_PSS_2048_8192_SHA512.with_pss_salt_length(RsaPssSaltLength::Max),
];

impl Algorithm {
    /// The algorithm of this name, in its exact spelling.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Keyed(hmac::HMAC_SHA256),
            "HS384" => Self::Keyed(hmac::HMAC_SHA384),
            "HS512" => Self::Keyed(hmac::HMAC_SHA512),
            "RS256" => Self::Rsa(
                &signature::RSA_PKCS1_SHA256,
                &[&signature::RSA_PKCS1_2048_8192_SHA256],
            ),
            "RS384" => Self::Rsa(
                &signature::RSA_PKCS1_SHA384,
                &[&signature::RSA_PKCS1_2048_8192_SHA384],
            ),
            "RS512" => Self::Rsa(
                &signature::RSA_PKCS1_SHA512,
                &[&signature::RSA_PKCS1_2048_8192_SHA512],
            ),
            "PS256" => Self::Rsa(&signature::RSA_PSS_SHA256, PS256),
            "PS384" => Self::Rsa(&signature::RSA_PSS_SHA384, PS384),
            "PS512" => Self::Rsa(&signature::RSA_PSS_SHA512, PS512),
            "ES256" => Self::Curve(
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                &signature::ECDSA_P256_SHA256_FIXED,
            ),
            "ES384" => Self::Curve(
                &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                &signature::ECDSA_P384_SHA384_FIXED,
            ),
            "ES512" => Self::Curve(
                &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
                &signature::ECDSA_P521_SHA512_FIXED,
            ),
            _ => return None,
        })
    }

    /// The signature of the message: `key` is a secret, or a private key in PEM format.
    pub(super) fn sign(self, key: &str, message: &[u8]) -> std::result::Result<Vec<u8>, Refusal> {
        let failed = |_| Refusal::Failed("the message cannot be signed with this key".into());
        match self {
            Self::Keyed(algorithm) => Ok(hmac::sign(&secret(algorithm, key)?, message)
                .as_ref()
                .to_vec()),
            Self::Rsa(encoding, _) => {
                let pem = armoured(key)?;
                let read = if pem.label == "RSA PRIVATE KEY" {
                    KeyPair::from_der
                } else {
                    KeyPair::from_pkcs8
                };
                let pair = read(&pem.der)
                    .map_err(|error| rsa_refused("private", &pem.label, &error.to_string()))?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Self::Curve(signing, _) => {
                let pem = armoured(key)?;
                let pair = EcdsaKeyPair::from_private_key_der(signing, &pem.der)
                    .map_err(|_| curve_refused("private", &pem.label))?;
                let signature = pair.sign(&SystemRandom::new(), message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// Whether the signature is the message's: `key` is the secret, or the public key in PEM format.
    pub(super) fn verify(
        self,
        key: &str,
        message: &[u8],
        signature: &[u8],
    ) -> std::result::Result<bool, Refusal> {
        match self {
            Self::Keyed(algorithm) => {
                Ok(hmac::verify(&secret(algorithm, key)?, message, signature).is_ok())
            }
            Self::Rsa(_, accepted) => {
                let pem = public(key)?;
                let public = PublicKey::from_der(&pem.der)
                    .map_err(|error| rsa_refused("public", &pem.label, &error.to_string()))?;
                Ok(accepted.iter().any(|parameters| {
                    UnparsedPublicKey::new(*parameters, public.as_ref())
                        .verify(message, signature)
                        .is_ok()
                }))
            }
            Self::Curve(_, verification) => {
                let pem = public(key)?;
                let public = signature::ParsedPublicKey::new(verification, &pem.der)
                    .map_err(|_| curve_refused("public", &pem.label))?;
                Ok(public.verify_sig(message, signature).is_ok())
            }
        }
    }
}

fn secret(algorithm: hmac::Algorithm, secret: &str) -> std::result::Result<hmac::Key, Refusal> {
    if secret.is_empty() {
        return Err(Refusal::Type("the secret is empty".into()));
    }
    if is_armoured(secret) {
        return Err(Refusal::Type(
            "a key in PEM format is no secret for an algorithm of the kind HS".into(),
        ));
    }
    Ok(hmac::Key::new(algorithm, secret.as_bytes()))
}

/// A public key; a private one is refused, lest it be handed to those who only verify.
fn public(key: &str) -> std::result::Result<Pem, Refusal> {
    let pem = armoured(key)?;
    if pem.label.contains("PRIVATE") {
        return Err(Refusal::Type(
            format!("a public key is needed, and this is a {}", pem.label).into(),
        ));
    }
    Ok(pem)
}

pub(super) fn rsa_refused(which: &str, label: &str, why: &str) -> Refusal {
    let message = match why {
        // The only names that the library gives these causes.
        "TooSmall" => format!("the RSA {which} key is too small: it needs 2048 bits or more"),
        "TooLarge" => format!("the RSA {which} key is too large: it may have 8192 bits at most"),
        _ => format!("the {label} is not an RSA {which} key"),
    };
    Refusal::Type(message.into())
}

fn curve_refused(which: &str, label: &str) -> Refusal {
    Refusal::Type(format!("the {label} is not a {which} key on the curve of this algorithm").into())
}

fn sign_bytes<'js>(
    ctx: Ctx<'js>,
    name: String,
    key: String,
    message: Bytes<'js>,
) -> Result<TypedArray<'js, u8>> {
    let signature = algorithm(&name)
        .and_then(|algorithm| message.read(|message| algorithm.sign(&key, message)));
    made(&ctx, signature)
}

fn verify_bytes<'js>(
    ctx: Ctx<'js>,
    name: String,
    key: String,
    message: Bytes<'js>,
    signature: Bytes<'js>,
) -> Result<bool> {
    let signature = signature.to_vec();
    algorithm(&name)
        .and_then(|algorithm| message.read(|message| algorithm.verify(&key, message, &signature)))
        .map_err(|refusal| refusal.throw(&ctx))
}

/// The algorithm of this name, or a refusal that names all of them.
pub(super) fn algorithm(name: &str) -> std::result::Result<Algorithm, Refusal> {
    Algorithm::named(name).ok_or_else(|| Refusal::unknown("signing method", name, NAMES))
}
