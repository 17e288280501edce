//! The answers of OTLP's services, in protobuf and in JSON: the export responses, and the status of a refused request.

use std::time::Duration;

use prost::{DecodeError, Message};
use serde_json::{Value, json};

use super::Signal;

/// `Export{Logs,Trace,Metrics}ServiceResponse`: on the wire the three are one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExportResponse {
    /// Set where records were refused, or where there is a warning to give.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `Export{Logs,Trace,Metrics}PartialSuccess`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PartialSuccess {
    /// Records that were refused; the client must not send them again.
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    /// Why, in English.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

impl ExportResponse {
    /// The answer where all records were taken.
    pub fn success() -> Self {
        Self::default()
    }

    /// The answer where some were not.
    pub fn partial(rejected: u64, error_message: impl Into<String>) -> Self {
        let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
        Self { partial_success: Some(PartialSuccess { rejected, error_message: error_message.into() }) }
    }

    /// As protobuf.
    pub fn to_protobuf(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// From protobuf.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    /// As OTLP/JSON.
    pub fn to_json(&self, signal: Signal) -> String {
        let Some(partial) = &self.partial_success else { return "{}".to_string() };
        let mut object = serde_json::Map::new();
        if partial.rejected != 0 {
            object.insert(rejected_name(signal).to_string(), partial.rejected.to_string().into());
        }
        if !partial.error_message.is_empty() {
            object.insert("errorMessage".to_string(), partial.error_message.as_str().into());
        }
        json!({ "partialSuccess": object }).to_string()
    }

    /// From OTLP/JSON.
    pub fn from_json(signal: Signal, json: &[u8]) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(json)?;
        let partial_success = value["partialSuccess"].as_object().map(|partial| PartialSuccess {
            rejected: partial.get(rejected_name(signal)).map_or(0, integer),
            error_message: partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default().to_string(),
        });
        Ok(Self { partial_success })
    }
}

fn rejected_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "rejectedLogRecords",
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
    }
}

/// An integer of 64 bits: a string or a number.
fn integer(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

/// `google.rpc.Status`: the body of an answer that is no success, and gRPC's `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Status {
    /// gRPC's code: 3 for what will never decode, 8 at a limit, 14 while unavailable.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What went wrong, in English.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Messages of any type; we know `RetryInfo`.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    /// `type.googleapis.com/` and the full name of the message.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`: only with it may a client retry after RESOURCE_EXHAUSTED.
#[derive(Clone, PartialEq, Eq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Status {
    /// A status without details.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// The same with a `RetryInfo` that tells the client to wait so long.
    pub fn with_retry_delay(mut self, delay: Duration) -> Self {
        let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
        let retry_delay = Some(ProtoDuration { seconds, nanos: delay.subsec_nanos() as i32 });
        self.details
            .push(Any { type_url: RETRY_INFO_URL.to_string(), value: RetryInfo { retry_delay }.encode_to_vec() });
        self
    }

    /// How long the sender is told to wait, if it is; a `RetryInfo` without a delay says 0.
    pub fn retry_delay(&self) -> Option<Duration> {
        let info = self.details.iter().find(|detail| detail.type_url == RETRY_INFO_URL)?;
        let delay = RetryInfo::decode(&info.value[..]).ok()?.retry_delay.unwrap_or_default();
        Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
    }

    /// As protobuf.
    pub fn to_protobuf(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// From protobuf.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    /// As JSON; details that we do not know are left out.
    pub fn to_json(&self) -> String {
        let mut object = json!({ "code": self.code, "message": self.message });
        if let Some(delay) = self.retry_delay() {
            let delay = json_duration(delay);
            object["details"] = json!([{ "@type": RETRY_INFO_URL, "retryDelay": delay }]);
        }
        object.to_string()
    }
}

/// `1.5s`, with as many digits as it needs of 0, 3, 6 and 9.
fn json_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match nanos {
        0 => format!("{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => format!("{seconds}.{:06}s", nanos / 1_000),
        _ => format!("{seconds}.{nanos:09}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};

    #[test]
    fn responses_are_otlps() {
        let bytes = ExportResponse::partial(3, "too large").to_protobuf();
        let partial_success =
            Some(ExportLogsPartialSuccess { rejected_log_records: 3, error_message: "too large".to_string() });
        assert_eq!(ExportLogsServiceResponse::decode(&bytes[..]), Ok(ExportLogsServiceResponse { partial_success }));
        assert_eq!(ExportResponse::from_protobuf(&bytes), Ok(ExportResponse::partial(3, "too large")));
        assert_eq!(ExportResponse::success().to_protobuf(), b"");
    }

    #[test]
    fn responses_in_json() {
        let partial = ExportResponse::partial(3, "too large");
        for (signal, json) in [
            (Signal::Logs, r#"{"partialSuccess":{"errorMessage":"too large","rejectedLogRecords":"3"}}"#),
            (Signal::Traces, r#"{"partialSuccess":{"errorMessage":"too large","rejectedSpans":"3"}}"#),
            (Signal::Metrics, r#"{"partialSuccess":{"errorMessage":"too large","rejectedDataPoints":"3"}}"#),
        ] {
            let value: Value = serde_json::from_str(&partial.to_json(signal)).unwrap();
            assert_eq!(value, serde_json::from_str::<Value>(json).unwrap());
            assert_eq!(ExportResponse::from_json(signal, json.as_bytes()).unwrap(), partial);
        }
        assert_eq!(ExportResponse::success().to_json(Signal::Logs), "{}");
        assert_eq!(ExportResponse::from_json(Signal::Logs, b"{}").unwrap(), ExportResponse::success());
        let empty = ExportResponse::from_json(Signal::Logs, br#"{"partialSuccess":{"rejectedLogRecords":2}}"#).unwrap();
        assert_eq!(empty, ExportResponse::partial(2, ""));
    }

    #[test]
    fn a_status_tells_when_to_come_back() {
        let status = Status::new(8, "full").with_retry_delay(Duration::from_millis(1500));
        let read = Status::from_protobuf(&status.to_protobuf()).unwrap();
        assert_eq!(read, status);
        assert_eq!(read.retry_delay(), Some(Duration::from_millis(1500)));
        let expected =
            json!({"code": 8, "message": "full", "details": [{"@type": RETRY_INFO_URL, "retryDelay": "1.500s"}]});
        assert_eq!(serde_json::from_str::<Value>(&status.to_json()).unwrap(), expected);
        assert_eq!(Status::new(3, "no").retry_delay(), None);
        assert_eq!(Status::new(3, "no").to_json(), r#"{"code":3,"message":"no"}"#);
    }

    #[test]
    fn durations_have_as_many_digits_as_they_need() {
        let text = |nanos| json_duration(Duration::from_nanos(nanos));
        assert_eq!(text(2_000_000_000), "2s");
        assert_eq!(text(1_000_000), "0.001s");
        assert_eq!(text(1_000), "0.000001s");
        assert_eq!(text(1), "0.000000001s");
    }
}
