//! The judging core of Watchbell: rule files, LogQL, the streaming engine, alert states and the alerting policy.
//!
//! Everything here is pure. Time is an argument, input is bytes, output is transitions and notifications: no clock, file,
//! socket, thread or hash-map order is read in this crate.

pub mod alert;
pub mod alerting;
pub mod backtest;
pub mod convert;
pub mod detect;
pub mod diagnostic;
pub mod engine;
pub mod entry;
pub mod explain;
pub mod labels;
pub mod lint;
pub mod literal_index;
pub mod logql;
pub mod loki_push;
pub mod matcher;
pub mod otlp_labels;
pub mod pipeline;
pub mod plan;
pub mod query;
pub mod record;
pub mod rule_file;
pub mod rule_test;
pub mod snapshot;
pub mod template;
pub mod time;
pub mod transition;
pub mod vector;
pub mod watermark;
pub mod window;
pub mod yaml;

#[cfg(test)]
mod datadriven;
