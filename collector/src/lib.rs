//! The collector: the shell around the judging core. Sockets, files, threads and clocks are here and nowhere else.

pub mod api;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod convert;
pub mod dedup;
pub mod evaluator;
pub mod explain;
pub mod exporter;
pub mod grpc_code;
pub mod http_client;
mod inputs;
#[cfg(test)]
mod memory_log;
pub mod notify;
pub mod outbox;
#[cfg(test)]
mod pages;
pub mod pipeline;
pub mod print;
mod priority;
pub mod query;
pub mod receiver;
pub mod replay;
pub mod ruletest;
pub mod run;
pub mod telemetry;
pub mod wal;
