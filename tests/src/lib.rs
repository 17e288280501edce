//! Tests of the whole: end to end, with the real servers and clients that `peers/` installs.
#![cfg(test)]

mod support;

mod alertmanager;
mod alertmanager_oracle;
mod bad_input;
mod crash;
mod end_to_end;
mod fill;
mod foreign_clients;
mod grafana;
mod helm;
mod levels;
mod limits;
mod loki_api;
mod mailpit;
mod one_trace;
mod otelcol;
mod outage;
mod prometheus;
mod promtool_oracle;
mod python_service;
mod reqwest_example;
mod sdk_errors;
mod sdk_losses;
mod sdk_tls;
mod simulation;
mod tidy;
mod tls;
mod victoria_logs;
