//! Records of the `log` crate, which `tracing-log` makes events of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber};
use tracing_log::log::{self, Level};
use tracing_log::{AsLog, LogTracer};

/// Sets the process's logger; whether its records become events, also if they did so before.
pub(crate) fn install(max_level: LevelFilter) -> bool {
    LogTracer::builder().with_max_level(max_level.as_log()).init().is_ok() || is_bridged()
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
