//! Zipkin's B3 headers: `b3` in one, or `x-b3-traceid` and its companions. Both forms are read; one of them is written.

use std::sync::LazyLock;

use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

/// In a context whose trace came with B3's debug flag, which is handed on with it.
#[derive(Debug)]
struct Debug;

/// What was read.
struct Found {
    span: SpanContext,
    is_debug: bool,
}

/// Reads both forms and writes one.
#[derive(Debug)]
pub(super) enum B3Propagator {
    /// `b3: {trace id}-{span id}-{sampled}`.
    Single,
    /// `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled`.
    Multi,
}

impl TextMapPropagator for B3Propagator {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        let span = context.span();
        let span = span.span_context();
        if !span.is_valid() {
            return;
        }
        let (trace_id, span_id) = (span.trace_id().to_string(), span.span_id().to_string());
        let is_debug = context.get::<Debug>().is_some();
        let sampled = match span.is_sampled() {
            true if is_debug => "d",
            true => "1",
            false => "0",
        };
        match self {
            Self::Single => injector.set(SINGLE, format!("{trace_id}-{span_id}-{sampled}")),
            Self::Multi => {
                injector.set(TRACE_ID, trace_id);
                injector.set(SPAN_ID, span_id);
                match sampled {
                    "d" => injector.set(FLAGS, "1".to_owned()), // which says that it is sampled, too
                    _ => injector.set(SAMPLED, sampled.to_owned()),
                }
            }
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        match single(extractor).or_else(|| multi(extractor)) {
            Some(Found { span, is_debug }) => {
                let context = context.with_remote_span_context(span);
                if is_debug { context.with_value(Debug) } else { context }
            }
            None => context.clone(),
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        static FIELDS: LazyLock<[Vec<String>; 2]> =
            LazyLock::new(|| [vec![SINGLE.to_owned()], [TRACE_ID, SPAN_ID, SAMPLED, FLAGS].map(str::to_owned).into()]);
        FieldIter::new(match self {
            Self::Single => &FIELDS[0],
            Self::Multi => &FIELDS[1],
        })
    }
}

fn single(extractor: &dyn Extractor) -> Option<Found> {
    let mut parts = extractor.get(SINGLE)?.split('-');
    let (trace_id, span_id) = (parts.next()?, parts.next()?);
    found(trace_id, span_id, parts.next())
}

fn multi(extractor: &dyn Extractor) -> Option<Found> {
    let sampled = if extractor.get(FLAGS) == Some("1") { Some("d") } else { extractor.get(SAMPLED) };
    found(extractor.get(TRACE_ID)?, extractor.get(SPAN_ID)?, sampled)
}

/// Without a decision the trace is sampled: the caller left it to us, and this is the default.
fn found(trace_id: &str, span_id: &str, sampled: Option<&str>) -> Option<Found> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !matches!(trace_id.len(), 16 | 32) || span_id.len() != 16 || !is_hex(trace_id) || !is_hex(span_id) {
        return None;
    }
    let flags = match sampled {
        Some("0" | "false") => TraceFlags::NOT_SAMPLED,
        None | Some("1" | "true" | "d") => TraceFlags::SAMPLED,
        Some(_) => return None,
    };
    let (trace_id, span_id) = (TraceId::from_hex(trace_id).ok()?, SpanId::from_hex(span_id).ok()?);
    let span = SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE);
    span.is_valid().then_some(Found { span, is_debug: sampled == Some("d") })
}

const SINGLE: &str = "b3";
const TRACE_ID: &str = "x-b3-traceid";
const SPAN_ID: &str = "x-b3-spanid";
const SAMPLED: &str = "x-b3-sampled";
const FLAGS: &str = "x-b3-flags";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn extracted(headers: &[(&str, &str)]) -> Option<String> {
        let headers: HashMap<_, _> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let context = B3Propagator::Single.extract_with_context(&Context::new(), &headers);
        let span = context.span().span_context().clone();
        assert!(!span.is_valid() || span.is_remote());
        span.is_valid().then(|| format!("{}-{}-{}", span.trace_id(), span.span_id(), u8::from(span.is_sampled())))
    }

    #[test]
    fn both_forms_are_read() {
        let sampled = Some(format!("{TRACE}-{SPAN}-1"));
        let unsampled = Some(format!("{TRACE}-{SPAN}-0"));
        let single = |rest: &str| extracted(&[("b3", &format!("{TRACE}-{SPAN}{rest}"))]);
        assert_eq!((single("-1"), single("-d"), single("")), (sampled.clone(), sampled.clone(), sampled.clone()));
        assert_eq!((single("-0"), single("-1-05e3ac9a4f6e3b90")), (unsampled.clone(), sampled.clone()));
        let multi = |name: &str, value: &str| extracted(&[(TRACE_ID, TRACE), (SPAN_ID, SPAN), (name, value)]);
        assert_eq!(
            (multi(SAMPLED, "1"), multi(SAMPLED, "true"), multi(FLAGS, "1")),
            (sampled.clone(), sampled.clone(), sampled)
        );
        assert_eq!(multi(SAMPLED, "0"), unsampled);
        let short = extracted(&[("b3", "8448eb211c80319c-b7ad6b7169203331-1")]);
        assert_eq!(short, Some(format!("0000000000000000{}-{SPAN}-1", &TRACE[16..])));
    }

    #[test]
    fn the_debug_flag_is_handed_on() {
        let received = [
            HashMap::from([("b3".to_owned(), format!("{TRACE}-{SPAN}-d"))]),
            [(TRACE_ID, TRACE), (SPAN_ID, SPAN), (FLAGS, "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        ];
        for headers in received {
            let context = B3Propagator::Multi.extract_with_context(&Context::new(), &headers);
            let sent = |propagator: B3Propagator| {
                let mut headers = HashMap::new();
                propagator.inject_context(&context, &mut headers);
                headers
            };
            assert_eq!(sent(B3Propagator::Single)[SINGLE], format!("{TRACE}-{SPAN}-d"));
            let multi = sent(B3Propagator::Multi);
            assert_eq!((multi.get(FLAGS).map(String::as_str), multi.get(SAMPLED)), (Some("1"), None));
        }
    }

    #[test]
    fn what_is_no_b3_is_ignored() {
        let zeros = format!("{}-{SPAN}-1", "0".repeat(32));
        for value in ["0", "", "1-2-3", "-", &format!("{TRACE}-{SPAN}-x"), &zeros, &format!("+{}-{SPAN}", &TRACE[1..])]
        {
            assert_eq!(extracted(&[("b3", value)]), None, "{value}");
        }
        assert_eq!(extracted(&[(TRACE_ID, TRACE)]), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (propagator, count) in [(B3Propagator::Single, 1), (B3Propagator::Multi, 3)] {
            for flags in [TraceFlags::SAMPLED, TraceFlags::NOT_SAMPLED] {
                let span = SpanContext::new(TraceId::from(7), SpanId::from(8), flags, true, TraceState::NONE);
                let mut headers = HashMap::new();
                propagator.inject_context(&Context::new().with_remote_span_context(span.clone()), &mut headers);
                assert_eq!(headers.len(), count);
                let fields: Vec<_> = propagator.fields().collect();
                assert!(headers.keys().all(|header| fields.contains(&header.as_str())));
                let context = propagator.extract_with_context(&Context::new(), &headers);
                assert_eq!(*context.span().span_context(), span);
            }
        }
        let mut headers = HashMap::new();
        B3Propagator::Single.inject_context(&Context::new(), &mut headers);
        assert!(headers.is_empty());
    }
}
