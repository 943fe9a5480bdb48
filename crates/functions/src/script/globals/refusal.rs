//! Why a native function does not do what it was asked: what it throws.

use std::borrow::Cow;

use rquickjs::{Ctx, Error, Exception};

/// What is thrown, apart from the engine so that the code that refuses can be used without one.
///
/// The messages name algorithms, sizes and parameters, never keys or what is signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A `TypeError`: an argument of the wrong kind, or an algorithm that is not known.
    Type(Cow<'static, str>),
    /// A `RangeError`: an argument of the wrong size.
    Range(Cow<'static, str>),
    /// An `Error`: the arguments are well formed, but do not go together.
    Failed(Cow<'static, str>),
}

impl Refusal {
    pub(super) fn throw(self, ctx: &Ctx<'_>) -> Error {
        match self {
            Self::Type(message) => Exception::throw_type(ctx, &message),
            Self::Range(message) => Exception::throw_range(ctx, &message),
            Self::Failed(message) => Exception::throw_message(ctx, &message),
        }
    }

    /// An algorithm that is none of `known`.
    pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> Self {
        Self::Type(
            format!(
                "there is no {what} {name:?}; known are {}",
                known.join(", ")
            )
            .into(),
        )
    }
}
