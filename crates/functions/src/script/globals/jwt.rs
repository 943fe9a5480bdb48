//! JSON Web Tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rquickjs::function::{Func, Opt};
use rquickjs::{Ctx, Object, Result};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::signature::{self, Algorithm};

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("jwtEncode", Func::from(encode_text))?;
    native.set("jwtDecode", Func::from(decode_text))
}

/// The token of the claims, which are an object of JSON. `fields` are further ones of its header.
pub(super) fn encode(
    method: &str,
    claims: &str,
    key: &str,
    fields: Map<String, Value>,
) -> std::result::Result<String, Refusal> {
    let algorithm = signature::algorithm(method)?;
    let mut header = Map::new();
    header.insert("alg".to_owned(), method.into());
    header.insert("typ".to_owned(), "JWT".into());
    for (name, value) in fields {
        if name == "alg" && value != method {
            return Err(Refusal::Type(
                "the header field \"alg\" is that of the signing method".into(),
            ));
        }
        header.insert(name, value);
    }
    let header = BASE64_URL_SAFE_NO_PAD.encode(Value::Object(header).to_string());
    let mut token = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = algorithm.sign(key, token.as_bytes())?;
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// The header and the claims of a token, both JSON, where its signature is right and it is valid at this
/// time, in seconds since 1970.
///
/// `accepted` are the signing methods that it may have, all where none are named. Even then a key is
/// only used as what it is: text in PEM format is never a secret.
pub(super) fn decode(
    token: &str,
    key: &str,
    accepted: Option<&[String]>,
    now: f64,
) -> std::result::Result<(String, String), Refusal> {
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    if claims.contains('.') {
        return Err(malformed());
    }
    let (header, fields) = section(header)?;
    let method = fields
        .get("alg")
        .and_then(Value::as_str)
        .ok_or_else(malformed)?;
    if accepted.is_some_and(|accepted| !accepted.iter().any(|accepted| accepted == method)) {
        return Err(Refusal::Failed(
            format!("the signing method {method:?} is not accepted").into(),
        ));
    }
    let algorithm = Algorithm::named(method)
        .ok_or_else(|| Refusal::unknown("signing method", method, signature::NAMES))?;
    if fields.contains_key("crit") {
        return Err(Refusal::Failed(
            "the token has critical header fields, of which none are known".into(),
        ));
    }
    let signature = BASE64_URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| malformed())?;
    if !algorithm.verify(key, signed.as_bytes(), &signature)? {
        return Err(Refusal::Failed(
            "the signature of the token is not right".into(),
        ));
    }
    let (claims, fields) = section(claims)?;
    if moment(&fields, "exp")?.is_some_and(|exp| now >= exp) {
        return Err(Refusal::Failed("the token has expired".into()));
    }
    if moment(&fields, "nbf")?.is_some_and(|nbf| now < nbf) {
        return Err(Refusal::Failed("the token is not valid yet".into()));
    }
    Ok((header, claims))
}

fn malformed() -> Refusal {
    Refusal::Failed("the token is no JSON Web Token".into())
}

/// A section of a token, as text and as what it says.
fn section(encoded: &str) -> std::result::Result<(String, Map<String, Value>), Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| malformed())?;
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    let fields = serde_json::from_str(&text).map_err(|_| malformed())?;
    Ok((text, fields))
}

/// The moment that a claim names, in seconds since 1970.
fn moment(claims: &Map<String, Value>, name: &str) -> std::result::Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(Refusal::Failed(
                format!("the claim {name:?} of the token is not a number").into(),
            )),
        },
    }
}

fn encode_text(
    ctx: Ctx<'_>,
    method: String,
    claims: String,
    key: String,
    fields: String,
) -> Result<String> {
    serde_json::from_str(&fields)
        .map_err(|_| Refusal::Type("the custom header fields are not an object".into()))
        .and_then(|fields| encode(&method, &claims, &key, fields))
        .map_err(|refusal| refusal.throw(&ctx))
}

fn decode_text(
    ctx: Ctx<'_>,
    token: String,
    key: String,
    accepted: Opt<Vec<String>>,
) -> Result<Vec<String>> {
    // A clock before 1970 makes every token with `nbf` one that is not valid yet.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    let (header, claims) =
        decode(&token, &key, accepted.0.as_deref(), now).map_err(|refusal| refusal.throw(&ctx))?;
    Ok(vec![header, claims])
}
