//! OpenTelemetry's logs API into the same buffer: a [`LoggerProvider`] for appenders of other crates, and a [`LogProcessor`] in the place of
//! the stock batch processor. What comes by either is in the same [`Ledger`](crate::Ledger) as what `tracing` logs.
//!
//! ```
//! use watchbell::opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
//!
//! # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
//! if let Some(provider) = guard.logger_provider() {
//!     let logger = provider.logger("checkout");
//!     let mut record = logger.create_log_record();
//!     record.set_severity_number(Severity::Error);
//!     record.set_body("payment upstream answered 503".into());
//!     record.add_attribute("status", 503);
//!     logger.emit(record);
//! }
//! # drop(guard.shutdown(std::time::Duration::ZERO));
//! # Ok::<(), watchbell::InitError>(())
//! ```

pub(crate) mod value;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord, Severity};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use opentelemetry::{InstrumentationScope, Key};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLogRecord;
use watchbell_proto::wire::{put_bytes_field, put_message_field, put_varint_field, varint_len};

use crate::callsite::{ScopeId, put_attribute};
use crate::config::Signal;
use crate::context;
use crate::encode::unix_nano;
use crate::exit;
use crate::export::ExportThread;
use crate::lane::{Local, Urgency};
use crate::limits::count_cut;
use crate::pipeline::Pipeline;
use crate::record::{RECORD_BYTES_MAX, SpanIds, TAIL_BYTES, TIMES_BYTES, put_times};
use crate::redact::Redaction;
use crate::view;

/// Makes loggers; from [`Guard::logger_provider`](crate::Guard::logger_provider).
///
/// ```
/// use watchbell::opentelemetry::logs::LoggerProvider;
///
/// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
/// let provider: watchbell::logs::LoggerProvider = guard.logger_provider().expect("logs are exported");
/// let logger = provider.logger("checkout");
/// # drop(guard.shutdown(std::time::Duration::ZERO));
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone)]
pub struct LoggerProvider {
    pub(crate) pipeline: Arc<Pipeline>,
}

impl opentelemetry::logs::LoggerProvider for LoggerProvider {
    type Logger = Logger;

    fn logger_with_scope(&self, scope: InstrumentationScope) -> Logger {
        // In a forked child the scopes may be locked for ever, and its records go nowhere.
        let scope = if self.pipeline.is_forked() { ScopeId::from_u16(0) } else { ScopeId::of_scope(&scope) };
        Logger { pipeline: Arc::clone(&self.pipeline), scope }
    }
}

impl fmt::Debug for LoggerProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggerProvider").finish_non_exhaustive()
    }
}

/// Takes records of one scope, from any thread.
///
/// ```
/// use watchbell::opentelemetry::logs::{LogRecord, Logger, LoggerProvider};
///
/// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
/// let logger: watchbell::logs::Logger = guard.logger_provider().expect("logs are exported").logger("checkout");
/// let mut record = logger.create_log_record();
/// record.set_body("order placed".into());
/// logger.emit(record);
/// assert_eq!(guard.ledger().logs.emitted, 1);
/// # drop(guard.shutdown(std::time::Duration::ZERO));
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone)]
pub struct Logger {
    pipeline: Arc<Pipeline>,
    scope: ScopeId,
}

impl opentelemetry::logs::Logger for Logger {
    type LogRecord = Record;

    fn create_log_record(&self) -> Record {
        Record::new(&self.pipeline, self.scope)
    }

    /// Hands the record over; without a trace of its own it has that of the current span. It never waits.
    fn emit(&self, record: Record) {
        record.emit(&self.pipeline);
    }

    /// Whether a record goes anywhere, by the levels; one without a target has the logger's name for it.
    fn event_enabled(&self, severity: Severity, target: &str, _: Option<&str>) -> bool {
        let is_enabled = match target {
            "" if !self.pipeline.is_forked() => is_enabled(&self.pipeline, severity, self.scope.scope().name()),
            _ => is_enabled(&self.pipeline, severity, target),
        };
        is_enabled && SpanIds::current().is_some()
    }
}

/// A forked child, in which the levels may be locked for ever, counts what it loses.
fn is_enabled(pipeline: &Pipeline, severity: Severity, target: &str) -> bool {
    pipeline.is_forked() || !pipeline.levels.ways(target, view::level(severity as u8)).is_none()
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// A record under construction: each call is written at once as OTLP, into the thread's own buffer, so that there is nothing to clone or to
/// convert later. Beyond the limits of `OTEL_LOGRECORD_ATTRIBUTE_*` attributes are dropped and counted, and strings cut.
///
/// ```
/// use watchbell::opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
///
/// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
/// let logger = guard.logger_provider().expect("logs are exported").logger("checkout");
/// let mut record: watchbell::logs::Record = logger.create_log_record();
/// record.set_severity_number(Severity::Warn);
/// record.add_attribute("order_id", 17);
/// logger.emit(record);
/// # drop(guard.shutdown(std::time::Duration::ZERO));
/// # Ok::<(), watchbell::InitError>(())
/// ```
pub struct Record {
    bytes: Vec<u8>,
    scope: ScopeId,
    time: Option<SystemTime>,
    observed_time: Option<SystemTime>,
    span: Option<SpanIds>,
    severity_number: u8,
    attributes: u32,
    attributes_max: u32,
    redaction: Option<Arc<Redaction>>,
    dropped_attributes: u32,
    value_chars_max: usize,
    /// The process that it is of.
    forks: u32,
}

/// Bytes that attributes and body may fill.
const ATTRIBUTES_BYTES: usize = RECORD_BYTES_MAX - TAIL_BYTES;

impl Record {
    fn new(pipeline: &Pipeline, scope: ScopeId) -> Self {
        let mut bytes = Local::with(Local::take_scratch).unwrap_or_default();
        bytes.extend_from_slice(&[0; TIMES_BYTES]);
        Self {
            bytes,
            scope,
            time: None,
            observed_time: None,
            span: None,
            severity_number: 0,
            attributes: 0,
            redaction: pipeline.redaction.clone(),
            attributes_max: pipeline.limits.attributes_per_record_max,
            dropped_attributes: 0,
            value_chars_max: pipeline.limits.record_value_chars_max,
            forks: pipeline.forks(),
        }
    }

    fn put_attribute(&mut self, key: &str, value: &AnyValue) {
        let redaction = self.redaction.as_ref().filter(|redaction| redaction.fate(key).is_some());
        let Some(redaction) = redaction.map(Arc::clone) else { return self.put_known(key, value) };
        let mut bytes = Vec::new();
        value::put(&mut bytes, value, usize::MAX);
        if let Some(shown) = redaction.shown(key, &view::Value::new(&bytes).to_string()) {
            self.put_known(key, &AnyValue::from(shown.into_owned()));
        }
    }

    fn put_known(&mut self, key: &str, value: &AnyValue) {
        if self.attributes >= self.attributes_max {
            self.dropped_attributes += 1;
            return;
        }
        let before = self.bytes.len();
        put_attribute(&mut self.bytes, key, |out| value::put(out, value, self.value_chars_max));
        if self.bytes.len() > ATTRIBUTES_BYTES {
            self.bytes.truncate(before);
            self.dropped_attributes += 1;
        } else {
            self.attributes += 1;
        }
    }

    /// What stands behind the times, which are written last.
    fn own_fields(&self) -> &[u8] {
        self.bytes.get(TIMES_BYTES..).unwrap_or_default()
    }

    fn has_attribute(&self, key: &str) -> bool {
        view::attribute(self.own_fields(), key).is_some()
    }

    /// Takes an attribute out whose name is given once more: the last value counts.
    fn forget_attribute(&mut self, key: &str) {
        let Some(known) = view::attribute(self.own_fields(), key) else { return };
        let start = known.as_ptr() as usize - self.bytes.as_ptr() as usize;
        let head = 1 + varint_len(known.len() as u64); // the field's number and its length
        let range = start - head..start + known.len();
        self.bytes.drain(range);
        self.attributes -= 1;
    }

    /// A field of the context, unless the record has it itself.
    fn put_of_context(&mut self, key: &str, value: view::Value<'_>) {
        if self.has_attribute(key) {
            return;
        }
        let value = match value {
            view::Value::Bool(value) => AnyValue::Boolean(value),
            view::Value::Int(value) => AnyValue::Int(value),
            view::Value::Double(value) => AnyValue::Double(value),
            other => AnyValue::from(other.to_string()),
        };
        self.put_attribute(key, &value);
    }

    fn put_body(&mut self, body: &AnyValue) {
        let before = self.bytes.len();
        put_message_field(&mut self.bytes, 5, |out| value::put(out, body, usize::MAX));
        if self.bytes.len() > ATTRIBUTES_BYTES {
            self.bytes.truncate(before);
            count_cut();
            put_message_field(&mut self.bytes, 5, |out| {
                put_bytes_field(out, 1, b"(a body larger than a record may be)")
            });
        }
    }

    fn emit(mut self, pipeline: &Pipeline) {
        if pipeline.is_forked() {
            return pipeline.drop_forked(Signal::Logs);
        }
        let Some(current) = SpanIds::current() else { return };
        context::with_current(|attributes, left_out| {
            self.dropped_attributes += left_out;
            view::key_values(attributes, view::ATTRIBUTES).for_each(|(key, value)| self.put_of_context(key, value));
        });
        if pipeline.baggage.is_wanted() {
            pipeline.baggage.each_of_current(|key, value| {
                if !self.has_attribute(key) {
                    self.put_attribute(key, &AnyValue::from(value.to_owned()));
                }
            });
        }
        if self.dropped_attributes > 0 {
            put_varint_field(&mut self.bytes, 7, u64::from(self.dropped_attributes));
        }
        let span = self.span.take().unwrap_or(current);
        span.put(&mut self.bytes);
        let now = SystemTime::now();
        let observed = unix_nano(self.observed_time.unwrap_or(now));
        let time = self.time.map_or(observed, unix_nano);
        if let Some(times) = self.bytes.first_chunk_mut() {
            put_times(times, time, observed);
        }
        let level = view::level(self.severity_number);
        let now = unix_nano(now);
        if !pipeline.restraint.admits_target(self.scope, level, &mut self.bytes, &span, now, pipeline) {
            return;
        }
        let is_error = self.severity_number >= Severity::Error as u8;
        let urgency = if is_error { Urgency::Hurry } else { Urgency::Idle };
        let ways = pipeline.ways(self.scope, level);
        if Local::with(|local| pipeline.emit(Some(local), ways, self.scope, &self.bytes, urgency)).is_none() {
            pipeline.emit(None, ways, self.scope, &self.bytes, urgency);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let _ = Local::with(|local| local.give_scratch(bytes)); // an ending thread has no use for it
    }
}

impl LogRecord for Record {
    fn set_event_name(&mut self, name: &'static str) {
        put_bytes_field(&mut self.bytes, 12, name.as_bytes());
    }

    /// The scope, for this record alone.
    fn set_target<T: Into<Cow<'static, str>>>(&mut self, target: T) {
        if self.forks != exit::forks() {
            return; // a forked child, in which the scopes may be locked for ever
        }
        self.scope = ScopeId::of_target(&target.into());
    }

    fn set_timestamp(&mut self, timestamp: SystemTime) {
        self.time = Some(timestamp);
    }

    fn set_observed_timestamp(&mut self, timestamp: SystemTime) {
        self.observed_time = Some(timestamp);
    }

    fn set_severity_text(&mut self, text: &'static str) {
        put_bytes_field(&mut self.bytes, 3, text.as_bytes());
    }

    fn set_severity_number(&mut self, number: Severity) {
        self.severity_number = number as u8;
        put_varint_field(&mut self.bytes, 2, number as u64);
    }

    fn set_body(&mut self, body: AnyValue) {
        self.put_body(&body);
    }

    fn add_attributes<I, K, V>(&mut self, attributes: I)
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<Key>,
        V: Into<AnyValue>,
    {
        attributes.into_iter().for_each(|(key, value)| self.add_attribute(key, value));
    }

    fn add_attribute<K: Into<Key>, V: Into<AnyValue>>(&mut self, key: K, value: V) {
        let key = key.into();
        self.forget_attribute(key.as_str());
        self.put_attribute(key.as_str(), &value.into());
    }

    fn set_trace_context(&mut self, trace_id: TraceId, span_id: SpanId, flags: Option<TraceFlags>) {
        self.span = Some(SpanIds::new(trace_id, span_id, flags.unwrap_or_default()));
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

/// In the place of the stock `BatchLogProcessor`: a provider of `opentelemetry_sdk` with other processors before it stays as it is, and its
/// records go our way, with our resource. From [`Guard::log_processor`](crate::Guard::log_processor).
///
/// ```
/// use watchbell::opentelemetry_sdk::logs::SdkLoggerProvider;
///
/// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
/// if let Some(processor) = guard.log_processor() {
///     let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
/// }
/// # drop(guard.shutdown(std::time::Duration::ZERO));
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone)]
pub struct LogProcessor {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) thread: ExportThread,
}

impl opentelemetry_sdk::logs::LogProcessor for LogProcessor {
    fn emit(&self, data: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.pipeline.is_forked() {
            return self.pipeline.drop_forked(Signal::Logs);
        }
        let mut record = Record::new(&self.pipeline, ScopeId::of_scope(scope));
        record.time = data.timestamp();
        record.observed_time = data.observed_timestamp();
        if let Some(number) = data.severity_number() {
            record.set_severity_number(number);
        }
        if let Some(text) = data.severity_text() {
            record.set_severity_text(text);
        }
        if let Some(name) = data.event_name() {
            record.set_event_name(name);
        }
        if let Some(target) = data.target() {
            record.scope = ScopeId::of_target(target);
        }
        if let Some(body) = data.body() {
            record.put_body(body);
        }
        if let Some(trace) = data.trace_context() {
            record.set_trace_context(trace.trace_id, trace.span_id, trace.trace_flags);
        }
        for (key, value) in data.attributes_iter() {
            record.forget_attribute(key.as_str());
            record.put_attribute(key.as_str(), value);
        }
        record.emit(&self.pipeline);
    }

    /// Whether a record of this target goes anywhere; one without has its logger's name, which is not told here.
    fn event_enabled(&self, severity: Severity, target: &str, _: Option<&str>) -> bool {
        target.is_empty() || is_enabled(&self.pipeline, severity, target)
    }

    /// Waits five seconds at most; the guard's flush has a deadline of one's own.
    fn force_flush(&self) -> OTelSdkResult {
        self.thread.force_flush()
    }

    /// Flushes: the export goes on until the guard ends it.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.thread.flush(timeout)
    }
}

impl fmt::Debug for LogProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogProcessor").finish_non_exhaustive()
    }
}
