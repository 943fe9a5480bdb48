//! Bytes of JavaScript, and text as bytes: UTF-8, Latin-1, hex and Base64.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rquickjs::function::Func;
use rquickjs::{Ctx, Exception, FromJs, Object, Result, TypedArray, Value};

use super::refusal::Refusal;

/// Base64 as it is read: without its padding, which those who call have cut off, and whatever the bits
/// behind the last byte are.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("utf8Encode", Func::from(utf8_encode))?;
    native.set("utf8Decode", Func::from(utf8_decode))?;
    native.set("utf8DecodeFatal", Func::from(utf8_decode_fatal))?;
    native.set("utf8Length", Func::from(utf8_length))?;
    native.set(
        "utf8Unfinished",
        Func::from(|bytes: Bytes<'_>| bytes.read(unfinished)),
    )?;
    native.set("latin1Encode", Func::from(latin1_encode))?;
    native.set("latin1Decode", Func::from(latin1_decode))?;
    native.set(
        "hexEncode",
        Func::from(|bytes: Bytes<'_>| bytes.read(|bytes| hex::encode(bytes))),
    )?;
    native.set("hexDecode", Func::from(hex_decode))?;
    native.set("base64Encode", Func::from(base64_encode))?;
    native.set("base64Decode", Func::from(base64_decode))?;
    native.set("base64DecodeForgiving", Func::from(base64_decode_forgiving))
}

/// A `Uint8Array`, or an object of a class derived from it.
pub(super) struct Bytes<'js>(TypedArray<'js, u8>);

impl<'js> Bytes<'js> {
    /// What `work` makes of the bytes. That it can be sent to another thread keeps everything of the
    /// engine out of it, and so from changing or moving the bytes meanwhile.
    pub(super) fn read<R>(&self, work: impl FnOnce(&[u8]) -> R + Send) -> R {
        // SAFETY: no JavaScript runs within `work`: whatever could run it holds a pointer into the
        // engine, which is not `Send`.
        work(unsafe { self.0.as_bytes() }.unwrap_or_default())
    }

    /// As `read`, with bytes that can be written.
    pub(super) fn write<R>(&self, work: impl FnOnce(&mut [u8]) -> R + Send) -> R {
        match self.0.as_raw() {
            // SAFETY: as for `read`; and nothing else refers to these bytes while `work` runs.
            Some(mut bytes) => work(unsafe { bytes.as_mut() }),
            None => work(&mut []),
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.read(<[u8]>::to_vec)
    }
}

impl<'js> FromJs<'js> for Bytes<'js> {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let Ok(array) = TypedArray::from_value(value) else {
            return Err(Exception::throw_type(ctx, "the bytes are not a Uint8Array"));
        };
        if array.as_raw().is_none() {
            ctx.catch();
            return Err(Exception::throw_type(
                ctx,
                "the bytes are gone: their buffer was detached",
            ));
        }
        Ok(Self(array))
    }
}

/// What a function has made, or what it throws instead.
pub(super) fn made<'js>(
    ctx: &Ctx<'js>,
    bytes: std::result::Result<Vec<u8>, Refusal>,
) -> Result<TypedArray<'js, u8>> {
    array(ctx, bytes.map_err(|refusal| refusal.throw(ctx))?)
}

/// New bytes, in memory of the engine, which counts them.
pub(super) fn array<'js>(ctx: &Ctx<'js>, bytes: impl AsRef<[u8]>) -> Result<TypedArray<'js, u8>> {
    TypedArray::new_copy(ctx.clone(), bytes)
}

fn utf8_encode(ctx: Ctx<'_>, text: String) -> Result<TypedArray<'_, u8>> {
    array(&ctx, text)
}

fn utf8_decode(bytes: Bytes<'_>) -> String {
    bytes.read(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// The text, or none where the bytes are not UTF-8.
fn utf8_decode_fatal(bytes: Bytes<'_>) -> Option<String> {
    bytes.read(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
}

fn utf8_length(text: String) -> usize {
    text.len()
}

/// How many bytes at the end begin a character that more bytes could finish.
fn unfinished(bytes: &[u8]) -> usize {
    // A character takes at most four bytes, so at most three are an unfinished one.
    (1..=bytes.len().min(3))
        .find(|&count| {
            let end = bytes.get(bytes.len() - count..).unwrap_or_default();
            std::str::from_utf8(end)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

/// The low eight bits of each code unit.
fn latin1_encode(ctx: Ctx<'_>, text: String) -> Result<TypedArray<'_, u8>> {
    let units: Vec<u8> = text
        .encode_utf16()
        .map(|unit| unit.to_le_bytes()[0])
        .collect();
    array(&ctx, units)
}

fn latin1_decode(bytes: Bytes<'_>) -> String {
    bytes.read(|bytes| bytes.iter().copied().map(char::from).collect())
}

/// The bytes up to the first pair of characters that is no pair of hex digits.
fn hex_decode(ctx: Ctx<'_>, text: String) -> Result<TypedArray<'_, u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let decoded: Vec<u8> = pairs
        .iter()
        .map_while(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect();
    array(&ctx, decoded)
}

fn base64_encode(bytes: Bytes<'_>, url_safe: bool) -> String {
    bytes.read(|bytes| {
        if url_safe {
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        } else {
            BASE64_STANDARD.encode(bytes)
        }
    })
}

/// The bytes of Base64 in either alphabet, as Node reads it: up to the first `=`, and without anything
/// that is in neither alphabet.
fn base64_decode(ctx: Ctx<'_>, text: String) -> Result<TypedArray<'_, u8>> {
    let mut digits: Vec<u8> = text
        .bytes()
        .take_while(|&byte| byte != b'=')
        .filter_map(|byte| match byte {
            b'-' => Some(b'+'),
            b'_' => Some(b'/'),
            b'+' | b'/' => Some(byte),
            _ => byte.is_ascii_alphanumeric().then_some(byte),
        })
        .collect();
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    array(&ctx, LENIENT.decode(digits).unwrap_or_default())
}

/// The bytes of Base64 as `atob` reads it, none where it is not: spaces do not count, and the padding is
/// there in full or not at all.
fn base64_decode_forgiving(ctx: Ctx<'_>, text: String) -> Result<Option<TypedArray<'_, u8>>> {
    let dense: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' '))
        .collect();
    let digits = match dense.as_slice() {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if dense.len().is_multiple_of(4) => digits,
        digits => digits,
    };
    LENIENT
        .decode(digits)
        .ok()
        .map(|bytes| array(&ctx, bytes))
        .transpose()
}
