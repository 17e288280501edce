//! Writes metrics as OTLP. Field numbers are those of `opentelemetry/proto/metrics/v1`.

use std::time::SystemTime;

use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, ExponentialBucket, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, MetricData, Sum,
};
use watchbell_proto::wire::{put_bytes_field, put_fixed64_field, put_message_field, put_varint, put_varint_field};

use crate::encode::{put_attributes, unix_nano};

/// Most data points of one `Metric` message (1,000); a metric of more is several messages.
const POINTS_PER_RECORD_MAX: usize = 1000;

/// Calls `push` with the number of points and the bytes of each `Metric` message that the metric becomes; with none if it has no points.
pub(super) fn records(metric: &Metric, push: impl FnMut(u16, &[u8])) {
    let mut head = Vec::new();
    for (number, text) in [(1, metric.name()), (2, metric.description()), (3, metric.unit())] {
        if !text.is_empty() {
            put_bytes_field(&mut head, number, text.as_bytes());
        }
    }
    let mut points = Points { head, number: 0, tail: Vec::new(), points: Vec::new() };
    match metric.data() {
        AggregatedMetrics::F64(data) => points.of(data),
        AggregatedMetrics::U64(data) => points.of(data),
        AggregatedMetrics::I64(data) => points.of(data),
    }
    points.push(push);
}

/// The points of one metric, encoded, and what is around them.
struct Points {
    head: Vec<u8>,
    /// The field of `Metric` that they are in.
    number: u32,
    /// What comes after the points in that field.
    tail: Vec<u8>,
    points: Vec<Vec<u8>>,
}

impl Points {
    fn of<T: Number>(&mut self, data: &MetricData<T>) {
        match data {
            MetricData::Gauge(gauge) => self.gauge(gauge),
            MetricData::Sum(sum) => self.sum(sum),
            MetricData::Histogram(histogram) => self.histogram(histogram),
            MetricData::ExponentialHistogram(histogram) => self.exponential_histogram(histogram),
        }
    }

    fn gauge<T: Number>(&mut self, gauge: &Gauge<T>) {
        self.number = 5;
        for point in gauge.data_points() {
            let start = gauge.start_time().unwrap_or(SystemTime::UNIX_EPOCH);
            self.point(7, point.attributes(), start, gauge.time(), |out| point.value().put(out));
        }
    }

    fn sum<T: Number>(&mut self, sum: &Sum<T>) {
        self.number = 7;
        put_varint_field(&mut self.tail, 2, temporality(sum.temporality()));
        put_varint_field(&mut self.tail, 3, u64::from(sum.is_monotonic()));
        for point in sum.data_points() {
            self.point(7, point.attributes(), sum.start_time(), sum.time(), |out| point.value().put(out));
        }
    }

    fn histogram<T: Number>(&mut self, histogram: &Histogram<T>) {
        self.number = 9;
        put_varint_field(&mut self.tail, 2, temporality(histogram.temporality()));
        for point in histogram.data_points() {
            let times = (histogram.start_time(), histogram.time());
            self.point(9, point.attributes(), times.0, times.1, |out| put_histogram_point(out, point));
        }
    }

    fn exponential_histogram<T: Number>(&mut self, histogram: &ExponentialHistogram<T>) {
        self.number = 10;
        put_varint_field(&mut self.tail, 2, temporality(histogram.temporality()));
        for point in histogram.data_points() {
            let times = (histogram.start_time(), histogram.time());
            self.point(1, point.attributes(), times.0, times.1, |out| put_exponential_point(out, point));
        }
    }

    /// What all kinds of points have, then what `rest` writes; `attributes_number` is the field of the attributes.
    fn point<'a>(
        &mut self,
        attributes_number: u32,
        attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>,
        start: SystemTime,
        time: SystemTime,
        rest: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut out = Vec::new();
        put_attributes(&mut out, attributes_number, attributes, usize::MAX); // the specification's limits are not for metrics
        put_fixed64_field(&mut out, 2, unix_nano(start));
        put_fixed64_field(&mut out, 3, unix_nano(time));
        rest(&mut out);
        self.points.push(out);
    }

    fn push(self, mut push: impl FnMut(u16, &[u8])) {
        for points in self.points.chunks(POINTS_PER_RECORD_MAX) {
            let mut record = self.head.clone();
            put_message_field(&mut record, self.number, |out| {
                points.iter().for_each(|point| put_bytes_field(out, 1, point));
                out.extend_from_slice(&self.tail);
            });
            push(points.len() as u16, &record);
        }
    }
}

fn put_histogram_point<T: Number>(out: &mut Vec<u8>, point: &HistogramDataPoint<T>) {
    put_fixed64_field(out, 4, point.count());
    put_double(out, 5, point.sum().as_f64());
    put_message_field(out, 6, |out| point.bucket_counts().for_each(|count| out.extend(count.to_le_bytes())));
    put_message_field(out, 7, |out| point.bounds().for_each(|bound| out.extend(bound.to_le_bytes())));
    put_extremes(out, [(11, point.min()), (12, point.max())]);
}

fn put_exponential_point<T: Number>(out: &mut Vec<u8>, point: &ExponentialHistogramDataPoint<T>) {
    put_fixed64_field(out, 4, point.count() as u64);
    put_double(out, 5, point.sum().as_f64());
    put_varint_field(out, 6, zigzag(i32::from(point.scale())));
    put_fixed64_field(out, 7, point.zero_count());
    for (number, buckets) in [(8, point.positive_bucket()), (9, point.negative_bucket())] {
        put_message_field(out, number, |out| put_buckets(out, buckets));
    }
    put_extremes(out, [(12, point.min()), (13, point.max())]);
    put_double(out, 14, point.zero_threshold());
}

fn put_buckets(out: &mut Vec<u8>, buckets: &ExponentialBucket) {
    put_varint_field(out, 1, zigzag(buckets.offset()));
    put_message_field(out, 2, |out| buckets.counts().for_each(|count| put_varint(out, count)));
}

fn put_extremes<T: Number>(out: &mut Vec<u8>, extremes: [(u32, Option<T>); 2]) {
    for (number, value) in extremes {
        if let Some(value) = value {
            put_double(out, number, value.as_f64());
        }
    }
}

fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_fixed64_field(out, number, value.to_bits());
}

fn temporality(temporality: Temporality) -> u64 {
    match temporality {
        Temporality::Delta => 1,
        _ => 2, // data is one or the other
    }
}

/// The wire's form of a signed number that is often small.
fn zigzag(value: i32) -> u64 {
    u64::from((value << 1 ^ value >> 31) as u32)
}

/// A number of a data point.
trait Number: Copy {
    /// Appends it as `as_double` or `as_int`.
    fn put(self, out: &mut Vec<u8>);

    fn as_f64(self) -> f64;
}

impl Number for f64 {
    fn put(self, out: &mut Vec<u8>) {
        put_double(out, 4, self);
    }

    fn as_f64(self) -> f64 {
        self
    }
}

impl Number for i64 {
    fn put(self, out: &mut Vec<u8>) {
        put_fixed64_field(out, 6, self as u64);
    }

    fn as_f64(self) -> f64 {
        self as f64
    }
}

impl Number for u64 {
    /// OTLP's integers are signed: beyond their greatest it is that.
    fn put(self, out: &mut Vec<u8>) {
        i64::try_from(self).unwrap_or(i64::MAX).put(out);
    }

    fn as_f64(self) -> f64 {
        self as f64
    }
}
