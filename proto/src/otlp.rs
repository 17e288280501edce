//! OTLP: views over log requests, the check at the door, JSON, the answers, and writers.
//!
//! A request's bytes are checked once with [`admit`] (or [`validate()`]); from then on the views in [`logs`] read them without
//! copying or allocating. A view's fields are ready to use; its methods do some work, such as the UTF-8 check of a string.
//! On bytes that were never checked a view is still safe: it ends early, and a string that is not UTF-8 reads as empty.
//!
//! Requests of one signal are joined by joining their bytes: that is what protobuf means by a repeated field.

#[cfg(feature = "messages")]
pub mod common;
#[cfg(feature = "messages")]
pub mod encode;
#[cfg(all(test, feature = "messages"))]
mod generate;
#[cfg(feature = "messages")]
pub mod json;
#[cfg(feature = "messages")]
pub mod logs;
#[cfg(feature = "messages")]
pub mod resource;
#[cfg(feature = "messages")]
mod rewrite;
#[cfg_attr(not(feature = "messages"), allow(dead_code))] // what the others need of it
pub(crate) mod schema;
#[cfg(feature = "messages")]
pub mod service;
pub mod to_json;
#[cfg(feature = "messages")]
pub mod validate;

#[cfg(feature = "messages")]
pub use rewrite::{Admitted, Cut, admit, cut, merge_repeated, split_at};
pub use to_json::to_json;
#[cfg(feature = "messages")]
pub use validate::{Limits, Walked, validate};

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `ExportLogsServiceRequest`: log records.
    Logs,
    /// `ExportTraceServiceRequest`: spans.
    Traces,
    /// `ExportMetricsServiceRequest`: data points.
    Metrics,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Metrics];

    /// `logs`, `traces` or `metrics`: as in configuration, paths of OTLP/HTTP and names of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// What one record of the signal is called, in the plural: `log records`, `spans` or `data points`.
    pub fn records_name(self) -> &'static str {
        match self {
            Self::Logs => "log records",
            Self::Traces => "spans",
            Self::Metrics => "data points",
        }
    }
}
