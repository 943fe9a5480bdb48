//! The code of a run: calling its function, and what it returned or threw.

use bytes::Bytes;
use rquickjs::{Error, Function, Object, Value};

use super::{Ending, Returned, Run, Turns, lost};
use crate::script::bson::{self as values, Reading, Types, Unwritable, raw};
use crate::script::{Call, Failure, FailureKind};
use crate::services::ServiceError;

impl<'js> Turns<'_, 'js> {
    /// Calls the function; says how it ended where it did at once, by throwing.
    pub(super) fn call(&mut self, run: &mut Run<'js>, call: &Call) -> Option<Ending> {
        let called = self.function(&call.function).and_then(|function| {
            let thrown = |_: Error| self.thrown(FailureKind::Thrown);
            let arguments = self
                .with_types(|types| values::read_arguments(&self.ctx, types, &call.arguments))
                .map_err(thrown)?;
            let value: Value<'js> = function.call_arg(arguments).map_err(thrown)?;
            let value = if value.is_promise() || !value.is_object() {
                value
            } else {
                self.prelude.settle.call((value,)).map_err(thrown)?
            };
            Ok(value)
        });
        match called {
            Ok(value) => {
                run.returned = match value.as_promise() {
                    Some(promise) => Returned::Promise(promise.clone()),
                    None => Returned::Value(value),
                };
                None
            }
            Err(failure) => Some(Err(failure)),
        }
    }

    fn function(&mut self, name: &str) -> Result<Function<'js>, Failure> {
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

    fn with_types<R>(
        &self,
        act: impl FnOnce(&Types<'js>) -> rquickjs::Result<R>,
    ) -> rquickjs::Result<R> {
        let types = self.ctx.userdata::<Types<'js>>().ok_or(Error::Unknown)?;
        act(&types)
    }

    /// What has come of a run, where its function has returned and its promise is settled.
    pub(super) fn settled(&self, run: &Run<'js>) -> Option<Ending> {
        match &run.returned {
            Returned::Nothing => None,
            Returned::Value(value) => Some(self.result(value)),
            Returned::Promise(promise) => match promise.result::<Value<'js>>()? {
                Ok(value) => Some(self.result(&value)),
                Err(_) => Some(Err(self.thrown(FailureKind::Thrown))),
            },
        }
    }

    fn result(&self, value: &Value<'js>) -> Ending {
        let Some(types) = self.ctx.userdata::<Types<'js>>() else {
            return Err(lost());
        };
        match values::write_field(&types, value) {
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
            .and_then(|parts| parts.iter().map(raw::text).collect::<Result<Vec<_>, _>>());
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

    /// The failure of a run that is not done in time.
    pub(super) fn timed_out(&self) -> Failure {
        let limit = self.work.limits.timeout;
        Failure::of(
            FailureKind::TimedOut,
            "TimeoutError",
            format!("the function was not done within {limit:?}"),
        )
    }

    /// The failure of a run that used up the memory.
    pub(super) fn out_of_memory(&self) -> Failure {
        let limit = self.work.limits.memory;
        Failure::of(
            FailureKind::OutOfMemory,
            "InternalError",
            format!("the functions of the thread took more than {limit} bytes of memory"),
        )
    }

    /// Settles the promise of a call of a service.
    pub(super) fn deliver(
        &self,
        call: u64,
        result: Result<Bytes, ServiceError>,
    ) -> rquickjs::Result<()> {
        let failure = match result {
            Ok(document) => {
                let value = self.with_types(|types| {
                    values::read_field(&self.ctx, types, &document, Reading::Exact)
                });
                match value {
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
}
