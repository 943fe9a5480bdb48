mod atlas;
mod builtins;
mod cryptography;
mod encodings;
mod vectors;
mod web;

use rquickjs::context::intrinsic;
use rquickjs::{CatchResultExt, Context, Ctx, Object, Promise, Runtime};

use super::install;

/// What the tests need besides: a stand-in for `BSON.Binary`, and assertions that do not rest on what is
/// tested.
const PRELUDE: &str = r#"
globalThis.require = (name) => builtins[name];
globalThis.BSON = {
  Binary: class Binary {
    constructor(buffer, subType) {
      this.buffer = buffer;
      this.subType = subType;
    }
    static fromBase64(text, subType = 0) {
      return new Binary(Uint8Array.from(Buffer.from(text, 'base64')), subType);
    }
    static fromHex(text, subType = 0) {
      return new Binary(Uint8Array.from(Buffer.from(text, 'hex')), subType);
    }
    hex() {
      return Buffer.from(this.buffer).toString('hex');
    }
    base64() {
      return Buffer.from(this.buffer).toString('base64');
    }
    text() {
      return Buffer.from(this.buffer).toString();
    }
  },
};
globalThis.same = (actual, expected) => {
  const [is, should] = [actual, expected].map((value) => `${typeof value} ${JSON.stringify(value)}`);
  if (is !== should) throw new Error(`${is} is not ${should}`);
};
globalThis.refused = (run, name, says) => {
  try {
    run();
  } catch (error) {
    same(error.name, name);
    if (!error.message.includes(says)) throw new Error(`${error.message} does not say ${says}`);
    return error;
  }
  throw new Error('it was not refused');
};
"#;

/// What `work` makes of a context in which all is installed.
fn installed<R>(work: impl for<'js> FnOnce(Ctx<'js>) -> R) -> R {
    let runtime = Runtime::new().unwrap();
    Context::full(&runtime).unwrap().with(|ctx| {
        let builtins = Object::new(ctx.clone()).unwrap();
        install(&ctx, &builtins).unwrap();
        ctx.globals().set("builtins", builtins).unwrap();
        ctx.eval::<(), _>(PRELUDE).unwrap();
        work(ctx)
    })
}

/// Runs the body of an async function, in which each of `constants` is a global.
fn run_with(constants: &[(&str, &str)], body: &str) {
    installed(|ctx| {
        for (name, value) in constants {
            ctx.globals().set(*name, *value).unwrap();
        }
        let promise: Promise<'_> = ctx
            .eval(format!("(async () => {{\n{body}\n}})()"))
            .catch(&ctx)
            .unwrap_or_else(|error| panic!("{error}"));
        promise
            .finish::<()>()
            .catch(&ctx)
            .unwrap_or_else(|error| panic!("{error}"));
    });
}

fn run(body: &str) {
    run_with(&[], body);
}

#[test]
fn all_globals_and_modules_can_be_read() {
    run(r"
for (const name of ['URL', 'URLSearchParams', 'TextEncoder', 'TextDecoder', 'atob', 'btoa', 'structuredClone', 'Buffer']) {
  same(typeof globalThis[name], 'function');
}
for (const name of ['crypto', 'utils', 'process', 'performance', 'global']) same(typeof globalThis[name], 'object');
for (const name of ['buffer', 'crypto', 'os', 'path', 'process', 'querystring', 'string_decoder', 'timers', 'url', 'util']) {
  same(typeof require(name), 'object');
}
for (const name of ['assert', 'events']) same(typeof require(name), 'function');
same(global === globalThis, true);
same(Object.keys(globalThis).includes('Buffer'), false);
");
}

#[test]
fn a_global_can_be_replaced_before_it_was_read() {
    run("globalThis.URL = 5; same(URL, 5); Buffer = 6; same(Buffer, 6);");
}

#[test]
fn the_built_in_modules_are_listed_by_name() {
    let runtime = Runtime::new().unwrap();
    Context::full(&runtime).unwrap().with(|ctx| {
        let builtins = Object::new(ctx.clone()).unwrap();
        install(&ctx, &builtins).unwrap();
        let mut names: Vec<String> = builtins.keys().map(|name| name.unwrap()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "assert",
                "buffer",
                "crypto",
                "events",
                "os",
                "path",
                "process",
                "querystring",
                "string_decoder",
                "timers",
                "url",
                "util"
            ]
        );
    });
}

#[test]
fn it_is_installed_in_a_context_without_a_clock_of_its_own() {
    let runtime = Runtime::new().unwrap();
    let context = Context::builder()
        .with::<(
            intrinsic::Date,
            intrinsic::Eval,
            intrinsic::RegExpCompiler,
            intrinsic::RegExp,
            intrinsic::MapSet,
            intrinsic::TypedArrays,
            intrinsic::Promise,
        )>()
        .build(&runtime)
        .unwrap();
    context.with(|ctx| {
        install(&ctx, &Object::new(ctx.clone()).unwrap()).unwrap();
        let runs: bool = ctx
            .eval("const start = performance.now(); performance.now() >= start && start >= 0")
            .unwrap();
        assert!(runs);
        let name: String = ctx
            .eval("try { atob('?') } catch (error) { error.name }")
            .unwrap();
        assert_eq!(name, "InvalidCharacterError");
    });
}

#[test]
fn memory_that_the_runtime_may_not_have_is_refused() {
    let runtime = Runtime::new().unwrap();
    runtime.set_memory_limit(16 << 20);
    Context::full(&runtime).unwrap().with(|ctx| {
        let builtins = Object::new(ctx.clone()).unwrap();
        install(&ctx, &builtins).unwrap();
        let refused = ctx
            .eval::<usize, _>("Buffer.from('a'.repeat(6 << 20)).toString('hex').length")
            .catch(&ctx);
        assert!(refused.is_err());
        let works: String = ctx.eval("Buffer.from('a').toString('hex')").unwrap();
        assert_eq!(works, "61");
    });
}

#[test]
fn nothing_of_the_environment_shows() {
    assert!(std::env::vars().count() > 0);
    run(
        "same(process.env, {}); same(process.version, 'v10.18.1'); same(process.versions, { node: '10.18.1' });
const os = require('os');
same([os.platform(), os.hostname(), os.EOL, os.cpus(), os.networkInterfaces()], ['linux', 'localhost', '\\n', [], {}]);",
    );
}
