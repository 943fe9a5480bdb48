//! Logs and metrics, sent to an OTLP collector by HTTP.
//!
//! Telemetry never holds up the work: logs wait in a queue of a fixed length and are dropped when it is full, metrics
//! are read anew each time and not kept, and a collector that is away is told of once.

mod collector;
mod exposition;
mod logs;
mod otlp;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use prost::Message;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_model::Result;
use tributary_orchestrator::config::Telemetry;
use tributary_orchestrator::control::Control;

use collector::{Collector, Signal};
pub(crate) use logs::layer;

/// What is left is sent within this time when the work has ended.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Telemetry that is sent for as long as this is kept.
pub(crate) struct Telemetered {
    collector: Arc<Collector>,
    resource: Resource,
    interval: Duration,
    logs: SdkLoggerProvider,
    stop: CancellationToken,
    metrics: Option<AbortOnDropHandle<()>>,
}

/// Begins to send logs. It is called within the runtime.
///
/// # Errors
/// The address or a header cannot be used in a request.
pub(crate) fn begin(telemetry: &Telemetry) -> Result<Telemetered> {
    let collector = Arc::new(Collector::new(telemetry)?);
    let resource = resource();
    Ok(Telemetered {
        logs: logs::begin(Arc::clone(&collector), resource.clone())?,
        collector,
        resource,
        interval: telemetry.interval,
        stop: CancellationToken::new(),
        metrics: None,
    })
}

impl Telemetered {
    /// Begins to send the numbers of `control`, at every interval and at the end.
    pub(crate) fn measure(&mut self, control: Arc<dyn Control>) {
        let numbers = Numbers {
            collector: Arc::clone(&self.collector),
            resource: otlp::resource(&self.resource),
            since: otlp::now(),
            control,
        };
        let task = numbers.send_each(self.interval, self.stop.clone());
        self.metrics = Some(AbortOnDropHandle::new(tokio::spawn(task)));
    }

    /// Sends what is left, and ends within five seconds.
    pub(crate) async fn end(mut self) {
        let deadline = Instant::now() + END_WITHIN;
        logs::detach();
        self.stop.cancel();
        let logs = self.logs.clone();
        let flushed = tokio::task::spawn_blocking(move || logs.shutdown_with_timeout(END_WITHIN));
        let late = "it does not answer in time";
        if let Some(metrics) = self.metrics.take()
            && tokio::time::timeout_at(deadline, metrics).await.is_err()
        {
            self.collector.failed(Signal::Metrics, late);
        }
        if !matches!(
            tokio::time::timeout_at(deadline, flushed).await,
            Ok(Ok(Ok(())))
        ) {
            self.collector.failed(Signal::Logs, late);
        }
    }
}

impl Drop for Telemetered {
    /// Nothing more is sent; the provider waits for what it has when the last of it goes.
    fn drop(&mut self) {
        logs::detach();
        self.stop.cancel();
    }
}

/// Who sends.
fn resource() -> Resource {
    let mut attributes = vec![opentelemetry::KeyValue::new(
        "service.version",
        env!("CARGO_PKG_VERSION"),
    )];
    if let Some(name) = host_name() {
        attributes.push(opentelemetry::KeyValue::new("host.name", name));
    }
    Resource::builder()
        .with_service_name("tributary")
        .with_attributes(attributes)
        .build()
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The numbers of all that runs, on their way to the collector.
struct Numbers {
    collector: Arc<Collector>,
    resource: opentelemetry_proto::tonic::resource::v1::Resource,
    /// Since when the counters count, in nanoseconds.
    since: u64,
    control: Arc<dyn Control>,
}

impl Numbers {
    async fn send_each(self, interval: Duration, stop: CancellationToken) {
        // An interval of nothing is none.
        let mut times = tokio::time::interval(interval.max(Duration::from_millis(100)));
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                () = stop.cancelled() => true,
                _ = times.tick() => false,
            };
            self.send().await;
            if last {
                return;
            }
        }
    }

    async fn send(&self) {
        let text = match self.control.metrics().await {
            Ok(text) => text,
            Err(error) => {
                tracing::debug!(%error, "the numbers cannot be read");
                return;
            }
        };
        let families = exposition::parse(&text);
        if families.is_empty() {
            return;
        }
        let request = otlp::request(&families, self.resource.clone(), self.since, otlp::now());
        self.collector
            .post(Signal::Metrics, request.encode_to_vec())
            .await;
    }
}
