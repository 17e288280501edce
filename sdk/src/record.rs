//! Writes events as OTLP log records.
//!
//! What is static about a callsite comes encoded from [`Callsite`]; the rest is appended to the caller's scratch buffer, which
//! grows once and is then reused: nothing is allocated in the steady state. This is the path of every log call, so that bytes of a known
//! number are appended in one piece. Field numbers are those of `opentelemetry/proto/{common,logs}/v1`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write};

#[cfg(feature = "otel-logs")]
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};
use tracing_core::field::{Field, Visit};
use watchbell_proto::wire::{
    Fields, OpenMessage, Value as Wire, end_message_field, put_bytes_field, put_fixed64_field, put_message_field,
    put_varint_field,
};

use crate::callsite::{Callsite, FieldUse, ScopeId, put_attribute};
use crate::context;
use crate::encode::ErrorChain;
use crate::exception::{self, Place};
#[cfg(feature = "otel-logs")]
use crate::lane::map_current_context;
use crate::limits::{Limits, VALUE_BYTES_MAX, cut_bytes, cut_to};
use crate::redact::{Fate, Redaction};
use crate::severity;
use crate::view::{self, ATTRIBUTES, Value, key_value};

/// Longest encoded record in bytes (256 KiB); attributes beyond it are dropped, and counted in `dropped_attributes_count`.
pub(crate) const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Bytes that a record keeps free for what comes last: the count of what was dropped, flags and ids, and lengths of more than a byte.
pub(crate) const TAIL_BYTES: usize = 64;

/// A log record under construction: its head is written, its fields are visited, [`finish`](Self::finish) writes the trace.
pub(crate) struct LogRecordWriter<'a> {
    out: &'a mut Vec<u8>,
    callsite: &'static Callsite,
    limits: &'a Limits,
    redaction: Option<&'a Redaction>,
    /// The fields of the callsite that are redacted, a bit for each.
    redacted: u32,
    scope: ScopeId,
    attributes: u32,
    dropped_attributes: u32,
    /// Bytes of the record from which on there is no room for a further attribute.
    room: usize,
    has_body: bool,
    has_exception: bool,
}

impl<'a> LogRecordWriter<'a> {
    /// Starts a record of `callsite` at `now` (nanoseconds since 1970) in an empty buffer.
    #[inline]
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        callsite: &'static Callsite,
        limits: &'a Limits,
        redaction: Option<&'a Redaction>,
        now: u64,
    ) -> Self {
        let has_place = callsite.place_attributes() <= limits.attributes_per_record_max;
        out.extend_from_slice(if has_place { callsite.head() } else { callsite.head_without_place() });
        if let Some(times) = out.first_chunk_mut() {
            put_times(times, now, now);
        }
        Self {
            out,
            callsite,
            limits,
            redaction,
            redacted: redaction.map_or(0, |redaction| callsite.redacted(redaction)),
            scope: callsite.scope(),
            attributes: if has_place { callsite.place_attributes() } else { 0 },
            dropped_attributes: if has_place { 0 } else { callsite.place_attributes() },
            room: RECORD_BYTES_MAX - 2 * VALUE_BYTES_MAX - TAIL_BYTES, // for an attribute's value, and the body
            has_body: false,
            has_exception: callsite.tells_exception(),
        }
    }

    /// Ends the record with the ids of the span it belongs to, and says whose scope it is.
    #[inline]
    pub(crate) fn finish(self, span: &SpanIds) -> ScopeId {
        if self.dropped_attributes > 0 {
            put_varint_field(self.out, 7, u64::from(self.dropped_attributes));
        }
        span.put(self.out);
        self.scope
    }

    /// Appends an attribute that is no field of the event.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let shown = self.redaction.map_or(Some(Cow::Borrowed(value)), |redaction| redaction.shown(key, value));
        let Some(value) = shown else { return };
        if !self.has_room(key.len()) {
            self.dropped_attributes += 1;
            return;
        }
        self.attributes += 1;
        let text = cut_to(&value, VALUE_BYTES_MAX, self.limits.record_value_chars_max);
        put_attribute(self.out, key, |out| put_bytes_field(out, 1, text.as_bytes()));
    }

    /// Appends the fields of the context that the thread is in, but for those that the event has itself.
    #[inline]
    pub(crate) fn context(&mut self) {
        context::with_current(|attributes, left_out| {
            self.dropped_attributes += left_out;
            let callsite = self.callsite;
            self.encoded_but(attributes, |this, key| {
                callsite.has_field(key) || callsite.is_log() && this.has_attribute(key)
            });
        });
    }

    /// Appends an entry of the baggage, unless the record has an attribute of that name.
    pub(crate) fn baggage(&mut self, key: &str, value: &str) {
        if !self.has_attribute(key) {
            self.text(key, value);
        }
    }

    fn has_attribute(&self, key: &str) -> bool {
        view::attribute(self.out, key).is_some()
    }

    /// Appends attributes that are encoded already, as fields of a `LogRecord`.
    #[cfg(feature = "log")]
    pub(crate) fn encoded(&mut self, attributes: &[u8]) {
        self.encoded_but(attributes, |this, key| this.has_attribute(key));
    }

    fn encoded_but(&mut self, attributes: &[u8], is_left_out: impl Fn(&Self, &str) -> bool) {
        for field in Fields::new(attributes) {
            if let (ATTRIBUTES, Wire::Bytes(attribute)) = field
                && !is_left_out(self, key_value(attribute).0)
            {
                self.encoded_one(attribute);
            }
        }
    }

    fn encoded_one(&mut self, attribute: &[u8]) {
        if !self.has_room(attribute.len()) {
            self.dropped_attributes += 1;
            return;
        }
        let (key, value) = key_value(attribute);
        if self.redaction.is_some_and(|redaction| redaction.fate(key).is_some()) {
            return self.text(key, &value.to_string()); // or what is shown of it
        }
        if self.limits.record_value_chars_max != usize::MAX
            && let (key, Value::String(text)) = key_value(attribute)
        {
            return self.text(key, text);
        }
        self.attributes += 1;
        put_bytes_field(self.out, ATTRIBUTES, attribute);
    }

    /// Lets `write` append the field's value, with the most characters that it may have.
    #[inline]
    fn attribute(&mut self, field: &Field, write: impl FnOnce(&mut Vec<u8>, usize)) {
        if self.redacted != 0 && self.redacted >> (field.index() & 31) & 1 == 1 {
            return self.secret(field.name(), write);
        }
        match self.callsite.field(field) {
            FieldUse::Attribute(head) if self.has_room(head.len) => {
                self.attributes += 1;
                let open = head.begin(self.out);
                write(self.out, self.limits.record_value_chars_max);
                open.end(self.out);
            }
            FieldUse::Attribute(_) => self.dropped_attributes += 1,
            FieldUse::Message if self.has_body => {}
            FieldUse::Message => {
                self.has_body();
                put_message_field(self.out, 5, |out| write(out, usize::MAX));
            }
            FieldUse::Limit => self.callsite.set_limit("what is no text"),
            FieldUse::Severity => self.severity(field.name(), write),
            FieldUse::LogTarget | FieldUse::Ignored => {}
        }
    }

    /// The head of a field that is an attribute as most are, whose value has a text of so many bytes: neither secret nor long, and there is room for it.
    /// It counts as appended.
    #[inline]
    fn usual(&mut self, field: &Field, text_bytes: usize) -> Option<&'static AttributeHead> {
        let is_secret = self.redacted >> (field.index() & 31) & 1 == 1;
        match self.callsite.field(field) {
            FieldUse::Attribute(head) if !is_secret && head.is_for_short(text_bytes) && self.has_room(head.len) => {
                self.attributes += 1;
                Some(head)
            }
            _ => None,
        }
    }

    #[inline]
    fn has_body(&mut self) {
        self.has_body = true;
        self.room += VALUE_BYTES_MAX;
    }

    /// Appends what is shown of a field that is secret; its value is written only if that is made of it.
    #[cold]
    fn secret(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>, usize)) {
        let mut value = Vec::new();
        if matches!(
            self.redaction.and_then(|redaction| redaction.fate(key)),
            Some(Fate::Hashed(_) | Fate::MaskedButPath)
        ) {
            write(&mut value, usize::MAX);
        }
        self.text(key, &Value::new(&value).to_string());
    }

    /// Sets the severity by its number; what is none stays an attribute, so that it is seen.
    #[cold]
    fn severity(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>, usize)) {
        let mut value = Vec::new();
        write(&mut value, usize::MAX);
        let value = Value::new(&value);
        match value {
            Value::Int(number @ 1..=24) => self.set_severity(number as u8, severity::name(number as u8)),
            other => self.text(key, &other.to_string()),
        }
    }

    /// Puts another severity in the place of the level's, right behind the times.
    fn set_severity(&mut self, number: u8, name: &str) {
        let is_there = |(field, value)| matches!((field, value), (2, Wire::Varint(_)) | (3, Wire::Bytes(_)));
        let known: usize = Fields::new(&self.out[TIMES_BYTES..])
            .take_while(|field| is_there(*field))
            .map(|(_, value)| match value {
                Wire::Bytes(name) => 2 + name.len(),
                _ => 2,
            })
            .sum();
        let mut fields = [0; 4 + SEVERITY_NAME_BYTES];
        fields[..4].copy_from_slice(&[2 << 3, number, 3 << 3 | 2, name.len() as u8]);
        fields[4..4 + name.len()].copy_from_slice(name.as_bytes());
        self.out.splice(TIMES_BYTES..TIMES_BYTES + known, fields[..4 + name.len()].iter().copied());
    }

    /// An attribute that is no field.
    #[cold]
    fn text_attribute(&mut self, key: &str, text: fmt::Arguments<'_>) {
        if self.redaction.is_some_and(|redaction| redaction.fate(key).is_some()) {
            let mut value = Vec::new();
            put_cut(&mut value, text, VALUE_BYTES_MAX);
            return self.text(key, str::from_utf8(&value).unwrap_or_default()); // or what is shown of it
        }
        if self.has_room(key.len()) {
            self.attributes += 1;
            put_attribute(self.out, key, |out| put_text_field(out, text, self.limits.record_value_chars_max));
        } else {
            self.dropped_attributes += 1;
        }
    }

    #[inline]
    fn has_room(&self, key_bytes: usize) -> bool {
        self.attributes < self.limits.attributes_per_record_max && self.out.len() + key_bytes < self.room
    }
}

impl Visit for LogRecordWriter<'_> {
    #[inline]
    fn record_i64(&mut self, field: &Field, value: i64) {
        match self.usual(field, 0) {
            Some(head) => head.put_varint(self.out, 3, value as u64),
            None => self.attribute(field, |out, _| put_varint_field(out, 3, value as u64)),
        }
    }

    #[inline]
    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            Err(_) => self.record_debug(field, &value), // OTLP has no unsigned integers: as text, whole
        }
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    #[inline]
    fn record_f64(&mut self, field: &Field, value: f64) {
        match self.usual(field, 0) {
            Some(head) => head.put_double(self.out, value),
            None => self.attribute(field, |out, _| put_fixed64_field(out, 4, value.to_bits())),
        }
    }

    #[inline]
    fn record_bool(&mut self, field: &Field, value: bool) {
        match self.usual(field, 0) {
            Some(head) => head.put_varint(self.out, 2, u64::from(value)),
            None => self.attribute(field, |out, _| put_varint_field(out, 2, u64::from(value))),
        }
    }

    #[inline]
    fn record_str(&mut self, field: &Field, value: &str) {
        if value.len() <= self.limits.record_value_chars_max
            && let Some(head) = self.usual(field, value.len())
        {
            return head.put_text(self.out, value);
        }
        match self.callsite.field(field) {
            FieldUse::LogTarget => self.scope = ScopeId::of_target(value),
            FieldUse::Limit => self.callsite.set_limit(value),
            FieldUse::Severity => match severity::named(value) {
                Some((number, name)) => self.set_severity(number, name),
                None => self.text(field.name(), value),
            },
            _ => self.attribute(field, |out, chars_max| {
                put_bytes_field(out, 1, cut_to(value, VALUE_BYTES_MAX, chars_max).as_bytes());
            }),
        }
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.attribute(field, |out, max| put_bytes_field(out, 7, cut_bytes(value, max)));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", ErrorChain(value)));
        let is_redacted = self.redacted >> (field.index() & 31) & 1 == 1;
        if !self.has_exception && !is_redacted {
            self.has_exception = true;
            let place = Place::Callsite(self.callsite.metadata());
            exception::tell(value, place, |key, text| self.text_attribute(key, text));
        }
    }

    #[inline]
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let FieldUse::Message = self.callsite.field(field)
            && !self.has_body
        {
            self.has_body();
            return put_body(self.out, format_args!("{value:?}"));
        }
        self.attribute(field, |out, chars_max| put_text_field(out, format_args!("{value:?}"), chars_max));
    }
}

/// Bytes of the longest name of a severity.
const SEVERITY_NAME_BYTES: usize = 9;

/// Bytes of the two times that a record begins with.
pub(crate) const TIMES_BYTES: usize = 18;

/// Appends the fields `time_unix_nano` and `observed_time_unix_nano`.
pub(crate) fn put_time_fields(out: &mut Vec<u8>, now: u64) {
    let mut fields = [0; TIMES_BYTES];
    put_times(&mut fields, now, now);
    out.extend_from_slice(&fields);
}

#[inline]
pub(crate) fn put_times(fields: &mut [u8; TIMES_BYTES], time: u64, observed: u64) {
    fields[0] = 1 << 3 | 1;
    fields[1..9].copy_from_slice(&time.to_le_bytes());
    fields[9] = 11 << 3 | 1;
    fields[10..].copy_from_slice(&observed.to_le_bytes());
}

/// An attribute up to its value, `6: {1: key, 2: {`, with zeros where the two lengths come.
pub(crate) struct AttributeHead {
    /// The head of a usual key, padded: a copy of a known number of bytes is a few instructions, and leaves room for a number.
    short: [u8; SHORT_BYTES],
    len: usize,
    /// The head of a key too long for that.
    long: Box<[u8]>,
}

/// Bytes of a usual key's head, and of a number's field behind it.
const SHORT_HEAD_BYTES: usize = 32;
const NUMBER_BYTES: usize = 16;
const SHORT_BYTES: usize = SHORT_HEAD_BYTES + NUMBER_BYTES;

impl AttributeHead {
    pub(crate) fn new(key: &str) -> Self {
        let mut head = vec![6 << 3 | 2, 0];
        put_bytes_field(&mut head, 1, key.as_bytes());
        head.extend_from_slice(&[2 << 3 | 2, 0]);
        let mut short = [0; SHORT_BYTES];
        let len = head.len();
        match short[..SHORT_HEAD_BYTES].get_mut(..len) {
            Some(start) => start.copy_from_slice(&head),
            None => return Self { short, len, long: head.into() },
        }
        Self { short, len, long: Box::default() }
    }

    #[inline]
    fn begin(&self, out: &mut Vec<u8>) -> OpenAttribute {
        let start = out.len();
        if self.long.is_empty() {
            out.extend_from_slice(&self.short);
            out.truncate(start + self.len);
        } else {
            out.extend_from_slice(&self.long);
        }
        OpenAttribute { attribute: OpenMessage::at(start + 1), value: OpenMessage::at(start + self.len - 1) }
    }

    /// Whether the attribute is short, each of its lengths a byte: its key is, and its value is a number, or a text of so many bytes.
    #[inline]
    fn is_for_short(&self, text_bytes: usize) -> bool {
        self.long.is_empty() && text_bytes < 0x80 - SHORT_BYTES
    }

    #[inline]
    fn put_varint(&self, out: &mut Vec<u8>, number: u8, mut value: u64) {
        self.put_short(out, 0, |field| {
            field[0] = number << 3;
            let mut len = 1;
            while value >= 0x80 {
                field[len] = value as u8 | 0x80;
                value >>= 7;
                len += 1;
            }
            field[len] = value as u8;
            len + 1
        });
    }

    #[inline]
    fn put_double(&self, out: &mut Vec<u8>, value: f64) {
        self.put_short(out, 0, |field| {
            field[0] = 4 << 3 | 1;
            field[1..9].copy_from_slice(&value.to_bits().to_le_bytes());
            9
        });
    }

    #[inline]
    fn put_text(&self, out: &mut Vec<u8>, text: &str) {
        self.put_short(out, text.len(), |field| {
            field[..2].copy_from_slice(&[1 << 3 | 2, text.len() as u8]);
            2
        });
        out.extend_from_slice(text.as_bytes());
    }

    /// Appends a short attribute: `write` puts its value's field into the room for that, but for so many bytes of `rest`, which are still to be appended, and
    /// tells how long it is.
    #[inline]
    fn put_short(&self, out: &mut Vec<u8>, rest: usize, write: impl FnOnce(&mut [u8; NUMBER_BYTES]) -> usize) {
        let (start, head) = (out.len(), self.len.min(SHORT_HEAD_BYTES));
        out.extend_from_slice(&self.short);
        let Some(all) = out.last_chunk_mut::<SHORT_BYTES>() else { return };
        let len = all[head..].first_chunk_mut().map_or(0, write);
        all[1] = (head - 2 + len + rest) as u8;
        all[head - 1] = (len + rest) as u8;
        out.truncate(start + head + len);
    }
}

struct OpenAttribute {
    attribute: OpenMessage,
    value: OpenMessage,
}

impl OpenAttribute {
    #[inline]
    fn end(self, out: &mut Vec<u8>) {
        end_message_field(out, self.value);
        end_message_field(out, self.attribute);
    }
}

/// The ids that tie a record to its span; invalid ones where there is no span.
pub(crate) struct SpanIds {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
}

impl SpanIds {
    pub(crate) const NONE: Self =
        Self { trace_id: TraceId::INVALID, span_id: SpanId::INVALID, flags: TraceFlags::NOT_SAMPLED };

    /// The current span's; `None` where telemetry is suppressed.
    #[cfg(feature = "otel-logs")]
    pub(crate) fn current() -> Option<Self> {
        let current = map_current_context(|context| {
            (!context.is_telemetry_suppressed()).then(|| Self::of(context.span().span_context()))
        });
        current.unwrap_or(Some(Self::NONE)) // a thread that is ending has no span
    }

    #[cfg(feature = "otel-logs")]
    pub(crate) fn new(trace_id: TraceId, span_id: SpanId, flags: TraceFlags) -> Self {
        Self { trace_id, span_id, flags }
    }

    /// The ids of a span context, sampled or not.
    #[inline]
    pub(crate) fn of(context: &SpanContext) -> Self {
        Self { trace_id: context.trace_id(), span_id: context.span_id(), flags: context.trace_flags() }
    }

    /// The bits of the trace's id that are random, as OpenTelemetry's sampler reads them; none where there is no trace.
    pub(crate) fn trace_bits(&self) -> Option<u64> {
        let [.., a, b, c, d, e, f, g, h] = self.trace_id.to_bytes();
        self.is_valid().then(|| u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1)
    }

    pub(crate) fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }

    /// How many bytes [`put`](Self::put) appends.
    pub(crate) fn len(&self) -> usize {
        if self.is_valid() { SPAN_FIELDS.len() } else { 0 }
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.trace_id != TraceId::INVALID && self.span_id != SpanId::INVALID
    }

    /// Appends the fields `flags`, `trace_id` and `span_id`.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if !self.is_valid() {
            return;
        }
        out.extend_from_slice(&SPAN_FIELDS);
        if let Some(fields) = out.last_chunk_mut::<{ SPAN_FIELDS.len() }>() {
            fields[1] = self.flags.to_u8();
            fields[7..23].copy_from_slice(&self.trace_id.to_bytes());
            fields[25..].copy_from_slice(&self.span_id.to_bytes());
        }
    }
}

const SPAN_FIELDS: [u8; 33] = {
    let mut fields = [0; 33];
    fields[0] = 8 << 3 | 5;
    (fields[5], fields[6]) = (9 << 3 | 2, 16);
    (fields[23], fields[24]) = (10 << 3 | 2, 8);
    fields
};

/// Appends what `text` formats to as the string of an `AnyValue`, of at most `chars_max` characters.
#[inline]
pub(crate) fn put_text_field(out: &mut Vec<u8>, text: fmt::Arguments<'_>, chars_max: usize) {
    // A string is a message to the wire: a length, then bytes.
    put_message_field(out, 1, |out| {
        let mut cutting = Cutting { out, bytes_left: VALUE_BYTES_MAX, chars_left: chars_max };
        let _ = cutting.write_fmt(text); // an error is the cut, or a faulty `Debug`: keep what came
    });
}

/// Appends the record's body.
#[inline]
fn put_body(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let start = out.len();
    out.extend_from_slice(&[5 << 3 | 2, 0, 1 << 3 | 2, 0]);
    put_cut(out, text, VALUE_BYTES_MAX);
    end_message_field(out, OpenMessage::at(start + 3));
    end_message_field(out, OpenMessage::at(start + 1));
}

/// Appends what `text` formats to, of at most so many bytes.
#[inline]
pub(crate) fn put_cut(out: &mut Vec<u8>, text: fmt::Arguments<'_>, bytes_max: usize) {
    let mut cutting = Cutting { out, bytes_left: bytes_max, chars_left: usize::MAX };
    let _ = cutting.write_fmt(text); // as above
}

struct Cutting<'a> {
    out: &'a mut Vec<u8>,
    bytes_left: usize,
    /// `usize::MAX` is no limit: nothing is counted then.
    chars_left: usize,
}

impl Write for Cutting<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.chars_left != usize::MAX || text.len() > self.bytes_left {
            return self.write_cut(text);
        }
        self.bytes_left -= text.len();
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Cutting<'_> {
    /// The same of a text that has to be counted, or is too long.
    #[inline(never)]
    fn write_cut(&mut self, text: &str) -> fmt::Result {
        let kept = cut_to(text, self.bytes_left, self.chars_left);
        self.out.extend_from_slice(kept.as_bytes());
        self.bytes_left -= kept.len();
        if self.chars_left != usize::MAX {
            self.chars_left -= kept.chars().count();
        }
        if kept.len() == text.len() {
            return Ok(());
        }
        (self.bytes_left, self.chars_left) = (0, 0); // also for a `Debug` that goes on
        Err(fmt::Error)
    }
}
