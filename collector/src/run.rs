//! `watchbell run`: the collector until it is told to stop.

#![allow(clippy::print_stderr)] // what goes wrong before the log is set up

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::RunArguments;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::pipeline::{Pipeline, StartError};
use crate::telemetry;

/// Runs until SIGTERM or SIGINT; the exit status is as the command's help says.
pub fn run(arguments: &RunArguments) -> ExitCode {
    if let Err(error) = telemetry::log_to_stderr(&arguments.log_level) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&StartError::System(format!("cannot start the event loop: {error}"))),
    };
    match runtime.block_on(run_until_stopped(arguments.config.clone())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &StartError) -> ExitCode {
    eprintln!("{error}");
    match error {
        StartError::Config(_) => ExitCode::from(2),
        StartError::System(_) => ExitCode::FAILURE,
    }
}

async fn run_until_stopped(config_path: Option<PathBuf>) -> Result<(), StartError> {
    let handler = |kind| signal(kind).map_err(|error| StartError::System(format!("cannot handle signals: {error}")));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut hang_up = handler(SignalKind::hangup())?;
    let config = Config::load(config_path.as_deref())?;
    let pipeline = Pipeline::start(config, config_path, SystemClock::shared()).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Beside this loop, so that it ends when it is told to, whatever holds up the log.
            _ = hang_up.recv() => drop(tokio::spawn(reload(pipeline.reload()))),
        }
    }
    pipeline.drain().await;
    Ok(())
}

async fn reload(reload: impl Future<Output = Result<Vec<&'static str>, String>>) {
    if let Err(error) = reload.await {
        tracing::error!(
            "not reloaded, what was loaded before is in force:
{error}"
        );
    }
}
