//! JSON strings, base64 and hexadecimal digits, appended to a buffer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::INVALID_UTF8;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends a string of BSON: a JSON string, or the wrapper for what is not UTF-8.
pub(super) fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => push_quoted(out, text),
        Err(_) => {
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(INVALID_UTF8.as_bytes());
            out.extend_from_slice(b"\":\"");
            push_base64(out, bytes);
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Appends a field name, with U+FFFD for what is not UTF-8.
pub(super) fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    match std::str::from_utf8(name) {
        Ok(text) => push_quoted(out, text),
        Err(_) => push_quoted(out, &String::from_utf8_lossy(name)),
    }
}

/// Appends a JSON string. Only what JSON requires to be escaped is.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let (plain, from_escape) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = from_escape.split_first() else {
            break;
        };
        push_escaped(out, byte);
        rest = after;
    }
    out.push(b'"');
}

#[inline]
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// How many bytes come before the first that needs an escape. At most `bytes.len()`.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    let clean = words
        .iter()
        .position(|word| word_needs_escape(u64::from_le_bytes(*word)));
    let start = clean.unwrap_or(words.len()) * 8;
    let rest = if clean.is_some() {
        bytes.get(start..).unwrap_or(tail)
    } else {
        tail
    };
    start
        + rest
            .iter()
            .position(|&byte| needs_escape(byte))
            .unwrap_or(rest.len())
}

/// Whether one of eight bytes needs an escape, all tested at once.
#[inline]
fn word_needs_escape(word: u64) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte below `limit`; a byte above 0x7F is never reported first.
    let below = |word: u64, limit: u64| word.wrapping_sub(LOW * limit) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (LOW * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) != 0
}

#[cold]
fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0C => b'f',
        b'\r' => b'r',
        _ => {
            out.extend_from_slice(b"\\u00");
            return push_hex(out, &[byte]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends two digits for each byte.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 0x0F] {
            out.push(HEX_DIGITS[usize::from(digit)]);
        }
    }
}

/// Appends base64 with padding.
pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    if let Some(space) = out.get_mut(start..) {
        // The space is exactly what the encoding takes, so this cannot fail.
        let written = STANDARD.encode_slice(bytes, space).unwrap_or(0);
        out.truncate(start + written);
    }
}

/// Appends the bytes that base64 with padding stands for; `None` if it is malformed.
pub(super) fn decode_base64(out: &mut Vec<u8>, text: &str) -> Option<()> {
    STANDARD.decode_vec(text, out).ok()
}

/// The options of a regular expression in alphabetical order; `None` if they already are in it.
pub(super) fn sorted_options(options: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(options).ok()?;
    if text.chars().is_sorted() {
        return None;
    }
    let mut sorted: Vec<char> = text.chars().collect();
    sorted.sort_unstable();
    Some(sorted.into_iter().collect())
}
