//! Globals and built-in modules that come from the language's other hosts.

/// Puts the globals into the context, and the modules that functions `require` by name into `builtins`.
///
/// # Errors
/// What the engine says, as where memory is short.
pub(super) fn install(
    _ctx: &rquickjs::Ctx<'_>,
    _builtins: &rquickjs::Object<'_>,
) -> rquickjs::Result<()> {
    Ok(())
}
