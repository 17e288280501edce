//! How a record is written as a line.

pub(super) mod datagram;
mod json;
mod pattern;
mod text;

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::Record;
use pattern::Pattern;
#[cfg(feature = "files")]
pub(super) use text::Utc;

/// How a record is written. Each is one line: control characters in it are escaped, those of a stack trace too.
///
/// Texts in quotes are written as Rust's and JSON's, without quotes where they need none.
///
/// ```
/// use watchbell::sink::{Format, Sink};
///
/// let builder = watchbell::builder().sink(Sink::stdout().format(Format::Logfmt));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// For people: `2026-11-24T12:34:56.789Z  INFO checkout: order placed order_id=17 trace_id=...`
    Pretty,
    /// For people with narrow windows: `12:34:56.789 I order placed order_id=17`
    Compact,
    /// JSON with OpenTelemetry's names, always in this order: `timestamp`, `severity_number`, `severity_text`, `scope`, `event_name`, `body`, `attributes`,
    /// `trace_id`, `span_id`, `resource` (of it, what begins with `service.` or `deployment.`). What a record has not is left out.
    Json,
    /// [Elastic Common Schema](https://www.elastic.co/guide/en/ecs/current/): `@timestamp`, `log.level`, `message`, `ecs.version`, `log.logger`,
    /// `service.name`, `trace.id`, `error.*` for exceptions, `log.origin.*` for the place in the code, other attributes by their own names, or under
    /// `labels.` where that name is taken.
    Ecs,
    /// [GELF 1.1](https://go2docs.graylog.org/current/getting_in_log_data/gelf.html), for Graylog: attributes as `_key`.
    Gelf,
    /// `time=... level=info target=checkout msg="order placed" order_id=17 trace_id=...`
    Logfmt,
    /// OTLP JSON lines, as OpenTelemetry's file exporter writes and the collector's file receiver reads: each line is a whole request of one record.
    OtlpJson,
    /// A pattern of one's own. In braces `time`, `level`, `target`, `message`, `fields`, `module` (as `target`), `file`, `line`, `trace_id`, `span_id`, `event`,
    /// `thread` (an attribute `thread.name`), or `field.KEY` for one attribute; `{level:5}` and `{level:>5}` pad to the left and to the right; `{{` is a brace.
    /// Where there are no `fields`, a blank before them is left out, too.
    ///
    /// ```
    /// use watchbell::sink::{Format, Sink};
    ///
    /// let sink = Sink::stdout().format(Format::Pattern("{time} {level:5} {file}:{line} {message} {fields}".to_owned()));
    /// let error = watchbell::builder().sink(sink.format(Format::Pattern("{time} {massage}".to_owned()))).init().unwrap_err();
    /// assert_eq!(error.to_string(), "\
    /// the sink `stdout` cannot be set up: `massage` is not known in a pattern; did you mean `message`?
    ///     {time} {massage}
    ///            ^^^^^^^^^");
    /// ```
    Pattern(String),
}

impl Format {
    /// What is wrong in a pattern.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Pattern(text) => Pattern::parse(text).map(drop),
            _ => Ok(()),
        }
    }
}

/// A format with what it needs to know.
pub(super) struct Formatter {
    kind: Kind,
    colors: bool,
    resource: Arc<[KeyValue]>,
}

enum Kind {
    Pretty,
    Compact,
    Json,
    Ecs,
    Gelf,
    Logfmt,
    OtlpJson,
    Pattern(Pattern),
}

impl Formatter {
    pub(super) fn new(format: &Format, colors: bool, resource: &Arc<[KeyValue]>) -> Result<Self, String> {
        let kind = match format {
            Format::Pretty => Kind::Pretty,
            Format::Compact => Kind::Compact,
            Format::Json => Kind::Json,
            Format::Ecs => Kind::Ecs,
            Format::Gelf => Kind::Gelf,
            Format::Logfmt => Kind::Logfmt,
            Format::OtlpJson => Kind::OtlpJson,
            Format::Pattern(text) => Kind::Pattern(Pattern::parse(text)?),
        };
        Ok(Self { kind, colors, resource: Arc::clone(resource) })
    }

    /// Appends the record's line, its end included.
    pub(super) fn put_line(&self, out: &mut String, record: &Record<'_>) {
        match &self.kind {
            Kind::Pretty => text::put_pretty(out, record, self.colors),
            Kind::Compact => text::put_compact(out, record, self.colors),
            Kind::Logfmt => text::put_logfmt(out, record),
            Kind::Json => json::put_json(out, record, &self.resource),
            Kind::Ecs => json::put_ecs(out, record, &self.resource),
            Kind::Gelf => json::put_gelf(out, record, &self.resource),
            Kind::OtlpJson => json::put_otlp(out, record, &self.resource),
            Kind::Pattern(pattern) => pattern.put(out, record),
        }
        out.push('\n');
    }
}

/// What is wrong in a pattern.
#[cfg(fuzzing)]
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    Pattern::parse(pattern).map(drop)
}

/// A resource's attribute, where it is there.
fn of_resource(resource: &[KeyValue], key: &str) -> Option<String> {
    resource.iter().find(|found| found.key.as_str() == key).map(|found| found.value.to_string())
}

/// syslog's severity, as OpenTelemetry maps it; but FATAL is an alert: of an emergency a system may tell each of its users on their terminals.
fn syslog_severity(record: &Record<'_>) -> u8 {
    match record.severity_number() {
        19.. => 1,
        18 => 2,
        17 => 3,
        13..=16 => 4,
        10..=12 => 5,
        0 | 9 => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::put_attribute;
    use crate::record::put_times;
    use watchbell_proto::wire::{put_bytes_field, put_fixed64_field, put_message_field, put_varint_field};

    /// A record with a value of each kind, and texts that try to leave their line.
    fn encoded() -> (Vec<u8>, Vec<u8>) {
        let (mut scope, mut record) = (Vec::new(), vec![0; 18]);
        put_bytes_field(&mut scope, 1, b"checkout::db");
        put_times(record.first_chunk_mut().unwrap(), 1_795_523_696_789_012_345, 0);
        put_varint_field(&mut record, 2, 17);
        put_bytes_field(&mut record, 3, b"ERROR");
        let mut text = |key: &str, value: &str| {
            put_attribute(&mut record, key, |out| put_bytes_field(out, 1, value.as_bytes()));
        };
        text("code.file.path", "src/db.rs");
        text("upstream", "payment");
        text("said", "no \"way\"\n\x1b[2J");
        text("message", "taken");
        text("exception.message", "refused");
        text("exception.type", "Refused");
        put_attribute(&mut record, "code.line.number", |out| put_varint_field(out, 3, 7));
        put_attribute(&mut record, "order.id", |out| put_varint_field(out, 3, 17));
        put_attribute(&mut record, "ratio", |out| put_fixed64_field(out, 4, 0.5f64.to_bits()));
        put_attribute(&mut record, "nan", |out| put_fixed64_field(out, 4, f64::NAN.to_bits()));
        put_attribute(&mut record, "yes", |out| put_varint_field(out, 2, 1));
        put_attribute(&mut record, "list", |out| {
            put_message_field(out, 5, |out| put_message_field(out, 1, |out| put_varint_field(out, 3, 1)));
        });
        put_message_field(&mut record, 5, |out| put_bytes_field(out, 1, "cannot charge\nat \"all\"".as_bytes()));
        put_bytes_field(&mut record, 9, &[0xAB; 16]);
        put_bytes_field(&mut record, 10, &[0xCD; 8]);
        (scope, record)
    }

    fn line(format: Format) -> String {
        line_of(format, encoded())
    }

    fn line_of(format: Format, (scope, record): (Vec<u8>, Vec<u8>)) -> String {
        let resource: Arc<[KeyValue]> =
            [KeyValue::new("service.name", "checkout"), KeyValue::new("host.name", "till-1")].into();
        let mut out = String::new();
        Formatter::new(&format, false, &resource).unwrap().put_line(&mut out, &Record::new(&scope, &record));
        assert_eq!(out.pop(), Some('\n'));
        assert!(!out.contains(['\n', '\x1b']), "{out}");
        out
    }

    #[test]
    fn lines() {
        assert_eq!(
            line(Format::Pretty),
            r#"2026-11-24T12:34:56.789Z ERROR checkout::db: cannot charge\nat "all" upstream=payment said="no \"way\"\n\u{1b}[2J" message=taken exception.message=refused exception.type=Refused order.id=17 ratio=0.5 nan=NaN yes=true list=[1] trace_id=abababababababababababababababab"#
        );
        assert_eq!(
            line(Format::Compact),
            r#"12:34:56.789 E cannot charge\nat "all" upstream=payment said="no \"way\"\n\u{1b}[2J" message=taken exception.message=refused exception.type=Refused order.id=17 ratio=0.5 nan=NaN yes=true list=[1]"#
        );
        assert_eq!(
            line(Format::Logfmt),
            r#"time=2026-11-24T12:34:56.789012345Z level=error target=checkout::db msg="cannot charge\nat \"all\"" code.file.path=src/db.rs upstream=payment said="no \"way\"\n\u{1b}[2J" message=taken exception.message=refused exception.type=Refused code.line.number=7 order.id=17 ratio=0.5 nan=NaN yes=true list=[1] trace_id=abababababababababababababababab span_id=cdcdcdcdcdcdcdcd"#
        );
        assert_eq!(
            line(Format::Json),
            r#"{"timestamp":"2026-11-24T12:34:56.789012345Z","severity_number":17,"severity_text":"ERROR","scope":"checkout::db","body":"cannot charge\nat \"all\"","attributes":{"code.file.path":"src/db.rs","upstream":"payment","said":"no \"way\"\n\u001b[2J","message":"taken","exception.message":"refused","exception.type":"Refused","code.line.number":7,"order.id":17,"ratio":0.5,"nan":"NaN","yes":true,"list":[1]},"trace_id":"abababababababababababababababab","span_id":"cdcdcdcdcdcdcdcd","resource":{"service.name":"checkout"}}"#
        );
        assert_eq!(
            line(Format::Ecs),
            r#"{"@timestamp":"2026-11-24T12:34:56.789Z","log.level":"error","message":"cannot charge\nat \"all\"","ecs.version":"8.11.0","log.logger":"checkout::db","service.name":"checkout","trace.id":"abababababababababababababababab","span.id":"cdcdcdcdcdcdcdcd","log.origin.file.name":"src/db.rs","upstream":"payment","said":"no \"way\"\n\u001b[2J","labels.message":"taken","error.message":"refused","error.type":"Refused","log.origin.file.line":7,"order.id":17,"ratio":0.5,"nan":"NaN","yes":true,"list":[1]}"#
        );
        assert_eq!(
            line(Format::Gelf),
            r#"{"version":"1.1","host":"till-1","short_message":"cannot charge\nat \"all\"","timestamp":1795523696.789,"level":3,"_target":"checkout::db","_service.name":"checkout","_trace_id":"abababababababababababababababab","_span_id":"cdcdcdcdcdcdcdcd","_code.file.path":"src/db.rs","_upstream":"payment","_said":"no \"way\"\n\u001b[2J","_message":"taken","_exception.message":"refused","_exception.type":"Refused","_code.line.number":7,"_order.id":17,"_ratio":0.5,"_nan":"NaN","_yes":"true","_list":"[1]"}"#
        );
        let pattern = "{{{time}}} {level:>7}|{level:7}| {file}:{line} {field.order.id} {field.none}{message}";
        assert_eq!(
            line(Format::Pattern(pattern.to_owned())),
            r#"{2026-11-24T12:34:56.789Z}   ERROR|ERROR  | src/db.rs:7 17 cannot charge\nat "all""#
        );
    }

    #[test]
    fn gelf_has_a_message_whatever_the_record_has() {
        let encoded = |name: &str, target: &str, message: &str| {
            let (mut scope, mut record) = (Vec::new(), vec![0; 18]);
            put_times(record.first_chunk_mut().unwrap(), 0, 0);
            put_bytes_field(&mut scope, 1, target.as_bytes());
            put_message_field(&mut record, 5, |out| put_bytes_field(out, 1, message.as_bytes()));
            put_bytes_field(&mut record, 12, name.as_bytes());
            (scope, record)
        };
        for (record, expected) in [
            (encoded("order.placed", "shop", "order placed"), "order placed"),
            (encoded("order.placed", "shop", " "), "order.placed"),
            (encoded("", "shop", ""), "shop"),
            (encoded("", "", ""), "-"),
        ] {
            let line = line_of(Format::Gelf, record);
            assert!(line.contains(&format!(r#""short_message":"{expected}","#)), "{line}");
        }
    }

    /// What is an object there cannot be a text elsewhere: Elasticsearch refuses the record.
    #[test]
    fn no_attribute_of_ecs_is_an_object_of_the_schema() {
        for key in ["ecs", "event", "span", "trace", "service"] {
            let mut record = vec![0; 18];
            put_times(record.first_chunk_mut().unwrap(), 0, 0);
            put_attribute(&mut record, key, |out| put_bytes_field(out, 1, b"taken"));
            let line = line_of(Format::Ecs, (Vec::new(), record));
            assert!(line.contains(&format!(r#","labels.{key}":"taken"}}"#)), "{line}");
        }
    }

    #[test]
    fn a_pattern_has_no_blank_before_fields_that_are_not_there() {
        let mut record = vec![0; 18];
        put_times(record.first_chunk_mut().unwrap(), 0, 0);
        put_message_field(&mut record, 5, |out| put_bytes_field(out, 1, b"order placed"));
        for (pattern, expected) in [
            ("{message} {fields}", "order placed"),
            ("{message} {fields} {target}.", "order placed ."),
            ("{message}  {fields}", "order placed "),
            ("{message} {fields:3}", "order placed    "),
            ("{message} [{fields}]", "order placed []"),
            ("{target:2}{fields}", "  "),
        ] {
            let line = line_of(Format::Pattern(pattern.to_owned()), (Vec::new(), record.clone()));
            assert_eq!(line, expected, "{pattern}");
        }
    }

    #[test]
    fn a_line_of_otlp_json_is_a_request() {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
        use prost::Message;
        let json = line(Format::OtlpJson);
        let request =
            watchbell_proto::otlp::json::to_protobuf(watchbell_proto::otlp::Signal::Logs, json.as_bytes(), usize::MAX);
        let request = ExportLogsServiceRequest::decode(&request.unwrap()[..]).unwrap();
        let (scope, record) = encoded();
        let logs = &request.resource_logs[0];
        assert_eq!(logs.resource.as_ref().unwrap().attributes[0].key, "service.name");
        assert_eq!(logs.scope_logs[0].scope.as_ref().unwrap().encode_to_vec(), scope);
        let expected = opentelemetry_proto::tonic::logs::v1::LogRecord::decode(&record[..]).unwrap();
        assert_eq!(format!("{:?}", logs.scope_logs[0].log_records), format!("{:?}", [expected]));
    }
}
