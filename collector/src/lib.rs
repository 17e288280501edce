//! The collector: the shell around the judging core. Sockets, files, threads and clocks are here and nowhere else.

pub mod clock;
pub mod config;
pub mod dedup;
pub mod grpc_code;
pub mod http_client;
#[cfg(test)]
mod memory_log;
pub mod receiver;
pub mod wal;
