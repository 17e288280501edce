//! A function of the service's own that sees each log record before it goes anywhere, and may change it.
//!
//! ```
//! use watchbell::tracing;
//!
//! # let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
//! # let sink = { let told = told.clone(); watchbell::sink::Sink::callback("t", move |record| told.lock().unwrap().push(record.to_string())) };
//! let guard = watchbell::builder()
//!     .patch(|draft| {
//!         if draft.record().message().starts_with("health check") {
//!             return draft.discard();
//!         }
//!         draft.set("build.commit", "4f1c2aa");
//!         if let Some(path) = draft.record().attribute("url.path").and_then(|path| path.as_str().map(str::to_lowercase)) {
//!             draft.set("url.path", path);
//!         }
//!     })
//!     # .variables([("OTEL_SDK_DISABLED", "true")])
//!     # .sink(sink)
//!     .init()?;
//! tracing::info!(url.path = "/Cart", "request");
//! tracing::info!("health check passed");
//! # drop(guard);
//! # let told = told.lock().unwrap();
//! # assert_eq!(told.len(), 1);
//! # assert!(told[0].contains(r#"build.commit="4f1c2aa" url.path="/cart""#), "{}", told[0]);
//! # Ok::<(), watchbell::InitError>(())
//! ```
//!
//! It is called in the thread that logs, for records by every door and for those of panics, and costs that thread a copy of the record. What it sets is
//! [redacted](crate::redact) as everything else; fields that are redacted by their key are so already when it sees them. What it logs itself is not
//! shown to it. If it panics, the record goes as it was, and that is told once on stderr; a panic's own record it is shown in another thread, where it may panic, too.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use watchbell_proto::wire::{
    Fields, Value as Wire, put_bytes_field, put_fixed32_field, put_fixed64_field, put_message_field, put_varint_field,
};

use crate::callsite::{Scope, ScopeId, put_attribute};
use crate::caught::caught;
use crate::context::FieldValue;
use crate::limits::cut;
use crate::redact::Redaction;
use crate::tell;
use crate::view::{ATTRIBUTES, Record, key_value};

/// The functions of a pipeline, in the order they were given.
#[derive(Clone, Default)]
pub(crate) struct Patches(Vec<Arc<Patch>>);

type Patch = dyn Fn(&mut Draft<'_>) + Send + Sync;

impl Patches {
    pub(crate) fn add(&mut self, patch: impl Fn(&mut Draft<'_>) + Send + Sync + 'static) {
        self.0.push(Arc::new(patch));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The record as the functions leave it; `None` if one discards it.
    #[cold]
    pub(crate) fn apply(&self, scope: ScopeId, record: &[u8], redaction: Option<&Redaction>) -> Option<Vec<u8>> {
        let Some(_within) = Within::enter() else { return Some(record.to_vec()) };
        let patched = caught(|| {
            let _within = Within::enter(); // in a panic this is another thread
            self.applied(scope, record, redaction)
        });
        patched.unwrap_or_else(|| Some(record.to_vec()))
    }

    fn applied(&self, scope: ScopeId, record: &[u8], redaction: Option<&Redaction>) -> Option<Vec<u8>> {
        let mut draft = Draft { scope: scope.scope(), bytes: record.to_vec(), redaction, is_discarded: false };
        for patch in &self.0 {
            let before = draft.bytes.clone();
            if caught(|| patch(&mut draft)).is_none() {
                (draft.bytes, draft.is_discarded) = (before, false);
                tell_panic();
            }
            if draft.is_discarded {
                return None;
            }
        }
        Some(draft.bytes)
    }
}

impl fmt::Debug for Patches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Patches").field(&self.0.len()).finish()
    }
}

fn tell_panic() {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    if !IS_TOLD.swap(true, Ordering::Relaxed) {
        tell::error(format_args!("a patch of log records panics: they go as they were"));
    }
}

/// That the thread is in a patch, so that what that logs does not come back to it.
struct Within;

thread_local!(static IS_WITHIN: Cell<bool> = const { Cell::new(false) });

impl Within {
    fn enter() -> Option<Self> {
        (!IS_WITHIN.replace(true)).then_some(Self)
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        IS_WITHIN.set(false);
    }
}

/// A log record that may still be changed. The [module](self) has an example.
///
/// ```
/// let builder = watchbell::builder().patch(|draft| draft.set("region", "eu-1"));
/// ```
pub struct Draft<'a> {
    scope: &'static Scope,
    bytes: Vec<u8>,
    redaction: Option<&'a Redaction>,
    is_discarded: bool,
}

impl Draft<'_> {
    /// The record as it is so far.
    ///
    /// ```
    /// let builder = watchbell::builder().patch(|draft| {
    ///     let is_probe = draft.record().attribute("url.path").and_then(|path| path.as_str()) == Some("/healthz");
    ///     if is_probe {
    ///         draft.discard();
    ///     }
    /// });
    /// ```
    pub fn record(&self) -> Record<'_> {
        Record::new(&self.scope.message, &self.bytes)
    }

    /// Sets an attribute: a number, a truth value, a text, or what `format_args!` makes.
    ///
    /// ```
    /// let builder = watchbell::builder().patch(|draft| draft.set("build.number", 4711));
    /// ```
    pub fn set(&mut self, key: &str, value: impl FieldValue) {
        self.remove(key);
        let mut attribute = Vec::new();
        put_attribute(&mut attribute, key, |out| value.put(out));
        match self.redaction {
            Some(redaction) => redaction.put_attributes(&mut self.bytes, &attribute),
            None => self.bytes.extend_from_slice(&attribute),
        }
    }

    /// Takes an attribute away.
    ///
    /// ```
    /// let builder = watchbell::builder().patch(|draft| draft.remove("thread.name"));
    /// ```
    pub fn remove(&mut self, key: &str) {
        if self.record().attribute(key).is_some() {
            self.keep(|number, bytes| number != ATTRIBUTES || key_value(bytes).0 != key);
        }
    }

    /// Sets the message.
    ///
    /// ```
    /// let builder = watchbell::builder().patch(|draft| {
    ///     let shorter: String = draft.record().message().chars().take(200).collect();
    ///     draft.set_message(&shorter);
    /// });
    /// ```
    pub fn set_message(&mut self, message: &str) {
        self.keep(|number, _| number != BODY);
        put_message_field(&mut self.bytes, BODY, |out| put_bytes_field(out, 1, cut(message).as_bytes()));
    }

    /// Sets OpenTelemetry's severity, 1 to 24, and its name. Where the record goes is decided again by its level.
    ///
    /// ```
    /// let builder = watchbell::builder().patch(|draft| {
    ///     if draft.record().target().starts_with("legacy") && draft.record().severity_number() >= 17 {
    ///         draft.set_severity(13, "WARN");
    ///     }
    /// });
    /// ```
    pub fn set_severity(&mut self, number: u8, text: &str) {
        self.keep(|number, _| number != SEVERITY_NUMBER && number != SEVERITY_TEXT);
        put_varint_field(&mut self.bytes, SEVERITY_NUMBER, u64::from(number));
        put_bytes_field(&mut self.bytes, SEVERITY_TEXT, cut(text).as_bytes());
    }

    /// The record goes nowhere, and counts nowhere.
    ///
    /// ```
    /// let builder = watchbell::builder().patch(|draft| {
    ///     if draft.record().target() == "noisy" {
    ///         draft.discard();
    ///     }
    /// });
    /// ```
    pub fn discard(&mut self) {
        self.is_discarded = true;
    }

    /// Keeps those fields of the message for which `is_kept` is true; the bytes of one that is a number are empty.
    fn keep(&mut self, is_kept: impl Fn(u32, &[u8]) -> bool) {
        let mut kept = Vec::with_capacity(self.bytes.len());
        for (number, value) in Fields::new(&self.bytes) {
            let bytes = if let Wire::Bytes(bytes) = value { bytes } else { &[] };
            if !is_kept(number, bytes) {
                continue;
            }
            match value {
                Wire::Bytes(bytes) => put_bytes_field(&mut kept, number, bytes),
                Wire::Varint(value) => put_varint_field(&mut kept, number, value),
                Wire::Fixed64(value) => put_fixed64_field(&mut kept, number, value),
                Wire::Fixed32(value) => put_fixed32_field(&mut kept, number, value),
            }
        }
        self.bytes = kept;
    }
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Draft").field(&self.record()).finish()
    }
}

/// Numbers of a `LogRecord`'s fields.
const SEVERITY_NUMBER: u32 = 2;
const SEVERITY_TEXT: u32 = 3;
const BODY: u32 = 5;
