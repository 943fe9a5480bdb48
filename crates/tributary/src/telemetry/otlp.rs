//! Numbers as OTLP knows them.
//!
//! The messages are made here and not by the instruments of the SDK, which take single measurements: these have been
//! counted already, and the SDK can neither take over a histogram nor more than 2000 series of a name.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::exposition::{Family, Kind, Sample};

/// Counters count from their beginning on, not from one message to the next.
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// Now, in nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or_default()
}

/// Who sends, in a message.
pub(super) fn resource(resource: &opentelemetry_sdk::Resource) -> Resource {
    Resource {
        attributes: resource
            .iter()
            .map(|(name, value)| attribute(name.as_str(), value.as_str().into_owned()))
            .collect(),
        ..Resource::default()
    }
}

/// A message of all numbers: counters have counted since `since`, and all are as they are `now`.
pub(super) fn request(
    families: &[Family],
    resource: Resource,
    since: u64,
    now: u64,
) -> ExportMetricsServiceRequest {
    let times = Times { since, now };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "tributary".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: families.iter().map(|family| times.metric(family)).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

struct Times {
    since: u64,
    now: u64,
}

impl Times {
    fn metric(&self, family: &Family) -> Metric {
        let samples = &family.samples;
        let data = match family.kind {
            Kind::Gauge => metric::Data::Gauge(Gauge {
                data_points: samples
                    .iter()
                    .map(|sample| self.number(sample, 0))
                    .collect(),
            }),
            Kind::Counter => metric::Data::Sum(Sum {
                data_points: samples
                    .iter()
                    .map(|sample| self.number(sample, self.since))
                    .collect(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            }),
            Kind::Histogram => metric::Data::Histogram(Histogram {
                data_points: gathered(samples, "le")
                    .into_iter()
                    .map(|gathered| self.histogram(gathered))
                    .collect(),
                aggregation_temporality: CUMULATIVE,
            }),
            Kind::Summary => metric::Data::Summary(Summary {
                data_points: gathered(samples, "quantile")
                    .into_iter()
                    .map(|gathered| self.summary(gathered))
                    .collect(),
            }),
        };
        Metric {
            name: family.name.clone(),
            description: family.help.clone(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn number(&self, sample: &Sample, since: u64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(&sample.labels),
            start_time_unix_nano: since,
            time_unix_nano: self.now,
            value: Some(number_data_point::Value::AsDouble(sample.value)),
            ..NumberDataPoint::default()
        }
    }

    /// Prometheus counts all that is up to a bound; OTLP what is between two.
    fn histogram(&self, mut gathered: Gathered) -> HistogramDataPoint {
        gathered.parts.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let bounded = gathered.parts.iter().filter(|(bound, _)| bound.is_finite());
        let (mut explicit_bounds, mut bucket_counts, mut below) = (Vec::new(), Vec::new(), 0);
        for (bound, up_to) in bounded {
            let up_to = whole(*up_to);
            explicit_bounds.push(*bound);
            bucket_counts.push(up_to.saturating_sub(below));
            below = up_to.max(below);
        }
        let count = whole(gathered.count).max(below);
        bucket_counts.push(count - below);
        HistogramDataPoint {
            attributes: attributes(&gathered.labels),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            count,
            sum: Some(gathered.sum),
            bucket_counts,
            explicit_bounds,
            ..HistogramDataPoint::default()
        }
    }

    fn summary(&self, gathered: Gathered) -> SummaryDataPoint {
        let quantiles = gathered.parts.into_iter();
        SummaryDataPoint {
            attributes: attributes(&gathered.labels),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            count: whole(gathered.count),
            sum: gathered.sum,
            quantile_values: quantiles
                .map(|(quantile, value)| ValueAtQuantile { quantile, value })
                .collect(),
            ..SummaryDataPoint::default()
        }
    }
}

/// A count that the text tells as a number like any other.
fn whole(number: f64) -> u64 {
    // What is below zero or no number becomes 0.
    number as u64
}

/// The samples of one histogram or summary.
struct Gathered {
    labels: Vec<(String, String)>,
    /// The number in the label that tells them apart, and the value.
    parts: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

fn gathered(samples: &[Sample], by: &str) -> Vec<Gathered> {
    let mut found: Vec<Gathered> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let mut part = None;
        labels.retain(|(name, value)| {
            if name == by {
                part = value.parse::<f64>().ok();
            }
            name != by
        });
        let next = found.len();
        let place = *places.entry(labels.clone()).or_insert(next);
        if place == next {
            found.push(Gathered {
                labels,
                parts: Vec::new(),
                sum: 0.0,
                count: 0.0,
            });
        }
        let Some(gathered) = found.get_mut(place) else {
            continue;
        };
        match (&*sample.suffix, part) {
            ("_sum", _) => gathered.sum = sample.value,
            ("_count", _) => gathered.count = sample.value,
            (_, Some(part)) => gathered.parts.push((part, sample.value)),
            (_, None) => {}
        }
    }
    found
}

fn attributes(labels: &[(String, String)]) -> Vec<KeyValue> {
    labels
        .iter()
        .map(|(name, value)| attribute(name, value.clone()))
        .collect()
}

fn attribute(name: &str, value: String) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::exposition::parse;
    use super::*;

    fn metrics(text: &str) -> Vec<Metric> {
        let mut request = request(&parse(text), Resource::default(), 5, 7);
        request
            .resource_metrics
            .remove(0)
            .scope_metrics
            .remove(0)
            .metrics
    }

    #[test]
    fn counters_grow_from_the_beginning_and_gauges_are_of_now() {
        let metrics =
            metrics("# TYPE a_total counter\na_total{x=\"1\"} 3\n# TYPE b gauge\nb 2.5\n");
        let Some(metric::Data::Sum(sum)) = &metrics[0].data else {
            panic!("no sum: {metrics:?}");
        };
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality, CUMULATIVE);
        let point = &sum.data_points[0];
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (5, 7));
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(3.0)));
        assert_eq!(point.attributes, [attribute("x", "1".to_owned())]);
        let Some(metric::Data::Gauge(gauge)) = &metrics[1].data else {
            panic!("no gauge: {metrics:?}");
        };
        let value = gauge.data_points[0].value;
        assert_eq!(value, Some(number_data_point::Value::AsDouble(2.5)));
    }

    #[test]
    fn buckets_are_told_apart_by_their_bounds_and_series_by_their_labels() {
        let metrics = metrics(
            "# TYPE t histogram\nt_bucket{s=\"a\",le=\"0.5\"} 1\nt_bucket{s=\"a\",le=\"2\"} 4\n\
             t_bucket{s=\"a\",le=\"+Inf\"} 5\nt_sum{s=\"a\"} 9.5\nt_count{s=\"a\"} 5\n\
             t_bucket{s=\"b\",le=\"0.5\"} 0\nt_bucket{s=\"b\",le=\"2\"} 0\n\
             t_bucket{s=\"b\",le=\"+Inf\"} 1\nt_sum{s=\"b\"} 3\nt_count{s=\"b\"} 1\n",
        );
        let Some(metric::Data::Histogram(histogram)) = &metrics[0].data else {
            panic!("no histogram: {metrics:?}");
        };
        let [a, b] = &histogram.data_points[..] else {
            panic!("not two: {histogram:?}");
        };
        assert_eq!((a.count, a.sum), (5, Some(9.5)));
        assert_eq!(a.explicit_bounds, [0.5, 2.0]);
        assert_eq!(a.bucket_counts, [1, 3, 1]);
        assert_eq!(a.attributes, [attribute("s", "a".to_owned())]);
        assert_eq!(b.bucket_counts, [0, 0, 1]);
    }

    #[test]
    fn a_summary_keeps_its_quantiles() {
        let metrics = metrics("# TYPE t summary\nt{quantile=\"0.5\"} 3\nt_sum 9\nt_count 2\n");
        let Some(metric::Data::Summary(summary)) = &metrics[0].data else {
            panic!("no summary: {metrics:?}");
        };
        let point = &summary.data_points[0];
        assert_eq!((point.count, point.sum), (2, 9.0));
        assert_eq!(point.quantile_values[0].value, 3.0);
        assert_eq!(point.quantile_values[0].quantile, 0.5);
    }
}
