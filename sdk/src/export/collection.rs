//! When metrics are collected: each interval, and for each flush and the shutdown.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::pipeline::Pipeline;

/// Hands all metrics over to their lane.
pub(crate) type Collect = Arc<dyn Fn(&Pipeline) + Send + Sync>;

/// Collections have a thread of their own while they run: they call back into the service, and records must not wait for that.
pub(super) struct Collection {
    collect: Collect,
    pipeline: Arc<Pipeline>,
    interval: Duration,
    due: Instant,
    running: Option<JoinHandle<()>>,
    /// Whether one was asked for since the running one began.
    is_wanted_again: bool,
    /// Who waits for a collection that began after they asked.
    flushes: Vec<Sender<()>>,
}

impl Collection {
    pub(super) fn new(collect: Collect, pipeline: Arc<Pipeline>, interval: Duration) -> Self {
        let due = Instant::now() + interval;
        Self { collect, pipeline, interval, due, running: None, is_wanted_again: false, flushes: Vec::new() }
    }

    /// Collects once from now on, then tells whoever asks.
    pub(super) fn ask(&mut self, reply: Option<Sender<()>>) {
        self.flushes.extend(reply);
        match self.running {
            Some(_) => self.is_wanted_again = true,
            None => self.start(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_running()).then_some(self.due)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.due <= now && !self.is_running() {
            self.start();
        }
    }

    /// Waits for the end of the running one; for ever if there is none.
    pub(super) async fn ended(collection: &mut Option<Self>) {
        match collection.as_mut().and_then(|collection| collection.running.as_mut()) {
            Some(running) => drop(running.await), // an error is a panic of the service's own callback, and told by its hook
            None => std::future::pending().await,
        }
    }

    /// Takes note of that end; who waited for it.
    pub(super) fn handle_end(&mut self) -> Vec<Sender<()>> {
        self.running = None;
        if std::mem::take(&mut self.is_wanted_again) {
            self.start();
            return Vec::new();
        }
        std::mem::take(&mut self.flushes)
    }

    fn start(&mut self) {
        let (collect, pipeline) = (Arc::clone(&self.collect), Arc::clone(&self.pipeline));
        self.due = Instant::now() + self.interval;
        self.running = Some(tokio::task::spawn_blocking(move || collect(&pipeline)));
    }
}
