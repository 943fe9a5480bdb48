//! What is asked to be another: the file is read again, and flows are started and stopped by hand.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use tributary_model::{Error, ErrorKind, Result};

use crate::config::Plan;
use crate::engine::{Engine, TriggerHost};
use crate::flows::Flows;
use crate::status::{FlowStatus, Notice, Reloaded};
use crate::store::Store;

/// Does something to its end, also when nobody waits for that any more: what answers a request is dropped
/// where its client goes or its time is over.
///
/// # Errors
/// Those of the work.
pub(crate) async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|panic| {
        Err(Error::new(ErrorKind::Internal, "what was asked for ended early").because(panic))
    })
}

/// The plan that is in use, and which of its flows are stopped.
pub(crate) struct Steering {
    file: PathBuf,
    plan: RwLock<Arc<Plan>>,
    configured_at: Mutex<DateTime<Utc>>,
    store: Store,
    engine: Arc<dyn Engine>,
    triggers: Option<Arc<dyn TriggerHost>>,
    flows: Arc<Flows>,
    notices: broadcast::Sender<Notice>,
    /// One thing is done at a time, so that what is remembered of flows is what they do; and nothing is begun
    /// any more when all has ended.
    is_over: tokio::sync::Mutex<bool>,
}

impl Steering {
    pub(crate) fn new(
        file: PathBuf,
        plan: Plan,
        store: Store,
        engine: Arc<dyn Engine>,
        triggers: Option<Arc<dyn TriggerHost>>,
        flows: Arc<Flows>,
        notices: broadcast::Sender<Notice>,
    ) -> Self {
        Self {
            file,
            plan: RwLock::new(Arc::new(plan)),
            configured_at: Mutex::new(Utc::now()),
            store,
            engine,
            triggers,
            flows,
            notices,
            is_over: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the plan was read that is in use.
    pub(crate) fn configured_at(&self) -> DateTime<Utc> {
        *self
            .configured_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the triggers and flows of the plan.
    ///
    /// # Errors
    /// The state cannot be used, or something in an application is wrong.
    pub(crate) async fn begin(&self) -> Result<()> {
        let _turn = self.is_over.lock().await;
        let plan = self.plan();
        if let Some(host) = &self.triggers {
            host.apply(&plan).await?;
        }
        let stopped = self.store.stopped_flows().await?;
        self.apply_flows(&plan, &stopped).await;
        Ok(())
    }

    async fn apply_flows(&self, plan: &Plan, stopped: &[String]) -> Reloaded {
        let is_stopped = |name: &str| stopped.iter().any(|stopped| stopped == name);
        self.flows.become_these(&plan.flows, is_stopped).await
    }

    /// Ends flows and triggers for good, when they have recorded what they have done.
    pub(crate) async fn end(&self) {
        // At once, also where something else is under way.
        self.flows.tell_to_end();
        self.stop_triggers().await;
        let mut is_over = self.is_over.lock().await;
        *is_over = true;
        tokio::join!(self.flows.stop_all(), self.stop_triggers());
    }

    async fn stop_triggers(&self) {
        if let Some(host) = &self.triggers {
            host.stop().await;
        }
    }

    /// As [`Control::reload`](crate::control::Control::reload).
    pub(crate) async fn reload(&self) -> Result<Reloaded> {
        let is_over = self.is_over.lock().await;
        if *is_over {
            return Err(Error::new(
                ErrorKind::Conflict,
                "no configuration is read while Tributary is ending",
            )
            .on("file", self.file.display())
            .remedy("it is read when Tributary is started the next time"));
        }
        let file = self.file.clone();
        let plan = tokio::task::spawn_blocking(move || Plan::read(&file))
            .await
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "reading the configuration ended early")
                    .because(error)
            })??;
        let before = self.plan();
        if plan.state != before.state {
            return Err(Error::new(
                ErrorKind::Usage,
                "the directory of the state cannot change while it is in use",
            )
            .on("file", self.file.display())
            .remedy("stop Tributary, and start it again"));
        }
        if plan.server != before.server || plan.telemetry != before.telemetry {
            tracing::warn!("`server` and `telemetry` are others from the next start on");
        }
        let stopped = self.store.stopped_flows().await?;
        self.engine.prepare(&plan).await?;
        // What is prepared is in use when this is: it changes nothing where something in an application is wrong.
        if let Some(host) = &self.triggers {
            host.apply(&plan).await?;
        }
        let plan = Arc::new(plan);
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&plan);
        let reloaded = self.apply_flows(&plan, &stopped).await;
        *self
            .configured_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Utc::now();
        let _ = self.notices.send(Notice::Reloaded(reloaded.clone()));
        Ok(reloaded)
    }

    /// As [`Control::start_flow`](crate::control::Control::start_flow).
    pub(crate) async fn start_flow(&self, name: &str) -> Result<FlowStatus> {
        let _turn = self.is_over.lock().await;
        self.flows.status(name)?;
        self.store.set_stopped(name, false).await?;
        self.flows.start(name).await
    }

    /// As [`Control::stop_flow`](crate::control::Control::stop_flow).
    pub(crate) async fn stop_flow(&self, name: &str) -> Result<FlowStatus> {
        let _turn = self.is_over.lock().await;
        self.flows.status(name)?;
        self.store.set_stopped(name, true).await?;
        self.flows.stop(name).await
    }
}
