//! Secrets that are not to leave: by the key of a field, by what a value looks like, by its type.
//!
//! ```
//! use watchbell::redact::{Redaction, Secret, Values};
//! use watchbell::sink::{Format, Sink};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("log");
//! let guard = watchbell::builder()
//!     .redact(Redaction::usual().key("iban").values(Values::Emails).drop_key("*.body"))
//!     # .variables([("OTEL_SDK_DISABLED", "true")])
//!     # .sink(Sink::file(&path).format(Format::Logfmt))
//!     .init()?;
//! tracing::info!(user.password = "hunter2", iban = "DE02", "mail of ada@example.com paid with 4111 1111 1111 1111");
//! tracing::info!(pin = ?Secret::new(1234), request.body = "all of it", "authorized by Bearer abcdefgh12345678");
//! # drop(guard);
//! # let text = std::fs::read_to_string(path)?;
//! # assert!(text.contains(r#"msg="mail of [redacted] paid with [redacted]""#), "{text}");
//! # assert!(text.contains("user.password=[redacted] iban=[redacted]"), "{text}");
//! # assert!(text.contains(r#"msg="authorized by Bearer [redacted]""#) && text.contains("pin=[redacted]"), "{text}");
//! # for secret in ["hunter2", "DE02", "ada@", "4111", "abcdefgh", "1234", "request.body"] {
//! #     assert!(!text.contains(secret), "{secret} in {text}");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Redaction::hash_key`] puts a hash under a secret of the service's in the place of a value: that two records are of the same user can then be told, who it is
//! cannot.
//!
//! It holds for log records by each door, for spans with their events and links, for sinks and for the collector; the resource and metrics are as the
//! service sets them. A key is judged once a callsite, so that a redacted value is never formatted. What a value looks like is judged off the
//! thread that logs, before anything is written or sent; for a sink [in the call](crate::sink::Sink::in_call), for spans and with [mapped chunks](crate::spool::Spool::mapped), in the call.
//! A text is not taken apart as what it was made of: `?request` is what `Debug` wrote, in which names with values behind them are found (`password: "hunter2"`,
//! [`Values::Assignments`]), and what looks like a secret.
//! A panic's message on stderr is the panic hook's, and not judged.

mod assignments;
#[cfg_attr(not(feature = "hashed"), path = "redact/no_hash.rs")]
mod hash;
mod listed;
mod values;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use opentelemetry::trace::Status;
use opentelemetry::{Array, Context as OtelContext, ContextGuard, KeyValue, StringValue, Value as OtelValue};
use opentelemetry_sdk::trace::SpanData;
use watchbell_proto::wire::{
    Fields, Value as Wire, put_bytes_field, put_fixed32_field, put_fixed64_field, put_message_field, put_varint_field,
};

use crate::callsite::put_attribute;
use crate::caught::caught;
use crate::context::FieldValue;
use crate::lane::Local;
use crate::limits::{VALUE_BYTES_MAX, beginning, count_cut};
use crate::tell;
use crate::view::{ATTRIBUTES, key_value};

pub(crate) use listed::listed;
pub use values::Values;
/// A `Debug` as the derived one, in which fields that are marked `#[redact]` are `[redacted]`: the type decides what of it is ever shown, by whatever
/// door.
///
/// ```
/// use watchbell::redact::Redact;
///
/// #[derive(Redact)]
/// struct Login {
///     user: String,
///     #[redact]
///     password: String,
/// }
///
/// let login = Login { user: "ada".to_owned(), password: "hunter2".to_owned() };
/// tracing::info!(?login, "logged in");
/// assert_eq!(format!("{login:?}"), r#"Login { user: "ada", password: [redacted] }"#);
/// ```
#[cfg(feature = "macros")]
pub use watchbell_macros::Redact;

/// What stands where a secret was.
pub(crate) const REDACTED: &str = "[redacted]";

/// What is secret; the [module](self) has an example. Set by [`Builder::redact`](crate::Builder::redact).
///
/// ```
/// let redaction = watchbell::redact::Redaction::usual().key("iban");
/// let builder = watchbell::builder().redact(redaction);
/// ```
#[derive(Clone)]
pub struct Redaction {
    keys: Vec<(Key, Fate)>,
    hashes: Vec<hash::Key>,
    values: Vec<Finder>,
    /// Whether texts are looked into for the keys.
    in_texts: bool,
    number: u32,
    /// Texts that were masked whole, since a function of the service's own failed over them.
    faults: Arc<AtomicU64>,
}

/// That the thread is in a finder of the service's own.
struct Within {
    _suppressed: Option<ContextGuard>,
}

thread_local!(static IS_WITHIN: Cell<bool> = const { Cell::new(false) }); // always there: it has no destructor

impl Within {
    fn enter() -> Option<Self> {
        let suppressed = || Local::are_there().then(OtelContext::enter_telemetry_suppressed_scope);
        (!IS_WITHIN.replace(true)).then(|| Self { _suppressed: suppressed() })
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        IS_WITHIN.set(false);
    }
}

/// Finds secrets.
#[derive(Clone)]
struct Finder {
    find: Arc<FindAll>,
    /// The numbers that it is shown, without their sign.
    numbers: Range<f64>,
    /// Whether it is a function of the service's own, which may find something in anything.
    is_of_service: bool,
}

/// Finds all secrets in a text.
type FindAll = dyn Fn(&str) -> Vec<Range<usize>> + Send + Sync;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Its hash by the key of this number is shown.
    #[cfg_attr(not(feature = "hashed"), expect(dead_code))]
    Hashed(usize),
    /// Masked, unless it is the path of a folder: `pwd` is a password, or where one works.
    MaskedButPath,
    Masked,
    Dropped,
}

impl Redaction {
    /// Nothing is secret.
    ///
    /// ```
    /// let redaction = watchbell::redact::Redaction::new().key("iban"); // and nothing else
    /// ```
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let faults = Arc::default();
        Self { keys: Vec::new(), hashes: Vec::new(), values: Vec::new(), in_texts: false, number, faults }
    }

    /// The same with a number of its own: of two that one was made of, neither goes by what was found for the other.
    pub(crate) fn renumbered(self) -> Self {
        Self { number: Self::new().number, ..self }
    }

    /// What usually is: the keys `*password*`, `*passwd*`, `pwd`, `*passcode*`, `*passphrase*`, `*secret*`, `*token`, `tokens`, `*token_value`, `*token.value`, `*credential`,
    /// `*credentials`, `*api_key*`, `*apikey*`, `*private_key*`, `authorization`, `proxy_authorization`, `*authorization.value`, `cookie`, `set_cookie`, `*cookie.value`, and of
    /// values [`Values::Cards`], [`Values::BearerTokens`], [`Values::ProviderKeys`] and [`Values::Assignments`]. What `pwd` names is shown where it
    /// is a working folder: an absolute path of letters, digits, `.`, `_`, `-` and blanks, of two parts at least or one of those that a root usually has (`/app`, `C:\\shop`).
    ///
    /// ```
    /// let redaction = watchbell::redact::Redaction::usual();
    /// ```
    pub fn usual() -> Self {
        Self::new().with_usual()
    }

    pub(crate) fn with_usual(self) -> Self {
        let keys = [
            "*password*",
            "*passwd*",
            "*passcode*",
            "*passphrase*",
            "*secret*",
            "*token",
            "tokens",
            "*token_value",
            "*token.value",
            "*credential",
            "*credentials",
            "*api_key*",
            "*apikey*",
            "*private_key*",
            "authorization",
            "proxy_authorization",
            "*authorization.value",
            "cookie",
            "set_cookie",
            "*cookie.value",
            "*.pwd",
        ];
        let mut this = keys.into_iter().fold(self, Self::key);
        this.keys.push((Key::new("pwd"), Fate::MaskedButPath));
        let usual = [Values::Cards, Values::BearerTokens, Values::ProviderKeys, Values::Assignments];
        usual.into_iter().fold(this, Self::values)
    }

    /// Masks fields of this name, as `[redacted]`, and entries of this name within values that are maps (those of OpenTelemetry's API). What `Debug` and `Display` have
    /// written (`?headers`, `%body`, a message) is a text and no map: it is looked into with [`Values::Assignments`], which is among the [usual](Self::usual), for
    /// `name=value` and the like. A secret that goes by another name there, or by none, is not found; types that hold one are better kept from writing it, by
    /// `#[derive(Redact)]` or [`Secret`].
    ///
    /// Case does not matter, nor whether `-`, `_`, a blank or a capital letter (`apiKey`) joins words, `*` is anything, and a name without it is also found behind the last
    /// point of a longer one: `api_key` is also `user.API-Key`.
    ///
    /// ```
    /// let redaction = watchbell::redact::Redaction::usual().key("iban").key("card.*");
    /// ```
    pub fn key(mut self, pattern: &str) -> Self {
        self.keys.push((Key::new(pattern), Fate::Masked));
        self
    }

    /// Leaves fields of this name out.
    ///
    /// ```
    /// let redaction = watchbell::redact::Redaction::usual().drop_key("*.body");
    /// ```
    pub fn drop_key(mut self, pattern: &str) -> Self {
        self.keys.push((Key::new(pattern), Fate::Dropped));
        self
    }

    /// Shows in the place of fields of this name `hmac:` and 32 hexadecimal digits, which are the same for the same value: who it was stays unknown, that it was the
    /// same one does not. They are the first half of its HMAC-SHA-256 under `secret`; without that nobody can try values out. Under an empty secret everybody could:
    /// the field is masked then. Whatever else is said of the field wins.
    ///
    /// ```no_run
    /// use watchbell::redact::Redaction;
    ///
    /// let secret = std::env::var("LOG_HASH_SECRET")?;
    /// let redaction = Redaction::usual().hash_key("user.email", secret.as_bytes());
    /// # Ok::<(), std::env::VarError>(())
    /// ```
    #[cfg(feature = "hashed")]
    pub fn hash_key(mut self, pattern: &str, secret: &[u8]) -> Self {
        if secret.is_empty() {
            return self.key(pattern);
        }
        self.keys.push((Key::new(pattern), Fate::Hashed(self.hashes.len())));
        self.hashes.push(hash::Key::new(secret));
        self
    }

    /// Masks what looks like this, in messages and in texts of fields; cards also where a field is a number.
    ///
    /// ```
    /// use watchbell::redact::{Redaction, Values};
    ///
    /// let redaction = Redaction::usual().values(Values::Emails);
    /// ```
    pub fn values(mut self, values: Values) -> Self {
        self.in_texts |= values == Values::Assignments;
        self.values.push(Finder { find: Arc::new(values.finder()), numbers: values.numbers(), is_of_service: false });
        self
    }

    /// Masks what a function finds: the range of the first secret in the text, if there is one. Fields that are numbers are shown to it as texts. What it logs itself goes
    /// nowhere, since it would come back to it. Where it panics, or its range is none of the text, all of the text is masked: that is told once on stderr, and
    /// counted by the metric `watchbell.sdk.redaction.faults`.
    ///
    /// ```
    /// use watchbell::redact::Redaction;
    ///
    /// let redaction = Redaction::usual().found_by(|text| text.find("hunter2").map(|start| start..start + 7));
    /// ```
    pub fn found_by(mut self, find: impl Fn(&str) -> Option<Range<usize>> + Send + Sync + 'static) -> Self {
        let faults = Arc::clone(&self.faults);
        let find = move |text: &str| {
            let all = 0..text.len();
            let found = caught(|| match Within::enter() {
                Some(_within) => find(text),
                None => Some(all.clone()), // in a thread that is ending, where nothing else keeps what it logs back
            });
            let is_of_text = |found: &Range<usize>| text.get(found.clone()).is_some();
            match found {
                Some(found) if found.as_ref().is_none_or(is_of_text) => found,
                _ => {
                    tell_fault(&faults);
                    Some(all)
                }
            }
        };
        let find = move |text: &str| found_by(&find, text).collect();
        self.values.push(Finder { find: Arc::new(find), numbers: 0.0..f64::INFINITY, is_of_service: true });
        self
    }

    /// How many texts were masked whole, since a function of the service's own failed over them.
    #[cfg(feature = "metrics")]
    pub(crate) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Another for each that is made, so that what is found of a callsite can be kept.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// What becomes of a field of this name, if not what becomes of any other.
    pub(crate) fn fate(&self, key: &str) -> Option<Fate> {
        let letters = letters(key, u32::MAX); // a letter of another script may have one of these as its lower case
        let mut likely = self.keys.iter().filter(|(pattern, _)| pattern.letters & !letters == 0).peekable();
        likely.peek()?; // of most keys no pattern is likely, and nothing is allocated for them
        let key = Key::new(key);
        likely.filter(|(pattern, _)| pattern.fits(&key)).map(|(_, fate)| *fate).max()
    }

    /// What is shown of a field's value, whatever that is; `None` where the field is left out.
    pub(crate) fn shown<'v>(&self, key: &str, value: &'v str) -> Option<Cow<'v, str>> {
        match self.fate(key) {
            None => Some(Cow::Borrowed(value)),
            Some(Fate::MaskedButPath) if is_folder(value) => Some(Cow::Borrowed(value)),
            Some(Fate::MaskedButPath | Fate::Masked) => Some(Cow::Borrowed(REDACTED)),
            Some(Fate::Hashed(number)) => Some(Cow::Owned(self.hashes[number].hash(value))),
            Some(Fate::Dropped) => None,
        }
    }

    /// Appends attributes that are encoded as fields of a `LogRecord`, but for what their keys say is secret.
    pub(crate) fn put_attributes(&self, out: &mut Vec<u8>, attributes: &[u8]) {
        for field in Fields::new(attributes) {
            let (ATTRIBUTES, Wire::Bytes(attribute)) = field else { continue };
            let (key, value) = key_value(attribute);
            if self.fate(key).is_none() {
                put_bytes_field(out, ATTRIBUTES, attribute);
            } else if let Some(shown) = self.shown(key, &value.to_string()) {
                put_attribute(out, key, |out| put_bytes_field(out, 1, shown.as_bytes()));
            }
        }
    }

    /// The text without what looks like a secret; `None` where there is nothing of that.
    pub(crate) fn scrubbed(&self, text: &str) -> Option<String> {
        let assigned = |text: &str| if self.in_texts { assignments::find(text, |name| self.fate(name)) } else { None };
        let found = self.values.iter().flat_map(|finder| (finder.find)(text));
        let mut out = masked(text, found.chain(found_by(&assigned, text)))?;
        // Where a secret is gone, what stood beside it may look like another.
        let known = || self.values.iter().filter(|finder| !finder.is_of_service);
        while let Some(further) = masked(&out, known().flat_map(|finder| (finder.find)(&out))) {
            out = further;
        }
        Some(out)
    }

    /// The same of a number.
    fn scrubbed_number(&self, size: f64, number: impl fmt::Display) -> Option<String> {
        let mut finders = self.values.iter().filter(|finder| finder.numbers.contains(&size.abs())).peekable();
        finders.peek()?; // else it need not be written
        let text = number.to_string();
        masked(&text, finders.flat_map(|finder| (finder.find)(&text)))
    }

    fn scrubbed_int(&self, number: i64) -> Option<String> {
        self.scrubbed_number(number as f64, number)
    }

    fn scrubbed_double(&self, number: f64) -> Option<String> {
        self.scrubbed_number(number, number)
    }

    /// The content of a `LogRecord` without what looks like a secret; `None` where there is nothing of that.
    pub(crate) fn scrubbed_record(&self, record: &[u8]) -> Option<Vec<u8>> {
        const BODY: u32 = 5;
        if self.values.is_empty() && self.keys.is_empty() {
            return None;
        }
        rewritten(record, |number, value| match (number, value) {
            (BODY, Wire::Bytes(bytes)) => self.scrubbed_value(bytes, VALUE_DEPTH).map(Change::Other),
            (ATTRIBUTES, Wire::Bytes(bytes)) => self.scrubbed_key_value(bytes, VALUE_DEPTH).map(Change::Other),
            _ => None,
        })
    }

    fn scrubbed_key_value(&self, raw: &[u8], depth_left: u32) -> Option<Vec<u8>> {
        rewritten(raw, |number, value| match (number, value) {
            (2, Wire::Bytes(bytes)) => self.scrubbed_value(bytes, depth_left).map(Change::Other),
            _ => None,
        })
    }

    /// An entry of a map, whose key may say that it is secret. What is hidden already stays as it is.
    fn scrubbed_entry(&self, raw: &[u8], depth_left: u32) -> Option<Change> {
        let (key, value) = key_value(raw);
        if self.fate(key).is_none() {
            return self.scrubbed_key_value(raw, depth_left).map(Change::Other);
        }
        let value = value.to_string();
        if value == REDACTED || is_hash(&value) {
            return None;
        }
        let Some(shown) = self.shown(key, &value) else { return Some(Change::LeftOut) };
        if shown == value {
            return None;
        }
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, key.as_bytes());
        put_message_field(&mut out, 2, |out| put_bytes_field(out, 1, shown.as_bytes()));
        Some(Change::Other(out))
    }

    /// The content of an `AnyValue`.
    fn scrubbed_value(&self, raw: &[u8], depth_left: u32) -> Option<Vec<u8>> {
        let within = depth_left.checked_sub(1)?;
        rewritten(raw, |number, value| match (number, value) {
            (1, Wire::Bytes(_)) if self.values.is_empty() => None,
            (1, Wire::Bytes(text)) => self.scrubbed(str::from_utf8(text).ok()?).map(Change::Text),
            (3, Wire::Varint(number)) => self.scrubbed_int(number as i64).map(Change::Text),
            (4, Wire::Fixed64(bits)) => self.scrubbed_double(f64::from_bits(bits)).map(Change::Text),
            (5, Wire::Bytes(list)) => rewritten(list, |_, value| match value {
                Wire::Bytes(value) => self.scrubbed_value(value, within).map(Change::Other),
                _ => None,
            })
            .map(Change::Other),
            (6, Wire::Bytes(map)) => rewritten(map, |_, entry| match entry {
                Wire::Bytes(entry) => self.scrubbed_entry(entry, within),
                _ => None,
            })
            .map(Change::Other),
            _ => None,
        })
    }

    /// Takes the secrets out of a span, in the call that ends it: no more of a text is looked at than is sent.
    pub(crate) fn redact_span(&self, span: &mut SpanData) {
        self.redact_attributes(&mut span.attributes);
        for event in &mut span.events.events {
            self.redact_attributes(&mut event.attributes);
            self.scrub(&mut event.name);
        }
        for link in &mut span.links.links {
            self.redact_attributes(&mut link.attributes);
        }
        self.scrub(&mut span.name);
        if let Status::Error { description } = &mut span.status {
            self.scrub(description);
        }
    }

    fn scrub(&self, text: &mut Cow<'static, str>) {
        if let Some(scrubbed) = self.scrubbed_beginning(text) {
            *text = scrubbed.into();
        }
    }

    /// The same of a text that is still to be cut. A secret that the cut goes through is found whole, unless it is longer than most.
    fn scrubbed_beginning(&self, text: &str) -> Option<String> {
        const SECRET_BYTES: usize = 4 * 1024;
        let looked_at = beginning(text, VALUE_BYTES_MAX + SECRET_BYTES);
        let scrubbed = self.scrubbed(looked_at)?;
        if looked_at.len() < text.len() && scrubbed.len() <= VALUE_BYTES_MAX {
            count_cut(); // else it is counted where it is cut
        }
        Some(scrubbed)
    }

    fn redact_attributes(&self, attributes: &mut Vec<KeyValue>) {
        attributes.retain(|attribute| self.fate(attribute.key.as_str()) != Some(Fate::Dropped));
        for KeyValue { key, value, .. } in attributes {
            if self.fate(key.as_str()).is_some() {
                let shown = self.shown(key.as_str(), &value.as_str()).map(Cow::into_owned);
                *value = shown.unwrap_or_default().into();
                continue;
            }
            if let Some(scrubbed) = self.scrubbed_of_span(value) {
                *value = scrubbed;
            }
        }
    }

    fn scrubbed_of_span(&self, value: &OtelValue) -> Option<OtelValue> {
        match value {
            OtelValue::String(text) => self.scrubbed_beginning(text.as_str()).map(OtelValue::from),
            OtelValue::I64(value) => self.scrubbed_int(*value).map(OtelValue::from),
            OtelValue::F64(value) => self.scrubbed_double(*value).map(OtelValue::from),
            OtelValue::Array(Array::String(texts)) => {
                scrubbed_list(texts, |text| self.scrubbed_beginning(text.as_str()))
            }
            OtelValue::Array(Array::I64(values)) => scrubbed_list(values, |value| self.scrubbed_int(*value)),
            OtelValue::Array(Array::F64(values)) => scrubbed_list(values, |value| self.scrubbed_double(*value)),
            _ => None,
        }
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Deepest nesting of values (32), which is as deep as they are made.
const VALUE_DEPTH: u32 = 33;

/// What becomes of a field.
enum Change {
    /// It has these bytes.
    Other(Vec<u8>),
    /// It is the text of an `AnyValue`, whatever it was.
    Text(String),
    LeftOut,
}

/// The message with those fields changed for which there is a change; `None` if there are none.
fn rewritten(raw: &[u8], change: impl Fn(u32, Wire<'_>) -> Option<Change>) -> Option<Vec<u8>> {
    let mut changes = Vec::new(); // allocates nothing while it is empty
    for (i, (number, value)) in Fields::new(raw).enumerate() {
        changes.extend(change(number, value).map(|changed| (i, changed)));
    }
    let mut changes = changes.into_iter().peekable();
    changes.peek()?;
    let mut out = Vec::with_capacity(raw.len());
    for (i, (number, value)) in Fields::new(raw).enumerate() {
        match (value, changes.next_if(|(at, _)| *at == i)) {
            (_, Some((_, Change::Other(changed)))) => put_bytes_field(&mut out, number, &changed),
            (_, Some((_, Change::Text(text)))) => put_bytes_field(&mut out, 1, text.as_bytes()),
            (_, Some((_, Change::LeftOut))) => {}
            (Wire::Bytes(bytes), None) => put_bytes_field(&mut out, number, bytes),
            (Wire::Varint(value), None) => put_varint_field(&mut out, number, value),
            (Wire::Fixed64(value), None) => put_fixed64_field(&mut out, number, value),
            (Wire::Fixed32(value), None) => put_fixed32_field(&mut out, number, value),
        }
    }
    Some(out)
}

/// The list as texts, if there is a secret in any of its values.
fn scrubbed_list<T: ToString>(values: &[T], scrubbed: impl Fn(&T) -> Option<String>) -> Option<OtelValue> {
    let scrubbed: Vec<_> = values.iter().map(scrubbed).collect();
    scrubbed.iter().any(Option::is_some).then(|| {
        let texts = scrubbed.into_iter().zip(values);
        let texts = texts.map(|(text, value)| StringValue::from(text.unwrap_or_else(|| value.to_string())));
        OtelValue::Array(Array::String(texts.collect()))
    })
}

/// The text with all that was found masked; `None` where that is nothing. Each finder has seen all of the text: what one masks may be the beginning of another's.
fn masked(text: &str, found: impl Iterator<Item = Range<usize>>) -> Option<String> {
    let mut found: Vec<_> = found.collect(); // allocates nothing while it is empty
    found.sort_unstable_by_key(|range| range.start);
    let (mut out, mut end) = (String::new(), 0);
    for range in found {
        if range.start >= end {
            out.push_str(&text[end..range.start]);
            out.push_str(REDACTED);
        }
        end = end.max(range.end);
    }
    (end > 0).then(|| out + &text[end..])
}

fn tell_fault(faults: &AtomicU64) {
    if faults.fetch_add(1, Ordering::Relaxed) == 0 {
        tell::error(format_args!(
            "a finder of secrets panics, or finds what is not in the text: such texts are masked whole"
        ));
    }
}

/// All that `find` finds, one behind the other.
fn found_by<'t>(
    find: &'t dyn Fn(&str) -> Option<Range<usize>>,
    text: &'t str,
) -> impl Iterator<Item = Range<usize>> + 't {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
        let found = find(rest).filter(|found| found.start < found.end && rest.get(found.clone()).is_some())?;
        let found = from + found.start..from + found.end;
        from = found.end;
        Some(found)
    })
}

/// A key, or a pattern of keys, in the two ways in which they are compared.
#[derive(Clone, Debug)]
struct Key {
    /// Lower case: `dbpassword` of `dbPassword`.
    plain: String,
    /// With `_` between words that capitals tell apart: `db_password`.
    words: String,
    letters: u32,
}

impl Key {
    fn new(key: &str) -> Self {
        let lower = |key: &str| -> String {
            let lower = key.chars().flat_map(char::to_lowercase);
            lower.map(|c| if matches!(c, '-' | ' ') { '_' } else { c }).collect()
        };
        let plain = lower(key);
        Self { words: lower(&in_words(key)), letters: letters(&plain, 0), plain }
    }

    /// Whether this pattern fits a key, or what is behind its last point.
    fn fits(&self, key: &Self) -> bool {
        let fits_one = |pattern: &str, key: &str| {
            fits(pattern, key) || key.rsplit_once('.').is_some_and(|(_, last)| fits(pattern, last))
        };
        fits_one(&self.plain, &key.plain) || fits_one(&self.words, &key.words)
    }
}

/// `db_Password` of `dbPassword`, `X_API_Key` of `XAPIKey`: with `_` where a word begins.
fn in_words(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|at| chars[at]);
        let is_before_a_word = chars.get(i + 1).is_some_and(|next| next.is_lowercase());
        let begins = |before: char| before.is_alphanumeric() && (!before.is_uppercase() || is_before_a_word);
        if c.is_uppercase() && before.is_some_and(begins) {
            out.push('_');
        }
        out.push(*c);
    }
    out
}

/// A bit for each of the letters from a to z that there are, and those of `other` for another script's: what a pattern has and a key has not tells that the
/// two do not fit.
fn letters(key: &str, other: u32) -> u32 {
    key.bytes().fold(0, |letters, byte| match byte.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => letters | 1 << (letter - b'a'),
        0x80.. => letters | other,
        _ => letters,
    })
}

/// Whether it is what a hash is shown as.
fn is_hash(text: &str) -> bool {
    text.strip_prefix("hmac:").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether it is the absolute path of a folder, and hardly a password.
fn is_folder(path: &str) -> bool {
    let (drive, rest) = match path.as_bytes() {
        [b'/', ..] => ("", &path[1..]),
        [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic() => path.split_at(3),
        _ => return false,
    };
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ' | '/') || c == '\\' && !drive.is_empty();
    let usual = [
        "",
        "app",
        "bin",
        "data",
        "etc",
        "home",
        "mnt",
        "opt",
        "root",
        "run",
        "srv",
        "tmp",
        "usr",
        "var",
        "work",
        "workspace",
    ];
    let has_parts = rest.trim_end_matches(['/', '\\']).contains(['/', '\\']);
    rest.chars().all(is_plain) && (has_parts || !drive.is_empty() || usual.contains(&rest.trim_end_matches('/')))
}

/// Whether a pattern of lower-case letters with `*` for anything fits all of the text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    let ends = text.char_indices().map(|(i, _)| i).chain([text.len()]);
    ends.into_iter().any(|i| fits(rest, &text[i..]))
}

/// A value that is never shown: its `Debug` and `Display` are `[redacted]`.
///
/// ```
/// use watchbell::redact::Secret;
/// # use watchbell::tracing;
///
/// let password = Secret::new("hunter2".to_owned());
/// tracing::info!(%password, "logged in");
/// assert_eq!(format!("{password} {password:?}"), "[redacted] [redacted]");
/// assert_eq!(password.expose(), "hunter2");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Makes a secret of it.
    ///
    /// ```
    /// let password = watchbell::redact::Secret::new("hunter2");
    /// assert_eq!(format!("{password:?}"), "[redacted]");
    /// ```
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    ///
    /// ```
    /// let password = watchbell::redact::Secret::new("hunter2");
    /// assert_eq!(*password.expose(), "hunter2");
    /// ```
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> FieldValue for Secret<T> {
    fn put(&self, out: &mut Vec<u8>) {
        REDACTED.put(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys() {
        let redaction = Redaction::usual().drop_key("*.body").key("pin").key("userId");
        for (key, fate) in [
            ("password", Some(Fate::Masked)),
            ("user.Password", Some(Fate::Masked)),
            ("old_password_hash", Some(Fate::Masked)),
            ("access_token", Some(Fate::Masked)),
            ("tokens", Some(Fate::Masked)),
            ("max_tokens", None),
            ("token_value", Some(Fate::Masked)),
            ("token.value", Some(Fate::Masked)),
            ("token_type", None),
            ("passcode", Some(Fate::Masked)),
            ("http.authorization.value", Some(Fate::Masked)),
            ("privateKey", Some(Fate::Masked)),
            ("setCookie", Some(Fate::Masked)),
            ("proxyAuthorization", Some(Fate::Masked)),
            ("dbPassword", Some(Fate::Masked)),
            ("accessToken", Some(Fate::Masked)),
            ("XAPIKey", Some(Fate::Masked)),
            ("api key", Some(Fate::Masked)),
            ("userid", Some(Fate::Masked)),
            ("user_id", Some(Fate::Masked)),
            ("request.userId", Some(Fate::Masked)),
            ("PRIVATE_\u{212a}EY", Some(Fate::Masked)),
            ("x-api-key", Some(Fate::Masked)),
            ("Proxy-Authorization", Some(Fate::Masked)),
            ("http.response.header.set-cookie", Some(Fate::Masked)),
            ("db.pwd", Some(Fate::Masked)),
            ("PWD", Some(Fate::MaskedButPath)),
            ("ssh.passphrase", Some(Fate::Masked)),
            ("aws_credentials", Some(Fate::Masked)),
            ("private-key", Some(Fate::Masked)),
            ("http.request.header.authorization", Some(Fate::Masked)),
            ("authorization_url", None),
            ("card.pin", Some(Fate::Masked)),
            ("spin", None),
            ("request.body", Some(Fate::Dropped)),
            ("body", None),
        ] {
            assert_eq!(redaction.fate(key), fate, "{key}");
        }
    }

    #[test]
    fn sizes_and_ids_are_no_cards() {
        let redaction = Redaction::usual();
        let is_shown = |number: i64| redaction.scrubbed_int(number).is_none();
        assert!(!is_shown(4_111_111_111_111_111) && !is_shown(378_282_246_310_005));
        let luhn = (4_000_000_000_000..4_000_000_000_020).chain(4_000_000_000_000_000_000..4_000_000_000_000_000_020);
        assert!(luhn.clone().all(is_shown), "{luhn:?}");
    }

    #[test]
    fn a_working_folder_is_no_password() {
        let redaction = Redaction::usual();
        for folder in ["/", "/app", "/srv/", "/data/ada/shop-1.2", "/srv/my shop/é", r"C:\Users\ada", "C:/"] {
            assert_eq!(redaction.shown("pwd", folder).as_deref(), Some(folder));
        }
        for password in ["", "hunter2", "/hunter2", "/a/b!c", "app", "~/x", r"/a\b", "C:hunter2", "/data/ada\n"] {
            assert_eq!(redaction.shown("pwd", password).as_deref(), Some(REDACTED), "{password}");
        }
        assert_eq!(
            redaction.key("pwd").shown("pwd", "/app").as_deref(),
            Some(REDACTED),
            "whoever says so has all masked"
        );
    }

    #[test]
    fn a_secret_in_another_takes_nothing_from_it() {
        let redaction = Redaction::usual().values(Values::Emails);
        for (text, shown) in [
            ("Bearer 4111111111111111.rest", "Bearer [redacted]"),
            ("x sk-4111111111111111-abcdefgh y", "x [redacted] y"),
            ("ada.4111111111111111@b.co", "[redacted]"),
            ("4111111111111111 5500000000000004", "[redacted] [redacted]"),
            ("4111111111111111sk-41111111111111114111111111111111", "[redacted][redacted]"),
        ] {
            assert_eq!(redaction.scrubbed(text).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn what_texts_name_is_found_once() {
        let redaction = Redaction::usual().key("iban");
        let text = r#"Login { password: "hunter2", iban: Some("DE02") } at https://ada:pw@x/?accessToken=abc with Authorization: Bearer abcdefgh1"#;
        let scrubbed = redaction.scrubbed(text).unwrap();
        let expected = r#"Login { password: "[redacted]", iban: [redacted] } at https://ada:[redacted]@x/?accessToken=[redacted] with Authorization: [redacted]"#;
        assert_eq!((&*scrubbed, redaction.scrubbed(&scrubbed)), (expected, None));
        assert_eq!(Redaction::new().key("iban").scrubbed("iban=DE02"), None);
        let text = "password=".repeat(1 << 16); // in time, too
        assert_eq!(redaction.scrubbed(&text).unwrap(), "password=[redacted]");
    }

    /// Beginnings of secrets, again and again: where a beginning that leads nowhere is read to its end each time, 64 KiB stop a thread for minutes.
    #[test]
    fn no_text_takes_more_than_its_length() {
        let redaction = Redaction::usual().values(Values::Emails);
        let half = |first: &str, second: &str, bytes: usize| {
            [first, second].map(|it| it.repeat(bytes / 2 / it.len())).concat()
        };
        let (key, token) = ("AKIAIOSFODNN7EXAMPLE ", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef ");
        for (first, second) in [
            ("eyJ", "eyJ"),
            ("eyJ.", "eyJ"),
            (token, "eyJ"),
            (key, key),
            (key, "eyJ"),
            (key, token),
            ("ask-", "ask-"),
            ("sk- ", "AKIA"),
            ("ghp_x ghp_", "sk-"),
            ("-----BEGIN ", "-----BEGIN "),
            ("-----BEGIN PRIVATE KEY-----", "-----END "),
            ("4111111111111111 ", "3 "),
            ("4", "4111 "),
            ("Bearer ", "Bearer:"),
            ("Bearer abcdefgh1 ", "basic%20"),
            ("a@", "a.b@"),
            ("ada@example.com,", "@a."),
            ("://a:b", "://a:b@"),
            ("password:", "password= "),
            ("pwd=/a/", "pwd: \"/a\" "),
            ("password=null ", "token=[({"),
            ("password=\"", "password=\\"),
        ] {
            let took = |text: &str| {
                let start = std::time::Instant::now();
                std::hint::black_box(redaction.scrubbed(text));
                start.elapsed()
            };
            let (short, long) = (half(first, second, 64 * 1024), half(first, second, 256 * 1024));
            let of_short = (0..3).map(|_| took(&short)).min().unwrap(); // a busy machine takes longer, never less
            let mut of_long = (0..20).map(|_| took(&long));
            let is_linear = of_long.any(|of_long| of_long < of_short * 8); // else it is sixteen times as much, each time
            assert!(is_linear, "{first:?} and {second:?}: {of_short:?}, and the fourfold {:?}", took(&long));
        }
    }

    #[test]
    fn a_key_within_a_map_is_found_once() {
        use crate::logs::value;
        use opentelemetry::logs::AnyValue;
        let map = |entries: &[(&'static str, AnyValue)]| {
            AnyValue::Map(Box::new(entries.iter().cloned().map(|(key, value)| (key.into(), value)).collect()))
        };
        let user = map(&[("password", "hunter2".into()), ("request.body", "x".into()), ("name", "ann".into())]);
        let mut record = Vec::new();
        put_message_field(&mut record, 5, |out| {
            value::put(out, &AnyValue::ListAny(Box::new(vec![user.clone()])), usize::MAX)
        });
        put_attribute(&mut record, "user", |out| value::put(out, &map(&[("of", user)]), usize::MAX));
        let redaction = Redaction::usual().drop_key("*.body");
        let scrubbed = redaction.scrubbed_record(&record).unwrap();
        let text = String::from_utf8_lossy(&scrubbed);
        assert!(!text.contains("hunter2") && !text.contains("request.body"), "{text:?}");
        assert_eq!((text.matches("ann").count(), text.matches(REDACTED).count()), (2, 2));
        assert_eq!(redaction.scrubbed_record(&scrubbed), None);
    }

    /// Texts of what assignments are made of.
    fn pieces() -> impl Strategy<Value = String> {
        let pieces = [
            "password", "token", "a", "é", " ", "=", ":", "=>", "\"", "'", "\\", "(", ")", "[", "]", "{", "}", ",",
            ";", "&", "None", "Bearer",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_record_stays_what_it_is_but_for_the_secret(before in "[a-z é]{0,9}", after in "[a-z é]{0,9}", nested in any::<bool>()) {
            use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList, any_value::Value};
            use opentelemetry_proto::tonic::logs::v1::LogRecord;
            use prost::Message;
            let record = |secret: &str| {
                let text = AnyValue { value: Some(Value::StringValue(format!("{before}{secret}{after}"))) };
                let entry = |value| KeyValue { key: "said".to_owned(), value: Some(value), ..KeyValue::default() };
                let map = Value::KvlistValue(KeyValueList { values: vec![entry(text.clone())] });
                let value = if nested { AnyValue { value: Some(map) } } else { text.clone() };
                let number = AnyValue { value: Some(Value::DoubleValue(0.5)) };
                LogRecord {
                    time_unix_nano: 17,
                    severity_number: 9,
                    flags: 1,
                    body: Some(text),
                    attributes: vec![entry(number), entry(value)],
                    ..LogRecord::default()
                }
            };
            let redaction = Redaction::usual();
            let scrubbed = redaction.scrubbed_record(&record("4111-1111-1111-1111").encode_to_vec()).unwrap();
            prop_assert_eq!(LogRecord::decode(&scrubbed[..]).unwrap(), record(REDACTED));
            prop_assert_eq!(redaction.scrubbed_record(&record("").encode_to_vec()), None);
        }

        #[test]
        fn what_was_masked_is_not_found_again(text in "(Bearer |sk-|4111111111111111|-----BEGIN (RSA PRIVATE KEY|CERTIFICATE)-----|-----END |a@b.co|[a-z|. é]){0,9}") {
            let redaction = Redaction::usual().values(Values::Emails);
            if let Some(shown) = redaction.scrubbed(&text) {
                prop_assert_eq!(redaction.scrubbed(&shown), None, "{}", shown);
            }
        }

        #[test]
        fn what_a_finder_fails_over_is_masked_whole(text in "[ -~é]{1,9}", start in 0..12usize, end in 0..12usize) {
            let redaction = Redaction::new().found_by(move |_| Some(Range { start, end }));
            let (scrubbed, faults) = (redaction.scrubbed(&text), redaction.faults.load(Ordering::Relaxed));
            let is_of_text = text.get(Range { start, end }).is_some();
            prop_assert!(is_of_text || scrubbed.as_deref() == Some(REDACTED) && faults == 1);
        }

        #[test]
        fn a_password_is_found_wherever_it_is_named(before in pieces(), after in pieces()) {
            let redaction = Redaction::usual();
            let shown = redaction.scrubbed(&format!("{before}password=hunter2{after}")).unwrap();
            prop_assert!(!shown.contains("hunter2"), "{}", shown);
            prop_assert_eq!(redaction.scrubbed(&shown), None, "{}", shown);
        }

        #[test]
        fn any_text_comes_to_an_end(text in "[ -~é]{0,60}") {
            let redaction = Redaction::usual().values(Values::Emails).found_by(|text| Some(0..0).filter(|_| text.len() > 3));
            let _ = redaction.scrubbed(&text);
        }
    }
}
