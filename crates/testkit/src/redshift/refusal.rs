//! What Redshift answers to what it does not take.

/// An error as the wire carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// SQLSTATE.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            detail: None,
        }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// 42601: not a statement.
    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self::new("42601", message)
    }

    /// 42601 near a word, in PostgreSQL's words.
    pub(super) fn near(text: &str) -> Self {
        Self::syntax(format!("syntax error at or near \"{text}\""))
    }

    /// 0A000: Redshift does not have it.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }

    /// 0A000: Redshift has it, and the stand-in does not.
    pub(super) fn beyond(what: &str) -> Self {
        Self::unsupported(format!(
            "{what} is not supported by the stand-in for Redshift"
        ))
    }

    /// XX000, under which Redshift reports what its own parts refuse.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new("XX000", message)
    }
}
