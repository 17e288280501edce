//! What is static about a place in the code that logs: encoded once, then copied.
//!
//! A [`Callsite`] lives as long as the process, as the `tracing` callsite it belongs to does. Each thread finds it in a small cache of
//! its own, so that no lock is shared between threads that log.

mod scope;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock, RwLock};

use tracing_core::field::Field;
use tracing_core::{Level, Metadata};
use watchbell_proto::wire::{put_bytes_field, put_message_field, put_varint_field};

use crate::levels::{Levels, Ways};
use crate::record::{AttributeHead, TIMES_BYTES};
use crate::redact::Redaction;
use crate::restraint::{Rate, Site};
use crate::tell;
pub(crate) use scope::{SCOPES_MAX, Scope, ScopeId};

/// What of an event is the same at each call.
pub(crate) struct Callsite {
    metadata: &'static Metadata<'static>,
    is_log: bool,
    scope: ScopeId,
    head: Box<[u8]>,
    /// Where in the head the attributes begin that tell its place in the code, and how many these are.
    place: usize,
    place_attributes: u32,
    fields: Box<[FieldUse]>,
    tells_exception: bool,
    found: Found,
    /// The fields that are redacted, above the number of the redaction by which they were found.
    redacted: AtomicU64,
    /// Whether it sets its own rate, and that, once an event has told it.
    has_limit: bool,
    limit: OnceLock<Option<Rate>>,
}

/// What becomes of a field's value.
pub(crate) enum FieldUse {
    /// It is the record's body.
    Message,
    /// It is an attribute.
    Attribute(AttributeHead),
    /// It is the rate of its callsite.
    Limit,
    /// It is the record's severity.
    Severity,
    /// It names the scope of a record that came from the `log` crate.
    LogTarget,
    /// It is not exported.
    Ignored,
}

impl Callsite {
    /// The callsite of an event, from this thread's cache if it is there.
    #[inline]
    pub(crate) fn of(metadata: &'static Metadata<'static>, cache: &CallsiteCache) -> &'static Callsite {
        let slot = &cache.0[cache_index(metadata)];
        match slot.get() {
            Some(callsite) if std::ptr::eq(callsite.metadata, metadata) => callsite,
            _ => {
                let callsite = registered(metadata);
                slot.set(Some(callsite));
                callsite
            }
        }
    }

    /// Room for the times, then severity, event name and code attributes, encoded as fields of a `LogRecord`.
    #[inline]
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The same without the code attributes.
    #[cold]
    pub(crate) fn head_without_place(&self) -> &[u8] {
        &self.head[..self.place]
    }

    /// How many code attributes the head has.
    #[inline]
    pub(crate) fn place_attributes(&self) -> u32 {
        self.place_attributes
    }

    /// The scope of its records: the event's target.
    #[inline]
    pub(crate) fn scope(&self) -> ScopeId {
        self.scope
    }

    /// What becomes of a field.
    #[inline]
    pub(crate) fn field(&self, field: &Field) -> &FieldUse {
        self.fields.get(field.index()).unwrap_or(&FieldUse::Ignored)
    }

    /// Where its events go. Of the `log` crate's it depends on the record.
    #[inline]
    pub(crate) fn ways(&self, levels: &Levels) -> Ways {
        self.found.ways(levels, self.metadata.target(), *self.metadata.level())
    }

    /// Whether its events have such a field.
    pub(crate) fn has_field(&self, key: &str) -> bool {
        self.metadata.fields().iter().any(|field| field.name() == key)
    }

    /// The fields whose names are secret, a bit for each; a callsite has at most 32.
    #[inline]
    pub(crate) fn redacted(&self, redaction: &Redaction) -> u32 {
        let known = self.redacted.load(Ordering::Relaxed);
        if known as u32 == redaction.number() {
            return (known >> 32) as u32;
        }
        let is_secret = |field: &Field| redaction.fate(field.name()).is_some() && field.name() != "message";
        let fields = self.metadata.fields().iter().filter(is_secret);
        let fields = fields.fold(0, |fields, field| fields | 1u32 << (field.index() & 31));
        self.redacted.store(u64::from(fields) << 32 | u64::from(redaction.number()), Ordering::Relaxed);
        fields
    }

    #[inline]
    pub(crate) fn has_limit(&self) -> bool {
        self.has_limit
    }

    /// The rate that it sets itself.
    pub(crate) fn limit(&self) -> Option<Rate> {
        self.limit.get().copied().flatten()
    }

    /// Reads the rate, once.
    pub(crate) fn set_limit(&self, text: &str) {
        self.limit.get_or_init(|| {
            let rate = text.parse();
            rate.map_err(|error: String| {
                let (file, line) = (self.metadata.file().unwrap_or_default(), self.metadata.line().unwrap_or_default());
                tell::warn(format_args!("`watchbell.limit` at {file}:{line} holds nothing back: {error}"));
            })
            .ok()
        });
    }

    /// What was found of its events.
    #[inline]
    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    pub(crate) fn is_log(&self) -> bool {
        self.is_log
    }

    pub(crate) fn metadata(&self) -> &'static Metadata<'static> {
        self.metadata
    }

    pub(crate) fn level(&self) -> Level {
        *self.metadata.level()
    }

    /// Whether its own fields are `exception.message` and the like, so that none are to be made of an error.
    pub(crate) fn tells_exception(&self) -> bool {
        self.tells_exception
    }

    fn new(metadata: &'static Metadata<'static>) -> Self {
        let is_log = is_log(metadata);
        let fields = metadata.fields().iter().map(|field| field_use(field.name(), is_log)).collect();
        let mut head = head(metadata);
        let place = head.len();
        let place_attributes = put_place(&mut head, metadata);
        Self {
            metadata,
            is_log,
            scope: ScopeId::of_target(metadata.target()),
            head: head.into(),
            place,
            place_attributes,
            fields,
            tells_exception: metadata.fields().iter().any(|field| field.name().starts_with("exception.")),
            found: Found::default(),
            redacted: AtomicU64::new(0),
            has_limit: metadata.fields().iter().any(|field| field.name() == LIMIT),
            limit: OnceLock::new(),
        }
    }
}

/// What was found of the records of one target and level, and is not looked up again.
#[derive(Default)]
pub(crate) struct Found {
    /// Where they go, above the number of the levels by which that was found.
    ways: AtomicU64,
    /// What holds them back, with the number of the restraint that found it.
    site: OnceLock<(u32, Option<&'static Site>)>,
}

impl Found {
    /// Where they go.
    #[inline]
    pub(crate) fn ways(&self, levels: &Levels, target: &str, level: Level) -> Ways {
        let generation = levels.generation() & GENERATION_BITS;
        let known = self.ways.load(Ordering::Relaxed);
        if known & GENERATION_BITS == generation {
            return Ways::from_bits((known >> 32) as u32);
        }
        let ways = levels.ways(target, level);
        self.ways.store(u64::from(ways.bits()) << 32 | generation, Ordering::Relaxed);
        ways
    }

    /// What holds them back, as `find` finds it for this restraint.
    #[inline]
    pub(crate) fn site(&self, restraint: u32, find: impl FnOnce() -> Option<&'static Site>) -> Option<&'static Site> {
        match self.site.get() {
            Some((known, site)) if *known == restraint => *site,
            _ => {
                let site = find();
                let _ = self.site.set((restraint, site)); // a second pipeline of the process has to look it up
                site
            }
        }
    }
}

/// Numbers of levels are told apart by 32 bits: four thousand million changes later a callsite might go by old ones.
const GENERATION_BITS: u64 = u32::MAX as u64;

/// A thread's own way to the callsites it uses: direct mapped, 512 bytes.
pub(crate) struct CallsiteCache([Cell<Option<&'static Callsite>>; CACHE_SLOTS]);

const CACHE_SLOTS: usize = 64;

impl CallsiteCache {
    pub(crate) const fn new() -> Self {
        Self([const { Cell::new(None) }; CACHE_SLOTS])
    }
}

#[inline]
fn cache_index(metadata: &'static Metadata<'static>) -> usize {
    let address = std::ptr::from_ref(metadata).addr();
    (address >> 4 ^ address >> 11) % CACHE_SLOTS
}

#[cold]
fn registered(metadata: &'static Metadata<'static>) -> &'static Callsite {
    static CALLSITES: LazyLock<RwLock<HashMap<usize, &'static Callsite>>> = LazyLock::new(RwLock::default);
    let address = std::ptr::from_ref(metadata).addr();
    if let Some(callsite) = read(&CALLSITES).get(&address) {
        return callsite;
    }
    write(&CALLSITES).entry(address).or_insert_with(|| Box::leak(Box::new(Callsite::new(metadata))))
}

fn head(metadata: &Metadata<'_>) -> Vec<u8> {
    let mut out = vec![0; TIMES_BYTES];
    let (number, text) = severity(*metadata.level());
    put_varint_field(&mut out, 2, number);
    put_bytes_field(&mut out, 3, text.as_bytes());
    if let Some(name) = given_name(metadata) {
        put_bytes_field(&mut out, 12, name.as_bytes());
    }
    out
}

fn put_place(out: &mut Vec<u8>, metadata: &Metadata<'_>) -> u32 {
    let (file, line) = (metadata.file(), metadata.line());
    if let Some(file) = file {
        put_attribute(out, "code.file.path", |out| put_bytes_field(out, 1, file.as_bytes()));
    }
    if let Some(line) = line {
        put_attribute(out, "code.line.number", |out| put_varint_field(out, 3, u64::from(line)));
    }
    u32::from(file.is_some()) + u32::from(line.is_some())
}

/// Appends an attribute of a log record whose value `value` writes.
pub(crate) fn put_attribute(out: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    put_message_field(out, 6, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message_field(out, 2, value);
    });
}

/// `severity_number` and `severity_text` of a level.
pub(crate) fn severity(level: Level) -> (u64, &'static str) {
    match level {
        Level::TRACE => (1, "TRACE"),
        Level::DEBUG => (5, "DEBUG"),
        Level::INFO => (9, "INFO"),
        Level::WARN => (13, "WARN"),
        Level::ERROR => (17, "ERROR"),
    }
}

/// The event's name, unless it is the one that `tracing` makes up: `event src/x.rs:20`.
fn given_name<'a>(metadata: &Metadata<'a>) -> Option<&'a str> {
    let made_up = metadata.name().starts_with("event ") && metadata.name().contains(metadata.file().unwrap_or(":"));
    (!made_up && !is_log(metadata)).then_some(metadata.name())
}

/// Whether an event was a record of the `log` crate: those have five callsites for all, their place is in fields.
pub(crate) fn is_log(metadata: &Metadata<'_>) -> bool {
    metadata.name() == "log event" && metadata.target() == "log"
}

/// The field by which a callsite sets its own rate.
pub(crate) const LIMIT: &str = "watchbell.limit";

/// The field by which a record sets its own severity.
pub(crate) const SEVERITY: &str = "watchbell.severity";

fn field_use(name: &'static str, is_log: bool) -> FieldUse {
    match name {
        "message" => FieldUse::Message,
        LIMIT => FieldUse::Limit,
        SEVERITY => FieldUse::Severity,
        "log.target" if is_log => FieldUse::LogTarget,
        "log.file" if is_log => FieldUse::Attribute(AttributeHead::new("code.file.path")),
        "log.line" if is_log => FieldUse::Attribute(AttributeHead::new("code.line.number")),
        "log.module_path" if is_log => FieldUse::Ignored,
        _ => FieldUse::Attribute(AttributeHead::new(name.strip_prefix("r#").unwrap_or(name))),
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
