//! Log messages on their way to the collector.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder, BatchLogProcessor, LogBatch, SdkLogger, SdkLoggerProvider,
};
use tokio::runtime::Handle;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tributary_model::{Error, ErrorKind, Result};

use super::collector::{ANSWER_WITHIN, Collector, Signal};

/// Messages wait for no longer than this.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// So many wait; further ones are dropped.
const QUEUE: usize = 4096;

type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;

/// Where messages go, once there is a collector. The subscriber is one of the whole process, and so is this.
static BRIDGE: RwLock<Option<Arc<Bridge>>> = RwLock::new(None);

/// What passes messages on to the collector, as long as there is one.
///
/// A layer that is put into a reloadable place later has no identity to filter by; this one has its filter from the
/// beginning.
struct Outlet;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Outlet {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // The lock is not held over what may log itself.
        let bridge = BRIDGE
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(bridge) = bridge {
            Layer::<S>::on_event(&*bridge, event, context);
        }
    }
}

/// The layer of messages to the collector.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Outlet.with_filter(filter())
}

/// What is sent: more of Tributary than of others, and nothing of what sends, which would go round for ever.
fn filter() -> Targets {
    let senders = [
        "h2",
        "hyper",
        "hyper_util",
        "opentelemetry",
        "reqwest",
        "rustls",
    ];
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("tributary", LevelFilter::INFO)
        .with_targets(senders.map(|target| (target, LevelFilter::OFF)))
}

/// Begins to send messages.
pub(super) fn begin(collector: Arc<Collector>, resource: Resource) -> Result<SdkLoggerProvider> {
    let exporter = LogExporter::builder()
        .with_http()
        .with_http_client(collector.client())
        .with_endpoint(collector.address(Signal::Logs))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(ANSWER_WITHIN)
        .build()
        .map_err(|_| {
            Error::new(ErrorKind::Usage, "logs cannot be sent to the collector")
                .remedy("write its address as http://host:4318")
        })?;
    let exporter = Exporter {
        exporter,
        collector,
        runtime: Handle::current(),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_scheduled_delay(SEND_EVERY)
        .build();
    let processor = BatchLogProcessor::builder(exporter)
        .with_batch_config(batches)
        .build();
    let provider = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(processor)
        .build();
    let bridge = Arc::new(Bridge::new(&provider));
    *BRIDGE.write().unwrap_or_else(PoisonError::into_inner) = Some(bridge);
    Ok(provider)
}

/// No more messages go to the collector.
pub(super) fn detach() {
    *BRIDGE.write().unwrap_or_else(PoisonError::into_inner) = None;
}

/// An exporter that tells whether the collector answers.
struct Exporter {
    exporter: LogExporter,
    collector: Arc<Collector>,
    runtime: Handle,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers are in the other fields.
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl opentelemetry_sdk::logs::LogExporter for Exporter {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        // The processor has a thread of its own, and the client needs the runtime for its sockets and timers.
        let mut sent = pin!(self.exporter.export(batch));
        let result = poll_fn(|context| {
            let _within = self.runtime.enter();
            sent.as_mut().poll(context)
        })
        .await;
        match &result {
            Ok(()) => self.collector.arrived(Signal::Logs),
            Err(error) => self.collector.failed(Signal::Logs, &error.to_string()),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn info_of_tributary_and_warnings_of_others_are_sent_and_nothing_of_the_client() {
        let filter = filter();
        for (target, level, sent) in [
            ("tributary::run", Level::INFO, true),
            ("tributary_orchestrator::runs", Level::INFO, true),
            ("tributary_orchestrator::runs", Level::DEBUG, false),
            ("delta_kernel", Level::WARN, true),
            ("delta_kernel", Level::INFO, false),
            ("hyper::proto", Level::ERROR, false),
            ("hyper_util::client", Level::ERROR, false),
            ("reqwest::connect", Level::WARN, false),
            ("h2::codec", Level::ERROR, false),
            ("opentelemetry_sdk", Level::ERROR, false),
        ] {
            assert_eq!(filter.would_enable(target, &level), sent, "{target}");
        }
    }
}
