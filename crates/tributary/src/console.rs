//! What people and programs see: logs, errors, progress and the summary.

mod events;
mod json;
mod tables;
mod text;

use std::io::Write;
use std::sync::Arc;

use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use tributary_model::Error;

use crate::cli::{Logs, Output};
use crate::{SharedObserver, telemetry};

pub(crate) use events::{finished_event, metrics_event, synced_event};
pub(crate) use json::JsonProgress;
pub(crate) use tables::{aligned, group, summary_table, sync_table};
pub(crate) use text::TextProgress;

/// Sends log messages to standard error, and to a collector once there is one.
pub(crate) fn set_up_logs(logs: &Logs) {
    let filter = EnvFilter::try_new(&logs.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if logs.log_json {
        lines.json().boxed()
    } else {
        lines.boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(telemetry::layer())
        .init();
}

/// Tells an error on standard error.
pub(crate) fn report(error: &Error) {
    note(&format!("error: {error}"));
}

/// Puts a line on standard error. There is nowhere to tell that it cannot be written.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Puts a line on standard output; its reader may have gone.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Puts one event on standard output.
pub(crate) fn emit(event: &Value) {
    say(&event.to_string());
}

/// Who tells of progress on standard output.
pub(crate) fn progress(output: Output) -> SharedObserver {
    match output {
        Output::Text => Arc::new(TextProgress::new()),
        Output::Json => Arc::new(JsonProgress::default()),
    }
}
