//! Which events and spans are made at all, and which ways a record goes: a tree of targets, that can be changed while the service runs.

mod directives;
mod end;
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
mod signals;
mod url;
mod watch;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Uri;
use tracing_core::subscriber::Interest;
use tracing_core::{Level, LevelFilter, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::callsite::ScopeId;
use crate::config::Access;
use crate::exit;
use crate::stock;
pub(crate) use directives::{Directives, is_above, parts, shown};
use end::End;

/// The levels of the running service: what [`Builder::levels`](crate::Builder::levels) and `RUST_LOG` set at the start. From
/// [`Guard::levels`](crate::Guard::levels).
///
/// Targets are a tree: `checkout=debug` is meant for `checkout` and all below it, `checkout::db` for one, and not for `checkouts`; the longest that
/// fits decides. A change takes hold in all threads at once.
///
/// What OpenTelemetry's own crates say of themselves (their feature `internal-logs`) makes no records unless their target is named, `opentelemetry_sdk=info`; of that,
/// warnings and errors are told on stderr, as the SDK's own are.
///
/// ```
/// # let (_layer, guard) = watchbell::builder().levels("info,hyper=off").layer::<tracing_subscriber::Registry>()?;
/// let levels = guard.levels();
/// levels.set_target("checkout::db", tracing::level_filters::LevelFilter::DEBUG);
/// assert_eq!(levels.to_string(), "info,checkout::db=debug,hyper=off");
/// levels.set("warn,checkout=info").unwrap();
/// levels.reset();
/// assert_eq!(levels.to_string(), "info,hyper=off");
/// assert_eq!(levels.set("info,checkout=loud").unwrap_err().to_string(), "\
/// `loud` is not a level; write `off`, `error`, `warn`, `info`, `debug` or `trace`
///     info,checkout=loud
///                   ^^^^");
/// # drop(guard.shutdown(std::time::Duration::ZERO));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Levels {
    shared: Arc<Shared>,
}

struct Shared {
    state: RwLock<State>,
    /// Another number after each change, and other than that of any other levels in the process: what was found for a callsite is remembered with it.
    generation: AtomicU64,
    initial: Directives,
    /// Whether they decide what is made at all, beyond what our own layer takes of it.
    is_global: bool,
    /// For the threads that change them.
    end: Arc<End>,
    /// The process that they are of.
    forks: u32,
}

struct State {
    base: Directives,
    ways: Vec<Option<Directives>>,
}

/// Where records go, a bit for each: the collector is the first, sinks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ways(u32);

impl Ways {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const COLLECTOR: Self = Self(1);

    /// The way to a sink.
    pub(crate) fn sink(index: usize) -> Self {
        Self(2 << index)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    fn of(index: usize) -> Self {
        Self(1 << index)
    }
}

/// Most sinks of a service (31).
pub(crate) const SINKS_MAX: usize = 31;

impl Levels {
    /// Levels for as many ways: one without its own directives follows `base`.
    pub(crate) fn new(base: Directives, ways: Vec<Option<Directives>>, is_global: bool) -> Self {
        let state = RwLock::new(State { base: base.clone(), ways });
        let generation = AtomicU64::new(next_generation());
        let shared = Shared { state, generation, initial: base, is_global, end: Arc::default(), forks: exit::forks() };
        Self { shared: Arc::new(shared) }
    }

    /// Sets all of them, as `RUST_LOG` would: `info,checkout=debug,hyper=off`. Sinks that have their own are left as they are.
    ///
    /// ```
    /// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
    /// guard.levels().set("info,checkout=debug,hyper=off")?;
    /// # drop(guard.shutdown(std::time::Duration::ZERO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, directives: &str) -> Result<(), LevelsError> {
        let directives = directives.parse().map_err(LevelsError)?;
        self.change(|state| state.base = directives);
        Ok(())
    }

    /// Sets the level of one target and of all below it that have none of their own.
    ///
    /// ```
    /// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
    /// guard.levels().set_target("checkout::db", tracing::level_filters::LevelFilter::DEBUG);
    /// # drop(guard.shutdown(std::time::Duration::ZERO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_target(&self, target: &str, level: LevelFilter) {
        self.change(|state| state.base.set(target, level));
    }

    /// Sets them as they were at the start.
    ///
    /// ```
    /// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
    /// guard.levels().reset();
    /// # drop(guard.shutdown(std::time::Duration::ZERO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reset(&self) {
        self.change(|state| state.base = self.shared.initial.clone());
    }

    /// Sets them as the file says, now and whenever it changes, which is looked for once a second until the shutdown; the thread for that ends then.
    /// The file has directives, on one line or several; what follows a `#` is a remark. One without any sets them as they were at the start. One that cannot be
    /// read, or has a mistake, is told on stderr and changes nothing.
    ///
    /// ```no_run
    /// # let guard = watchbell::init()?;
    /// guard.levels().watch_file("/etc/checkout/levels"); // warn,checkout=debug
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn watch_file(&self, path: impl AsRef<Path>) {
        watch::start(path.as_ref().to_owned(), &self.shared, Duration::from_secs(1));
    }

    /// Asks an HTTP server for them, now and whenever the interval (a second at least) has passed, in a thread of its own until the shutdown.
    /// [`Builder::levels_url`](crate::Builder::levels_url) has the words for what it answers.
    pub(crate) fn poll_url(&self, uri: Uri, interval: Duration, access: Access) {
        url::start(uri, interval, access, &self.shared);
    }

    /// Has signals change them: SIGUSR1 makes all of them one step more verbose (`info,hyper=off` becomes `debug,hyper=off`, then `trace,hyper=off`),
    /// SIGUSR2 sets them as they were at the start; neither does anything after the shutdown. An error if the service handles one of these itself.
    ///
    /// ```no_run
    /// # let guard = watchbell::init()?;
    /// guard.levels().heed_signals()?; // kill -USR1 $(pidof checkout)
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    pub fn heed_signals(&self) -> std::io::Result<()> {
        signals::start(&self.shared)
    }

    /// Ends the threads that change them.
    pub(crate) fn end(&self) {
        self.shared.end.end();
    }

    /// The ways of a record.
    pub(crate) fn ways(&self, target: &str, level: Level) -> Ways {
        let state = self.read();
        let base = state.base.allow(target, level);
        let allows = |way: &Option<Directives>| way.as_ref().map_or(base, |own| own.allow(target, level));
        let ways = state.ways.iter().enumerate().filter(|(_, way)| allows(way));
        ways.fold(Ways::NONE, |ways, (i, _)| ways.or(Ways::of(i)))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// The most verbose level of which an event can be made.
    pub(crate) fn events_max(&self) -> LevelFilter {
        let state = self.read();
        let most_verbose = |way: &Option<Directives>| way.as_ref().unwrap_or(&state.base).most_verbose();
        state.ways.iter().map(most_verbose).max().unwrap_or(LevelFilter::OFF)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.shared.change(change);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an event is none of a record, but told on stderr.
    pub(crate) fn tell(&self, target: &str, level: Level) -> bool {
        stock::is_told(level) && stock::is_stock(target) && !self.read().base.name(target)
    }

    /// Whether it is made; `ways` looks up where it would go.
    fn allows(&self, metadata: &Metadata<'_>, ways: impl FnOnce(&str, Level) -> Ways) -> bool {
        let (target, level) = (metadata.target(), *metadata.level());
        if self.shared.forks != exit::forks() {
            return level <= Level::INFO; // a forked child, in which the levels may be locked for ever
        }
        let is_outer_span = metadata.is_span() && level <= Level::INFO;
        is_outer_span || !ways(target, level).is_none() || self.tell(target, level)
    }
}

/// Nobody has the levels any more.
impl Drop for Shared {
    fn drop(&mut self) {
        self.end.end();
    }
}

impl Shared {
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        if self.forks != exit::forks() {
            return; // a forked child, which records nothing, and in which the levels may be locked for ever
        }
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.generation.store(next_generation(), Ordering::Release);
        if self.is_global {
            #[cfg(feature = "log")]
            crate::log_crate::set_max_level(Levels { shared: Arc::clone(self) }.events_max());
            tracing_core::callsite::rebuild_interest_cache();
        }
    }
}

/// The directives, as they would be written.
impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().base.fmt(f)
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Levels").field(&format_args!("{self}")).finish()
    }
}

/// Directives that are not understood: which, and where. [`Levels`] has an example.
///
/// ```
/// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
/// let error: watchbell::LevelsError = guard.levels().set("info,checkout=loud").unwrap_err();
/// assert!(error.to_string().starts_with("`loud` is not a level"));
/// # drop(guard.shutdown(std::time::Duration::ZERO));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LevelsError(String);

impl fmt::Display for LevelsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LevelsError {}

/// What decides what is made. Spans up to INFO are always made, so that a record carries its trace whatever its level is set to.
pub(crate) struct LevelsLayer(pub(crate) Levels);

impl<S: Subscriber> Layer<S> for LevelsLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let is_made = self.0.allows(metadata, |target, level| self.0.ways(target, level));
        if is_made { Interest::always() } else { Interest::never() }
    }

    /// Is asked for each record of the `log` crate, and takes no lock where the target has had one before.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.allows(metadata, |target, level| ScopeId::ways_of_target(target, &self.0, level))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.events_max().max(LevelFilter::INFO))
    }
}

fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
