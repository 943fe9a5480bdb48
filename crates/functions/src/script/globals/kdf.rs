//! Keys of passwords.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use rquickjs::function::Func;
use rquickjs::{Ctx, Object, Result, TypedArray};

use super::bytes::{Bytes, made};
use super::digest::spelled;
use super::refusal::Refusal;

/// The most bytes of a key.
const MAX_LENGTH: usize = 1 << 20;

/// The most rounds of PBKDF2, over all blocks of the key. No deadline ends them, and they take some ten seconds.
const MAX_ROUNDS: u64 = 10_000_000;

/// The most memory of scrypt in bytes, which the engine does not count.
const MAX_MEMORY: u64 = 160 << 20;

/// The most blocks that scrypt mixes, which takes some seconds.
const MAX_BLOCKS: u64 = 1 << 23;

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("pbkdf2", Func::from(by_pbkdf2))?;
    native.set("scrypt", Func::from(by_scrypt))
}

/// PBKDF2 with the keyed digest of this name.
fn pbkdf2_key(
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    length: usize,
    digest: &str,
) -> std::result::Result<Vec<u8>, Refusal> {
    let (algorithm, size) = match spelled(digest).as_str() {
        "sha1" => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
        "sha256" => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
        "sha384" => (pbkdf2::PBKDF2_HMAC_SHA384, 48),
        "sha512" => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
        _ => {
            let known = &["sha1", "sha256", "sha384", "sha512"];
            return Err(Refusal::unknown("digest for PBKDF2", digest, known));
        }
    };
    let mut key = empty_key(length)?;
    let times = NonZeroU32::new(iterations)
        .ok_or_else(|| Refusal::Range("the number of iterations is 0".into()))?;
    let blocks = length.div_ceil(size) as u64;
    if blocks * u64::from(iterations) > MAX_ROUNDS {
        let message = format!(
            "{iterations} iterations for {length} bytes are too many: {} are possible",
            MAX_ROUNDS / blocks
        );
        return Err(Refusal::Range(message.into()));
    }
    if !key.is_empty() {
        pbkdf2::derive(algorithm, times, salt, password, &mut key);
    }
    Ok(key)
}

/// scrypt with the parameters N, r and p, within so many bytes of memory.
fn scrypt_key(
    password: &[u8],
    salt: &[u8],
    [cost, block_size, parallelization, memory]: [u32; 4],
    length: usize,
) -> std::result::Result<Vec<u8>, Refusal> {
    let invalid = |why: &str| Refusal::Range(format!("invalid parameters of scrypt: {why}").into());
    if !cost.is_power_of_two() || cost < 2 {
        return Err(invalid("N is not a power of two above 1"));
    }
    let [n, r, p] = [cost, block_size, parallelization].map(u64::from);
    let needed = u128::from(r) * 128 * (u128::from(n) + u128::from(p) + 2);
    if needed > u128::from(memory) {
        return Err(invalid("they need more memory than maxmem"));
    }
    if needed > u128::from(MAX_MEMORY) {
        return Err(invalid("they need more than 160 MB of memory"));
    }
    // What needs so little memory does not overflow, but for what is done again and again.
    if (n * r).saturating_mul(p) > MAX_BLOCKS {
        return Err(invalid("N × r × p is above 2^23"));
    }
    let mut key = empty_key(length)?;
    if key.is_empty() {
        return Ok(key);
    }
    let parameters = u8::try_from(cost.ilog2())
        .ok()
        .and_then(|cost| scrypt::Params::new(cost, block_size, parallelization).ok())
        .ok_or_else(|| invalid("they do not go together"))?;
    scrypt::scrypt(password, salt, &parameters, &mut key)
        .map_err(|_| invalid("the key is too long"))?;
    Ok(key)
}

fn empty_key(length: usize) -> std::result::Result<Vec<u8>, Refusal> {
    if length > MAX_LENGTH {
        let message = format!("a key of {length} bytes is too long: {MAX_LENGTH} are possible");
        return Err(Refusal::Range(message.into()));
    }
    Ok(vec![0; length])
}

fn by_pbkdf2<'js>(
    ctx: Ctx<'js>,
    password: Bytes<'js>,
    salt: Bytes<'js>,
    iterations: u32,
    length: usize,
    digest: String,
) -> Result<TypedArray<'js, u8>> {
    let salt = salt.to_vec();
    let key = password.read(|password| pbkdf2_key(password, &salt, iterations, length, &digest));
    made(&ctx, key)
}

fn by_scrypt<'js>(
    ctx: Ctx<'js>,
    password: Bytes<'js>,
    salt: Bytes<'js>,
    parameters: Vec<u32>,
    length: usize,
) -> Result<TypedArray<'js, u8>> {
    let salt = salt.to_vec();
    let key = <[u32; 4]>::try_from(parameters)
        .map_err(|_| Refusal::Type("the parameters are not four".into()))
        .and_then(|parameters| {
            password.read(|password| scrypt_key(password, &salt, parameters, length))
        });
    made(&ctx, key)
}
