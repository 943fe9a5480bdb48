//! What a change is, and how far a flow has got.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a change does to its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// A document that was not there.
    Insert,
    /// Some fields of a document.
    Update,
    /// A document in place of another with the same key.
    Replace,
    /// A document is gone.
    Delete,
}

impl Operation {
    /// The name that change streams give it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
        }
    }
}

/// A moment of a deployment's history: seconds since 1970 in the upper 32 bits, and an ordinal
/// within the second in the lower, as BSON timestamps have them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// The `ordinal`th operation of a second.
    #[must_use]
    pub fn new(seconds: u32, ordinal: u32) -> Self {
        Self(u64::from(seconds) << 32 | u64::from(ordinal))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Which operation of its second it is, from 1.
    #[must_use]
    pub fn ordinal(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seconds(), self.ordinal())
    }
}

/// How far a flow has got in a change stream: behind the event, or the stretch without events, that
/// the token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// When that was.
    pub cluster_time: ClusterTime,
    /// The `_data` of the resume token. Where it is not known any more, a flow goes on with all
    /// events of `cluster_time` and later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_token: Option<String>,
    /// What the stream selected that the token is of: another selection may not know the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Which deployment's history this is a place in, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

impl Position {
    /// Before all events of a moment.
    #[must_use]
    pub fn at(cluster_time: ClusterTime) -> Self {
        Self {
            cluster_time,
            resume_token: None,
            stream: None,
            deployment: None,
        }
    }

    /// The same place by its time alone.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self {
            resume_token: None,
            stream: None,
            ..self.clone()
        }
    }

    /// Whether an event has been passed. Tokens of one deployment sort as their events do.
    #[must_use]
    pub fn has_passed(&self, token: &str, cluster_time: ClusterTime) -> bool {
        match &self.resume_token {
            Some(passed) => token <= passed.as_str(),
            None => cluster_time < self.cluster_time,
        }
    }

    /// Whether this is at least as far as `other`.
    #[must_use]
    pub fn reaches(&self, other: &Self) -> bool {
        match (&self.resume_token, &other.resume_token) {
            (Some(own), Some(other)) => own >= other,
            _ => self.cluster_time >= other.cluster_time,
        }
    }
}

/// What was done where the source had forgotten changes that a table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GapRemedy {
    /// The collection was loaded anew: its table lacks no document, but no version of them tells
    /// what happened in between.
    Reloaded,
    /// The table went on without them: documents that changed in between are as they were before
    /// until they change again.
    Accepted,
}

/// A stretch of history that a table has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The moment up to which changes had been applied.
    pub from: ClusterTime,
    /// The moment from which on they are again.
    pub to: ClusterTime,
    /// What was done about it.
    pub remedy: GapRemedy,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(seconds: u32, token: Option<&str>) -> Position {
        Position {
            resume_token: token.map(str::to_owned),
            ..Position::at(ClusterTime::new(seconds, 1))
        }
    }

    #[test]
    fn an_event_is_passed_by_its_own_token_and_by_later_ones() {
        let at = position(5, Some("8205"));
        assert!(at.has_passed("8204", ClusterTime::new(5, 1)));
        assert!(at.has_passed("8205", ClusterTime::new(5, 1)));
        assert!(!at.has_passed("820501", ClusterTime::new(5, 1)));
    }

    #[test]
    fn without_a_token_events_of_the_same_moment_come_again() {
        let at = position(5, None);
        assert!(at.has_passed("82", ClusterTime::new(4, 9)));
        assert!(!at.has_passed("82", ClusterTime::new(5, 1)));
    }

    #[test]
    fn positions_are_ordered_by_token_and_else_by_time() {
        assert!(position(5, Some("8205")).reaches(&position(5, Some("8204"))));
        assert!(!position(5, Some("8204")).reaches(&position(5, Some("8205"))));
        assert!(position(5, None).reaches(&position(5, Some("8205"))));
        assert!(!position(4, None).reaches(&position(5, None)));
    }
}
