//! Texts as numbers, read as Go reads them, with what Go says of texts that are none.

use crate::template::format::quote;

/// A number, as `strconv.ParseFloat`: `1_000.5e3`, `0x1.8p3`, `Inf`, `nan`.
pub(crate) fn float(text: &str) -> Result<f64, String> {
    let error = |reason: &str| Err(format!("strconv.ParseFloat: parsing {}: {reason}", quote(text, false)));
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit());
    let parsed = match () {
        () if is_number => unsigned_number(unsigned),
        () if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") => Some(f64::INFINITY),
        () if text.eq_ignore_ascii_case("nan") => Some(f64::NAN),
        () => None,
    };
    match parsed {
        Some(number) if number.is_infinite() && is_number => error("value out of range"),
        Some(number) => Ok(if text.starts_with('-') { -number } else { number }),
        None => error("invalid syntax"),
    }
}

fn unsigned_number(text: &str) -> Option<f64> {
    if text.contains('_') {
        return underscores_divide_digits(text).then(|| unsigned_number(&text.replace('_', "")))?;
    }
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => hex_float(hex),
        None => text.parse().ok(),
    }
}

/// Each `_` stands between digits, or behind `0x`.
fn underscores_divide_digits(number: &str) -> bool {
    let is_hex = number.starts_with("0x") || number.starts_with("0X");
    let is_digit = |c: char| c.is_ascii_digit() || is_hex && c.is_ascii_hexdigit();
    let divides = |(at, _): (usize, &str)| {
        let (before, behind) = (&number[..at], &number[at + 1..]);
        (before.ends_with(is_digit) || is_hex && at == 2) && behind.starts_with(is_digit)
    };
    number.match_indices('_').all(divides)
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

/// `1.8p3` of `0x1.8p3`; the exponent must be there. Rounded to the nearest number, half to even.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut exponent = hex_exponent(exponent)? - 4 * i64::try_from(fraction.len()).ok()?;
    let mut bits: u64 = 0;
    for digit in whole.chars().chain(fraction.chars()) {
        let digit = u64::from(digit.to_digit(16)?);
        if bits >> 60 == 0 {
            bits = (bits << 4) | digit;
        } else {
            // Beyond what is kept it matters only whether something is there.
            bits |= u64::from(digit != 0);
            exponent += 4;
        }
    }
    Some(scaled(bits, exponent))
}

/// A decimal exponent, cut where Go cuts it.
fn hex_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude =
        digits.bytes().fold(0, |sum, digit| if sum < 10_000 { sum * 10 + i64::from(digit - b'0') } else { sum });
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}

/// `bits` times two to the `exponent`, rounded once.
fn scaled(bits: u64, exponent: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let top = 63 - i64::from(bits.leading_zeros()) + exponent;
    if top > 1023 {
        return f64::INFINITY;
    }
    let last = (top - 52).max(-1074);
    let dropped = last - exponent;
    let kept = match u32::try_from(dropped) {
        Ok(0) => bits,
        Ok(1..=64) => {
            let (kept, rest) = ((u128::from(bits) >> dropped) as u64, u128::from(bits) & ((1 << dropped) - 1));
            let half = 1u128 << (dropped - 1);
            kept + u64::from(rest > half || rest == half && kept % 2 == 1)
        }
        Ok(_) => 0,
        Err(_) => bits << -dropped,
    };
    // The 53rd bit of a normal number adds one to its exponent.
    f64::from_bits((((last + 1074) as u64) << 52) + kept)
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
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let whole = digits(rest);
        let len = rest[whole..].strip_prefix('.').map_or(whole, |fraction| whole + 1 + digits(fraction));
        let (number, behind) = rest.split_at(len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || number == "." {
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

/// As `time` quotes a text, byte by byte where it is not ASCII.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'\x7f' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for line in include_str!("../../testdata/convert_go/floats.txt").lines() {
            let (text, expected) = line.split_once('\t').unwrap();
            let read = float(text).map_or_else(
                |error| error,
                |number| match number.is_nan() {
                    true => "NaN".to_owned(),
                    false => format!("{:016x}", number.to_bits()),
                },
            );
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in
            [("1.5s", 1_500_000_000), ("-2m", -120_000_000_000), ("0", 0), ("1h1ms", 3_600_001_000_000)]
        {
            assert_eq!(duration(text), Ok(nanos), "{text}");
        }
        assert_eq!(duration("x").unwrap_err(), r#"time: invalid duration "x""#);
        assert_eq!(duration("1.2.3s").unwrap_err(), r#"time: missing unit in duration "1.2.3s""#);
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
