//! The SDK against receivers that decode with OpenTelemetry's own generated code.

mod capture;
mod compose;
mod context;
mod correlation;
mod delivery;
mod doors;
#[cfg(feature = "macros")]
mod errors;
mod full;
mod metrics;
#[cfg(feature = "axum")]
mod middleware;
mod model;
mod patch;
mod receiver;
mod records;
mod redaction;
mod restraint;
mod shutdown;
#[cfg(feature = "files")]
mod sinks;
#[cfg(unix)]
mod spool;

use receiver::Receiver;
use tracing_subscriber::layer::SubscriberExt;

/// A subscriber with our layer alone, and the guard, exporting to `receiver`.
fn pipeline(receiver: &Receiver) -> (tracing::Dispatch, watchbell::Guard) {
    pipeline_of(builder(receiver))
}

/// A builder that knows nothing but the receiver.
fn builder(receiver: &Receiver) -> watchbell::Builder {
    builder_with(receiver, &[])
}

/// One that also reads these variables.
fn builder_with(receiver: &Receiver, variables: &[(&str, &str)]) -> watchbell::Builder {
    let endpoint = receiver.endpoint();
    let of_receiver = [
        ("OTEL_SERVICE_NAME", "checkout"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", receiver.protocol()),
    ];
    watchbell::builder().variables(of_receiver.into_iter().chain(variables.iter().copied()))
}

fn pipeline_of(builder: watchbell::Builder) -> (tracing::Dispatch, watchbell::Guard) {
    let (layer, guard) = builder.layer().expect("an export thread");
    (tracing::Dispatch::new(tracing_subscriber::registry().with(layer)), guard)
}
