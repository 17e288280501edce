//! Whatever headers a request has, what is read of them is handed on, and read again, as the same.
#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use watchbell::Guard;
use watchbell::opentelemetry::trace::TraceContextExt;
use watchbell::propagation::{extract, inject};

const NAMES: [&str; 8] =
    ["traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags"];

static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    let off = ["OTEL_LOGS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"].map(|name| (name, "none"));
    let all = ("OTEL_PROPAGATORS", "tracecontext,baggage,b3,b3multi");
    let builder = watchbell::builder().panics(false).variables(off.into_iter().chain([all]));
    let (_, guard) = builder.layer::<tracing_subscriber::Registry>().expect("a layer");
    guard.install_globals();
    guard
});

// A line for each header: the first byte chooses its name.
fuzz_target!(|bytes: &[u8]| {
    LazyLock::force(&GUARD);
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some((first, value)) = line.split_first()
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            headers.append(NAMES[usize::from(*first) % NAMES.len()], value);
        }
    }
    let read = extract(&headers);
    let handed_on = {
        let _attached = read.clone().attach();
        let mut headers = HeaderMap::new();
        inject(&mut headers);
        headers
    };
    let again = extract(&handed_on);
    let (read, again) = (read.span().span_context().clone(), again.span().span_context().clone());
    assert_eq!(
        (read.trace_id(), read.span_id(), read.is_sampled()),
        (again.trace_id(), again.span_id(), again.is_sampled())
    );
    assert!(!read.is_valid() || read.is_remote());
});
