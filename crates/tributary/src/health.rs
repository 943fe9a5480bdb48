//! `tributary health`.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};

use crate::DONE;

/// Shorter than what those who run containers usually allow.
const LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn run(url: &str, stop: CancellationToken) -> Result<u8> {
    tokio::select! {
        () = stop.cancelled() => Ok(DONE),
        code = ask(url) => code,
    }
}

async fn ask(url: &str) -> Result<u8> {
    let cannot = |error: reqwest::Error| {
        let kind = match error.is_builder() {
            true => ErrorKind::Usage,
            false => ErrorKind::Unreachable,
        };
        // The address may hold credentials, which the error would repeat.
        Error::new(kind, "cannot ask whether it is well")
            .because(error.without_url())
            .remedy("see whether `tributary run` is up, and what `server` in its file says of the address")
    };
    // What answers is on this machine, or named: never behind a proxy of the environment.
    let client = Client::builder()
        .timeout(LIMIT)
        .no_proxy()
        .build()
        .map_err(cannot)?;
    let status = client.get(url).send().await.map_err(cannot)?.status();
    if status == StatusCode::OK {
        return Ok(DONE);
    }
    Err(Error::new(ErrorKind::Unavailable, "it is not well")
        .because(format!("it answers {status}"))
        .remedy("see its log"))
}
