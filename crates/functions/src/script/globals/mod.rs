//! The objects that functions find besides `context` and `BSON`: those of the web and of Node that
//! Atlas offers, and its own `utils`.
//!
//! What they do is written in the files below `js/`, each an expression whose value is a function of
//! (`native`, `load`) that returns what the file exports; what has to be fast or exact is native. A file
//! is read when something of it is first asked for, since most functions use few of them and each new
//! context would pay for all.

mod bytes;
mod cipher;
mod digest;
mod encryption;
mod jwt;
mod kdf;
mod keys;
mod random;
mod refusal;
mod signature;
mod url;

#[cfg(test)]
mod tests;

use rquickjs::context::EvalOptions;
use rquickjs::function::Func;
use rquickjs::{Ctx, Exception, Function, Object, Result};

/// Defines all of it on the global object of `ctx`, and the built-in modules on `builtins` by their names.
///
/// `globalThis.BSON` is looked up when it is first needed, by the methods that take or return a
/// `BSON.Binary`.
///
/// # Errors
///
/// Those of the engine: no memory, or a global that cannot be defined.
pub(super) fn install<'js>(ctx: &Ctx<'js>, builtins: &Object<'js>) -> Result<()> {
    let native = Object::new(ctx.clone())?;
    bytes::define(&native)?;
    cipher::define(&native)?;
    digest::define(&native)?;
    encryption::define(&native)?;
    kdf::define(&native)?;
    jwt::define(&native)?;
    random::define(&native)?;
    signature::define(&native)?;
    url::define(&native)?;
    native.set("now", random::clock(ctx)?)?;
    native.set("source", Func::from(source))?;
    let start: Function<'_> = evaluate(ctx, "install", include_str!("js/install.js"))?;
    start.call((native, ctx.globals(), builtins.clone()))
}

/// The files of `js/` that `load` finds.
const SOURCES: &[(&str, &str)] = &[
    ("assert", include_str!("js/assert.js")),
    ("atlas", include_str!("js/atlas.js")),
    ("buffer", include_str!("js/buffer.js")),
    ("bytes", include_str!("js/bytes.js")),
    ("clone", include_str!("js/clone.js")),
    ("crypto", include_str!("js/crypto.js")),
    ("equality", include_str!("js/equality.js")),
    ("events", include_str!("js/events.js")),
    ("inspect", include_str!("js/inspect.js")),
    ("os", include_str!("js/os.js")),
    ("path", include_str!("js/path.js")),
    ("process", include_str!("js/process.js")),
    ("querystring", include_str!("js/querystring.js")),
    ("string_decoder", include_str!("js/string_decoder.js")),
    ("text", include_str!("js/text.js")),
    ("timers", include_str!("js/timers.js")),
    ("url", include_str!("js/url.js")),
    ("util", include_str!("js/util.js")),
    ("webcrypto", include_str!("js/webcrypto.js")),
];

/// The function that the file of this name is.
fn source<'js>(ctx: Ctx<'js>, name: String) -> Result<Function<'js>> {
    match SOURCES.iter().find(|(known, _)| *known == name) {
        Some((known, text)) => evaluate(&ctx, known, text),
        None => Err(Exception::throw_reference(
            &ctx,
            &format!("there is no part {name:?} of the globals"),
        )),
    }
}

fn evaluate<'js>(ctx: &Ctx<'js>, name: &str, text: &str) -> Result<Function<'js>> {
    let mut options = EvalOptions::default();
    options.strict = true;
    options.filename = Some(format!("builtin:{name}"));
    ctx.eval_with_options(text, options)
}
