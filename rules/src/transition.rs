//! What the engine says: alerts that change their state, and samples of computed series.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::record::EvidenceRecord;
use crate::time::Timestamp;

/// The state of one alert (one label set of one rule), in Prometheus's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition does not hold.
    #[default]
    Inactive,
    /// The condition holds, but not yet for the rule's `for`.
    Pending,
    /// The condition has held for the rule's `for`: somebody is to know.
    Firing,
}

/// One change of one alert's state; `to` is `Inactive` when it is resolved (from `Firing`) or forgotten (from `Pending`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The state before.
    pub from: AlertState,
    /// The state after.
    pub to: AlertState,
    /// The alert as it stands after the change.
    pub alert: Arc<Alert>,
    /// The log's clock when it changed.
    pub at: Timestamp,
    /// Receive time of the batch that caused it; `None` when a timer did.
    pub cause: Option<Timestamp>,
}

/// An alert with all that a notification shows of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Name of the rule group.
    pub group: Arc<str>,
    /// The rule's `expr`, as it stands in the file, or as it follows from `detect`.
    pub expr: Arc<str>,
    /// The kind of the rule's detector (`flatline`), if it has one.
    #[serde(default)]
    pub detector: Option<Arc<str>>,
    /// The rule's `for`.
    pub hold: Duration,
    /// The rule's `keep_firing_for`.
    pub keep_firing_for: Duration,
    /// Labels with `alertname` and the rule's own; they identify the alert.
    pub labels: Labels,
    /// Annotations, templates expanded when the value last changed.
    pub annotations: Labels,
    /// Value of the expression: when it began to fire, then once an interval of the rule's group as long as the condition holds.
    #[serde(with = "float")]
    pub value: f64,
    /// The comparison that the value was held against, if `expr` is one with a literal: (`">"`, 20.0).
    pub bound: Option<(String, f64)>,
    /// When the condition began to hold.
    pub active_at: Timestamp,
    /// When it began to fire, if it has.
    pub fired_at: Option<Timestamp>,
    /// When the batch came in whose record made it fire; `None` where that was time.
    #[serde(default)]
    pub crossed_at: Option<Timestamp>,
    /// When it was resolved, if it is.
    pub resolved_at: Option<Timestamp>,
    /// The last records behind it, oldest first.
    pub samples: Vec<EvidenceRecord>,
}

/// One point of a computed series: a recording rule's result, `ALERTS` or `ALERTS_FOR_STATE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The series, `__name__` among its labels.
    pub labels: Labels,
    /// When; within a series stamps only grow.
    pub time: Timestamp,
    /// The value; [`STALE`](Self::STALE_BITS) marks the end of the series.
    pub value: f64,
}

impl Sample {
    /// Bits of the NaN by which Prometheus marks a series as ended.
    pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

    /// The marker that ends a series.
    pub fn stale_marker() -> f64 {
        f64::from_bits(Self::STALE_BITS)
    }
}

/// A float that may be infinite or no number, which JSON has no way to say.
mod float {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a number")))
    }
}
