//! `tributary alert test`.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::Plan;

use crate::cli::{AlertCommand, Output};
use crate::console::{self, say};
use crate::{DONE, FAILED};

pub(crate) async fn run(command: AlertCommand, stop: CancellationToken) -> Result<u8> {
    let AlertCommand::Test { arguments } = command;
    let plan = Plan::read(&arguments.config)?;
    if plan.receivers.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "there is nobody to tell")
            .on("file", arguments.config.display())
            .remedy("name receivers under `alerts: notify:`"));
    }
    let told = tokio::select! {
        () = stop.cancelled() => return Ok(DONE),
        told = tributary_orchestrator::test_alerts(&plan) => told?,
    };
    match arguments.output {
        Output::Json => console::emit(&json!({ "event": "tested", "receivers": told })),
        Output::Text => {
            for told in &told {
                match &told.error {
                    None => say(&format!("{}: told", told.receiver)),
                    Some(error) => say(&format!("{}: NOT told: {error}", told.receiver)),
                }
            }
        }
    }
    let failed = told.iter().any(|told| told.error.is_some());
    Ok(if failed { FAILED } else { DONE })
}
