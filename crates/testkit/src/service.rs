//! A server that speaks HTTP, started for one test or shared by all of a run.

use std::{env, path::Path, process::Command, time::Duration};

use rustix::process::Signal;

use crate::{
    error::Result,
    http,
    process::{Process, Scratch, loopback, with_free_port},
};

/// Where the server is, and its process unless `testkit run` has started it.
#[derive(Debug)]
pub(crate) struct Service {
    endpoint: String,
    process: Option<(Process, Scratch)>,
}

impl Service {
    /// Starts what `command` gives for a port and a scratch directory, and waits until `GET ready` is answered.
    pub(crate) async fn start(
        name: &'static str,
        ready: &str,
        command: impl Fn(u16, &Path) -> Command,
    ) -> Result<Self> {
        with_free_port(|port| {
            let (scratch, command) = (Scratch::new(), &command);
            async move {
                let scratch = scratch?;
                let mut process = Process::start(
                    name,
                    command(port, scratch.path()),
                    &scratch.path().join("server.log"),
                    Signal::KILL,
                )?;
                process
                    .wait_until("answering", Duration::from_secs(60), || async {
                        let answer = http::request(loopback(port), "GET", ready, &[]).await;
                        // Any answer of its own will do: one server wants credentials even for its root.
                        answer.ok().filter(|(status, _)| *status < 500)
                    })
                    .await?;
                Ok(Self {
                    endpoint: format!("http://127.0.0.1:{port}"),
                    process: Some((process, scratch)),
                })
            }
        })
        .await
    }

    /// The server whose endpoint `testkit run` has put into `variable`, if it has.
    pub(crate) fn shared(variable: &str) -> Option<Self> {
        env::var(variable).ok().map(|endpoint| Self {
            endpoint,
            process: None,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Process id, unless the server is shared.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|(process, _)| process.pid())
    }
}
