//! Metrics leave with the records, and the ledger is among them.

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, number_data_point};
use watchbell::opentelemetry::KeyValue;
use watchbell::opentelemetry::metrics::MeterProvider;
use watchbell::sink::Sink;

use super::receiver::{Receiver, Scripted, attributes};
use super::{builder, builder_with, pipeline, pipeline_of};

const LONG: Duration = Duration::from_secs(20);

/// The points of a sum or gauge of this name, as integer and `error.type` or `key`.
fn points(receiver: &Receiver, name: &str) -> Vec<(i64, String)> {
    let points = match receiver.metric(name).data {
        Some(Data::Sum(sum)) => sum.data_points,
        Some(Data::Gauge(gauge)) => gauge.data_points,
        other => panic!("{other:?} is neither sum nor gauge"),
    };
    let mut points: Vec<_> = points.iter().map(|point| (int(point), key(point))).collect();
    points.sort();
    points
}

fn int(point: &NumberDataPoint) -> i64 {
    match point.value {
        Some(number_data_point::Value::AsInt(value)) => value,
        ref other => panic!("{other:?} is no integer"),
    }
}

fn key(point: &NumberDataPoint) -> String {
    let attributes = attributes(&point.attributes);
    let value = attributes.get("key").or_else(|| attributes.get("error.type"));
    value.map(|value| format!("{value:?}")).unwrap_or_default()
}

#[test]
fn instruments_of_all_kinds_by_http_and_by_grpc() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        let (_dispatch, guard) = pipeline(&receiver);
        let meter = guard.meter_provider().expect("metrics are exported").meter("checkout");
        let orders = meter.u64_counter("orders").with_unit("{order}").with_description("Orders placed").build();
        orders.add(2, &[KeyValue::new("key", "a")]);
        orders.add(3, &[KeyValue::new("key", "b")]);
        meter.i64_up_down_counter("open").build().add(-4, &[]);
        meter.f64_gauge("ratio").build().record(0.5, &[]);
        let _stock = meter.u64_observable_gauge("stock").with_callback(|out| out.observe(17, &[])).build();
        let took = meter.f64_histogram("took").with_boundaries(vec![1.0, 2.0]).build();
        [0.5, 1.5, 1.6, 9.0].iter().for_each(|seconds| took.record(*seconds, &[]));
        guard.flush(LONG).expect("a receiver that answers");

        let text = |text: &str| format!("StringValue({text:?})");
        assert_eq!(points(&receiver, "orders"), [(2, text("a")), (3, text("b"))]);
        let orders = receiver.metric("orders");
        assert_eq!((orders.unit.as_str(), orders.description.as_str()), ("{order}", "Orders placed"));
        let Some(Data::Sum(sum)) = orders.data else { panic!("a sum") };
        assert_eq!((sum.is_monotonic, sum.aggregation_temporality), (true, 2));
        assert!(sum.data_points[0].time_unix_nano >= sum.data_points[0].start_time_unix_nano);
        assert_eq!(points(&receiver, "open"), [(-4, String::new())]);
        assert_eq!(points(&receiver, "stock"), [(17, String::new())]);
        let Some(Data::Gauge(ratio)) = receiver.metric("ratio").data else { panic!("a gauge") };
        assert_eq!(ratio.data_points[0].value, Some(number_data_point::Value::AsDouble(0.5)));
        let Some(Data::Histogram(took)) = receiver.metric("took").data else { panic!("a histogram") };
        let point = &took.data_points[0];
        assert_eq!((point.count, point.sum, point.min, point.max), (4, Some(12.6), Some(0.5), Some(9.0)));
        assert_eq!((&point.bucket_counts, &point.explicit_bounds), (&vec![1, 2, 1], &vec![1.0, 2.0]));
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.metrics.lost(), ledger.metrics.in_flight), (0, 0), "{ledger}");
        assert!(ledger.metrics.delivered >= 6, "{ledger}");
    }
}

/// One that takes no byte, and one with a filter.
#[test]
fn what_became_of_records_at_each_sink() {
    let (receiver, folder) = (Receiver::http(), tempfile::tempdir().unwrap());
    let (full, fine) = (folder.path().join("full"), folder.path().join("fine"));
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let fine = Sink::file(fine).name("fine").filter(|record| record.attribute("audit").is_some());
    let (dispatch, guard) = pipeline_of(builder(&receiver).sink(Sink::file(full).name("full")).sink(fine));
    tracing::dispatcher::with_default(&dispatch, || {
        (0..3).for_each(|i| tracing::info!(i, audit = true, "order placed"));
        (0..4).for_each(|i| tracing::info!(i, "order seen"));
    });
    guard.flush(LONG).unwrap();
    guard.flush(LONG).unwrap(); // the metrics of after that
    let counts = |name| {
        let Some(Data::Sum(sum)) = receiver.metric(name).data else { panic!("a sum") };
        let text = |point: &NumberDataPoint, key: &str| attributes(&point.attributes).get(key).map(text);
        let count = |point| (text(point, "otel.component.name").unwrap(), text(point, "error.type"), int(point));
        let mut counts: Vec<_> = sum.data_points.iter().map(count).collect();
        counts.sort();
        counts
    };
    let expected = [("fine".to_owned(), None, 3), ("full".to_owned(), Some("write_failed".to_owned()), 7)];
    assert_eq!(counts("watchbell.sdk.sink.log.processed"), expected);
    assert_eq!(counts("watchbell.sdk.sink.log.withheld"), [("fine".to_owned(), None, 4)]);
}

fn text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        other => panic!("{other:?} is no string"),
    }
}

#[test]
fn exponential_histograms() {
    let receiver = Receiver::http();
    const NAME: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    let (_dispatch, guard) = pipeline_of(builder_with(&receiver, &[(NAME, "base2_exponential_bucket_histogram")]));
    let took = guard.meter_provider().unwrap().meter("checkout").f64_histogram("took").build();
    [1.0, 2.0, -3.0, 0.0].iter().for_each(|value| took.record(*value, &[]));
    guard.shutdown(LONG);
    let Some(Data::ExponentialHistogram(took)) = receiver.metric("took").data else { panic!("an exponential one") };
    let point = &took.data_points[0];
    assert_eq!((point.count, point.sum, point.zero_count), (4, Some(0.0), 1));
    let count = |buckets: &Option<
        opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets,
    >| { buckets.as_ref().unwrap().bucket_counts.iter().sum::<u64>() };
    assert_eq!((count(&point.positive), count(&point.negative)), (2, 1));
    assert!(point.scale > 0 && (point.min, point.max) == (Some(-3.0), Some(2.0)));
}

#[test]
fn deltas() {
    let receiver = Receiver::http();
    const NAME: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    let (_dispatch, guard) = pipeline_of(builder_with(&receiver, &[(NAME, "Delta")]));
    let orders = guard.meter_provider().unwrap().meter("checkout").u64_counter("orders").build();
    for count in [3, 4] {
        orders.add(count, &[]);
        guard.flush(LONG).expect("a receiver that answers");
        assert_eq!(points(&receiver, "orders"), [(count as i64, String::new())]);
    }
}

#[test]
fn the_interval_is_kept_without_a_flush() {
    let receiver = Receiver::http();
    let (_dispatch, guard) = pipeline_of(builder_with(&receiver, &[("OTEL_METRIC_EXPORT_INTERVAL", "20")]));
    guard.meter_provider().unwrap().meter("checkout").u64_counter("orders").build().add(1, &[]);
    receiver.wait_for_metric("orders");
}

#[test]
fn the_ledger_is_told() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    receiver.script([Scripted::Partial(2)]);
    tracing::dispatcher::with_default(&dispatch, || {
        (0..5).for_each(|i| tracing::info!(i));
        tracing::info_span!("work").in_scope(|| {});
    });
    (0..3).for_each(|_| guard.flush(LONG).expect("a receiver that answers")); // the second sends the report of the loss, too
    let rejected = "StringValue(\"rejected\")".to_owned();
    assert_eq!(points(&receiver, "otel.sdk.log.created"), [(6, String::new())]);
    assert_eq!(points(&receiver, "otel.sdk.processor.log.processed"), [(6, String::new())]);
    assert_eq!(points(&receiver, "otel.sdk.exporter.log.exported"), [(2, rejected), (4, String::new())]);
    assert_eq!(points(&receiver, "watchbell.sdk.log.spooled"), [(0, String::new())]);
    assert_eq!(points(&receiver, "otel.sdk.exporter.log.inflight"), [(0, String::new())]);
    assert_eq!(points(&receiver, "otel.sdk.exporter.span.exported"), [(1, String::new())]);
    let [(delivered, _)] = points(&receiver, "otel.sdk.exporter.metric_data_point.exported")[..] else { panic!() };
    assert!(delivered > 0);
}

#[test]
fn a_callback_that_hangs_holds_up_neither_records_nor_the_shutdown() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver));
    let meter = guard.meter_provider().unwrap().meter("checkout");
    let (hangs, told) = std::sync::mpsc::channel();
    let (_end, ends) = std::sync::mpsc::channel::<()>();
    let ends = std::sync::Mutex::new(ends);
    let _stuck = meter
        .u64_observable_gauge("stuck")
        .with_callback(move |_| {
            let _ = hangs.send(());
            let _ = ends.lock().unwrap().recv();
        })
        .build();
    assert!(guard.flush(Duration::from_millis(50)).is_err());
    told.recv_timeout(LONG).expect("a collection");
    tracing::dispatcher::with_default(&dispatch, || tracing::error!("meanwhile"));
    receiver.wait_for_logs(1);
    let started = std::time::Instant::now();
    guard.shutdown(Duration::from_millis(100));
    assert!(started.elapsed() < LONG);
}

#[test]
fn without_an_exporter_for_metrics() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder_with(&receiver, &[("OTEL_METRICS_EXPORTER", "none")]));
    assert!(guard.meter_provider().is_none());
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("m"));
    assert_eq!(guard.shutdown(LONG).metrics.emitted, 0);
    assert!(receiver.metrics().is_empty());
}

#[test]
#[cfg(feature = "config-file")]
fn views_of_the_file() {
    let receiver = Receiver::http();
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let yaml = "
file_format: '1.0'
meter_provider:
  readers: [{periodic: {exporter: {otlp_http: {endpoint: ENDPOINT/v1/metrics, default_histogram_aggregation: base2_exponential_bucket_histogram}}}}]
  views:
    - {selector: {instrument_name: 'took.*', unit: s}, stream: {name: time, aggregation: {explicit_bucket_histogram: {boundaries: [1]}}}}
    - {selector: {instrument_name: noise}, stream: {aggregation: {drop: }}}
    - {selector: {instrument_name: size}, stream: {name: bytes}}
";
    std::fs::write(file.path(), yaml.replace("ENDPOINT", &receiver.endpoint())).unwrap();
    let (_dispatch, guard) =
        pipeline_of(watchbell::builder().variables([("OTEL_CONFIG_FILE", file.path().to_str().unwrap())]));
    let meter = guard.meter_provider().expect("metrics are exported").meter("checkout");
    for (name, unit) in [("took.payment", "s"), ("took.payment", "ms"), ("size", "By"), ("other", "")] {
        meter.f64_histogram(name).with_unit(unit).build().record(0.5, &[]);
    }
    meter.u64_counter("noise").build().add(1, &[]);
    guard.flush(LONG).expect("a receiver that answers");
    let Some(Data::Histogram(time)) = receiver.metric("time").data else { panic!("explicit buckets") };
    assert_eq!((time.data_points[0].explicit_bounds.as_slice(), time.data_points[0].count), (&[1.0][..], 1));
    for name in ["took.payment", "bytes", "other"] {
        let data = receiver.metric(name).data;
        assert!(matches!(&data, Some(Data::ExponentialHistogram(_))), "{name}: {data:?}");
    }
    let names: Vec<_> = receiver.metrics().into_iter().map(|metric| metric.name).collect();
    assert!(!names.iter().any(|name| name == "noise" || name == "size"), "{names:?}");
}
