//! Where records of the past come from: files, a folder of them, a collector's own log, or a Loki.

use std::fs;
use std::path::Path;

use prometheus_client::registry::Registry;
use watchbell_rules::backtest::records::Records;
use watchbell_rules::labels::Labels;
use watchbell_rules::otlp_labels::LabelConfig;
use watchbell_rules::query::parameters;
use watchbell_rules::query::records::{Format, LineLabels};
use watchbell_rules::time::Timestamp;

use super::loki;
use crate::cli::HistoryArguments;
use crate::clock::{ManualClock, SharedClock};
use crate::wal::disk::RealDisk;
use crate::wal::{DataDir, Frame, FrameKind, Log, Metrics, Position, Wal, WalConfig};

/// Records of the past, in the order in which they came.
pub enum History {
    /// In memory; they come when they happen.
    Records(Box<Records>),
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

    fn contains(&self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| time >= start) && self.end.is_none_or(|end| time < end)
    }
}

/// What is shown of a history, piece by piece.
pub struct Batch<'a> {
    /// An OTLP request.
    pub bytes: &'a [u8],
    /// When it is received.
    pub received: Timestamp,
    /// Records in it.
    pub records: u64,
    /// How much of the history has been shown with this, from 0 to 1.
    pub progress: f64,
}

impl History {
    /// Opens what `--from` names.
    ///
    /// # Errors
    /// It cannot be read, or holds no records.
    pub fn open(arguments: &HistoryArguments, clock: &SharedClock) -> Result<Self, String> {
        let span = Span::of(arguments)?;
        let mut records = Records::default();
        for from in &arguments.from {
            let is_loki = from.starts_with("http://") || from.starts_with("https://");
            if let (Some(selector), false) = (&arguments.selector, is_loki) {
                return Err(format!("`--selector {selector}` asks a Loki: of `{from}` all records are taken"));
            }
            if is_loki {
                loki::read(from, arguments, clock, &mut records)?;
                continue;
            }
            let path = Path::new(from);
            if path.join("wal").join("logs").is_dir() {
                if arguments.from.len() > 1 {
                    return Err(format!("`{from}` is a collector's log: it cannot be replayed together with others"));
                }
                return open_log(path, span);
            }
            for file in files_at(path)? {
                read_file(&file, arguments, &mut records)?;
            }
        }
        let all = records.len();
        records.retain(|time| span.contains(time));
        records.sort();
        if records.is_empty() {
            return Err(match all {
                0 => "there are no records in what `--from` names".to_owned(),
                all => format!("none of the {all} records in what `--from` names is between `--start` and `--end`"),
            });
        }
        check_span(&records)?;
        Ok(Self::Records(Box::new(records)))
    }

    /// The labels that selectors can ask for, of these records.
    pub fn label_config(&self, config: &LabelConfig) -> LabelConfig {
        match self {
            Self::Records(records) => records.label_config(config),
            Self::Log(..) => config.clone(),
        }
    }

    /// When it begins: right before its first record.
    pub fn start(&self) -> Result<Timestamp, String> {
        match self {
            Self::Records(records) => Ok(Timestamp(records.received(0).0.saturating_sub(1))),
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
            Self::Records(records) => for_each_of_records(records, visit),
            Self::Log(wal, _, span) => return for_each_of_log(wal, *span, visit),
        }
        Ok(())
    }
}

/// Records that are near in time come together, as from an exporter that waits for more.
fn for_each_of_records(records: &Records, visit: &mut dyn FnMut(Batch<'_>)) {
    let mut bytes = Vec::new();
    let mut start = 0;
    while start < records.len() {
        let until = records.received(start).0.saturating_add(BATCH_NANOS_MAX);
        let end_max = records.len().min(start + BATCH_RECORDS_MAX);
        let mut end = start + 1;
        while end < end_max && records.received(end).0 < until {
            end += 1;
        }
        bytes.clear();
        records.put_batch(start..end, &mut bytes);
        visit(Batch {
            bytes: &bytes,
            received: records.received(end - 1),
            records: (end - start) as u64,
            progress: end as f64 / records.len() as f64,
        });
        start = end;
    }
}

fn for_each_of_log(wal: &Wal, span: Span, visit: &mut dyn FnMut(Batch<'_>)) -> Result<(), String> {
    let (mut from, end) = (wal.oldest(), wal.end());
    let start = from;
    while from < end {
        let frames = wal.read(from, READ_BYTES_MAX).map_err(unreadable)?;
        let Some(last) = frames.last() else { break };
        from = last.next;
        let is_shown =
            |frame: &&Frame| matches!(frame.kind, FrameKind::Batch | FrameKind::Clock) && span.contains(frame.received);
        for frame in frames.iter().filter(is_shown) {
            visit(Batch {
                bytes: &frame.payload,
                received: frame.received,
                records: frame.records.into(),
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

/// The file, or the files of a folder, sorted.
fn files_at(path: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let error = |error: std::io::Error| format!("cannot read the folder `{}`: {error}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, arguments: &HistoryArguments, records: &mut Records) -> Result<(), String> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
    let labels = arguments.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let stream = Labels::new([("filename", name.as_str())].into_iter().chain(labels));
    let lines = LineLabels { stream, end: Timestamp(0) };
    let (format, before) = (Format::detect(&bytes), records.len());
    records.read(&bytes, format, &lines).map_err(|error| format!("{name}: {error}"))?;
    let untimed = (before..records.len()).filter(|at| records.time(*at).0 <= 0).count();
    match format {
        _ if untimed == 0 => Ok(()),
        Format::Lines => {
            Err(format!("{name}: no line bears a time near its beginning, so that it is not known when they came"))
        }
        _ => Err(format!(
            "{name}: it is not known when {untimed} of its records came: they bear no time, or one before 1970"
        )),
    }
}

/// The clock goes through the whole history: one stray time, such as seconds where nanoseconds are meant, would make it go for ever.
fn check_span(records: &Records) -> Result<(), String> {
    let (first, last) = (records.received(0), records.received(records.len() - 1));
    if last.0.saturating_sub(first.0) <= SPAN_NANOS_MAX {
        return Ok(());
    }
    Err(format!(
        "the records reach from {first} to {last}, more than ten years: is the time of one of them in other units?"
    ))
}

/// Ten years; see [`check_span`].
const SPAN_NANOS_MAX: i64 = 10 * 366 * 24 * 60 * 60 * 1_000_000_000;

/// Records that come together, at most.
const BATCH_RECORDS_MAX: usize = 1000;

/// Time within which records come together.
const BATCH_NANOS_MAX: i64 = 1_000_000_000;

/// Payload of the log that is read at once.
const READ_BYTES_MAX: usize = 4 << 20;
