//! Prometheus remote write, 1.0 and 2.0: the bodies, to be compressed as a Snappy block (see [`snappy`](crate::snappy)).
//!
//! | | 1.0 | 2.0 |
//! |---|---|---|
//! | `Content-Type` | [`CONTENT_TYPE_V1`] | [`CONTENT_TYPE_V2`] |
//! | `X-Prometheus-Remote-Write-Version` | `0.1.0` | `2.0.0` |
//! | `Content-Encoding` | `snappy` | `snappy` |
//!
//! A receiver wants the labels of a series sorted by name with `__name__` among them, and its samples in order of time.

use std::collections::HashMap;

use crate::wire::*;

/// Type of a 1.0 body.
pub const CONTENT_TYPE_V1: &str = "application/x-protobuf";

/// Type of a 2.0 body.
pub const CONTENT_TYPE_V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// The value that says that a series has ended, a NaN of its own: compare its bits.
pub const STALE_NAN: f64 = f64::from_bits(0x7FF0_0000_0000_0002);

/// A value and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds of Unix time.
    pub timestamp_ms: i64,
    /// The value; [`STALE_NAN`] where the series ends.
    pub value: f64,
}

/// What a metric is, as remote write numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricType {
    /// Not known.
    #[default]
    Unknown = 0,
    /// A sum that only grows.
    Counter = 1,
    /// A value that goes up and down.
    Gauge = 2,
}

/// Appends a series to a 1.0 `WriteRequest`.
pub fn put_time_series<'a>(
    out: &mut Vec<u8>,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    samples: impl IntoIterator<Item = Sample>,
) {
    put_message_field(out, 1, |out| {
        for (name, value) in labels {
            put_message_field(out, 1, |out| {
                put_bytes_field(out, 1, name.as_bytes());
                put_bytes_field(out, 2, value.as_bytes());
            });
        }
        samples.into_iter().for_each(|sample| put_sample(out, sample));
    });
}

/// Appends a metric's type and help to a 1.0 `WriteRequest`.
pub fn put_metadata(out: &mut Vec<u8>, metric: &str, metric_type: MetricType, help: &str) {
    put_message_field(out, 3, |out| {
        put_varint_field(out, 1, metric_type as u64);
        put_bytes_field(out, 2, metric.as_bytes());
        put_bytes_field(out, 4, help.as_bytes());
    });
}

fn put_sample(out: &mut Vec<u8>, sample: Sample) {
    put_message_field(out, 2, |out| {
        put_fixed64_field(out, 1, sample.value.to_bits());
        put_varint_field(out, 2, sample.timestamp_ms as u64);
    });
}

/// A 2.0 `io.prometheus.write.v2.Request` that is being written: each string is in it once.
#[derive(Clone, Debug)]
pub struct WriteRequestV2 {
    refs: HashMap<String, u32>,
    symbols: Vec<u8>,
    series: Vec<u8>,
}

/// A request without series.
impl Default for WriteRequestV2 {
    fn default() -> Self {
        let mut this = Self { refs: HashMap::new(), symbols: Vec::new(), series: Vec::new() };
        this.symbol(""); // reference 0 must be the empty string
        this
    }
}

impl WriteRequestV2 {
    /// Appends a series.
    pub fn time_series<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        samples: impl IntoIterator<Item = Sample>,
        metric_type: MetricType,
        help: &str,
    ) {
        let refs: Vec<u32> =
            labels.into_iter().flat_map(|(name, value)| [name, value]).map(|text| self.symbol(text)).collect();
        let help = self.symbol(help);
        put_message_field(&mut self.series, 5, |out| {
            put_message_field(out, 1, |out| refs.iter().for_each(|reference| put_varint(out, u64::from(*reference))));
            samples.into_iter().for_each(|sample| put_sample(out, sample));
            put_message_field(out, 5, |out| {
                put_varint_field(out, 1, metric_type as u64);
                put_varint_field(out, 3, u64::from(help));
            });
        });
    }

    /// Whether no series was appended.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The body.
    pub fn finish(mut self) -> Vec<u8> {
        self.symbols.append(&mut self.series);
        self.symbols
    }

    fn symbol(&mut self, text: &str) -> u32 {
        if let Some(reference) = self.refs.get(text) {
            return *reference;
        }
        let reference = self.refs.len() as u32;
        self.refs.insert(text.to_string(), reference);
        put_bytes_field(&mut self.symbols, 4, text.as_bytes());
        reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    /// The messages as prost has them.
    mod pb {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct WriteRequest {
            #[prost(message, repeated, tag = "1")]
            pub(super) timeseries: Vec<TimeSeries>,
            #[prost(message, repeated, tag = "3")]
            pub(super) metadata: Vec<MetricMetadata>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct TimeSeries {
            #[prost(message, repeated, tag = "1")]
            pub(super) labels: Vec<Label>,
            #[prost(message, repeated, tag = "2")]
            pub(super) samples: Vec<Sample>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Label {
            #[prost(string, tag = "1")]
            pub(super) name: String,
            #[prost(string, tag = "2")]
            pub(super) value: String,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Sample {
            #[prost(double, tag = "1")]
            pub(super) value: f64,
            #[prost(int64, tag = "2")]
            pub(super) timestamp: i64,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct MetricMetadata {
            #[prost(int32, tag = "1")]
            pub(super) metric_type: i32,
            #[prost(string, tag = "2")]
            pub(super) metric_family_name: String,
            #[prost(string, tag = "4")]
            pub(super) help: String,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct RequestV2 {
            #[prost(string, repeated, tag = "4")]
            pub(super) symbols: Vec<String>,
            #[prost(message, repeated, tag = "5")]
            pub(super) timeseries: Vec<TimeSeriesV2>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct TimeSeriesV2 {
            #[prost(uint32, repeated, tag = "1")]
            pub(super) labels_refs: Vec<u32>,
            #[prost(message, repeated, tag = "2")]
            pub(super) samples: Vec<Sample>,
            #[prost(message, optional, tag = "5")]
            pub(super) metadata: Option<MetadataV2>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct MetadataV2 {
            #[prost(int32, tag = "1")]
            pub(super) metric_type: i32,
            #[prost(uint32, tag = "3")]
            pub(super) help_ref: u32,
        }
    }

    const LABELS: [(&str, &str); 2] = [("__name__", "ALERTS"), ("alertname", "ALERTS")];
    const SAMPLES: [Sample; 2] =
        [Sample { timestamp_ms: -1, value: 1.0 }, Sample { timestamp_ms: 2, value: STALE_NAN }];

    fn check_samples(samples: &[pb::Sample]) {
        let bits = samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits()));
        assert_eq!(bits.collect::<Vec<_>>(), [(-1, 1f64.to_bits()), (2, 0x7FF0_0000_0000_0002)]);
    }

    #[test]
    fn version_1() {
        let mut body = Vec::new();
        put_time_series(&mut body, LABELS, SAMPLES);
        put_metadata(&mut body, "ALERTS", MetricType::Gauge, "help");
        let request = pb::WriteRequest::decode(&body[..]).unwrap();
        let labels = request.timeseries[0].labels.iter().map(|label| (&*label.name, &*label.value));
        assert_eq!(labels.collect::<Vec<_>>(), LABELS);
        check_samples(&request.timeseries[0].samples);
        let metadata =
            pb::MetricMetadata { metric_type: 2, metric_family_name: "ALERTS".to_string(), help: "help".to_string() };
        assert_eq!(request.metadata, [metadata]);
    }

    #[test]
    fn version_2() {
        let mut request = WriteRequestV2::default();
        assert!(request.is_empty());
        request.time_series(LABELS, SAMPLES, MetricType::Counter, "help");
        request.time_series(LABELS, [], MetricType::Unknown, "");
        assert!(!request.is_empty());
        let read = pb::RequestV2::decode(&request.finish()[..]).unwrap();
        assert_eq!(read.symbols, ["", "__name__", "ALERTS", "alertname", "help"]);
        assert_eq!(read.timeseries[0].labels_refs, [1, 2, 3, 2]);
        assert_eq!(read.timeseries[0].metadata, Some(pb::MetadataV2 { metric_type: 1, help_ref: 4 }));
        check_samples(&read.timeseries[0].samples);
        assert_eq!(read.timeseries[1].metadata, Some(pb::MetadataV2 { metric_type: 0, help_ref: 0 }));
    }
}
