//! A network that loses messages and answers, and what is at its far end.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use watchbell_collector::exporter::queue::{Request, SendResult};
use watchbell_collector::notify::{DeliveryError, DeliveryResult};
use watchbell_rules::alerting::notification::Notification;

use super::process::Process;

/// The network, the contact point and the exporter's endpoint.
pub(super) struct Network {
    random: Rng,
    healthy: bool,
    /// Messages that have arrived, in that order, copies too.
    pub(super) pages: Vec<Arc<Notification>>,
    /// Payloads that have arrived at the exporter's endpoint.
    pub(super) exported: BTreeSet<Bytes>,
    answers: Vec<Answer>,
}

enum Answer {
    Page(String, DeliveryResult),
    Export(u64, SendResult),
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        let random = Rng::with_seed(seed ^ 0x006e_6574);
        Self { random, healthy: false, pages: Vec::new(), exported: BTreeSet::new(), answers: Vec::new() }
    }

    /// Loses nothing from now on.
    pub(super) fn heal(&mut self) {
        self.healthy = true;
    }

    pub(super) fn send_page(&mut self, notification: Arc<Notification>) {
        let key = notification.key.clone();
        let (arrives, answered) = self.fate();
        if arrives {
            self.pages.push(notification);
        }
        let failed = DeliveryError::Retryable { reason: "the connection broke".to_owned(), after: None };
        self.answers.push(Answer::Page(key, if answered { Ok(()) } else { Err(failed) }));
    }

    pub(super) fn send_export(&mut self, request: Request) {
        let (arrives, answered) = self.fate();
        if arrives {
            self.exported.extend(request.payloads.into_iter().map(|payload| payload.bytes));
        }
        let failed = SendResult::Retryable { after: None, reason: "the connection broke".to_owned() };
        let result = if answered { SendResult::Delivered { rejected: 0 } } else { failed };
        self.answers.push(Answer::Export(request.id, result));
    }

    /// Brings the sender some answers, in any order.
    pub(super) fn deliver(&mut self, process: &mut Process) {
        let count = if self.healthy { self.answers.len() } else { self.random.usize(..=self.answers.len()) };
        for _ in 0..count {
            let answer = self.answers.swap_remove(self.random.usize(..self.answers.len()));
            match answer {
                Answer::Page(key, result) => process.handle_page_result(&key, result),
                Answer::Export(id, result) => process.handle_export_result(id, result),
            }
        }
    }

    /// The sender is gone.
    pub(super) fn lose_answers(&mut self) {
        self.answers.clear();
    }

    /// The messages about an alert of a service.
    pub(super) fn pages_of(&self, alert: &str, service: &str) -> Vec<&Notification> {
        let labels = [("alertname", alert), ("service_name", service)];
        let about =
            |page: &&Arc<Notification>| labels.iter().all(|(name, value)| page.group_labels.get(name) == Some(*value));
        self.pages.iter().filter(about).map(|page| &**page).collect()
    }

    /// Whether a message arrives, and whether the sender learns that it did.
    fn fate(&mut self) -> (bool, bool) {
        match self.random.u32(..6) {
            _ if self.healthy => (true, true),
            0 => (false, false),
            1 => (true, false),
            _ => (true, true),
        }
    }
}
