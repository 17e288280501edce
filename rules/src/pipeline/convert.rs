//! Texts as numbers, read as Go reads them, with what Go says of texts that are none.

use std::borrow::Cow;

/// A number, as `strconv.ParseFloat`.
pub(crate) fn float(text: &str) -> Result<f64, String> {
    let error = |reason: &str| Err(format!("strconv.ParseFloat: parsing {}: {reason}", quoted(text)));
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_hex = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let parsed = if is_hex { hex_float(unsigned) } else { unsigned.parse::<f64>().ok() };
    match parsed {
        Some(_) if unsigned.starts_with(['+', '-']) => error("invalid syntax"),
        Some(number) if number.is_infinite() && unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit()) => {
            error("value out of range")
        }
        Some(number) => Ok(if text.starts_with('-') { -number } else { number }),
        None => error("invalid syntax"),
    }
}

/// What a value looks like, as Loki calls it: `int`, `float`, `boolean`, `duration`, `bytes` or `string`.
pub fn kind(text: &str) -> &'static str {
    if text.parse::<i64>().is_ok() {
        "int"
    } else if float(text).is_ok() {
        "float"
    } else if matches!(text, "true" | "false") {
        "boolean"
    } else if duration(text).is_ok() {
        "duration"
    } else if bytes(text).is_ok() {
        "bytes"
    } else {
        "string"
    }
}

/// `0x1.8p3`; the exponent must be there.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text[2..].split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let digits = u64::from_str_radix(&digits, 16).ok()?;
    Some(digits as f64 * f64::powi(2.0, exponent.saturating_sub(4 * fraction.len() as i32)))
}

/// A duration in nanoseconds, as `time.ParseDuration`.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let len = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || number == "." || fraction.contains('.') {
            return Err(invalid());
        }
        let len = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(len);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted(text)));
        }
        let Some((_, nanos)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text)));
        };
        let whole = if whole.is_empty() { Some(0) } else { whole.parse::<u64>().ok() };
        // Go adds the fraction as a float, digits that have no place in 64 bits left out.
        let fraction = &fraction[..fraction.len().min(18)];
        let part = fraction
            .parse::<u64>()
            .map_or(0.0, |digits| digits as f64 * (*nanos as f64 / f64::powi(10.0, fraction.len() as i32)));
        total = whole
            .and_then(|whole| whole.checked_mul(*nanos)?.checked_add(part as u64)?.checked_add(total))
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = behind;
    }
    if text.starts_with('-') {
        return Ok((total as i64).wrapping_neg());
    }
    i64::try_from(total).map_err(|_| invalid())
}

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds as Go's `Duration.Seconds` has them.
pub(crate) fn seconds(nanos: i64) -> f64 {
    (nanos / 1_000_000_000) as f64 + (nanos % 1_000_000_000) as f64 / 1e9
}

/// A size, as `humanize.ParseBytes`: `1.5 MB`, `10KiB`, `42`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | ',')).unwrap_or(text.len());
    let number = float(&text[..end].replace(',', ""))?;
    let unit = text[end..].trim().to_lowercase();
    let factor = unit_bytes(&unit).ok_or_else(|| format!("unhandled size name: {unit}"))?;
    let bytes = number * factor;
    if bytes >= u64::MAX as f64 { Err(format!("too large: {text}")) } else { Ok(bytes as u64) }
}

fn unit_bytes(unit: &str) -> Option<f64> {
    if matches!(unit, "" | "b") {
        return Some(1.0);
    }
    let prefix = unit.strip_suffix('b').unwrap_or(unit);
    let (base, prefix) = match prefix.strip_suffix('i') {
        Some(prefix) => (1024.0, prefix),
        None => (1000.0, prefix),
    };
    let power = ["k", "m", "g", "t", "p", "e"].iter().position(|known| *known == prefix)?;
    Some(f64::powi(base, power as i32 + 1))
}

/// The text as `strconv.Quote` writes it, as far as it is plain.
fn quoted(text: &str) -> Cow<'static, str> {
    format!("{text:?}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [("1", 1.0), ("-.5e1", -5.0), ("+2", 2.0), ("inf", f64::INFINITY), ("0x1.8p3", 12.0)] {
            assert_eq!(float(text), Ok(number), "{text}");
        }
        assert_eq!(float("x").unwrap_err(), r#"strconv.ParseFloat: parsing "x": invalid syntax"#);
        assert_eq!(float("1e999").unwrap_err(), r#"strconv.ParseFloat: parsing "1e999": value out of range"#);
        assert!(float("").is_err() && float("--1").is_err() && float("1 ").is_err() && float("0x1").is_err());
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in
            [("1.5s", 1_500_000_000), ("-2m", -120_000_000_000), ("0", 0), ("1h1ms", 3_600_001_000_000)]
        {
            assert_eq!(duration(text), Ok(nanos), "{text}");
        }
        assert_eq!(duration("x").unwrap_err(), r#"time: invalid duration "x""#);
        assert_eq!(duration("5").unwrap_err(), r#"time: missing unit in duration "5""#);
        assert_eq!(duration("5d").unwrap_err(), r#"time: unknown unit "d" in duration "5d""#);
        assert!(duration("").is_err() && duration("300000h1").is_err() && duration("99999999h").is_err());
    }

    #[test]
    fn sizes_are_read_as_humanize_reads_them() {
        for (text, size) in [
            ("42", 42),
            ("1KB", 1000),
            ("1.5 MB", 1_500_000),
            ("10KiB", 10_240),
            ("2k", 2000),
            ("1,000 B", 1000),
            ("1Ki", 1024),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        assert_eq!(bytes("").unwrap_err(), r#"strconv.ParseFloat: parsing "": invalid syntax"#);
        assert_eq!(bytes("1zb").unwrap_err(), "unhandled size name: zb");
        assert_eq!(bytes("20EB").unwrap_err(), "too large: 20EB");
        assert!(bytes("1i").is_err() && bytes("1ib").is_err());
    }
}
