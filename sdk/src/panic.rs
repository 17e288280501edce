//! A panic is a log record with the trace it happened in, whoever catches it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::TraceContextExt;
use tracing_core::Level;
use watchbell_proto::wire::{put_bytes_field, put_message_field, put_varint_field};

use crate::callsite::{ScopeId, put_attribute};
use crate::config::Signal;
use crate::context;
use crate::encode::unix_nano;
use crate::exception::{self, Fingerprint, Frames, Place};
use crate::lane::{Urgency, map_current_context};
use crate::levels::Ways;
use crate::limits::cut;
use crate::pipeline::Pipeline;
use crate::record::{SpanIds, put_time_fields};
use crate::redact::Redaction;
use crate::sink::Sinks;
use crate::threads::Threads;
use crate::view::{ATTRIBUTES, attribute, key_value, messages};

/// Records each panic, then does what was done before. Where a panic ends the process all that was recorded is sent first, for at most `timeout`.
pub(crate) fn install(pipeline: Arc<Pipeline>, threads: Threads, timeout: Duration) {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_recorded = record(&pipeline, info);
        previous(info);
        if is_recorded && ends_process(info) {
            pipeline.restraint.tell(&pipeline);
            threads.flush(timeout); // whether or not all was: the process ends
        }
    }));
}

/// Whether the process is aborted when the hook returns: always with `panic = "abort"`, else where the panic may not go on. The second of two panics that meet,
/// in a destructor that another runs, does; then comes a third, which may not. What tells so is unstable, but is shown by `Debug`.
fn ends_process(info: &PanicHookInfo<'_>) -> bool {
    cfg!(panic = "abort") || format!("{info:?}").contains("can_unwind: false")
}

/// Makes the record, unless it is the export itself that panics.
fn record(pipeline: &Pipeline, info: &PanicHookInfo<'_>) -> bool {
    let span = map_current_context(|context| {
        (!context.is_telemetry_suppressed()).then(|| SpanIds::of(context.span().span_context()))
    });
    let Some(span) = span.unwrap_or(Some(SpanIds::NONE)) else { return false };
    if pipeline.is_forked() {
        pipeline.drop_forked(Signal::Logs);
        return false;
    }
    let mut record = Vec::new();
    put_panic(&mut record, info, &span, pipeline);
    let scope = ScopeId::of_target("panic");
    let consoles = pipeline.sinks.as_ref().map_or(Ways::NONE, Sinks::consoles); // the hook that was set before shows it there
    let ways = pipeline.ways(scope, Level::ERROR).without(consoles);
    pipeline.emit(None, ways, scope, &record, Urgency::Hurry);
    true
}

fn put_panic(out: &mut Vec<u8>, info: &PanicHookInfo<'_>, span: &SpanIds, pipeline: &Pipeline) {
    let redaction = pipeline.redaction.as_deref();
    put_time_fields(out, unix_nano(SystemTime::now()));
    put_varint_field(out, 2, 17);
    put_bytes_field(out, 3, b"ERROR");
    let mut put_text = |key: &str, text: &str| {
        let Some(text) = shown(redaction, key, text) else { return };
        put_attribute(out, key, |out| put_bytes_field(out, 1, cut(&text).as_bytes()));
    };
    let message = message(info.payload());
    put_text("exception.type", "panic");
    put_text("exception.message", message);
    let backtrace = Backtrace::capture(); // as `RUST_BACKTRACE` says
    let mut frames = Frames::default();
    if backtrace.status() == BacktraceStatus::Captured {
        let text = backtrace.to_string();
        put_text("exception.stacktrace", &text);
        frames = Frames::of_display(&text);
    }
    let place = Place::Panic {
        file: info.location().map_or("", |location| location.file()),
        message: info.payload().downcast_ref::<&str>().copied(), // one with values in it is a `String`
    };
    let fingerprint = Fingerprint::of_panic(&frames, place);
    exception::tell_place(&frames, fingerprint, |key, text| put_text(key, &text.to_string()));
    put_text("thread.name", std::thread::current().name().unwrap_or("unnamed"));
    if let Some(location) = info.location() {
        put_text("code.file.path", location.file());
        put_attribute(out, "code.line.number", |out| put_varint_field(out, 3, u64::from(location.line())));
    }
    let body = shown(redaction, "exception.message", message).unwrap_or(Cow::Borrowed("a panic"));
    put_message_field(out, 5, |out| put_bytes_field(out, 1, cut(&body).as_bytes()));
    put_context(out, redaction);
    if pipeline.baggage.is_wanted() {
        pipeline.baggage.each_of_current(|key, value| {
            let is_known = attribute(out, key).is_some();
            if let Some(value) = shown(redaction, key, value).filter(|_| !is_known) {
                put_attribute(out, key, |out| put_bytes_field(out, 1, cut(&value).as_bytes()));
            }
        });
    }
    span.put(out);
}

fn shown<'t>(redaction: Option<&Redaction>, key: &str, text: &'t str) -> Option<Cow<'t, str>> {
    redaction.map_or(Some(Cow::Borrowed(text)), |redaction| redaction.shown(key, text))
}

/// The fields of the context that the thread panics in.
fn put_context(out: &mut Vec<u8>, redaction: Option<&Redaction>) {
    context::with_current(|attributes, _| {
        let is_known = |raw: &&[u8]| attribute(out, key_value(raw).0).is_some();
        let mut other = Vec::new();
        for raw in messages(attributes, ATTRIBUTES).filter(|raw| !is_known(raw)) {
            put_bytes_field(&mut other, ATTRIBUTES, raw);
        }
        match redaction {
            Some(redaction) => redaction.put_attributes(out, &other),
            None => out.extend_from_slice(&other),
        }
    });
}

pub(crate) fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic with a value that is no text")
}
