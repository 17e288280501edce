//! Trace context in and out of HTTP headers, by the propagators of `OTEL_PROPAGATORS`: W3C trace context and baggage, and Zipkin's B3.
//!
//! ```
//! use opentelemetry::trace::TraceContextExt;
//!
//! # let _guard = watchbell::builder().variables([("OTEL_LOGS_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "none")]).init()?;
//! // In: the request's span becomes a part of the caller's trace.
//! let mut request = http::Request::new(());
//! let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
//! request.headers_mut().insert("traceparent", caller.parse()?);
//! let span = tracing::info_span!("GET /cart", otel.kind = "server");
//! watchbell::propagation::set_parent(&span, request.headers());
//!
//! // Out: the next service's spans become a part of this one's.
//! let mut headers = http::HeaderMap::new();
//! span.in_scope(|| watchbell::propagation::inject(&mut headers));
//! assert!(headers["traceparent"].to_str()?.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod b3;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::global;
use opentelemetry::propagation::{Extractor, Injector, TextMapCompositePropagator, TextMapPropagator};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::config::Propagator;
use b3::B3Propagator;

/// The trace context that came with a request; an empty one if none came.
///
/// ```
/// use watchbell::opentelemetry::trace::TraceContextExt;
///
/// let nobody = watchbell::propagation::extract(&http::HeaderMap::new());
/// assert!(!nobody.span().span_context().is_valid());
/// ```
pub fn extract(headers: &HeaderMap) -> Context {
    global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor::new(headers)))
}

/// Makes a span that was not entered yet a child of the span that a request came from. Without effect if the span is disabled.
///
/// ```
/// # let request = http::Request::new(());
/// let span = tracing::info_span!("GET /cart", otel.kind = "server");
/// watchbell::propagation::set_parent(&span, request.headers());
/// let _entered = span.entered();
/// ```
pub fn set_parent(span: &tracing::Span, headers: &HeaderMap) {
    let _ = span.set_parent(extract(headers)); // without a span nobody asks for its parent
}

/// The same, and starts the span; where that is none of OpenTelemetry's, since it is disabled, or left out by a filter of our layer's, or the SDK is disabled, the
/// context in which the caller's trace goes on all the same.
#[cfg(feature = "tower")]
pub(crate) fn take_parent(span: &tracing::Span, headers: &HeaderMap) -> Option<Context> {
    use opentelemetry::trace::TraceContextExt;

    let parent = extract(headers);
    let _ = span.set_parent(parent.clone()); // of a span that is left out it succeeds, too
    (!span.context().span().span_context().is_valid()).then_some(parent)
}

/// Writes the current span's trace context into the headers of a request.
///
/// ```
/// let mut request = http::Request::new(());
/// watchbell::propagation::inject(request.headers_mut()); // traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
/// ```
pub fn inject(headers: &mut HeaderMap) {
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&Context::current(), &mut HeaderInjector(headers));
    });
}

/// Makes these the process's propagators.
pub(crate) fn install(propagators: &[Propagator]) {
    let boxed = propagators.iter().map(|propagator| -> Box<dyn TextMapPropagator + Send + Sync> {
        match propagator {
            Propagator::TraceContext => Box::new(TraceContextPropagator::new()),
            Propagator::Baggage => Box::new(BaggagePropagator::new()),
            Propagator::B3 => Box::new(B3Propagator::Single),
            Propagator::B3Multi => Box::new(B3Propagator::Multi),
        }
    });
    global::set_text_map_propagator(TextMapCompositePropagator::new(boxed.collect()));
}

/// The headers, with those put together that may come in several lines.
struct HeaderExtractor<'a> {
    headers: &'a HeaderMap,
    trace_state: Option<String>,
    baggage: Option<String>,
}

impl<'a> HeaderExtractor<'a> {
    fn new(headers: &'a HeaderMap) -> Self {
        Self { headers, trace_state: joined(headers, TRACE_STATE), baggage: joined(headers, BAGGAGE) }
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACE_STATE => self.trace_state.as_deref(),
            BAGGAGE => self.baggage.as_deref(),
            _ => self.headers.get(key)?.to_str().ok(),
        }
    }

    fn keys(&self) -> Vec<&str> {
        self.headers.keys().map(HeaderName::as_str).collect()
    }
}

/// The values of a header that is a list, however many lines it has.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

const TRACE_STATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

struct HeaderInjector<'a>(&'a mut HeaderMap);

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_come_in_several_lines() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("tracestate", "a=1"), ("tracestate", "b=2"), ("baggage", "c=3"), ("baggage", "d=4")] {
            headers.append(name, value.parse().unwrap());
        }
        let extractor = HeaderExtractor::new(&headers);
        assert_eq!((extractor.get("tracestate"), extractor.get("baggage")), (Some("a=1,b=2"), Some("c=3,d=4")));
        assert_eq!(extractor.get("traceparent"), None);
    }
}
