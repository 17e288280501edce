//! The end of the threads that change the levels: with the guard's shutdown, or when nobody has the levels any more.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::lock;

#[derive(Default)]
pub(super) struct End {
    is_ended: Mutex<bool>,
    told: Condvar,
    told_tasks: Notify,
}

impl End {
    /// Wakes whoever waits for it.
    pub(super) fn end(&self) {
        *lock(&self.is_ended) = true;
        self.told.notify_all();
        self.told_tasks.notify_one(); // one is kept for a task that does not wait yet
        #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
        super::signals::wake();
    }

    pub(super) fn is_ended(&self) -> bool {
        *lock(&self.is_ended)
    }

    /// Waits for it, at most so long; whether it has come.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let waited = self.told.wait_timeout_while(lock(&self.is_ended), timeout, |is_ended| !*is_ended);
        *waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// The same for the one task that does.
    pub(super) async fn told(&self) {
        self.told_tasks.notified().await;
    }
}
