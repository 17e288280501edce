//! Tests of the whole: end to end, with the real servers and clients that `peers/` installs.
#![cfg(test)]

mod support;

mod promtool_oracle;
mod simulation;
mod tidy;
