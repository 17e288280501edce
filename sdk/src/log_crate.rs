//! Records of the `log` crate, which `tracing-log` makes events of, and their key-values, which it leaves behind.

use std::cell::Cell;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::kv::{self, Key, VisitSource, VisitValue};
use log::{Level, Log};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber};
use tracing_log::{AsLog, LogTracer};
use watchbell_proto::wire::{put_bytes_field, put_fixed64_field, put_varint_field};

use crate::callsite::put_attribute;
use crate::encode::ErrorChain;
use crate::lane::SCRATCH_BYTES_MAX;
use crate::limits::cut;
use crate::record::put_text_field;

/// Sets the process's logger; whether its records become events, also if they did so before.
pub(crate) fn install(max_level: LevelFilter) -> bool {
    let is_ours = log::set_boxed_logger(Box::new(Bridge(LogTracer::new()))).is_ok();
    IS_OURS.fetch_or(is_ours, Ordering::Relaxed);
    set_max_level(max_level);
    is_ours || is_bridged()
}

/// Sets the most verbose level that a record may have, if the process's logger is ours.
pub(crate) fn set_max_level(max_level: LevelFilter) {
    if IS_OURS.load(Ordering::Relaxed) {
        log::set_max_level(max_level.as_log());
    }
}

static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Makes events, and holds a record's key-values ready for them.
struct Bridge(LogTracer);

impl Log for Bridge {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut attributes = SPARE.try_with(Cell::take).unwrap_or_default(); // a record within a record has an empty one
        let _ = record.key_values().visit(&mut KeyValues(&mut attributes)); // a fault of a value ends the list
        let outer = KEY_VALUES.try_with(|kept| kept.replace(attributes)).unwrap_or_default();
        self.0.log(record);
        let mut attributes = KEY_VALUES.try_with(|kept| kept.replace(outer)).unwrap_or_default();
        if attributes.capacity() <= SCRATCH_BYTES_MAX {
            attributes.clear();
            let _ = SPARE.try_with(|spare| spare.set(attributes)); // an ending thread has no further use for it
        }
    }

    fn flush(&self) {}
}

thread_local! {
    /// Attributes of the record that is being logged, as fields of a `LogRecord`. A record within a record (a `Display` that logs) has its own.
    static KEY_VALUES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };

    /// Where the next record's are written, so that they need not be allocated for.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `f` with the key-values of the record that is being logged, encoded as attributes of a `LogRecord`.
#[inline]
pub(crate) fn with_key_values(f: impl FnOnce(&[u8])) {
    let _ = KEY_VALUES.try_with(|kept| {
        let attributes = kept.take();
        f(&attributes);
        kept.set(attributes);
    });
}

struct KeyValues<'a>(&'a mut Vec<u8>);

impl<'v> VisitSource<'v> for KeyValues<'_> {
    fn visit_pair(&mut self, key: Key<'v>, value: kv::Value<'v>) -> Result<(), kv::Error> {
        let mut result = Ok(());
        put_attribute(self.0, key.as_str(), |out| result = value.visit(AnyValue(out)));
        result
    }
}

/// Writes the content of an `AnyValue`.
struct AnyValue<'a>(&'a mut Vec<u8>);

impl<'v> VisitValue<'v> for AnyValue<'_> {
    fn visit_any(&mut self, value: kv::Value<'_>) -> Result<(), kv::Error> {
        put_text_field(self.0, format_args!("{value}"), usize::MAX);
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_any(value.into()),
        }
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        put_varint_field(self.0, 3, value as u64);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        put_fixed64_field(self.0, 4, value.to_bits());
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        put_varint_field(self.0, 2, u64::from(value));
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        put_bytes_field(self.0, 1, cut(value).as_bytes());
        Ok(())
    }

    fn visit_error(&mut self, error: &(dyn Error + 'static)) -> Result<(), kv::Error> {
        put_text_field(self.0, format_args!("{}", ErrorChain(error)), usize::MAX);
        Ok(())
    }
}

/// Whether the logger that is there asks `tracing` what is wanted.
fn is_bridged() -> bool {
    let is_asked = Arc::<AtomicBool>::default();
    let metadata = log::Metadata::builder().level(Level::Error).target("watchbell").build();
    tracing::dispatcher::with_default(&Dispatch::new(Probe(Arc::clone(&is_asked))), || {
        log::logger().enabled(&metadata)
    });
    is_asked.load(Ordering::Relaxed)
}

/// A subscriber that hears whether it is asked.
struct Probe(Arc<AtomicBool>);

impl Subscriber for Probe {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        self.0.store(true, Ordering::Relaxed);
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
