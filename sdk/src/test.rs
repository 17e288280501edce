//! Records as a test sees them: [`capture`] takes what the test's thread logs, whatever other tests do beside it.
//!
//! ```
//! use watchbell::tracing::{self, Level};
//!
//! fn place_order(order_id: u64) {
//!     let _span = tracing::info_span!("place_order").entered();
//!     tracing::info!(order_id, "order placed");
//! }
//!
//! let logs = watchbell::test::capture();
//! place_order(17);
//! let placed = logs.expect("order placed"); // panics with what came instead
//! assert_eq!(placed.level, Level::INFO);
//! assert_eq!(placed.field("order_id"), Some(&17.into()));
//! assert!(placed.is_in_trace());
//! logs.expect_none(Level::WARN); // or anything more severe
//! ```

mod canary;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};

use opentelemetry::Value;
use opentelemetry::trace::{SpanId, TraceContextExt, TraceId, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_core::dispatcher::WeakDispatch;
use tracing_core::field::{Field, Visit};
use tracing_core::{Dispatch, Event, Level, Metadata, Subscriber};
#[cfg(feature = "log")]
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::callsite::{LIMIT, SEVERITY};
use crate::context::FieldValue;
use crate::encode::ErrorChain;
use crate::exception::{self, Place};
use crate::lane::map_current_context;
use crate::layer::explicit_parent;
use crate::lock;
use crate::severity;
use crate::view;

pub use canary::{Canary, canary};

/// Captures the records that this thread makes while the [`Capture`] lives, those of the `log` crate too (unless the process has another
/// logger). Spans have trace ids as they have in service; nothing is exported.
///
/// Other threads and tasks take part by [`Capture::dispatch`].
///
/// ```
/// let logs = watchbell::test::capture();
/// tracing::info!("order placed");
/// logs.expect("order placed");
/// ```
#[must_use = "dropping it ends the capture"]
pub fn capture() -> Capture {
    #[cfg(feature = "log")]
    crate::log_crate::install(tracing_core::LevelFilter::TRACE); // another test, or the process itself, may have done so
    let records = Arc::<Mutex<Vec<Record>>>::default();
    let tracer = SdkTracerProvider::builder().build().tracer("watchbell.test");
    let spans = tracing_opentelemetry::layer().with_tracer(tracer);
    let spans = spans.with_filter(tracing_subscriber::filter::filter_fn(|metadata| metadata.is_span()));
    let layer = CaptureLayer { records: Arc::clone(&records), dispatch: OnceLock::new() };
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(spans).with(layer));
    let default = tracing::dispatcher::set_default(&dispatch);
    Capture { records, dispatch, _default: default }
}

/// What was logged since [`capture`].
///
/// ```
/// let logs = watchbell::test::capture();
/// tracing::info!(order_id = 17, "order placed");
/// assert!(logs.to_string().ends_with("order placed order_id=17"));
/// ```
#[derive(Debug)]
pub struct Capture {
    records: Arc<Mutex<Vec<Record>>>,
    dispatch: Dispatch,
    _default: tracing::dispatcher::DefaultGuard,
}

impl Capture {
    /// All records so far, in the order they were made.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// tracing::info!("order placed");
    /// assert_eq!(logs.records().len(), 1);
    /// ```
    pub fn records(&self) -> Vec<Record> {
        lock(&self.records).clone()
    }

    /// The first record with this message.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// assert!(logs.find("order placed").is_none());
    /// ```
    pub fn find(&self, message: &str) -> Option<Record> {
        lock(&self.records).iter().find(|record| record.message == message).cloned()
    }

    /// The first record with this message; panics with what came instead if there is none.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// tracing::info!(order_id = 17, "order placed");
    /// assert_eq!(logs.expect("order placed").field("order_id"), Some(&17.into()));
    /// ```
    #[track_caller]
    pub fn expect(&self, message: &str) -> Record {
        self.find(message).unwrap_or_else(|| panic!("no record `{message}` {self}"))
    }

    /// Panics with what came if there is a record of this level, or of a more severe one.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// tracing::info!("order placed");
    /// logs.expect_none(tracing::Level::WARN);
    /// ```
    #[track_caller]
    pub fn expect_none(&self, level: Level) {
        let found = lock(&self.records).iter().find(|record| record.level <= level).cloned();
        if let Some(record) = found {
            panic!("there is a record of level {} {self}", record.level);
        }
    }

    /// What to log to in another thread (`tracing::dispatcher::with_default`) or task (`tracing::instrument::WithSubscriber`) so that
    /// it is captured here.
    ///
    /// ```
    /// # use watchbell::tracing;
    /// let logs = watchbell::test::capture();
    /// let dispatch = logs.dispatch().clone();
    /// let worker = std::thread::spawn(move || {
    ///     tracing::dispatcher::with_default(&dispatch, || tracing::info!("from a worker"));
    /// });
    /// worker.join().unwrap();
    /// logs.expect("from a worker");
    /// ```
    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = lock(&self.records);
        write!(f, "among {}:", records.len())?;
        records.iter().try_for_each(|record| write!(f, "\n    {record}"))
    }
}

/// A log record.
///
/// ```
/// let logs = watchbell::test::capture();
/// tracing::warn!(target: "stock", "nearly sold out");
/// let record: watchbell::test::Record = logs.expect("nearly sold out");
/// assert_eq!((record.level, record.target.as_str()), (tracing::Level::WARN, "stock"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// Its level.
    pub level: Level,
    /// OpenTelemetry's number of its severity, which is the level's unless [`notice!`](crate::notice), [`fatal!`](crate::fatal) or the field `watchbell.severity` says otherwise.
    pub severity_number: u8,
    /// Where it comes from: the module, if nothing else was said.
    pub target: String,
    /// Its message; empty if it has none.
    pub message: String,
    /// Its other fields by name. Numbers beyond 64 signed bits and whatever is neither number, boolean nor string are text.
    pub fields: BTreeMap<String, Value>,
    /// The trace that it belongs to; invalid (zero) if it belongs to none.
    pub trace_id: TraceId,
    /// The span in that trace.
    pub span_id: SpanId,
}

impl Record {
    /// A field's value: `record.field("order_id") == Some(&17.into())`.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// tracing::info!(user = "ada", "logged in");
    /// assert_eq!(logs.expect("logged in").field("user"), Some(&"ada".into()));
    /// ```
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The same, where it is this one; panics with the record if it is another, or not there.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// tracing::info!(order_id = 17, user = "ada", "order placed");
    /// logs.expect("order placed").expect_field("order_id", 17_u64).expect_field("user", "ada");
    /// ```
    #[track_caller]
    pub fn expect_field(&self, name: &str, value: impl FieldValue) -> &Self {
        let mut encoded = Vec::new();
        value.put(&mut encoded);
        let wanted = owned(view::Value::new(&encoded));
        match self.field(name) {
            Some(found) if *found == wanted => self,
            Some(found) => panic!("`{name}` is `{found}`, not `{wanted}`, in\n    {self}"),
            None => panic!("there is no field `{name}` in\n    {self}"),
        }
    }

    /// Panics with both records if this one is not of the trace that the other is of.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// tracing::info_span!("place_order").in_scope(|| {
    ///     tracing::info!("order placed");
    ///     tracing::info!("mail sent");
    /// });
    /// logs.expect("mail sent").expect_in_trace_of(&logs.expect("order placed"));
    /// ```
    #[track_caller]
    pub fn expect_in_trace_of(&self, other: &Self) -> &Self {
        let is_same = self.is_in_trace() && self.trace_id == other.trace_id;
        assert!(is_same, "not of one trace:\n    {} {self}\n    {} {other}", self.trace_id, other.trace_id);
        self
    }

    /// Whether it was made inside a span.
    ///
    /// ```
    /// let logs = watchbell::test::capture();
    /// tracing::info_span!("place_order").in_scope(|| tracing::info!("order placed"));
    /// assert!(logs.expect("order placed").is_in_trace());
    /// ```
    pub fn is_in_trace(&self) -> bool {
        self.trace_id != TraceId::INVALID
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, severity_number, target, message, fields, .. } = self;
        match *severity_number {
            usual if usual == severity::of_level(*level) => write!(f, "{level}")?,
            other => f.write_str(severity::name(other))?,
        }
        write!(f, " {target}: {message}")?;
        fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

struct CaptureLayer {
    records: Arc<Mutex<Vec<Record>>>,
    dispatch: OnceLock<WeakDispatch>,
}

impl<S> Layer<S> for CaptureLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _ = self.dispatch.set(dispatch.downgrade()); // a layer belongs to one subscriber
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = match event.parent() {
            Some(parent) => explicit_parent(parent, &context, &self.dispatch),
            None if event.is_contextual() => map_current_context(|context| context.span().span_context().clone()),
            None => None,
        };
        let ids = span.map(|span| (span.trace_id(), span.span_id()));
        let (trace_id, span_id) = ids.unwrap_or((TraceId::INVALID, SpanId::INVALID)); // of none, or the thread is ending
        #[cfg(feature = "log")]
        let normalized = event.normalized_metadata();
        #[cfg(not(feature = "log"))]
        let normalized: Option<Metadata<'_>> = None;
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let (level, target) = (*metadata.level(), metadata.target().to_owned());
        let severity_number = severity::of_level(level);
        let (message, fields) = (String::new(), BTreeMap::new());
        let mut record = Record { level, severity_number, target, message, fields, trace_id, span_id };
        let has_exception = event.fields().any(|field| field.name().starts_with("exception."));
        event.record(&mut RecordVisitor { record: &mut record, metadata: event.metadata(), has_exception });
        if normalized.is_some() {
            record.fields.retain(|name, _| !name.starts_with("log."));
            #[cfg(feature = "log")]
            crate::log_crate::with_key_values(|attributes| {
                let known = view::key_values(attributes, view::ATTRIBUTES);
                record.fields.extend(known.map(|(key, value)| (key.to_owned(), owned(value))));
            });
        }
        crate::context::with_current(|attributes, _| {
            let known = view::key_values(attributes, view::ATTRIBUTES);
            for (key, value) in known {
                record.fields.entry(key.to_owned()).or_insert_with(|| owned(value));
            }
        });
        lock(&self.records).push(record);
    }
}

fn owned(value: view::Value<'_>) -> Value {
    match value {
        view::Value::Bool(value) => value.into(),
        view::Value::Int(value) => value.into(),
        view::Value::Double(value) => value.into(),
        other => other.to_string().into(),
    }
}

struct RecordVisitor<'a> {
    record: &'a mut Record,
    metadata: &'static Metadata<'static>,
    /// Whether the event tells an exception itself, or an error of it has.
    has_exception: bool,
}

impl RecordVisitor<'_> {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match (field.name(), severity::of_value(&value)) {
            (LIMIT, _) => {}
            (SEVERITY, Some(number)) => self.record.severity_number = number,
            (name, _) => drop(self.record.fields.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for RecordVisitor<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.set(field, value),
            Err(_) => self.set(field, value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.record.message),
            _ => self.set(field, value.to_owned()),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field, ErrorChain(value).to_string());
        if !self.has_exception {
            self.has_exception = true;
            exception::tell(value, Place::Callsite(self.metadata), |key, text| {
                self.record.fields.insert(key.to_owned(), text.to_string().into());
            });
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => {
                let _ = write!(self.record.message, "{value:?}"); // a faulty `Debug` cuts it short
            }
            _ => self.set(field, format!("{value:?}")),
        }
    }
}
