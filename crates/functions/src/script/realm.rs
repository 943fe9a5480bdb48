//! The context that a run has for itself while it is in flight: its globals, its modules, and what is called in it.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rquickjs::{Ctx, Error, Function, Object, Promise, Result, Value, qjs};

use super::bson::{self as values, Reading, Types, Unwritable, raw};
use super::host::Host;
use super::modules::Files;
use super::prelude::Prelude;
use super::{Call, Failure, FailureKind, Program};
use crate::services::ServiceError;

/// What a function returned.
pub(super) enum Returned<'js> {
    /// It did not return yet.
    Nothing,
    /// A value.
    Value(Value<'js>),
    /// A promise of the value.
    Promise(Promise<'js>),
}

/// A context with its globals and modules.
pub(super) struct Realm<'js> {
    ctx: Ctx<'js>,
    prelude: Prelude<'js>,
    types: Rc<Types<'js>>,
    functions: HashMap<String, Function<'js>>,
}

impl<'js> Realm<'js> {
    /// Makes a context in the engine of `engine`, another one.
    ///
    /// # Errors
    /// What the engine says, as where memory is short.
    pub(super) fn new(
        engine: &Ctx<'js>,
        host: &Rc<Host>,
        program: &Arc<Program>,
        files: &Rc<Files>,
    ) -> Result<Self> {
        let ctx = context(engine).ok_or(Error::Allocation)?;
        let prelude = Prelude::install(&ctx, host, program, files)?;
        let types = Types::of(&ctx)?;
        Ok(Self {
            ctx,
            prelude,
            types,
            functions: HashMap::new(),
        })
    }

    /// Calls the function of a call.
    pub(super) fn call(&mut self, call: &Call) -> std::result::Result<Returned<'js>, Failure> {
        let function = self.function(&call.function)?;
        let thrown = |_: Error| self.thrown(FailureKind::Thrown);
        let arguments =
            values::read_arguments(&self.ctx, &self.types, &call.arguments).map_err(thrown)?;
        let value: Value<'js> = function.call_arg(arguments).map_err(thrown)?;
        let value = if value.is_promise() || !value.is_object() {
            value
        } else {
            self.prelude.settle.call((value,)).map_err(thrown)?
        };
        Ok(match value.as_promise() {
            Some(promise) => Returned::Promise(promise.clone()),
            None => Returned::Value(value),
        })
    }

    fn function(&mut self, name: &str) -> std::result::Result<Function<'js>, Failure> {
        if let Some(function) = self.functions.get(name) {
            return Ok(function.clone());
        }
        match self.prelude.find.call::<_, Function<'js>>((name,)) {
            Ok(function) => {
                self.functions.insert(name.to_owned(), function.clone());
                Ok(function)
            }
            Err(_) => {
                let thrown = self.ctx.catch();
                let is_unparsed = self.prelude.is_unparsed.call((thrown.clone(),));
                let kind = match is_unparsed {
                    Ok(true) => FailureKind::NotLoaded,
                    _ => FailureKind::Thrown,
                };
                Err(self.failure(kind, thrown))
            }
        }
    }

    /// What has come of a call, where its function has returned and its promise is settled.
    pub(super) fn settled(
        &self,
        returned: &Returned<'js>,
    ) -> Option<std::result::Result<Bytes, Failure>> {
        match returned {
            Returned::Nothing => None,
            Returned::Value(value) => Some(self.result(value)),
            Returned::Promise(promise) => match promise.result::<Value<'js>>()? {
                Ok(value) => Some(self.result(&value)),
                Err(_) => Some(Err(self.thrown(FailureKind::Thrown))),
            },
        }
    }

    fn result(&self, value: &Value<'js>) -> std::result::Result<Bytes, Failure> {
        match values::write_field(&self.types, value) {
            Ok(document) => Ok(document.into()),
            Err(Unwritable::Raised) => Err(self.thrown(FailureKind::BadResult)),
            Err(unfit @ Unwritable::Unfit { .. }) => Err(Failure::of(
                FailureKind::BadResult,
                "TypeError",
                format!("the function returned what cannot be BSON: {unfit}"),
            )),
        }
    }

    /// The failure that the pending exception is.
    pub(super) fn thrown(&self, kind: FailureKind) -> Failure {
        self.failure(kind, self.ctx.catch())
    }

    fn failure(&self, kind: FailureKind, thrown: Value<'js>) -> Failure {
        let said = self
            .prelude
            .thrown
            .call::<_, Vec<Value<'js>>>((thrown,))
            .and_then(|parts| parts.iter().map(raw::text).collect::<Result<Vec<_>>>());
        match said.as_deref() {
            Ok([name, message, stack]) => {
                Failure::of(kind, name, message.as_str()).with_stack(stack)
            }
            _ => {
                self.ctx.catch();
                Failure::of(kind, "Error", "what was thrown cannot be shown")
            }
        }
    }

    /// Fires a timer.
    pub(super) fn fire(&self, timer: u64) -> Result<()> {
        self.prelude.fire.call((timer as f64,))
    }

    /// Settles the promise of a call of a service.
    pub(super) fn deliver(
        &self,
        call: u64,
        result: std::result::Result<Bytes, ServiceError>,
    ) -> Result<()> {
        let failure = match result {
            Ok(document) => {
                match values::read_field(&self.ctx, &self.types, &document, Reading::Exact) {
                    Ok(value) => {
                        let none = Value::new_undefined(self.ctx.clone());
                        return self.prelude.answer.call((call as f64, none, value));
                    }
                    Err(_) => {
                        let failure = self.thrown(FailureKind::Thrown);
                        ServiceError {
                            name: failure.name,
                            message: failure.message,
                            code: None,
                            labels: Vec::new(),
                            is_transient: false,
                        }
                    }
                }
            }
            Err(failure) => failure,
        };
        let said = Object::new(self.ctx.clone())?;
        said.set("name", failure.name)?;
        said.set("message", failure.message)?;
        said.set("labels", failure.labels)?;
        if let Some(code) = failure.code {
            said.set("code", code)?;
        }
        self.prelude.answer.call((call as f64, said))
    }

    /// Forgets the run that had it: its timers, and the promises of its calls.
    ///
    /// # Errors
    /// What the engine says; the context is then not to be used again.
    pub(super) fn forget(&self) -> Result<()> {
        self.prelude.forget.call(())
    }
}

impl Drop for Realm<'_> {
    fn drop(&mut self) {
        Types::forget(&self.ctx);
    }
}

/// Makes a context beside that of `engine`.
fn context<'js>(engine: &Ctx<'js>) -> Option<Ctx<'js>> {
    // SAFETY: the context of `engine` is entered, so its runtime is locked for as long as its values live, and values of
    // the new context are of the same runtime. The new context has one reference, which `Ctx` adds its own to.
    unsafe {
        let runtime = qjs::JS_GetRuntime(engine.as_raw().as_ptr());
        let made = NonNull::new(qjs::JS_NewContext(runtime))?;
        let ctx = Ctx::from_raw(made);
        qjs::JS_FreeContext(made.as_ptr());
        // The engine gives it to the first context of a runtime alone.
        (qjs::JS_AddIntrinsicDOMException(made.as_ptr()) == 0).then_some(ctx)
    }
}
