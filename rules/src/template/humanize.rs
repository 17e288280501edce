//! Prometheus's `humanize*` functions.

use super::format::{float_text, general};
use super::time_format;
use crate::time::Timestamp;

/// `1.235M`, `12.3m`: four digits and a metric prefix.
pub(super) fn decimal(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return four_digits(number);
    }
    if number.abs() >= 1.0 {
        return scaled(number, 1000.0, &["", "k", "M", "G", "T", "P", "E", "Z", "Y"]);
    }
    small(number)
}

/// `1.5Mi`: four digits and a binary prefix.
pub(super) fn binary(number: f64) -> String {
    if number.abs() <= 1.0 || !number.is_finite() {
        return four_digits(number);
    }
    scaled(number, 1024.0, &["", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"])
}

/// Seconds as `1h 2m 3s`, `12.5s`, `3ms`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return four_digits(seconds);
    }
    if seconds == 0.0 || seconds.abs() < 1.0 {
        return small(seconds) + "s";
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let (magnitude, whole) = (seconds.abs(), seconds.abs() as i64);
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(magnitude)),
        (0, 0, _) => format!("{sign}{minutes}m {rest}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {rest}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {rest}s"),
    }
}

/// `12.5%` of 0.125.
pub(super) fn percentage(ratio: f64) -> String {
    four_digits(ratio * 100.0) + "%"
}

/// Seconds since 1970 as Go prints a time, to the millisecond.
pub(super) fn timestamp(seconds: f64) -> Result<String, String> {
    if !seconds.is_finite() {
        return Ok(four_digits(seconds));
    }
    let time = time(seconds)?;
    let millis = Timestamp(time.millis().saturating_mul(1_000_000));
    Ok(time_format::display(Some(millis), &jiff::tz::TimeZone::UTC))
}

/// Seconds since 1970 as a time.
pub(super) fn time(seconds: f64) -> Result<Timestamp, String> {
    nanos(seconds).map(Timestamp)
}

/// Seconds in nanoseconds.
pub(super) fn nanos(seconds: f64) -> Result<i64, String> {
    let nanos = seconds * 1e9;
    // As a float, the greatest 64-bit number is rounded up to one that no longer fits.
    if nanos >= i64::MAX as f64 || nanos < i64::MIN as f64 || nanos.is_nan() {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            float_text(seconds)
        ));
    }
    Ok(nanos as i64)
}

fn scaled(mut number: f64, base: f64, prefixes: &[&str]) -> String {
    let mut prefix = 0;
    while number.abs() >= base && prefix + 1 < prefixes.len() {
        number /= base;
        prefix += 1;
    }
    four_digits(number) + prefixes[prefix]
}

fn small(mut number: f64) -> String {
    let prefixes = ["", "m", "u", "n", "p", "f", "a", "z", "y"];
    let mut prefix = 0;
    while number != 0.0 && number.abs() < 1.0 && prefix + 1 < prefixes.len() {
        number *= 1000.0;
        prefix += 1;
    }
    four_digits(number) + prefixes[prefix]
}

fn four_digits(number: f64) -> String {
    general(number, Some(4))
}
