//! `tributary.yaml`: read, checked, and turned into a [`Plan`].
//!
//! Nothing is asked of any server here. The file's own types say what may stand where, and are what
//! the JSON Schema for editors is made of; what they cannot say, such as that a name is one of
//! something that is there, is checked afterwards, and all that is wrong is told at once.

#[cfg(test)]
mod examples;
mod file;
mod plan;
mod problem;
mod resolve;
mod size;
#[cfg(test)]
mod tests;
mod values;

use std::path::Path;

use tributary_model::{Error, ErrorKind, Result};

pub use file::{
    BatchEvents, CatchUp, ChangeKind, Condition, Environment, FollowEntry, Format, JsonSpelling,
    OnDrop, OnFailure, OnLostHistory, OnSchemaChange, Overlap, Parallel, Percent, ReadPreference,
    Role,
};
pub use plan::{
    App, Changes, Command, Copy, Email, End, Files, Flow, FunctionOptions, Ingest, Job, Layout,
    MailTls, Occasion, OnObject, Place, PlaceKind, Plan, Query, Reach, Receiver, Retries, Route,
    Rule, Schedule, Script, Server, Source, Step, Stream, Sync, Telemetry, Token, Trigger, Verify,
    Warehouse, Watched, Work,
};
pub use problem::Problem;
pub use size::Size;
pub use values::{Memory, Name, Period, Secret, Text};

use file::File;

/// A larger file is a mistake.
const LARGEST_FILE: u64 = 4 << 20;

impl Plan {
    /// Reads and checks the file at `path`, its variables from the environment.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong: each thing with its line and column.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Usage, "cannot read the configuration")
                .on("file", path.display())
                .because(error)
                .remedy("name another file, or begin with one of the examples")
        };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > LARGEST_FILE {
            return Err(
                Error::new(ErrorKind::Usage, "the configuration is too large")
                    .on("file", path.display())
                    .on("bytes", size)
                    .remedy("it is a text of a few kilobytes"),
            );
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let path = std::path::absolute(path).map_err(failed)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        Self::parse(&text, directory, &|name| std::env::var(name).ok()).map_err(|problems| {
            let count = problems.len();
            let mut lines = Vec::new();
            for problem in &problems {
                lines.push(format!("{}:{problem}", path.display()));
            }
            let what = match count {
                1 => "the configuration is wrong".to_owned(),
                _ => format!("{count} things in the configuration are wrong"),
            };
            Error::new(ErrorKind::Usage, what)
                .because(lines.join("; "))
                .remedy("`tributary check --schema` prints what may stand where")
        })
    }

    /// Checks a text; relative paths in it are relative to `directory`.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the text.
    pub fn parse(
        text: &str,
        directory: &Path,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<Problem>> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            strict_booleans: true,
        };
        // An empty file says nothing, which is not the same as null.
        let read = || serde_saphyr::from_str_with_options::<Option<File>>(text, options);
        let (file, secrets) = values::with_variables(text, variables, read);
        let file = file
            .map_err(|error| vec![Problem::of(&error)])?
            .unwrap_or_default();
        resolve::resolve(file, directory, secrets)
    }
}

/// The JSON Schema of the file, for editors.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(File);
    schema.insert("title".to_owned(), "tributary.yaml".into());
    schema.to_value()
}
