//! One batch against all rules: pure, so that batches are matched in parallel.
//!
//! Label dispatch comes first, once a resource; then the severity, then one automaton over the literals that rules need; only what
//! is left runs its stages. What comes out is small: partial sums per feed and group.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashTable};
use watchbell_proto::otlp::common::KeyValue;
use watchbell_proto::otlp::logs::{LogRecord, LogsRequest, ResourceLogs};

use crate::detect::pattern;
use crate::entry::LogEntry;
use crate::labels::Labels;
use crate::otlp_labels::{OtlpEntry, ResourceLabels, ScopeLabels};
use crate::pipeline::{Extracted, Record, Verdict};
use crate::plan::{EMPTY_PART, ERROR_KEY, EngineConfig, Feed, KEY_SEPARATOR, Measure, Plan};
use crate::query::over_time::Sample;
use crate::time::{Received, Timestamp};
use crate::vector::LabelSet;
use crate::window::Cell;

/// What a batch means to the rules of one plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matched {
    /// Records in the batch.
    pub records: u64,
    /// Records that a stage failed on, once for each pipeline that did; they are not counted.
    pub failed: u64,
    /// Services whose records were stamped more than `max_skew` after they were received, and how many.
    pub skewed: BTreeMap<String, u64>,
    /// Services whose records were stamped more than `max_age` before they were received, and how many: they are judged by another time.
    pub ancient: BTreeMap<String, u64>,
    /// Whether a fault of ours kept the batch from being matched: no rule sees its records.
    pub is_faulty: bool,
    /// By filter: the last record that a stage failed on.
    pub(crate) failures: BTreeMap<usize, Failure>,
    /// By filter, and by where a stage of it begins: what became of the records that came to it. Of a backtest alone.
    pub(crate) tallies: BTreeMap<(u32, u32), Tally>,
    /// Filters whose selector matched a resource. Of a backtest alone.
    pub(crate) selected: BTreeSet<u32>,
    /// Names of the index labels that there were. Of a backtest alone.
    pub(crate) index_labels: BTreeSet<String>,
    /// Which plan's feeds these are.
    pub(crate) plan: u64,
    pub(crate) feeds: Vec<(usize, Vec<Run>)>,
    pub(crate) sources: Vec<(u64, Timestamp)>,
    pub(crate) services: Vec<String>,
}

/// What fell into one group of one feed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) key: Box<[u8]>,
    /// Sorted by time.
    pub(crate) cells: Vec<Cell>,
    /// In place of cells where a label is unwrapped; sorted by time.
    pub(crate) samples: Vec<Sample>,
    /// Whether a cell may stand for several records.
    pub(crate) merged: bool,
    pub(crate) weight: u64,
    /// The last records, a ring.
    tail: Vec<RecordRef>,
    /// Where the oldest of a full ring is.
    oldest: usize,
    records: usize,
}

/// That a stage failed on records.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// When the last of them happened.
    pub(crate) at: Timestamp,
    /// Why, of the first.
    pub(crate) error: String,
}

/// Records that came to a stage, and those that it failed on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) reached: u64,
    pub(crate) failed: u64,
    /// `__error__` of the first that failed.
    pub(crate) error: Option<&'static str>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.reached += other.reached;
        self.failed += other.failed;
        self.error = self.error.or(other.error);
    }
}

/// Where a record lies in its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RecordRef {
    pub(crate) at: Timestamp,
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// Index into the batch's services.
    pub(crate) service: u32,
}

impl Run {
    fn new(key: &[u8]) -> Self {
        Self {
            key: key.into(),
            cells: Vec::new(),
            samples: Vec::new(),
            merged: false,
            weight: 0,
            tail: Vec::new(),
            oldest: 0,
            records: 0,
        }
    }

    /// The last records, in the order of the batch.
    pub(crate) fn last_records(&self) -> impl Iterator<Item = &RecordRef> + Clone {
        self.tail[self.oldest..].iter().chain(&self.tail[..self.oldest])
    }

    /// Whether some of its records are merged or not kept.
    pub(crate) fn is_cut(&self) -> bool {
        self.merged || self.records > self.tail.len()
    }

    /// When its records happened.
    pub(crate) fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.cells.iter().map(|cell| cell.at).chain(self.samples.iter().map(|sample| Timestamp(sample.at)))
    }

    /// When the first of them did.
    pub(crate) fn earliest(&self) -> Timestamp {
        self.times().next().unwrap_or(Timestamp::MAX)
    }

    fn push_sample(&mut self, feed: &Feed, cells_max: usize, value: f64, record: RecordRef) {
        self.samples.push(Sample { at: record.at.0, value });
        self.push_record(feed, cells_max, record);
    }

    fn push(&mut self, feed: &Feed, cells_max: usize, cell: Cell, record: RecordRef) {
        self.weight += cell.weight;
        match self.cells.last_mut() {
            Some(last) if last.at == cell.at => last.weight += cell.weight,
            Some(last) if self.records >= cells_max && cell.at > last.at && feed.merges(last.at, cell.at) => {
                *last = Cell { at: cell.at, weight: last.weight + cell.weight };
                self.merged = true;
            }
            _ => self.cells.push(cell),
        }
        self.push_record(feed, cells_max, record);
    }

    fn push_record(&mut self, feed: &Feed, cells_max: usize, record: RecordRef) {
        if self.tail.len() < feed.samples || cells_max == usize::MAX {
            self.tail.push(record);
        } else if feed.samples > 0 {
            self.tail[self.oldest] = record;
            self.oldest = if self.oldest + 1 == feed.samples { 0 } else { self.oldest + 1 };
        }
        self.records += 1;
    }
}

impl Plan {
    /// Matches a batch; its bytes are an OTLP request of logs that was checked at the door.
    pub fn match_batch(&self, batch: &[u8], received: impl Into<Received>) -> Matched {
        let received = received.into();
        self.contained(|| Matcher::new(self, batch, received, None).run())
    }

    /// The same, with a tally of each stage.
    pub(crate) fn match_with_tallies(&self, batch: &[u8], received: Received) -> Matched {
        self.contained(|| Matcher { has_tallies: true, ..Matcher::new(self, batch, received, None) }.run())
    }

    /// What comes of a panic is a batch that no rule sees. The log holds the batch for good: a collector that fell over it would do so
    /// again after each restart.
    fn contained(&self, run: impl FnOnce() -> Matched) -> Matched {
        let faulty = || Matched { plan: self.id, is_faulty: true, ..Matched::default() };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| faulty())
    }

    /// A feed's records in a batch, none merged and all kept.
    pub(crate) fn rematch(&self, batch: &[u8], received: Received, feed: usize) -> impl Iterator<Item = Run> {
        Matcher::new(self, batch, received, Some(feed)).run().feeds.into_iter().flat_map(|(_, runs)| runs)
    }
}

/// When a record happened: its own time, else the time it was observed at, else when it was received; never later than that. Where the log's
/// clock is ahead of the wall clock, what was stamped by such a clock happened as much later; a stamp from beyond the wall clock is of one
/// that was not set back. Beside it stands whether its first stamp was passed over for its age.
fn event_time(record: &LogRecord<'_>, received: Received, config: &EngineConfig) -> (Timestamp, bool) {
    let Received { at: received, ahead } = received;
    let by_the_log = |time: Timestamp| if time > received - ahead + config.max_skew { time } else { time + ahead };
    let stamps = [record.time_unix_nano, record.observed_time_unix_nano];
    let known =
        stamps.into_iter().filter(|stamp| *stamp != 0).map(|stamp| Timestamp(i64::try_from(stamp).unwrap_or(i64::MAX)));
    let mut times = known.map(|time| by_the_log(time).min(received));
    let is_ancient = |time: Timestamp| received.since(time) > config.max_age;
    match times.next() {
        Some(first) if is_ancient(first) => (times.find(|time| !is_ancient(*time)).unwrap_or(received), true),
        first => (first.unwrap_or(received), false),
    }
}

struct Matcher<'a> {
    plan: &'a Plan,
    request: LogsRequest<'a>,
    received: Received,
    /// The only feed that is matched, and exactly.
    only: Option<usize>,
    hasher: DefaultHashBuilder,
    /// Of the feeds that records fell into.
    groups: Vec<Groups>,
    /// By feed: where in `groups` its own are, from 1.
    places: Vec<u32>,
    /// How many resources there were.
    resources: usize,
    candidates: Candidates,
    extracted: Extracted,
    /// The present record's, kept for its memory.
    attributes: Vec<KeyValue<'a>>,
    key: Vec<u8>,
    has_tallies: bool,
    matched: Matched,
}

/// The groups of one feed.
struct Groups {
    feed: usize,
    /// The resource of the last record.
    resource: usize,
    by_key: HashTable<usize>,
    runs: Vec<Run>,
    /// The group of all records of the present resource, where the resource alone decides it.
    constant: Option<usize>,
    is_constant: bool,
    /// The group of the record before.
    last: usize,
}

impl Groups {
    fn new(feed: usize) -> Self {
        Self {
            feed,
            resource: 0,
            by_key: HashTable::new(),
            runs: Vec::new(),
            constant: None,
            is_constant: false,
            last: 0,
        }
    }

    fn find_or_insert(&mut self, key: &[u8], hasher: &DefaultHashBuilder) -> usize {
        let Self { by_key, runs, last, .. } = self;
        if runs.get(*last).is_some_and(|run| *run.key == *key) {
            return *last;
        }
        let hash = hasher.hash_one(key);
        if let Some(run) = by_key.find(hash, |run| *runs[*run].key == *key) {
            return *run;
        }
        runs.push(Run::new(key));
        let run = runs.len() - 1;
        by_key.insert_unique(hash, run, |run| hasher.hash_one(&*runs[*run].key));
        run
    }
}

impl<'a> Matcher<'a> {
    fn new(plan: &'a Plan, batch: &'a [u8], received: Received, only: Option<usize>) -> Self {
        Self {
            plan,
            request: LogsRequest::new(batch),
            received,
            only,
            hasher: DefaultHashBuilder::default(),
            groups: Vec::new(),
            places: vec![0; plan.feeds.len()],
            resources: 0,
            candidates: Candidates::default(),
            extracted: Extracted::default(),
            attributes: Vec::new(),
            key: Vec::new(),
            has_tallies: false,
            matched: Matched { plan: plan.id, ..Matched::default() },
        }
    }

    fn run(mut self) -> Matched {
        for resource_logs in self.request.resource_logs() {
            let resource = resource_logs.resource();
            let mut labels = None; // made at the first record: a resource without one costs nothing
            let mut reached = Timestamp::MIN;
            for scope_logs in resource_logs.scope_logs() {
                let mut scope = None;
                for record in scope_logs.log_records() {
                    let labels = labels.get_or_insert_with(|| self.enter_resource(&resource_logs));
                    let scope = scope.get_or_insert_with(|| ScopeLabels::new(scope_logs.scope()));
                    reached = reached.max(self.record(labels, scope, record));
                }
            }
            if reached > Timestamp::MIN {
                self.matched.sources.push((xxhash_rust::xxh3::xxh3_64(resource.raw), reached));
            }
        }
        self.finish()
    }

    fn enter_resource(&mut self, resource_logs: &ResourceLogs<'_>) -> ResourceLabels {
        let labels = ResourceLabels::of(resource_logs, &self.plan.config.labels);
        self.resources += 1;
        let mut filters = self.plan.dispatch.filters(&self.plan.selectors, &labels);
        if self.has_tallies {
            self.matched.selected.extend(&filters);
            self.matched.index_labels.extend(labels.index_labels().iter().map(|(name, _)| name.to_owned()));
        }
        if let Some(feed) = self.only {
            filters.retain(|filter| self.plan.filters[*filter as usize].feeds.contains(&feed));
        }
        self.candidates.reset(self.plan, filters);
        let service = labels.index("service_name").unwrap_or_default();
        if self.matched.services.last().is_none_or(|last| last != service) {
            self.matched.services.push(service.to_owned());
        }
        labels
    }

    /// Runs a record through the filters that its resource and its severity leave; yields its time.
    fn record(&mut self, resource: &ResourceLabels, scope: &ScopeLabels<'a>, record: LogRecord<'a>) -> Timestamp {
        self.matched.records += 1;
        let config = &self.plan.config;
        let (at, is_ancient) = event_time(&record, self.received, config);
        if is_ancient {
            count(&self.matched.services, &mut self.matched.ancient);
        }
        if record.time_unix_nano > self.received.at.0.max(0) as u64 + config.max_skew.as_nanos() as u64 {
            count(&self.matched.services, &mut self.matched.skewed);
        }
        let candidates = self.candidates.of_severity(self.plan, severity_of(&record));
        if candidates.is_empty() {
            return at;
        }
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        if candidates.needs_labels {
            attributes.extend(record.attributes());
        }
        self.run_filters(&OtlpEntry { resource, scope, record, attributes: &attributes }, &candidates, at);
        self.attributes = attributes;
        at
    }

    // Apart, so that a record that no filter is waiting for is passed by quickly.
    #[inline(never)]
    fn run_filters(&mut self, entry: &OtlpEntry<'_, 'a>, candidates: &SeverityCandidates, at: Timestamp) {
        let range = self.request.range_of(entry.record.raw);
        let service = self.matched.services.len() as u32 - 1;
        let place = RecordRef { at, start: range.start as u32, len: range.len() as u32, service };
        let record = Record::new(entry, at, self.received.at);
        for filter in &candidates.always {
            self.run_filter(*filter, &record, place);
        }
        if candidates.needs_line {
            let found = self.candidates.scan(self.plan, record.line());
            for filter in &found {
                if self.plan.filters[*filter as usize].pipeline.admits_severity(severity_of(&entry.record)) {
                    self.run_filter(*filter, &record, place);
                }
            }
            self.candidates.found = found;
        }
    }

    fn run_filter(&mut self, filter: u32, record: &Record<'_, OtlpEntry<'_, 'a>>, place: RecordRef) {
        let planned = &self.plan.filters[filter as usize];
        let verdict = match self.has_tallies {
            true => self.run_with_tallies(filter, record),
            false => planned.pipeline.run_admitted(record, &mut self.extracted),
        };
        match verdict {
            Verdict::Dropped => {}
            Verdict::Failed => self.fail(filter, place.at),
            Verdict::Kept => planned.feeds.iter().for_each(|feed| self.add(*feed, record, place)),
        }
    }

    fn add(&mut self, index: usize, record: &Record<'_, OtlpEntry<'_, 'a>>, place: RecordRef) {
        if self.only.is_some_and(|only| only != index) {
            return;
        }
        let feed = &self.plan.feeds[index];
        let cells_max = if self.only.is_some() { usize::MAX } else { feed.cells_max };
        let weight = match feed.measure {
            Measure::Records | Measure::Patterns => 1,
            Measure::Bytes => self.extracted.line(record).len() as u64,
            Measure::Unwrapped => {
                let Some(sample) = self.extracted.sample() else { return };
                return self.run_of(index, record).push_sample(feed, cells_max, sample, place);
            }
        };
        self.run_of(index, record).push(feed, cells_max, Cell { at: place.at, weight }, place);
    }

    /// An error that the rule asks for, so that the record stays, is none.
    fn run_with_tallies(&mut self, filter: u32, record: &Record<'_, OtlpEntry<'_, 'a>>) -> Verdict {
        let mut reached = Vec::new();
        let pipeline = &self.plan.filters[filter as usize].pipeline;
        let verdict =
            pipeline.run_shown(record, &mut self.extracted, &mut |place, error| reached.push((place.start, error)));
        for (place, error) in reached {
            let error = error.filter(|_| verdict != Verdict::Kept);
            let tally = Tally { reached: 1, failed: error.is_some().into(), error };
            self.matched.tallies.entry((filter, place)).or_default().add(&tally);
        }
        verdict
    }

    #[cold]
    fn fail(&mut self, filter: u32, at: Timestamp) {
        self.matched.failed += 1;
        let extracted = &self.extracted;
        let error = || match (extracted.failure().unwrap_or_default(), extracted.error_details()) {
            (error, Some(details)) => format!("{error} ({details})"),
            (error, None) => error.to_owned(),
        };
        let failures = &mut self.matched.failures;
        let failure = failures.entry(filter as usize).or_insert_with(|| Failure { at, error: error() });
        failure.at = failure.at.max(at);
    }

    /// What falls into the record's group, made if it is new.
    fn run_of(&mut self, feed: usize, record: &Record<'_, OtlpEntry<'_, 'a>>) -> &mut Run {
        if self.places[feed] == 0 {
            self.groups.push(Groups::new(feed));
            self.places[feed] = self.groups.len() as u32;
        }
        let groups = &mut self.groups[self.places[feed] as usize - 1];
        if groups.resource != self.resources {
            groups.resource = self.resources;
            groups.constant = None;
            groups.is_constant = is_constant(self.plan, &self.plan.feeds[feed], record.entry().resource);
        }
        let is_constant = groups.is_constant && self.extracted.error().is_none();
        let run = match groups.constant.filter(|_| is_constant) {
            Some(run) => run,
            None => {
                self.key.clear();
                write_key(&self.plan.feeds[feed], record, &self.extracted, &mut self.key);
                groups.last = groups.find_or_insert(&self.key, &self.hasher);
                groups.constant = groups.constant.or(is_constant.then_some(groups.last));
                groups.last
            }
        };
        &mut groups.runs[run]
    }

    fn finish(mut self) -> Matched {
        self.groups.sort_unstable_by_key(|groups| groups.feed);
        for groups in self.groups {
            let mut runs = groups.runs;
            for run in &mut runs {
                if !run.cells.is_sorted_by_key(|cell| cell.at) {
                    run.cells.sort_by_key(|cell| cell.at);
                }
                if !run.samples.is_sorted_by_key(|sample| sample.at) {
                    run.samples.sort_by_key(|sample| sample.at);
                }
            }
            self.matched.feeds.push((groups.feed, runs));
        }
        self.matched
    }
}

/// Whether all records of a resource fall into one group.
fn is_constant(plan: &Plan, feed: &Feed, resource: &ResourceLabels) -> bool {
    match &feed.groups {
        _ if feed.measure == Measure::Patterns => false,
        LabelSet::Only(names) => {
            plan.filters[feed.filter].pipeline.keeps_own_labels()
                && names.iter().all(|name| resource.index(name).is_some())
        }
        LabelSet::AllBut(_) => false,
    }
}

/// Writes what makes the record's group: the values of the labels, or names and values.
fn write_key<E: LogEntry>(feed: &Feed, record: &Record<'_, E>, extracted: &Extracted, key: &mut Vec<u8>) {
    match &feed.groups {
        LabelSet::Only(names) if feed.measure == Measure::Patterns => {
            write_values(feed, &names[..names.len() - 1], record, extracted, key);
            pattern::write(record, extracted, key);
            key.push(KEY_SEPARATOR);
        }
        LabelSet::Only(names) if extracted.error().is_some() => write_error_key(feed, names, record, extracted, key),
        LabelSet::Only(names) => write_values(feed, names, record, extracted, key),
        LabelSet::AllBut(names) => {
            let mut labels: Vec<(String, String)> = Vec::new();
            extracted.for_each_label_but(record, names, &mut |name, value| {
                if feed.apart.empty || !value.is_empty() {
                    labels.push((name.to_owned(), value.to_owned()));
                }
            });
            labels.sort();
            labels.iter().for_each(|(name, value)| push_label(key, name, value));
        }
    }
}

/// The key of a record that counts in spite of its error.
fn write_error_key<E: LogEntry>(
    feed: &Feed,
    names: &[String],
    record: &Record<'_, E>,
    extracted: &Extracted,
    key: &mut Vec<u8>,
) {
    let labels = extracted.labels_with_error(record, true);
    let labels = if feed.apart.empty { Labels::with_empty(labels) } else { Labels::new(labels) };
    if feed.apart.errors {
        key.push(ERROR_KEY);
        labels.iter().for_each(|(name, value)| push_label(key, name, value));
    } else {
        names.iter().for_each(|name| push_part(key, labels.get(name).unwrap_or_default()));
    }
}

fn push_label(key: &mut Vec<u8>, name: &str, value: &str) {
    push_part(key, name);
    push_part(key, value);
}

fn push_part(key: &mut Vec<u8>, part: &str) {
    key.extend_from_slice(part.as_bytes());
    key.push(KEY_SEPARATOR);
}

fn write_values<E: LogEntry>(
    feed: &Feed,
    names: &[String],
    record: &Record<'_, E>,
    extracted: &Extracted,
    key: &mut Vec<u8>,
) {
    for name in names {
        if let Some(value) = extracted.group_label(record, name) {
            let before = key.len();
            value.append_to(key);
            if feed.apart.empty && key.len() == before {
                key.push(EMPTY_PART);
            }
        }
        key.push(KEY_SEPARATOR);
    }
}

/// The filters that a record of the present resource can pass.
#[derive(Default)]
struct Candidates {
    of_resource: Vec<u32>,
    by_severity: Vec<Option<Rc<SeverityCandidates>>>,
    /// By filter: the last set of candidates that it was in.
    in_set: Vec<u32>,
    set: u32,
    /// By filter: the scan in which one of its literals was last found.
    found_in: Vec<u32>,
    /// By literal: the scan in which it was last found.
    literal_found_in: Vec<u32>,
    scan: u32,
    /// What the last scan found, kept for its memory.
    found: Vec<u32>,
}

struct SeverityCandidates {
    /// Those that are not found by literals.
    always: Vec<u32>,
    /// Whether there are others.
    needs_line: bool,
    /// Whether one of them, or of their feeds, reads labels.
    needs_labels: bool,
}

impl SeverityCandidates {
    fn is_empty(&self) -> bool {
        self.always.is_empty() && !self.needs_line
    }
}

impl Candidates {
    fn reset(&mut self, plan: &Plan, filters: Vec<u32>) {
        if filters == self.of_resource && !self.by_severity.is_empty() {
            return;
        }
        self.by_severity.clear();
        self.by_severity.resize(SEVERITIES, None);
        self.in_set.resize(plan.filters.len(), 0);
        self.set += 1;
        filters.iter().for_each(|filter| self.in_set[*filter as usize] = self.set);
        self.of_resource = filters;
    }

    fn of_severity(&mut self, plan: &Plan, severity: i32) -> Rc<SeverityCandidates> {
        let of_resource = &self.of_resource;
        let candidates = self.by_severity[severity as usize].get_or_insert_with(|| {
            let filters = of_resource.iter().map(|at| (*at, &plan.filters[*at as usize]));
            let filters = filters.filter(|(_, filter)| filter.pipeline.admits_severity(severity));
            let needs_line = filters.clone().any(|(_, filter)| filter.indexed);
            let needs_labels = filters.clone().any(|(_, filter)| filter.reads_labels);
            let always = filters.filter(|(_, filter)| !filter.indexed).map(|(at, _)| at).collect();
            Rc::new(SeverityCandidates { always, needs_line, needs_labels })
        });
        candidates.clone()
    }

    /// The filters of the resource that need a literal of the line, each once.
    fn scan(&mut self, plan: &Plan, line: &str) -> Vec<u32> {
        self.found_in.resize(plan.filters.len(), 0);
        self.literal_found_in.resize(plan.literals.len(), 0);
        self.scan += 1;
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        let (found_in, literal_found_in, scan) = (&mut self.found_in, &mut self.literal_found_in, self.scan);
        let mut missing = plan.literals.len();
        plan.literals.for_each_found(line, |literal| {
            if std::mem::replace(&mut literal_found_in[literal], scan) != scan {
                missing -= 1;
                for filter in plan.literals.filters(literal) {
                    let is_new = std::mem::replace(&mut found_in[*filter as usize], scan) != scan;
                    if is_new && self.in_set[*filter as usize] == self.set {
                        found.push(*filter);
                    }
                }
            }
            missing > 0
        });
        found
    }
}

/// Counts a record for the service that is the last of these.
fn count(services: &[String], records: &mut BTreeMap<String, u64>) {
    let Some(service) = services.last() else { return };
    match records.get_mut(service) {
        Some(count) => *count += 1,
        None => _ = records.insert(service.clone(), 1),
    }
}

/// The severity number, 0 and 31 standing for what is none.
fn severity_of(record: &LogRecord<'_>) -> i32 {
    record.severity_number.clamp(0, SEVERITIES as i32 - 1)
}

/// OpenTelemetry's severity numbers, and what is none of them.
const SEVERITIES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use watchbell_proto::otlp::common::AnyValue;
    use watchbell_proto::otlp::encode;
    use watchbell_proto::wire::put_bytes_field;

    /// A request with a message for each of these resources, each with that many scopes of one empty record.
    fn request(resources: &[(&str, usize)]) -> Vec<u8> {
        let mut request = Vec::new();
        for (service, records) in resources {
            let mut resource_logs = Vec::new();
            put_bytes_field(&mut resource_logs, 1, &encode::resource([("service.name", AnyValue::String(service))]));
            (0..*records).for_each(|_| put_bytes_field(&mut resource_logs, 2, &[0x12, 0]));
            put_bytes_field(&mut request, 1, &resource_logs);
        }
        request
    }

    #[test]
    fn a_fault_costs_one_batch() {
        let file = "groups: [{name: g, rules: [{alert: A, expr: 'count_over_time({service_name=\"a\"}[1m]) > 0'}]}]";
        let file = crate::rule_file::parse("rules.yaml", file).unwrap();
        let plan = std::sync::Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap());
        let mut engine = crate::engine::Engine::new(plan.clone(), Timestamp(0));
        let batch = request(&[("a", 1)]);
        let faulty = plan.contained(|| panic!("a fault"));
        assert!(faulty.is_faulty);
        engine.handle_batch(faulty, &batch, Timestamp(1));
        assert_eq!(engine.poll_output(), None);
        let matched = plan.match_batch(&batch, Timestamp(2));
        assert!(!matched.is_faulty);
        engine.handle_batch(matched, &batch, Timestamp(2));
        assert!(engine.poll_output().is_some());
    }

    #[test]
    fn a_service_is_remembered_once_and_for_records_alone() {
        let plan = Plan::compile(&[], &EngineConfig::default()).unwrap();
        let matched = plan.match_batch(&request(&[("a", 0), ("b", 1), ("b", 2), ("c", 1)]), Timestamp(1));
        assert_eq!((matched.records, matched.services), (4, vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(matched.sources.len(), 3);
        assert_eq!(plan.match_batch(&[0x0A, 0].repeat(1000), Timestamp(1)).services.capacity(), 0);
    }
}
