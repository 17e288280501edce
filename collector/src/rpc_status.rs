//! `google.rpc.Status` and the one detail of it that OTLP uses: what receivers answer errors with and exporters read.

use std::time::Duration;

use prost::Message;

/// gRPC's status codes, as numbers go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[expect(missing_docs, reason = "they are gRPC's own names")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// A gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What went wrong, in English.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Packed messages that say more.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// Names the type of `value`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message's bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Status {
    /// A status; with `retry_after` it holds a `RetryInfo`, by which OTLP tells a passing limit from a lasting one.
    pub fn new(code: Code, message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        let details = retry_after.map(RetryInfo::pack).into_iter().collect();
        Self { code: code as i32, message: message.into(), details }
    }

    /// When to try again, if the status says so.
    pub fn retry_after(&self) -> Option<Duration> {
        let packed = self.details.iter().find(|detail| detail.type_url == RETRY_INFO_URL)?;
        RetryInfo::decode(&*packed.value).ok()?.delay()
    }

    /// The same in protobuf's JSON mapping.
    pub fn to_json(&self) -> String {
        let details = self.retry_after().map(
            |delay| serde_json::json!([{ "@type": RETRY_INFO_URL, "retryDelay": format!("{}s", delay.as_secs_f64()) }]),
        );
        let mut json = serde_json::json!({ "code": self.code, "message": self.message });
        if let Some(details) = details {
            json["details"] = details;
        }
        json.to_string()
    }
}

const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RetryInfo {
    fn pack(delay: Duration) -> Any {
        let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
        let retry_delay = Some(RetryDelay { seconds, nanos: delay.subsec_nanos() as i32 });
        Any { type_url: RETRY_INFO_URL.to_owned(), value: Self { retry_delay }.encode_to_vec() }
    }

    fn delay(&self) -> Option<Duration> {
        let delay = self.retry_delay.unwrap_or_default();
        Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_survives_the_wire() {
        let status = Status::new(Code::ResourceExhausted, "full", Some(Duration::from_millis(1500)));
        let read = Status::decode(&*status.encode_to_vec()).unwrap();
        assert_eq!(read.retry_after(), Some(Duration::from_millis(1500)));
        assert_eq!(
            read.to_json(),
            r#"{"code":8,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}],"message":"full"}"#
        );
        assert_eq!(Status::new(Code::Unavailable, "", None).retry_after(), None);
    }
}
