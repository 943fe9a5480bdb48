//! Triggers, functions and endpoints of `tributary.yaml`: wired to what runs them.

mod answers;
mod build;
pub(crate) mod command;
mod fingerprint;
mod known;
mod reach;
mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use tributary_convert::extjson;
use tributary_flow::TriggerLedger;
use tributary_functions::endpoint::Endpoints;
use tributary_functions::trigger::{self, Host, LiveState};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::Plan;
use tributary_orchestrator::engine::{Activity, Durations, LiveTrigger, TriggerHost};

use crate::ingest::Logs;
use known::Known;
pub(crate) use known::{AppReport, known, look};

/// Runs the triggers of a plan, and answers its endpoints.
pub(crate) struct FunctionHost {
    host: Arc<Host>,
    ledger: Arc<dyn TriggerLedger>,
    /// Where events are that are pushed.
    logs: Arc<Logs>,
    known: RwLock<Vec<Known>>,
    endpoints: RwLock<BTreeMap<String, Arc<Endpoints>>>,
}

impl FunctionHost {
    /// One that remembers in this ledger, and reads pushed events in these logs.
    pub(crate) fn new(ledger: Arc<dyn TriggerLedger>, logs: Arc<Logs>) -> Self {
        Self {
            logs,
            host: Host::new(Arc::clone(&ledger)),
            ledger,
            known: RwLock::default(),
            endpoints: RwLock::default(),
        }
    }

    fn endpoints_of(&self, app: &str) -> Option<Arc<Endpoints>> {
        let endpoints = self
            .endpoints
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        endpoints.get(app).cloned()
    }

    /// Returns when all runs of endpoints that have ended are recorded.
    pub(crate) async fn recorded(&self) {
        let endpoints: Vec<_> = {
            let endpoints = self
                .endpoints
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            endpoints.values().cloned().collect()
        };
        for endpoints in endpoints {
            endpoints.recorded().await;
        }
    }
}

#[async_trait]
impl TriggerHost for FunctionHost {
    fn live(&self) -> Vec<LiveTrigger> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut live: BTreeMap<String, _> = self
            .host
            .live()
            .into_iter()
            .map(|live| (live.name.clone(), live))
            .collect();
        let known = known.iter().map(Known::now);
        let all = known.map(|trigger| LiveTrigger {
            activity: live
                .remove(&trigger.name)
                .map_or_else(Activity::default, |live| Activity {
                    failure: match live.state {
                        LiveState::Retrying(error) => Some(error),
                        _ => None,
                    },
                    queued: live.queued as u64,
                    in_flight: live.in_flight as u64,
                    lag: live.lag,
                    durations: durations(&live.durations),
                }),
            trigger,
        });
        all.collect()
    }

    async fn apply(&self, plan: &Plan) -> Result<()> {
        let built = build::build(plan, &self.ledger, &self.logs)
            .await
            .inspect_err(|_| self.logs.leave())?;
        self.logs.take_into_use();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = built.known;
        *self
            .endpoints
            .write()
            .unwrap_or_else(PoisonError::into_inner) = built.endpoints;
        self.host.apply(built.triggers).await;
        Ok(())
    }

    async fn stop(&self) {
        self.host.stop().await;
    }
}

/// A text as functions are given it: a document of raw BSON with it as the field `v`.
fn value_document(text: &str) -> Result<Bytes> {
    let quoted = serde_json::json!({ "v": text }).to_string();
    document(&quoted)
}

/// A document of raw BSON, from Extended JSON.
fn document(text: &str) -> Result<Bytes> {
    extjson::parse_document(text)
        .map(Bytes::from)
        .map_err(|error| Error::new(ErrorKind::Usage, "not Extended JSON").because(error))
}

/// What the runtime's numbers are to the orchestrator.
fn durations(of: &trigger::Durations) -> Durations {
    Durations {
        bounds: trigger::DURATION_BOUNDS.to_vec(),
        counts: of.counts.to_vec(),
        sum: of.sum,
    }
}
