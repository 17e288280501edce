//! `stdout_configs`: pages for whoever watches the terminal, or the container's log.

use std::io::{self, IsTerminal, Write as _};
use std::sync::Arc;

use serde::Deserialize;
use watchbell_rules::alerting::notification::Notification;

use super::page::{self, Style};
use super::{DeliveryError, DeliveryResult, Notifier, Tools};
use crate::wal::BoxFuture;

/// One of a receiver's `stdout_configs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether resolved alerts are told, too. Default true.
    pub send_resolved: bool,
    /// Whether colours are used: by default only on a terminal.
    pub color: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self { send_resolved: true, color: None }
    }
}

/// Prints pages.
pub struct Stdout {
    style: Style,
    tools: Tools,
}

impl Stdout {
    /// A printer with these settings.
    pub fn new(config: &Config, tools: &Tools) -> Self {
        let color = config.color.unwrap_or_else(|| io::stdout().is_terminal());
        Self { style: if color { Style::ANSI } else { Style::PLAIN }, tools: tools.clone() }
    }
}

impl Notifier for Stdout {
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult> {
        let page = page::text(&notification, &self.style, &self.tools.links, self.tools.clock.now());
        Box::pin(async move {
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(page.as_bytes()).and_then(|()| stdout.flush());
            written.map_err(|error| DeliveryError::Permanent(format!("stdout: {error}")))
        })
    }
}
