//! The JavaScript that is in a context before any function: classes, console, modules, services.

use std::rc::Rc;
use std::sync::Arc;

use rquickjs::context::EvalOptions;
use rquickjs::{Ctx, Function, Object, Result, Value};

use super::bson::Types;
use super::failure::INTERNAL;
use super::host::Host;
use super::modules::Files;
use super::{Program, globals, natives};

/// The functions of the prelude that the thread calls.
pub(super) struct Prelude<'js> {
    /// Finds a function by its name.
    pub(super) find: Function<'js>,
    /// Whether what was thrown says that a function could not be loaded.
    pub(super) is_unparsed: Function<'js>,
    /// Turns what a function returned into a promise of the engine's where it has a `then`.
    pub(super) settle: Function<'js>,
    /// The name, message and stack of what was thrown.
    pub(super) thrown: Function<'js>,
    /// Fires a timer.
    pub(super) fire: Function<'js>,
    /// Settles the promise of a call of a service.
    pub(super) answer: Function<'js>,
    /// Forgets the run that had the context: its timers, and the promises of its calls.
    pub(super) forget: Function<'js>,
}

/// The file that one part of the prelude is, as traces of calls name it.
fn part<'js>(ctx: &Ctx<'js>, name: &str, text: &str) -> Result<Function<'js>> {
    let mut options = EvalOptions::default();
    options.filename = Some(format!("{INTERNAL}{name}"));
    ctx.eval_with_options(text, options)
}

impl<'js> Prelude<'js> {
    /// Prepares a context.
    ///
    /// # Errors
    /// What the engine says, as where memory is short.
    pub(super) fn install(
        ctx: &Ctx<'js>,
        host: &Rc<Host>,
        program: &Arc<Program>,
        files: &Rc<Files>,
    ) -> Result<Self> {
        let object = Object::new(ctx.clone())?;
        natives::install(ctx, &object, host, program, files)?;
        let inspect: Object<'js> =
            part(ctx, "inspect.js", include_str!("js/inspect.js"))?.call((object.clone(),))?;
        object.set("inspect", inspect.get::<_, Value<'js>>("inspect")?)?;
        let made: Object<'js> =
            part(ctx, "bson.js", include_str!("js/bson.js"))?.call((object.clone(),))?;
        Types::new(ctx, &made)?.keep(ctx)?;
        let console: Object<'js> = part(ctx, "console.js", include_str!("js/console.js"))?
            .call((object.clone(), inspect.clone()))?;

        let builtins = Object::new(ctx.clone())?;
        let util = Object::new(ctx.clone())?;
        for name in ["inspect", "format"] {
            util.set(name, inspect.get::<_, Value<'js>>(name)?)?;
        }
        builtins.set("util", util)?;
        builtins.set("bson", made.get::<_, Value<'js>>("BSON")?)?;
        globals::install(ctx, &builtins)?;

        let modules: Object<'js> = part(ctx, "modules.js", include_str!("js/modules.js"))?
            .call((object.clone(), builtins))?;
        let mongodb: Function<'js> =
            part(ctx, "mongodb.js", include_str!("js/mongodb.js"))?.call(())?;
        let context: Object<'js> = part(ctx, "context.js", include_str!("js/context.js"))?
            .call((object, modules.clone(), mongodb, console.clone()))?;
        Ok(Self {
            find: modules.get("find")?,
            is_unparsed: modules.get("isUnparsed")?,
            settle: modules.get("settle")?,
            thrown: inspect.get("thrown")?,
            fire: console.get("fire")?,
            answer: context.get("settle")?,
            forget: context.get("forget")?,
        })
    }
}
