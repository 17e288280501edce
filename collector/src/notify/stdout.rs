//! `stdout_configs`: pages for whoever watches the terminal, or the container's log.
//!
//! A pipe that nobody reads blocks whoever writes into it: that is a thread of its own, and a page that it does not come to is tried again.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::oneshot;
use watchbell_rules::alerting::notification::Notification;

use super::page::{self, Style};
use super::{DeliveryError, DeliveryResult, Notifier, Tools};
use crate::wal::BoxFuture;

/// One of a receiver's `stdout_configs`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "StdoutConfig")]
pub struct Config {
    /// Whether resolved alerts are told, too. Default true.
    pub send_resolved: bool,
    /// Whether colours are used: by default only on a terminal.
    pub color: Option<bool>,
    /// How long printing a page may take; it is tried again then. Default 10 s.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { send_resolved: true, color: None, timeout: Duration::from_secs(10) }
    }
}

/// Prints pages.
pub struct Stdout {
    style: Style,
    timeout: Duration,
    tools: Tools,
}

impl Stdout {
    /// A printer with these settings.
    pub fn new(config: &Config, tools: &Tools) -> Self {
        let color = config.color.unwrap_or_else(|| io::stdout().is_terminal());
        let style = if color { Style::ANSI } else { Style::PLAIN };
        Self { style, timeout: config.timeout, tools: tools.clone() }
    }
}

impl Notifier for Stdout {
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult> {
        let page = page::text(&notification, &self.style, &self.tools.origin.links, self.tools.clock.now());
        let (writer, timeout) = (self.tools.stdout.clone(), self.timeout);
        Box::pin(async move { writer.write(page, timeout).await })
    }
}

/// The thread that prints, shared by all that do: also by those of a config that has been replaced. It ends with the last of them.
#[derive(Clone, Debug)]
pub struct Writer {
    pages: SyncSender<Page>,
    waiting: Gauge,
}

struct Page {
    text: String,
    written: oneshot::Sender<io::Result<()>>,
}

impl Writer {
    /// Starts a thread that writes into `out`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(out: impl Write + Send + 'static, metrics: &Metrics) -> io::Result<Self> {
        let (pages, waiting) = sync_channel(PAGES_MAX);
        thread::Builder::new().name("stdout".to_owned()).spawn(move || write_all(out, &waiting))?;
        Ok(Self { pages, waiting: metrics.waiting.clone() })
    }

    async fn write(&self, text: String, timeout: Duration) -> DeliveryResult {
        let passing = |reason: String| DeliveryError::Retryable { reason, after: None };
        let (written, answer) = oneshot::channel();
        self.pages.try_send(Page { text, written }).map_err(|error| match error {
            TrySendError::Full(_) => passing(format!("stdout is blocked, {PAGES_MAX} pages wait for it")),
            TrySendError::Disconnected(_) => passing("the thread that prints has ended".to_owned()),
        })?;
        self.waiting.inc();
        let answer = tokio::time::timeout(timeout, answer).await;
        self.waiting.dec();
        match answer {
            Ok(Ok(result)) => result.map_err(|error| DeliveryError::Permanent(format!("stdout: {error}"))),
            Ok(Err(_)) => Err(passing("the thread that prints has ended".to_owned())),
            Err(_) => Err(passing(format!("stdout has been blocked for {timeout:?}"))),
        }
    }
}

/// Writes what comes, but no page that nobody waits for any more: it is tried again.
fn write_all(mut out: impl Write, pages: &Receiver<Page>) {
    for page in pages.iter().filter(|page| !page.written.is_closed()) {
        let result = out.write_all(page.text.as_bytes()).and_then(|()| out.flush());
        // Whoever waited may have given up meanwhile.
        let _ = page.written.send(result);
    }
}

/// What printing counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    waiting: Gauge,
}

impl Metrics {
    /// Registers all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("watchbell_stdout_pages", "Pages that wait to be printed", metrics.waiting.clone());
        metrics
    }
}

/// Pages that wait to be printed; more are tried again later.
const PAGES_MAX: usize = 64;
