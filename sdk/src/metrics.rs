//! Metrics by the same way as records: OpenTelemetry's meter provider aggregates, and what is collected of it goes through a lane of its own
//! to the export thread, which has the one HTTP stack.

mod encode;
mod own;
mod view;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, ManualReader, Pipeline as SdkPipeline, SdkMeterProvider, Stream,
    Temporality,
};

use crate::callsite::ScopeId;
use crate::config::{MetricsConfig, Signal};
use crate::export::ExportThread;
use crate::pipeline::Pipeline;
pub(crate) use view::View;

/// A provider whose metrics the export thread collects, and by what it does. `thread` is told once it is there.
pub(crate) fn provider(
    pipeline: &Arc<Pipeline>,
    config: &MetricsConfig,
    thread: &Arc<OnceLock<ExportThread>>,
) -> (SdkMeterProvider, Collector) {
    let collector = Collector(Arc::new(ManualReader::builder().with_temporality(config.temporality).build()));
    let reader = Reader { inner: Arc::clone(&collector.0), thread: Arc::clone(thread) };
    let builder = SdkMeterProvider::builder().with_reader(reader);
    let is_exponential = config.has_exponential_histograms;
    let usual = move |instrument: &Instrument| {
        (is_exponential && instrument.kind() == InstrumentKind::Histogram).then_some(EXPONENTIAL)
    };
    let views = config.views.iter().cloned();
    let builder = views.fold(builder, |builder, view| {
        builder.with_view(move |instrument: &Instrument| view.stream_of(instrument, usual(instrument)))
    });
    let views = config.views.clone();
    let unviewed = move |instrument: &Instrument| {
        let aggregation = usual(instrument).filter(|_| !views.iter().any(|view| view.selects(instrument)))?;
        Stream::builder().with_aggregation(aggregation).build().ok()
    };
    let provider = builder.with_view(unviewed).build();
    own::observe(pipeline, &provider.meter("watchbell"));
    (provider, collector)
}

/// Buckets of a histogram that grow with what comes.
const EXPONENTIAL: Aggregation =
    Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };

/// What the export thread asks for metrics. It is without the way to that thread, which would then never see that nobody else has it.
pub(crate) struct Collector(Arc<ManualReader>);

impl Collector {
    /// Hands all metrics over to the lane. It calls the service's own callbacks, which may take their time.
    pub(crate) fn collect_into(&self, pipeline: &Pipeline) {
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        let mut collected = ResourceMetrics::default();
        if self.0.collect(&mut collected).is_err() {
            return; // the provider is gone
        }
        let lane = pipeline.lane(Signal::Metrics);
        for scope_metrics in collected.scope_metrics() {
            let scope = ScopeId::of_scope(scope_metrics.scope());
            for metric in scope_metrics.metrics() {
                encode::records(metric, |points, record| lane.push_points(scope, points, record));
            }
        }
    }
}

/// What the provider has for its reader.
#[derive(Debug)]
struct Reader {
    inner: Arc<ManualReader>,
    thread: Arc<OnceLock<ExportThread>>,
}

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<SdkPipeline>) {
        self.inner.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.inner.collect(metrics)
    }

    /// Waits five seconds at most; the guard's flush has a deadline of one's own.
    fn force_flush(&self) -> OTelSdkResult {
        self.thread.get().map_or(Ok(()), ExportThread::force_flush)
    }

    /// Ending is the guard's: the inner reader would wait for a collection that hangs in the service's own code.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.inner.temporality(kind)
    }
}
