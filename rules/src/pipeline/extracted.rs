//! A record on its way through the stages: what they set, deleted and formatted lies over what it came with.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{ERROR_DETAILS_LABEL, ERROR_LABEL, PRESERVE_ERROR_LABEL, Pipeline, json, logfmt};
use crate::entry::{LabelValue, LogEntry};
use crate::time::Timestamp;

/// A record on its way through pipelines; its line is made when the first of them asks.
#[derive(Debug)]
pub struct Record<'e, E> {
    entry: &'e E,
    at: Timestamp,
    now: Timestamp,
    line: OnceCell<Cow<'e, str>>,
    own_error: OnceCell<Option<OwnError>>,
    pub(super) json: Shared<json::Fields>,
    pub(super) logfmt: Shared<logfmt::ReadPairs>,
}

/// The error, and its details, that structured metadata by their names tell: as in Loki they are the record's, not labels.
type OwnError = (String, Option<String>);

/// What a parser finds in the line as it came. The first pipelines that ask read the line themselves, each only as far as it needs to;
/// for all others it is read once, to its end.
#[derive(Debug)]
pub(super) struct Shared<T> {
    asked: Cell<u8>,
    found: OnceCell<Option<T>>,
}

impl<T> Shared<T> {
    const fn new() -> Self {
        Self { asked: Cell::new(0), found: OnceCell::new() }
    }

    /// `None` for who has to read the line itself: the first [`OWN_READERS`], and everybody where `read` gave nothing.
    pub(super) fn get(&self, read: impl FnOnce() -> Option<T>) -> Option<&T> {
        if self.asked.get() < OWN_READERS {
            self.asked.set(self.asked.get() + 1);
            return None;
        }
        self.found.get_or_init(read).as_ref()
    }
}

impl<'e, E: LogEntry> Record<'e, E> {
    /// A record that no pipeline has seen: when it happened, and when it is evaluated.
    pub fn new(entry: &'e E, at: Timestamp, now: Timestamp) -> Self {
        let (line, own_error) = (OnceCell::new(), OnceCell::new());
        Self { entry, at, now, line, own_error, json: Shared::new(), logfmt: Shared::new() }
    }

    /// When it happened: `__timestamp__` in templates.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// When it is evaluated: `now` in templates.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The record itself.
    pub fn entry(&self) -> &'e E {
        self.entry
    }

    /// Its line, as it came.
    #[inline]
    pub fn line(&self) -> &str {
        self.line.get_or_init(|| self.entry.line())
    }

    fn own_error(&self) -> Option<&OwnError> {
        let metadata = |name| self.entry.metadata(name).map(|value| value.into_text().into_owned());
        let read = || Some((metadata(ERROR_LABEL).filter(|error| !error.is_empty())?, metadata(ERROR_DETAILS_LABEL)));
        self.own_error.get_or_init(read).as_ref()
    }

    /// The value of a label that it came with. Metadata by the name of an index label is `name_extracted`.
    #[inline]
    fn label(&self, name: &str) -> Option<LabelValue<'e>> {
        self.entry.label(name).or_else(|| self.clashing(name))
    }

    fn has_label(&self, name: &str) -> bool {
        self.entry.has_label(name) || self.clashing(name).is_some()
    }

    /// The metadata of `name_extracted`, where `name` is an index label.
    fn clashing(&self, name: &str) -> Option<LabelValue<'e>> {
        let name = name.strip_suffix(DUPLICATE_SUFFIX)?;
        self.entry.index_label(name).and_then(|_| self.entry.metadata(name))
    }
}

/// What the stages made of a record. Made once and used for many records: it keeps its buffers.
#[derive(Debug, Default)]
pub struct Extracted {
    /// Whether a stage has done anything: where all only filter, the record is as it came.
    is_touched: bool,
    text: String,
    /// Bytes of the labels that were set, or were to be set: at most [`LABELS_BYTES_MAX`], else the rest is left out.
    label_bytes: usize,
    labels: Vec<Label>,
    /// Where each label is, once there are more than [`SCANNED_LABELS`]: a line of 1 MiB can hold 100,000.
    index: Option<Box<Index>>,
    line: String,
    has_line: bool,
    /// Borrowed where a stage failed.
    error: Option<Cow<'static, str>>,
    details: Option<Cow<'static, str>>,
    sample: Option<f64>,
    /// Labels that the pipeline needs and that stages have set.
    required_set: usize,
    /// Whether the error is one that the pipeline keeps.
    is_error_kept: bool,
    /// Whether a parser found a label of the error's name in the line.
    names_error: bool,
}

#[derive(Debug, Default)]
struct Index {
    hasher: DefaultHashBuilder,
    places: HashTable<u32>,
}

/// A label that a stage set or deleted.
#[derive(Debug)]
struct Label {
    /// In the text.
    name: Range<usize>,
    /// In the text; `None` where it is deleted.
    value: Option<Range<usize>>,
    /// Whether a stage has ever set it: no parser sets it again.
    was_set: bool,
    /// Whether a stage has ever deleted it: `by (...)` does not see it again.
    was_deleted: bool,
}

// What is left of the record.
impl Extracted {
    /// The line as the stages left it.
    pub fn line<'a, E: LogEntry>(&'a self, record: &'a Record<'_, E>) -> &'a str {
        if self.has_line { &self.line } else { record.line() }
    }

    /// The value of a label as the stages left it. One that is there may be empty.
    #[inline]
    pub fn label<'a, E: LogEntry>(&'a self, record: &'a Record<'_, E>, name: &str) -> Option<LabelValue<'a>> {
        if !self.is_touched {
            return record.label(name);
        }
        match name {
            ERROR_LABEL => self.error().map(text_value),
            ERROR_DETAILS_LABEL if self.error.is_some() => self.error_details().map(text_value),
            _ => self.value(record, name),
        }
    }

    /// The value of a label that a series is grouped by. As in Loki, one that a stage has deleted is not seen again, whatever sets it.
    pub fn group_label<'a, E: LogEntry>(&'a self, record: &'a Record<'_, E>, name: &str) -> Option<LabelValue<'a>> {
        if self.is_touched && self.find(name).is_some_and(|label| label.was_deleted) {
            None
        } else {
            self.label(record, name)
        }
    }

    /// Every label that is left, each name once; errors last.
    pub fn for_each_label<E: LogEntry>(&self, record: &Record<'_, E>, visit: &mut dyn FnMut(&str, &str)) {
        let mut has_metadata = false;
        record.entry.for_each_label(&mut |name, value| {
            has_metadata |= self.details.is_some() && record.entry.index_label(name).is_none();
            if self.find(name).is_none() && !is_own_error(record, name) {
                visit(name, value);
            }
        });
        for label in &self.labels {
            if let Some(value) = &label.value {
                visit(&self.text[label.name.clone()], &self.text[value.clone()]);
            }
        }
        if let Some(error) = self.error() {
            visit(ERROR_LABEL, error);
        }
        // Details whose error was dropped stay, except, as in Loki, where a record has nothing else to show than its index labels.
        if let Some(details) = self.error_details()
            && (self.error.is_some() || has_metadata || !self.labels.is_empty())
        {
            visit(ERROR_DETAILS_LABEL, details);
        }
    }

    /// The labels by which a record with an error is told apart, sorted: all that are left, whatever is asked for. `counts` tells whether it
    /// counts in spite of it.
    pub fn labels_with_error<E: LogEntry>(&self, record: &Record<'_, E>, counts: bool) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        self.for_each_label(record, &mut |name, value| labels.push((name.to_owned(), value.to_owned())));
        if counts {
            labels.push((PRESERVE_ERROR_LABEL.to_owned(), "true".to_owned()));
        }
        labels.sort_unstable();
        labels
    }

    /// The labels of a series by all labels but these. As in Loki, details whose error was dropped are not among them where one of
    /// the others is left out.
    pub fn for_each_label_but<E: LogEntry>(
        &self,
        record: &Record<'_, E>,
        names: &[String],
        visit: &mut dyn FnMut(&str, &str),
    ) {
        let has_lone_details = self.error.is_none() && !names.is_empty();
        self.for_each_label(record, &mut |name, value| {
            let is_lone = has_lone_details && name == ERROR_DETAILS_LABEL && self.error_details() == Some(value);
            if !is_lone && !names.iter().any(|other| other == name) {
                visit(name, value);
            }
        });
    }

    /// Whether a label that is left is as the record came with it.
    pub fn is_original(&self, name: &str) -> bool {
        self.find(name).is_none() && !matches!(name, ERROR_LABEL | ERROR_DETAILS_LABEL)
    }

    /// Why a stage failed, or what the record came with as its error: `__error__`.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Why a stage failed.
    pub(super) fn stage_error(&self) -> Option<&'static str> {
        match self.error {
            Some(Cow::Borrowed(error)) => Some(error),
            _ => None,
        }
    }

    /// Why the record cannot be counted: its error, or what stands in its line by that name.
    pub fn failure(&self) -> Option<&str> {
        let named = || Some(&self.text[self.find(ERROR_LABEL)?.value.clone()?]);
        self.error().or_else(named)
    }

    /// What that stage says of it: `__error_details__`.
    pub fn error_details(&self) -> Option<&str> {
        self.details.as_deref()
    }

    /// The number that `| unwrap` took from a label: 0 where it could not be read, `None` where there is no such stage.
    pub fn sample(&self) -> Option<f64> {
        self.sample
    }
}

// What the stages do.
impl Extracted {
    #[inline]
    pub(super) fn clear(&mut self) {
        if !self.is_touched {
            return;
        }
        self.is_touched = false;
        self.text.clear();
        self.label_bytes = 0;
        self.labels.clear();
        self.index = None;
        self.has_line = false;
        self.error = None;
        self.details = None;
        self.sample = None;
        self.required_set = 0;
        self.is_error_kept = false;
        self.names_error = false;
    }

    /// Clears what was made of another record.
    #[inline]
    pub(super) fn begin<E: LogEntry>(&mut self, record: &Record<'_, E>) {
        self.clear();
        if let Some((error, details)) = record.own_error() {
            self.is_touched = true;
            self.error = Some(Cow::Owned(error.clone()));
            self.details = details.clone().map(Cow::Owned);
        }
    }

    /// The value of a label; errors are none.
    pub(super) fn value<'a, E: LogEntry>(&'a self, record: &'a Record<'_, E>, name: &str) -> Option<LabelValue<'a>> {
        match self.find(name) {
            Some(label) => label.value.clone().map(|value| text_value(&self.text[value])),
            None => record.label(name),
        }
    }

    /// The record, as long as its line is as it came.
    pub(super) fn untouched<'r, 'e, E>(&self, record: &'r Record<'e, E>) -> Option<&'r Record<'e, E>> {
        (!self.has_line).then_some(record)
    }

    /// Works on the line, which lies aside for so long.
    pub(super) fn with_line<E: LogEntry, T>(
        &mut self,
        record: &Record<'_, E>,
        work: impl FnOnce(&str, &mut Self) -> T,
    ) -> T {
        if !self.has_line {
            return work(record.line(), self);
        }
        let line = std::mem::take(&mut self.line);
        let result = work(&line, self);
        self.line = line;
        result
    }

    pub(super) fn set_line(&mut self, line: String) {
        self.is_touched = true;
        self.line = line;
        self.has_line = true;
    }

    /// Sets a label to what `write` appends; fails where the labels become too large.
    pub(super) fn set(&mut self, pipeline: &Pipeline, name: &str, write: impl FnOnce(&mut String)) {
        self.is_touched = true;
        let start = self.text.len();
        write(&mut self.text);
        self.count_bytes(name.len() + self.text.len() - start);
        if self.is_full() {
            return self.text.truncate(start);
        }
        let value = Some(start..self.text.len());
        self.names_error |= name == ERROR_LABEL;
        match self.position(name) {
            Some(at) => {
                let first = !std::mem::replace(&mut self.labels[at].was_set, true);
                self.labels[at].value = value;
                self.required_set += usize::from(first && pipeline.requires(name));
            }
            None => {
                let start = self.text.len();
                self.text.push_str(name);
                let name_range = start..self.text.len();
                self.push(Label { name: name_range, value, was_set: true, was_deleted: false });
                self.required_set += usize::from(pipeline.requires(name));
            }
        }
    }

    /// Counts bytes of a label. In nested JSON each name holds those around it, and a short line comes to very much text.
    fn count_bytes(&mut self, bytes: usize) {
        self.label_bytes += bytes;
        if self.is_full() {
            let details = format!("the line's labels have more than {LABELS_BYTES_MAX} bytes (`LABELS_BYTES_MAX`)");
            self.fail("LabelsTooLargeErr", Some(Cow::Owned(details)));
        }
    }

    /// Whether no further label can be set.
    const fn is_full(&self) -> bool {
        self.label_bytes > LABELS_BYTES_MAX
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.is_touched = true;
        match self.position(name) {
            Some(at) => {
                self.labels[at].value = None;
                self.labels[at].was_deleted = true;
            }
            None => {
                let start = self.text.len();
                self.text.push_str(name);
                let name = start..self.text.len();
                self.push(Label { name, value: None, was_set: false, was_deleted: true });
            }
        }
    }

    pub(super) fn fail(&mut self, error: &'static str, details: Option<Cow<'static, str>>) {
        self.is_touched = true;
        self.error = Some(Cow::Borrowed(error));
        if details.is_some() {
            self.details = details;
        }
    }

    /// Whether there is an error that nobody asks for.
    pub(super) fn is_failed(&self) -> bool {
        self.error.is_some() && !self.is_error_kept
    }

    /// Whether a parser found a label of the error's name in the line.
    pub(super) fn names_error(&self) -> bool {
        self.names_error
    }

    pub(super) fn drop_error(&mut self) {
        self.error = None;
    }

    pub(super) fn drop_details(&mut self) {
        self.details = None;
    }

    pub(super) fn set_sample(&mut self, sample: f64) {
        self.is_touched = true;
        self.sample = Some(sample);
    }

    /// Whether all labels that the pipeline needs have been set.
    pub(super) fn has_all_of(&self, pipeline: &Pipeline) -> bool {
        pipeline.required.as_ref().is_some_and(|required| self.required_set >= required.len())
    }

    /// Whether a parser has to put `_extracted` behind the name: the record came with it, and no stage has changed it since.
    pub(super) fn clashes<E: LogEntry>(&self, record: &Record<'_, E>, name: &str) -> bool {
        record.entry.index_label(name).is_some_and(|value| !value.is_empty())
            || self.find(name).is_none() && record.has_label(name)
    }

    pub(super) fn was_set(&self, name: &str) -> bool {
        self.find(name).is_some_and(|label| label.was_set)
    }

    fn push(&mut self, label: Label) {
        self.labels.push(label);
        if self.labels.len() <= SCANNED_LABELS {
            return;
        }
        let Self { labels, text, index, .. } = self;
        let Index { hasher, places } = &mut **index.get_or_insert_default();
        let hash = |at: &u32| hasher.hash_one(&text[labels[*at as usize].name.clone()]);
        for at in places.len() as u32..labels.len() as u32 {
            places.insert_unique(hash(&at), at, hash);
        }
    }

    fn find(&self, name: &str) -> Option<&Label> {
        self.position(name).map(|at| &self.labels[at])
    }

    #[inline]
    fn position(&self, name: &str) -> Option<usize> {
        let is_it = |label: &Label| {
            #[cfg(test)]
            COMPARED.with(|compared| compared.set(compared.get() + 1));
            self.text[label.name.clone()] == *name
        };
        let Some(index) = &self.index else { return self.labels.iter().position(is_it) };
        let found = index.places.find(index.hasher.hash_one(name), |at| is_it(&self.labels[*at as usize]));
        found.map(|at| *at as usize)
    }
}

fn is_own_error<E: LogEntry>(record: &Record<'_, E>, name: &str) -> bool {
    matches!(name, ERROR_LABEL | ERROR_DETAILS_LABEL) && record.entry.index_label(name).is_none()
}

fn text_value(text: &str) -> LabelValue<'_> {
    LabelValue::Text(Cow::Borrowed(text))
}

/// Where a parser puts what it finds.
pub(super) struct Sink<'s, 'e, E> {
    pub(super) record: &'s Record<'e, E>,
    pub(super) pipeline: &'s Pipeline,
    pub(super) extracted: &'s mut Extracted,
}

/// Why a parser need not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All that anybody reads has been found.
    Complete,
    /// A label filter behind the parser drops the record.
    Dropped,
}

impl<E: LogEntry> Sink<'_, '_, E> {
    /// Sets a label to what `write` appends, unless nobody asks for it or a stage has set it before; a name that the record
    /// came with becomes `name_extracted`.
    pub(super) fn add(&mut self, name: &str, write: impl FnOnce(&mut String)) -> Result<(), Stop> {
        let Some(name) = self.name_for(name) else {
            if self.pipeline.required.is_none() {
                self.extracted.count_bytes(name.len()); // it was compared with all of the other's
            }
            return Ok(());
        };
        self.extracted.set(self.pipeline, &name, write);
        if self.pipeline.drops_early(self.record, self.extracted, &name) { Err(Stop::Dropped) } else { Ok(()) }
    }

    /// The name under which a label is set; `None` where it is not to be.
    pub(super) fn name_for<'n>(&self, name: &'n str) -> Option<Cow<'n, str>> {
        // Who asks for `name_extracted` is taken to ask for `name` too.
        if !self.pipeline.asks_for(name) {
            return None;
        }
        let name = match self.extracted.clashes(self.record, name) {
            true => Cow::Owned(format!("{name}{DUPLICATE_SUFFIX}")),
            false => Cow::Borrowed(name),
        };
        (self.pipeline.asks_for(&name) && !self.extracted.was_set(&name)).then_some(name)
    }

    /// Says that a parser failed. The record stays, which is what this yields.
    pub(super) fn fail_parsing(&mut self, error: &'static str, details: Option<Cow<'static, str>>) -> bool {
        self.extracted.fail(error, details);
        self.extracted.is_error_kept |= self.pipeline.keeps_parser_errors;
        true
    }

    /// Sets a label whoever asks for it; a name that the record came with becomes `name_extracted`.
    pub(super) fn force(&mut self, name: &str, write: impl FnOnce(&mut String)) {
        if self.extracted.clashes(self.record, name) {
            self.extracted.set(self.pipeline, &format!("{name}{DUPLICATE_SUFFIX}"), write);
        } else {
            self.extracted.set(self.pipeline, name, write);
        }
    }

    /// Whether a parser need not read on: all is there, or too much.
    pub(super) fn is_complete(&self) -> bool {
        self.extracted.has_all_of(self.pipeline) || self.extracted.is_full()
    }
}

/// Appends the text without U+FFFD, of which Loki makes spaces.
pub(super) fn push_valid(out: &mut String, text: &str) {
    if text.contains(char::REPLACEMENT_CHARACTER) {
        out.extend(text.chars().map(|c| if c == char::REPLACEMENT_CHARACTER { ' ' } else { c }));
    } else {
        out.push_str(text);
    }
}

/// Appends a key of the line as a label's name: what is no letter, digit or `_` becomes `_`, and one goes before a leading digit.
pub(super) fn push_label_name(out: &mut String, key: &str) {
    let key = key.trim();
    if out.is_empty() && key.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
}

/// Behind a name that the record came with already.
pub(super) const DUPLICATE_SUFFIX: &str = "_extracted";

/// Bytes of the names and values that stages set for one record.
const LABELS_BYTES_MAX: usize = 16 << 20;

/// So many pipelines read a line themselves: many stop early, and a shared reading does not.
const OWN_READERS: u8 = 3;

/// So many labels are found by looking at each.
const SCANNED_LABELS: usize = 32;

#[cfg(test)]
thread_local! {
    /// Names of labels that were looked at.
    pub(super) static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
