//! What is read from disk: applications, and functions of triggers that have none.

use std::collections::BTreeMap;
use std::path::Path;

use tributary_functions::app::{self, App, AppSettings};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config;

/// A larger function of a trigger without an application is a mistake.
const LARGEST_FUNCTION: u64 = 8 << 20;

/// Reads an application.
pub(super) fn read(app: &config::App) -> Result<App> {
    let secret = |name: &str| match app.reach.secrets.get(name) {
        Some(secret) => Some(secret.as_str().to_owned()),
        None => std::env::var(name)
            .or_else(|_| std::env::var(app::secret_variable(name)))
            .ok(),
    };
    App::read(
        &app.path,
        &AppSettings {
            environment: app
                .environment
                .map(|environment| environment.name().to_owned())
                .unwrap_or_default(),
            secret: &secret,
        },
    )
}

pub(super) fn function_name(file: &Path) -> String {
    file.file_stem().map_or_else(
        || "function".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

pub(super) fn read_function(file: &Path) -> Result<String> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Usage, "cannot read the function of a trigger")
            .on("file", file.display())
            .because(error)
            .remedy("name the JavaScript file with `function`")
    };
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > LARGEST_FUNCTION {
        return Err(
            Error::new(ErrorKind::Usage, "the function of a trigger is too large")
                .on("file", file.display())
                .on("bytes", size),
        );
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// What functions of triggers without an application find in `context.values`: the secrets that they are given.
pub(super) fn secrets_as_values(reach: &config::Reach) -> Result<BTreeMap<String, bytes::Bytes>> {
    let mut values = BTreeMap::new();
    for (name, secret) in &reach.secrets {
        let document = super::value_document(secret.as_str())?;
        values.insert(name.clone(), document);
    }
    Ok(values)
}
