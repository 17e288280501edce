//! What the collector says of itself: log lines on stderr, metrics on `/metrics`.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

/// Content type of [`Metrics::encode`]'s text.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sends the collector's own log lines to stderr, at `level` (or by directives, as in `RUST_LOG`).
///
/// # Errors
/// The directives do not parse.
pub fn log_to_stderr(level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("`{level}` is no log level: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

/// All metrics of the process. Each component registers its own at the start; reading takes the lock, counting does not.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Lets a component register what it counts.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut encoded = String::new();
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut encoded, &self.0.lock().unwrap_or_else(PoisonError::into_inner));
        encoded
    }
}
