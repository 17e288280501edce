//! How full the evaluator's state is: its limits are counts of what rules and records make of one another, so they are looked at now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use watchbell_rules::logql::regexp;

use super::Evaluator;

/// Gauges beside the evaluator's limits.
#[derive(Clone, Debug, Default)]
pub(super) struct Fullness {
    groups: Gauge,
    groups_refused: Counter,
    regex_texts_too_long: Counter,
    window_cells: Gauge,
    windows_estimated: Gauge,
    evidence_bytes: Gauge,
    patterns: Gauge,
    patterns_withheld: Counter,
    evaluations: Counter,
    sources: Gauge,
    watermark: Gauge<f64, AtomicU64>,
    warming: Gauge,
    filling: Gauge,
    fill_ratio: Gauge<f64, AtomicU64>,
    fill_left_bytes: Gauge,
    gap_seconds: Gauge<f64, AtomicU64>,
    gap_end: Gauge<f64, AtomicU64>,
    rules_failing: Gauge,
    pending: Gauge,
    firing: Gauge,
    alert_groups: Gauge,
    alert_groups_overflowed: Counter,
    requests: Gauge,
    looked_at: Option<Duration>,
}

impl Fullness {
    /// Registers all.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let fullness = Self::default();
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge(
            "groups",
            "Groups of all rules that have a window; the limit of each rule is groups_per_rule_max",
            &fullness.groups,
        );
        gauge("window_cells", "Cells of all windows; above window_cells_max each keeps fewer", &fullness.window_cells);
        gauge(
            "windows_estimated",
            "Windows with so many samples that their quantiles are estimates; /api/v1/rules says how near",
            &fullness.windows_estimated,
        );
        gauge(
            "evidence_bytes",
            "Bytes of the records kept for pages; the limit is evidence_bytes_max",
            &fullness.evidence_bytes,
        );
        gauge("patterns", "Patterns that the rules with `new_pattern` remember", &fullness.patterns);
        gauge("sources", "Sources that the watermark waits for", &fullness.sources);
        gauge(
            "rules_warming",
            "Rules that tell nothing yet: their windows are not known whole, or nobody listened for a part of them",
            &fullness.warming,
        );
        gauge(
            "rules_filling",
            "Rules that are not in force yet: they look far back, and are filled from the log aside",
            &fullness.filling,
        );
        gauge(
            "fill_left_bytes",
            "Bytes of the log that are yet to be read for them, what has come since among them",
            &fullness.fill_left_bytes,
        );
        gauge(
            "rules_failing",
            "Rules that could not be evaluated, or only in part; /api/v1/rules has the reasons",
            &fullness.rules_failing,
        );
        gauge("alerts_pending", "Alerts that are pending", &fullness.pending);
        gauge("alerts_firing", "Alerts that are firing", &fullness.firing);
        gauge("alert_groups", "Groups of alerts that messages are made of", &fullness.alert_groups);
        gauge("requests", "Questions that wait for the evaluator", &fullness.requests);
        let help = "Event time that all active sources have reached, in Unix time";
        registry.register("watermark_timestamp_seconds", help, fullness.watermark.clone());
        let help = "How much of what they need has been read, from 0 to 1; 1 where there are none";
        registry.register("fill_ratio", help, fullness.fill_ratio.clone());
        let help = "How long nobody listened before the last start that came later than in a moment";
        registry.register("last_gap_seconds", help, fullness.gap_seconds.clone());
        let help = "When that ended, in Unix time";
        registry.register("last_gap_end_timestamp_seconds", help, fullness.gap_end.clone());
        let help = "New patterns told together with others because their group had more than max_new in a window";
        registry.register("patterns_withheld", help, fullness.patterns_withheld.clone());
        let help = "Times a rule was evaluated at a step of event time, since the rules were loaded";
        registry.register("rule_evaluations", help, fullness.evaluations.clone());
        let help = "Times a group found no place under groups_per_rule_max, since the rules were loaded";
        registry.register("groups_refused", help, fullness.groups_refused.clone());
        let help = "Texts in which a regular expression, of a rule or a query, looked for nothing: it would have taken too many steps";
        registry.register("regex_texts_too_long", help, fullness.regex_texts_too_long.clone());
        let help = "Alerts that joined a group without labels, there being too many groups";
        registry.register("alert_groups_overflowed", help, fullness.alert_groups_overflowed.clone());
        fullness
    }

    /// Looks at the evaluator, at most once in [`INTERVAL`].
    pub(super) fn look_at(&mut self, evaluator: &Evaluator, requests: usize, now: Duration) {
        if self.looked_at.is_some_and(|before| now.saturating_sub(before) < INTERVAL) {
            return;
        }
        self.looked_at = Some(now);
        let (engine, alerting) = (evaluator.engine_stats(), evaluator.alerting());
        self.groups.set(engine.groups as i64);
        self.window_cells.set(engine.window_cells as i64);
        if engine.windows_estimated > 0 && self.windows_estimated.get() == 0 {
            tracing::warn!("quantiles of windows with very many samples are estimates now: /api/v1/rules says which");
        }
        self.windows_estimated.set(engine.windows_estimated as i64);
        self.evidence_bytes.set(engine.evidence_bytes as i64);
        self.patterns.set(engine.patterns as i64);
        self.sources.set(engine.sources as i64);
        self.watermark.set(engine.watermark.nanos() as f64 / 1e9);
        self.warming.set(engine.warming as i64);
        let fill = evaluator.fill_progress();
        self.filling.set(fill.map_or(0, |fill| fill.rules as i64));
        self.fill_ratio.set(fill.map_or(1.0, |fill| fill.ratio));
        self.fill_left_bytes.set(fill.map_or(0, |fill| fill.left_bytes as i64));
        if let Some(gap) = evaluator.last_gap() {
            self.gap_seconds.set(gap.missing.as_secs_f64());
            self.gap_end.set(gap.until.seconds());
        }
        self.rules_failing.set(engine.failing as i64);
        self.pending.set(engine.pending as i64);
        self.firing.set(engine.firing as i64);
        self.alert_groups.set(alerting.groups_len() as i64);
        self.requests.set(requests as i64);
        self.patterns_withheld.inner().store(engine.patterns_withheld, Ordering::Relaxed);
        self.evaluations.inner().store(engine.evaluations, Ordering::Relaxed);
        self.groups_refused.inner().store(engine.groups_refused, Ordering::Relaxed);
        self.regex_texts_too_long.inner().store(regexp::texts_too_long(), Ordering::Relaxed);
        self.alert_groups_overflowed.inner().store(alerting.overflowed(), Ordering::Relaxed);
    }
}

/// Every alert is counted: that may take a millisecond.
const INTERVAL: Duration = Duration::from_secs(1);
