//! The judging core of Watchbell: rule files, LogQL, the streaming engine, alert states and the alerting policy.
//!
//! Everything here is pure. Time is an argument, input is bytes, output is transitions and notifications: no clock, file,
//! socket, thread or hash-map order is read in this crate.

pub mod alerting;
pub mod diagnostic;
pub mod labels;
pub mod lint;
pub mod logql;
pub mod record;
pub mod rule_file;
pub mod template;
pub mod time;
pub mod transition;

#[cfg(test)]
mod datadriven;
mod yaml;
