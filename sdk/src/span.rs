//! Ended spans go the way of log records: encoded in the thread that ends them, exported by our own thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::Span as _;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use crate::callsite::ScopeId;
use crate::config::Signal;
use crate::encode::put_span;
use crate::export::ExportThread;
use crate::lane::{Local, Urgency};
use crate::pipeline::Pipeline;

/// Takes the sampled spans of a tracer provider.
pub(crate) struct PipelineSpanProcessor {
    pipeline: Arc<Pipeline>,
    thread: ExportThread,
    /// The scope of nearly all spans, so that it need not be looked up.
    usual_scope: (InstrumentationScope, ScopeId),
}

impl PipelineSpanProcessor {
    pub(crate) fn new(pipeline: Arc<Pipeline>, thread: ExportThread, usual_scope: InstrumentationScope) -> Self {
        let id = ScopeId::of_scope(&usual_scope);
        Self { pipeline, thread, usual_scope: (usual_scope, id) }
    }

    fn scope_id(&self, scope: &InstrumentationScope) -> ScopeId {
        if *scope == self.usual_scope.0 { self.usual_scope.1 } else { ScopeId::of_scope(scope) }
    }
}

impl SpanProcessor for PipelineSpanProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        if self.pipeline.baggage.is_wanted() {
            span.set_attributes(self.pipeline.baggage.of(context));
        }
    }

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.pipeline.is_forked() {
            return self.pipeline.drop_forked(Signal::Traces);
        }
        if let Some(redaction) = &self.pipeline.redaction {
            redaction.redact_span(&mut span);
        }
        let lane = self.pipeline.lane(Signal::Traces);
        let chars_max = self.pipeline.limits.span_value_chars_max;
        let scope = self.scope_id(&span.instrumentation_scope);
        let pushed = Local::with(|local| {
            local.with_scratch(|record| {
                put_span(record, &span, chars_max);
                lane.push(local, scope, record, Urgency::Idle);
            });
        });
        if pushed.is_none() {
            let mut record = Vec::new();
            put_span(&mut record, &span, chars_max);
            lane.push_detached(scope, &record, Urgency::Idle);
        }
    }

    /// Waits five seconds at most; the guard's flush has a deadline of one's own.
    fn force_flush(&self) -> OTelSdkResult {
        self.thread.force_flush()
    }

    /// The export goes on until the guard ends it.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl fmt::Debug for PipelineSpanProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineSpanProcessor").finish_non_exhaustive()
    }
}
