//! What the tests share: servers on free ports that stop with the test, a place for files, and waiting with a deadline.

pub(crate) mod alertmanager;
pub(crate) mod certificates;
pub(crate) mod http;
pub(crate) mod otlp;
pub(crate) mod peer;
mod ports;
pub(crate) mod prometheus;
pub(crate) mod random;
pub(crate) mod sink;
pub(crate) mod watchbell;
pub(crate) mod webhook;

use std::fmt::{Debug, Display};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) use self::ports::free_port;

/// Runs what the tests need of async code.
pub(crate) static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// How long anything may take on a very busy machine before the test fails. Less than Prometheus's look-back of five minutes, so that
/// only a stale marker can end a series within it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Asks again and again until there is an answer; fails the test after [`DEADLINE`].
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    until_ok(what, || ask().ok_or(""))
}

/// Asks again and again until the answer is the expected one; the failure shows both.
#[track_caller]
pub(crate) fn until_equal<T: PartialEq + Debug>(what: &str, expected: &T, mut ask: impl FnMut() -> T) {
    until_ok(what, || match ask() {
        answer if answer == *expected => Ok(()),
        answer => Err(format!("\nexpected: {expected:#?}\nlast answer: {answer:#?}")),
    });
}

#[track_caller]
fn until_ok<T, E: Display>(what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A number larger than all that were given before: it orders what happens in different threads.
pub(crate) fn tick() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::SeqCst)
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
