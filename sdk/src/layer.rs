//! The `tracing` layer: events become log records here, spans are left to `tracing-opentelemetry`.

// A layer that wraps another has to pass `downcast_raw` on, which is an unsafe method; without it `OpenTelemetrySpanExt` would not find
// the wrapped layer. The safe way, a per-layer filter, makes each event pass every filter, which is work on the path of every record.
#![allow(unsafe_code)]

mod status;

use std::any::TypeId;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use opentelemetry::Context as OtelContext;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::trace::SdkTracer;
use tracing_core::dispatcher::WeakDispatch;
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, get_otel_context};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::callsite::{Callsite, CallsiteCache, ScopeId};
use crate::config::Signal;
use crate::encode::unix_nano;
use crate::exit;
use crate::lane::{Local, Urgency, map_current_context};
use crate::levels::Ways;
use crate::pipeline::Pipeline;
use crate::record::{LogRecordWriter, SpanIds};
use crate::restraint::Site;
use crate::stock;

/// Sends events and spans to the collector. Made by [`Builder::layer`](crate::Builder::layer) for a subscriber of one's own.
///
/// A filter of this layer alone decides what is exported:
///
/// ```
/// use tracing_subscriber::filter::LevelFilter;
/// use tracing_subscriber::{Layer, layer::SubscriberExt};
///
/// let (layer, guard) = watchbell::builder().layer()?;
/// let subscriber = tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO));
/// # drop((subscriber, guard.shutdown(std::time::Duration::ZERO)));
/// # Ok::<(), watchbell::InitError>(())
/// ```
///
/// A subscriber has one layer that makes spans. Of two like this one, `registry().with(one).with(two)`, the first does, whether it exports them or not: let that be
/// the one that does. The second exports records alone, with the ids of those spans, and says so. Two within one layer (`one.and_then(two)`, a `Vec` of them)
/// do not know of each other, and an `OpenTelemetryLayer` of one's own does not know of this one: `tracing-opentelemetry` panics at the first span that two make.
pub struct WatchbellLayer<S> {
    spans: Option<OpenTelemetryLayer<S, SdkTracer>>,
    pipeline: Option<Arc<Pipeline>>,
    /// Whether an event of level ERROR is the failure of its span.
    error_events_to_status: bool,
    dispatch: OnceLock<WeakDispatch>,
    /// The process that it is of.
    forks: u32,
}

impl<S> WatchbellLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    /// Without a tracer, spans are left alone; without a pipeline, events.
    pub(crate) fn new(
        tracer: Option<SdkTracer>,
        pipeline: Option<Arc<Pipeline>>,
        error_events_to_status: bool,
    ) -> Self {
        let spans =
            tracer.map(|tracer| OpenTelemetryLayer::new(tracer).with_threads(false).with_tracked_inactivity(false));
        Self { spans, pipeline, error_events_to_status, dispatch: OnceLock::new(), forks: exit::forks() }
    }

    /// What makes spans; nothing in a forked child, where it may wait for a lock for ever.
    #[inline]
    fn spans(&self) -> Option<&OpenTelemetryLayer<S, SdkTracer>> {
        self.spans.as_ref().filter(|_| self.forks == exit::forks())
    }

    /// The ids of the span that an event belongs to: the one it names as its parent, else the current one. `None` if this is the export
    /// thread, or one that wants to have no telemetry.
    #[inline]
    fn span_ids(&self, event: &Event<'_>, context: &Context<'_, S>) -> Option<SpanIds> {
        let current = map_current_context(|context| match context.is_telemetry_suppressed() {
            true => None,
            false if event.is_contextual() => Some(SpanIds::of(context.span().span_context())),
            false => Some(SpanIds::NONE),
        });
        let current = current.unwrap_or(Some(SpanIds::NONE)); // the thread is ending
        match event.parent() {
            Some(parent) if current.is_some() => {
                let parent = explicit_parent(parent, context, &self.dispatch);
                Some(parent.map_or(SpanIds::NONE, |parent| SpanIds::of(&parent)))
            }
            _ => current,
        }
    }

    /// Marks the span that an event belongs to as failed.
    #[cold]
    fn mark_span(&self, event: &Event<'_>, context: &Context<'_, S>) {
        let Some(current) = self.spans().and_then(|_| map_current_context(OtelContext::clone)) else { return };
        let of_event = match event.parent() {
            _ if current.is_telemetry_suppressed() => None,
            Some(parent) => explicit_context(parent, context, &self.dispatch),
            None => event.is_contextual().then_some(current),
        };
        let redaction = self.pipeline.as_ref().and_then(|pipeline| pipeline.redaction.as_deref());
        of_event.iter().for_each(|of_event| status::tell(of_event, event, redaction));
    }
}

/// The span that an event names as its parent; `None` if that is another subscriber's. `dispatch` is that of the layer.
#[cold]
pub(crate) fn explicit_parent<S>(
    parent: &Id,
    context: &Context<'_, S>,
    dispatch: &OnceLock<WeakDispatch>,
) -> Option<SpanContext>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Some(explicit_context(parent, context, dispatch)?.span().span_context().clone())
}

fn explicit_context<S>(parent: &Id, context: &Context<'_, S>, dispatch: &OnceLock<WeakDispatch>) -> Option<OtelContext>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let dispatch = context.exists(parent).then(|| dispatch.get()?.upgrade())??;
    get_otel_context(parent, &dispatch)
}

#[inline]
fn emit(pipeline: &Pipeline, event: &Event<'_>, span: &SpanIds) {
    let now = unix_nano(SystemTime::now());
    let urgency = if *event.metadata().level() == Level::ERROR { Urgency::Hurry } else { Urgency::Idle };
    let pushed = Local::with(|local| {
        let callsite = Callsite::of(event.metadata(), &local.callsites);
        let Some(ways) = ways(pipeline, callsite) else { return tell_stock(pipeline, event) };
        let site = pipeline.restraint.of_callsite(callsite);
        if site.is_some_and(|site| !pipeline.restraint.admits(site, span, now, pipeline)) {
            return;
        }
        local.with_scratch(|record| {
            let scope = write(record, callsite, pipeline, event, span, now);
            if is_admitted(pipeline, callsite, site, scope, record, span, now) {
                pipeline.emit(Some(local), known_ways(pipeline, callsite, ways, scope), scope, record, urgency);
            }
        });
    });
    if pushed.is_none() {
        emit_detached(pipeline, event, span, now, urgency);
    }
}

/// The same in a thread that is ending and has no locals any more.
#[cold]
fn emit_detached(pipeline: &Pipeline, event: &Event<'_>, span: &SpanIds, now: u64, urgency: Urgency) {
    let mut record = Vec::new();
    let callsite = Callsite::of(event.metadata(), &CallsiteCache::new());
    let scope = write(&mut record, callsite, pipeline, event, span, now);
    pipeline.emit(None, pipeline.ways(scope, callsite.level()), scope, &record, urgency);
}

/// Tells what is for stderr, if it is.
#[cold]
fn tell_stock(pipeline: &Pipeline, event: &Event<'_>) {
    if pipeline.levels.tell(event.metadata().target(), *event.metadata().level()) {
        stock::tell(event);
    }
}

/// Where an event goes; `None` if that is nowhere.
#[inline]
fn ways(pipeline: &Pipeline, callsite: &Callsite) -> Option<Ways> {
    let ways = callsite.ways(&pipeline.levels);
    (callsite.is_log() || !ways.is_none()).then_some(ways)
}

/// Whether a record that is written is held back by nothing; one of the `log` crate is only judged here.
#[inline]
fn is_admitted(
    pipeline: &Pipeline,
    callsite: &Callsite,
    site: Option<&'static Site>,
    scope: ScopeId,
    record: &mut Vec<u8>,
    span: &SpanIds,
    now: u64,
) -> bool {
    match site {
        Some(site) => pipeline.restraint.admits_written(site, record, span.len(), now, pipeline),
        None if callsite.is_log() => {
            pipeline.restraint.admits_target(scope, callsite.level(), record, span, now, pipeline)
        }
        None => true,
    }
}

/// The same of a record of the `log` crate, whose target is known once it is written.
#[inline]
fn known_ways(pipeline: &Pipeline, callsite: &Callsite, ways: Ways, scope: ScopeId) -> Ways {
    if callsite.is_log() { pipeline.ways(scope, callsite.level()) } else { ways }
}

#[inline(always)] // it is called but once for each record
fn write(
    record: &mut Vec<u8>,
    callsite: &'static Callsite,
    pipeline: &Pipeline,
    event: &Event<'_>,
    span: &SpanIds,
    now: u64,
) -> ScopeId {
    let mut writer = LogRecordWriter::new(record, callsite, &pipeline.limits, pipeline.redaction.as_deref(), now);
    event.record(&mut writer);
    #[cfg(feature = "log")]
    if callsite.is_log() {
        crate::log_crate::with_key_values(|attributes| writer.encoded(attributes));
    }
    writer.context();
    if pipeline.baggage.is_wanted() {
        pipeline.baggage.each_of_current(|key, value| writer.baggage(key, value));
    }
    writer.finish(span)
}

impl<S> Layer<S> for WatchbellLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        if self.spans.is_some() && (subscriber as &dyn Subscriber).is::<MakesSpans>() {
            self.spans = None;
            crate::tell::warn(format_args!(
                "the first layer makes the spans of this subscriber; this one exports records alone"
            ));
        }
    }

    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _ = self.dispatch.set(dispatch.downgrade()); // a layer belongs to one subscriber
    }

    /// Whether a span can be made is asked each time.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() { Interest::sometimes() } else { Interest::always() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !metadata.is_span() || Local::are_there()
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR && self.error_events_to_status {
            self.mark_span(event, &context);
        }
        let Some(pipeline) = &self.pipeline else { return };
        if pipeline.is_forked() {
            return pipeline.drop_forked(Signal::Logs);
        }
        if let Some(span) = &self.span_ids(event, &context) {
            emit(pipeline, event, span);
        }
    }

    /// A span that is made while telemetry is suppressed is none to us: entering it would end the suppression, if it has no parent.
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(spans) = self.spans()
            && map_current_context(|context| context.is_telemetry_suppressed()) == Some(false)
        {
            spans.on_new_span(attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(spans) = self.spans() {
            spans.on_record(id, values, context);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        if let Some(spans) = self.spans() {
            spans.on_follows_from(id, follows, context);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(spans) = self.spans()
            && entered::may_enter()
        {
            spans.on_enter(id, context);
            entered::has_entered();
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if let Some(spans) = self.spans()
            && entered::may_exit()
        {
            spans.on_exit(id, context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(spans) = self.spans() {
            spans.on_close(id, context);
        }
    }

    // SAFETY: it hands out a pointer to `self` for `Self` and for a type without bytes, else what the wrapped layer hands out for itself, which lives as long.
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        let spans = self.spans.as_ref()?;
        if id == TypeId::of::<MakesSpans>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        // SAFETY: the pointer is what the wrapped layer gives for itself, which lives as long as this one.
        unsafe { Layer::<S>::downcast_raw(spans, id) }
    }
}

/// Is found in a subscriber one of whose layers is ours and makes spans.
struct MakesSpans;

/// Whether `tracing-opentelemetry`'s own thread-local value, where the spans are that a thread has entered, is there: its layer would panic
/// without, which in the destructor of a thread's local value aborts the process.
mod entered {
    use std::cell::Cell;

    use crate::lane::map_current_context;

    #[derive(Clone, Copy, PartialEq)]
    enum State {
        /// It is made when a span is entered.
        New,
        There,
        Gone,
    }

    /// Is made after that value, and so is dropped before it.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            STATE.set(State::Gone);
        }
    }

    thread_local! {
        static STATE: Cell<State> = const { Cell::new(State::New) }; // it has no destructor, so that it is always there
        static END: End = const { End };
    }

    #[inline]
    pub(super) fn may_enter() -> bool {
        match STATE.get() {
            State::New => map_current_context(|_| ()).is_some(),
            state => state == State::There,
        }
    }

    #[inline]
    pub(super) fn has_entered() {
        if STATE.get() == State::New {
            STATE.set(State::There);
            END.with(|_| ());
        }
    }

    #[inline]
    pub(super) fn may_exit() -> bool {
        STATE.get() == State::There
    }
}
