//! Where records of the past come from: files, folders of them, stdin, a collector's own log, or a Loki.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use watchbell_rules::backtest::records::{Records, with_index_labels};
use watchbell_rules::labels::Labels;
use watchbell_rules::otlp_labels::LabelConfig;
use watchbell_rules::query::parameters;
use watchbell_rules::time::{Received, Timestamp};

use super::loki;
use super::ordered::Ordered;
use super::progress::Progress;
use crate::cli::HistoryArguments;
use crate::clock::{ManualClock, SharedClock};
use crate::inputs::{Input, Inputs};
use crate::wal::disk::RealDisk;
use crate::wal::{DataDir, Frame, FrameKind, Log, Metrics, Position, Wal, WalConfig};

/// Records of the past, in the order in which they came.
pub enum History {
    /// They come when they happen.
    Records(Box<Ordered>),
    /// A collector's log; they come when they came.
    Log(Box<Wal>, DataDir, Span),
}

/// `--start` and `--end`: what happens at the first or later, and before the second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub(super) start: Option<Timestamp>,
    pub(super) end: Option<Timestamp>,
}

impl Span {
    pub(super) fn of(arguments: &HistoryArguments) -> Result<Self, String> {
        let time =
            |text: &Option<String>| text.as_deref().map(parameters::time).transpose().map_err(|error| error.message);
        let span = Self { start: time(&arguments.start)?, end: time(&arguments.end)? };
        match (span.start, span.end) {
            (Some(start), Some(end)) if end <= start => {
                Err(format!("`--end` is {end}, no later than `--start`, {start}"))
            }
            _ => Ok(span),
        }
    }

    pub(super) fn contains(&self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| time >= start) && self.end.is_none_or(|end| time < end)
    }
}

/// What is shown of a history, piece by piece.
pub struct Batch<'a> {
    /// An OTLP request.
    pub bytes: &'a [u8],
    /// When it is received.
    pub received: Timestamp,
    /// By how much the clock of that is ahead of the stamps'.
    pub ahead: Duration,
    /// Records in it.
    pub records: u64,
    /// Whether a collector has started here, and nobody listened before.
    pub is_start: bool,
    /// How much of the history has been shown with this, from 0 to 1.
    pub progress: f64,
}

impl Batch<'_> {
    /// When it is received, and what its records' stamps are behind.
    pub(crate) fn receipt(&self) -> Received {
        Received { at: self.received, ahead: self.ahead }
    }
}

impl History {
    /// Opens what `--from` names.
    ///
    /// # Errors
    /// It cannot be read, or holds no records.
    pub fn open(arguments: &HistoryArguments, clock: &SharedClock) -> Result<Self, String> {
        let span = Span::of(arguments)?;
        let mut ordered = Ordered::new(span);
        let mut inputs = Inputs::default();
        for from in &arguments.from {
            let is_loki = from.starts_with("http://") || from.starts_with("https://");
            if let (Some(selector), false) = (&arguments.selector, is_loki) {
                return Err(format!("`--selector {selector}` asks a Loki: of `{from}` all records are taken"));
            }
            let path = Path::new(from);
            if is_loki {
                let mut records = Records::default();
                loki::read(from, arguments, clock, &mut records)?;
                ordered.hold(records);
            } else if path.join("wal").join("logs").is_dir() {
                if arguments.from.len() > 1 {
                    return Err(format!("`{from}` is a collector's log: it cannot be replayed together with others"));
                }
                return open_log(path, span);
            } else {
                inputs.add(path)?;
            }
        }
        look_through(inputs.into_vec(), arguments, clock, &mut ordered)?;
        check_span(ordered.ends.ok_or_else(|| match ordered.all {
            0 => "there are no records in what `--from` names".to_owned(),
            all => format!("none of the {all} records in what `--from` names is between `--start` and `--end`"),
        })?)?;
        Ok(Self::Records(Box::new(ordered)))
    }

    /// The labels that selectors can ask for, of these records.
    pub fn label_config(&self, config: &LabelConfig) -> LabelConfig {
        match self {
            Self::Records(records) => with_index_labels(config, &records.index_labels),
            Self::Log(..) => config.clone(),
        }
    }

    /// When it begins: right before its first record.
    pub fn start(&self) -> Result<Timestamp, String> {
        match self {
            Self::Records(records) => {
                let (first, _) = records.ends.unwrap_or_default();
                Ok(Timestamp(first.0.saturating_sub(1)))
            }
            Self::Log(wal, _, span) => {
                let first = wal.read(wal.oldest(), 1).map_err(unreadable)?;
                let first = first.first().ok_or("the collector's log is empty")?;
                Ok(Timestamp(first.received.max(span.start.unwrap_or_default()).0 - 1))
            }
        }
    }

    /// Shows all batches, oldest first.
    pub fn for_each(&self, visit: &mut dyn FnMut(Batch<'_>)) -> Result<(), String> {
        match self {
            Self::Records(records) => records.for_each(visit),
            Self::Log(wal, _, span) => for_each_of_log(wal, *span, visit),
        }
    }
}

fn for_each_of_log(wal: &Wal, span: Span, visit: &mut dyn FnMut(Batch<'_>)) -> Result<(), String> {
    let (mut from, end) = (wal.oldest(), wal.end());
    let start = from;
    while from < end {
        let frames = wal.read(from, READ_BYTES_MAX).map_err(unreadable)?;
        let Some(last) = frames.last() else { break };
        from = last.next;
        let is_shown = |frame: &&Frame| SHOWN.contains(&frame.kind) && span.contains(frame.received);
        for frame in frames.iter().filter(is_shown) {
            visit(Batch {
                bytes: &frame.payload,
                received: frame.received,
                ahead: frame.ahead,
                records: frame.records.into(),
                is_start: frame.kind == FrameKind::Started,
                progress: part(start, from, end),
            });
        }
    }
    Ok(())
}

fn part(start: Position, at: Position, end: Position) -> f64 {
    (at.0 - start.0) as f64 / (end.0 - start.0).max(1) as f64
}

fn open_log(path: &Path, span: Span) -> Result<History, String> {
    let lock = DataDir::open(path).map_err(|error| error.to_string())?;
    let disk = RealDisk::open(&lock.path().join("wal").join("logs")).map_err(unreadable)?;
    let clock = ManualClock::at(Timestamp::default());
    let metrics = Metrics::register(&mut Registry::default());
    let (wal, _) = Wal::open_on(disk, "logs", WalConfig::default(), clock, &metrics).map_err(unreadable)?;
    Ok(History::Log(Box::new(wal), lock, span))
}

fn unreadable(error: std::io::Error) -> String {
    format!("the collector's log cannot be read: {error}")
}

/// Takes note of what is where in the inputs.
fn look_through(
    inputs: Vec<Input>,
    arguments: &HistoryArguments,
    clock: &SharedClock,
    ordered: &mut Ordered,
) -> Result<(), String> {
    raise_open_files_limit();
    let bytes = inputs.iter().map(Input::size).sum::<u64>().max(1);
    let read = Rc::new(Cell::new(0));
    let mut progress = Progress::new("reading", clock);
    for input in inputs {
        let labels = arguments.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let stream = Labels::new([("filename", input.name.as_str())].into_iter().chain(labels));
        ordered.add(input, stream, &read, &mut |records| progress.show(read.get() as f64 / bytes as f64, records))?;
    }
    progress.finish();
    Ok(())
}

/// As many files may be open as the system allows: those that go on at one time are.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }); // else a file that is one too many is told
}

/// The clock goes through the whole history: one stray time, such as seconds where nanoseconds are meant, would make it go for ever.
fn check_span((first, last): (Timestamp, Timestamp)) -> Result<(), String> {
    if last.0.saturating_sub(first.0) <= SPAN_NANOS_MAX {
        return Ok(());
    }
    Err(format!(
        "the records reach from {first} to {last}, more than ten years: is the time of one of them in other units?"
    ))
}

/// Ten years; see [`check_span`].
const SPAN_NANOS_MAX: i64 = 10 * 366 * 24 * 60 * 60 * 1_000_000_000;

/// The frames of a log that make a difference to other rules than its own.
const SHOWN: [FrameKind; 3] = [FrameKind::Batch, FrameKind::Clock, FrameKind::Started];

/// Payload of the log that is read at once.
const READ_BYTES_MAX: usize = 4 << 20;
