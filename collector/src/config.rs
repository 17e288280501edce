//! The config file.

pub mod duration;
pub mod environment;
