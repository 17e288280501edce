//! A shop that is watched by OpenTelemetry's own SDK: logs, traces and metrics by OTLP/gRPC, and a console.

use std::error::Error;
use std::io::stderr;

use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{error, info, instrument};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let resource = Resource::builder().with_service_name("shop").build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(LogExporter::builder().with_tonic().build()?)
        .build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(SpanExporter::builder().with_tonic().build()?)
        .build();
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_periodic_exporter(MetricExporter::builder().with_tonic().build()?)
        .build();
    global::set_tracer_provider(traces.clone());
    global::set_meter_provider(metrics.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    tracing_subscriber::registry()
        .with(EnvFilter::new("info,hyper=off,h2=off,tonic=off,tower=off")) // or the exporter exports itself, for ever
        .with(fmt::layer().with_writer(stderr))
        .with(tracing_opentelemetry::layer().with_tracer(traces.tracer("shop")))
        .with(OpenTelemetryTracingBridge::new(&logs))
        .init();
    (17..20).for_each(place);
    traces.shutdown()?;
    metrics.shutdown()?;
    logs.shutdown()?;
    Ok(())
}

#[instrument]
fn place(order_id: u64) {
    if order_id == 18 {
        error!(upstream = "payment", status = 503, "payment upstream answered 503");
    }
    info!(amount = 59.9, "order placed");
    global::meter("shop").u64_counter("orders").build().add(1, &[]);
}
