//! The status of a span in which an error was told, as `tracing-opentelemetry` has it where events are its own.

use std::error::Error;
use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{Status, TraceContextExt};
use tracing_core::Event;
use tracing_core::field::{Field, Visit};

use crate::exception::shown;
use crate::limits::VALUE_BYTES_MAX;
use crate::redact::Redaction;

/// Marks the context's span as failed, unless it has the status `Ok`. Of several descriptions OpenTelemetry's SDK keeps one.
pub(super) fn tell(context: &Context, event: &Event<'_>, redaction: Option<&Redaction>) {
    let span = context.span();
    if span.is_recording() {
        let mut description = Description { text: String::new(), redaction };
        event.record(&mut description);
        span.set_status(Status::error(description.text));
    }
}

/// The message of the event's first error; of one that is a text, as `#[instrument(err)]` writes it, that of the field `error`.
struct Description<'a> {
    text: String,
    redaction: Option<&'a Redaction>,
}

impl Description<'_> {
    fn set(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let is_secret = || self.redaction.is_some_and(|redaction| redaction.fate(field.name()).is_some());
        if self.text.is_empty() && !is_secret() {
            let text = shown(text, VALUE_BYTES_MAX);
            // The span may be another provider's, which redacts nothing.
            self.text = self.redaction.and_then(|redaction| redaction.scrubbed(&text)).unwrap_or(text);
        }
    }
}

impl Visit for Description<'_> {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field, format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "error" {
            self.set(field, format_args!("{value:?}"));
        }
    }
}
