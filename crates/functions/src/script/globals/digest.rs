//! Digests and keyed digests.

use std::cell::RefCell;

use ::hmac::{Hmac, KeyInit, Mac};
use aws_lc_rs::{digest, hmac};
use md5::{Digest, Md5};
use rquickjs::function::Func;
use rquickjs::{Ctx, Function, Object, Result, TypedArray};

use super::bytes::{Bytes, array};
use super::refusal::Refusal;

/// The names of the algorithms, as Node spells them.
const KNOWN: &[&str] = &[
    "md5",
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha512-256",
];

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("digestNames", KNOWN.to_vec())?;
    native.set("hasher", Func::from(hasher))?;
    native.set("keyedHasher", Func::from(keyed_hasher))
}

/// A digest under way, keyed or not.
pub(super) enum Hasher {
    Md5(Md5),
    Sha(digest::Context),
    KeyedMd5(Hmac<Md5>),
    KeyedSha(Box<hmac::Context>),
}

impl Hasher {
    /// A digest by the algorithm of this name, in any case and with or without the dash of `SHA-256`.
    pub(super) fn new(name: &str) -> std::result::Result<Self, Refusal> {
        Ok(match spelled(name).as_str() {
            "md5" => Self::Md5(Md5::new()),
            "sha1" => Self::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            "sha224" => Self::Sha(digest::Context::new(&digest::SHA224)),
            "sha256" => Self::Sha(digest::Context::new(&digest::SHA256)),
            "sha384" => Self::Sha(digest::Context::new(&digest::SHA384)),
            "sha512" => Self::Sha(digest::Context::new(&digest::SHA512)),
            "sha512-256" => Self::Sha(digest::Context::new(&digest::SHA512_256)),
            _ => return Err(Refusal::unknown("digest", name, KNOWN)),
        })
    }

    /// As `new`, keyed.
    pub(super) fn keyed(name: &str, key: &[u8]) -> std::result::Result<Self, Refusal> {
        let algorithm = match spelled(name).as_str() {
            "md5" => {
                return Hmac::new_from_slice(key)
                    .map(Self::KeyedMd5)
                    .map_err(|_| Refusal::Range("the key is too long".into()));
            }
            "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            "sha224" => hmac::HMAC_SHA224,
            "sha256" => hmac::HMAC_SHA256,
            "sha384" => hmac::HMAC_SHA384,
            "sha512" => hmac::HMAC_SHA512,
            _ => {
                let known: Vec<&str> = KNOWN
                    .iter()
                    .copied()
                    .filter(|known| *known != "sha512-256")
                    .collect();
                return Err(Refusal::unknown("keyed digest", name, &known));
            }
        };
        let key = hmac::Key::new(algorithm, key);
        Ok(Self::KeyedSha(Box::new(hmac::Context::with_key(&key))))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha(hasher) => hasher.update(bytes),
            Self::KeyedMd5(hasher) => Mac::update(hasher, bytes),
            Self::KeyedSha(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Md5(hasher) => hasher.finalize().to_vec(),
            Self::Sha(hasher) => hasher.finish().as_ref().to_vec(),
            Self::KeyedMd5(hasher) => hasher.finalize().into_bytes().to_vec(),
            Self::KeyedSha(hasher) => hasher.sign().as_ref().to_vec(),
        }
    }
}

/// `SHA-256` as `sha256`.
pub(super) fn spelled(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("sha-") {
        Some(rest) => format!("sha{rest}"),
        None => name,
    }
}

fn hasher(ctx: Ctx<'_>, name: String) -> Result<Object<'_>> {
    let hasher = Hasher::new(&name).map_err(|refusal| refusal.throw(&ctx))?;
    under_way(&ctx, hasher)
}

fn keyed_hasher<'js>(ctx: Ctx<'js>, name: String, key: Bytes<'js>) -> Result<Object<'js>> {
    let hasher = key
        .read(|key| Hasher::keyed(&name, key))
        .map_err(|refusal| refusal.throw(&ctx))?;
    under_way(&ctx, hasher)
}

/// An object of two functions: `update`, and `finish`, which can be called once.
fn under_way<'js>(ctx: &Ctx<'js>, hasher: Hasher) -> Result<Object<'js>> {
    let state = std::rc::Rc::new(RefCell::new(Some(hasher)));
    let object = Object::new(ctx.clone())?;
    let updated = std::rc::Rc::clone(&state);
    object.set(
        "update",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, bytes: Bytes<'js>| -> Result<()> {
                match updated.borrow_mut().as_mut() {
                    Some(hasher) => bytes.read(|bytes| hasher.update(bytes)),
                    None => return Err(done().throw(&ctx)),
                }
                Ok(())
            },
        )?,
    )?;
    object.set(
        "finish",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>| -> Result<TypedArray<'js, u8>> {
                match state.borrow_mut().take() {
                    Some(hasher) => array(&ctx, hasher.finish()),
                    None => Err(done().throw(&ctx)),
                }
            },
        )?,
    )?;
    Ok(object)
}

fn done() -> Refusal {
    Refusal::Failed("the digest was already taken".into())
}
