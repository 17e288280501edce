//! What the collector says of itself: log lines on stderr, metrics on `/metrics`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Content type of [`Metrics::encode_openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of [`Metrics::encode_prometheus`].
pub const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Sends the collector's own log lines to stderr, at `level` (or by directives, as in `RUST_LOG`).
///
/// # Errors
/// The directives do not parse, or a word of them is no level: as the name of a target alone it would silence all the rest.
pub fn log_to_stderr(level: &str) -> Result<(), String> {
    let filter = filter(level)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

fn filter(directives: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
    if let Some(word) = directives.split(',').map(str::trim).find(|word| !word.contains(['=', '[']) && !is_level(word))
    {
        return Err(format!(
            "`{word}` is no log level: write off, error, warn, info, debug or trace, or a target's as {word}=debug"
        ));
    }
    EnvFilter::try_new(directives).map_err(|error| format!("`{directives}` is no log level: {error}"))
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
    pub fn encode_openmetrics(&self) -> String {
        let mut encoded = String::new();
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut encoded, &self.0.lock().unwrap_or_else(PoisonError::into_inner));
        encoded
    }

    /// The metrics in Prometheus's older text format, which knows counters by the names of their samples, and neither units nor an end.
    pub fn encode_prometheus(&self) -> String {
        let text = self.encode_openmetrics();
        let counters: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let lines = text.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF");
        lines.map(|line| named_as_samples(line, &counters) + "\n").collect()
    }
}

/// A line of OpenMetrics text; where it describes a counter, the name gets the samples' `_total`.
fn named_as_samples(line: &str, counters: &BTreeSet<&str>) -> String {
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
            format!("# {what} {name}_total {rest}")
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_is_no_level_is_refused() {
        for directives in ["info", "WARN", "off", "", "info,hyper=debug", "hyper=debug", "[span]=debug"] {
            assert!(filter(directives).is_ok(), "{directives}");
        }
        for (directives, word) in [("loud", "loud"), ("info,verbose", "verbose"), ("hyper=loud", "hyper=loud")] {
            let error = filter(directives).unwrap_err();
            assert!(error.starts_with(&format!("`{word}` is no log level")), "{error}");
        }
    }

    #[test]
    fn counters_are_described_by_their_samples_names() {
        let metrics = Metrics::default();
        let counter = metrics.register(|registry| {
            let counter: Counter = Counter::default();
            registry.register("watchbell_pages", "Pages that left", counter.clone());
            counter
        });
        counter.inc();
        let openmetrics =
            "# HELP watchbell_pages Pages that left.\n# TYPE watchbell_pages counter\nwatchbell_pages_total 1\n# EOF\n";
        assert_eq!(metrics.encode_openmetrics(), openmetrics);
        let prometheus = "# HELP watchbell_pages_total Pages that left.\n# TYPE watchbell_pages_total counter\nwatchbell_pages_total 1\n";
        assert_eq!(metrics.encode_prometheus(), prometheus);
    }
}
