//! The collector: the shell around the judging core. Sockets, files, threads and clocks are here and nowhere else.

pub mod clock;
pub mod config;
pub mod wal;
