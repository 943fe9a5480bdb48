//! What is wrong with an application, and what is ignored of it.

use std::fmt;

use serde::Serialize;

/// Something for which the application cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, relative to the application's directory; empty where it is about the directory itself.
    pub file: String,
    /// The line and column, both from 1 on, where the file is not what its format wants.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if let Some((line, column)) = self.at {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{} ({})", self.what, self.remedy)
    }
}

/// Something that the application asks for and does not get. It runs all the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file or directory, relative to the application's directory.
    pub file: String,
    /// What is not honoured.
    pub what: String,
    /// What can be done about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.file, self.what, self.remedy)
    }
}

/// Says which of the known names may be meant, or which there are.
pub(super) fn meant<'a>(
    found: &str,
    known: impl Iterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    let nearest = known
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .min();
    match nearest {
        // Beyond half of its letters, a name is another one rather than misspelt.
        Some((distance, name)) if distance * 2 <= found.chars().count().max(2) => {
            format!("did you mean `{name}`?")
        }
        _ => otherwise.to_owned(),
    }
}
