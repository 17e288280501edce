//! Where records go besides the collector: console, files, syslog, journald, a function of one's own; each with its own levels, filter and format.
//!
//! ```
//! use watchbell::sink::{Format, Sink};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("checkout.jsonl");
//! let guard = watchbell::builder()
//!     .sink(Sink::stderr().levels("warn").format(Format::Compact)) // in the place of the usual console
//!     .sink(Sink::file(&path).levels("debug,hyper=info").format(Format::Json))
//!     # .variables([("OTEL_SDK_DISABLED", "true")])
//!     .init()?;
//! # tracing::debug!(order_id = 17, "order placed");
//! # drop(guard);
//! # assert!(std::fs::read_to_string(path)?.contains(r#""order_id":17"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `WATCHBELL_SINKS` and the file of `OTEL_CONFIG_FILE` name sinks in words, without a change of the code: `file=/var/log/shop.jsonl levels=debug rotate=daily`.
//!
//! A sink without levels of its own follows those of the service ([`Builder::levels`](crate::Builder::levels), `RUST_LOG`); one with them takes what
//! they say, more or less than the service's. What no way wants is not made at all.
//!
//! # What it costs, and what it promises
//!
//! A sink costs the thread that logs one copy of each encoded record that it wants; a thread of its own formats and writes it, some ten milliseconds
//! later at most, in the order of time within each MiB. A [flush](crate::Guard::flush), the guard's drop, `std::process::exit` and a panic wait
//! for it, until their deadline; a signal that kills the process loses those last milliseconds. [`Sink::in_call`] writes in the thread that logs instead,
//! at once.
//!
//! No sink holds up the service, another sink or the collector's records, not even one that hangs: a console whose pipe nobody reads, a file on a disk that is
//! stuck. Up to [`SINK_BYTES_MAX`], or what [`Sink::bytes_max`] says, wait for each beside what the service's buffer holds, and beyond the newest are dropped; a sink that fails (a full disk) loses what it could not write, is told
//! once on stderr, and is tried again with the next record.
//!
//! [`Guard::sinks`](crate::Guard::sinks) counts all of this, and so do the metrics `watchbell.sdk.sink.log.processed` (by `error.type`: none for what was
//! written, `write_failed`, `queue_full`, `already_shutdown`) and `watchbell.sdk.sink.log.withheld` (by the sink's filter), with the sink's name as
//! `otel.component.name`.

#[cfg(feature = "files")]
pub mod file;
mod format;
mod output;
mod spec;
mod worker;

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use tokio::sync::Notify;

use crate::callsite::ScopeId;
use crate::caught::within_a_sink;
use crate::chunk::{Chunk, Pool};
use crate::lane::{Lane, WhenFull};
use crate::ledger::{Account, End};
use crate::levels::{Directives, Ways};
use crate::lock;
use crate::redact::Redaction;
pub use crate::view::{Entries, Record, Value, Values};
#[cfg(feature = "files")]
pub use file::File;
pub use format::Format;
use format::Formatter;
#[cfg(fuzzing)]
pub(crate) use format::check_pattern;
use output::Output;
pub(crate) use spec::listed;
pub(crate) use worker::SinkThread;

/// Most bytes that wait for a sink's thread (16 MiB), unless [`Sink::bytes_max`] says otherwise; at the limit the newest records are dropped for this sink, and counted.
///
/// ```
/// assert_eq!(watchbell::sink::SINK_BYTES_MAX, 16 << 20);
/// ```
pub const SINK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One way of records out of the service; the [module](self) has an example.
///
/// ```
/// use watchbell::sink::Sink;
///
/// let sink: Sink = Sink::stderr().levels("warn");
/// let builder = watchbell::builder().sink(sink);
/// ```
#[derive(Clone)]
pub struct Sink {
    name: String,
    pub(crate) levels: Option<String>,
    filter: Option<Filter>,
    format: Option<Format>,
    colors: Option<bool>,
    in_call: bool,
    bytes_max: usize,
    target: Target,
}

type Filter = Arc<dyn Fn(&Record<'_>) -> bool + Send + Sync>;

type Callback = Arc<dyn Fn(&Record<'_>) + Send + Sync>;

#[derive(Clone)]
enum Target {
    Stderr,
    Stdout,
    #[cfg(feature = "files")]
    File(File),
    Callback(Callback),
    #[cfg(unix)]
    Syslog(String),
    SyslogUdp(String),
    SyslogTcp(String),
    #[cfg(unix)]
    Journald(String),
}

impl Sink {
    /// To stderr, as [`Format::Pretty`] if nothing else is said. It takes the place of the console that is there by default.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::stderr().levels("warn");
    /// ```
    pub fn stderr() -> Self {
        Self::new("stderr", Target::Stderr)
    }

    /// To stdout, as [`Format::Pretty`] if nothing else is said. It takes the place of the console that is there by default.
    ///
    /// ```
    /// use watchbell::sink::{Format, Sink};
    ///
    /// let sink = Sink::stdout().format(Format::Json);
    /// ```
    pub fn stdout() -> Self {
        Self::new("stdout", Target::Stdout)
    }

    /// To a file, a path or a [`File`] with rotation and the rest, as [`Format::Json`] if nothing else is said.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::file("/var/log/checkout.jsonl").levels("debug");
    /// ```
    #[cfg(feature = "files")]
    pub fn file(file: impl Into<File>) -> Self {
        let file = file.into();
        Self::new(&file.path.display().to_string(), Target::File(file))
    }

    /// To a function. A panic of it is counted as a failure; what it logs itself goes nowhere, since it would come back to it. With
    /// [`in_call`](Self::in_call) it is shown what is logged while a thread panics in another thread, where it may panic, too; a lock that the panicking thread
    /// holds, stdout's within a `println!` among them, it then waits for in vain, and the panic with it: take none there.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use watchbell::sink::Sink;
    ///
    /// let told = Arc::new(Mutex::new(Vec::new()));
    /// let callback = {
    ///     let told = Arc::clone(&told);
    ///     Sink::callback("alarm", move |record| told.lock().unwrap().push(record.message().into_owned()))
    /// };
    /// let guard = watchbell::builder().sink(callback.levels("error")).init()?;
    /// tracing::error!("out of stock");
    /// # drop(guard.shutdown(std::time::Duration::from_secs(5)));
    /// # assert_eq!(*told.lock().unwrap(), ["out of stock"]);
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn callback(name: &str, callback: impl Fn(&Record<'_>) + Send + Sync + 'static) -> Self {
        Self::new(name, Target::Callback(Arc::new(callback)))
    }

    /// To the machine's syslog, by RFC 5424 over a Unix datagram socket: `/dev/log` in nearly all systems. Facility `user`, attributes and the trace
    /// as structured data `[otel@32473 ...]`. Of a record of more than the socket takes the texts are cut, to 8 KiB or 256 bytes, and counted as that
    /// (`watchbell.sdk.texts.cut`).
    ///
    /// ```no_run
    /// # use watchbell::sink::Sink;
    /// let _guard = watchbell::builder().sink(Sink::syslog("/dev/log")).init()?;
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    #[cfg(unix)]
    pub fn syslog(socket: &str) -> Self {
        Self::new("syslog", Target::Syslog(socket.to_owned()))
    }

    /// To a syslog elsewhere, the same over UDP (RFC 5426): `logs.example.com:514`. A datagram that is lost on its way nobody hears of.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let builder = watchbell::builder().sink(Sink::syslog_udp("logs.example.com:514"));
    /// ```
    pub fn syslog_udp(address: &str) -> Self {
        Self::new("syslog", Target::SyslogUdp(address.to_owned()))
    }

    /// The same over TCP, each record with its length before it (RFC 6587, octet counting): `logs.example.com:601`. Where the other end breaks off, what
    /// it had not read is lost, and not all of that is known here. Where there is no connection, one is tried once a second, and what comes meanwhile is
    /// lost and counted. It cannot be written [in the call](Self::in_call).
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let builder = watchbell::builder().sink(Sink::syslog_tcp("logs.example.com:601"));
    /// ```
    pub fn syslog_tcp(address: &str) -> Self {
        Self::new("syslog", Target::SyslogTcp(address.to_owned()))
    }

    /// To systemd's journal, by its native protocol: each attribute is a field (`order.id` is `ORDER_ID`), so that `journalctl ORDER_ID=17` finds it. Of an
    /// entry of more than the socket takes (some 200 KiB) the texts are cut, as by [`syslog`](Self::syslog).
    ///
    /// ```no_run
    /// # use watchbell::sink::Sink;
    /// let _guard = watchbell::builder().sink(Sink::journald()).init()?;
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    #[cfg(unix)]
    pub fn journald() -> Self {
        Self::new("journald", Target::Journald("/run/systemd/journal/socket".to_owned()))
    }

    /// The same where the journal's socket is elsewhere.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::journald_at("/run/host/journal/socket");
    /// ```
    #[cfg(unix)]
    pub fn journald_at(socket: &str) -> Self {
        Self::new("journald", Target::Journald(socket.to_owned()))
    }

    fn new(name: &str, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            levels: None,
            filter: None,
            format: None,
            colors: None,
            in_call: false,
            bytes_max: SINK_BYTES_MAX,
            target,
        }
    }

    /// What it is called in [`Guard::sinks`](crate::Guard::sinks).
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::stdout().name("audit");
    /// ```
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Which records it takes, whatever the service's levels are: `warn,checkout=debug`.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::stderr().levels("warn,checkout=debug");
    /// ```
    pub fn levels(mut self, directives: &str) -> Self {
        self.levels = Some(directives.to_owned());
        self
    }

    /// Takes only records for which `filter` is true. A panic of it is counted as a failure.
    ///
    /// ```
    /// # use watchbell::sink::Sink;
    /// let sink = Sink::stdout().filter(|record| record.attribute("audit").is_some());
    /// ```
    pub fn filter(mut self, filter: impl Fn(&Record<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// How records are written.
    ///
    /// ```
    /// use watchbell::sink::{Format, Sink};
    ///
    /// let sink = Sink::stderr().format(Format::Compact);
    /// ```
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Whether levels have colours. If nothing is said, on a terminal alone, and not where `NO_COLOR` is set.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::stderr().colors(false);
    /// ```
    pub fn colors(mut self, on: bool) -> Self {
        self.colors = Some(on);
        self
    }

    /// Writes in the thread that logs, at once: the last line before a crash is there, and whoever logs waits for the terminal or the disk. A forked child writes
    /// nothing: what it would lock may be locked for ever. Not over [TCP](Self::syslog_tcp), where that wait could be seconds.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::file("/var/log/checkout.jsonl").in_call();
    /// ```
    pub fn in_call(mut self) -> Self {
        self.in_call = true;
        self
    }

    /// Most bytes of memory that records take while they wait for the sink's thread; beyond, the newest are dropped for this sink, and counted. Below 64 KiB hardly
    /// any thread has room.
    ///
    /// ```
    /// use watchbell::sink::Sink;
    ///
    /// let sink = Sink::stderr().bytes_max(1 << 20);
    /// ```
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    pub(crate) fn is_console(&self) -> bool {
        matches!(self.target, Target::Stderr | Target::Stdout)
    }

    /// Whether it writes where a panic is told anyway, and as that is told.
    fn is_for_people(&self) -> bool {
        matches!(self.target, Target::Stderr) && matches!(self.format, None | Some(Format::Pretty))
    }

    fn is_file(&self) -> bool {
        #[cfg(feature = "files")]
        return matches!(self.target, Target::File(_));
        #[cfg(not(feature = "files"))]
        false
    }

    pub(crate) fn directives(&self) -> Result<Option<Directives>, String> {
        let parsed = self.levels.as_deref().map(str::parse).transpose();
        parsed.map_err(|error: String| format!("the levels of the sink `{}` are not understood: {error}", self.name))
    }

    fn open(self, resource: &Arc<[KeyValue]>) -> Result<Open, String> {
        let wrong = |error: String| format!("the sink `{}` cannot be set up: {error}", self.name);
        let writes_lines = self.is_console() || self.is_file();
        if self.format.is_some() && !writes_lines {
            return Err(wrong("it has a format of its own; leave `format` out".to_owned()));
        }
        if let Target::SyslogUdp(address) | Target::SyslogTcp(address) = &self.target
            && !is_address(address)
        {
            return Err(wrong(wrong_address(address)));
        }
        if self.in_call && matches!(self.target, Target::SyslogTcp(_)) {
            return Err(wrong("whoever logs would wait for the network; leave `in_call` out".to_owned()));
        }
        let has_colors = self.colors.unwrap_or_else(|| self.is_on_terminal() && !is_no_color_set());
        let is_file = !self.is_console();
        let format = self.format.clone().unwrap_or(if is_file { Format::Json } else { Format::Pretty });
        let formatter = || Formatter::new(&format, has_colors, resource).map_err(wrong);
        let output: Box<dyn Output> = match &self.target {
            Target::Stderr => Box::new(output::Stream::new(formatter()?, io::stderr())),
            Target::Stdout => Box::new(output::Stream::new(formatter()?, io::stdout())),
            #[cfg(feature = "files")]
            Target::File(file) => Box::new(file::Rolling::open(file.clone(), formatter()?).map_err(wrong)?),
            Target::Callback(callback) => Box::new(output::Callback(Arc::clone(callback))),
            #[cfg(unix)]
            Target::Syslog(socket) => Box::new(output::Datagrams::syslog(socket, resource)),
            Target::SyslogUdp(address) => Box::new(output::Datagrams::syslog_udp(address, resource)),
            Target::SyslogTcp(address) => Box::new(output::SyslogStream::new(address, resource)),
            #[cfg(unix)]
            Target::Journald(socket) => Box::new(output::Datagrams::journald(socket, resource)),
        };
        let counters = Arc::new(Counters::default());
        Ok(Open { name: self.name, filter: self.filter, output, counters, taken: 0, is_failing: false })
    }

    fn is_on_terminal(&self) -> bool {
        match self.target {
            Target::Stderr => io::stderr().is_terminal(),
            Target::Stdout => io::stdout().is_terminal(),
            _ => false,
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether it is a host and a port.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn wrong_address(text: &str) -> String {
    format!("`{text}` is no address; write `HOST:PORT`")
}

fn is_no_color_set() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// What became of a sink's records. From [`Guard::sinks`](crate::Guard::sinks), exact after a flush.
///
/// ```
/// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
/// for sink in guard.sinks() {
///     println!("{sink}"); // stderr: 17 written, 0 failed, 0 dropped
/// }
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkAccount {
    /// The sink's name.
    pub name: String,
    /// Records that were written, as far as the operating system says.
    pub written: u64,
    /// Records that could not be written: a full disk, a socket that nobody reads, a panic of a callback.
    pub failed: u64,
    /// Records that were dropped because [as much](Sink::bytes_max) waited as may, or that came after the shutdown, in a forked child, or
    /// of a signal's handler.
    pub dropped: u64,
    /// Those of them that came after the shutdown.
    pub dropped_after_shutdown: u64,
    /// Those of them that a signal's handler made while its thread was handing another over.
    pub dropped_reentrant: u64,
    /// Records that the sink's [filter](Sink::filter) left out.
    pub withheld: u64,
}

impl fmt::Display for SinkAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, written, failed, dropped, .. } = self;
        write!(f, "{name}: {written} written, {failed} failed, {dropped} dropped")
    }
}

#[derive(Default)]
struct Counters {
    written: AtomicU64,
    failed: AtomicU64,
    withheld: AtomicU64,
}

/// A sink with its output.
struct Open {
    name: String,
    filter: Option<Filter>,
    output: Box<dyn Output>,
    counters: Arc<Counters>,
    /// Records that the output has taken since the last flush.
    taken: u64,
    /// Whether the last write failed, so that it is told once.
    is_failing: bool,
}

/// A service's sinks.
pub(crate) struct Sinks {
    queued: Vec<Arc<Queued>>,
    in_call: Vec<(Ways, Mutex<Open>)>,
    consoles: Ways,
    /// In the order in which they were added, with the place among the queued.
    counted: Vec<(String, Arc<Counters>, Option<usize>)>,
}

/// A sink with a thread of its own, and the way to that.
struct Queued {
    way: Ways,
    lane: Lane,
    pool: Arc<Pool>,
    wake: Arc<Notify>,
    /// Until the thread starts.
    open: Mutex<Option<Open>>,
}

impl Sinks {
    /// Opens all; `None` if there are none.
    pub(crate) fn open(sinks: Vec<Sink>, resource: &[KeyValue]) -> Result<Option<Self>, String> {
        if sinks.is_empty() {
            return Ok(None);
        }
        let resource: Arc<[KeyValue]> = resource.into();
        let mut this = Self { queued: Vec::new(), in_call: Vec::new(), consoles: Ways::NONE, counted: Vec::new() };
        let mut mistakes = Vec::new();
        for (i, sink) in sinks.into_iter().enumerate() {
            let (way, is_in_call, bytes_max) = (Ways::sink(i), sink.in_call, sink.bytes_max);
            if sink.is_for_people() {
                this.consoles = this.consoles.or(way);
            }
            let open = match sink.open(&resource) {
                Ok(open) => open,
                Err(error) => {
                    mistakes.push(error);
                    continue;
                }
            };
            let queued = (!is_in_call).then_some(this.queued.len());
            this.counted.push((open.name.clone(), Arc::clone(&open.counters), queued));
            match queued {
                Some(_) => this.queued.push(Arc::new(Queued::new(way, bytes_max, open))),
                None => this.in_call.push((way, Mutex::new(open))),
            }
        }
        if mistakes.is_empty() { Ok(Some(this)) } else { Err(mistakes.join("\n")) }
    }

    /// The ways to the threads of those sinks that want a record.
    #[inline]
    pub(crate) fn lanes(&self, ways: Ways) -> impl Iterator<Item = &Lane> {
        self.queued.iter().filter(move |queued| !queued.way.and(ways).is_none()).map(|queued| &queued.lane)
    }

    /// Writes a record to the sinks that write at once.
    #[cold]
    pub(crate) fn write_in_call(&self, ways: Ways, scope: ScopeId, record: &[u8], redaction: Option<&Redaction>) {
        let scrubbed = redaction.and_then(|redaction| redaction.scrubbed_record(record));
        let scope = scope.scope();
        let record = Record::new(&scope.message, scrubbed.as_deref().unwrap_or(record));
        for (way, open) in &self.in_call {
            if !way.and(ways).is_none() {
                within_a_sink(|| lock(open).write_at_once(&record));
            }
        }
    }

    /// Whether any writes at once.
    #[inline]
    pub(crate) fn has_in_call(&self) -> bool {
        !self.in_call.is_empty()
    }

    pub(crate) fn consoles(&self) -> Ways {
        self.consoles
    }

    /// What became of the records of each; in a forked child, which has made so many, all of these are dropped.
    pub(crate) fn accounts(&self, forked: Option<u64>) -> Vec<SinkAccount> {
        if let Some(dropped) = forked {
            let of_child = |name: &String| SinkAccount { name: name.clone(), dropped, ..SinkAccount::default() };
            return self.counted.iter().map(|(name, ..)| of_child(name)).collect();
        }
        self.counted.iter().map(|(name, counters, queued)| self.account(name, counters, *queued)).collect()
    }

    /// The name of each, and how many records it has lost before the shutdown.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counted.iter().map(|(name, counters, queued)| {
            let queued = queued.map(|queued| self.queued[queued].lane.account());
            let dropped = queued.map_or(0, |account| account.dropped() - account.dropped_after_shutdown);
            (name.as_str(), counters.failed.load(Ordering::Relaxed) + dropped)
        })
    }

    fn account(&self, name: &str, counters: &Counters, queued: Option<usize>) -> SinkAccount {
        let queued = queued.map(|queued| self.queued[queued].lane.account());
        SinkAccount {
            name: name.to_owned(),
            written: counters.written.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            dropped: queued.as_ref().map_or(0, Account::dropped),
            dropped_after_shutdown: queued.as_ref().map_or(0, |account| account.dropped_after_shutdown),
            dropped_reentrant: queued.map_or(0, |account| account.dropped_reentrant),
            withheld: counters.withheld.load(Ordering::Relaxed),
        }
    }
}

impl Queued {
    fn new(way: Ways, bytes_max: usize, open: Open) -> Self {
        let (wake, pool) = (Arc::<Notify>::default(), Arc::new(Pool::new(bytes_max)));
        let lane = Lane::new(Arc::clone(&pool), Arc::clone(&wake), u64::MAX, WhenFull::DropNewest);
        Self { way, lane, pool, wake, open: Mutex::new(Some(open)) }
    }

    /// Takes chunks back whose records have been written, or have failed.
    fn settle(&self, chunks: Vec<Chunk>) {
        for chunk in chunks {
            self.lane.unqueue(chunk.records());
            self.lane.counters.add(End::Delivered, chunk.records());
            drop(self.pool.release(chunk));
        }
    }
}
