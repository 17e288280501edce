//! How single values are written, whether in the environment or in code.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
#[cfg(feature = "metrics")]
use opentelemetry_sdk::metrics::Temporality;

use super::{Compression, Protocol};

#[cfg(not(feature = "grpc"))]
pub(super) const GRPC_ABSENT: &str =
    "gRPC cannot be spoken: this program is built without the feature `grpc` of `watchbell`";

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            #[cfg(feature = "grpc")]
            "grpc" => Ok(Self::Grpc),
            #[cfg(not(feature = "grpc"))]
            "grpc" => Err(GRPC_ABSENT.to_owned()),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            #[cfg(feature = "http-json")]
            "http/json" => Ok(Self::HttpJson),
            #[cfg(not(feature = "http-json"))]
            "http/json" => Err("this program is built without the feature `http-json` of `watchbell`".to_owned()),
            _ => Err(format!("`{text}` is not a protocol; write `grpc`, `http/protobuf` or `http/json`")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            #[cfg(feature = "http-json")]
            Self::HttpJson => "http/json",
        })
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            #[cfg(feature = "gzip")]
            "gzip" => Ok(Self::Gzip),
            #[cfg(not(feature = "gzip"))]
            "gzip" => Err("this program is built without the feature `gzip` of `watchbell`".to_owned()),
            "none" => Ok(Self::None),
            _ => Err(format!("`{text}` is not a compression; write `gzip` or `none`")),
        }
    }
}

/// One of our own: OpenTelemetry's are true only as `true`.
pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("`{value}` is not a boolean; write `true` or `false`")),
    }
}

pub(super) fn count(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("`{value}` is not a number of 0 or more"))
}

pub(super) fn positive(value: &str) -> Result<u32, String> {
    count(value).ok().filter(|count| *count > 0).ok_or_else(|| format!("`{value}` is not a number of 1 or more"))
}

pub(super) fn bytes(value: &str) -> Result<u64, String> {
    let bytes = value.parse().ok().filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| format!("`{value}` is not a number of bytes, 1 or more, without a unit"))
}

pub(super) fn millis(value: &str) -> Result<Duration, String> {
    let millis = value.parse().map_err(|_| format!("`{value}` is not a number of milliseconds"))?;
    Ok(Duration::from_millis(millis))
}

/// Milliseconds of which 0 is no limit: the specification allows a very long time for that.
pub(super) fn timeout(value: &str) -> Result<Duration, String> {
    millis(value).map(no_limit_for_zero)
}

pub(super) fn no_limit_for_zero(timeout: Duration) -> Duration {
    if timeout.is_zero() { NO_TIMEOUT } else { timeout }
}

/// 49 days.
const NO_TIMEOUT: Duration = Duration::from_millis(u32::MAX as u64);

pub(super) fn ratio(value: &str) -> Result<f64, String> {
    match value.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("`{value}` is not a ratio from 0 to 1")),
    }
}

#[cfg(feature = "metrics")]
pub(super) fn temporality(value: &str) -> Result<Temporality, String> {
    match value.to_ascii_lowercase().as_str() {
        "cumulative" => Ok(Temporality::Cumulative),
        "delta" => Ok(Temporality::Delta),
        "lowmemory" | "low_memory" => Ok(Temporality::LowMemory),
        _ => Err(format!("`{value}` is not a temporality; write `cumulative`, `delta` or `lowmemory`")),
    }
}

#[cfg(feature = "metrics")]
pub(super) fn is_exponential(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "explicit_bucket_histogram" => Ok(false),
        "base2_exponential_bucket_histogram" => Ok(true),
        _ => {
            let wanted = "write `explicit_bucket_histogram` or `base2_exponential_bucket_histogram`";
            Err(format!("`{value}` is not an aggregation of histograms; {wanted}"))
        }
    }
}

/// An endpoint with `path` after its own; gRPC has no path of its own, and need not name a scheme.
pub(super) fn uri(endpoint: &str, protocol: Protocol, is_insecure: bool, path: &str) -> Result<Uri, String> {
    let scheme = match (protocol, is_insecure) {
        (Protocol::Grpc, false) if !endpoint.contains("://") => "https://",
        (Protocol::Grpc, true) if !endpoint.contains("://") => "http://",
        _ => "",
    };
    if endpoint.contains('@') {
        return Err(USERINFO.to_owned());
    }
    let told = without_query(endpoint);
    let wrong = || format!("`{told}` is not an endpoint; write `http://host:port` or `https://host:port`");
    let base = format!("{scheme}{endpoint}").parse::<Uri>().map_err(|_| wrong())?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (base.scheme_str(), base.authority()) else {
        return Err(wrong());
    };
    if authority.host().is_empty() {
        return Err(wrong());
    }
    let own_path = if protocol == Protocol::Grpc { "" } else { base.path() };
    let own_path = if path.is_empty() { own_path } else { own_path.trim_end_matches('/') };
    let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}{own_path}{path}{query}").parse().map_err(|_| wrong())
}

/// An address as it may be told: what stands behind `?` may be a secret.
pub(crate) fn without_query(address: &str) -> &str {
    address.split('?').next().unwrap_or_default()
}

/// It is told without the endpoint, which holds a secret.
const USERINFO: &str = "an endpoint with a user and a password is not taken; write `authorization=Basic%20...` into \
                        `OTEL_EXPORTER_OTLP_HEADERS`";

pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong_name = |_| "a header's name is not valid".to_owned(); // not told: a slip may have put the secret there
    let parsed_name = name.to_ascii_lowercase().parse::<HeaderName>().map_err(wrong_name)?;
    let mut value =
        value.parse::<HeaderValue>().map_err(|_| format!("the value of the header `{name}` is not valid"))?;
    value.set_sensitive(true);
    Ok((parsed_name, value))
}

/// `key=value,key=value`, percent-encoded; one mistake discards the whole, as the specification wants.
pub(super) fn pairs(list: &str) -> Result<Vec<(String, String)>, String> {
    list.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(pair).collect()
}

/// What is wrong is told without the text: it may be a secret.
fn pair(pair: &str) -> Result<(String, String), String> {
    match pair.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((percent_decode(key.trim())?, percent_decode(value.trim())?))
        }
        _ => Err("it is not a list of `key=value,key=value`".to_owned()),
    }
}

/// Text with `%` and two hex digits for a byte.
pub(crate) fn percent_decode(text: &str) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let hex = part.get(..2).filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.ok_or_else(|| "a `%` is not followed by two hex digits".to_owned())?);
        decoded.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(decoded).map_err(|_| "it is not UTF-8 once percent-decoded".to_owned())
}
