//! Certificates and tokens change under a running collector: Kubernetes writes a service account's token anew each hour.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::Sender;
use super::queue::{Request, SendResult};
use crate::clock::SharedClock;
use crate::wal::BoxFuture;

/// Makes a sender of the settings and of what their files hold now.
type Make = Box<dyn Fn() -> Result<Arc<dyn Sender>, String> + Send + Sync>;

/// Sends by what the files said last. It looks at them before a request, though not more often than each [`LOOK_INTERVAL`].
pub(super) struct Renewed {
    exporter: String,
    make: Make,
    files: Vec<PathBuf>,
    clock: SharedClock,
    current: Mutex<Current>,
}

struct Current {
    sender: Arc<dyn Sender>,
    /// What `sender` was made of.
    stamps: Vec<Option<Stamp>>,
    looked: Duration,
    /// Why no sender can be made of what the files hold by now; told once.
    trouble: Option<String>,
}

/// A file's last change and its length.
type Stamp = (SystemTime, u64);

impl Renewed {
    pub(super) fn new(
        exporter: String,
        files: Vec<PathBuf>,
        clock: SharedClock,
        make: impl Fn() -> Result<Arc<dyn Sender>, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let stamps = stamps(&files);
        let current = Current { sender: make()?, stamps, looked: clock.monotonic(), trouble: None };
        Ok(Self { exporter, make: Box::new(make), files, clock, current: Mutex::new(current) })
    }

    fn sender(&self) -> Arc<dyn Sender> {
        let mut current = self.lock();
        let now = self.clock.monotonic();
        if now.saturating_sub(current.looked) >= LOOK_INTERVAL {
            current.looked = now;
            self.renew(&mut current);
        }
        current.sender.clone()
    }

    /// Whether there is another sender by now than `refused`, of which the endpoint may think better.
    fn replaces(&self, refused: &Arc<dyn Sender>) -> bool {
        let mut current = self.lock();
        self.renew(&mut current);
        !Arc::ptr_eq(&current.sender, refused)
    }

    /// Makes a sender anew where the files have changed.
    fn renew(&self, current: &mut Current) {
        let stamps = stamps(&self.files);
        if stamps == current.stamps {
            return;
        }
        match (self.make)() {
            Ok(sender) => {
                tracing::info!(exporter = self.exporter, "its certificates or tokens have changed and are taken up");
                *current = Current { sender, stamps, looked: current.looked, trouble: None };
            }
            // Perhaps it is being written; the next look tries again.
            Err(why) if current.trouble.as_ref() != Some(&why) => {
                tracing::warn!(
                    exporter = self.exporter,
                    why,
                    "its certificates or tokens have changed and cannot be used: it goes on with those that it had"
                );
                current.trouble = Some(why);
            }
            Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender for Renewed {
    fn send(self: Arc<Self>, request: Request) -> BoxFuture<SendResult> {
        let sender = self.sender();
        Box::pin(async move {
            match sender.clone().send(request).await {
                // Perhaps for a token that has run out and is written anew already.
                SendResult::Permanent { reason } if self.replaces(&sender) => {
                    SendResult::Retryable { after: None, reason }
                }
                result => result,
            }
        })
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let about = fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    };
    files.iter().map(stamp).collect()
}

const LOOK_INTERVAL: Duration = Duration::from_secs(10);
