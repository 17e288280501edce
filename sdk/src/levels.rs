//! Which events and spans are made at all.

use tracing_core::subscriber::Interest;
use tracing_core::{Level, LevelFilter, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;

/// Directives for events; spans up to INFO are always made, so that a record carries its trace whatever its level is set to.
#[derive(Clone, Debug)]
pub(crate) struct Levels {
    events: Targets,
}

impl Levels {
    pub(crate) fn new(events: Targets) -> Self {
        Self { events }
    }

    /// The most verbose level of which an event can be made.
    pub(crate) fn events_max(&self) -> LevelFilter {
        let most_verbose = self.events.iter().map(|(_, level)| level).max();
        most_verbose.max(self.events.default_level()).unwrap_or(LevelFilter::OFF)
    }

    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        let is_outer_span = metadata.is_span() && *metadata.level() <= Level::INFO;
        is_outer_span || self.events.would_enable(metadata.target(), metadata.level())
    }
}

impl<S: Subscriber> Layer<S> for Levels {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.allows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.allows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.events_max().max(LevelFilter::INFO))
    }
}
