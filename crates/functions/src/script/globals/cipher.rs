//! AES: in CBC mode as Node's `createCipheriv` gives it, and in GCM mode as Atlas's `utils.crypto` does.

use std::cell::RefCell;
use std::rc::Rc;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, AES_CBC_IV_LEN, DecryptionContext, EncryptionContext, StreamingDecryptingKey,
    StreamingEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use rquickjs::function::Func;
use rquickjs::{Ctx, Function, Object, Result, TypedArray};

use super::bytes::{Bytes, array, made};
use super::refusal::Refusal;

/// The ciphers of `cipher`, as Node names them.
const KNOWN: &[&str] = &["aes-128-cbc", "aes-192-cbc", "aes-256-cbc"];

const BLOCK: usize = 16;

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("cipherNames", KNOWN.to_vec())?;
    native.set("cipher", Func::from(start))?;
    native.set("seal", Func::from(seal_bytes))?;
    native.set("open", Func::from(open_bytes))
}

/// A cipher under way, in CBC mode with the padding of PKCS #7.
enum Cipher {
    Encrypting(StreamingEncryptingKey),
    Decrypting(StreamingDecryptingKey),
}

impl Cipher {
    fn new(
        name: &str,
        key: &[u8],
        iv: &[u8],
        encrypts: bool,
    ) -> std::result::Result<Self, Refusal> {
        let algorithm = match name.to_ascii_lowercase().as_str() {
            "aes-128-cbc" => &cipher::AES_128,
            "aes-192-cbc" => &cipher::AES_192,
            "aes-256-cbc" => &cipher::AES_256,
            _ => return Err(Refusal::unknown("cipher", name, KNOWN)),
        };
        let key = UnboundCipherKey::new(algorithm, key).map_err(|_| {
            Refusal::Range(format!("a key of {} bytes does not fit {name}", key.len()).into())
        })?;
        let iv: [u8; AES_CBC_IV_LEN] = iv.try_into().map_err(|_| {
            Refusal::Range(
                format!(
                    "the initialization vector has {} bytes, not {AES_CBC_IV_LEN}",
                    iv.len()
                )
                .into(),
            )
        })?;
        let iv = FixedLength::from(iv);
        let made = if encrypts {
            StreamingEncryptingKey::less_safe_cbc_pkcs7(key, EncryptionContext::Iv128(iv))
                .map(Self::Encrypting)
        } else {
            StreamingDecryptingKey::cbc_pkcs7(key, DecryptionContext::Iv128(iv))
                .map(Self::Decrypting)
        };
        made.map_err(|_| Refusal::Failed(format!("the cipher {name} cannot be started").into()))
    }

    fn update(&mut self, input: &[u8]) -> std::result::Result<Vec<u8>, Unspecified> {
        let mut output = vec![0; input.len() + BLOCK];
        let written = match self {
            Self::Encrypting(key) => key.update(input, &mut output)?.written().len(),
            Self::Decrypting(key) => key.update(input, &mut output)?.written().len(),
        };
        output.truncate(written);
        Ok(output)
    }

    fn finish(self) -> std::result::Result<Vec<u8>, Unspecified> {
        let mut output = vec![0; BLOCK];
        let written = match self {
            Self::Encrypting(key) => key.finish(&mut output)?.1.written().len(),
            Self::Decrypting(key) => key.finish(&mut output)?.written().len(),
        };
        output.truncate(written);
        Ok(output)
    }
}

/// An object of two functions: `update`, and `finish`, which can be called once.
fn start<'js>(
    ctx: Ctx<'js>,
    name: String,
    key: Bytes<'js>,
    iv: Bytes<'js>,
    encrypts: bool,
) -> Result<Object<'js>> {
    let iv = iv.to_vec();
    let cipher = key
        .read(|key| Cipher::new(&name, key, &iv, encrypts))
        .map_err(|refusal| refusal.throw(&ctx))?;
    let state = Rc::new(RefCell::new(Some(cipher)));
    let object = Object::new(ctx.clone())?;
    let updated = Rc::clone(&state);
    object.set(
        "update",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, bytes: Bytes<'js>| -> Result<TypedArray<'js, u8>> {
                let mut state = updated.borrow_mut();
                let cipher = state.as_mut().ok_or_else(|| done().throw(&ctx))?;
                let output = bytes
                    .read(|bytes| cipher.update(bytes))
                    .map_err(|_| undecipherable().throw(&ctx))?;
                array(&ctx, output)
            },
        )?,
    )?;
    object.set(
        "finish",
        Function::new(ctx, move |ctx: Ctx<'js>| -> Result<TypedArray<'js, u8>> {
            let cipher = state
                .borrow_mut()
                .take()
                .ok_or_else(|| done().throw(&ctx))?;
            array(
                &ctx,
                cipher.finish().map_err(|_| undecipherable().throw(&ctx))?,
            )
        })?,
    )?;
    Ok(object)
}

fn done() -> Refusal {
    Refusal::Failed("the cipher is already at its end".into())
}

fn undecipherable() -> Refusal {
    Refusal::Failed("the text cannot be decrypted with this key and initialization vector".into())
}

/// The key of AES in GCM mode.
fn sealing_key(key: &[u8]) -> std::result::Result<LessSafeKey, Refusal> {
    let algorithm = match key.len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        32 => &aead::AES_256_GCM,
        length => {
            return Err(Refusal::Range(
                format!("an AES key has 16, 24 or 32 bytes, this one {length}").into(),
            ));
        }
    };
    let key = UnboundKey::new(algorithm, key)
        .map_err(|_| Refusal::Failed("the AES key is refused".into()))?;
    Ok(LessSafeKey::new(key))
}

/// The message encrypted by AES in GCM mode, as Atlas lays it out: a random nonce of 12 bytes, the
/// encrypted message, a tag of 16 bytes.
pub(super) fn seal(key: &[u8], message: &[u8]) -> std::result::Result<Vec<u8>, Refusal> {
    let key = sealing_key(key)?;
    let failed = |_| Refusal::Failed("the message cannot be encrypted".into());
    let mut nonce = [0; aead::NONCE_LEN];
    rand::fill(&mut nonce).map_err(failed)?;
    let mut sealed = Vec::with_capacity(nonce.len() + message.len() + aead::MAX_TAG_LEN);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(message);
    let (_, text) = sealed.split_at_mut(nonce.len());
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), text)
        .map_err(failed)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// The message that `seal` made this of.
pub(super) fn open(key: &[u8], sealed: &[u8]) -> std::result::Result<Vec<u8>, Refusal> {
    let key = sealing_key(key)?;
    let failed = || {
        Refusal::Failed("the message was not encrypted with this key, or was changed since".into())
    };
    let (nonce, text) = sealed.split_first_chunk().ok_or_else(failed)?;
    let mut text = text.to_vec();
    let length = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::empty(),
            &mut text,
        )
        .map_err(|_| failed())?
        .len();
    text.truncate(length);
    Ok(text)
}

fn seal_bytes<'js>(
    ctx: Ctx<'js>,
    key: Bytes<'js>,
    message: Bytes<'js>,
) -> Result<TypedArray<'js, u8>> {
    let key = key.to_vec();
    let sealed = message.read(|message| seal(&key, message));
    made(&ctx, sealed)
}

fn open_bytes<'js>(
    ctx: Ctx<'js>,
    key: Bytes<'js>,
    sealed: Bytes<'js>,
) -> Result<TypedArray<'js, u8>> {
    let key = key.to_vec();
    let message = sealed.read(|sealed| open(&key, sealed));
    made(&ctx, message)
}
