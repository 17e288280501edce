//! Points in time, as the log's frames and OTLP carry them.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The earliest time that can be said.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time that can be said.
    pub const MAX: Self = Self(i64::MAX);

    /// Nanoseconds since 1970.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since 1970 with their fraction, as Prometheus writes a time.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// When something was received, by the log's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// By how much the log's clock, which never goes back, was ahead of the wall clock, which had been set back. Stamps go by the wall
    /// clock, and are as much behind.
    pub ahead: Duration,
}

impl From<Timestamp> for Received {
    fn from(at: Timestamp) -> Self {
        Self { at, ahead: Duration::ZERO }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// RFC 3339 in UTC, with as many digits as the fraction needs.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Reads a duration as Prometheus and Go write it: `30s`, `1h30m`, `1d`, `1.5h`, `250µs`, `0`; a day is 24 h, a week 7 d,
/// a year 365 d. Units stand from the longest to the shortest, each once. At most 292 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    let mut units_left = &UNITS[..];
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    while !rest.is_empty() {
        let (number, unit, behind) = split_part(rest).ok_or_else(|| DurationError::Malformed(text.into()))?;
        if unit.is_empty() {
            return Err(DurationError::NoUnit { text: text.into(), number: number.into() });
        }
        let at = find_unit(unit).ok_or_else(|| DurationError::UnknownUnit { text: text.into(), unit: unit.into() })?;
        let skipped = UNITS.len() - units_left.len();
        if at < skipped {
            return Err(DurationError::Order(text.into()));
        }
        units_left = &UNITS[at + 1..];
        total = scaled(number, UNITS[at].1)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= i64::MAX as u128)
            .ok_or_else(|| DurationError::TooLong(text.into()))?;
        rest = behind;
    }
    Ok(Duration::from_nanos(total as u64))
}

/// Whether Prometheus, and Loki's ruler, read it as a duration: whole units down to `ms`.
pub(crate) fn is_prometheus_duration(text: &str) -> bool {
    let has_finer = ["us", "\u{b5}s", "\u{3bc}s", "ns", "."].iter().any(|part| text.contains(part));
    parse_duration(text).is_ok() && !has_finer
}

/// Writes a duration so that [`parse_duration`] reads it again, as Prometheus does: `1h30m`, `90d` is `90d`, `1w` is `1w`;
/// years and weeks only where nothing would be left over.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, nanos) in UNITS {
        let whole_only = matches!(unit, "y" | "w");
        if rest < nanos || whole_only && !rest.is_multiple_of(nanos) {
            continue;
        }
        text.push_str(&format!("{}{unit}", rest / nanos));
        rest %= nanos;
    }
    text
}

/// For `#[serde(deserialize_with = "...")]`: a duration spelt as for [`parse_duration`].
pub fn deserialize_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

/// For `#[serde(serialize_with = "...")]`: the inverse of [`deserialize_duration`].
pub fn serialize_duration<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

/// Like [`deserialize_duration`], for a field that may be absent (give it `#[serde(default)]` too).
pub fn deserialize_duration_option<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text)).transpose().map_err(serde::de::Error::custom)
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// Nothing stands there.
    Empty,
    /// A number without a unit.
    NoUnit {
        /// The whole.
        text: String,
        /// The number.
        number: String,
    },
    /// A unit that is none.
    UnknownUnit {
        /// The whole.
        text: String,
        /// The unit.
        unit: String,
    },
    /// A unit stands twice, or behind a shorter one.
    Order(String),
    /// Longer than 292 years.
    TooLong(String),
    /// Something else.
    Malformed(String),
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a duration is missing: write one like `30s` or `1h30m`"),
            Self::NoUnit { text, number } => {
                write!(f, "`{text}` has no unit behind `{number}`: write `{number}s`, say")
            }
            Self::UnknownUnit { text, unit } => {
                write!(f, "`{text}` has an unknown unit `{unit}`: write one of `y w d h m s ms us ns`")
            }
            Self::Order(text) => {
                write!(f, "the units of `{text}` are not in order: write them like `1h30m`, longest first")
            }
            Self::TooLong(text) => write!(f, "`{text}` is longer than 292 years"),
            Self::Malformed(text) if text.starts_with("$__") => {
                write!(f, "`{text}` is filled in by Grafana's panels; a rule says itself how far it looks back: `5m`")
            }
            Self::Malformed(text) => write!(f, "`{text}` is not a duration: write one like `30s` or `1h30m`"),
        }
    }
}

impl std::error::Error for DurationError {}

/// Splits `1.5h30m` into `1.5`, `h` and `30m`.
fn split_part(text: &str) -> Option<(&str, &str, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, behind) = rest.split_at(unit_end);
    let is_number = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() <= 1;
    is_number.then_some((number, unit, behind))
}

/// Index in [`UNITS`].
fn find_unit(unit: &str) -> Option<usize> {
    let ascii = match unit {
        "\u{b5}s" | "\u{3bc}s" => "us",
        other => other,
    };
    UNITS.iter().position(|(name, _)| *name == ascii)
}

/// `number` times `unit`, rounded down; `None` where it is too large.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = digits(fraction)? * unit / 10u128.pow(fraction.len() as u32);
    digits(whole)?.checked_mul(unit)?.checked_add(part)
}

const UNITS: [(&str, u128); 9] = [
    ("y", 365 * 86_400_000_000_000),
    ("w", 7 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_durations_as_prometheus_and_go_write_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("5m", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1d", 86_400_000_000_000),
            ("1w", 604_800_000_000_000),
            ("1y", 31_536_000_000_000_000),
            ("100ms", 100_000_000),
            ("1s500ms", 1_500_000_000),
            ("2\u{b5}s3ns", 2_003),
            ("2\u{3bc}s", 2_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text| parse_duration(text).unwrap_err().to_string();
        assert_eq!(error(""), "a duration is missing: write one like `30s` or `1h30m`");
        assert_eq!(error("5"), "`5` has no unit behind `5`: write `5s`, say");
        assert_eq!(error("5min"), "`5min` has an unknown unit `min`: write one of `y w d h m s ms us ns`");
        assert_eq!(error("30m1h"), "the units of `30m1h` are not in order: write them like `1h30m`, longest first");
        assert_eq!(error("1m1m"), "the units of `1m1m` are not in order: write them like `1h30m`, longest first");
        assert_eq!(error("300y"), "`300y` is longer than 292 years");
        for text in ["-5m", "m", " 5m", "1..5h", ".h", "99999999999999999999999999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_durations_as_prometheus_does() {
        let written = |text| format_duration(parse_duration(text).unwrap());
        assert_eq!(written("0"), "0s");
        assert_eq!(written("90m"), "1h30m");
        assert_eq!(written("7d"), "1w");
        assert_eq!(written("8d"), "8d");
        assert_eq!(written("365d"), "1y");
        assert_eq!(written("1.5s"), "1s500ms");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
