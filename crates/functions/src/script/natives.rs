//! The native functions that the prelude is written with.

use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use bson::Decimal128;
use bson::oid::ObjectId;
use rquickjs::context::EvalOptions;
use rquickjs::{Ctx, Error, Exception, Function, Object, Result, Value};
use tributary_convert::extjson::{self, Mode};
use tributary_convert::raw::RawElements;

use super::bson::{self as values, Absent, Reading, Types, Unwritable, raw};
use super::failure::user_stack;
use super::host::Host;
use super::modules::Files;
use super::{AppMetadata, Program};
use crate::services::ServiceCall;

/// Base64 as it is met: with padding or without.
const BASE64_LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Puts the native functions that need no classes of BSON yet into `host`, the object that the prelude is given.
pub(super) fn install<'js>(
    ctx: &Ctx<'js>,
    object: &Object<'js>,
    host: &Rc<Host>,
    program: &Arc<Program>,
    files: &Rc<Files>,
) -> Result<()> {
    data(ctx, object)?;
    extended_json(ctx, object)?;
    run(ctx, object, host)?;
    application(ctx, object, program)?;
    modules(ctx, object, files)
}

/// Raises what is wrong with a value that is to be BSON.
pub(super) fn raise(ctx: &Ctx<'_>, unwritable: Unwritable) -> Error {
    match unwritable {
        Unwritable::Raised => Error::Exception,
        unfit @ Unwritable::Unfit { .. } => Exception::throw_type(ctx, &unfit.to_string()),
    }
}

/// The classes of the context.
fn with_types<'js, R>(ctx: &Ctx<'js>, act: impl FnOnce(&Types<'js>) -> Result<R>) -> Result<R> {
    act(&*Types::of(ctx)?)
}

fn bytes_of<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Vec<u8>> {
    match raw::class(value) {
        raw::Class::Bytes | raw::Class::Buffer => raw::with_bytes(value, <[u8]>::to_vec),
        _ => Err(Exception::throw_type(ctx, "the value must be a Uint8Array")),
    }
}

fn string<'js>(ctx: &Ctx<'js>, text: impl AsRef<[u8]>) -> Result<Value<'js>> {
    raw::new_string(ctx, text.as_ref())
}

fn data<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> Result<()> {
    let define = |name: &str, function: Result<Function<'js>>| object.set(name, function?);
    define(
        "newObjectId",
        Function::new(ctx.clone(), |ctx: Ctx<'js>| {
            string(&ctx, ObjectId::new().to_hex())
        }),
    )?;
    define(
        "newUuid",
        Function::new(ctx.clone(), |ctx: Ctx<'js>| {
            string(&ctx, hex::encode(uuid::Uuid::new_v4().as_bytes()))
        }),
    )?;
    define(
        "toHex",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, bytes: Value<'js>| {
            string(&ctx, hex::encode(bytes_of(&ctx, &bytes)?))
        }),
    )?;
    define(
        "fromHex",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, digits: Value<'js>| match hex::decode(raw::text(&digits)?) {
                Ok(bytes) => raw::new_bytes(&ctx, &bytes),
                Err(_) => Err(Exception::throw_type(
                    &ctx,
                    "the text must be pairs of hexadecimal digits",
                )),
            },
        ),
    )?;
    define(
        "toBase64",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, bytes: Value<'js>| {
            string(&ctx, BASE64_STANDARD.encode(bytes_of(&ctx, &bytes)?))
        }),
    )?;
    define(
        "fromBase64",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, text: Value<'js>| match BASE64_LENIENT.decode(raw::text(&text)?) {
                Ok(bytes) => raw::new_bytes(&ctx, &bytes),
                Err(_) => Err(Exception::throw_type(&ctx, "the text must be Base64")),
            },
        ),
    )?;
    define(
        "toText",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, bytes: Value<'js>| {
            string(&ctx, bytes_of(&ctx, &bytes)?)
        }),
    )?;
    define(
        "fromText",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, text: Value<'js>| {
            raw::new_bytes(&ctx, raw::text(&text)?.as_bytes())
        }),
    )?;
    define(
        "decimalFromString",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, text: Value<'js>| match Decimal128::from_str(&raw::text(&text)?) {
                Ok(decimal) => string(&ctx, hex::encode(decimal.bytes())),
                Err(_) => Err(Exception::throw_type(
                    &ctx,
                    "the text must be a number of up to 34 digits",
                )),
            },
        ),
    )?;
    define(
        "decimalToString",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, digits: Value<'js>| {
            let mut bytes = [0; 16];
            match hex::decode_to_slice(raw::text(&digits)?, &mut bytes) {
                Ok(()) => string(&ctx, Decimal128::from_bytes(bytes).to_string()),
                Err(_) => Err(Exception::throw_type(&ctx, "the value is no Decimal128")),
            }
        }),
    )
}

fn extended_json<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> Result<()> {
    let stringify = |ctx: Ctx<'js>, value: Value<'js>, relaxed: bool| {
        let document = with_types(&ctx, |types| {
            values::write_field(types, &value).map_err(|error| raise(&ctx, error))
        })?;
        let malformed = |error: tributary_convert::raw::MalformedBson| {
            Exception::throw_message(&ctx, &error.to_string())
        };
        let Some(element) = RawElements::new(&document).map_err(malformed)?.next() else {
            return Ok(Value::new_undefined(ctx.clone()));
        };
        let mode = if relaxed {
            Mode::Relaxed
        } else {
            Mode::Canonical
        };
        let mut text = Vec::with_capacity(document.len() * 2);
        extjson::write_value(&mut text, &element.map_err(malformed)?, mode).map_err(malformed)?;
        string(&ctx, text)
    };
    object.set("ejsonStringify", Function::new(ctx.clone(), stringify)?)?;
    let parse = |ctx: Ctx<'js>, text: Value<'js>, relaxed: bool| {
        let parsed = extjson::parse_value(&raw::text(&text)?)
            .map_err(|error| Exception::throw_syntax(&ctx, &error.to_string()))?;
        let Ok(length) = i32::try_from(parsed.value.len() + 8) else {
            return Err(Exception::throw_range(&ctx, "the text is too long"));
        };
        let mut document = Vec::with_capacity(parsed.value.len() + 8);
        document.extend_from_slice(&length.to_le_bytes());
        document.extend_from_slice(&[parsed.kind, b'v', 0]);
        document.extend_from_slice(&parsed.value);
        document.push(0);
        let reading = if relaxed {
            Reading::Relaxed
        } else {
            Reading::Exact
        };
        with_types(&ctx, |types| {
            values::read_field(&ctx, types, &document, reading)
        })
    };
    object.set("ejsonParse", Function::new(ctx.clone(), parse)?)
}

/// A number of the host's, which has far fewer of them than a double is exact for.
fn number(id: u64) -> f64 {
    id as f64
}

fn run<'js>(ctx: &Ctx<'js>, object: &Object<'js>, host: &Rc<Host>) -> Result<()> {
    let at = Rc::clone(host);
    let print = move |level: Value<'js>, text: Value<'js>| -> Result<()> {
        at.print(&raw::text(&level)?, raw::text(&text)?);
        Ok(())
    };
    object.set("print", Function::new(ctx.clone(), print)?)?;
    let at = Rc::clone(host);
    let timer = move |delay: f64, repeats: bool| number(at.timer(delay, repeats));
    object.set("timer", Function::new(ctx.clone(), timer)?)?;
    let at = Rc::clone(host);
    let clear = move |id: f64| at.clear_timer(id as u64);
    object.set("clearTimer", Function::new(ctx.clone(), clear)?)?;
    let at = Rc::clone(host);
    let request = move |ctx: Ctx<'js>| match at.request() {
        Some(request) => with_types(&ctx, |types| values::read_document(&ctx, types, &request)),
        None => Ok(Value::new_undefined(ctx.clone())),
    };
    object.set("request", Function::new(ctx.clone(), request)?)?;
    let at = Rc::clone(host);
    let call = move |ctx: Ctx<'js>,
                     service: Value<'js>,
                     operation: Value<'js>,
                     arguments: Value<'js>,
                     is_of_documents: bool|
          -> Result<f64> {
        let absent = match is_of_documents {
            true => Absent::Told,
            false => Absent::LeftOut,
        };
        let document = with_types(&ctx, |types| {
            values::write_document(types, &arguments, absent).map_err(|error| raise(&ctx, error))
        })?;
        Ok(number(at.call(ServiceCall {
            service: raw::text(&service)?,
            operation: raw::text(&operation)?,
            arguments: document.into(),
        })))
    };
    object.set("call", Function::new(ctx.clone(), call)?)?;
    let user_stack =
        |ctx: Ctx<'js>, stack: Value<'js>| string(&ctx, user_stack(&raw::text(&stack)?));
    object.set("userStack", Function::new(ctx.clone(), user_stack)?)
}

fn application<'js>(ctx: &Ctx<'js>, object: &Object<'js>, program: &Arc<Program>) -> Result<()> {
    let of = Arc::clone(program);
    let value = move |ctx: Ctx<'js>, name: Value<'js>| match of.values.get(&raw::text(&name)?) {
        Some(value) => with_types(&ctx, |types| {
            values::read_field(&ctx, types, value, Reading::Exact)
        }),
        None => Ok(Value::new_undefined(ctx.clone())),
    };
    object.set("value", Function::new(ctx.clone(), value)?)?;
    let of = Arc::clone(program);
    let environment = move |ctx: Ctx<'js>| {
        let all = Object::new(ctx.clone())?;
        with_types(&ctx, |types| {
            for (name, value) in &of.environment_values {
                let value = values::read_field(&ctx, types, value, Reading::Exact)?;
                raw::define(&all, name.as_bytes(), &value)?;
            }
            Ok(all.into_value())
        })
    };
    object.set(
        "environmentValues",
        Function::new(ctx.clone(), environment)?,
    )?;
    let of = Arc::clone(program);
    let service = move |name: Value<'js>| -> Result<Option<String>> {
        Ok(of.services.get(&raw::text(&name)?).cloned())
    };
    object.set("service", Function::new(ctx.clone(), service)?)?;
    let of = Arc::clone(program);
    let app = move |ctx: Ctx<'js>| -> Result<Object<'js>> {
        let app = Object::new(ctx)?;
        let AppMetadata {
            id,
            name,
            client_id,
            project_id,
            deployment_model,
            provider_region,
        } = &of.app;
        for (key, value) in [
            ("id", id),
            ("name", name),
            ("clientAppId", client_id),
            ("projectId", project_id),
            ("model", deployment_model),
            ("providerRegion", provider_region),
            ("environment", &of.environment),
        ] {
            app.set(key, value.as_str())?;
        }
        Ok(app)
    };
    object.set("app", Function::new(ctx.clone(), app)?)
}

/// What surrounds the text of a file. It begins on the file's own first line, so that lines keep their numbers.
const BEFORE: &str = "(function (exports, require, module, __filename, __dirname) {";
const AFTER: &str = "\nreturn exports;\n})";

fn modules<'js>(ctx: &Ctx<'js>, object: &Object<'js>, files: &Rc<Files>) -> Result<()> {
    let of = Rc::clone(files);
    let path = move |name: Value<'js>| -> Result<Option<String>> {
        Ok(of.function(&raw::text(&name)?).map(str::to_owned))
    };
    object.set("functionPath", Function::new(ctx.clone(), path)?)?;
    let of = Rc::clone(files);
    let resolve = move |from: Value<'js>, name: Value<'js>| -> Result<Option<String>> {
        Ok(of.resolve(&raw::text(&from)?, &raw::text(&name)?))
    };
    object.set("resolve", Function::new(ctx.clone(), resolve)?)?;
    let of = Rc::clone(files);
    let text = move |ctx: Ctx<'js>, path: Value<'js>| match of.source(&raw::text(&path)?) {
        Some(source) => string(&ctx, source.text.as_bytes()),
        None => Err(Exception::throw_message(&ctx, "there is no such file")),
    };
    object.set("text", Function::new(ctx.clone(), text)?)?;
    let of = Rc::clone(files);
    let compile = move |ctx: Ctx<'js>, path: Value<'js>| -> Result<Value<'js>> {
        let path = raw::text(&path)?;
        let Some(source) = of.source(&path) else {
            return Err(Exception::throw_message(&ctx, "there is no such file"));
        };
        if source.text.contains('\0') {
            return Err(Exception::throw_syntax(
                &ctx,
                &format!("{} contains a NUL", source.file),
            ));
        }
        let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
        let mut options = EvalOptions::default();
        options.strict = false;
        options.filename = Some(source.file.replace('\0', ""));
        // The line by which a shell finds an interpreter is a comment, at the beginning of a file alone.
        let before_text = if text.starts_with("#!") { "//" } else { "" };
        ctx.eval_with_options([BEFORE, before_text, text, AFTER].concat(), options)
    };
    object.set("compile", Function::new(ctx.clone(), compile)?)
}
