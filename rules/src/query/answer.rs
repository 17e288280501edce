//! What a query yields, and how Loki's API writes it.

use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::labels::Labels;
use crate::time::Timestamp;

/// A query's result.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of a log query.
    Streams(Vec<Stream>),
    /// Of an instant query for a number.
    Scalar(Point),
    /// Of another instant query: each series has one point.
    Vector(Vec<Series>),
    /// Of a range query.
    Matrix(Vec<Series>),
}

/// Records with the same labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// All their labels: of the index, of structured metadata, and those that were extracted.
    pub labels: Labels,
    /// Its records.
    pub entries: Vec<Entry>,
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When it happened.
    pub time: Timestamp,
    /// Its line, as the stages left it.
    pub line: String,
    /// The labels that are not the stream's, where they were asked for apart from those.
    pub categories: Option<Categories>,
}

/// Labels of a record that are not of the index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Categories {
    /// Structured metadata.
    pub metadata: Labels,
    /// What the stages extracted or changed.
    pub parsed: Labels,
}

/// Points with the same labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Their labels.
    pub labels: Labels,
    /// In the order of time.
    pub points: Vec<Point>,
}

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Milliseconds since 1970.
    pub millis: i64,
    /// The value.
    pub value: f64,
}

impl Answer {
    /// `streams`, `scalar`, `vector` or `matrix`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Streams(_) => "streams",
            Self::Scalar(_) => "scalar",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }

    /// The `data` of Loki's answer, without statistics.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an answer has string keys alone")
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut data = serializer.serialize_struct("Answer", 2)?;
        data.serialize_field("resultType", self.type_name())?;
        match self {
            Self::Streams(streams) => data.serialize_field("result", streams)?,
            // Of a scalar Loki writes the time in milliseconds.
            Self::Scalar(point) => data.serialize_field("result", &(point.millis, value_text(point.value)))?,
            Self::Vector(series) => data.serialize_field("result", &series.iter().map(Single).collect::<Vec<_>>())?,
            Self::Matrix(series) => data.serialize_field("result", series)?,
        }
        data.end()
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut stream = serializer.serialize_struct("Stream", 2)?;
        stream.serialize_field("stream", &Names(&self.labels))?;
        stream.serialize_field("values", &self.entries)?;
        stream.end()
    }
}

/// `["1764000005000000000","line"]`, with `{"structuredMetadata":{...},"parsed":{...}}` behind it where labels are told apart.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_seq(None)?;
        entry.serialize_element(&self.time.nanos().to_string())?;
        entry.serialize_element(&self.line)?;
        if let Some(categories) = &self.categories {
            entry.serialize_element(categories)?;
        }
        entry.end()
    }
}

impl Serialize for Categories {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, labels) in [("structuredMetadata", &self.metadata), ("parsed", &self.parsed)] {
            if !labels.is_empty() {
                map.serialize_entry(name, &Names(labels))?;
            }
        }
        map.end()
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut series = serializer.serialize_struct("Series", 2)?;
        series.serialize_field("metric", &Names(&self.labels))?;
        series.serialize_field("values", &self.points)?;
        series.end()
    }
}

/// A series of an instant query.
struct Single<'a>(&'a Series);

impl Serialize for Single<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut series = serializer.serialize_struct("Series", 2)?;
        series.serialize_field("metric", &Names(&self.0.labels))?;
        series.serialize_field("value", &self.0.points[0])?;
        series.end()
    }
}

/// A set of labels as an object.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(pub &'a Labels);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// `[1764000005.5,"1"]`: seconds as a number, the value as text.
impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_seq(Some(2))?;
        match self.millis % 1000 {
            0 => pair.serialize_element(&(self.millis / 1000))?,
            _ => pair.serialize_element(&(self.millis as f64 / 1000.0))?,
        }
        pair.serialize_element(&value_text(self.value))?;
        pair.end()
    }
}

/// A value as Loki and Prometheus write it: the shortest decimal number that is read as the same, without an exponent.
pub fn value_text(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => even(value, value.to_string()),
    }
}

/// Of two shortest numbers that are as near Go writes the even one, Rust the larger.
fn even(value: f64, text: String) -> String {
    let (Some(b'1' | b'3' | b'5' | b'7' | b'9'), Some((_, fraction))) = (text.bytes().last(), text.split_once('.'))
    else {
        return text;
    };
    // As many digits as a double has where one more would be exact.
    if text.len() < 16 {
        return text;
    }
    let (kept, last) = text.split_at(text.len() - 1);
    let lower = format!("{kept}{}", char::from(last.as_bytes()[0] - 1));
    let exact = format!("{value:.*}", fraction.len() + 60);
    if exact.trim_end_matches('0') == format!("{lower}5") { lower } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_values_are_written_as_by_loki() {
        let times = [0, 5, 1_764_000_005_500, 1_764_000_005_010, 1_764_000_000_000, -1500];
        let times = times.map(|millis| serde_json::to_string(&Point { millis, value: 1.0 }).unwrap());
        let expected = ["0", "0.005", "1764000005.5", "1764000005.01", "1764000000", "-1.5"];
        assert_eq!(times, expected.map(|time| format!("[{time},\"1\"]")));
        let values = [1e30, 1e-7, 0.1 + 0.2, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(value_text);
        let expected =
            ["1000000000000000000000000000000", "0.0000001", "0.30000000000000004", "-0", "NaN", "+Inf", "-Inf"];
        assert_eq!(values, expected);
        let halves =
            [712.25, 712.75, 713.25, -712.25].map(|half| value_text(half + f64::copysign(659_981_417_840_000.0, half)));
        let expected = ["659981417840712.2", "659981417840712.8", "659981417840713.2", "-659981417840712.2"];
        assert_eq!(halves, expected);
    }
}
