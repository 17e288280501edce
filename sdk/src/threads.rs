//! The threads behind a guard: that of the export, and one for each sink.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::export::{Command, ExportThread};
use crate::sink::SinkThread;

/// The ways to the threads that there are.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    pub(crate) export: Option<ExportThread>,
    pub(crate) sinks: Vec<SinkThread>,
}

impl Threads {
    /// Waits until all that was recorded before is written and has been answered for, at most `timeout`; whether it is.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let sinks = self.sinks.iter().map(SinkThread::flush).collect();
        let export = self.export.as_ref().map(|thread| {
            let (reply, settled) = mpsc::channel();
            thread.ask(Command::Flush(reply));
            settled
        });
        wait(sinks, export, timeout, Duration::ZERO)
    }

    /// Does the same and ends the threads; `grace` is how much longer than that their answer is waited for.
    pub(crate) fn shut_down(&self, timeout: Duration, grace: Duration) {
        let sinks = self.sinks.iter().map(SinkThread::shut_down).collect();
        let export = self.export.as_ref().map(|thread| {
            let (reply, done) = mpsc::channel();
            thread.ask(Command::Shutdown(Instant::now().checked_add(timeout), reply));
            done
        });
        wait(sinks, export, timeout, grace); // ledger and accounts tell what is missing
    }
}

/// All work at the same time, under one deadline. A thread that is not there has dropped the other end.
fn wait(sinks: Vec<Receiver<()>>, export: Option<Receiver<()>>, timeout: Duration, grace: Duration) -> bool {
    let started = Instant::now();
    let left = || timeout.saturating_add(grace).saturating_sub(started.elapsed());
    let missing = export.into_iter().chain(sinks).filter(|reply| reply.recv_timeout(left()).is_err());
    missing.count() == 0
}
