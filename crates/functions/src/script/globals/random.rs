//! Random bytes, comparison in constant time, and the clock of `performance`.

use std::time::Instant;

use aws_lc_rs::{constant_time, rand};
use rquickjs::function::Func;
use rquickjs::{Ctx, Exception, Function, Object, Result};

use super::bytes::Bytes;

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("fillRandom", Func::from(fill_random))?;
    native.set(
        "randomUuid",
        Func::from(|| uuid::Uuid::new_v4().to_string()),
    )?;
    native.set("equalInConstantTime", Func::from(equal))
}

/// A function that returns the milliseconds since it was made, which never go back.
pub(super) fn clock<'js>(ctx: &Ctx<'js>) -> Result<Function<'js>> {
    let start = Instant::now();
    Function::new(ctx.clone(), move || start.elapsed().as_secs_f64() * 1e3)
}

fn fill_random(ctx: Ctx<'_>, bytes: Bytes<'_>) -> Result<()> {
    bytes
        .write(rand::fill)
        .map_err(|_| Exception::throw_message(&ctx, "the system gives no random bytes"))
}

/// Whether the bytes are the same. Only their lengths show in the time that this takes.
fn equal(one: Bytes<'_>, other: Bytes<'_>) -> bool {
    let other = other.to_vec();
    one.read(|one| constant_time::verify_slices_are_equal(one, &other).is_ok())
}
