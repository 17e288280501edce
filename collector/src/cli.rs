//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Watches log streams and rings when they go wrong.
///
/// `watchbell run` takes OpenTelemetry logs, traces and metrics by OTLP on 127.0.0.1:4317 (gRPC) and 127.0.0.1:4318 (HTTP), makes each
/// batch durable, judges every log record against the rules in ./rules/*.yaml the moment it arrives, and prints pages. Everything has a
/// default; a config file says where to forward, whom to page, and how.
#[derive(Debug, Parser)]
#[command(name = "watchbell", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the collector: receive, make durable, judge, page, forward
    ///
    /// SIGTERM and Ctrl-C drain: no new requests are taken, what is in hand is finished. SIGHUP and `POST /-/reload` load the config's rule
    /// files and alerting again; a file with a mistake never replaces a good running one. The exit status is 0 after a drain, 1 when it
    /// could not start, 2 when the command line or the config is wrong.
    Run(RunArguments),

    /// Check rule files and config files, and say what is wrong where
    ///
    /// Prints every mistake with its line, column and what was probably meant, and warns of what is legal but will surprise. The exit
    /// status is 0 when all files are right (warnings allowed), 1 when one has a mistake, 2 when one cannot be read.
    Check(CheckArguments),
}

/// Arguments of `watchbell run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The config file; without one everything has its default
    #[arg(long, short, value_name = "FILE", env = "WATCHBELL_CONFIG")]
    pub config: Option<PathBuf>,

    /// What the collector says of itself on stderr: error, warn, info, debug, trace, or directives as in RUST_LOG
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WATCHBELL_LOG")]
    pub log_level: String,
}

/// Arguments of `watchbell check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Rule files, or folders of them (*.yaml, *.yml)
    #[arg(value_name = "FILE|DIR", required_unless_present = "config")]
    pub paths: Vec<PathBuf>,

    /// Check this config file, and the rule files that it names
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Warnings count as mistakes
    #[arg(long)]
    pub deny_warnings: bool,
}
