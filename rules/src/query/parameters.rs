//! The parameters of a query as Loki's API takes them.

use std::time::Duration;

use super::QueryError;
use crate::time::{Timestamp, parse_duration};

/// Steps of a range query; a query for more is refused, as by Loki and Prometheus.
pub const QUERY_STEPS_MAX: u128 = 11_000;

/// Reads a time: RFC 3339, seconds since 1970 (to the millisecond, if there is a point), or nanoseconds since 1970 where there are
/// more than ten digits.
pub fn time(text: &str) -> Result<Timestamp, QueryError> {
    let refused = || {
        QueryError::bad_data(format!(
            "`{text}` is no time: write RFC 3339, like `2026-11-24T18:00:00Z`, or seconds or nanoseconds since 1970"
        ))
    };
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        let millis = (seconds.fract() * 1000.0).round() as i64;
        return in_nanos(seconds.trunc() as i64, 1_000_000_000)
            .and_then(|nanos| nanos.checked_add(millis * 1_000_000))
            .map(Timestamp)
            .ok_or_else(refused);
    }
    match text.parse::<i64>() {
        Ok(seconds) if text.len() <= 10 => in_nanos(seconds, 1_000_000_000).map(Timestamp).ok_or_else(refused),
        Ok(nanos) => Ok(Timestamp(nanos)),
        Err(_) => rfc3339(text).ok_or_else(refused),
    }
}

fn in_nanos(number: i64, unit: i64) -> Option<i64> {
    number.checked_mul(unit)
}

/// Reads RFC 3339, with up to nine digits of a second.
pub(super) fn rfc3339(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}

/// Reads a step: seconds, or a duration like `1m30s`.
pub fn step(text: &str) -> Result<Duration, QueryError> {
    let refused =
        || QueryError::bad_data(format!("`{text}` is no step: write seconds or a duration, like `30s` or `1m`"));
    let step = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| refused())?,
        Err(_) => parse_duration(text).map_err(|_| refused())?,
    };
    Ok(step)
}

/// The step of a query that names none: a 250th of its range of time in whole seconds, at least one.
pub fn default_step(start: Timestamp, end: Timestamp) -> Duration {
    Duration::from_secs((end.since(start).as_secs() / 250).max(1))
}

/// Whether a range query can be evaluated at these steps.
pub fn check_range(start: Timestamp, end: Timestamp, step: Duration) -> Result<(), QueryError> {
    if end < start {
        return Err(QueryError::bad_data(format!("the end, {end}, is before the start, {start}")));
    }
    if step.is_zero() {
        return Err(QueryError::bad_data("the step is zero: write a longer one"));
    }
    let steps = end.since(start).as_nanos() / step.as_nanos();
    if steps > QUERY_STEPS_MAX {
        return Err(QueryError::bad_data(format!(
            "the query has {steps} steps, more than {QUERY_STEPS_MAX}, the maximum (`QUERY_STEPS_MAX`): take a longer step or a shorter range of time"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_loki_reads_them() {
        let nanos = |text: &str| time(text).map(Timestamp::nanos).ok();
        assert_eq!(nanos("1764000000"), Some(1_764_000_000_000_000_000));
        assert_eq!(nanos("1764000000.1239"), Some(1_764_000_000_124_000_000));
        assert_eq!(nanos("17640000000"), Some(17_640_000_000), "eleven digits are nanoseconds");
        assert_eq!(nanos("1764000000000000001"), Some(1_764_000_000_000_000_001));
        assert_eq!(nanos("2025-11-24T16:00:00.000000001Z"), Some(1_764_000_000_000_000_001));
        assert_eq!(nanos("2025-11-24T17:00:00+01:00"), Some(1_764_000_000_000_000_000));
        assert_eq!(nanos("0"), Some(0));
        for text in ["", "abc", "1e9", "2025-11-24", "99999999999999999999", "NaN.", "9999999999.5"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn steps_are_seconds_or_durations() {
        assert_eq!(step("15"), Ok(Duration::from_secs(15)));
        assert_eq!(step("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(step("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(step("-1").unwrap_err().message, "`-1` is no step: write seconds or a duration, like `30s` or `1m`");
        let (start, end) = (Timestamp(0), Timestamp(3_600_000_000_000));
        assert_eq!(default_step(start, end), Duration::from_secs(14));
        assert_eq!(default_step(start, start), Duration::from_secs(1));
        assert!(check_range(start, end, Duration::from_secs(1)).is_ok());
        assert!(check_range(end, start, Duration::from_secs(1)).is_err());
        assert!(check_range(start, end, Duration::ZERO).is_err());
        assert!(check_range(start, end, Duration::from_millis(100)).unwrap_err().message.contains("36000 steps"));
    }
}
