//! What is said of a run that failed.

use super::{Failure, FailureKind};

/// What the names of the prelude's files begin with. Functions' own files are below their application's directory.
pub(super) const INTERNAL: &str = "internal:";

impl Failure {
    pub(super) fn of(kind: FailureKind, name: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            message: message.into(),
            place: None,
            stack: None,
        }
    }

    /// With the trace of calls that the engine gave, of which the first place is where it was thrown.
    pub(super) fn with_stack(mut self, stack: &str) -> Self {
        let stack = user_stack(stack);
        self.place = stack.lines().find_map(place);
        self.stack = (!stack.is_empty()).then_some(stack);
        self
    }
}

/// A trace of calls without those of the prelude and the engine, and without what is said in front of the first.
pub(super) fn user_stack(stack: &str) -> String {
    let mut out = String::with_capacity(stack.len());
    let is_call = |line: &str| line.trim_start().starts_with("at ");
    let said = stack.lines().take_while(|line| !is_call(line)).count();
    let lines = stack.lines().map(str::trim_end);
    for line in lines.skip(if stack.lines().any(is_call) { said } else { 0 }) {
        let is_ours = line.contains(INTERNAL) || line.ends_with("(native)") || line.is_empty();
        if is_ours {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(line);
    }
    out
}

/// The file and line that a line of a trace names, as `at name (file:line:column)` or `at file:line:column`.
fn place(line: &str) -> Option<(String, u32)> {
    let call = line.trim().strip_prefix("at ")?;
    let inner = match call
        .strip_suffix(')')
        .and_then(|call| call.split_once(" ("))
    {
        Some((_, inner)) => inner,
        None => call,
    };
    let (rest, _column) = inner.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file.to_owned(), line.parse().ok()?))
}

#[cfg(test)]
mod tests;
